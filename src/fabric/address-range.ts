/**
 * The range of addresses that share a decision. Routing asks many questions of one address ("is it
 * in this window?"); each answer holds for a range around it, and the intersection of those ranges
 * is where the whole route holds. That is what ports cache.
 *
 * Invariant: the address asked about is always inside [base, limit).
 */

import { ADDRESS_LIMIT, assert } from "../core/index.ts";

export class AddressRange {
  readonly address: number;
  base = 0;
  /** One past the last address. */
  limit = ADDRESS_LIMIT;

  constructor(address: number) {
    assert(address >= 0 && address < ADDRESS_LIMIT, "an address is below 2^52");
    this.address = address;
  }

  /** Is the address in [base, limit)? Narrows the range to where the answer stays the same. */
  isIn(base: number, limit: number): boolean {
    if (base >= limit) return false;
    if (this.address < base) {
      this.limit = Math.min(this.limit, base);
      return false;
    }
    if (this.address >= limit) {
      this.base = Math.max(this.base, limit);
      return false;
    }
    this.base = Math.max(this.base, base);
    this.limit = Math.min(this.limit, limit);
    return true;
  }

  /** Narrows to the part where another space's range, `delta` higher than this one, holds too. */
  narrowTo(other: AddressRange, delta: number): void {
    this.base = Math.max(this.base, other.base - delta);
    this.limit = Math.min(this.limit, other.limit - delta);
  }
}
