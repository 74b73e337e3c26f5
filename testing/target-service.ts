/** A target that serves on real sockets, and hosts for it. */

import { physAddr } from "../src/core/index.ts";
import { cpuMemory } from "../src/memory/index.ts";
import {
  HostCommand,
  type HostOptions,
  NvmfHost,
  type TcpHostOptions,
  TcpHostTransport,
} from "../src/nvmet/index.ts";
import {
  type Network,
  PollLoop,
  realClock,
  realLocalSockets,
  realNetwork,
  realRecordFiles,
  type StreamAddress,
} from "../src/platform/index.ts";
import {
  type ServedPort,
  type TargetServer,
  TargetService,
  targetConfigSchema,
} from "../src/scenario/index.ts";
import { sameSwitch } from "./machines.ts";

const IO_BYTES = 4096;

export interface ServiceHost extends SocketHost {
  /** One I/O of 4 KiB at the start of a namespace; its NVMe status, -1 when it was not taken. */
  io(opcode: number, nsid: number): Promise<number>;
  /** Submits many large I/Os at once and waits for none. */
  flood(opcode: number, count: number, bytes: number): Promise<void>;
}

/** A target on loopback, and what it says: into `heard`, or an error is thrown. */
export function openService(
  config: object,
  heard: { readonly lines?: string[]; readonly errors?: unknown[] } = {},
): Promise<TargetService> {
  return TargetService.open({
    machine: sameSwitch(),
    config: targetConfigSchema.parse(config),
    network: realNetwork,
    localSockets: realLocalSockets,
    recordFiles: realRecordFiles,
    clock: realClock,
    write: (text) => heard.lines?.push(text),
    onError: (error) => {
      if (heard.errors === undefined) throw error;
      heard.errors.push(error);
    },
  });
}

export interface SocketHost {
  readonly host: NvmfHost;
  /** Runs; stop it when the host has disconnected. */
  readonly loop: PollLoop;
  readonly failures: unknown[];
}

/** A host over TCP with a polling loop of its own. Connect and disconnect it yourself. */
export function socketHost(
  at: StreamAddress,
  options: Omit<HostOptions, "transport" | "nowNs">,
  tcp: Partial<TcpHostOptions> = {},
): SocketHost {
  const wake = (): void => loop.wake();
  const transport = new TcpHostTransport({ network: realNetwork, ...at, wake, ...tcp });
  const host = new NvmfHost({ transport, nowNs: () => realClock.nowNs(), ...options });
  const failures: unknown[] = [];
  const loop: PollLoop = new PollLoop({
    poll: () => host.poll(),
    onError: (error) => failures.push(error),
  });
  loop.start();
  return { host, loop, failures };
}

/** Connect and disconnect it yourself. */
export function serviceHost(
  server: TargetServer,
  subsystemNqn: string,
  hostNqn: string,
  portid = 1,
  network: Network = realNetwork,
): ServiceHost {
  const { at } = server.ports.get(portid) as ServedPort;
  const tcp = { network, headerDigest: true, dataDigest: true };
  const { host, loop, failures } = socketHost(at, { hostNqn, subsystemNqn, depth: 16 }, tcp);
  const bytes = new Uint8Array(IO_BYTES).fill(0x5a);
  const io = async (opcode: number, nsid: number): Promise<number> => {
    const buffer = await host.register(cpuMemory({ phys: physAddr(0), bytes }), 0, IO_BYTES);
    return new Promise((resolve) => {
      const command = new HostCommand({ commandDone: ({ status }) => resolve(status) });
      command.opcode = opcode;
      command.nsid = nsid;
      command.setRange(0, IO_BYTES / 512, false);
      command.setData(buffer, 0, IO_BYTES);
      if (host.queues[0].submit(command) !== 0) resolve(-1);
      host.queues[0].kick();
    });
  };
  const flood = async (opcode: number, count: number, length: number): Promise<void> => {
    const memory = cpuMemory({ phys: physAddr(0), bytes: new Uint8Array(length) });
    const buffer = await host.register(memory, 0, length);
    for (let i = 0; i < count; i++) {
      const command = new HostCommand({ commandDone: () => undefined });
      command.opcode = opcode;
      command.nsid = 1;
      command.setRange(0, length / 512, false);
      command.setData(buffer, 0, length);
      if (host.queues[0].submit(command) !== 0) throw new Error("the queue is full");
    }
    host.queues[0].kick();
  };
  return { host, loop, failures, io, flood };
}
