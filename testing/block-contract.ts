/**
 * The contract of a block device, run against every driver: data arrives where it should, every bio
 * ends once, misuse is refused with the right status, and the steady state allocates nothing.
 */

import { afterEach, beforeEach, describe, expect, it } from "vitest";
import {
  type Bio,
  BioFlag,
  BioOp,
  type BioOwner,
  BioPool,
  type BlockQueue,
  BlockStatus,
  blockStatusName,
  QueueFeature,
  type RequestQueue,
} from "../src/block/index.ts";
import { Prng } from "../src/core/index.ts";
import type { IoMemory } from "../src/memory/index.ts";
import { allocatedBytes, leastOf } from "./heap.ts";

/** Bios of one run that is checked for allocation. */
const BIOS = 10_000;
/**
 * Tries for the steady state: on a busy machine the optimizer comes late. All of them fail on a
 * leak.
 */
const TRIES_MAX = 60;

/** A device under test with memory that it can reach. */
export interface BlockHarness {
  /** One that makes requests has a depth, and counts its commits. */
  readonly queue: BlockQueue & Partial<Pick<RequestQueue, "depth" | "counters">>;
  /** At least 4 MiB, readable and writable by the device. */
  readonly memory: IoMemory;
  /** The same bytes, for the test. */
  readonly bytes: Uint8Array;
  /** Runs everything once: device, driver, queue. Returns how many things were done. */
  poll(): number;
  close(): Promise<void>;
  /** Bytes that the steady state may leave per bio; default 64 (see the test). */
  readonly garbageBytesMax?: number;
}

/** Ends are counted per bio, so that a second one shows. */
class Ends implements BioOwner {
  readonly statuses: number[] = [];
  readonly perBio = new Map<Bio, number>();

  bioDone(bio: Bio): void {
    this.statuses.push(bio.status);
    this.perBio.set(bio, (this.perBio.get(bio) ?? 0) + 1);
  }
}

/** Counts and reuses; allocates nothing. */
class Recycler implements BioOwner {
  left = 0;
  failed = 0;
  queue: BlockQueue | null = null;

  bioDone(bio: Bio): void {
    if (bio.status !== BlockStatus.ok) this.failed++;
    if (this.left-- > 0) this.queue?.submit(bio);
  }
}

