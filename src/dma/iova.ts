/**
 * The IOVA space of a domain: which addresses it may hand out.
 *
 * A DMA address in strict mode must reach the IOMMU. A switch forwards a TLP downwards when a
 * window of one of its ports claims the address, so IOVAs must not lie in any window or BAR; nor in
 * the interrupt range 0xfee00000-0xfeefffff, which the root complex claims (Intel SDM volume 3,
 * 11.11).
 *
 * Leaves out: 32-bit devices (`dma_mask`), which would need IOVAs below 4 GiB.
 */

import { alignDown, alignUp, assert, PAGE_SIZE, RangeAllocator } from "../core/index.ts";
import type { Machine } from "../machine/index.ts";

/** IOVAs are below 2^47: what VT-d and AMD-Vi offer with four levels, lower half. */
const IOVA_LIMIT = 2 ** 47;
/**
 * And above this, so that a stray null or a 32-bit truncation faults instead of hitting a buffer.
 */
const IOVA_BASE = 2 ** 32;

/** Both ends inclusive. */
export interface ReservedRange {
  readonly base: number;
  readonly limit: number;
}

/** Where bridges and BARs of the machine claim addresses. */
export function reservedRanges(machine: Machine | undefined): ReservedRange[] {
  const ranges: ReservedRange[] = [];
  for (const { bridge, bars } of machine?.functions ?? []) {
    if (bridge?.memory != null) ranges.push(bridge.memory);
    if (bridge?.prefetchable != null) ranges.push(bridge.prefetchable);
    for (const { kind, address, sizeBytes } of bars) {
      if (kind === "io" || address === 0) continue;
      ranges.push({ base: address, limit: address + (sizeBytes ?? PAGE_SIZE) - 1 });
    }
  }
  return ranges;
}

/** An allocator over [4 GiB, 2^47) without the reserved ranges. */
export function iovaSpace(reserved: readonly ReservedRange[]): RangeAllocator {
  const space = new RangeAllocator({
    base: IOVA_BASE / PAGE_SIZE,
    units: (IOVA_LIMIT - IOVA_BASE) / PAGE_SIZE,
    order: "highest",
    naturalAlignment: true,
  });
  for (const { from, to } of joined(reserved)) {
    const taken = space.reserve(from / PAGE_SIZE, (to - from) / PAGE_SIZE);
    assert(taken, "reserved ranges are disjoint once joined");
  }
  return space;
}

/** Page-aligned, clipped to the space, sorted and joined; `to` is exclusive. */
function joined(reserved: readonly ReservedRange[]): { from: number; to: number }[] {
  const clipped = reserved
    .map(({ base, limit }) => ({
      from: Math.max(IOVA_BASE, alignDown(base, PAGE_SIZE)),
      to: Math.min(IOVA_LIMIT, alignUp(limit + 1, PAGE_SIZE)),
    }))
    .filter(({ from, to }) => from < to)
    .sort((a, b) => a.from - b.from);
  const out: { from: number; to: number }[] = [];
  for (const range of clipped) {
    const last = out.at(-1);
    if (last !== undefined && range.from <= last.to) last.to = Math.max(last.to, range.to);
    else out.push(range);
  }
  return out;
}
