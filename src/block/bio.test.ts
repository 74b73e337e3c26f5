import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { ArenaMemory } from "../../testing/block-arena.ts";
import { type Bio, BioFlag, BioOp, BioPool, BioResult, BlockStatus, NO_MEMORY } from "./index.ts";

const memory = new ArenaMemory(1024 * 1024);
const other = new ArenaMemory(1024 * 1024, { cpuAccessible: false });

function bioOf(pool: BioPool, lengths: readonly number[], op: number = BioOp.write): Bio {
  const bio = pool.acquire() as Bio;
  bio.op = op;
  // A hole after each vector, so that they do not join.
  for (const [i, length] of lengths.entries()) bio.addMemory(memory, i * 8192, length);
  return bio;
}

describe("adding vectors", () => {
  it("joins what continues the last vector in the same memory", () => {
    const bio = new BioPool(1, 4).acquire() as Bio;
    expect(bio.addMemory(memory, 0, 512)).toBe(BlockStatus.ok);
    expect(bio.addMemory(memory, 512, 512)).toBe(BlockStatus.ok);
    expect(bio.addMemory(other, 1024, 512)).toBe(BlockStatus.ok);
    expect(bio.addMemory(memory, 1536, 512)).toBe(BlockStatus.ok);
    expect([bio.vecCount, bio.sizeBytes]).toEqual([3, 2048]);
    expect(Array.from(bio.lengths.slice(bio.vecBase, bio.vecBase + 3))).toEqual([1024, 512, 512]);
  });

  it("says when the vectors are used up, and keeps what was there", () => {
    const pool = new BioPool(1, 2);
    const bio = bioOf(pool, [512, 512]);
    expect(bio.addMemory(memory, 0x20000, 512)).toBe(BlockStatus.resource);
    expect([bio.vecCount, bio.sizeBytes]).toEqual([2, 1024]);
    // It may still continue the last one.
    expect(bio.addMemory(memory, 8192 + 512, 512)).toBe(BlockStatus.ok);
  });

  it("refuses empty vectors, clones and bios in flight", () => {
    const pool = new BioPool(2, 2);
    const bio = bioOf(pool, [512]);
    expect(bio.addMemory(memory, 0, 0)).toBe(BlockStatus.invalid);
    const clone = pool.acquire() as Bio;
    clone.cloneOf(bio);
    expect(clone.addMemory(memory, 0, 512)).toBe(BlockStatus.invalid);
    expect(pool.addToCloneCount).toBe(1);
    bio.begin();
    expect(bio.addMemory(memory, 0x20000, 512)).toBe(BlockStatus.invalid);
  });

  it("marks the bio as dma-direct as soon as one vector is out of the CPU's reach", () => {
    const bio = new BioPool(1, 4).acquire() as Bio;
    bio.addMemory(memory, 0, 512);
    expect(bio.flags & BioFlag.dmaDirect).toBe(0);
    bio.addMemory(other, 0, 512);
    expect(bio.flags & BioFlag.dmaDirect).toBe(BioFlag.dmaDirect);
  });
});

describe("the iterator", () => {
  it("moves by the least of what is asked, what is left and what the vector has", () => {
    const bio = bioOf(new BioPool(1, 4), [1000, 24, 1024]);
    bio.sector = 10;
    expect(bio.currentBytes()).toBe(1000);
    expect(bio.advance(512)).toBe(BlockStatus.ok);
    expect([bio.sector, bio.vecIndex, bio.vecDone, bio.sizeBytes]).toEqual([11, 0, 512, 1536]);
    expect(bio.advance(512)).toBe(BlockStatus.ok);
    expect([bio.vecIndex, bio.vecDone, bio.currentBytes()]).toEqual([2, 0, 1024]);
  });

  it("survives being moved too far, and counts it", () => {
    const bio = bioOf(new BioPool(1, 4), [512]);
    expect(bio.advance(513)).toBe(BlockStatus.invalid);
    expect([bio.sizeBytes, bio.currentBytes()]).toEqual([0, 0]);
    expect(bio.pool.overAdvanceCount).toBe(1);
    const range = new BioPool(1, 0).acquire() as Bio;
    range.op = BioOp.discard;
    range.setRange(0, 1024);
    expect(range.advance(2048)).toBe(BlockStatus.invalid);
    expect(range.sizeBytes).toBe(0);
  });

  it("agrees with a walk byte by byte", () => {
    const lengths = fc.array(fc.integer({ min: 1, max: 40 }), { minLength: 1, maxLength: 12 });
    const steps = fc.array(fc.integer({ min: 0, max: 60 }), { maxLength: 20 });
    fc.assert(
      fc.property(lengths, steps, (vecs, moves) => {
        const bio = bioOf(new BioPool(1, 12), vecs);
        const places = vecs.flatMap((n, i) => Array.from({ length: n }, (_, at) => [i, at]));
        let done = 0;
        for (const move of moves) {
          const isInside = done + move <= places.length;
          expect(bio.advance(move)).toBe(isInside ? BlockStatus.ok : BlockStatus.invalid);
          if (!isInside) return;
          done += move;
          expect(bio.sizeBytes).toBe(places.length - done);
          const place = places[done];
          if (place !== undefined) expect([bio.vecIndex, bio.vecDone]).toEqual(place);
        }
      }),
      { seed: 7, numRuns: 200 },
    );
  });
});

