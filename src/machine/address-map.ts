/**
 * Which CPU addresses are in use, and where there is room: RAM, BARs and bridge windows of a
 * machine as sorted intervals, and the search for an aligned hole inside a host bridge's apertures.
 *
 * Invariants: intervals are half-open and in CPU addresses; bus addresses are translated by the
 * host bridge's apertures (identity outside of them). Where RAM is unknown, holes are sought only
 * where device memory already is, or above everything in use.
 */

import { ADDRESS_LIMIT, alignUp } from "../core/index.ts";
import { IDENTITY_APERTURE } from "./apertures.ts";
import { barSizeBound } from "./bar-bounds.ts";
import type { Aperture, HostBridge, PciFunction } from "./snapshot.ts";
import type { MachineIndex } from "./tree.ts";

const FOUR_GIB = 2 ** 32;
/** Interrupt controllers, firmware: nothing is placed from here to 4 GiB. */
const CHIPSET_BASE = 0xfec00000;
const LEGACY_END = 2 ** 20;
/** Where 64-bit windows go when neither RAM nor another window says what is taken. */
const HIGH_DEFAULT = 2 ** 40;

export interface Interval {
  readonly start: number;
  readonly end: number;
}

/** CPU address of a bus address below a host bridge. */
export function physOfBus(bridge: HostBridge | null, bus: number): number {
  for (const aperture of bridge?.apertures ?? []) {
    const offset = bus - aperture.bus;
    if (offset >= 0 && offset < aperture.sizeBytes) return aperture.phys + offset;
  }
  return bus;
}

/** Memory that a function decodes or forwards, in bus addresses. */
function rangesOf(index: MachineIndex, i: number): Interval[] {
  const fn = index.functions[i] as PciFunction;
  const ranges: Interval[] = [];
  for (const bar of fn.bars) {
    const size = bar.address === 0 ? null : barSizeBound(index, i, bar);
    if (size !== null && bar.kind !== "io") {
      ranges.push({ start: bar.address, end: bar.address + size });
    }
  }
  for (const bar of fn.sriov?.bars ?? []) {
    if (bar.address === 0 || bar.sizeBytes === null) continue;
    const all = bar.sizeBytes * (fn.sriov?.totalVfs ?? 0);
    ranges.push({ start: bar.address, end: bar.address + all });
  }
  for (const window of [fn.bridge?.memory, fn.bridge?.prefetchable]) {
    if (window != null && window.limit >= LEGACY_END) {
      ranges.push({ start: window.base, end: window.limit + 1 });
    }
  }
  return ranges;
}

/** Everything in use outside the functions in `except`, sorted and joined. */
export function busyIntervals(index: MachineIndex, except: ReadonlySet<number>): Interval[] {
  const busy: Interval[] = [
    { start: 0, end: LEGACY_END },
    { start: CHIPSET_BASE, end: FOUR_GIB },
  ];
  for (const { base, limit } of index.machine.host.ram ?? []) {
    busy.push({ start: base, end: limit + 1 });
  }
  for (let i = 0; i < index.count; i++) {
    if (except.has(i)) continue;
    const bridge = index.hostBridgeOf(i);
    for (const { start, end } of rangesOf(index, i)) {
      const phys = physOfBus(bridge, start);
      busy.push({ start: phys, end: phys + (end - start) });
    }
  }
  return joined(busy);
}

function joined(intervals: Interval[]): Interval[] {
  const sorted = intervals.toSorted((a, b) => a.start - b.start);
  const result: { start: number; end: number }[] = [];
  for (const { start, end } of sorted) {
    const last = result.at(-1);
    if (last !== undefined && start <= last.end) last.end = Math.max(last.end, end);
    else result.push({ start, end });
  }
  return result;
}

/** What is asked for. `low`: the bus address must be below 4 GiB. */
export interface Request {
  readonly sizeBytes: number;
  readonly alignment: number;
  readonly low: boolean;
}

/** The parts of the apertures that a request may use. */
function regionsFor(
  index: MachineIndex,
  bridge: HostBridge | null,
  busy: readonly Interval[],
  low: boolean,
): Aperture[] {
  const apertures = bridge?.apertures ?? [IDENTITY_APERTURE];
  const regions: Aperture[] = [];
  for (const aperture of apertures) {
    const from = low ? 0 : FOUR_GIB;
    const to = low ? FOUR_GIB : ADDRESS_LIMIT;
    const start = Math.max(aperture.bus, from);
    const end = Math.min(aperture.bus + aperture.sizeBytes, to);
    if (start >= end) continue;
    const phys = aperture.phys + (start - aperture.bus);
    regions.push({ phys, bus: start, sizeBytes: end - start });
  }
  const isAssumed = apertures.some(({ sizeBytes }) => sizeBytes === IDENTITY_APERTURE.sizeBytes);
  return isAssumed ? narrowed(index, regions, busy, low) : regions;
}

/** Apertures that nobody told: stay near device memory below 4 GiB, above everything beyond. */
function narrowed(
  index: MachineIndex,
  regions: readonly Aperture[],
  busy: readonly Interval[],
  low: boolean,
): Aperture[] {
  let floor: number;
  if (low) {
    floor = CHIPSET_BASE;
    for (let i = 0; i < index.count; i++) {
      for (const { start } of rangesOf(index, i)) {
        if (start >= LEGACY_END && start < floor) floor = start;
      }
    }
  } else {
    const top = busy.at(-1)?.end ?? 0;
    floor = Math.max(top, index.machine.host.ram === null && top <= FOUR_GIB ? HIGH_DEFAULT : 0);
  }
  return regions
    .filter((region) => region.phys + region.sizeBytes > floor)
    .map((region) => {
      const skip = Math.max(0, floor - region.phys);
      return {
        phys: region.phys + skip,
        bus: region.bus + skip,
        sizeBytes: region.sizeBytes - skip,
      };
    });
}

/** Where a request fits first: a bus address; or how large the largest hole was. */
export function findHole(
  index: MachineIndex,
  bridge: HostBridge | null,
  busy: readonly Interval[],
  request: Request,
): { readonly bus: number | null; readonly largestBytes: number } {
  let largestBytes = 0;
  for (const region of regionsFor(index, bridge, busy, request.low)) {
    const shift = region.bus - region.phys;
    const end = region.phys + region.sizeBytes;
    let cursor = region.phys;
    for (const taken of [...busy, { start: end, end }]) {
      if (taken.end <= cursor) continue;
      const holeEnd = Math.min(taken.start, end);
      largestBytes = Math.max(largestBytes, holeEnd - cursor);
      const bus = alignUp(cursor + shift, request.alignment);
      if (bus - shift + request.sizeBytes <= holeEnd) return { bus, largestBytes };
      if (taken.start >= end) break;
      cursor = taken.end;
    }
  }
  return { bus: null, largestBytes };
}
