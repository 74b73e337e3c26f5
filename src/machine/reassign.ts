/**
 * Gives every BAR below a root port (or of one function on a root bus) an address, and every bridge
 * on the way a window that covers them, as firmware and the kernel do: sizes from the bottom up,
 * addresses from the top down, largest alignment first.
 *
 * Two kinds of window: memory (below 4 GiB: 32-bit and non-prefetchable BARs) and prefetchable
 * (64-bit prefetchable BARs, where every bridge on the way has 64-bit windows). A kind whose BARs
 * are all in place stays untouched; a window that is large enough keeps its base.
 *
 * Invariants: BARs are naturally aligned, inside their bridge's window, and overlap nothing in use.
 * Leaves out: I/O space, hot-plug reserve, BAR resizing.
 */

import { type Bdf, formatBdf, PeerlaneError } from "../core/index.ts";
import { MEMORY_WINDOW_BYTES } from "../spec/pcie/index.ts";
import { busyIntervals, findHole, type Interval, physOfBus } from "./address-map.ts";
import { Layout, type WindowKind } from "./bar-layout.ts";
import type { Machine, PciFunction, Window } from "./snapshot.ts";
import { MachineIndex } from "./tree.ts";

export interface MovedBar {
  readonly bdf: Bdf;
  /** Index of the BAR; for VF BARs of an SR-IOV capability, `vf0` to `vf5`. */
  readonly bar: number | string;
  /** Bus addresses; 0 is none. */
  readonly from: number;
  readonly to: number;
  readonly sizeBytes: number;
}

export interface MovedWindow {
  readonly bdf: Bdf;
  readonly kind: WindowKind;
  readonly from: Window | null;
  readonly to: Window | null;
}

export interface ReassignReport {
  readonly moved: readonly MovedBar[];
  readonly windows: readonly MovedWindow[];
  /** What had to be taken for true; each is one sentence. */
  readonly assumed: readonly string[];
}

const KINDS: readonly WindowKind[] = ["memory", "prefetchable"];

/** Base for a kind's window: the present one if it is large enough, else a hole. */
function placeFor(
  index: MachineIndex,
  layout: Layout,
  kind: WindowKind,
  busy: readonly Interval[],
): number {
  const need = layout.need(kind);
  const top = index.functions[layout.top] as PciFunction;
  const present = kind === "memory" ? top.bridge?.memory : top.bridge?.prefetchable;
  const bridge = index.hostBridgeOf(layout.top);
  if (present != null && present.base % need.alignment === 0) {
    const start = physOfBus(bridge, present.base);
    const end = start + need.sizeBytes;
    const isFree = busy.every((taken) => taken.end <= start || taken.start >= end);
    const isInside = present.base + need.sizeBytes - 1 <= present.limit;
    if (isFree && isInside) return present.base;
  }
  const low = kind === "memory";
  const hole = findHole(index, bridge, busy, { ...need, low });
  if (hole.bus !== null) return hole.bus;
  const mib = (bytes: number): string => `${Math.floor(bytes / MEMORY_WINDOW_BYTES)} MiB`;
  throw new PeerlaneError(
    "aperture-too-small",
    `${mib(need.sizeBytes)} of ${kind} space aligned to ${mib(need.alignment)} are needed, ` +
      `the largest hole has ${mib(hole.largestBytes)}`,
    {
      place: formatBdf(top.bdf),
      remedy: low
        ? "make the BAR 64-bit and prefetchable, so that it can lie above 4 GiB"
        : "make the BAR smaller, or give the machine's iomem, which tells the apertures",
      details: { ...need, kind, largestBytes: hole.largestBytes },
    },
  );
}

function compare(
  before: readonly PciFunction[],
  after: readonly PciFunction[],
): { moved: MovedBar[]; windows: MovedWindow[] } {
  const moved: MovedBar[] = [];
  const windows: MovedWindow[] = [];
  before.forEach((old, i) => {
    const fn = after[i] as PciFunction;
    if (old === fn) return;
    const pairs: [number | string, PciFunction["bars"], PciFunction["bars"]][] = [
      ["", old.bars, fn.bars],
      ["vf", old.sriov?.bars ?? [], fn.sriov?.bars ?? []],
    ];
    for (const [prefix, from, to] of pairs) {
      from.forEach((bar, k) => {
        const now = to[k];
        if (now === undefined || now.address === bar.address) return;
        moved.push({
          bdf: fn.bdf,
          bar: prefix === "" ? bar.index : `${prefix}${bar.index}`,
          from: bar.address,
          to: now.address,
          sizeBytes: bar.sizeBytes ?? 0,
        });
      });
    }
    for (const kind of KINDS) {
      const from = old.bridge?.[kind] ?? null;
      const to = fn.bridge?.[kind] ?? null;
      if (from?.base === to?.base && from?.limit === to?.limit) continue;
      windows.push({ bdf: fn.bdf, kind, from, to });
    }
  });
  return { moved, windows };
}

/**
 * Recomputes BAR addresses and bridge windows of everything below the root port above `bdf` (or of
 * the function alone, when it sits on a root bus) and reports what moved.
 * @throws PeerlaneError `aperture-too-small` when it does not fit, `bar-size-unknown` when the dump
 * does not tell how large a BAR is that must move, `no-such-function`
 */
export function reassignWindows(
  machine: Machine,
  bdf: Bdf,
): { readonly machine: Machine; readonly report: ReassignReport } {
  const index = new MachineIndex(machine);
  const layout = new Layout(index, index.topOf(index.requireIndex(bdf)));
  const assumed: string[] = [];
  const moving = layout.movingKinds();
  let busy = busyIntervals(index, layout.members);
  for (const kind of KINDS) {
    // A kind that stays is in the way of the other one.
    if (!moving.includes(kind)) busy = [...busy, ...layout.extents(kind)];
  }
  busy = busy.toSorted((a, b) => a.start - b.start);
  for (const kind of moving) {
    const present = index.functions[layout.top]?.bridge?.[kind]?.base;
    const base = layout.need(kind).sizeBytes === 0 ? 0 : placeFor(index, layout, kind, busy);
    layout.assign(kind, base);
    busy = [...busy, ...layout.extents(kind)].toSorted((a, b) => a.start - b.start);
    assumed.push(...layout.assumed[kind]);
    if (base !== 0 && base !== present && machine.host.ram === null) {
      assumed.push(`RAM ranges are unknown: ${kind} space was placed clear of devices only`);
    }
  }
  const functions = layout.functions();
  const { moved, windows } = compare(machine.functions, functions);
  return { machine: { ...machine, functions }, report: { moved, windows, assumed } };
}
