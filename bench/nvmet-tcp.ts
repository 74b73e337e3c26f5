/**
 * NVMe/TCP over real loopback sockets: 4 KiB random reads at depth 32, one connection, host, target,
 * SSD driver and SSD model on this one thread; against a bare TCP echo between two sockets of the
 * same thread with messages of the same sizes (72 bytes there, 4 KiB and two headers back). Wall
 * clock, in turn, since what is measured waits for the kernel.
 */

import { assert, Prng, physAddr } from "../src/core/index.ts";
import { cpuMemory } from "../src/memory/index.ts";
import {
  type CommandOwner,
  HostCommand,
  type HostQueue,
  NvmfHost,
  SubmitStatus,
  TcpHostTransport,
} from "../src/nvmet/index.ts";
import {
  type ByteStream,
  type Clock,
  PollLoop,
  realNetwork,
  type StreamEvents,
} from "../src/platform/index.ts";
import { TargetServer } from "../src/scenario/index.ts";
import { NvmOpcode } from "../src/spec/nvme/index.ts";
import { sameSwitch } from "../testing/machines.ts";
import { type Bench, median } from "./lib.ts";

const DEPTH = 32;
const IO_BYTES = 4096;
const SIZE = 64 * 2 ** 20;
const NQN = "nqn.2026-11.bench.peerlane:tcp";
const REQUEST_BYTES = 72;
/** C2HData header, data, CapsuleResp. */
const ANSWER_BYTES = 24 + IO_BYTES + 24;
const IOS = 20_000;
const ROUNDS = 5;

class ReadLoad implements CommandOwner {
  private readonly queue: HostQueue;
  private readonly commands: HostCommand[] = [];
  private readonly prng = new Prng(1);
  private toSubmit = 0;
  private left = 0;
  private finish: () => void = () => undefined;

  constructor(queue: HostQueue, fill: (command: HostCommand, i: number) => void) {
    this.queue = queue;
    for (let i = 0; i < DEPTH; i++) {
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
      for (const command of this.commands) this.submit(command);
      this.queue.kick();
    });
  }

  private submit(command: HostCommand): void {
    this.toSubmit--;
    command.setRange(this.prng.below(SIZE / IO_BYTES) * (IO_BYTES / 512), IO_BYTES / 512, false);
    assert(this.queue.submit(command) === SubmitStatus.ok, "a load has room for its commands");
  }

  commandDone(command: HostCommand): void {
    assert(command.status === 0, "a command of the load succeeds");
    this.left--;
    if (this.toSubmit > 0) this.submit(command);
    else if (this.left === 0) this.finish();
  }
}

/** Answers each request with an answer, everything of one piece in one write. */
class EchoServer implements StreamEvents {
  private readonly stream: ByteStream;
  private readonly answer = new Uint8Array(ANSWER_BYTES * DEPTH * 2);
  private pending = 0;
  constructor(stream: ByteStream) {
    this.stream = stream;
  }
  onData(bytes: Uint8Array): void {
    this.pending += bytes.length;
    const count = Math.floor(this.pending / REQUEST_BYTES);
    this.pending -= count * REQUEST_BYTES;
    this.stream.write(this.answer.subarray(0, count * ANSWER_BYTES));
  }
  onDrain(): void {
    // It never has more than the depth under way.
  }
  onEnd(): void {
    // The client left.
  }
}

class EchoClient implements StreamEvents {
  private readonly stream: ByteStream;
  private readonly request = new Uint8Array(REQUEST_BYTES * DEPTH * 2);
  private got = 0;
  private toSend = 0;
  private left = 0;
  private finish: () => void = () => undefined;
  constructor(stream: ByteStream) {
    this.stream = stream;
  }
  run(count: number): Promise<void> {
    return new Promise((resolve) => {
      this.finish = resolve;
      this.toSend = count;
      this.left = count;
      this.send(DEPTH);
    });
  }
  private send(wanted: number): void {
    const count = Math.min(wanted, this.toSend);
    this.toSend -= count;
    if (count > 0) this.stream.write(this.request.subarray(0, count * REQUEST_BYTES));
  }
  onData(bytes: Uint8Array): void {
    this.got += bytes.length;
    const count = Math.floor(this.got / ANSWER_BYTES);
    this.got -= count * ANSWER_BYTES;
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

async function openEcho(): Promise<{ client: EchoClient; close: () => Promise<void> }> {
  const listener = await realNetwork.listen({ address: "127.0.0.1", port: 0 }, (stream) =>
    stream.start(new EchoServer(stream)),
  );
  const stream = await realNetwork.connect(listener.at);
  const client = new EchoClient(stream);
  stream.start(client);
  const close = async (): Promise<void> => {
    stream.destroy();
    await listener.close();
  };
  return { client, close };
}

async function openLoad(clock: Clock): Promise<{ load: ReadLoad; close: () => Promise<void> }> {
  const fail = (error: unknown): void => {
    throw error;
  };
  const server = await TargetServer.open({
    machine: sameSwitch(),
    address: "127.0.0.1",
    port: 0,
    nqn: NQN,
    allowedHosts: [],
    namespaces: [{ sizeBytes: SIZE, file: null }],
    network: realNetwork,
    clock,
    onEvent: () => undefined,
    onError: fail,
  });
  const transport = new TcpHostTransport({
    network: realNetwork,
    address: server.address,
    port: server.port,
    wake: () => loop.wake(),
  });
  const host = new NvmfHost({
    transport,
    hostNqn: "nqn.2026-11.bench.peerlane:host",
    subsystemNqn: NQN,
    depth: 2 * DEPTH,
    disableSqFlowControl: true,
    nowNs: () => clock.nowNs(),
  });
  const loop: PollLoop = new PollLoop({ poll: () => host.poll(), onError: fail });
  loop.start();
  await host.connect();
  const bytes = new Uint8Array(DEPTH * IO_BYTES);
  const memory = cpuMemory({ phys: physAddr(0), bytes });
  const buffer = await host.register(memory, 0, bytes.length);
  const load = new ReadLoad(host.queues[0], (command, i) =>
    command.setData(buffer, i * IO_BYTES, IO_BYTES),
  );
  const close = async (): Promise<void> => {
    await host.disconnect();
    loop.stop();
    await server.close();
  };
  return { load, close };
}

export const nvmetTcp: Bench = {
  name: "nvmet-tcp",
  claim: "rate of 4 KiB random reads by NVMe/TCP at depth 32, in times of a bare echo's",
  async run(clock) {
    const echo = await openEcho();
    const { load, close } = await openLoad(clock);
    const time = async (run: (count: number) => Promise<void>): Promise<number> => {
      const start = clock.nowNs();
      await run(IOS);
      return (clock.nowNs() - start) / 1e9 / IOS;
    };
    const runLoad = (count: number): Promise<void> => load.run(count);
    const runEcho = (count: number): Promise<void> => echo.client.run(count);
    await time(runLoad);
    await time(runEcho);
    const ratios: number[] = [];
    const rates: number[] = [];
    for (let i = 0; i < ROUNDS; i++) {
      const subject = await time(runLoad);
      const reference = await time(runEcho);
      ratios.push(reference / subject);
      rates.push(1 / subject);
    }
    await close();
    await echo.close();
    const rate = Math.round(median(rates));
    return {
      ratio: median(ratios),
      // Measured: 0.48 with both ends on this thread, on a machine that others used meanwhile.
      limit: 0.3,
      bound: "at-least",
      figures: `${rate} reads a second, both ends and the SSD model on one thread`,
    };
  },
};
