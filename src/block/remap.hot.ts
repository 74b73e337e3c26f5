/**
 * Moving a bio to another queue: what every stacked queue (linear, raid0, multipath) does with each
 * part that it hands to a leg. The check is made here and not when a vector is added, because the
 * target was not known then.
 *
 * A DMA address derived for one device must not reach another. Memories that can say so for free
 * are asked now; those whose mapping costs something are asked when the leg's own queue maps the
 * bio, which it does in any case. Either way the answer comes before the device sees an address.
 */

import type { Direction } from "../memory/index.ts";
import type { Bio } from "./bio.hot.ts";
import { BioFlag, directionOf, featuresNeeded, QueueFeature } from "./operation.ts";
import type { BlockQueue } from "./queue.hot.ts";
import { BlockStatus, blockStatusOfMap } from "./status.ts";

/**
 * Says whether `target` may take `bio` as it is. A {@link BlockStatus}: `notSupported` when the
 * target lacks a feature, `wrongInitiator`, `noRoute` or `revoked` when a vector is not for its
 * device.
 */
export function checkMove(bio: Bio, target: BlockQueue): number {
  const needed = featuresNeeded(bio.op);
  if ((target.features & needed) !== needed) return BlockStatus.notSupported;
  if ((bio.flags & BioFlag.dmaDirect) === 0) return BlockStatus.ok;
  if ((target.features & QueueFeature.dmaDirect) === 0) return BlockStatus.notSupported;
  const { initiator } = target;
  const direction = directionOf(bio.op);
  // A stacked target has no device of its own: it asks again for each of its legs.
  if (initiator === 0 || direction === 0) return BlockStatus.ok;
  let left = bio.sizeBytes;
  let done = bio.vecDone;
  for (let i = bio.vecBase + bio.vecIndex; left > 0; i++) {
    const length = Math.min(bio.lengths[i] - done, left);
    const memory = bio.memories[i];
    if (!memory.needsUnmap) {
      const dma = memory.map(initiator, bio.offsets[i] + done, length, direction as Direction);
      if (dma < 0) return blockStatusOfMap(-dma);
    }
    left -= length;
    done = 0;
  }
  return BlockStatus.ok;
}

/**
 * Moves `part`, a bio that its stacked queue owns (a clone, a fragment), to `sector` of `target`
 * and submits it there. When it may not go there it ends at once with the reason: like `submit`,
 * this ends it exactly once. Returns the {@link BlockStatus} of the check.
 */
export function remap(part: Bio, target: BlockQueue, sector: number): number {
  const status = checkMove(part, target);
  if (status === BlockStatus.ok) {
    part.sector = sector;
    target.submit(part);
  } else {
    part.begin();
    part.end(status);
  }
  return status;
}
