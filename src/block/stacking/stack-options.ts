/**
 * What a stacked queue is made from: how it inherits the features of its legs, and the checks that
 * all kinds share.
 */

import { UsageError } from "../../core/index.ts";
import { QueueLimits, stackLimits } from "../limits.ts";
import { QueueFeature } from "../operation.ts";
import type { BlockQueue } from "../queue.hot.ts";

/**
 * Which features a stacked queue has of those that all its legs have.
 *
 * - `all`: every one; dma-direct among them, since each leg maps for its own device.
 * - `linux`: all but dma-direct. BLK_FEAT_PCI_P2PDMA is not in BLK_FEAT_INHERIT_MASK (Linux 6.11 to
 *   7.1), so md, dm and the NVMe multipath head lack it whatever their legs can do.
 */
export type FeatureInheritance = "all" | "linux";

export interface StackOptions {
  readonly name?: string;
  /** Default `all`. */
  readonly inherit?: FeatureInheritance;
  /**
   * Parts under way at once, over all bios. A bio that finds none waits, in order. Default 256.
   */
  readonly parts?: number;
}

const STACK_PARTS = 256;

/** Refuses with `bad-stack`. */
export function badStack(what: string, remedy: string, details = {}): never {
  throw new UsageError("bad-stack", `stacked queue: ${what}`, { remedy, details });
}

/**
 * Limits of the whole, most restrictive first; `chunkBytes`: where it cuts by itself, 0: nowhere.
 * A leg's own chunks are not among them: they are in its own address space, where it cuts them.
 */
export function limitsOver(
  legs: readonly BlockQueue[],
  inherit: FeatureInheritance,
  chunkBytes: number,
): QueueLimits {
  const limits = stackLimits(legs.map((leg) => leg.limits));
  const lost = inherit === "linux" ? QueueFeature.dmaDirect : 0;
  return new QueueLimits({ ...limits, chunkBytes, features: limits.features & ~lost });
}

/** `options.parts`, checked: a flush takes one for each leg. */
export function partsOf(options: StackOptions, legs: number): number {
  const parts = options.parts ?? Math.max(STACK_PARTS, legs);
  if (!Number.isInteger(parts) || parts < legs) {
    badStack(`${parts} parts`, `give an integer of at least ${legs}, the number of legs`);
  }
  return parts;
}

/** Bytes of the smallest leg. */
export function smallestOf(legs: readonly BlockQueue[]): number {
  return Math.min(...legs.map(({ capacityBytes }) => capacityBytes));
}