describe("clones and parts", () => {
  it("share vectors but not iterators", () => {
    const pool = new BioPool(2, 4);
    const bio = bioOf(pool, [1024, 1024]);
    const clone = pool.acquire() as Bio;
    clone.cloneOf(bio);
    clone.advance(1536);
    expect([bio.vecIndex, clone.vecIndex, clone.vecDone]).toEqual([0, 1, 512]);
    pool.release(clone);
    // The vectors are still the origin's.
    expect(bio.memories[bio.vecBase]).toBe(memory);
  });

  it("split off the front, and say when there is no bio for it", () => {
    const pool = new BioPool(2, 4);
    const bio = bioOf(pool, [1024, 1024]);
    bio.sector = 100;
    const front = bio.splitFront(512, pool) as Bio;
    expect([front.sector, front.sizeBytes, front.vecIndex]).toEqual([100, 512, 0]);
    expect([bio.sector, bio.sizeBytes, bio.vecDone]).toEqual([101, 1536, 512]);
    expect(bio.splitFront(512, pool)).toBeNull();
    expect([bio.sector, bio.sizeBytes]).toEqual([101, 1536]);
    expect(pool.emptyCount).toBe(1);
  });

  it("split off the back", () => {
    const pool = new BioPool(2, 4);
    const bio = bioOf(pool, [1024, 1024]);
    const back = bio.splitBack(1536, pool) as Bio;
    expect([bio.sector, bio.sizeBytes, bio.vecIndex, bio.vecDone]).toEqual([0, 512, 0, 0]);
    expect([back.sector, back.sizeBytes, back.vecIndex, back.vecDone]).toEqual([1, 1536, 0, 512]);
    expect(back.doneBytes).toBe(512);
  });

  it("end their parent once, after the last of them, with the first error", () => {
    const pool = new BioPool(4, 4);
    const bio = bioOf(pool, [1024, 1024]);
    const result = new BioResult();
    bio.owner = result;
    bio.begin();
    const parts = [512, 512].map((bytes) => bio.splitFront(bytes, pool) as Bio);
    for (const part of parts) {
      part.chainTo(bio);
      part.begin();
    }
    bio.end(BlockStatus.ok);
    parts[1].end(BlockStatus.medium);
    expect(result.done).toBe(0);
    parts[0].end(BlockStatus.timeout);
    expect([result.done, result.status]).toEqual([1, BlockStatus.medium]);
    expect([bio.sector, bio.sizeBytes, bio.vecIndex, bio.vecDone]).toEqual([0, 2048, 0, 0]);
    expect(pool.available).toBe(3);
  });

  it("end once: a second end is a bug", () => {
    const bio = bioOf(new BioPool(1, 1), [512]);
    bio.owner = new BioResult();
    bio.begin();
    bio.end(BlockStatus.ok);
    expect(() => bio.end(BlockStatus.ok)).toThrow("a bio ends once");
  });
});

describe("a bio pool", () => {
  it("gives clean bios and takes each back once", () => {
    const pool = new BioPool(1, 4);
    const bio = bioOf(pool, [512]);
    bio.flags = BioFlag.fua;
    expect(pool.acquire()).toBeNull();
    pool.release(bio);
    expect(() => pool.release(bio)).toThrow("its own pool once");
    const again = pool.acquire() as Bio;
    expect([again.flags, again.vecCount, again.sizeBytes, again.memories[again.vecBase]]).toEqual([
      0,
      0,
      0,
      NO_MEMORY,
    ]);
  });
});
