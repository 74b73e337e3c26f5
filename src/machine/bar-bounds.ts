/**
 * How large a BAR can be at most where the dump does not tell its size: hex dumps never do. A bound
 * is not a size: it may serve to keep things apart, never to claim memory.
 *
 * A BAR is naturally aligned, ends inside its bridge's window, and overlaps nothing that is decoded
 * on its bus.
 */

import { bdfBus, bdfDomain } from "../core/index.ts";
import type { Bar, PciFunction, Window } from "./snapshot.ts";
import { type MachineIndex, NONE } from "./tree.ts";

/** The largest power of two that divides `address`. */
function alignmentOf(address: number): number {
  let alignment = 1;
  while (alignment < address && address % (alignment * 2) === 0) alignment *= 2;
  return alignment;
}

function windowsOf(fn: PciFunction | undefined): Window[] {
  const bridge = fn?.bridge;
  if (bridge == null) return [];
  return [bridge.memory, bridge.prefetchable].filter((window) => window !== null);
}

/**
 * An upper bound, a power of two, for the size of a memory BAR of function `i`; its size where
 * known; null for I/O BARs and for BARs without an address.
 */
export function barSizeBound(index: MachineIndex, i: number, bar: Bar): number | null {
  if (bar.sizeBytes !== null) return bar.sizeBytes;
  if (bar.kind === "io" || bar.address === 0) return null;
  const fn = index.functions[i] as PciFunction;
  let end = bar.address + alignmentOf(bar.address);
  const above = index.parentOf(i);
  if (above !== NONE) {
    for (const { base, limit } of windowsOf(index.functions[above])) {
      if (base <= bar.address && bar.address <= limit) end = Math.min(end, limit + 1);
    }
  }
  for (const j of index.functionsOnBus(bdfDomain(fn.bdf), bdfBus(fn.bdf))) {
    const other = index.functions[j] as PciFunction;
    const starts = [
      ...other.bars.filter(({ kind }) => kind !== "io").map(({ address }) => address),
      ...windowsOf(other).map(({ base }) => base),
    ];
    for (const start of starts) if (start > bar.address) end = Math.min(end, start);
  }
  return 2 ** Math.floor(Math.log2(end - bar.address));
}
