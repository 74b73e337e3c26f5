/**
 * What the address registers of a function say now: the runs of bus addresses that its memory BARs
 * and its windows claim, whether or not decode is enabled.
 */

import type { PciFunction } from "../machine/index.ts";
import { barOffset, decodeBridgeWindows, ROM_BAR, readLe32 } from "../spec/pcie/index.ts";

/** A memory BAR as its register stands. `limit` is one past the last bus address. */
export interface LiveBar {
  readonly index: number;
  readonly base: number;
  readonly limit: number;
}

/** A bridge's open memory window; `limit` is one past the last bus address. */
export interface LiveWindow {
  readonly base: number;
  readonly limit: number;
}

/** Software probing a BAR's size leaves it at the top of its space: beyond any real address. */
const HIGH_HALF_LIMIT = 2 ** 20;

/**
 * BARs with an address. A VF's own read zero: its snapshot has what the PF's VF BARs make of them.
 */
export function liveBars(
  fn: PciFunction,
  config: Uint8Array,
  barSizes: readonly number[],
): LiveBar[] {
  const bars: LiveBar[] = [];
  for (const { index, kind, address } of fn.bars) {
    const sizeBytes = barSizes[index] ?? 0;
    if (kind === "io" || sizeBytes === 0 || index === ROM_BAR) continue;
    let base = address;
    if (fn.physicalFunction === null) {
      const at = barOffset(fn.headerType, index);
      const high = kind === "memory64" ? readLe32(config, at + 4) : 0;
      if (high >= HIGH_HALF_LIMIT) continue;
      base = ((readLe32(config, at) & ~0xf) >>> 0) + high * 2 ** 32;
    }
    if (base > 0) bars.push({ index, base, limit: base + sizeBytes });
  }
  return bars;
}

/** The windows that are open. A window from address 0 is one that nobody has set. */
export function liveWindows(config: Uint8Array): LiveWindow[] {
  const { memory, prefetchable } = decodeBridgeWindows(config);
  return [memory, prefetchable].flatMap((window) =>
    window === null || window.base === 0 ? [] : [{ base: window.base, limit: window.limit + 1 }],
  );
}
