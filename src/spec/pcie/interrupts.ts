/**
 * Message-signalled interrupts: MSI (PCIe Base 6.0 section 7.7.1) and MSI-X (7.7.2), with the
 * layout of the MSI-X table in its BAR.
 *
 * Leaves out: extended message data.
 */

import { bit, field } from "../../core/index.ts";
import { readLe16, readLe32, writeLe16, writeLe32 } from "./config-bytes.ts";

/** Offsets in the MSI capability; data, mask and pending move up with 64-bit addresses. */
export const Msi = {
  control: 0x02,
  address: 0x04,
  addressUpper: 0x08,
  data32: 0x08,
  data64: 0x0c,
  mask32: 0x0c,
  mask64: 0x10,
} as const;

/** Message Control for MSI, 7.7.1.2. */
export const MsiControl = {
  enable: bit(0),
  multipleCapable: field(1, 3),
  multipleEnable: field(4, 3),
  address64: bit(7),
  perVectorMasking: bit(8),
} as const;

/** Offsets in the MSI-X capability. */
export const MsiX = { control: 0x02, table: 0x04, pendingBits: 0x08 } as const;
export const MSIX_BYTES = 12;

/** Message Control for MSI-X, 7.7.2.2. */
export const MsiXControl = {
  /** Vectors minus one. */
  tableSize: field(0, 11),
  functionMask: bit(14),
  enable: bit(15),
} as const;

/** BAR Indicator of the table and PBA registers; the rest is the offset. */
export const MSIX_BIR = field(0, 3);

/** One entry of the MSI-X table, 7.7.2.5. */
export const MsiXEntry = {
  bytes: 16,
  address: 0x00,
  addressUpper: 0x04,
  data: 0x08,
  vectorControl: 0x0c,
} as const;
export const MSIX_VECTOR_MASK = bit(0);

export interface MsiXRegisters {
  readonly offset: number;
  readonly vectors: number;
  readonly enabled: boolean;
  readonly tableBar: number;
  readonly tableOffset: number;
  readonly pbaBar: number;
  readonly pbaOffset: number;
}

/** Decodes the MSI-X capability at `offset`; null when the dump ends inside it. */
export function decodeMsiX(config: Uint8Array, offset: number): MsiXRegisters | null {
  if (offset + MSIX_BYTES > config.length) return null;
  const control = readLe16(config, offset + MsiX.control);
  const table = readLe32(config, offset + MsiX.table);
  const pba = readLe32(config, offset + MsiX.pendingBits);
  return {
    offset,
    vectors: MsiXControl.tableSize.get(control) + 1,
    enabled: MsiXControl.enable.get(control) === 1,
    tableBar: MSIX_BIR.get(table),
    tableOffset: (table & ~7) >>> 0,
    pbaBar: MSIX_BIR.get(pba),
    pbaOffset: (pba & ~7) >>> 0,
  };
}

/** Writes the capability's registers; the header is the caller's. */
export function encodeMsiX(config: Uint8Array, msix: MsiXRegisters): void {
  let control = readLe16(config, msix.offset + MsiX.control);
  control = MsiXControl.tableSize.set(control, msix.vectors - 1);
  control = MsiXControl.enable.set(control, msix.enabled ? 1 : 0);
  writeLe16(config, msix.offset + MsiX.control, control);
  writeLe32(config, msix.offset + MsiX.table, msix.tableOffset + msix.tableBar);
  writeLe32(config, msix.offset + MsiX.pendingBits, msix.pbaOffset + msix.pbaBar);
}
