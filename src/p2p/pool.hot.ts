/**
 * Allocation of a provider's memory in bytes: first fit over granules, recycled by size. Offsets
 * are from the start of the provider's range.
 *
 * Invariants: a byte is in one allocation at most; the tail that is shorter than a granule is never
 * given out; a free names the offset and the length of one allocation. Leaves out: freeing part of
 * an allocation.
 */

import { assert, POOL_GRANULE_MAX, POOL_GRANULE_MIN, RangeAllocator } from "../core/index.ts";

export class PoolAllocator {
  readonly sizeBytes: number;
  readonly granularity: number;
  private readonly space: RangeAllocator;

  /** `granularity`: a power of two from 512 bytes to 2 MiB. */
  constructor(sizeBytes: number, granularity: number) {
    assert(granularity >= POOL_GRANULE_MIN, "a pool's granule is at least 512 bytes");
    assert(granularity <= POOL_GRANULE_MAX, "a pool's granule is at most 2 MiB");
    assert(Math.log2(granularity) % 1 === 0, "a pool's granule is a power of two");
    assert(sizeBytes >= granularity, "a pool holds at least one granule");
    this.granularity = granularity;
    this.sizeBytes = sizeBytes;
    const units = Math.floor(sizeBytes / granularity);
    this.space = new RangeAllocator({ base: 0, units, order: "lowest" });
  }

  /** Bytes that are free, in whole granules. */
  get available(): number {
    return this.space.free * this.granularity;
  }

  /** Bytes of the longest free run. Control plane. */
  get longestFree(): number {
    return this.space.longestFree * this.granularity;
  }

  /** Free runs: 1 when nothing is fragmented. Control plane. */
  get freeRuns(): number {
    return this.space.freeRuns;
  }

  /** Offset of `length` contiguous bytes, or -1 when no free run is long enough. */
  alloc(length: number): number {
    assert(length > 0, "an allocation is not empty");
    const at = this.space.alloc(this.granules(length));
    return at < 0 ? -1 : at * this.granularity;
  }

  /** Takes [offset, offset + length), a multiple of the granule; false when a part is taken. */
  allocAt(offset: number, length: number): boolean {
    assert(offset >= 0 && length > 0, "an allocation is not empty");
    assert(offset % this.granularity === 0, "a chosen range starts at a granule");
    return this.space.allocAt(offset / this.granularity, this.granules(length));
  }

  free(offset: number, length: number): void {
    this.space.release(offset / this.granularity, this.granules(length));
  }

  /** Bytes that an allocation of `length` takes: whole granules. */
  sizeOf(length: number): number {
    return this.granules(length) * this.granularity;
  }

  private granules(length: number): number {
    return Math.ceil(length / this.granularity);
  }
}
