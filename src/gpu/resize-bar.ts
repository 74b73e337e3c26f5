/**
 * Changing the size of a resizable BAR from its driver: PCI Express Base 6.x, 7.8.6. Decode is off
 * while the size changes, as the specification asks, and the new size is read back.
 *
 * A driver sees one function, not the bridges above it, so a BAR grows to at most what it had when
 * the driver found it: that range is the BAR's own for certain. Growing beyond that is firmware's
 * (or an edit of the snapshot, which places windows anew).
 */

import type { BackingFunction } from "../backing/interface.ts";
import { formatBdf, formatBytes, PeerlaneError } from "../core/index.ts";
import {
  CONFIG_PCIE_BYTES,
  Command,
  decodeResizableBars,
  ExtendedId,
  findExtendedCapability,
  Header,
  ResizableBarControl,
  ResizableBarOffset,
} from "../spec/pcie/index.ts";

const UNIT = 2 ** 20;

function readConfig({ config }: BackingFunction): Uint8Array {
  const bytes = new Uint8Array(CONFIG_PCIE_BYTES);
  const view = new DataView(bytes.buffer);
  for (let at = 0; at < bytes.length; at += 4) view.setUint32(at, config.read32(at), true);
  return bytes;
}

/** Sizes that the BAR can have, ascending; empty when it is not resizable. */
export function barSizesOffered(fn: BackingFunction, bar: number): readonly number[] {
  const bytes = readConfig(fn);
  const at = findExtendedCapability(bytes, ExtendedId.resizableBar);
  const bars = at === 0 ? null : decodeResizableBars(bytes, at);
  return bars?.find(({ index }) => index === bar)?.supportedBytes ?? [];
}

/**
 * Gives the BAR another size. `mostBytes`: what certainly is its own. Throws `gpu-bar-size` when
 * the BAR does not offer it, it is too large, or the device did not take it.
 */
export function resizeBar(
  fn: BackingFunction,
  bar: number,
  sizeBytes: number,
  mostBytes: number,
): void {
  const bytes = readConfig(fn);
  const at = findExtendedCapability(bytes, ExtendedId.resizableBar);
  const bars = at === 0 ? [] : (decodeResizableBars(bytes, at) ?? []);
  const n = bars.findIndex(({ index }) => index === bar);
  const offered = bars[n]?.supportedBytes ?? [];
  if (!offered.includes(sizeBytes) || sizeBytes > mostBytes) {
    throw refusal(fn, bar, sizeBytes, offered.filter((size) => size <= mostBytes).map(formatBytes));
  }
  const { config } = fn;
  const command = config.read16(Header.command);
  config.write16(Header.command, command & ~Command.memorySpaceEnable.bits);
  const control = at + ResizableBarOffset.control(n);
  const code = Math.log2(sizeBytes / UNIT);
  config.write32(control, ResizableBarControl.size.set(config.read32(control), code));
  const taken = ResizableBarControl.size.get(config.read32(control)) === code;
  config.write16(Header.command, command);
  if (taken && fn.barAddress(bar)?.sizeBytes === sizeBytes) return;
  throw refusal(fn, bar, sizeBytes, []);
}

function refusal(
  fn: BackingFunction,
  bar: number,
  sizeBytes: number,
  offered: readonly string[],
): PeerlaneError {
  const size = formatBytes(sizeBytes);
  return new PeerlaneError("gpu-bar-size", `BAR${bar} cannot be ${size} here`, {
    place: `${formatBdf(fn.bdf)} BAR${bar}`,
    remedy:
      offered.length > 0
        ? `choose one of ${offered.join(", ")}; larger ones are set in firmware`
        : "it is not resizable, or the device did not take the size",
    details: { sizeBytes },
  });
}
