/**
 * ACS words in few characters: the bits that are set, by the specification's names (PCIe Base 6.x
 * section 7.7.11.3), or `clear`.
 */

import { hex } from "../core/index.ts";

const BITS: readonly (readonly [number, string])[] = [
  [0x01, "SV"],
  [0x02, "TB"],
  [0x04, "RR"],
  [0x08, "CR"],
  [0x10, "UF"],
  [0x20, "EC"],
  [0x40, "DT"],
];

/** Above them are bits of enhanced ACS, which no rule of Linux asks for. */
const NAMED = 0x7f;

/** `SV RR CR UF`, or `clear`; other bits as a number. */
export function formatAcsWord(word: number): string {
  const set = BITS.filter(([bit]) => (word & bit) !== 0).map(([, name]) => name);
  const rest = word & ~NAMED;
  if (rest !== 0) set.push(hex(rest));
  return set.length === 0 ? "clear" : set.join(" ");
}
