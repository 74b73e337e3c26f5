/**
 * How much of a bio fits in one request. Walks the vectors on the addresses that the memories give
 * for limit arithmetic (their DMA addresses are not known yet), and answers with a byte count, so
 * that the same code serves host pages, DMA addresses and leases.
 *
 * Invariants: the answer is a multiple of the logical block and of the DMA alignment, or the whole
 * bio; the segments that it counts are an upper bound of those that mapping makes.
 */

import { assert } from "../core/index.ts";
import type { Bio } from "./bio.hot.ts";
import type { QueueLimits } from "./limits.ts";
import { BioOp, carriesData, SECTOR_BYTES } from "./operation.ts";
import { hasGap, maxSegmentBytesAt, offsetIn } from "./segments.hot.ts";
import { BlockStatus } from "./status.ts";

/** The address that is not known: a fragment's end moves when it is rounded to blocks. */
export const UNKNOWN_ADDRESS = -1;

/** What {@link findSplit} found; one per queue, overwritten by each call. */
export class SplitPoint {
  /** Bytes of the front part; all of the bio when it need not be split. */
  bytes = 0;
  /** Segments of the front part, at most. */
  segments = 0;
  /** Limit address of its first byte. */
  firstAddress = 0;
  /** Limit address after its last byte, or {@link UNKNOWN_ADDRESS}. */
  endAddress = 0;
}

/** Largest request for this operation, before chunks. */
function maxBytesOf(op: number, limits: QueueLimits): number {
  switch (op) {
    case BioOp.discard:
      return limits.maxDiscardBytes;
    case BioOp.writeZeroes:
      return limits.maxWriteZeroesBytes;
    case BioOp.verify:
      return limits.maxVerifyBytes;
    default:
      return limits.maxBytes;
  }
}

/** Bytes from `sector` to the next multiple of `chunkBytes`. */
export function bytesToChunkEnd(sector: number, chunkBytes: number): number {
  return chunkBytes - ((sector * SECTOR_BYTES) % chunkBytes);
}

/**
 * Finds the front part of `bio` that fits `limits`. Returns a {@link BlockStatus}: `invalid` when a
 * vector breaks the DMA alignment or not even one block fits.
 */
export function findSplit(bio: Bio, limits: QueueLimits, out: SplitPoint): number {
  let maxBytes = maxBytesOf(bio.op, limits);
  if (limits.chunkBytes > 0) {
    maxBytes = Math.min(maxBytes, bytesToChunkEnd(bio.sector, limits.chunkBytes));
  }
  out.segments = 0;
  out.firstAddress = UNKNOWN_ADDRESS;
  out.endAddress = UNKNOWN_ADDRESS;
  let bytes = 0;
  if (!carriesData(bio.op)) {
    bytes = Math.min(bio.sizeBytes, maxBytes);
  } else {
    bytes = fitSegments(bio, limits, maxBytes, out);
    if (bytes < 0) return BlockStatus.invalid;
  }
  if (bytes < bio.sizeBytes) {
    const granule = Math.max(limits.logicalBlockBytes, limits.dmaAlignment);
    bytes -= offsetIn(bytes, granule);
    if (bytes === 0) return BlockStatus.invalid;
    out.endAddress = UNKNOWN_ADDRESS;
  }
  out.bytes = bytes;
  return BlockStatus.ok;
}

/** Bytes of the vectors that fit; -1 when a vector breaks the DMA alignment. Fills segments and
 * addresses of `out`. */
function fitSegments(bio: Bio, limits: QueueLimits, maxBytes: number, out: SplitPoint): number {
  const alignMask = limits.dmaAlignment - 1;
  const { virtBoundary, maxSegments } = limits;
  const virtMask = virtBoundary > 0 ? virtBoundary - 1 : 0;
  let index = bio.vecBase + bio.vecIndex;
  const vecEnd = bio.vecBase + bio.vecCount;
  let done = bio.vecDone;
  let left = bio.sizeBytes;
  let bytes = 0;
  let segments = 0;
  let end = UNKNOWN_ADDRESS;
  scan: while (left > 0) {
    assert(index < vecEnd, "a bio's size is covered by its vectors");
    const length = Math.min(bio.lengths[index] - done, left);
    let at = bio.memories[index].limitAddress(bio.offsets[index] + done);
    if (((at | length) & alignMask) !== 0) return -1;
    if (end === UNKNOWN_ADDRESS) out.firstAddress = at;
    else if (hasGap(virtBoundary, end, at)) break;
    let rest = Math.min(length, maxBytes - bytes);
    while (rest > 0) {
      if (segments === maxSegments) break scan;
      const piece = Math.min(rest, maxSegmentBytesAt(limits, at));
      segments++;
      at += piece;
      bytes += piece;
      rest -= piece;
      end = at;
      // A device that allows no gaps takes no second segment after an unaligned end.
      if (rest > 0 && (at & virtMask) !== 0) break scan;
    }
    if (bytes === maxBytes) break;
    left -= length;
    index++;
    done = 0;
  }
  out.segments = segments;
  out.endAddress = end;
  return bytes;
}
