/**
 * How the NVMe structures in memory are written down: a record of fields, each of which knows its
 * offset and width and reads and writes itself in a DataView, little-endian (NVM Express Base 2.0,
 * section 1.8): `IdCtrl.MDTS.get(view)`, typed and checked by the compiler. The same record also
 * makes the table (core/layout.ts) that prints, documents and fuzzes the structure.
 *
 * For the control plane: Identify data, log pages. The per-I/O structures (SQE, CQE, PRP, SGL) are
 * plain offset constants in entries.ts and dptr.ts.
 */

import {
  assert,
  defineLayout,
  getAscii,
  getU64LE,
  type Layout,
  type LayoutField,
  type LayoutKind,
  setAscii,
  setU64LE,
  viewOf,
} from "../../core/index.ts";

/** An unsigned little-endian integer of 1, 2, 3, 4, 8 or 16 bytes, as a number below 2^53. */
export class UintField {
  readonly offset: number;
  readonly bytes: number;
  readonly text: string;

  constructor(offset: number, bytes: number, text: string) {
    this.offset = offset;
    this.bytes = bytes;
    this.text = text;
  }

  /** Values of 2^53 and above lose their low bits (16-byte fields: the high half is ignored). */
  get(view: DataView, base = 0): number {
    const at = base + this.offset;
    switch (this.bytes) {
      case 1:
        return view.getUint8(at);
      case 2:
        return view.getUint16(at, true);
      case 3:
        return view.getUint16(at, true) + view.getUint8(at + 2) * 65_536;
      case 4:
        return view.getUint32(at, true);
      default:
        return getU64LE(view, at);
    }
  }

  set(view: DataView, value: number, base = 0): void {
    const at = base + this.offset;
    switch (this.bytes) {
      case 1:
        view.setUint8(at, value);
        return;
      case 2:
        view.setUint16(at, value, true);
        return;
      case 3:
        view.setUint16(at, value & 0xffff, true);
        view.setUint8(at + 2, value >>> 16);
        return;
      case 4:
        view.setUint32(at, value, true);
        return;
      default:
        setU64LE(view, at, value);
        if (this.bytes === 16) setU64LE(view, at + 8, 0);
    }
  }

  /** The low half stands for 16-byte fields: no machine has 2^64 bytes or commands. */
  get kind(): LayoutKind {
    return this.bytes >= 8 ? "u64" : (`u${this.bytes * 8}` as LayoutKind);
  }
}

/** ASCII text, padded with spaces (SN, MN, FR) or NULs (SUBNQN). */
export class TextField {
  readonly offset: number;
  readonly bytes: number;
  readonly text: string;
  readonly kind: LayoutKind = "ascii";
  readonly pad: number;

  constructor(offset: number, bytes: number, text: string, pad: number) {
    this.offset = offset;
    this.bytes = bytes;
    this.text = text;
    this.pad = pad;
  }

  get(view: DataView, base = 0): string {
    return getAscii(bytesOf(view), base + this.offset, this.bytes);
  }

  /** Cuts what does not fit. */
  set(view: DataView, value: string, base = 0): void {
    setAscii(bytesOf(view), base + this.offset, this.bytes, value, this.pad);
  }
}

/** Raw bytes: NGUID, EUI64, arrays of descriptors. */
export class BytesField {
  readonly offset: number;
  readonly bytes: number;
  readonly text: string;
  readonly kind: LayoutKind = "bytes";

  constructor(offset: number, bytes: number, text: string) {
    this.offset = offset;
    this.bytes = bytes;
    this.text = text;
  }

  /** A view of the bytes in place. */
  get(view: DataView, base = 0): Uint8Array {
    return new Uint8Array(view.buffer, view.byteOffset + base + this.offset, this.bytes);
  }

  /** Zero-fills what `value` does not cover. */
  set(view: DataView, value: Uint8Array, base = 0): void {
    const target = this.get(view, base);
    target.fill(0);
    target.set(value.subarray(0, this.bytes));
  }
}

export type StructField = UintField | TextField | BytesField;

export const u8 = (offset: number, text: string): UintField => new UintField(offset, 1, text);
export const u16 = (offset: number, text: string): UintField => new UintField(offset, 2, text);
export const u24 = (offset: number, text: string): UintField => new UintField(offset, 3, text);
export const u32 = (offset: number, text: string): UintField => new UintField(offset, 4, text);
export const u64 = (offset: number, text: string): UintField => new UintField(offset, 8, text);
export const u128 = (offset: number, text: string): UintField => new UintField(offset, 16, text);
export const ascii = (offset: number, bytes: number, text: string): TextField =>
  new TextField(offset, bytes, text, 0x20);
export const cString = (offset: number, bytes: number, text: string): TextField =>
  new TextField(offset, bytes, text, 0);
export const raw = (offset: number, bytes: number, text: string): BytesField =>
  new BytesField(offset, bytes, text);

/** A structure: its fields by name, and as a table. */
export interface Struct<F extends Readonly<Record<string, StructField>>> {
  readonly name: string;
  readonly sizeBytes: number;
  readonly fields: F;
  /** For `decodeLayout`, documentation and fuzzing. */
  readonly layout: Layout;
}

/** Checks that fields lie inside the structure, in order, without overlap. */
export function defineStruct<F extends Readonly<Record<string, StructField>>>(
  name: string,
  source: string,
  sizeBytes: number,
  fields: F,
): Struct<F> {
  let end = 0;
  const rows: LayoutField[] = [];
  for (const [fieldName, field] of Object.entries(fields)) {
    assert(field.offset >= end, "fields of a structure are in order and do not overlap");
    end = field.offset + field.bytes;
    const { offset, bytes, kind, text } = field;
    const row = { name: fieldName, offset, kind, bytes, text };
    rows.push(field instanceof TextField ? { ...row, pad: field.pad } : row);
  }
  assert(end <= sizeBytes, "the fields of a structure lie inside it");
  const layout = defineLayout({ name, source, sizeBytes, endian: "little", fields: rows });
  return { name, sizeBytes, fields, layout };
}

function bytesOf(view: DataView): Uint8Array {
  return new Uint8Array(view.buffer, view.byteOffset, view.byteLength);
}

/** A zeroed structure with its bytes and its view. */
export function allocateStruct(sizeBytes: number): { bytes: Uint8Array; view: DataView } {
  const bytes = new Uint8Array(sizeBytes);
  return { bytes, view: viewOf(bytes) };
}
