/**
 * Base address registers: how they encode kind and address. PCIe Base 6.0 section 7.5.1.2.1.
 *
 * Sizes are not in the registers: software finds them by writing all ones ({@link sizingMask} is
 * what a device then answers). A register that reads zero is either not implemented or a 32-bit
 * memory BAR without an address; it is not reported, as no reader of a dump could tell.
 */

import { assert, joinHalves } from "../../core/index.ts";
import { readLe32, writeLe32 } from "./config-bytes.ts";
import { BridgeHeader, Header, HeaderType } from "./header.ts";

export type BarKind = "memory32" | "memory64" | "io";

/** Index under which the expansion ROM is listed. */
export const ROM_BAR = 6;
const ROM_ENABLE = 1;
const ROM_ADDRESS = 0xfffff800;

/** One base address register, or a pair for 64 bits. */
export interface BarRegister {
  /** 0 to 5, of the low half; 6 is the expansion ROM. */
  readonly index: number;
  readonly kind: BarKind;
  readonly prefetchable: boolean;
  /** Bus address. Inexact at and above 2^53: check with `isAddress` before use. */
  readonly address: number;
  /** The ROM's own enable bit; true for the others. */
  readonly decodes: boolean;
}

/** How many base address registers the header type has: 6, 2 or none. */
export function barCount(headerType: number): number {
  if (headerType === HeaderType.endpoint) return 6;
  return headerType === HeaderType.bridge ? 2 : 0;
}

/** Where the register of BAR `index` is; -1 when the header type has none. */
export function barOffset(headerType: number, index: number): number {
  if (index === ROM_BAR) {
    if (headerType === HeaderType.endpoint) return Header.expansionRom;
    return headerType === HeaderType.bridge ? BridgeHeader.expansionRom : -1;
  }
  return index < barCount(headerType) ? Header.bar0 + 4 * index : -1;
}

/**
 * Decodes `count` registers from `offset` on: the header's, or those of an SR-IOV capability.
 * A 64-bit type in the last register is malformed; it is taken for 32 bits.
 */
export function decodeBarRegisters(
  config: Uint8Array,
  offset: number,
  count: number,
): BarRegister[] {
  const bars: BarRegister[] = [];
  for (let index = 0; index < count; index++) {
    const low = readLe32(config, offset + 4 * index);
    if (low === 0) continue;
    if ((low & 1) === 1) {
      const address = (low & ~3) >>> 0;
      bars.push({ index, kind: "io", prefetchable: false, address, decodes: true });
      continue;
    }
    const prefetchable = (low & 8) !== 0;
    const address = (low & ~15) >>> 0;
    if ((low & 6) !== 4 || index + 1 >= count) {
      bars.push({ index, kind: "memory32", prefetchable, address, decodes: true });
      continue;
    }
    const full = joinHalves(address, readLe32(config, offset + 4 * (index + 1)));
    bars.push({ index, kind: "memory64", prefetchable, address: full, decodes: true });
    index++;
  }
  return bars;
}

/** All base address registers of a header, the expansion ROM last. */
export function decodeHeaderBars(config: Uint8Array, headerType: number): BarRegister[] {
  const bars = decodeBarRegisters(config, Header.bar0, barCount(headerType));
  const romOffset = barOffset(headerType, ROM_BAR);
  const rom = romOffset >= 0 ? readLe32(config, romOffset) : 0;
  if (rom !== 0 && rom !== 0xffffffff) {
    const address = (rom & ROM_ADDRESS) >>> 0;
    const decodes = (rom & ROM_ENABLE) !== 0;
    bars.push({ index: ROM_BAR, kind: "memory32", prefetchable: false, address, decodes });
  }
  return bars;
}

/** The low bits of the register of a BAR of this kind. */
export function barTypeBits(kind: BarKind, prefetchable: boolean): number {
  if (kind === "io") return 1;
  return (kind === "memory64" ? 4 : 0) | (prefetchable ? 8 : 0);
}

/** Writes one register (two for 64 bits) at `offset`, which is that of this BAR. */
export function encodeBarRegister(config: Uint8Array, offset: number, bar: BarRegister): void {
  if (bar.index === ROM_BAR) {
    writeLe32(config, offset, bar.address + (bar.decodes ? ROM_ENABLE : 0));
    return;
  }
  assert(bar.address % 16 === 0 || bar.kind === "io", "a memory BAR is 16-byte aligned");
  const low = (bar.address % 2 ** 32) + barTypeBits(bar.kind, bar.prefetchable);
  writeLe32(config, offset, low);
  if (bar.kind === "memory64") writeLe32(config, offset + 4, Math.floor(bar.address / 2 ** 32));
}

/**
 * What a BAR of `sizeBytes` reads after all ones were written: low and high half.
 * @param sizeBytes a power of two
 */
export function sizingMask(
  kind: BarKind,
  prefetchable: boolean,
  sizeBytes: number,
): { lo: number; hi: number } {
  assert(sizeBytes > 0 && Number.isInteger(Math.log2(sizeBytes)), "BAR sizes are powers of two");
  const bits = barTypeBits(kind, prefetchable);
  const lo = sizeBytes >= 2 ** 32 ? 0 : (2 ** 32 - sizeBytes) >>> 0;
  const hi = sizeBytes > 2 ** 32 ? (2 ** 32 - sizeBytes / 2 ** 32) >>> 0 : 0xffffffff;
  return { lo: (lo | bits) >>> 0, hi: kind === "memory64" ? hi : 0 };
}
