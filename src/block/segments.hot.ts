/**
 * Segment arithmetic on addresses of up to 52 bits: how long a segment may be at an address, whether
 * there is a gap between two, whether two may be one. The list of DMA segments that a driver gets.
 *
 * Everything takes the whole address. A 32-bit offset would be enough for gaps but wrong for
 * boundaries and sums, and a rule applied to an offset inside a vector instead of the address it
 * stands for forgets the boundary at the segment's start.
 */

import { assert } from "../core/index.ts";
import type { QueueLimits } from "./limits.ts";

/** `address` modulo `boundary`, a power of two up to 2^52. */
export function offsetIn(address: number, boundary: number): number {
  // `&` keeps the low 32 bits of a double exactly; above that, division by a power of two is exact.
  if (boundary <= 0x40000000) return address & (boundary - 1);
  return address - Math.floor(address / boundary) * boundary;
}

/** Bytes that one segment starting at `address` may have. */
export function maxSegmentBytesAt(limits: QueueLimits, address: number): number {
  const toBoundary = limits.segmentBoundary - offsetIn(address, limits.segmentBoundary);
  return Math.min(toBoundary, limits.maxSegmentBytes);
}

/** True when a segment that ends at `previousEnd` and one that starts at `next` leave a gap. */
export function hasGap(virtBoundary: number, previousEnd: number, next: number): boolean {
  return virtBoundary > 0 && ((previousEnd | next) & (virtBoundary - 1)) !== 0;
}

/** True when (address1, length1) and (address2, length2) touch and no boundary lies in the sum. */
export function isMergeable(
  address1: number,
  length1: number,
  address2: number,
  length2: number,
  boundary: number,
): boolean {
  if (address1 + length1 !== address2) return false;
  return Math.floor(address1 / boundary) === Math.floor((address2 + length2 - 1) / boundary);
}

/** DMA segments of one request, in order: (address, length) in typed arrays. */
export class SegmentList {
  count = 0;
  readonly addresses: Float64Array;
  readonly lengths: Uint32Array;

  constructor(capacity: number) {
    assert(capacity > 0, "a segment list has room");
    this.addresses = new Float64Array(capacity);
    this.lengths = new Uint32Array(capacity);
  }

  get capacity(): number {
    return this.lengths.length;
  }

  clear(): void {
    this.count = 0;
  }

  /**
   * Appends mapped bytes: joined to the last segment where they touch and limits allow, cut where
   * limits demand. False when the list is full; what was added before stays.
   */
  add(address: number, length: number, limits: QueueLimits): boolean {
    const { addresses, lengths } = this;
    let at = address;
    let left = length;
    if (this.count > 0) {
      const last = this.count - 1;
      if (addresses[last] + lengths[last] === at) {
        const grown = Math.min(lengths[last] + left, maxSegmentBytesAt(limits, addresses[last]));
        const taken = grown - lengths[last];
        if (taken > 0) {
          lengths[last] = grown;
          at += taken;
          left -= taken;
        }
      }
    }
    while (left > 0) {
      if (this.count === lengths.length) return false;
      const piece = Math.min(left, maxSegmentBytesAt(limits, at));
      addresses[this.count] = at;
      lengths[this.count] = piece;
      this.count++;
      at += piece;
      left -= piece;
    }
    return true;
  }
}
