/** Closed loops against a peer: so many requests under way, each answer starts the next. */

import { assert, Prng, physAddr } from "../../src/core/index.ts";
import { cpuMemory } from "../../src/memory/index.ts";
import {
  type CommandOwner,
  type HostBuffer,
  HostCommand,
  type HostQueue,
  NvmfHost,
  SubmitStatus,
  TcpHostTransport,
} from "../../src/nvmet/index.ts";
import {
  type Clock,
  PollLoop,
  realNetwork,
  type StreamAddress,
  type TlsClient,
} from "../../src/platform/index.ts";
import { NvmOpcode } from "../../src/spec/nvme/index.ts";

export interface Load {
  /** Runs so many I/Os; resolves when the last is done. */
  run(count: number): Promise<void>;
  close(): Promise<void>;
}

export interface Shape {
  readonly depth: number;
  readonly ioBytes: number;
  readonly namespaceBytes: number;
  readonly isWrite?: boolean;
  /** Of a namespace that nobody writes: served from one page of zeros. Default: written before. */
  readonly isUnwritten?: boolean;
  /** Header and data digests. */
  readonly digests?: boolean;
  readonly tls?: TlsClient;
}

export const HOST_NQN = "nqn.2026-11.bench.peerlane:host";
/** In-capsule data of an I/O queue, as the target offers it: larger writes wait for an R2T. */
export const IN_CAPSULE_BYTES = 8192;
const LBA_BYTES = 512;
const UNWRITTEN_NSID = 2;
/** Bytes of one command that fills the namespace. */
const FILL_BYTES = 128 * 1024;

/** Commands in a closed loop; remembers how long each took. */
class Commands implements CommandOwner {
  /** Nanoseconds from submission to completion, of the run at hand. */
  latencies = new Float64Array(0);
  private readonly queue: HostQueue;
  private readonly clock: Clock;
  private readonly commands: HostCommand[] = [];
  private readonly nextLba: () => number;
  private readonly blocks: number;
  private readonly starts: Float64Array;
  private toSubmit = 0;
  private left = 0;
  private finish: () => void = () => undefined;

  constructor(
    queue: HostQueue,
    clock: Clock,
    shape: Pick<Shape, "depth" | "ioBytes" | "isWrite" | "isUnwritten">,
    buffer: HostBuffer,
    nextLba: () => number,
  ) {
    const { depth, ioBytes, isWrite = false, isUnwritten = false } = shape;
    this.queue = queue;
    this.clock = clock;
    this.nextLba = nextLba;
    this.blocks = ioBytes / LBA_BYTES;
    this.starts = new Float64Array(depth);
    for (let i = 0; i < depth; i++) {
      const command = new HostCommand(this);
      command.opcode = isWrite ? NvmOpcode.write : NvmOpcode.read;
      command.nsid = isUnwritten ? UNWRITTEN_NSID : 1;
      command.tag = i;
      command.setData(buffer, i * ioBytes, ioBytes);
      this.commands.push(command);
    }
  }

  run(count: number): Promise<void> {
    return new Promise((resolve) => {
      this.finish = resolve;
      this.toSubmit = count;
      this.left = count;
      this.latencies = new Float64Array(count);
      for (const command of this.commands) if (this.toSubmit > 0) this.submit(command);
      this.queue.kick();
    });
  }

  private submit(command: HostCommand): void {
    this.toSubmit--;
    command.setRange(this.nextLba(), this.blocks, false);
    this.starts[command.tag] = this.clock.nowNs();
    assert(this.queue.submit(command) === SubmitStatus.ok, "a load has room for its commands");
  }

  commandDone(command: HostCommand): void {
    assert(command.status === 0, "a command of the load succeeds");
    this.latencies[--this.left] = this.clock.nowNs() - (this.starts[command.tag] ?? 0);
    if (this.toSubmit > 0) this.submit(command);
    else if (this.left === 0) this.finish();
  }
}

export interface IoLoad extends Load {
  /** Latency below which so many of a hundred of the last run were, nanoseconds. */
  percentileNs(percent: number): number;
}

