/**
 * What the target's contract suite runs on, for any transport; and the one for the loop transport:
 * a target over a RAM disk, with no PCI below.
 */

import { QueueFeature, QueueLimits, RequestQueue } from "../src/block/index.ts";
import { Reactor } from "../src/core/index.ts";
import {
  type HostBuffer,
  type HostOptions,
  LoopTransport,
  type Namespace,
  NvmfHost,
  Orchestrator,
  type Port,
  type Subsystem,
  Target,
} from "../src/nvmet/index.ts";
import { ProviderRegistry, Rules, Topology } from "../src/p2p/index.ts";
import { TransportType } from "../src/spec/nvmf/index.ts";
import { Tracer } from "../src/trace/index.ts";
import { ArenaMemory, RamDisk } from "./block-arena.ts";
import { sameSwitch } from "./machines.ts";

export const SUBSYSTEM_NQN = "nqn.2026-11.test.peerlane:target";
export const HOST_NQN = "nqn.2026-11.test.peerlane:host";
export const BLOCK_BYTES = 512;

/** Memory of the host that I/O uses. */
export interface HostData {
  readonly buffer: HostBuffer;
  readonly bytes: Uint8Array;
}

export interface TransportHarness {
  readonly name: string;
  readonly target: Target;
  readonly subsystem: Subsystem;
  /** NSID 1, enabled, at least 1 MiB, able to do every optional command. */
  readonly namespace: Namespace;
  readonly port: Port;
  readonly reactor: Reactor;
  /** True when the host's data is used in place: no SGL errors of a network exist. */
  readonly isDirect: boolean;
  /** A host that is not connected yet. The reactor polls it. */
  host(options?: Partial<HostOptions>): NvmfHost;
  /** Memory for a host's I/O. */
  data(host: NvmfHost, sizeBytes: number): Promise<HostData>;
  /** Bytes of the disk, as its owner sees them. */
  disk(offset: number, length: number): Uint8Array;
  /** The disk holds its completions back. */
  stall(on: boolean): void;
  /** Lets time pass for keep-alive timers. */
  advance(ns: number): void;
  /** Adds another namespace, disabled. */
  addNamespace(nsid: number): Namespace;
}

const FEATURES =
  QueueFeature.writeCache |
  QueueFeature.fua |
  QueueFeature.dmaDirect |
  QueueFeature.writeZeroes |
  QueueFeature.discard |
  QueueFeature.compare |
  QueueFeature.verify;

export const RAM_DISK_BYTES = 4 * 1024 * 1024;

/** Limits of a disk that can do everything. */
export function fullLimits(): QueueLimits {
  return new QueueLimits({
    logicalBlockBytes: BLOCK_BYTES,
    maxBytes: 256 * 1024,
    dmaAlignment: 4,
    maxDiscardBytes: RAM_DISK_BYTES,
    maxWriteZeroesBytes: RAM_DISK_BYTES,
    maxVerifyBytes: RAM_DISK_BYTES,
    features: FEATURES,
  });
}

/** A target over a RAM disk, reached by the loop transport. */
export function loopHarness(): TransportHarness {
  const memories: ArenaMemory[] = [new ArenaMemory(4096)];
  const disk = new RamDisk({ sizeBytes: RAM_DISK_BYTES, memories });
  disk.records = false;
  const options = { depth: 64, initiator: 1, capacityBytes: RAM_DISK_BYTES };
  const queue = new RequestQueue(disk, { name: "ram", limits: fullLimits(), ...options });
  let now = 0;
  const nowNs = (): number => now;
  const trace = new Tracer(nowNs);
  const rules = new Rules(new Topology(sameSwitch()));
  const registry = new ProviderRegistry(rules);
  const target = new Target({
    orchestrator: new Orchestrator({ registry, rules, trace }),
    trace,
    nowNs,
  });
  const subsystem = target.addSubsystem({ nqn: SUBSYSTEM_NQN, allowedHosts: [HOST_NQN] });
  const port = target.addPort({
    id: 1,
    transport: TransportType.INTRA_HOST,
    address: "here",
    serviceId: "0",
  });
  target.link(port, subsystem);
  const namespace = subsystem.addNamespace({ nsid: 1, queue, initiators: [] });
  subsystem.enable(namespace);
  const reactor = new Reactor();
  reactor.add(target);
  // Each memory at addresses of its own, so that the disk can tell them apart.
  let nextBase = 0x1000_0000_0000;
  const makeMemory = (sizeBytes: number): ArenaMemory => {
    nextBase += 0x1_0000_0000;
    const memory = new ArenaMemory(sizeBytes, { limitBase: nextBase });
    memories.push(memory);
    return memory;
  };
  return {
    name: "loop",
    target,
    subsystem,
    namespace,
    port,
    reactor,
    isDirect: true,
    host(hostOptions = {}) {
      const allocate = (sizeBytes: number) => {
        const memory = makeMemory(sizeBytes);
        return { memory, bytes: memory.data, free: () => undefined };
      };
      const transport = new LoopTransport({ target, portId: port.id, allocate });
      const host = new NvmfHost({
        transport,
        hostNqn: HOST_NQN,
        subsystemNqn: SUBSYSTEM_NQN,
        nowNs,
        ...hostOptions,
      });
      reactor.add(host);
      return host;
    },
    async data(host, sizeBytes) {
      const memory = makeMemory(sizeBytes);
      const buffer = await host.register(memory, 0, sizeBytes);
      return { buffer, bytes: memory.data };
    },
    disk: (offset, length) => disk.data.slice(offset, offset + length),
    stall(on) {
      disk.isStalled = on;
    },
    advance(ns) {
      now += ns;
    },
    addNamespace: (nsid) => subsystem.addNamespace({ nsid, queue, initiators: [] }),
  };
}
