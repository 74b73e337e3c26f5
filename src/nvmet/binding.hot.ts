/**
 * What the orchestrator decided at connect, as the data plane reads it: for one namespace and one
 * NIC, where memory comes from and what both devices call it. Plain fields; orchestrator.ts fills
 * them, orchestrator.hot.ts uses them.
 */

import { NO_MEMORY } from "../block/index.ts";
import type { IoMemory } from "../memory/index.ts";
import type { LeaseState, PoolAllocator } from "../p2p/index.ts";
import type { Tracer } from "../trace/index.ts";
import { type OrchestratorCounters, RouteIndex } from "./counters.ts";

/** What happens when peer memory is wanted and there is none. */
export const Policy = { fail: 0, hostMemory: 1 } as const;
export type Policy = (typeof Policy)[keyof typeof Policy];
export const POLICY_NAMES = ["fail", "host-memory"] as const;

/** Buffers in host memory, mapped for a NIC once. What the disks see is in the bindings. */
export class HostPool {
  readonly pool: PoolAllocator;
  readonly netMemory: IoMemory;
  /** Requests that hold a buffer. */
  inUse = 0;

  constructor(pool: PoolAllocator, netMemory: IoMemory) {
    this.pool = pool;
    this.netMemory = netMemory;
  }
}

/** One namespace as one controller's NIC reaches it. Filled by the orchestrator at connect. */
export class NamespaceBinding {
  readonly counters: OrchestratorCounters;
  readonly trace: Tracer;
  readonly nsid: number;
  readonly policy: Policy;
  /** Not 0: the NVMe status that every I/O gets (asymmetric access). */
  accessStatus = 0;
  /** The namespace is set to use peer memory. */
  wantsPeer = false;
  /** Null: no provider; `cause` says why it is missed. */
  lease: LeaseState | null = null;
  netMemory: IoMemory = NO_MEMORY;
  diskMemory: IoMemory = NO_MEMORY;
  /** Added to an offset in the lease: 0 for leases, the initiator's base for bare addresses. */
  netBase = 0;
  diskBase = 0;
  /** {@link RouteIndex} of each leg. */
  netRoute = RouteIndex.hostMemory;
  diskRoute = RouteIndex.hostMemory;
  /** Null on transports that bring their own memory. */
  host: HostPool | null = null;
  hostDiskMemory: IoMemory = NO_MEMORY;

  constructor(counters: OrchestratorCounters, trace: Tracer, nsid: number, policy: Policy) {
    this.counters = counters;
    this.trace = trace;
    this.nsid = nsid;
    this.policy = policy;
  }
}
