import { describe, expect, it } from "vitest";
import { ArenaMemory, RamDisk } from "../../testing/block-arena.ts";
import { MapStatus } from "../memory/index.ts";
import {
  type Bio,
  BioFlag,
  BioOp,
  type BioOwner,
  BioPool,
  BioResult,
  BLOCK_BUSY,
  BlockStatus,
  QueueFeature,
  type QueueLimitOptions,
  QueueLimits,
  RequestQueue,
  stackLimits,
} from "./index.ts";

function setup(options: QueueLimitOptions = {}, slots = 64, depth = 8) {
  const memory = new ArenaMemory(1024 * 1024, { needsUnmap: true });
  const disk = new RamDisk({ sizeBytes: 4 * 1024 * 1024, memories: [memory], slots });
  const limits = new QueueLimits({ features: 0x7f, dmaAlignment: 4, ...options });
  disk.limits = limits;
  const capacityBytes = disk.data.length;
  const queue = new RequestQueue(disk, { name: "ram", limits, initiator: 1, capacityBytes, depth });
  const pool = new BioPool(64, 4);
  const write = (sector: number, length: number, owner: BioOwner, flags = 0): Bio => {
    const bio = pool.acquire() as Bio;
    bio.op = BioOp.write;
    bio.sector = sector;
    bio.flags |= flags;
    bio.owner = owner;
    bio.addMemory(memory, sector * 512, length);
    queue.submit(bio);
    return bio;
  };
  return { memory, disk, queue, pool, write };
}

describe("merging", () => {
  it("joins at the back and at the front, and ends each bio", () => {
    const { disk, queue, write } = setup();
    const result = new BioResult();
    write(8, 4096, result);
    write(16, 4096, result);
    write(0, 4096, result);
    queue.kick();
    queue.poll();
    expect(result.done).toBe(3);
    expect(disk.seen.map(({ sector, sizeBytes }) => [sector, sizeBytes])).toEqual([[0, 12_288]]);
    expect(queue.counters).toMatchObject({ bios: 3, requests: 1, merges: 2, completed: 1 });
  });

  it.each([
    ["another sector", 24, 0, {}],
    ["noMerge", 8, BioFlag.noMerge, {}],
    ["other flags", 8, BioFlag.fua, {}],
    ["too many bytes", 8, 0, { maxBytes: 4096 }],
    ["too many segments", 8, 0, { maxSegments: 1, maxSegmentBytes: 4096 }],
    ["a chunk's end", 8, 0, { chunkBytes: 4096 }],
  ] as const)("does not join with %s", (_, sector, flags, limits) => {
    const { disk, queue, write } = setup(limits);
    const result = new BioResult();
    write(0, 4096, result);
    write(sector, 4096, result, flags);
    queue.kick();
    queue.poll();
    expect([result.done, disk.seen.length]).toEqual([2, 2]);
  });

  it("does not join across a gap that the device does not allow", () => {
    const { disk, queue, memory, pool } = setup({ virtBoundary: 4096 });
    const result = new BioResult();
    for (const [sector, offset] of [
      [0, 512],
      [8, 8192],
    ]) {
      const bio = pool.acquire() as Bio;
      bio.op = BioOp.write;
      bio.sector = sector;
      bio.owner = result;
      bio.addMemory(memory, offset, 4096);
      queue.submit(bio);
    }
    queue.kick();
    queue.poll();
    expect([result.done, disk.seen.length]).toEqual([2, 2]);
  });

  it("fails every bio of a request that fails", () => {
    const { disk, queue, write } = setup();
    const statuses: number[] = [];
    const owner = { bioDone: (bio: Bio) => statuses.push(bio.status) };
    write(0, 4096, owner);
    write(8, 4096, owner);
    disk.verdicts.push(BlockStatus.medium);
    queue.kick();
    queue.poll();
    expect(statuses).toEqual([BlockStatus.medium, BlockStatus.medium]);
    expect(queue.counters.failed).toBe(1);
  });
});

