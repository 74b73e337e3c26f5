/**
 * What is behind each BAR of a function: the model's regions and the MSI-X table and pending bits
 * laid over them, sorted, so that one offset finds its region or the hole around it.
 *
 * Invariant: pieces of one BAR do not overlap. Where an overlay covers a model's region the region
 * is cut, as where a device keeps its MSI-X table in a BAR full of registers.
 */

import type { SparseMemory } from "../core/index.ts";
import { PeerlaneError } from "../core/index.ts";
import type { BarRegion, RegisterHandler } from "./device.ts";

/** A run of a BAR; without registers and memory it is a hole: reads zeros, swallows writes. */
export interface BarPiece {
  /** First offset in the BAR. */
  readonly base: number;
  /** One past the last. */
  readonly limit: number;
  /** The offset in the BAR that `registers` and `memory` count from; below 0 behind a window. */
  readonly origin: number;
  readonly registers: RegisterHandler | null;
  readonly memory: SparseMemory | null;
}

const BARS = 6;

export class BarLayout {
  private readonly pieces: BarPiece[][] = Array.from({ length: BARS }, () => []);

  /** Takes the regions of a function whose BARs have `sizes`. Throws `bad-bar-region`. */
  set(
    regions: readonly BarRegion[],
    overlays: readonly BarRegion[],
    sizes: readonly number[],
  ): void {
    for (let bar = 0; bar < BARS; bar++) {
      const onBar = (region: BarRegion): boolean => region.bar === bar;
      // Of overlays that overlap (a dump with a broken capability) the first wins.
      const covers: BarPiece[] = [];
      for (const overlay of overlays.filter(onBar)) {
        covers.push(...cutAround(pieceOf(overlay), covers));
      }
      const own = regions.filter(onBar).flatMap((region) => {
        checkRegion(region, sizes);
        return cutAround(pieceOf(region), covers);
      });
      const all = [...own, ...covers].sort((a, b) => a.base - b.base);
      checkDisjoint(bar, all);
      this.pieces[bar] = all;
    }
  }

  /** The region or hole at `offset` of a BAR of `sizeBytes`. */
  pieceAt(bar: number, offset: number, sizeBytes: number): BarPiece {
    let base = 0;
    for (const piece of this.pieces[bar] ?? []) {
      if (offset < piece.base) return hole(base, piece.base);
      if (offset < piece.limit) return piece;
      base = piece.limit;
    }
    return hole(base, sizeBytes);
  }
}

function hole(base: number, limit: number): BarPiece {
  return { base, limit, origin: base, registers: null, memory: null };
}

function pieceOf({ offset, sizeBytes, registers, memory, memoryOffset }: BarRegion): BarPiece {
  const origin = offset - (memoryOffset ?? 0);
  return { base: offset, limit: offset + sizeBytes, origin, registers, memory };
}

function checkRegion(region: BarRegion, sizes: readonly number[]): void {
  const { bar, offset, sizeBytes, registers, memory, memoryOffset = 0 } = region;
  const fits = offset >= 0 && sizeBytes > 0 && offset + sizeBytes <= (sizes[bar] ?? 0);
  const isOne = (registers === null) !== (memory === null);
  const isThere = memory === null || memory.sizeBytes >= memoryOffset + sizeBytes;
  if (fits && isOne && isThere && memoryOffset >= 0) return;
  throw new PeerlaneError("bad-bar-region", "a model's region does not fit its BAR", {
    details: { bar, offset, sizeBytes, barBytes: sizes[bar] ?? 0 },
    remedy: "a region lies inside its BAR and has either registers or memory of its size",
  });
}

function checkDisjoint(bar: number, sorted: readonly BarPiece[]): void {
  for (let i = 1; i < sorted.length; i++) {
    const before = sorted[i - 1];
    const after = sorted[i];
    if (before.limit <= after.base) continue;
    throw new PeerlaneError("bad-bar-region", "two regions of one BAR overlap", {
      details: { bar, offset: after.base },
      remedy: "a device model must divide its BARs",
    });
  }
}

function cutAround(piece: BarPiece, covers: readonly BarPiece[]): BarPiece[] {
  let parts = [piece];
  for (const cover of covers) parts = parts.flatMap((part) => cut(part, cover));
  return parts;
}

function cut(part: BarPiece, cover: BarPiece): BarPiece[] {
  if (cover.limit <= part.base || cover.base >= part.limit) return [part];
  const kept: BarPiece[] = [];
  if (cover.base > part.base) kept.push({ ...part, limit: cover.base });
  if (cover.limit < part.limit) kept.push({ ...part, base: cover.limit });
  return kept;
}
