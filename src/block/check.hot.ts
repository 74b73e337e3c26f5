/**
 * What any queue, of a device or stacked, can say of a bio before it is cut: features, flush,
 * range, whole blocks. One place, so that a stacked queue refuses what its legs would, with the
 * same status, and never carries a bio beyond its end into the wrong leg.
 */

import type { Bio } from "./bio.hot.ts";
import type { QueueLimits } from "./limits.ts";
import { BioFlag, BioOp, featuresNeeded, QueueFeature, SECTOR_BYTES } from "./operation.ts";
import { offsetIn } from "./segments.hot.ts";
import { BlockStatus } from "./status.ts";

const CACHE_AND_FUA = QueueFeature.writeCache | QueueFeature.fua;

/**
 * A {@link BlockStatus}: `notSupported` for an operation, a flag or a memory that the queue has no
 * feature for, `invalid` for a range that is empty, no whole blocks, or beyond the end.
 */
export function checkBio(bio: Bio, limits: QueueLimits, capacityBytes: number): number {
  const { features } = limits;
  const needed = featuresNeeded(bio.op);
  if ((features & needed) !== needed) return BlockStatus.notSupported;
  if ((bio.flags & BioFlag.dmaDirect) !== 0 && (features & QueueFeature.dmaDirect) === 0) {
    return BlockStatus.notSupported;
  }
  // A cache that cannot be written through: FUA would be dropped in silence.
  if ((bio.flags & BioFlag.fua) !== 0 && (features & CACHE_AND_FUA) === QueueFeature.writeCache) {
    return BlockStatus.notSupported;
  }
  if (bio.op === BioOp.flush) {
    return bio.sizeBytes === 0 ? BlockStatus.ok : BlockStatus.invalid;
  }
  const start = bio.sector * SECTOR_BYTES;
  const block = limits.logicalBlockBytes;
  const isWhole = offsetIn(start, block) === 0 && offsetIn(bio.sizeBytes, block) === 0;
  if (bio.sizeBytes === 0 || !isWhole) return BlockStatus.invalid;
  const isInside = start >= 0 && start + bio.sizeBytes <= capacityBytes;
  return isInside ? BlockStatus.ok : BlockStatus.invalid;
}
