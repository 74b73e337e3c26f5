/**
 * ACS words in few characters: the bits that are set, by the specification's names (PCIe Base 6.x
 * section 7.7.11.3), or `clear`.
 */

const BITS: readonly (readonly [number, string])[] = [
  [0x01, "SV"],
  [0x02, "TB"],
  [0x04, "RR"],
  [0x08, "CR"],
  [0x10, "UF"],
  [0x20, "EC"],
  [0x40, "DT"],
];

/** `SV RR CR UF`, or `clear`. */
export function formatAcsWord(word: number): string {
  const set = BITS.filter(([bit]) => (word & bit) !== 0).map(([, name]) => name);
  return set.length === 0 ? "clear" : set.join(" ");
}
