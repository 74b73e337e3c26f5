/**
 * Segment arithmetic on addresses of up to 52 bits: how long a segment may be at an address,
 * whether there is a gap between two; and how mapped bytes become segments of the list that a
 * driver gets.
 *
 * Everything takes the whole address. A 32-bit offset would be enough for gaps but wrong for
 * boundaries and sums, and a rule applied to an offset inside a vector instead of the address it
 * stands for forgets the boundary at the segment's start.
 */

import type { SegmentList } from "../dma/index.ts";
import { NO_BOUNDARY, type QueueLimits } from "./limits.ts";

/** `address` modulo `boundary`, a power of two up to 2^52. */
export function offsetIn(address: number, boundary: number): number {
  // `&` keeps the low 32 bits of a double exactly; above that, division by a power of two is exact.
  if (boundary <= 0x40000000) return address & (boundary - 1);
  return address - Math.floor(address / boundary) * boundary;
}

/** Bytes that one segment starting at `address` may have. */
export function maxSegmentBytesAt(limits: QueueLimits, address: number): number {
  if (limits.segmentBoundary === NO_BOUNDARY) return limits.maxSegmentBytes;
  const toBoundary = limits.segmentBoundary - offsetIn(address, limits.segmentBoundary);
  return Math.min(toBoundary, limits.maxSegmentBytes);
}

/** True when a segment that ends at `previousEnd` and one that starts at `next` leave a gap. */
export function hasGap(virtBoundary: number, previousEnd: number, next: number): boolean {
  return virtBoundary > 0 && ((previousEnd | next) & (virtBoundary - 1)) !== 0;
}

/**
 * Appends mapped bytes to `list`: joined to the last segment where they touch and limits allow, cut
 * where limits demand. The limits are applied to the real DMA addresses. False when the list is
 * full; what was added before stays.
 */
export function addSegments(
  list: SegmentList,
  address: number,
  length: number,
  limits: QueueLimits,
): boolean {
  const { addr, len } = list;
  let at = address;
  let left = length;
  const last = list.count - 1;
  if (last >= 0 && addr[last] + len[last] === at) {
    const grown = Math.min(len[last] + left, maxSegmentBytesAt(limits, addr[last]));
    const taken = grown - len[last];
    if (taken > 0) {
      len[last] = grown;
      list.totalBytes += taken;
      at += taken;
      left -= taken;
    }
  }
  while (left > 0) {
    const piece = Math.min(left, maxSegmentBytesAt(limits, at));
    if (!list.push(at, piece)) return false;
    at += piece;
    left -= piece;
  }
  return true;
}
