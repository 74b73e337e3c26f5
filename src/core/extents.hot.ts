/**
 * Free runs of a one-dimensional space (pages of IOVA space, granules of a pool), sorted, in typed
 * arrays. The space is counted in units; what a unit is, the owner knows.
 *
 * Invariants: runs are sorted, disjoint and never adjacent (adjacent ones are joined at once), so
 * the number of runs is the fragmentation. Giving back a unit that is free already is a broken
 * invariant and stops the run.
 *
 * Costs: a search is linear in the number of runs, an insertion moves the runs behind it. The
 * recycling in range-allocator.hot.ts keeps both off the steady path.
 */

import { assert } from "./assert.ts";
import { FREE_RUNS_MAX } from "./limits.ts";

const FIRST_CAPACITY = 64;

export class FreeRuns {
  /** Runs in use. */
  count = 0;
  /** Units free. */
  free = 0;
  private starts = new Float64Array(FIRST_CAPACITY);
  private lengths = new Float64Array(FIRST_CAPACITY);

  start(index: number): number {
    return this.starts[index];
  }

  length(index: number): number {
    return this.lengths[index];
  }

  /** Units in the longest run. */
  longest(): number {
    let longest = 0;
    for (let i = 0; i < this.count; i++) longest = Math.max(longest, this.lengths[i]);
    return longest;
  }

  /** Takes `units` from the lowest run that fits, at a multiple of `align`; -1 when none does. */
  takeLowest(units: number, align: number): number {
    for (let i = 0; i < this.count; i++) {
      const start = this.starts[i];
      const at = align === 1 ? start : Math.ceil(start / align) * align;
      if (at + units <= start + this.lengths[i]) return this.carve(i, at, units);
    }
    return -1;
  }

  /** Takes `units` as high as possible, at a multiple of `align`; -1 when no run fits. */
  takeHighest(units: number, align: number): number {
    for (let i = this.count - 1; i >= 0; i--) {
      const top = this.starts[i] + this.lengths[i] - units;
      const at = align === 1 ? top : Math.floor(top / align) * align;
      if (at >= this.starts[i]) return this.carve(i, at, units);
    }
    return -1;
  }

  /** Takes exactly [at, at + units); false when a part of it is not free. */
  takeAt(at: number, units: number): boolean {
    const i = this.after(at) - 1;
    if (i < 0 || at + units > this.starts[i] + this.lengths[i]) return false;
    this.carve(i, at, units);
    return true;
  }

  /** Gives back [at, at + units) and joins it with its neighbours. */
  give(at: number, units: number): void {
    assert(units > 0, "a run that is given back is not empty");
    const next = this.after(at);
    const previous = next - 1;
    const previousEnd = previous < 0 ? -1 : this.starts[previous] + this.lengths[previous];
    assert(previousEnd <= at, "a unit is given back once");
    assert(next >= this.count || at + units <= this.starts[next], "a unit is given back once");
    const joinsNext = next < this.count && this.starts[next] === at + units;
    this.free += units;
    if (previousEnd === at && previous >= 0) {
      this.lengths[previous] += units + (joinsNext ? this.lengths[next] : 0);
      if (joinsNext) this.remove(next);
    } else if (joinsNext) {
      this.starts[next] = at;
      this.lengths[next] += units;
    } else {
      this.insert(next, at, units);
    }
  }

  /** Index of the first run that starts after `at`. */
  private after(at: number): number {
    let low = 0;
    let high = this.count;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (this.starts[middle] > at) high = middle;
      else low = middle + 1;
    }
    return low;
  }

  private carve(index: number, at: number, units: number): number {
    const start = this.starts[index];
    const left = at - start;
    const right = start + this.lengths[index] - (at + units);
    this.free -= units;
    if (left === 0 && right === 0) {
      this.remove(index);
    } else if (left === 0) {
      this.starts[index] = at + units;
      this.lengths[index] = right;
    } else {
      this.lengths[index] = left;
      if (right > 0) this.insert(index + 1, at + units, right);
    }
    return at;
  }

  private insert(index: number, at: number, units: number): void {
    if (this.count === this.starts.length) this.grow();
    this.starts.copyWithin(index + 1, index, this.count);
    this.lengths.copyWithin(index + 1, index, this.count);
    this.starts[index] = at;
    this.lengths[index] = units;
    this.count++;
  }

  private remove(index: number): void {
    this.starts.copyWithin(index, index + 1, this.count);
    this.lengths.copyWithin(index, index + 1, this.count);
    this.count--;
  }

  // Doubling: rare, and only while fragmentation reaches a new height.
  private grow(): void {
    const capacity = this.starts.length * 2;
    assert(capacity <= FREE_RUNS_MAX, "a space stays below its limit of free runs");
    const starts = new Float64Array(capacity);
    const lengths = new Float64Array(capacity);
    starts.set(this.starts);
    lengths.set(this.lengths);
    this.starts = starts;
    this.lengths = lengths;
  }
}
