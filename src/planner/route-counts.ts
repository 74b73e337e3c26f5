/** How many pairs the kernel lets go which way, and the words for it. */

import { formatCount, type Paint, PLAIN } from "../core/index.ts";
import { MapType } from "../p2p/index.ts";

export interface RouteCounts {
  /** By bus address. */
  direct: number;
  /** Through the host bridge. */
  through: number;
  refused: number;
}

/** Counts one pair. */
export function countRoute(counts: RouteCounts, mapType: MapType): void {
  if (mapType === MapType.busAddr) counts.direct++;
  else if (mapType === MapType.thruHostBridge) counts.through++;
  else counts.refused++;
}

/** `3 direct, 2 refused`: the kinds that occur. */
export function routeSummary(
  { direct, through, refused }: RouteCounts,
  paint: Paint = PLAIN,
): string {
  const parts = [
    direct === 0 ? "" : paint.good(`${formatCount(direct)} direct`),
    through === 0 ? "" : paint.warn(`${formatCount(through)} through the host bridge`),
    refused === 0 ? "" : paint.bad(`${formatCount(refused)} refused`),
  ];
  return parts.filter((part) => part !== "").join(", ");
}
