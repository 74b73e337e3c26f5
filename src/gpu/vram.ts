/**
 * Allocation of VRAM in pages: first fit over sorted free runs, by what the window shows.
 *
 * Invariants: a byte is in one allocation at most; nothing is handed out beyond VRAM. Offsets are
 * from the start of VRAM, never from the aperture: `apertureOffset = offset - window`.
 */

import { alignUp, assert, FreeRuns, PAGE_SIZE } from "../core/index.ts";

/**
 * `visible`: where the window shows it, so that the CPU and peers reach it. `hidden`: where it does
 * not. `any`: hidden first, which keeps the aperture for those that need it.
 */
export type VramPlacement = "visible" | "hidden" | "any";

/** The part of VRAM that the aperture shows. */
export interface VisibleRange {
  readonly base: number;
  readonly limit: number;
}

export class VramAllocator {
  readonly sizeBytes: number;
  private readonly runs = new FreeRuns();

  constructor(sizeBytes: number) {
    assert(sizeBytes >= PAGE_SIZE, "VRAM has pages");
    this.sizeBytes = sizeBytes;
    this.runs.give(0, Math.floor(sizeBytes / PAGE_SIZE));
  }

  get freeBytes(): number {
    return this.runs.free * PAGE_SIZE;
  }

  /** Offset of `length` bytes, or -1 when no free run is long enough where it should lie. */
  alloc(length: number, placement: VramPlacement, visible: VisibleRange): number {
    assert(length > 0, "an allocation is not empty");
    const pages = alignUp(length, PAGE_SIZE) / PAGE_SIZE;
    const { base, limit } = visible;
    if (placement === "visible") return this.within(pages, base, limit);
    const below = this.within(pages, 0, base);
    const hidden = below >= 0 ? below : this.within(pages, limit, this.sizeBytes);
    if (hidden >= 0 || placement === "hidden") return hidden;
    return this.within(pages, 0, this.sizeBytes);
  }

  free(offset: number, length: number): void {
    this.runs.give(offset / PAGE_SIZE, alignUp(length, PAGE_SIZE) / PAGE_SIZE);
  }

  /** First fit in [low, high), bytes. */
  private within(pages: number, low: number, high: number): number {
    const from = Math.ceil(low / PAGE_SIZE);
    const to = Math.floor(high / PAGE_SIZE);
    const { runs } = this;
    for (let i = 0; i < runs.count; i++) {
      const start = Math.max(runs.start(i), from);
      const end = Math.min(runs.start(i) + runs.length(i), to);
      if (end - start < pages) continue;
      const taken = runs.takeAt(start, pages);
      assert(taken, "a free run can be taken");
      return start * PAGE_SIZE;
    }
    return -1;
  }
}