describe("running out", () => {
  it("of requests: bios wait in order and go on by themselves", () => {
    const { queue, disk, write } = setup({}, 64, 2);
    const order: number[] = [];
    const owner = { bioDone: (bio: Bio) => order.push(bio.sector) };
    for (let i = 0; i < 10; i++) write(i * 100, 4096, owner);
    queue.kick();
    expect(disk.seen.length).toBe(2);
    for (let i = 0; i < 10; i++) queue.poll();
    expect(order).toEqual([0, 100, 200, 300, 400, 500, 600, 700, 800, 900]);
  });

  it("of slots in the driver: requests are offered again, mapped once", () => {
    const { queue, write, memory } = setup({}, 1);
    const result = new BioResult();
    for (let i = 0; i < 4; i++) write(i * 100, 4096, result);
    queue.kick();
    expect(queue.counters.busy).toBe(1);
    for (let i = 0; i < 8; i++) queue.poll();
    expect(result.done).toBe(4);
    expect([memory.maps, memory.liveMaps]).toEqual([4, 0]);
  });

  it("of fragments in the middle of a large bio", () => {
    const { queue, disk, write } = setup({ maxBytes: 4096 }, 64, 3);
    const result = new BioResult();
    const bio = write(0, 128 * 1024, result);
    queue.kick();
    for (let i = 0; i < 100 && result.done === 0; i++) queue.poll();
    expect([result.done, result.status, disk.seen.length]).toEqual([1, BlockStatus.ok, 32]);
    expect([bio.sector, bio.sizeBytes]).toEqual([0, 128 * 1024]);
  });

  it("of IOVA space: waits while something is in flight, else fails", () => {
    const { queue, write, memory } = setup();
    const result = new BioResult();
    write(0, 4096, result);
    queue.kick();
    memory.failNext = MapStatus.noResources;
    write(100, 4096, result);
    queue.kick();
    expect(result.done).toBe(0);
    for (let i = 0; i < 4; i++) queue.poll();
    expect([result.done, result.status]).toEqual([2, BlockStatus.ok]);
    memory.failNext = MapStatus.noResources;
    write(200, 4096, result);
    queue.kick();
    expect([result.done, result.status]).toEqual([3, BlockStatus.resource]);
  });
});

describe("refusals", () => {
  it.each([
    ["a revoked lease", MapStatus.revoked, BlockStatus.revoked],
    ["no route", MapStatus.noRoute, BlockStatus.noRoute],
    ["bytes outside the memory", MapStatus.outOfRange, BlockStatus.outOfRange],
    ["another initiator", MapStatus.wrongInitiator, BlockStatus.wrongInitiator],
  ])("keep their reason: %s", (_, failure, status) => {
    const { queue, write, memory, disk } = setup();
    const result = new BioResult();
    memory.failNext = failure;
    write(0, 4096, result);
    queue.kick();
    expect([result.done, result.status, disk.seen.length]).toEqual([1, status, 0]);
  });

  it("by the driver end the bio and unmap it", () => {
    const { queue, write, memory, disk } = setup();
    const result = new BioResult();
    disk.refusals.push(BlockStatus.offline);
    write(0, 4096, result);
    queue.kick();
    expect([result.status, memory.liveMaps]).toEqual([BlockStatus.offline, 0]);
  });

  it("give back what a half-mapped request took", () => {
    const { queue, memory, pool } = setup();
    const result = new BioResult();
    const bio = pool.acquire() as Bio;
    bio.op = BioOp.write;
    bio.owner = result;
    bio.addMemory(memory, 0, 4096);
    // The second vector lies outside.
    bio.addMemory(memory, 1024 * 1024 + 8192, 4096);
    queue.submit(bio);
    queue.kick();
    expect([result.status, memory.liveMaps]).toEqual([BlockStatus.outOfRange, 0]);
  });

  it("of force unit access where a cache would swallow it", () => {
    const { queue, write } = setup({ features: QueueFeature.writeCache });
    const result = new BioResult();
    write(0, 4096, result, BioFlag.fua);
    queue.kick();
    expect(result.status).toBe(BlockStatus.notSupported);
    // Without a cache every write is through.
    const through = setup({ features: 0 });
    through.write(0, 4096, result, BioFlag.fua);
    through.queue.poll();
    through.queue.poll();
    expect([result.done, result.status]).toEqual([2, BlockStatus.ok]);
  });

  it("of a mapping with more segments than the device takes", () => {
    // One segment for the limits; the device's address crosses a boundary in the middle.
    const memory = new ArenaMemory(65_536, {
      limitBase: 0x1_0000_0000,
      bases: new Map([[1, 0x2_0000_0000 - 4096]]),
      needsUnmap: true,
    });
    const disk = new RamDisk({ sizeBytes: 1024 * 1024, memories: [memory] });
    const limits = new QueueLimits({ maxSegments: 1 });
    const options = { name: "ram", limits, initiator: 1, capacityBytes: 1024 * 1024, depth: 2 };
    const queue = new RequestQueue(disk, options);
    const result = new BioResult();
    const bio = new BioPool(1, 1).acquire() as Bio;
    bio.op = BioOp.write;
    bio.owner = result;
    bio.addMemory(memory, 0, 8192);
    queue.submit(bio);
    queue.kick();
    expect([result.status, memory.liveMaps]).toEqual([BlockStatus.invalid, 0]);
  });

  it("of operations that the device lacks", () => {
    const { queue, pool } = setup({ features: 0 });
    const result = new BioResult();
    for (const op of [BioOp.writeZeroes, BioOp.discard, BioOp.verify]) {
      const bio = pool.acquire() as Bio;
      bio.op = op;
      bio.owner = result;
      bio.setRange(0, 4096);
      queue.submit(bio);
      expect(result.status).toBe(BlockStatus.notSupported);
    }
  });
});

