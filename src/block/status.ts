/**
 * Block statuses: what became of a bio or a request. Integers, because the data plane returns and
 * compares them; zero is success. Below are the words for people, the classes that retrying layers
 * need, and the translation of the memory room's refusals.
 *
 * Invariant: a refusal keeps its reason on the way up. `wrongInitiator` and `revoked` never turn
 * into a general I/O error, since the remedy differs.
 */

import { MapStatus } from "../memory/index.ts";

/** What became of a bio. */
export const BlockStatus = {
  ok: 0,
  /** The device or the queue cannot do this operation at all. */
  notSupported: 1,
  /** The bio is malformed: alignment, size, range, a vector added to a clone. */
  invalid: 2,
  /** The device failed and gave no better reason. */
  ioError: 3,
  /** The medium could not be read or written. */
  medium: 4,
  /** Out of something that comes back: requests, list pages, IOVA space. Retrying can help. */
  resource: 5,
  timeout: 6,
  /** Protection information did not match, or would have been dropped. */
  protection: 7,
  /** Capacity exceeded on a thin-provisioned device. */
  noSpace: 8,
  /** The device is gone or shut down. */
  offline: 9,
  /** The device refused for good; another path to it would refuse too. */
  target: 10,
  /** The path failed; another path may do. */
  transport: 11,
  /** The lease under a vector was revoked, or its provider is going away. */
  revoked: 12,
  /** A vector's DMA address was derived for another initiator. */
  wrongInitiator: 13,
  /** No route from the queue's initiator to a vector's memory. */
  noRoute: 14,
  /** A vector leaves the memory that it describes. */
  outOfRange: 15,
  aborted: 16,
  writeProtected: 17,
  /** A compare found other data. */
  compareFailed: 18,
} as const;
export type BlockStatus = (typeof BlockStatus)[keyof typeof BlockStatus];

/** Indexed by status. */
export const BLOCK_STATUS_NAMES: readonly string[] = [
  "ok",
  "operation not supported",
  "invalid request",
  "I/O error",
  "medium error",
  "out of resources",
  "timeout",
  "protection error",
  "no space",
  "device offline",
  "target refused",
  "transport error",
  "lease revoked",
  "address of another initiator",
  "no route",
  "out of range",
  "aborted",
  "write protected",
  "compare failed",
];

/**
 * What `queueRequest` answers besides a status: no slot now; offer the request again after a
 * completion. Negative, so it is never taken for a result.
 */
export const BLOCK_BUSY = -1;

/** Indexed by {@link MapStatus}. */
const FROM_MAP = new Uint8Array(6);
FROM_MAP[MapStatus.ok] = BlockStatus.ok;
FROM_MAP[MapStatus.wrongInitiator] = BlockStatus.wrongInitiator;
FROM_MAP[MapStatus.revoked] = BlockStatus.revoked;
FROM_MAP[MapStatus.outOfRange] = BlockStatus.outOfRange;
FROM_MAP[MapStatus.noRoute] = BlockStatus.noRoute;
FROM_MAP[MapStatus.noResources] = BlockStatus.resource;

/** The block status of a {@link MapStatus}. A value outside the table is an I/O error. */
export function blockStatusOfMap(mapStatus: number): number {
  return mapStatus < FROM_MAP.length ? FROM_MAP[mapStatus] : BlockStatus.ioError;
}

/** The status in words. */
export function blockStatusName(status: number): string {
  return BLOCK_STATUS_NAMES[status] ?? `status ${status}`;
}

/** True where another path to the same data may succeed (what a multipath queue retries). */
export function isPathError(status: number): boolean {
  switch (status) {
    case BlockStatus.transport:
    case BlockStatus.offline:
    case BlockStatus.noRoute:
    case BlockStatus.timeout:
    case BlockStatus.aborted:
      return true;
    default:
      return false;
  }
}
