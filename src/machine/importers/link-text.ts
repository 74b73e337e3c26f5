/** Links as Linux and the tools that read its sysfs print them: `16.0 GT/s PCIe` and `16`. */

import type { LinkFacts } from "../snapshot.ts";

/** Gigatransfers per second by generation, PCIe Base 7.0 section 1.2. */
const GENERATIONS = new Map([
  [2.5, 1],
  [5, 2],
  [8, 3],
  [16, 4],
  [32, 5],
  [64, 6],
  [128, 7],
]);

/** Null when the text tells none: `Unknown`, an empty string, width 0 or 255 (no link). */
export function parseLink(speed: string | undefined, width: string | undefined): LinkFacts | null {
  const generation = GENERATIONS.get(Number.parseFloat(speed ?? ""));
  const lanes = Number.parseInt(width ?? "", 10);
  if (generation === undefined || !(lanes > 0 && lanes <= 32)) return null;
  return { generation, width: lanes };
}
