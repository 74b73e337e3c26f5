/**
 * Mapping a request: every vector of its bios becomes DMA segments of the queue's initiator.
 *
 * Each vector is asked again, for this initiator, at this moment. That is the re-check that the
 * posted RFC lacked: an address derived for device A that a stacked queue hands to device B is
 * refused by its memory here, before the device can see it.
 *
 * Invariant: on failure nothing stays mapped.
 */

import type { Direction, InitiatorId, IoMemory } from "../memory/index.ts";
import { type Bio, NO_MEMORY } from "./bio.hot.ts";
import { IntegrityFlag } from "./integrity.ts";
import type { QueueLimits } from "./limits.ts";
import { directionOf } from "./operation.ts";
import type { Request } from "./request.hot.ts";
import { addSegments } from "./segments.hot.ts";
import { BlockStatus, blockStatusOfMap } from "./status.ts";

/** Fills `request.segments`. Returns a {@link BlockStatus}. */
export function mapRequest(request: Request, initiator: InitiatorId, limits: QueueLimits): number {
  const direction = directionOf(request.op);
  request.segments.clear();
  if (direction !== 0) {
    for (let bio = request.head; bio !== null; bio = bio.next) {
      const status = mapBio(request, bio, initiator, direction as Direction, limits);
      if (status !== BlockStatus.ok) {
        unmapRequest(request, initiator);
        return status;
      }
    }
  }
  if ((request.integrityFlags & IntegrityFlag.buffer) !== 0) {
    const status = mapMetadata(request, initiator, direction as Direction);
    if (status !== BlockStatus.ok) {
      unmapRequest(request, initiator);
      return status;
    }
  }
  request.isMapped = true;
  return BlockStatus.ok;
}

function mapMetadata(request: Request, initiator: InitiatorId, direction: Direction): number {
  const { metadataMemory, metadataOffset, metadataBytes } = request;
  const dma = metadataMemory.map(initiator, metadataOffset, metadataBytes, direction);
  if (dma < 0) return blockStatusOfMap(-dma);
  request.metadataAddress = dma;
  if (metadataMemory.needsUnmap) remember(request, metadataMemory, dma, metadataBytes);
  return BlockStatus.ok;
}

function remember(request: Request, memory: IoMemory, dma: number, length: number): void {
  const at = request.unmapCount++;
  request.unmapMemories[at] = memory;
  request.unmapAddresses[at] = dma;
  request.unmapLengths[at] = length;
}

function mapBio(
  request: Request,
  bio: Bio,
  initiator: InitiatorId,
  direction: Direction,
  limits: QueueLimits,
): number {
  let index = bio.vecBase + bio.vecIndex;
  let done = bio.vecDone;
  let left = bio.sizeBytes;
  while (left > 0) {
    const length = Math.min(bio.lengths[index] - done, left);
    const memory = bio.memories[index];
    const dma = memory.map(initiator, bio.offsets[index] + done, length, direction);
    if (dma < 0) return blockStatusOfMap(-dma);
    if (memory.needsUnmap) remember(request, memory, dma, length);
    if (!addSegments(request.segments, dma, length, limits)) return BlockStatus.invalid;
    left -= length;
    index++;
    done = 0;
  }
  return BlockStatus.ok;
}

/** Gives back what mapping took. Idempotent. */
export function unmapRequest(request: Request, initiator: InitiatorId): void {
  for (let i = 0; i < request.unmapCount; i++) {
    request.unmapMemories[i].unmap(initiator, request.unmapAddresses[i], request.unmapLengths[i]);
    request.unmapMemories[i] = NO_MEMORY;
  }
  request.unmapCount = 0;
  request.isMapped = false;
}
