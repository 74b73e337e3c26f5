/**
 * What a PCI-to-PCI bridge decodes: its I/O, memory and prefetchable windows. PCIe Base 6.0
 * sections 7.5.1.3.6 to 7.5.1.3.9; granularity 4 KiB for I/O, 1 MiB for memory.
 *
 * A window is closed (null) when base exceeds limit, and when an optional window (I/O,
 * prefetchable) reads zeros in both registers, which is how a bridge without it reads.
 */

import { readLe16, readLe32, writeLe16, writeLe32 } from "./config-bytes.ts";
import { BridgeHeader } from "./header.ts";

/** Both ends inclusive, bus addresses. */
export interface BridgeWindow {
  readonly base: number;
  readonly limit: number;
}

export interface BridgeWindows {
  readonly io: BridgeWindow | null;
  readonly memory: BridgeWindow | null;
  readonly prefetchable: BridgeWindow | null;
}

/** Granularity of memory windows, in bytes. */
export const MEMORY_WINDOW_BYTES = 2 ** 20;
/** Granularity of I/O windows, in bytes. */
export const IO_WINDOW_BYTES = 4096;
const TWO_32 = 2 ** 32;

function openWindow(base: number, limit: number): BridgeWindow | null {
  return base <= limit ? { base, limit } : null;
}

function decodeIo(config: Uint8Array): BridgeWindow | null {
  const base = config[BridgeHeader.ioBase] as number;
  const limit = config[BridgeHeader.ioLimit] as number;
  if (base === 0 && limit === 0) return null;
  const wide = (base & 0xf) === 1;
  const baseHigh = wide ? readLe16(config, BridgeHeader.ioBaseUpper) : 0;
  const limitHigh = wide ? readLe16(config, BridgeHeader.ioLimitUpper) : 0;
  return openWindow(
    baseHigh * 65_536 + ((base & 0xf0) << 8),
    limitHigh * 65_536 + ((limit & 0xf0) << 8) + (IO_WINDOW_BYTES - 1),
  );
}

function decodeMemory(config: Uint8Array): BridgeWindow | null {
  const base = readLe16(config, BridgeHeader.memoryBase) & 0xfff0;
  const limit = readLe16(config, BridgeHeader.memoryLimit) & 0xfff0;
  return openWindow(base * 65_536, limit * 65_536 + (MEMORY_WINDOW_BYTES - 1));
}

function decodePrefetchable(config: Uint8Array): BridgeWindow | null {
  const base = readLe16(config, BridgeHeader.prefetchableBase);
  const limit = readLe16(config, BridgeHeader.prefetchableLimit);
  if (base === 0 && limit === 0) return null;
  const wide = (base & 0xf) === 1;
  const baseHigh = wide ? readLe32(config, BridgeHeader.prefetchableBaseUpper) : 0;
  const limitHigh = wide ? readLe32(config, BridgeHeader.prefetchableLimitUpper) : 0;
  return openWindow(
    baseHigh * TWO_32 + (base & 0xfff0) * 65_536,
    limitHigh * TWO_32 + (limit & 0xfff0) * 65_536 + (MEMORY_WINDOW_BYTES - 1),
  );
}

/** The three windows of a type 1 header. Needs 64 bytes. */
export function decodeBridgeWindows(config: Uint8Array): BridgeWindows {
  return {
    io: decodeIo(config),
    memory: decodeMemory(config),
    prefetchable: decodePrefetchable(config),
  };
}

/** The part of `address` that a 16-bit window register holds: address bits 31:20. */
const windowBits = (address: number): number => Math.floor((address % TWO_32) / 65_536) & 0xfff0;

/**
 * Writes the three windows. I/O is written as 16-bit when it fits below 64 KiB, prefetchable as
 * 64-bit always, closed windows as base above limit.
 */
export function encodeBridgeWindows(config: Uint8Array, windows: BridgeWindows): void {
  const io = windows.io ?? { base: 0xf000, limit: 0x0fff };
  const wideIo = io.limit > 0xffff ? 1 : 0;
  config[BridgeHeader.ioBase] = ((io.base >>> 8) & 0xf0) | wideIo;
  config[BridgeHeader.ioLimit] = ((io.limit >>> 8) & 0xf0) | wideIo;
  writeLe16(config, BridgeHeader.ioBaseUpper, wideIo * Math.floor(io.base / 65_536));
  writeLe16(config, BridgeHeader.ioLimitUpper, wideIo * Math.floor(io.limit / 65_536));

  const memory = windows.memory ?? { base: 0xfff00000, limit: 0x000fffff };
  writeLe16(config, BridgeHeader.memoryBase, windowBits(memory.base));
  writeLe16(config, BridgeHeader.memoryLimit, windowBits(memory.limit));

  const prefetchable = windows.prefetchable ?? { base: 0xfff00000, limit: 0x000fffff };
  const { base, limit } = prefetchable;
  writeLe16(config, BridgeHeader.prefetchableBase, windowBits(base) | 1);
  writeLe16(config, BridgeHeader.prefetchableLimit, windowBits(limit) | 1);
  writeLe32(config, BridgeHeader.prefetchableBaseUpper, Math.floor(base / TWO_32));
  writeLe32(config, BridgeHeader.prefetchableLimitUpper, Math.floor(limit / TWO_32));
}
