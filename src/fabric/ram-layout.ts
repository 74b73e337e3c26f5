/**
 * Where the simulated machine's RAM is: the ranges that the snapshot knows, or a plausible layout
 * (low memory below the 32-bit MMIO hole, the rest above 4 GiB), always clear of everything that
 * windows, BARs and bounded apertures claim.
 */

import { alignDown, alignUp, CHUNK_BYTES } from "../core/index.ts";
import type { Machine } from "../machine/index.ts";
import type { RamRange } from "./dram.ts";
import { INTERRUPT_WINDOW } from "./interrupt-window.ts";

const GIB = 2 ** 30;
/** Real machines keep firmware and legacy holes below this. */
const LOWEST = 16 * 2 ** 20;
/** Top of low memory on a machine whose 32-bit MMIO begins at 3 GiB. */
const LOW_TOP = 3 * GIB;
const HIGH_START = 4 * GIB;
/** Above this no RAM is placed: MMIO of large machines lies there. */
const HIGH_TOP = 2 ** 46;

/** RAM of `dramBytes` (rounded to 2 MiB) for the machine, lowest addresses first. */
export function layOutRam(machine: Machine, dramBytes: number): RamRange[] {
  const taken = mmioRanges(machine);
  const wished =
    machine.host.ram === null || machine.host.ram.length === 0
      ? [
          { base: LOWEST, limit: LOW_TOP },
          { base: HIGH_START, limit: HIGH_TOP },
        ]
      : machine.host.ram.map(({ base, limit }) => ({
          base: Math.max(base, LOWEST),
          limit: limit + 1,
        }));
  let left = alignUp(Math.max(dramBytes, CHUNK_BYTES), CHUNK_BYTES);
  const ranges: RamRange[] = [];
  for (const wish of wished.sort((a, b) => a.base - b.base)) {
    for (const free of without(wish, taken)) {
      const base = alignUp(free.base, CHUNK_BYTES);
      const limit = Math.min(alignDown(free.limit, CHUNK_BYTES), base + left);
      if (left <= 0 || base >= limit) continue;
      ranges.push({ base, limit });
      left -= limit - base;
    }
  }
  return ranges;
}

/** Everything that PCI claims, in CPU addresses, sorted. */
function mmioRanges(machine: Machine): RamRange[] {
  const ranges: RamRange[] = [{ ...INTERRUPT_WINDOW }];
  for (const { apertures, domain, bus, busEnd } of machine.hostBridges) {
    // A bounded aperture is MMIO from end to end; a catch-all one only where something claims.
    for (const { phys, sizeBytes } of apertures) {
      if (sizeBytes < 2 ** 46) ranges.push({ base: phys, limit: phys + sizeBytes });
    }
    const delta = apertures.find(({ sizeBytes }) => sizeBytes >= 2 ** 46);
    const offset = delta === undefined ? 0 : delta.bus - delta.phys;
    for (const fn of machine.functions) {
      const number = Math.floor(fn.bdf / 256);
      if (number < domain * 256 + bus || number > domain * 256 + busEnd) continue;
      for (const { kind, address, sizeBytes } of fn.bars) {
        if (kind === "io" || address === 0) continue;
        ranges.push({ base: address - offset, limit: address - offset + (sizeBytes ?? 2 ** 20) });
      }
      for (const window of [fn.bridge?.memory, fn.bridge?.prefetchable]) {
        if (window == null) continue;
        ranges.push({ base: window.base - offset, limit: window.limit + 1 - offset });
      }
    }
  }
  return ranges.sort((a, b) => a.base - b.base);
}

function without(whole: RamRange, taken: readonly RamRange[]): RamRange[] {
  const free: RamRange[] = [];
  let base = whole.base;
  for (const hole of taken) {
    if (hole.limit <= base) continue;
    if (hole.base >= whole.limit) break;
    if (hole.base > base) free.push({ base, limit: hole.base });
    base = Math.max(base, hole.limit);
  }
  if (base < whole.limit) free.push({ base, limit: whole.limit });
  return free;
}
