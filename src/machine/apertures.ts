/**
 * Apertures of host bridges from what inputs tell in pieces: iomem and hardware descriptions tell
 * where the CPU sees a root bus, boot logs tell bus addresses too, BARs prove the difference of
 * both at one place. Joined, they are ranges with both addresses.
 */

import { ADDRESS_LIMIT } from "../core/index.ts";
import type { RootBusRange } from "./host-facts.ts";
import type { Aperture } from "./snapshot.ts";

/** Everything on the bus as the CPU sees it: what holds where no input tells apertures. */
export const IDENTITY_APERTURE: Aperture = { phys: 0, bus: 0, sizeBytes: ADDRESS_LIMIT };

const contains = (outer: RootBusRange, inner: RootBusRange): boolean =>
  outer.phys <= inner.phys && inner.phys + inner.sizeBytes <= outer.phys + outer.sizeBytes;

/** Apertures of one root bus; the identity where nothing is told. */
export function aperturesOf(
  ranges: readonly RootBusRange[],
  domain: number,
  bus: number,
): readonly Aperture[] {
  const own = ranges.filter((range) => range.domain === domain && range.rootBus === bus);
  const proven = own.filter((range) => range.bus !== null);
  const found: Aperture[] = [];
  for (const range of own) {
    // A piece inside a wider range lends it its offset and says nothing more.
    if (own.some((other) => other !== range && other.bus === null && contains(other, range))) {
      if (range.bus !== null) continue;
    }
    const proof = proven.find((piece) => contains(range, piece));
    const offset = proof === undefined ? 0 : proof.phys - (proof.bus as number);
    const busAddress = range.bus ?? range.phys - offset;
    const aperture = { phys: range.phys, bus: busAddress, sizeBytes: range.sizeBytes };
    const isThere = found.some(
      ({ phys, sizeBytes }) => phys === aperture.phys && sizeBytes === aperture.sizeBytes,
    );
    if (!isThere && busAddress >= 0) found.push(aperture);
  }
  return found.length === 0 ? [IDENTITY_APERTURE] : found.sort((a, b) => a.phys - b.phys);
}
