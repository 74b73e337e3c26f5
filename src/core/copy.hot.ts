/**
 * Moving payload bytes: the only place that does it. A DMA is one copy, and this is that copy.
 *
 * `dst.set(src.subarray(..))` makes a view object for each copy, which costs as much as copying
 * 4 KiB. Buffers come from pools, so the same (array, offset, length) comes back: a small
 * direct-mapped cache of views makes the steady state free of allocation.
 *
 * Invariant: a cached view is used only when array, offset and length are all equal.
 */

import { assert } from "./assert.ts";

/** Below this a byte loop beats a call into the typed-array copy. */
const LOOP_BYTES_MAX = 24;
/** Above this making a view costs under 2 % of the copy, and caching it would only pin memory. */
const CACHED_BYTES_MAX = 65_536;
const CACHE_SLOTS = 1024;
const NO_BYTES = new Uint8Array(0);

/** A run of bytes somewhere: filled in by `borrow`-like calls so that no object is made per DMA. */
export class Span {
  bytes: Uint8Array = NO_BYTES;
  offset = 0;
  length = 0;

  set(bytes: Uint8Array, offset: number, length: number): void {
    this.bytes = bytes;
    this.offset = offset;
    this.length = length;
  }

  clear(): void {
    this.bytes = NO_BYTES;
    this.offset = 0;
    this.length = 0;
  }
}

/** Copies bytes and keeps the views it needed. One per fabric, so the views die with it. */
export class Copier {
  private readonly arrays: Uint8Array[] = new Array(CACHE_SLOTS).fill(NO_BYTES);
  private readonly views: Uint8Array[] = new Array(CACHE_SLOTS).fill(NO_BYTES);
  private readonly offsets = new Int32Array(CACHE_SLOTS);

  /** Copies `length` bytes. Ranges must lie inside their arrays; they may overlap in one array. */
  copy(
    target: Uint8Array,
    targetOffset: number,
    source: Uint8Array,
    sourceOffset: number,
    length: number,
  ): void {
    assert(sourceOffset + length <= source.length, "a copy stays inside its source");
    assert(targetOffset + length <= target.length, "a copy stays inside its target");
    if (length <= LOOP_BYTES_MAX && target !== source) {
      for (let i = 0; i < length; i++)
        target[targetOffset + i] = source[sourceOffset + i] as number;
      return;
    }
    if (target === source) {
      target.copyWithin(targetOffset, sourceOffset, sourceOffset + length);
      return;
    }
    target.set(this.view(source, sourceOffset, length), targetOffset);
  }

  /** `bytes.subarray(offset, offset + length)`, from the cache when it has been asked before. */
  view(bytes: Uint8Array, offset: number, length: number): Uint8Array {
    if (length > CACHED_BYTES_MAX) return bytes.subarray(offset, offset + length);
    const slot = ((offset >>> 6) ^ (offset >>> 16) ^ (length >>> 6)) & (CACHE_SLOTS - 1);
    const cached = this.views[slot] as Uint8Array;
    if (this.arrays[slot] === bytes && this.offsets[slot] === offset && cached.length === length) {
      return cached;
    }
    const made = bytes.subarray(offset, offset + length);
    this.arrays[slot] = bytes;
    this.offsets[slot] = offset;
    this.views[slot] = made;
    return made;
  }
}
