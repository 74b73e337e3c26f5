/** Closed loops against a peer: so many requests under way, each answer starts the next. */

import { assert, Prng, physAddr } from "../../src/core/index.ts";
import { cpuMemory } from "../../src/memory/index.ts";
import {
  type CommandOwner,
  HostCommand,
  type HostQueue,
  NvmfHost,
  SubmitStatus,
  TcpHostTransport,
} from "../../src/nvmet/index.ts";
import {
  type ByteStream,
  type Clock,
  PollLoop,
  realNetwork,
  type StreamAddress,
  type StreamEvents,
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
}

const LBA_BYTES = 512;

/** Random reads; remembers how long each took. */
class Reads implements CommandOwner {
  /** Nanoseconds from submission to completion, of the run at hand. */
  latencies = new Float64Array(0);
  private readonly queue: HostQueue;
  private readonly clock: Clock;
  private readonly shape: Shape;
  private readonly commands: HostCommand[] = [];
  private readonly starts = new Map<HostCommand, number>();
  private readonly prng = new Prng(1);
  private toSubmit = 0;
  private left = 0;
  private finish: () => void = () => undefined;

  constructor(
    queue: HostQueue,
    clock: Clock,
    shape: Shape,
    fill: (command: HostCommand, i: number) => void,
  ) {
    this.queue = queue;
    this.clock = clock;
    this.shape = shape;
    for (let i = 0; i < shape.depth; i++) {
      const command = new HostCommand(this);
      command.opcode = NvmOpcode.read;
      command.nsid = 1;
      fill(command, i);
      this.commands.push(command);
    }
  }

  run(count: number): Promise<void> {
    return new Promise((resolve) => {
      this.finish = resolve;
      this.toSubmit = count;
      this.left = count;
      this.latencies = new Float64Array(count);
      for (const command of this.commands) this.submit(command);
      this.queue.kick();
    });
  }

  private submit(command: HostCommand): void {
    const { ioBytes, namespaceBytes } = this.shape;
    this.toSubmit--;
    const lba = this.prng.below(namespaceBytes / ioBytes) * (ioBytes / LBA_BYTES);
    command.setRange(lba, ioBytes / LBA_BYTES, false);
    this.starts.set(command, this.clock.nowNs());
    assert(this.queue.submit(command) === SubmitStatus.ok, "a load has room for its commands");
  }

  commandDone(command: HostCommand): void {
    assert(command.status === 0, "a command of the load succeeds");
    this.latencies[--this.left] = this.clock.nowNs() - (this.starts.get(command) ?? 0);
    if (this.toSubmit > 0) this.submit(command);
    else if (this.left === 0) this.finish();
  }
}

export interface ReadLoad extends Load {
  /** Latency below which so many of a hundred of the last run were, nanoseconds. */
  percentileNs(percent: number): number;
}

/** Our host, connected to a target. */
export async function openReads(
  clock: Clock,
  { address, port }: StreamAddress,
  nqn: string,
  shape: Shape,
): Promise<ReadLoad> {
  const transport = new TcpHostTransport({
    network: realNetwork,
    address,
    port,
    wake: () => loop.wake(),
  });
  const host = new NvmfHost({
    transport,
    hostNqn: "nqn.2026-11.bench.peerlane:host",
    subsystemNqn: nqn,
    depth: 2 * shape.depth,
    disableSqFlowControl: true,
    nowNs: () => clock.nowNs(),
  });
  const onError = (error: unknown): void => {
    throw error;
  };
  const loop: PollLoop = new PollLoop({ poll: () => host.poll(), onError });
  loop.start();
  await host.connect();
  const bytes = new Uint8Array(shape.depth * shape.ioBytes);
  const buffer = await host.register(cpuMemory({ phys: physAddr(0), bytes }), 0, bytes.length);
  const reads = new Reads(host.queues[0], clock, shape, (command, i) =>
    command.setData(buffer, i * shape.ioBytes, shape.ioBytes),
  );
  return {
    run: (count) => reads.run(count),
    percentileNs(percent) {
      const sorted = reads.latencies.slice().sort();
      return sorted[Math.min(sorted.length - 1, Math.floor((sorted.length * percent) / 100))] ?? 0;
    },
    async close() {
      await host.disconnect();
      loop.stop();
    },
  };
}

/** The echo's client: sends requests of no meaning and counts what comes back. */
class Echo implements StreamEvents {
  private readonly stream: ByteStream;
  private readonly requests: Uint8Array;
  private readonly requestBytes: number;
  private readonly answerBytes: number;
  private readonly depth: number;
  private got = 0;
  private toSend = 0;
  private left = 0;
  private finish: () => void = () => undefined;

  constructor(stream: ByteStream, requestBytes: number, answerBytes: number, depth: number) {
    this.stream = stream;
    this.requestBytes = requestBytes;
    this.answerBytes = answerBytes;
    this.depth = depth;
    this.requests = new Uint8Array(requestBytes * depth * 2);
  }

  run(count: number): Promise<void> {
    return new Promise((resolve) => {
      this.finish = resolve;
      this.toSend = count;
      this.left = count;
      this.send(this.depth);
    });
  }

  private send(wanted: number): void {
    const count = Math.min(wanted, this.toSend);
    this.toSend -= count;
    if (count > 0) this.stream.write(this.requests.subarray(0, count * this.requestBytes));
  }

  onData(bytes: Uint8Array): void {
    this.got += bytes.length;
    const count = Math.floor(this.got / this.answerBytes);
    this.got -= count * this.answerBytes;
    this.left -= count;
    this.send(count);
    if (this.left === 0) this.finish();
  }

  onDrain(): void {
    // It never has more than the depth under way.
  }

  onEnd(): void {
    // The server left.
  }
}

export async function openEcho(
  at: StreamAddress,
  requestBytes: number,
  answerBytes: number,
  depth: number,
): Promise<Load> {
  const stream = await realNetwork.connect(at);
  const echo = new Echo(stream, requestBytes, answerBytes, depth);
  stream.start(echo);
  return {
    run: (count) => echo.run(count),
    close() {
      stream.destroy();
      return Promise.resolve();
    },
  };
}
