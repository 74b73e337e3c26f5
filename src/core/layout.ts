/**
 * Wire structures as tables, the counterpart of register tables: one table drives decoding,
 * encoding on the control plane, documentation and fuzzing. Data planes do not go through a table;
 * they use the offset constants the table is made of.
 *
 * Invariants: fields lie inside their structure and do not overlap (checked when a table is made).
 * Bytes that no field claims are reserved: encoding writes zeros there, decoding ignores them.
 *
 * Leaves out: bit fields inside a byte (see bits.ts) and structures of variable size.
 */

import { assert } from "./assert.ts";
import { getAscii, getU64BE, getU64LE, setAscii, setU64BE, setU64LE, viewOf } from "./wire.ts";

/**
 * `ascii` is padded with `pad`, a NUL unless said otherwise; `utf8` is NUL-terminated; `bytes` is
 * opaque.
 */
export type LayoutKind = "u8" | "u16" | "u24" | "u32" | "u64" | "ascii" | "utf8" | "bytes";

export interface LayoutField {
  readonly name: string;
  /** Bytes from the start of the structure. */
  readonly offset: number;
  readonly kind: LayoutKind;
  /** Length in bytes of `ascii`, `utf8` and `bytes`; numbers have the length of their kind. */
  readonly bytes?: number;
  readonly pad?: number;
  readonly text: string;
  /** Names of values, where the specification gives any. */
  readonly values?: Readonly<Record<number, string>>;
}

export interface Layout {
  readonly name: string;
  /** Document and section. */
  readonly source: string;
  readonly sizeBytes: number;
  readonly endian: "little" | "big";
  readonly fields: readonly LayoutField[];
}

export type LayoutValue = number | string | Uint8Array;
export type LayoutValues = Readonly<Record<string, LayoutValue>>;

const NUMBER_BYTES: Readonly<Record<string, number>> = { u8: 1, u16: 2, u24: 3, u32: 4, u64: 8 };

/** Length of a field in bytes. */
export function layoutFieldBytes(field: LayoutField): number {
  return NUMBER_BYTES[field.kind] ?? field.bytes ?? 0;
}

/** Checks a table when the module loads. Fields may be listed in any order. */
export function defineLayout(layout: Layout): Layout {
  const taken = new Uint8Array(layout.sizeBytes);
  for (const field of layout.fields) {
    const length = layoutFieldBytes(field);
    assert(length > 0, "a field of a layout has a length");
    assert(field.offset + length <= layout.sizeBytes, "a field lies inside its structure");
    for (let i = field.offset; i < field.offset + length; i++) {
      assert(taken[i] === 0, "fields of a layout do not overlap");
      taken[i] = 1;
    }
  }
  return layout;
}

function getNumber(view: DataView, field: LayoutField, at: number, little: boolean): number {
  switch (field.kind) {
    case "u8":
      return view.getUint8(at);
    case "u16":
      return view.getUint16(at, little);
    case "u24": {
      const low = view.getUint16(little ? at : at + 1, little);
      return low + view.getUint8(little ? at + 2 : at) * 65_536;
    }
    case "u32":
      return view.getUint32(at, little);
    default:
      return little ? getU64LE(view, at) : getU64BE(view, at);
  }
}

function setNumber(
  view: DataView,
  field: LayoutField,
  at: number,
  little: boolean,
  value: number,
): void {
  switch (field.kind) {
    case "u8":
      view.setUint8(at, value);
      return;
    case "u16":
      view.setUint16(at, value, little);
      return;
    case "u24":
      view.setUint16(little ? at : at + 1, value & 0xffff, little);
      view.setUint8(little ? at + 2 : at, Math.floor(value / 65_536));
      return;
    case "u32":
      view.setUint32(at, value, little);
      return;
    default:
      if (little) setU64LE(view, at, value);
      else setU64BE(view, at, value);
  }
}

function getUtf8(bytes: Uint8Array, at: number, length: number): string {
  const end = bytes.indexOf(0, at);
  return new TextDecoder().decode(
    bytes.subarray(at, end < 0 ? at + length : Math.min(end, at + length)),
  );
}

/** All fields of the structure at `offset`. `bytes` fields are copies. */
export function decodeLayout(
  layout: Layout,
  bytes: Uint8Array,
  offset = 0,
): Record<string, LayoutValue> {
  assert(offset + layout.sizeBytes <= bytes.length, "a decoded structure lies inside its bytes");
  const view = viewOf(bytes);
  const little = layout.endian === "little";
  const values: Record<string, LayoutValue> = {};
  for (const field of layout.fields) {
    const at = offset + field.offset;
    const length = layoutFieldBytes(field);
    if (field.kind === "ascii") values[field.name] = getAscii(bytes, at, length);
    else if (field.kind === "utf8") values[field.name] = getUtf8(bytes, at, length);
    else if (field.kind === "bytes") values[field.name] = bytes.slice(at, at + length);
    else values[field.name] = getNumber(view, field, at, little);
  }
  return values;
}

/** Writes the structure at `offset`: zeros first, then every field that `values` has. */
export function encodeLayout(
  layout: Layout,
  values: LayoutValues,
  bytes: Uint8Array,
  offset = 0,
): void {
  assert(offset + layout.sizeBytes <= bytes.length, "an encoded structure lies inside its bytes");
  const view = viewOf(bytes);
  const little = layout.endian === "little";
  bytes.fill(0, offset, offset + layout.sizeBytes);
  for (const field of layout.fields) {
    const value = values[field.name];
    const at = offset + field.offset;
    const length = layoutFieldBytes(field);
    if (field.kind === "ascii") {
      setAscii(bytes, at, length, value === undefined ? "" : String(value), field.pad ?? 0);
    } else if (field.kind === "utf8") {
      const text = new TextEncoder().encode(value === undefined ? "" : String(value));
      bytes.set(text.subarray(0, length), at);
    } else if (value instanceof Uint8Array) {
      assert(value.length <= length, "opaque bytes fit their field");
      bytes.set(value, at);
    } else if (typeof value === "number") setNumber(view, field, at, little, value);
  }
}
