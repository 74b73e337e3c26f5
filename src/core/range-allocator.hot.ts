/**
 * Allocates runs of units out of one space: IOVA pages top down, pool granules first fit. On top of
 * the sorted free runs sit stacks of recently freed runs by exact size, so that the steady state of
 * an I/O path (take n, give n back, take n again) costs a pop and a push and allocates nothing.
 *
 * Invariants: a run is allocated at most once; `free` counts recycled runs as free; an allocation
 * fails only when no free run fits even after everything recycled went back and was joined. A free
 * must name the start and the length of one allocation: anything else is a broken invariant.
 *
 * Leaves out: alignment above one unit except natural alignment (see {@link RangeOptions}).
 */

import { assert } from "./assert.ts";
import { FreeRuns } from "./extents.hot.ts";
import { RECYCLED_RUNS_PER_SIZE } from "./limits.ts";

/** Runs of up to this many units have a stack each; longer ones only when a power of two. */
const EXACT_SIZES = 256;
const SIZE_CLASSES = EXACT_SIZES + 32;
const LEDGER_CHUNK = 16_384;

export interface RangeOptions {
  /** First unit of the space. */
  readonly base: number;
  readonly units: number;
  /** `lowest`: first fit. `highest`: top down. */
  readonly order: "lowest" | "highest";
  /** Runs start at a multiple of their length rounded up to a power of two. */
  readonly naturalAlignment?: boolean;
}

/** Length of the allocation that starts at a unit: what makes a wrong free stop at once. */
class Ledger {
  private readonly chunks = new Map<number, Uint32Array>();
  private lastIndex = -1;
  private last: Uint32Array = new Uint32Array(0);

  get(unit: number): number {
    return this.chunk(unit)[unit % LEDGER_CHUNK];
  }

  set(unit: number, length: number): void {
    this.chunk(unit)[unit % LEDGER_CHUNK] = length;
  }

  private chunk(unit: number): Uint32Array {
    const index = Math.floor(unit / LEDGER_CHUNK);
    if (index === this.lastIndex) return this.last;
    let chunk = this.chunks.get(index);
    if (chunk === undefined) {
      chunk = new Uint32Array(LEDGER_CHUNK);
      this.chunks.set(index, chunk);
    }
    this.lastIndex = index;
    this.last = chunk;
    return chunk;
  }
}

export class RangeAllocator {
  readonly base: number;
  readonly units: number;
  private readonly runs = new FreeRuns();
  private readonly ledger = new Ledger();
  private readonly highest: boolean;
  private readonly natural: boolean;
  private readonly stacks: Float64Array[] = [];
  private readonly depths = new Int32Array(SIZE_CLASSES);
  /** Units in the stacks. */
  private recycled = 0;
  private reserved = 0;

  constructor(options: RangeOptions) {
    assert(options.units > 0 && options.base >= 0, "a space has units");
    this.base = options.base;
    this.units = options.units;
    this.highest = options.order === "highest";
    this.natural = options.naturalAlignment === true;
    const none = new Float64Array(0);
    for (let i = 0; i < SIZE_CLASSES; i++) this.stacks.push(none);
    this.runs.give(options.base, options.units);
  }

  /** Units free, recycled ones included. */
  get free(): number {
    return this.runs.free + this.recycled;
  }

  /** Units allocated; reserved ones do not count. */
  get used(): number {
    return this.units - this.reserved - this.free;
  }

  /** Free runs once everything recycled is joined: the fragmentation. Control plane. */
  get freeRuns(): number {
    this.drain();
    return this.runs.count;
  }

  /** Units in the longest free run. Control plane. */
  get longestFree(): number {
    this.drain();
    return this.runs.longest();
  }

  /** Takes `units`; returns the first, or -1 when no free run is long enough. */
  alloc(units: number): number {
    assert(units > 0, "an allocation is not empty");
    const sizeClass = classOf(units);
    const depth = this.depths[sizeClass];
    if (depth > 0) {
      const at = this.stacks[sizeClass][depth - 1];
      this.depths[sizeClass] = depth - 1;
      this.recycled -= units;
      this.ledger.set(at, units);
      return at;
    }
    let at = this.take(units);
    if (at < 0 && this.recycled > 0) {
      this.drain();
      at = this.take(units);
    }
    if (at >= 0) this.ledger.set(at, units);
    return at;
  }

  /** Takes exactly [at, at + units); false when a part of it is taken or outside the space. */
  allocAt(at: number, units: number): boolean {
    assert(units > 0, "an allocation is not empty");
    let taken = this.runs.takeAt(at, units);
    if (!taken && this.recycled > 0) {
      this.drain();
      taken = this.runs.takeAt(at, units);
    }
    if (taken) this.ledger.set(at, units);
    return taken;
  }

  /** Takes [at, at + units) out of the space for good; false when a part of it is taken. */
  reserve(at: number, units: number): boolean {
    this.drain();
    const taken = this.runs.takeAt(at, units);
    if (taken) this.reserved += units;
    return taken;
  }

  /** Gives back one allocation, named by its first unit and its length. */
  release(at: number, units: number): void {
    assert(at >= this.base && at < this.base + this.units, "a free lies inside its space");
    assert(this.ledger.get(at) === units && units > 0, "a free names one live allocation");
    this.ledger.set(at, 0);
    const sizeClass = classOf(units);
    const depth = this.depths[sizeClass];
    if (sizeClass === 0 || depth === RECYCLED_RUNS_PER_SIZE || !this.isAligned(at, units)) {
      this.runs.give(at, units);
      return;
    }
    if (this.stacks[sizeClass].length === 0) {
      this.stacks[sizeClass] = new Float64Array(RECYCLED_RUNS_PER_SIZE);
    }
    this.stacks[sizeClass][depth] = at;
    this.depths[sizeClass] = depth + 1;
    this.recycled += units;
  }

  /** True when an allocation of `units` starts at `at`. */
  isAllocation(at: number, units: number): boolean {
    return at >= this.base && at < this.base + this.units && this.ledger.get(at) === units;
  }

  /** False for a run that `allocAt` placed where `alloc` may not. */
  private isAligned(at: number, units: number): boolean {
    return !this.natural || at % alignmentOf(units) === 0;
  }

  private take(units: number): number {
    const align = this.natural ? alignmentOf(units) : 1;
    return this.highest ? this.runs.takeHighest(units, align) : this.runs.takeLowest(units, align);
  }

  /** Everything recycled goes back to the free runs. */
  private drain(): void {
    if (this.recycled === 0) return;
    for (let sizeClass = 1; sizeClass < SIZE_CLASSES; sizeClass++) {
      const units = sizeClass <= EXACT_SIZES ? sizeClass : 2 ** (sizeClass - EXACT_SIZES);
      const stack = this.stacks[sizeClass];
      for (let i = 0; i < this.depths[sizeClass]; i++) this.runs.give(stack[i], units);
      this.depths[sizeClass] = 0;
    }
    this.recycled = 0;
  }
}

/** Natural alignment: the length rounded up to a power of two. */
function alignmentOf(units: number): number {
  return 2 ** Math.ceil(Math.log2(units));
}

/** Stack of a size: the size itself, or 256 + log2 for powers of two; 0: not recycled. */
function classOf(units: number): number {
  if (units <= EXACT_SIZES) return units;
  if (units > 0x40000000 || (units & (units - 1)) !== 0) return 0;
  return EXACT_SIZES + 31 - Math.clz32(units);
}
