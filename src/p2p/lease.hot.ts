/**
 * The hot half of a lease: its epoch, a base DMA address per initiator, and the count of I/O in
 * flight.
 *
 * In-flight I/O is counted per I/O, by the submitter, at the moment it takes memory (`allocate`) or
 * starts to use memory it already has (`begin`), and not per map call. Reasons: one I/O maps many
 * vectors, split requests map again, and a completion does not know what was mapped; counting there
 * would put two more writes on every segment and still miss the time between the decision to submit
 * and the first map. So the rule is: whoever takes an offset in a lease to submit it holds the
 * lease busy until the last completion for it came back.
 *
 * Invariants: `epoch` changes once, when the lease is revoked; a base is -1 where the initiator has
 * no right, and all are once it is revoked, so that one look at a base answers both; nothing is
 * unmapped while `inFlight` is above zero.
 */

import { assert } from "../core/index.ts";
import { type InitiatorId, MapStatus } from "../dma/index.ts";
import type { LivePool } from "./live-pool.hot.ts";

export class LeaseState {
  /** What a holder compares with the epoch it was made in. */
  epoch = 0;
  /** DMA address of the lease's first byte, by initiator id; -1: none. */
  readonly bases: Float64Array;
  readonly lengthBytes: number;
  inFlight = 0;
  private readonly memory: LivePool;
  /** Set while a revoke waits for I/O in flight. */
  private onIdle: (() => void) | null = null;

  constructor(memory: LivePool, lengthBytes: number, initiatorIdMax: InitiatorId) {
    this.memory = memory;
    this.lengthBytes = lengthBytes;
    this.bases = new Float64Array(initiatorIdMax + 1).fill(-1);
  }

  get revoked(): boolean {
    return this.epoch !== 0;
  }

  /** Marks one I/O on memory of the lease as started; false when the lease is revoked. */
  begin(): boolean {
    if (this.epoch !== 0) return false;
    this.inFlight++;
    return true;
  }

  /** One I/O is done with the memory. May finish a revoke that waits. */
  end(): void {
    const left = this.inFlight - 1;
    assert(left >= 0, "an I/O on a lease ends once");
    this.inFlight = left;
    if (left === 0 && this.onIdle !== null) this.onIdle();
  }

  /**
   * Takes memory for one I/O from the provider's pool and marks it started: an offset in the lease,
   * or a negated {@link MapStatus} (`revoked`, `noResources`). Only for leases over a whole
   * provider.
   */
  allocate(length: number): number {
    assert(this.lengthBytes === this.memory.pool.sizeBytes, "only a whole lease has the pool");
    if (this.epoch !== 0) return -MapStatus.revoked;
    const offset = this.memory.alloc(length);
    if (offset < 0) return this.memory.alive ? -MapStatus.noResources : -MapStatus.revoked;
    this.inFlight++;
    return offset;
  }

  /** Bytes of the provider's pool that are free. */
  get availableBytes(): number {
    return this.memory.pool.available;
  }

  /** Bytes that an allocation of `length` takes. */
  sizeOf(length: number): number {
    return this.memory.pool.sizeOf(length);
  }

  /** Gives back what {@link allocate} gave, after the last completion of its I/O. */
  release(offset: number, length: number): void {
    this.memory.free(offset, length);
    this.end();
  }

  /** Calls `idle` once nothing is in flight: now, or from inside the last `end`. */
  protected whenIdle(idle: () => void): void {
    assert(this.epoch !== 0, "a lease is drained after it was revoked");
    if (this.inFlight === 0) idle();
    else this.onIdle = idle;
  }
}
