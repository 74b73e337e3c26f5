/**
 * raid0: chunks of the whole go to the legs in turn. Chunk c is chunk floor(c / n) of leg c mod n.
 *
 * Invariants: all legs give the same number of chunks (the smallest decides); a bio is cut at chunk
 * ends, and the chunks that one leg gets of it are neighbours there, so that its queue joins them
 * to one request again. A range without data (discard, write zeroes, verify) is one part per leg.
 * Leaves out: the rest of larger legs (md's further zones).
 */

import type { Bio } from "../bio.hot.ts";
import { SECTOR_BYTES } from "../operation.ts";
import type { BlockQueue } from "../queue.hot.ts";
import { BlockStatus } from "../status.ts";
import { badStack, limitsOver, partsOf, type StackOptions, smallestOf } from "./stack-options.ts";
import { StackedQueue } from "./stacked-queue.hot.ts";

export interface Raid0Options extends StackOptions {
  /** A multiple of the largest logical block; md's default is 512 KiB. */
  readonly chunkBytes: number;
}

export class Raid0Queue extends StackedQueue {
  readonly chunkBytes: number;
  private readonly chunkSectors: number;

  /** Throws `bad-stack` when the chunk is no whole blocks, or a leg is smaller than one. */
  constructor(legs: readonly BlockQueue[], options: Raid0Options) {
    const { chunkBytes } = options;
    const block = limitsOver(legs, "all", 0).logicalBlockBytes;
    if (!(chunkBytes > 0) || chunkBytes % block !== 0) {
      badStack(`a chunk of ${chunkBytes} bytes`, `give a multiple of ${block} bytes`);
    }
    const smallest = smallestOf(legs);
    const chunks = Math.floor(smallest / chunkBytes);
    if (chunks === 0) {
      badStack("a leg is smaller than one chunk", "take a smaller chunk", { smallest, chunkBytes });
    }
    const limits = limitsOver(legs, options.inherit ?? "all", chunkBytes);
    const capacityBytes = chunks * chunkBytes * legs.length;
    super(options.name ?? "raid0", legs, limits, capacityBytes, partsOf(options, legs.length));
    this.chunkBytes = chunkBytes;
    this.chunkSectors = chunkBytes / SECTOR_BYTES;
  }

  protected find(sector: number): void {
    const { chunkSectors, run } = this;
    const legs = this.legs.length;
    const chunk = Math.floor(sector / chunkSectors);
    const inChunk = sector - chunk * chunkSectors;
    const row = Math.floor(chunk / legs);
    run.leg = chunk - row * legs;
    run.sector = row * chunkSectors + inChunk;
    run.bytes = (chunkSectors - inChunk) * SECTOR_BYTES;
  }

  protected override placeRange(bio: Bio): boolean {
    const legs = this.legs.length;
    const start = bio.sector;
    const end = start + bio.sizeBytes / SECTOR_BYTES;
    let count = 0;
    for (let leg = 0; leg < legs; leg++) {
      if (this.sectorsBelow(leg, start) < this.sectorsBelow(leg, end)) count++;
    }
    let part = this.takeParts(bio, count);
    if (part === null) return false;
    for (let leg = 0; part !== null; leg++) {
      const from = this.sectorsBelow(leg, start);
      const sectors = this.sectorsBelow(leg, end) - from;
      if (sectors === 0) continue;
      const next: Bio | null = part.next;
      part.sizeBytes = sectors * SECTOR_BYTES;
      this.hand(bio, part, leg, from);
      part = next;
    }
    bio.end(BlockStatus.ok);
    return true;
  }

  /** Sectors of one leg that are below a sector of the whole. */
  private sectorsBelow(leg: number, sector: number): number {
    const { chunkSectors } = this;
    const legs = this.legs.length;
    const chunk = Math.floor(sector / chunkSectors);
    const row = Math.floor(chunk / legs);
    const at = chunk - row * legs;
    if (leg < at) return (row + 1) * chunkSectors;
    if (leg > at) return row * chunkSectors;
    return row * chunkSectors + (sector - chunk * chunkSectors);
  }
}
