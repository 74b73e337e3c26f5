/**
 * Register tables. One table drives decoding, documentation, `inspect()` and fuzzing; the device's
 * behaviour stays in a `switch` over whole registers. Each table names its specification; each
 * field its bits. Reserved bits are those that no field claims.
 */

import { assert } from "./assert.ts";
import type { Field } from "./bits.ts";

export type RegisterAccess = "RO" | "RW" | "RW1C" | "RW1S" | "WO" | "mixed";

export interface FieldDef {
  readonly name: string;
  readonly field: Field;
  readonly text: string;
  /** Names of values, where the specification gives any. */
  readonly values?: Readonly<Record<number, string>>;
}

export interface RegisterDef {
  readonly name: string;
  readonly offset: number;
  /** 64-bit registers are listed as two of 32 bits, `CAP.lo` and `CAP.hi`. */
  readonly bits: 8 | 16 | 32;
  readonly access: RegisterAccess;
  readonly text: string;
  readonly fields: readonly FieldDef[];
  readonly reset?: number;
}

export interface RegisterTable {
  readonly name: string;
  /** Document and section. */
  readonly source: string;
  readonly registers: readonly RegisterDef[];
}

/** A decoded field, for people. */
export interface DecodedField {
  readonly name: string;
  readonly value: number;
  readonly text: string;
  readonly meaning: string | null;
}

/** Checks a table when the module loads: fields inside the register, no overlap. */
export function defineRegisters(table: RegisterTable): RegisterTable {
  for (const register of table.registers) {
    let taken = 0;
    for (const { field } of register.fields) {
      assert(field.low + field.width <= register.bits, "a field lies inside its register");
      assert((taken & field.bits) === 0, "fields of a register do not overlap");
      taken |= field.bits;
    }
  }
  return table;
}

export function decodeRegister(register: RegisterDef, word: number): DecodedField[] {
  return register.fields.map(({ name, field, text, values }) => {
    const value = field.get(word);
    return { name, value, text, meaning: values?.[value] ?? null };
  });
}

/** `RR+ CR- EC+`: the one-bit fields of a register, as lspci writes them. */
export function formatFlags(register: RegisterDef, word: number): string {
  return register.fields
    .filter(({ field }) => field.width === 1)
    .map(({ name, field }) => `${name}${field.get(word) === 1 ? "+" : "-"}`)
    .join(" ");
}