describe("an owner", () => {
  it("may submit again from inside bioDone, even when submit itself fails the bio", () => {
    const { queue, write, disk } = setup();
    let rounds = 0;
    const owner = {
      bioDone: (bio: Bio) => {
        rounds++;
        if (rounds < 5) queue.submit(bio);
      },
    };
    disk.refusals.push(BlockStatus.offline, BlockStatus.offline);
    write(0, 4096, owner);
    queue.kick();
    for (let i = 0; i < 10; i++) queue.poll();
    expect(rounds).toBe(5);
  });

  it("may submit while a bio that waited is refused", () => {
    const { queue, write, pool, memory } = setup({}, 64, 1);
    const result = new BioResult();
    const statuses: number[] = [];
    const owner = {
      bioDone: (bio: Bio) => {
        statuses.push(bio.status);
        if (statuses.length === 1) write(300, 4096, result);
      },
    };
    write(0, 4096, result);
    const odd = pool.acquire() as Bio;
    odd.op = BioOp.write;
    odd.sector = 100;
    odd.owner = owner;
    // Waits for a request; only when it is placed its alignment is looked at.
    odd.addMemory(memory, 2, 4096);
    queue.submit(odd);
    write(200, 4096, result);
    for (let i = 0; i < 10; i++) queue.poll();
    expect(statuses).toEqual([BlockStatus.invalid]);
    expect([result.done, result.status]).toEqual([3, BlockStatus.ok]);
  });

  it("is told once when a driver holds everything back", () => {
    const { queue, write, disk } = setup();
    const result = new BioResult();
    disk.isStalled = true;
    write(0, 4096, result);
    for (let i = 0; i < 3; i++) queue.poll();
    expect(result.done).toBe(0);
    disk.isStalled = false;
    queue.poll();
    expect(result.done).toBe(1);
    expect(queue.inspect()).toMatchObject({ inFlight: 0, plugged: 0 });
  });
});

describe("limits", () => {
  it("are checked when they are made", () => {
    for (const options of [
      { logicalBlockBytes: 513 },
      { logicalBlockBytes: 256 },
      { maxBytes: 256 },
      { maxSegments: 0 },
      { segmentBoundary: 2048 },
      { segmentBoundary: 2 ** 53 },
      { virtBoundary: 6000 },
      { dmaAlignment: 3 },
      { chunkBytes: 1000 },
    ]) {
      expect(() => new QueueLimits(options)).toThrow("queue limits");
    }
    expect(BLOCK_BUSY).toBeLessThan(0);
  });

  it("default to what Linux gives a driver that says nothing", () => {
    expect(new QueueLimits()).toMatchObject({
      logicalBlockBytes: 512,
      maxBytes: 255 * 512,
      maxSegments: 128,
      maxSegmentBytes: 65_536,
      segmentBoundary: 2 ** 32,
      virtBoundary: 0,
      dmaAlignment: 512,
    });
    // A virtual boundary takes the segment size away; a full segment still ends at a boundary.
    expect(new QueueLimits({ virtBoundary: 4096 }).maxSegmentBytes).toBe(2 ** 32 - 4096);
  });

  it("stacked are the most restrictive, and features are those of all legs", () => {
    const { dmaDirect, writeCache, discard } = QueueFeature;
    const a = new QueueLimits({
      maxBytes: 1e6,
      maxSegments: 10,
      virtBoundary: 4096,
      chunkBytes: 12_288,
      features: dmaDirect | discard,
    });
    const b = new QueueLimits({
      logicalBlockBytes: 4096,
      maxBytes: 65_536,
      dmaAlignment: 4,
      chunkBytes: 8192,
      features: dmaDirect | writeCache,
    });
    expect(stackLimits([a, b])).toMatchObject({
      logicalBlockBytes: 4096,
      maxBytes: 65_536,
      maxSegments: 10,
      maxSegmentBytes: 65_536,
      virtBoundary: 4096,
      dmaAlignment: 512,
      // Only what crosses no multiple of 4096 crosses none of 12288 and none of 8192.
      chunkBytes: 4096,
      features: dmaDirect | writeCache,
    });
    expect(() => stackLimits([])).toThrow("at least one leg");
  });
});
