/**
 * The target's contract over TCP, on sockets in memory: the target of target-rig.ts with its data
 * in host memory, reached over a stream that may be cut anywhere.
 */

import { physAddr } from "../src/core/index.ts";
import { cpuMemory } from "../src/memory/index.ts";
import {
  NvmfHost,
  type TcpHostOptions,
  TcpHostTransport,
  type TcpPortOptions,
  type TcpTargetTransport,
} from "../src/nvmet/index.ts";
import { MemoryNetwork, type MemoryNetworkOptions } from "../src/platform/index.ts";
import { HOST_NQN, SUBSYSTEM_NQN, type TransportHarness } from "./nvmet-harness.ts";
import { StallQueue } from "./nvmet-rdma-harness.ts";
import { type RigOptions, readDisk, type TargetRig, targetRig } from "./target-rig.ts";

const ADDRESS = "127.0.0.1";
const PORT = 4420;

export interface TcpHarnessOptions {
  readonly rig?: RigOptions;
  readonly network?: MemoryNetworkOptions;
  readonly port?: Partial<TcpPortOptions>;
  readonly host?: Partial<TcpHostOptions>;
}

export interface TcpHarness extends TransportHarness {
  readonly rig: TargetRig;
  readonly network: MemoryNetwork;
  readonly transport: TcpTargetTransport;
}

export async function tcpHarness(options: TcpHarnessOptions = {}): Promise<TcpHarness> {
  const stalls: StallQueue[] = [];
  const rig = await targetRig({
    description: "host-memory",
    ...options.rig,
    wrapQueue: (queue) => {
      const stall = new StallQueue(queue);
      stalls.push(stall);
      return stall;
    },
  });
  const { assembly, reactor, subsystem, namespace } = rig;
  // Reached over TCP alone.
  assembly.target.unlink(rig.transport.port, subsystem);
  const network = new MemoryNetwork(options.network);
  reactor.add(network);
  const listen = { network, address: ADDRESS, port: PORT, ...options.port };
  const { port, transport } = await rig.settle(assembly.listenTcp([subsystem], listen));
  return {
    rig,
    network,
    transport,
    name: "tcp",
    target: assembly.target,
    subsystem,
    namespace,
    port,
    reactor,
    isDirect: false,
    host(hostOptions = {}) {
      const to = { network, address: ADDRESS, port: PORT };
      const host = new NvmfHost({
        transport: new TcpHostTransport({ ...to, ...options.host }),
        hostNqn: HOST_NQN,
        subsystemNqn: SUBSYSTEM_NQN,
        nowNs: () => rig.scheduler.nowNs(),
        ...hostOptions,
      });
      reactor.add(host);
      return host;
    },
    async data(host, sizeBytes) {
      const bytes = new Uint8Array(sizeBytes);
      const memory = cpuMemory({ phys: physAddr(0), bytes });
      return { buffer: await host.register(memory, 0, sizeBytes), bytes };
    },
    disk: (offset, length) => readDisk(rig, offset, length),
    stall(on) {
      for (const stall of stalls) stall.isStalled = on;
      if (on) reactor.remove(rig.disk);
      else reactor.add(rig.disk);
    },
    advance: (ns) => rig.advance(ns),
    addNamespace: (nsid) =>
      subsystem.addNamespace({
        nsid,
        queue: namespace.queue,
        initiators: namespace.initiators,
        p2pmem: namespace.p2pmem,
      }),
  };
}
