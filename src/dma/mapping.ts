/**
 * The words of a mapping that every room above shares: which way data moves, who asks, and why the
 * answer was no. Statuses are integers because mapping is data plane; a refused mapping returns the
 * negated status, so one comparison with zero is the whole hot path.
 *
 * Leaves out: what a vector carries (memory/contract.ts).
 */

/** Why a mapping was refused. Returned negated by `map` and `mapPhys`. */
export const MapStatus = {
  ok: 0,
  /** The address was derived for another initiator. */
  wrongInitiator: 1,
  /** The lease was revoked, or the provider is going away. */
  revoked: 2,
  /** Offset and length leave the described memory. */
  outOfRange: 3,
  /** No route from this initiator to this memory. */
  noRoute: 4,
  /** No IOVA space or page-table memory. */
  noResources: 5,
} as const;
export type MapStatus = (typeof MapStatus)[keyof typeof MapStatus];

export const MAP_STATUS_NAMES: readonly string[] = [
  "ok",
  "address of another initiator",
  "lease revoked",
  "out of range",
  "no route",
  "no resources",
];

/** Which way data moves, seen from the initiator. */
export const Direction = {
  /** The initiator reads the memory (a disk write, an RDMA send). */
  fromMemory: 1,
  /** The initiator writes the memory. */
  toMemory: 2,
  both: 3,
} as const;
export type Direction = (typeof Direction)[keyof typeof Direction];

/** An initiator, as the dma room numbers it: a small integer from 1, index of its `DmaDevice`. */
export type InitiatorId = number;