export function blockContract(name: string, open: () => Promise<BlockHarness>): void {
  describe(`${name}: block contract`, () => {
    let harness: BlockHarness;
    let pool: BioPool;

    beforeEach(async () => {
      harness = await open();
      pool = new BioPool(64, 64);
    });
    afterEach(async () => {
      await harness.close();
    });

    const settle = (ends: Ends, count: number): void => {
      for (let idle = 0; ends.statuses.length < count; ) {
        idle = harness.poll() > 0 ? 0 : idle + 1;
        expect(idle, "the device went idle with bios in flight").toBeLessThan(1000);
      }
    };
    const make = (op: number, sector: number, ends: Ends): Bio => {
      const bio = pool.acquire();
      expect(bio).not.toBeNull();
      (bio as Bio).op = op;
      (bio as Bio).sector = sector;
      (bio as Bio).owner = ends;
      return bio as Bio;
    };
    const run = (bio: Bio, ends: Ends): number => {
      harness.queue.submit(bio);
      harness.queue.kick();
      settle(ends, ends.statuses.length + (bio.pending > 0 ? 1 : 0));
      expect(ends.perBio.get(bio)).toBe(1);
      const { status } = bio;
      pool.release(bio);
      ends.perBio.delete(bio);
      return status;
    };
    const io = (op: number, sector: number, offset: number, length: number): number => {
      const ends = new Ends();
      const bio = make(op, sector, ends);
      expect(bio.addMemory(harness.memory, offset, length)).toBe(BlockStatus.ok);
      return run(bio, ends);
    };
    const block = (): number => harness.queue.limits.logicalBlockBytes;

    it("reads back what it wrote, at block, page and transfer sizes", () => {
      const { bytes, queue } = harness;
      const prng = new Prng(1);
      const sizes = [block(), 4096, 8192, 65_536, 1_048_576, queue.limits.maxBytes + 4096];
      for (const size of sizes.map((size) => Math.min(size, 2 * 1024 * 1024))) {
        const source = bytes.subarray(0, size);
        prng.fill(source);
        const before = source.slice();
        expect(io(BioOp.write, 64, 0, size)).toBe(BlockStatus.ok);
        const target = 2 * 1024 * 1024;
        bytes.fill(0, target, target + size);
        expect(io(BioOp.read, 64, target, size)).toBe(BlockStatus.ok);
        expect(Buffer.compare(bytes.subarray(target, target + size), before)).toBe(0);
      }
    });

    it("gathers and scatters vectors of odd sizes and places", () => {
      const { bytes, memory } = harness;
      const prng = new Prng(2);
      // Where gaps are not allowed every odd place is a split, and parts are whole blocks.
      const granule = harness.queue.limits.virtBoundary > 0 ? block() : 4;
      for (let round = 0; round < 12; round++) {
        const lengths: number[] = [];
        let total = 0;
        for (let i = 0; i < 1 + prng.below(20); i++)
          lengths.push(granule * (1 + prng.below(12_000 / granule)));
        for (const length of lengths) total += length;
        const rest = total % block();
        if (rest > 0) lengths.push(block() - rest);
        const ends = new Ends();
        const bio = make(BioOp.write, 8 * round, ends);
        const expected: Uint8Array[] = [];
        for (const length of lengths) {
          const offset = 4 * prng.below(1024 * 256);
          prng.fill(bytes.subarray(offset, offset + length));
        }
        for (const length of lengths) {
          const offset = 4 * prng.below(1024 * 256);
          expect(bio.addMemory(memory, offset, length)).toBe(BlockStatus.ok);
          expected.push(bytes.slice(offset, offset + length));
        }
        expect(blockStatusName(run(bio, ends))).toBe("ok");
        const size = expected.reduce((sum, { length }) => sum + length, 0);
        expect(io(BioOp.read, 8 * round, 2 * 1024 * 1024, size)).toBe(BlockStatus.ok);
        const got = bytes.subarray(2 * 1024 * 1024, 2 * 1024 * 1024 + size);
        expect(Buffer.compare(got, Buffer.concat(expected))).toBe(0);
      }
    });

    it("ends every bio of a deep batch once, with one commit per kick", () => {
      const { queue, memory, bytes } = harness;
      const ends = new Ends();
      const commits = queue.counters?.commits ?? 0;
      for (let i = 0; i < 32; i++) {
        bytes.fill(i + 1, i * 4096, (i + 1) * 4096);
        // Far apart on the device, so that they do not merge.
        const bio = make(BioOp.write, i * 64, ends);
        bio.addMemory(memory, i * 4096, 4096);
        queue.submit(bio);
      }
      queue.kick();
      if (queue.counters !== undefined) expect(queue.counters.commits).toBe(commits + 1);
      settle(ends, 32);
      expect([...ends.perBio.values()]).toEqual(new Array(32).fill(1));
      expect(ends.statuses).toEqual(new Array(32).fill(BlockStatus.ok));
      for (let i = 0; i < 32; i++) {
        expect(io(BioOp.read, i * 64, 2 * 1024 * 1024, 4096)).toBe(BlockStatus.ok);
        expect(bytes[2 * 1024 * 1024]).toBe(i + 1);
      }
    });

    it("gives the owner the bio as it was submitted", () => {
      const ends = new Ends();
      const bio = make(BioOp.read, 128, ends);
      const size = Math.min(harness.queue.limits.maxBytes * 2, 2 * 1024 * 1024);
      bio.addMemory(harness.memory, 0, size);
      harness.queue.submit(bio);
      harness.queue.kick();
      settle(ends, 1);
      expect([bio.sector, bio.sizeBytes, bio.vecIndex, bio.vecDone]).toEqual([128, size, 0, 0]);
    });

    it("refuses what lies outside the device, breaks blocks or alignment", () => {
      const { capacityBytes } = harness.queue;
      expect(io(BioOp.read, capacityBytes / 512, 0, block())).toBe(BlockStatus.invalid);
      expect(io(BioOp.read, capacityBytes / 512 - 1, 0, 2 * block())).toBe(BlockStatus.invalid);
      expect(io(BioOp.read, 0, 0, block() - 4)).toBe(BlockStatus.invalid);
      const takesAny = harness.queue.limits.dmaAlignment === 1;
      const verdict = takesAny ? BlockStatus.ok : BlockStatus.invalid;
      expect(io(BioOp.write, 0, 1, block())).toBe(verdict);
    });

    it("flushes, writes zeroes and discards as its features say", () => {
      const { queue, bytes } = harness;
      const ends = new Ends();
      expect(run(make(BioOp.flush, 0, ends), ends)).toBe(BlockStatus.ok);
      bytes.fill(7, 0, 65_536);
      expect(io(BioOp.write, 0, 0, 65_536)).toBe(BlockStatus.ok);
      const zeroes = make(BioOp.writeZeroes, 0, ends);
      zeroes.setRange(0, 32_768);
      const canZero = (queue.features & QueueFeature.writeZeroes) !== 0;
      expect(run(zeroes, ends)).toBe(canZero ? BlockStatus.ok : BlockStatus.notSupported);
      expect(io(BioOp.read, 0, 0, 65_536)).toBe(BlockStatus.ok);
      expect([bytes[0], bytes[32_768]]).toEqual([canZero ? 0 : 7, 7]);
      const discard = make(BioOp.discard, 0, ends);
      discard.setRange(64, 8192);
      const canDiscard = (queue.features & QueueFeature.discard) !== 0;
      expect(run(discard, ends)).toBe(canDiscard ? BlockStatus.ok : BlockStatus.notSupported);
    });

    it("compares where the device can", () => {
      const { queue, bytes } = harness;
      bytes.fill(9, 0, 4096);
      expect(io(BioOp.write, 0, 0, 4096)).toBe(BlockStatus.ok);
      const canCompare = (queue.features & QueueFeature.compare) !== 0;
      const same = io(BioOp.compare, 0, 0, 4096);
      expect(same).toBe(canCompare ? BlockStatus.ok : BlockStatus.notSupported);
      if (!canCompare) return;
      bytes[100] = 1;
      expect(io(BioOp.compare, 0, 0, 4096)).toBe(BlockStatus.compareFailed);
    });

    it("takes more bios than it has requests, and force unit access", () => {
      const { queue, memory } = harness;
      const ends = new Ends();
      const count = (queue.depth ?? 0) + 40;
      const many = new BioPool(count, 4);
      for (let i = 0; i < count; i++) {
        const bio = many.acquire() as Bio;
        bio.op = BioOp.write;
        if ((queue.features & QueueFeature.fua) !== 0) bio.flags |= BioFlag.fua;
        bio.sector = (i % 64) * 64;
        bio.owner = ends;
        bio.addMemory(memory, (i % 256) * 4096, 4096);
        queue.submit(bio);
      }
      queue.kick();
      settle(ends, count);
      expect(ends.statuses.every((status) => status === BlockStatus.ok)).toBe(true);
      expect([...ends.perBio.values()].every((count) => count === 1)).toBe(true);
    });

    it("allocates nothing in steady state", () => {
      const { queue, memory } = harness;
      const owner = new Recycler();
      owner.queue = queue;
      const start = (count: number): void => {
        owner.left = count;
        for (let i = 0; i < 8; i++) {
          const bio = pool.acquire() as Bio;
          bio.op = i % 2 === 0 ? BioOp.write : BioOp.read;
          bio.sector = i * 64;
          bio.owner = owner;
          bio.addMemory(memory, i * 8192, 4096);
          queue.submit(bio);
        }
        queue.kick();
        for (let idle = 0; idle < 100; ) idle = harness.poll() > 0 ? 0 : idle + 1;
      };
      start(BIOS);
      // Garbage counts too: the young generation is not collected within one run. Code that is not
      // optimized yet boxes numbers, and a busy machine optimizes late, so there are several tries.
      const limit = harness.garbageBytesMax ?? 64;
      const best = leastOf(TRIES_MAX, limit, () => {
        pool = new BioPool(8, 4);
        return allocatedBytes(() => start(BIOS)) / BIOS;
      });
      expect(owner.failed).toBe(0);
      // Addresses do not fit a small integer, so the engine boxes some (16 bytes each) on their way
      // through calls it does not inline. An object or a view per bio would show.
      expect(best).toBeLessThan(limit);
    });
  });
}
