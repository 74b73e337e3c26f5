import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { bytesPerCall } from "../../testing/heap.ts";
import { AssertionError, Prng } from "../core/index.ts";
import { PoolAllocator } from "./index.ts";

describe("PoolAllocator", () => {
  it.each([512, 4096, 65_536, 2 * 1024 * 1024])(
    "granule %i: ranges never overlap",
    (granularity) => {
      fc.assert(
        fc.property(fc.integer({ min: 0, max: 2 ** 31 }), (seed) => {
          const prng = new Prng(seed);
          const size = granularity * 97 + 100;
          const pool = new PoolAllocator(size, granularity);
          const owner = new Int32Array(97).fill(-1);
          const live: { offset: number; length: number; id: number }[] = [];
          for (let id = 0; id < 150; id++) {
            const length = 1 + prng.below(granularity * 9);
            const granules = Math.ceil(length / granularity);
            if (prng.chance(0.45) && live.length > 0) {
              const [gone] = live.splice(prng.below(live.length), 1);
              pool.free(gone.offset, gone.length);
              owner.forEach((who, i) => {
                if (who === gone.id) owner[i] = -1;
              });
              continue;
            }
            const chosen = prng.chance(0.2) ? prng.below(97) * granularity : -1;
            const offset = chosen < 0 ? pool.alloc(length) : chosen;
            const from = offset / granularity;
            const wanted = owner.slice(from, from + granules);
            const isFree = from + granules <= 97 && !wanted.some((who) => who >= 0);
            if (chosen >= 0) expect(pool.allocAt(chosen, length)).toBe(isFree);
            else if (offset >= 0) expect(isFree).toBe(true);
            if (offset < 0 || !isFree) continue;
            owner.fill(id, from, from + granules);
            live.push({ offset, length, id });
            expect(pool.available).toBe(owner.filter((who) => who < 0).length * granularity);
          }
          for (const { offset, length } of live) pool.free(offset, length);
          expect(pool.freeRuns).toBe(1);
          expect(pool.longestFree).toBe(97 * granularity);
        }),
        { seed: 512, numRuns: 20 },
      );
    },
  );

  it("is first fit, and gives a freed size back before it looks further", () => {
    const pool = new PoolAllocator(64 * 4096, 4096);
    expect(pool.alloc(1)).toBe(0);
    expect(pool.alloc(4097)).toBe(4096);
    expect(pool.alloc(4096)).toBe(3 * 4096);
    pool.free(4096, 4097);
    expect(pool.alloc(8192)).toBe(4096);
  });

  it("serves a stream of mixed sizes for long without losing room to fragmentation", () => {
    const prng = new Prng(24);
    const pool = new PoolAllocator(16 * 1024 * 1024, 4096);
    const sizes = [4096, 8192, 16_384, 65_536, 131_072];
    const live: [number, number][] = [];
    let failures = 0;
    for (let i = 0; i < 20_000; i++) {
      const length = prng.pick(sizes);
      // 64 in flight of at most 128 KiB are at most half of the pool.
      if (live.length >= 64) {
        const [[offset, bytes]] = live.splice(prng.below(live.length), 1);
        pool.free(offset, bytes);
      }
      const offset = pool.alloc(length);
      if (offset < 0) failures++;
      else live.push([offset, length]);
    }
    expect(failures).toBe(0);
    for (const [offset, bytes] of live) pool.free(offset, bytes);
    expect(pool.freeRuns).toBe(1);
  });

  it("refuses impossible granules and frees that are no allocation", () => {
    expect(() => new PoolAllocator(8192, 256)).toThrow(AssertionError);
    expect(() => new PoolAllocator(8192, 3000)).toThrow(AssertionError);
    expect(() => new PoolAllocator(2048, 4096)).toThrow(AssertionError);
    const pool = new PoolAllocator(8192, 4096);
    expect(() => pool.free(0, 4096)).toThrow(AssertionError);
    expect(() => pool.allocAt(100, 4096)).toThrow(AssertionError);
  });

  it("allocates nothing, measured over a million allocations and frees", () => {
    const pool = new PoolAllocator(16 * 1024 * 1024, 4096);
    const cycle = (count: number): void => {
      for (let i = 0; i < count; i++) {
        const a = pool.alloc(4096);
        const b = pool.alloc(131_072);
        pool.free(a, 4096);
        pool.free(b, 131_072);
      }
    };
    expect(bytesPerCall(250_000, cycle)).toBeLessThan(1);
  });
});
