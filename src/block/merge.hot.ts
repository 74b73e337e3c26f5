/**
 * Joining a bio to a request that waits: at its back or at its front. Only reads and writes, of the
 * same flags, adjacent on the device, within all limits, with no gap where the device allows none.
 */

import type { Bio } from "./bio.hot.ts";
import type { QueueLimits } from "./limits.ts";
import { BioFlag, BioOp, MERGE_FLAGS, SECTOR_BYTES } from "./operation.ts";
import type { Request } from "./request.hot.ts";
import { hasGap } from "./segments.hot.ts";
import { type SplitPoint, UNKNOWN_ADDRESS } from "./split.hot.ts";

/** Joins `bio`, which fits whole as `point` says, to `request`. False when it may not. */
export function tryMerge(
  request: Request,
  bio: Bio,
  point: SplitPoint,
  limits: QueueLimits,
): boolean {
  if (request.isMapped) return false;
  if (request.op !== bio.op || (bio.op !== BioOp.read && bio.op !== BioOp.write)) return false;
  if (((request.flags | bio.flags) & BioFlag.noMerge) !== 0) return false;
  if (((request.flags ^ bio.flags) & MERGE_FLAGS) !== 0) return false;
  // Tags and buffers of two bios do not join; the queue sets integrity of bios without any later.
  if (bio.integrity !== null || request.tail?.integrity !== null) return false;
  const bytes = request.sizeBytes + bio.sizeBytes;
  if (bytes > limits.maxBytes) return false;
  if (request.segmentBound + point.segments > limits.maxSegments) return false;
  if (bio.sector === request.sector + request.sizeBytes / SECTOR_BYTES) {
    return mergeBack(request, bio, point, limits);
  }
  if (request.sector === bio.sector + bio.sizeBytes / SECTOR_BYTES) {
    return mergeFront(request, bio, point, limits);
  }
  return false;
}

/** A gap, or an end that is not known, where the device allows none. */
function mayNotTouch(virtBoundary: number, end: number, next: number): boolean {
  if (virtBoundary === 0) return false;
  return end === UNKNOWN_ADDRESS || hasGap(virtBoundary, end, next);
}

/** True when `bytes` from `sector` cross a chunk's end. */
function crossesChunk(sector: number, bytes: number, chunkBytes: number): boolean {
  if (chunkBytes === 0) return false;
  return ((sector * SECTOR_BYTES) % chunkBytes) + bytes > chunkBytes;
}

function mergeBack(request: Request, bio: Bio, point: SplitPoint, limits: QueueLimits): boolean {
  if (mayNotTouch(limits.virtBoundary, request.endAddress, point.firstAddress)) return false;
  const bytes = request.sizeBytes + bio.sizeBytes;
  if (crossesChunk(request.sector, bytes, limits.chunkBytes)) return false;
  (request.tail as Bio).next = bio;
  request.tail = bio;
  request.endAddress = point.endAddress;
  request.sizeBytes = bytes;
  request.segmentBound += point.segments;
  return true;
}

function mergeFront(request: Request, bio: Bio, point: SplitPoint, limits: QueueLimits): boolean {
  if (mayNotTouch(limits.virtBoundary, point.endAddress, request.firstAddress)) return false;
  const bytes = request.sizeBytes + bio.sizeBytes;
  if (crossesChunk(bio.sector, bytes, limits.chunkBytes)) return false;
  bio.next = request.head;
  request.head = bio;
  request.sector = bio.sector;
  request.firstAddress = point.firstAddress;
  request.sizeBytes = bytes;
  request.segmentBound += point.segments;
  return true;
}
