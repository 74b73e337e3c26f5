/**
 * What the orchestrator decided at connect, as the data plane reads it: for one namespace and one
 * NIC, where memory comes from and what both devices call it. Plain fields; orchestrator.ts fills
 * them, orchestrator.hot.ts uses them.
 */

import type { MappedRegion } from "../backing/interface.ts";
import { NO_MEMORY } from "../block/index.ts";
import type { IoMemory } from "../memory/index.ts";
import type { LeaseState, PoolAllocator } from "../p2p/index.ts";
import { NvmeStatus, STATUS_DNR } from "../spec/nvme/index.ts";
import type { Tracer } from "../trace/index.ts";
import { type OrchestratorCounters, RouteIndex } from "./counters.ts";
import { GATE_ALL, GateClass } from "./gate.hot.ts";
import type { PoolKind } from "./share.hot.ts";
import type { StoreQueue } from "./store-queue.hot.ts";

/** What happens when peer memory is wanted and there is none. */
export const Policy = { fail: 0, hostMemory: 1 } as const;
export type Policy = (typeof Policy)[keyof typeof Policy];
export const POLICY_NAMES = ["fail", "host-memory"] as const;

/** Buffers in host memory, mapped for a NIC once. What the disks see is in the bindings. */
export class HostPool {
  readonly pool: PoolAllocator;
  readonly netMemory: IoMemory;
  readonly kind: PoolKind;
  /** Requests that hold a buffer. */
  inUse = 0;

  constructor(pool: PoolAllocator, netMemory: IoMemory, kind: PoolKind) {
    this.pool = pool;
    this.netMemory = netMemory;
    this.kind = kind;
  }
}

/** One namespace as one controller's NIC reaches it. Filled by the orchestrator at connect. */
export class NamespaceBinding {
  readonly counters: OrchestratorCounters;
  readonly trace: Tracer;
  readonly nsid: number;
  readonly policy: Policy;
  /** Classes of commands that are refused; the one number that the data path tests. */
  gate = 0;
  /** Not 0: the NVMe status that every I/O gets (asymmetric access). */
  accessStatus = 0;
  /** Classes that a reservation of another host keeps out. */
  reserved = 0;
  isWriteProtected = false;
  /** The host has switched the volatile write cache off: every write is as if it had FUA. */
  writesThrough = false;
  /** The namespace is set to use peer memory. */
  wantsPeer = false;
  /** Null: no provider; `cause` says why it is missed. */
  lease: LeaseState | null = null;
  netMemory: IoMemory = NO_MEMORY;
  /** Not null: the CPU moves the data, through the provider's BAR; `netBase` is in it. */
  netWindow: MappedRegion | null = null;
  diskMemory: IoMemory = NO_MEMORY;
  /**
   * Added to an offset in the lease: 0 for leases, the initiator's base for bare addresses, the
   * provider's place in its BAR for a window.
   */
  netBase = 0;
  diskBase = 0;
  /** {@link RouteIndex} of each leg. */
  netRoute = RouteIndex.hostMemory;
  diskRoute = RouteIndex.hostMemory;
  /** Null on transports that bring their own memory. */
  host: HostPool | null = null;
  hostDiskMemory: IoMemory = NO_MEMORY;
  /** Not null: the CPU moves the data and reaches the blocks, so reads go out from there (TCP). */
  store: StoreQueue | null = null;

  constructor(counters: OrchestratorCounters, trace: Tracer, nsid: number, policy: Policy) {
    this.counters = counters;
    this.trace = trace;
    this.nsid = nsid;
    this.policy = policy;
  }

  /** Puts the gate together again, after one of its three parts changed. */
  closeGate(): void {
    const path = this.accessStatus === 0 ? 0 : GATE_ALL;
    this.gate = path | this.reserved | (this.isWriteProtected ? GateClass.write : 0);
  }

  /**
   * Why a command of this class is refused: an NVMe status. The path comes first: where it is
   * closed, another one may be open.
   */
  refusalOf(gateClass: number): number {
    if (this.accessStatus !== NvmeStatus.success) return this.accessStatus;
    if ((this.reserved & gateClass) !== 0) return NvmeStatus.reservationConflict | STATUS_DNR;
    return NvmeStatus.namespaceWriteProtected | STATUS_DNR;
  }
}
