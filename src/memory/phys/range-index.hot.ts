/**
 * From an address to the range that it lies in: sorted starts, binary search, and the last hit
 * first, since I/O tends to stay in one device's memory.
 *
 * Invariants: ranges do not overlap; a slot is never used again for another range, so a slot that
 * somebody holds names the same range for ever. Leaves out: removal (owners mark their slot dead).
 */

import { assert } from "../../core/index.ts";

export class RangeIndex {
  private starts = new Float64Array(0);
  private ends = new Float64Array(0);
  private slots = new Int32Array(0);
  private last = 0;

  get count(): number {
    return this.starts.length;
  }

  /** Bytes of its arrays. */
  get sizeBytes(): number {
    return this.starts.byteLength + this.ends.byteLength + this.slots.byteLength;
  }

  /** Slot of the range that holds the whole of [address, address + length), or -1. */
  find(address: number, length: number): number {
    const { starts, ends } = this;
    if (starts.length === 0) return -1;
    let at = this.last;
    if (address < starts[at] || address >= ends[at]) {
      at = this.search(address);
      if (at < 0) return -1;
      this.last = at;
    }
    return address + length <= ends[at] ? this.slots[at] : -1;
  }

  private search(address: number): number {
    const { starts } = this;
    let low = 0;
    let high = starts.length - 1;
    while (low <= high) {
      const middle = (low + high) >> 1;
      if (starts[middle] <= address) low = middle + 1;
      else high = middle - 1;
    }
    return high >= 0 && address < this.ends[high] ? high : -1;
  }

  /** Adds [start, start + length) as `slot`. False when it overlaps a range that is there. */
  add(start: number, length: number, slot: number): boolean {
    assert(length > 0, "a range is not empty");
    const { starts, ends, slots } = this;
    let at = 0;
    while (at < starts.length && starts[at] < start) at++;
    if (at > 0 && ends[at - 1] > start) return false;
    if (at < starts.length && start + length > starts[at]) return false;
    this.starts = new Float64Array(starts.length + 1);
    this.ends = new Float64Array(starts.length + 1);
    this.slots = new Int32Array(starts.length + 1);
    for (let i = 0, from = 0; i < this.starts.length; i++) {
      const isNew = i === at;
      this.starts[i] = isNew ? start : starts[from];
      this.ends[i] = isNew ? start + length : ends[from];
      this.slots[i] = isNew ? slot : slots[from];
      if (!isNew) from++;
    }
    this.last = 0;
    return true;
  }

  /** Takes a range out again, by its start; for ranges that nobody can still name. */
  remove(start: number): boolean {
    const at = this.starts.indexOf(start);
    if (at < 0) return false;
    const keep = (_: number, i: number): boolean => i !== at;
    this.starts = this.starts.filter(keep);
    this.ends = this.ends.filter(keep);
    this.slots = this.slots.filter(keep);
    this.last = 0;
    return true;
  }
}
