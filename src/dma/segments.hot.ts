/**
 * DMA segments of one I/O: what a driver turns into PRPs, SGL descriptors or SGEs. Preallocated by
 * the queue for its deepest request, refilled for each I/O.
 *
 * Invariant: `count` never exceeds the capacity; a full list answers false and stays as it was.
 */

import { assert } from "../core/index.ts";

/** A segment's length fits 32 bits. */
const SEGMENT_BYTES_MAX = 0xffffffff;

export class SegmentList {
  /** DMA address of each segment. */
  readonly addr: Float64Array;
  /** Bytes of each segment. */
  readonly len: Uint32Array;
  count = 0;
  /** Sum of all lengths. */
  totalBytes = 0;

  constructor(capacity: number) {
    assert(capacity > 0, "a segment list holds at least one segment");
    this.addr = new Float64Array(capacity);
    this.len = new Uint32Array(capacity);
  }

  get capacity(): number {
    return this.len.length;
  }

  clear(): void {
    this.count = 0;
    this.totalBytes = 0;
  }

  /** Appends one segment; false when the list is full. */
  push(address: number, length: number): boolean {
    assert(address >= 0 && length > 0, "a segment has an address and a length");
    const at = this.count;
    if (at === this.len.length) return false;
    this.addr[at] = address;
    this.len[at] = length;
    this.count = at + 1;
    this.totalBytes += length;
    return true;
  }

  /**
   * Appends, or extends the last segment where `address` continues it and the sum stays within
   * `segmentBytesMax`. False when the list is full.
   */
  extend(address: number, length: number, segmentBytesMax: number): boolean {
    const last = this.count - 1;
    if (last >= 0 && this.addr[last] + this.len[last] === address) {
      const sum = this.len[last] + length;
      if (sum <= segmentBytesMax && sum <= SEGMENT_BYTES_MAX) {
        this.len[last] = sum;
        this.totalBytes += length;
        return true;
      }
    }
    return this.push(address, length);
  }
}
