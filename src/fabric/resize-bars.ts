/**
 * Resizable BARs: what a write to BAR Size makes of a function's BARs. PCI Express Base 6.x, 7.8.6.
 *
 * Software clears Memory Space Enable before it writes the field (7.8.6.3). What happens else, and
 * with a size that the capability does not offer, the specification leaves open: here the field
 * goes back to what it was, so that a driver that forgets finds out when it reads the field.
 */

import {
  barOffset,
  decodeResizableBars,
  ExtendedId,
  findExtendedCapability,
  ResizableBarControl,
  ResizableBarOffset,
  readLe32,
  writeLe32,
} from "../spec/pcie/index.ts";
import type { DeviceModel } from "./device.ts";

/** A function as resizing sees it. */
export interface ResizableFunction {
  readonly fn: { readonly headerType: number };
  readonly config: { readonly bytes: Uint8Array };
  readonly barSizes: number[];
  readonly isMemorySpaceEnabled: boolean;
  readonly model: DeviceModel | null;
}

const UNIT = 2 ** 20;

/** Takes the sizes that the registers hold now. True when a BAR got another one. */
export function resizeBars(node: ResizableFunction): boolean {
  const { bytes } = node.config;
  const at = findExtendedCapability(bytes, ExtendedId.resizableBar);
  const registers = at === 0 ? null : decodeResizableBars(bytes, at);
  let changed = false;
  for (const [n, { index, currentBytes, supportedBytes }] of (registers ?? []).entries()) {
    const before = node.barSizes[index] ?? 0;
    if (currentBytes === before || before === 0) continue;
    const model = node.model;
    const isTaken = !node.isMemorySpaceEnabled && supportedBytes.includes(currentBytes);
    if (!isTaken || model?.barResized === undefined) {
      const control = at + ResizableBarOffset.control(n);
      const code = Math.max(0, Math.round(Math.log2(before / UNIT)));
      writeLe32(bytes, control, ResizableBarControl.size.set(readLe32(bytes, control), code));
      continue;
    }
    node.barSizes[index] = currentBytes;
    clearLowBits(bytes, barOffset(node.fn.headerType, index), currentBytes);
    model.barResized(index, currentBytes);
    changed = true;
  }
  return changed;
}

/** Address bits below the new size read zero. */
function clearLowBits(bytes: Uint8Array, at: number, sizeBytes: number): void {
  const low = readLe32(bytes, at);
  const lowMask = sizeBytes >= 2 ** 32 ? 0 : ~(sizeBytes - 1) >>> 0;
  writeLe32(bytes, at, ((low & lowMask) | (low & 0xf)) >>> 0);
  if ((low & 6) !== 4 || sizeBytes <= 2 ** 32) return;
  const highMask = ~(sizeBytes / 2 ** 32 - 1) >>> 0;
  writeLe32(bytes, at + 4, (readLe32(bytes, at + 4) & highMask) >>> 0);
}
