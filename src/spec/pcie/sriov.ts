/**
 * Single Root I/O Virtualization: how many virtual functions, where their requester ids and BARs
 * are. PCIe Base 6.0 section 9.3.3. And the Resizable BAR capabilities of physical and virtual
 * functions, sections 7.8.6 and 7.8.7.
 *
 * Leaves out: migration, page size negotiation (the system page size is taken as 4 KiB).
 */

import { assert, bit, field } from "../../core/index.ts";
import { type BarRegister, decodeBarRegisters, encodeBarRegister } from "./bars.ts";
import { readLe16, readLe32, writeLe16, writeLe32 } from "./config-bytes.ts";

/** Offsets in the SR-IOV extended capability. */
export const Sriov = {
  capabilities: 0x04,
  control: 0x08,
  status: 0x0a,
  initialVfs: 0x0c,
  totalVfs: 0x0e,
  numVfs: 0x10,
  dependencyLink: 0x12,
  firstVfOffset: 0x14,
  vfStride: 0x16,
  vfDeviceId: 0x1a,
  supportedPageSizes: 0x1c,
  systemPageSize: 0x20,
  vfBar0: 0x24,
  migrationState: 0x3c,
} as const;
export const SRIOV_BYTES = 0x40;
export const SRIOV_BARS = 6;

/** SR-IOV Control, 9.3.3.3. */
export const SriovControl = {
  vfEnable: bit(0),
  vfMemorySpaceEnable: bit(3),
  ariCapableHierarchy: bit(4),
} as const;

export interface SriovRegisters {
  readonly offset: number;
  readonly totalVfs: number;
  readonly numVfs: number;
  readonly firstVfOffset: number;
  readonly vfStride: number;
  readonly vfDeviceId: number;
  readonly vfEnable: boolean;
  /** VF BARs: BAR i of VF n starts at address + n * size. */
  readonly bars: readonly BarRegister[];
}

/** Decodes the capability at `offset`; null when the dump ends inside it. */
export function decodeSriov(config: Uint8Array, offset: number): SriovRegisters | null {
  if (offset + SRIOV_BYTES > config.length) return null;
  return {
    offset,
    totalVfs: readLe16(config, offset + Sriov.totalVfs),
    numVfs: readLe16(config, offset + Sriov.numVfs),
    firstVfOffset: readLe16(config, offset + Sriov.firstVfOffset),
    vfStride: readLe16(config, offset + Sriov.vfStride),
    vfDeviceId: readLe16(config, offset + Sriov.vfDeviceId),
    vfEnable: SriovControl.vfEnable.get(readLe16(config, offset + Sriov.control)) === 1,
    bars: decodeBarRegisters(config, offset + Sriov.vfBar0, SRIOV_BARS),
  };
}

/** Writes the facts; VF Memory Space Enable follows VF Enable. The header is the caller's. */
export function encodeSriov(config: Uint8Array, sriov: SriovRegisters): void {
  const at = sriov.offset;
  let control = readLe16(config, at + Sriov.control);
  if ((SriovControl.vfEnable.get(control) === 1) !== sriov.vfEnable) {
    control = SriovControl.vfEnable.set(control, sriov.vfEnable ? 1 : 0);
    control = SriovControl.vfMemorySpaceEnable.set(control, sriov.vfEnable ? 1 : 0);
  }
  writeLe16(config, at + Sriov.control, control);
  if (readLe16(config, at + Sriov.initialVfs) === 0) {
    writeLe16(config, at + Sriov.initialVfs, sriov.totalVfs);
  }
  writeLe16(config, at + Sriov.totalVfs, sriov.totalVfs);
  writeLe16(config, at + Sriov.numVfs, sriov.numVfs);
  writeLe16(config, at + Sriov.firstVfOffset, sriov.firstVfOffset);
  writeLe16(config, at + Sriov.vfStride, sriov.vfStride);
  writeLe16(config, at + Sriov.vfDeviceId, sriov.vfDeviceId);
  if (readLe32(config, at + Sriov.systemPageSize) === 0) {
    writeLe32(config, at + Sriov.supportedPageSizes, 1);
    writeLe32(config, at + Sriov.systemPageSize, 1);
  }
  for (const bar of sriov.bars) encodeBarRegister(config, at + Sriov.vfBar0 + 4 * bar.index, bar);
}

