/**
 * What the orchestrator counts: every choice it makes has a counter, so that a run can prove which
 * way its bytes took and that nothing fell back in silence.
 */

import type { Inspectable, Tree } from "../core/index.ts";

/** Why a request did not get peer memory although its namespace is set to use it. */
export const Cause = {
  /** No provider was found at connect for this NIC and this namespace. */
  noProvider: 0,
  /** The provider's pool had no contiguous run of that length. */
  exhausted: 1,
  /** The lease was revoked: the provider is going away. */
  revoked: 2,
  /** The NIC or the disk could not map the memory. */
  mapFailed: 3,
} as const;
export type Cause = (typeof Cause)[keyof typeof Cause];
export const CAUSE_NAMES: readonly string[] = ["no-provider", "exhausted", "revoked", "map-failed"];

/** The way a leg (provider to NIC, provider to disk) takes; indexes of `bytes`. */
export const RouteIndex = {
  self: 0,
  bus: 1,
  hostBridge: 2,
  hostMemory: 3,
  capsule: 4,
  direct: 5,
  /** The CPU reads and writes the provider's BAR: over TCP it is what a NIC is over RDMA. */
  cpu: 6,
};
export const ROUTE_INDEX_NAMES: readonly string[] = [
  "self",
  "bus",
  "host-bridge",
  "host-memory",
  "capsule",
  "direct",
  "cpu",
];

export class OrchestratorCounters implements Inspectable {
  /** Namespaces bound at connect with a provider, and without one though configured. */
  connectsWithProvider = 0;
  connectsWithoutProvider = 0;
  /** Requests that got memory from a provider, from host memory, from their capsule. */
  peerAllocations = 0;
  hostAllocations = 0;
  capsuleUses = 0;
  /** Requests that waited because host buffers were used up. */
  hostWaits = 0;
  /** By {@link Cause}: served from host memory because the policy allows it. */
  readonly fallbacks = new Float64Array(CAUSE_NAMES.length);
  /** By {@link Cause}: answered with a status because the policy is `fail`. */
  readonly refusals = new Float64Array(CAUSE_NAMES.length);
  /** Payload bytes by {@link RouteIndex}, on the network's leg and on the disk's. */
  readonly netBytes = new Float64Array(ROUTE_INDEX_NAMES.length);
  readonly diskBytes = new Float64Array(ROUTE_INDEX_NAMES.length);
  /** Verdict reasons for which a configured namespace got no provider. */
  readonly noProviderReasons = new Map<string, number>();

  get fallbackCount(): number {
    return this.fallbacks.reduce((sum, n) => sum + n, 0);
  }

  get refusalCount(): number {
    return this.refusals.reduce((sum, n) => sum + n, 0);
  }

  countNoProvider(reason: string): void {
    this.connectsWithoutProvider++;
    this.noProviderReasons.set(reason, (this.noProviderReasons.get(reason) ?? 0) + 1);
  }

  inspect(): Tree {
    return {
      connectsWithProvider: this.connectsWithProvider,
      connectsWithoutProvider: this.connectsWithoutProvider,
      noProviderReasons: Object.fromEntries(this.noProviderReasons),
      peerAllocations: this.peerAllocations,
      hostAllocations: this.hostAllocations,
      capsuleUses: this.capsuleUses,
      hostWaits: this.hostWaits,
      fallbacks: named(CAUSE_NAMES, this.fallbacks),
      refusals: named(CAUSE_NAMES, this.refusals),
      netBytes: named(ROUTE_INDEX_NAMES, this.netBytes),
      diskBytes: named(ROUTE_INDEX_NAMES, this.diskBytes),
    };
  }
}

function named(names: readonly string[], values: Float64Array): Tree {
  return Object.fromEntries(names.map((name, i) => [name, values[i]]));
}
