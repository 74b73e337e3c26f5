/**
 * Memory of any size that costs only what is written: DRAM of terabytes, a GPU BAR of 128 GiB, a
 * namespace. Chunks of 2 MiB appear on first write; reads of untouched memory give zeros without
 * making any.
 *
 * Invariants: a chunk never moves or shrinks, so a borrowed span stays valid until `clear`; offsets
 * are checked by the caller against `sizeBytes` (the fabric's windows do that) and asserted here.
 */

import { assert } from "./assert.ts";
import type { Copier, Span } from "./copy.hot.ts";

export const CHUNK_BYTES = 2 * 1024 * 1024;
/** `&` keeps the low bits of any offset below 2^53, at a tenth of the price of `%` on a double. */
const CHUNK_MASK = CHUNK_BYTES - 1;
/** What reads of untouched chunks see, in all memories. `borrow` lends it read-only. */
const ZERO_CHUNK = new Uint8Array(CHUNK_BYTES);

export class SparseMemory {
  readonly sizeBytes: number;
  private readonly chunks = new Map<number, Uint8Array>();
  private readonly copier: Copier;
  private lastIndex = -1;
  private lastChunk: Uint8Array = ZERO_CHUNK;

  constructor(sizeBytes: number, copier: Copier) {
    assert(Number.isSafeInteger(sizeBytes) && sizeBytes > 0, "a memory has a size");
    this.sizeBytes = sizeBytes;
    this.copier = copier;
  }

  /** Bytes of host memory that this really uses. */
  get residentBytes(): number {
    return this.chunks.size * CHUNK_BYTES;
  }

  write(offset: number, source: Uint8Array, sourceOffset: number, length: number): void {
    assert(offset >= 0 && offset + length <= this.sizeBytes, "a write stays inside its memory");
    let done = 0;
    while (done < length) {
      const at = offset + done;
      const inChunk = at & CHUNK_MASK;
      const run = Math.min(length - done, CHUNK_BYTES - inChunk);
      const chunk = this.chunkForWrite((at - inChunk) / CHUNK_BYTES);
      this.copier.copy(chunk, inChunk, source, sourceOffset + done, run);
      done += run;
    }
  }

  read(offset: number, target: Uint8Array, targetOffset: number, length: number): void {
    assert(offset >= 0 && offset + length <= this.sizeBytes, "a read stays inside its memory");
    let done = 0;
    while (done < length) {
      const at = offset + done;
      const inChunk = at & CHUNK_MASK;
      const run = Math.min(length - done, CHUNK_BYTES - inChunk);
      const chunk = this.chunkForRead((at - inChunk) / CHUNK_BYTES);
      this.copier.copy(target, targetOffset + done, chunk, inChunk, run);
      done += run;
    }
  }

  /**
   * Lends up to `length` bytes at `offset` for reading: `span` covers what is contiguous. Returns
   * the bytes lent. The borrower must not write to them and must be done before the memory changes.
   */
  borrow(offset: number, length: number, span: Span): number {
    assert(offset >= 0 && offset + length <= this.sizeBytes, "a loan stays inside its memory");
    const inChunk = offset & CHUNK_MASK;
    const run = Math.min(length, CHUNK_BYTES - inChunk);
    span.set(this.chunkForRead((offset - inChunk) / CHUNK_BYTES), inChunk, run);
    return run;
  }

  /** Like {@link borrow}, for writing in place: makes the chunk. */
  borrowForWrite(offset: number, length: number, span: Span): number {
    assert(offset >= 0 && offset + length <= this.sizeBytes, "a loan stays inside its memory");
    const inChunk = offset & CHUNK_MASK;
    const run = Math.min(length, CHUNK_BYTES - inChunk);
    span.set(this.chunkForWrite((offset - inChunk) / CHUNK_BYTES), inChunk, run);
    return run;
  }

  fill(offset: number, length: number, value: number): void {
    assert(offset >= 0 && offset + length <= this.sizeBytes, "a fill stays inside its memory");
    let done = 0;
    while (done < length) {
      const at = offset + done;
      const inChunk = at & CHUNK_MASK;
      const run = Math.min(length - done, CHUNK_BYTES - inChunk);
      const index = (at - inChunk) / CHUNK_BYTES;
      // Zeros over an untouched chunk change nothing, and a whole chunk of zeros can be let go.
      if (value === 0 && run === CHUNK_BYTES) this.dropChunk(index);
      else if (value !== 0 || this.chunks.has(index)) {
        this.chunkForWrite(index).fill(value, inChunk, inChunk + run);
      }
      done += run;
    }
  }

  clear(): void {
    this.chunks.clear();
    this.lastIndex = -1;
    this.lastChunk = ZERO_CHUNK;
  }

  private dropChunk(index: number): void {
    this.chunks.delete(index);
    if (this.lastIndex === index) this.lastIndex = -1;
  }

  private chunkForWrite(index: number): Uint8Array {
    if (index === this.lastIndex) return this.lastChunk;
    let chunk = this.chunks.get(index);
    if (chunk === undefined) {
      chunk = new Uint8Array(CHUNK_BYTES);
      this.chunks.set(index, chunk);
    }
    this.lastIndex = index;
    this.lastChunk = chunk;
    return chunk;
  }

  private chunkForRead(index: number): Uint8Array {
    if (index === this.lastIndex) return this.lastChunk;
    const chunk = this.chunks.get(index);
    if (chunk === undefined) return ZERO_CHUNK;
    this.lastIndex = index;
    this.lastChunk = chunk;
    return chunk;
  }
}
