/**
 * Bit fields of registers of up to 32 bits. A field is a module constant; V8 folds `get` and `set`
 * into a shift and a mask, so tables and hot paths share the same definition. 64-bit registers are
 * two of these, low and high: a bigint shift costs forty times more.
 */

import { assert } from "./assert.ts";

export class Field {
  /** Lowest bit. */
  readonly low: number;
  readonly width: number;
  /** Mask of the value, unshifted. */
  readonly mask: number;

  constructor(low: number, width: number) {
    assert(low >= 0 && width > 0 && low + width <= 32, "a field lies within 32 bits");
    this.low = low;
    this.width = width;
    this.mask = width === 32 ? 0xffffffff : (1 << width) - 1;
  }

  get(word: number): number {
    return (word >>> this.low) & this.mask;
  }

  /** `word` with this field set to `value`; higher bits of `value` are cut. */
  set(word: number, value: number): number {
    return ((word & ~(this.mask << this.low)) | ((value & this.mask) << this.low)) >>> 0;
  }

  /** The field's bits in place. */
  get bits(): number {
    return (this.mask << this.low) >>> 0;
  }
}

/** `field(4, 3)` is bits 6:4. */
export const field = (low: number, width: number): Field => new Field(low, width);
export const bit = (low: number): Field => new Field(low, 1);
