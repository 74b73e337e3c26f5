/**
 * What one connection may hold of buffers that all connections use, so that a host which never
 * takes its data, or never sends what it was asked for, cannot hold all of them.
 *
 * - Of each pool a connection may hold half as much as is free: a third of it where nobody else
 *   wants any. The more is taken the less each may take, and who wants nothing is not counted.
 *   (Dynamic thresholds, as switches share packet buffers: Choudhury and Hahne, 1998.) What is
 *   taken is not taken back: `n` hosts that never let go leave at least (2/3)^n of the pool.
 * - Payload in all pools together has a limit per connection besides.
 * - A reserve of its own, for one largest transfer: when the pools have no room for it, or no run
 *   that is long enough, a connection goes on one command at a time. So nobody waits for another's
 *   peer for ever, and a large transfer does not starve behind small ones.
 *
 * Invariants: a connection that holds nothing is never kept from asking a pool; what was taken is
 * given once, in the size that the pool took.
 */

import { NO_MEMORY } from "../block/index.ts";
import { assert } from "../core/index.ts";
import type { IoMemory } from "../memory/index.ts";

/** Pools that connections share. */
export const PoolKind = {
  /** Host buffers for data of I/O. */
  payload: 0,
  /** Host buffers that the CPU itself reads or writes. */
  control: 1,
  /** Memory of providers. */
  peer: 2,
} as const;
export type PoolKind = (typeof PoolKind)[keyof typeof PoolKind];
const KINDS = 3;

export class MemoryShare {
  /** Bytes of payload at once, but for the reserve. */
  limitBytes = Number.MAX_SAFE_INTEGER;
  /** By {@link PoolKind}, as the pools count: whole granules. */
  readonly held = new Float64Array(KINDS);
  /** The reserve, as the network's initiator sees it. 0 bytes: there is none. */
  reserveMemory: IoMemory = NO_MEMORY;
  reserveBytes = 0;
  /** The same as the disks of each namespace see it, by NSID. */
  reserveDisks: (IoMemory | null)[] = [];
  isReserveTaken = false;
  /** Commands that had to wait for memory, those that wait now, uses of the reserve. */
  waits = 0;
  waiting = 0;
  reserveUses = 0;

  /** Bytes of payload that its commands hold, the reserve aside. */
  get payloadBytes(): number {
    return this.held[PoolKind.payload] + this.held[PoolKind.peer];
  }

  /** May it take `bytes` more of a pool that has `available`? */
  mayTake(kind: PoolKind, bytes: number, available: number): boolean {
    const own = this.held[kind];
    if (own > 0 && (own + bytes) * 2 > available) return false;
    if (kind === PoolKind.control) return true;
    const payload = this.payloadBytes;
    return payload === 0 || payload + bytes <= this.limitBytes;
  }

  take(kind: PoolKind, bytes: number): void {
    this.held[kind] += bytes;
  }

  give(kind: PoolKind, bytes: number): void {
    const left = this.held[kind] - bytes;
    assert(left >= 0, "a connection gives back what it took");
    this.held[kind] = left;
  }

  /** Takes the reserve for `bytes`; false: it is in use or too short. */
  takeReserve(bytes: number): boolean {
    if (this.isReserveTaken || bytes > this.reserveBytes) return false;
    this.isReserveTaken = true;
    this.reserveUses++;
    return true;
  }

  giveReserve(): void {
    assert(this.isReserveTaken, "a reserve is given back once");
    this.isReserveTaken = false;
  }
}

/** Of requests that no queue has. */
export const NO_SHARE = new MemoryShare();