/** Our host, connected to a target, one of whose namespaces it has written, all of it. */
export async function openIo(
  clock: Clock,
  at: StreamAddress,
  nqn: string,
  shape: Shape,
): Promise<IoLoad> {
  const { depth, ioBytes, namespaceBytes, digests = false, tls } = shape;
  const transport = new TcpHostTransport({
    network: realNetwork,
    ...at,
    headerDigest: digests,
    dataDigest: digests,
    ...(tls === undefined ? {} : { tls }),
    wake: () => loop.wake(),
  });
  const host = new NvmfHost({
    transport,
    hostNqn: HOST_NQN,
    subsystemNqn: nqn,
    depth: 2 * depth,
    inCapsuleBytes: IN_CAPSULE_BYTES,
    disableSqFlowControl: true,
    nowNs: () => clock.nowNs(),
  });
  const onError = (error: unknown): void => {
    throw error;
  };
  const loop: PollLoop = new PollLoop({ poll: () => host.poll(), onError });
  loop.start();
  await host.connect();
  const prng = new Prng(1);
  const bytes = new Uint8Array(depth * Math.max(ioBytes, FILL_BYTES));
  prng.fill(bytes);
  const buffer = await host.register(cpuMemory({ phys: physAddr(0), bytes }), 0, bytes.length);
  const [queue] = host.queues;
  assert(queue !== undefined, "a host that is connected has an I/O queue");
  let filled = 0;
  const fill = { depth, ioBytes: FILL_BYTES, isWrite: true };
  await new Commands(queue, clock, fill, buffer, () => {
    filled += FILL_BYTES;
    return (filled - FILL_BYTES) / LBA_BYTES;
  }).run(namespaceBytes / FILL_BYTES);
  const places = namespaceBytes / ioBytes;
  const commands = new Commands(
    queue,
    clock,
    shape,
    buffer,
    () => prng.below(places) * (ioBytes / LBA_BYTES),
  );
  return {
    run: (count) => commands.run(count),
    percentileNs(percent) {
      const sorted = commands.latencies.slice().sort();
      return sorted[Math.min(sorted.length - 1, Math.floor((sorted.length * percent) / 100))] ?? 0;
    },
    async close() {
      await host.disconnect();
      loop.stop();
    },
  };
}

/** The echo's client: sends requests of no meaning and counts what comes back. */
class Echo {
  private readonly write: (bytes: Uint8Array) => void;
  private readonly requests: Uint8Array;
  private readonly sizes: EchoSizes;
  private got = 0;
  private toSend = 0;
  private left = 0;
  private finish: () => void = () => undefined;

  constructor(write: (bytes: Uint8Array) => void, sizes: EchoSizes) {
    this.write = write;
    this.sizes = sizes;
    this.requests = new Uint8Array(sizes.requestBytes * sizes.depth * 2);
  }

  run(count: number): Promise<void> {
    return new Promise((resolve) => {
      this.finish = resolve;
      this.toSend = count;
      this.left = count;
      this.send(this.sizes.depth);
    });
  }

  private send(wanted: number): void {
    const count = Math.min(wanted, this.toSend);
    this.toSend -= count;
    if (count > 0) this.write(this.requests.subarray(0, count * this.sizes.requestBytes));
  }

  take(bytes: number): void {
    const { answerBytes } = this.sizes;
    this.got += bytes;
    const count = Math.floor(this.got / answerBytes);
    this.got -= count * answerBytes;
    this.left -= count;
    this.send(count);
    if (this.left === 0) this.finish();
  }
}

export interface EchoSizes {
  readonly requestBytes: number;
  readonly answerBytes: number;
  readonly depth: number;
}

/**
 * Over a stream of our own, which reads into one buffer. A plain `data` event allocates what it
 * reads, 64 KiB at a time: where new memory is dear, it spends its time on that alone.
 */
export async function openEcho(at: StreamAddress, sizes: EchoSizes): Promise<Load> {
  const stream = await realNetwork.connect(at);
  const echo = new Echo((bytes) => void stream.write(bytes), sizes);
  const none = (): void => undefined;
  stream.start({ onData: (bytes) => echo.take(bytes.length), onDrain: none, onEnd: none });
  return {
    run: (count) => echo.run(count),
    async close() {
      stream.destroy();
    },
  };
}