/** Offsets of the n-th register pair of a Resizable BAR capability, n from 0. */
export const ResizableBarOffset = {
  capability: (n: number): number => 4 + 8 * n,
  control: (n: number): number => 8 + 8 * n,
} as const;

/** Resizable BAR Control, 7.8.6.3. */
export const ResizableBarControl = {
  index: field(0, 3),
  /** Of the first control register: how many BARs the capability covers. */
  count: field(5, 3),
  /** Size is 1 MiB << n. */
  size: field(8, 6),
  /** Supported sizes 256 TiB (bit 16) to 8 EiB (bit 31). */
  supportedLarge: field(16, 16),
} as const;

const REBAR_UNIT = 2 ** 20;
const REBAR_MAX = 6;

export interface ResizableBarRegister {
  readonly index: number;
  readonly currentBytes: number;
  /** Ascending. Sizes of 2^52 bytes and above are left out: no address here can reach them. */
  readonly supportedBytes: readonly number[];
}

/** Bytes of a Resizable BAR capability over `count` BARs. */
export const resizableBarBytes = (count: number): number => 4 + 8 * count;

/** Decodes a (VF) Resizable BAR capability; null when the dump ends inside it. */
export function decodeResizableBars(
  config: Uint8Array,
  offset: number,
): ResizableBarRegister[] | null {
  if (offset + resizableBarBytes(1) > config.length) return null;
  const first = readLe32(config, offset + ResizableBarOffset.control(0));
  const count = Math.min(ResizableBarControl.count.get(first), REBAR_MAX);
  if (offset + resizableBarBytes(count) > config.length) return null;
  const bars: ResizableBarRegister[] = [];
  for (let n = 0; n < count; n++) {
    const capability = readLe32(config, offset + ResizableBarOffset.capability(n));
    const control = readLe32(config, offset + ResizableBarOffset.control(n));
    const large = ResizableBarControl.supportedLarge.get(control);
    const supportedBytes: number[] = [];
    for (let code = 0; code < 32; code++) {
      const isSupported = code < 28 ? (capability >>> (code + 4)) & 1 : (large >>> (code - 28)) & 1;
      if (isSupported === 1) supportedBytes.push(REBAR_UNIT * 2 ** code);
    }
    bars.push({
      index: ResizableBarControl.index.get(control),
      currentBytes: REBAR_UNIT * 2 ** Math.min(ResizableBarControl.size.get(control), 31),
      supportedBytes,
    });
  }
  return bars;
}

/** Writes the capability's registers; the header is the caller's. */
export function encodeResizableBars(
  config: Uint8Array,
  offset: number,
  bars: readonly ResizableBarRegister[],
): void {
  assert(bars.length <= REBAR_MAX, "a function has at most six BARs");
  bars.forEach((bar, n) => {
    let capability = readLe32(config, offset + ResizableBarOffset.capability(n)) & 0xf;
    let control = readLe32(config, offset + ResizableBarOffset.control(n));
    let large = ResizableBarControl.supportedLarge.get(control) & 0xfff0;
    for (const bytes of bar.supportedBytes) {
      const code = Math.round(Math.log2(bytes / REBAR_UNIT));
      if (code < 28) capability |= 1 << (code + 4);
      else large |= 1 << (code - 28);
    }
    control = ResizableBarControl.index.set(control, bar.index);
    control = ResizableBarControl.count.set(control, n === 0 ? bars.length : 0);
    control = ResizableBarControl.size.set(control, Math.log2(bar.currentBytes / REBAR_UNIT));
    control = ResizableBarControl.supportedLarge.set(control, large);
    writeLe32(config, offset + ResizableBarOffset.capability(n), capability >>> 0);
    writeLe32(config, offset + ResizableBarOffset.control(n), control);
  });
}
