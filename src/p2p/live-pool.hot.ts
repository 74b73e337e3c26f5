/**
 * The hot half of a provider: its pool under a live reference per allocation. Killing it makes new
 * allocations fail; when the last reference is gone, whoever waits is told.
 *
 * Invariants: `references` counts live allocations plus those taken with `get`; after `kill` it
 * only falls. The kernel does the same with a percpu reference per device (drivers/pci/p2pdma.c).
 */

import { assert } from "../core/index.ts";
import { PoolAllocator } from "./pool.hot.ts";

/** Why there is no memory. Returned negated by `alloc`. */
export const AllocStatus = {
  ok: 0,
  /** No free run is long enough: try again later, smaller, or elsewhere. */
  noSpace: 1,
  /** The provider is going away. */
  dying: 2,
} as const;
export type AllocStatus = (typeof AllocStatus)[keyof typeof AllocStatus];

export class LivePool {
  readonly pool: PoolAllocator;
  /** Live allocations and leases. */
  references = 0;
  /** Allocations that failed because nothing was free, and because the provider was dying. */
  allocFailures = 0;
  private killed = false;
  private onDrained: (() => void) | null = null;

  constructor(sizeBytes: number, granularity: number) {
    this.pool = new PoolAllocator(sizeBytes, granularity);
  }

  get alive(): boolean {
    return !this.killed;
  }

  /** Offset of `length` bytes, or a negated {@link AllocStatus}. Takes a reference. */
  alloc(length: number): number {
    if (this.killed) {
      this.allocFailures++;
      return -AllocStatus.dying;
    }
    const offset = this.pool.alloc(length);
    if (offset < 0) {
      this.allocFailures++;
      return -AllocStatus.noSpace;
    }
    this.references++;
    return offset;
  }

  /** Takes exactly [offset, offset + length). Returns an {@link AllocStatus}. */
  allocAt(offset: number, length: number): number {
    if (this.killed) return AllocStatus.dying;
    if (!this.pool.allocAt(offset, length)) return AllocStatus.noSpace;
    this.references++;
    return AllocStatus.ok;
  }

  free(offset: number, length: number): void {
    this.pool.free(offset, length);
    this.put();
  }

  /** Takes a reference; false when the provider is dying. */
  get(): boolean {
    if (this.killed) return false;
    this.references++;
    return true;
  }

  put(): void {
    assert(this.references > 0, "a provider's reference is given back once");
    this.references--;
    if (this.references === 0 && this.onDrained !== null) this.onDrained();
  }

  /** No reference can be taken from now on. Idempotent. */
  protected kill(): void {
    this.killed = true;
  }

  /** Calls `drained` once no reference is left: now, or from inside the last `put`. */
  protected whenDrained(drained: () => void): void {
    assert(this.killed && this.onDrained === null, "a provider is drained once, after the kill");
    if (this.references === 0) drained();
    else this.onDrained = drained;
  }
}
