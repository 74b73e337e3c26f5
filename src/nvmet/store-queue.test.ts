import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { ArenaMemory } from "../../testing/block-arena.ts";
import { blockContract } from "../../testing/block-contract.ts";
import { PowerCutFile } from "../../testing/power-cut-file.ts";
import {
  type Bio,
  BioFlag,
  BioOp,
  type BioOwner,
  BioPool,
  BlockStatus,
  QueueFeature,
} from "../block/index.ts";
import { Copier, type NamespaceStore } from "../core/index.ts";
import { FileStore, MemoryStore } from "../fabric/index.ts";
import { FileStatus } from "../platform/index.ts";
import { StoreQueue } from "./index.ts";

const MIB = 2 ** 20;

function queueOver(store: NamespaceStore, blockBytes = 512): StoreQueue {
  const isCached = store.kind === "file";
  return new StoreQueue({ name: "store", store, blockBytes, isCached, copier: new Copier() });
}

function fileOf(bytes: number, isDeferred = false) {
  const file = new PowerCutFile(new Uint8Array(bytes), { sectorBytes: 512, isDeferred });
  return { file, queue: queueOver(new FileStore(file, bytes)) };
}

const open = (queue: StoreQueue) => async () => {
  const memory = new ArenaMemory(4 * MIB);
  return { queue, memory, bytes: memory.data, poll: () => queue.poll(), close: async () => {} };
};

blockContract("memory", open(queueOver(new MemoryStore(16 * MIB, new Copier()))));
blockContract(
  "memory of 4 KiB blocks",
  open(queueOver(new MemoryStore(16 * MIB, new Copier()), 4096)),
);
// The medium of the test keeps every version of a sector, which is not the queue's garbage.
blockContract("a file", async () => ({
  ...(await open(fileOf(16 * MIB).queue)()),
  garbageBytesMax: Number.POSITIVE_INFINITY,
}));

/** Ends of bios, as they come. */
class Ends implements BioOwner {
  readonly statuses: number[] = [];
  bioDone(bio: Bio): void {
    this.statuses.push(bio.status);
  }
}

const pool = new BioPool(8, 4);

function range(op: number, sector: number, sizeBytes: number, ends: BioOwner, flags = 0): Bio {
  const bio = pool.acquire() as Bio;
  bio.op = op;
  bio.flags |= flags;
  bio.owner = ends;
  if (op !== BioOp.flush) bio.setRange(sector, sizeBytes);
  return bio;
}

describe("store queue", () => {
  it("does what a shadow of the medium does, whatever comes", () => {
    const sectors = 64;
    const op = fc.record({
      op: fc.constantFrom(
        BioOp.read,
        BioOp.write,
        BioOp.compare,
        BioOp.writeZeroes,
        BioOp.discard,
        BioOp.verify,
      ),
      sector: fc.nat(sectors - 1),
      count: fc.integer({ min: 1, max: 16 }),
      value: fc.nat(255),
      flags: fc.constantFrom(0, BioFlag.fua, BioFlag.unmap),
    });
    const check = (
      queue: StoreQueue,
      ops: readonly (typeof op extends fc.Arbitrary<infer T> ? T : never)[],
    ) => {
      const shadow = new Uint8Array(sectors * 512);
      const memory = new ArenaMemory(sectors * 512);
      for (const { op: kind, sector, count, value, flags } of ops) {
        const ends = new Ends();
        const at = sector * 512;
        const bytes = count * 512;
        const fits = at + bytes <= shadow.length;
        const hasData = kind === BioOp.read || kind === BioOp.write || kind === BioOp.compare;
        const bio = hasData
          ? (pool.acquire() as Bio)
          : range(
              kind,
              sector,
              bytes,
              ends,
              flags & ~(kind === BioOp.writeZeroes ? 0 : BioFlag.unmap),
            );
        if (hasData) {
          bio.op = kind;
          bio.sector = sector;
          bio.owner = ends;
          memory.data.fill(value, 0, bytes);
          // Two pieces that are no whole blocks.
          bio.addMemory(memory, 0, 100);
          bio.addMemory(memory, 100, bytes - 100);
        }
        queue.submit(bio);
        for (let i = 0; i < 3; i++) queue.poll();
        const isSame = shadow.subarray(at, at + bytes).every((byte) => byte === value);
        let wanted: number = fits ? BlockStatus.ok : BlockStatus.invalid;
        if (fits && kind === BioOp.compare && !isSame) wanted = BlockStatus.compareFailed;
        expect(ends.statuses).toEqual([wanted]);
        pool.release(bio);
        if (!fits) continue;
        if (kind === BioOp.write) shadow.fill(value, at, at + bytes);
        if (kind === BioOp.writeZeroes || kind === BioOp.discard) shadow.fill(0, at, at + bytes);
        if (kind !== BioOp.read) continue;
        expect(memory.data.subarray(0, bytes)).toEqual(shadow.subarray(at, at + bytes));
      }
      expect(queue.isIdle).toBe(true);
    };
    const stores = fc.constantFrom("memory", "file");
    fc.assert(
      fc.property(stores, fc.array(op, { maxLength: 40 }), (kind, ops) => {
        const size = sectors * 512;
        check(
          kind === "file" ? fileOf(size).queue : queueOver(new MemoryStore(size, new Copier())),
          ops,
        );
      }),
      { seed: 11, numRuns: 150 },
    );
  });

  it("keeps the stack flat when each end submits the next", () => {
    const queue = queueOver(new MemoryStore(MIB, new Copier()));
    let left = 100_000;
    const bio = range(BioOp.verify, 0, 512, {
      bioDone: (ended) => {
        if (left-- > 0) queue.submit(ended);
      },
    });
    queue.submit(bio);
    while (queue.poll() > 0);
    expect(left).toBe(-1);
    pool.release(bio);
  });

  it("cuts a long range into steps, and lets others through between them", () => {
    const queue = queueOver(new MemoryStore(64 * MIB, new Copier()));
    const order: string[] = [];
    const long = range(BioOp.writeZeroes, 0, 32 * MIB, { bioDone: () => order.push("long") });
    queue.submit(long);
    queue.submit(range(BioOp.verify, 0, 512, { bioDone: () => order.push("short") }));
    while (queue.poll() > 0);
    expect(order).toEqual(["short", "long"]);
    expect([long.sector, long.sizeBytes]).toEqual([0, 32 * MIB]);
  });

  it("answers flush, force unit access and durable holes when the file has synced", () => {
    const { file, queue } = fileOf(4 * MIB, true);
    const ends = new Ends();
    const write = pool.acquire() as Bio;
    const memory = new ArenaMemory(4096);
    write.op = BioOp.write;
    write.flags |= BioFlag.fua;
    write.owner = ends;
    write.addMemory(memory, 0, 4096);
    queue.submit(write);
    queue.submit(range(BioOp.flush, 0, 0, ends));
    queue.submit(range(BioOp.writeZeroes, 0, 3 * MIB, ends, BioFlag.fua | BioFlag.unmap));
    queue.poll();
    expect(ends.statuses).toEqual([]);
    expect(queue.isIdle).toBe(false);
    for (let i = 0; i < 20 && !queue.isIdle; i++) {
      file.settle();
      queue.poll();
    }
    expect(ends.statuses).toEqual([BlockStatus.ok, BlockStatus.ok, BlockStatus.ok]);
    expect(file.syncs).toBeGreaterThan(1);
  });

  it("says what the file said, and fails later flushes once one has failed", () => {
    const { file, queue } = fileOf(MIB);
    const status = (op: number, failing: keyof typeof file.failing, code: number): number => {
      const ends = new Ends();
      file.failing[failing] = code;
      const bio = range(op, 0, 4096, ends);
      queue.submit(bio);
      pool.release(bio);
      return ends.statuses[0] as number;
    };
    expect(status(BioOp.verify, "read", FileStatus.error)).toBe(BlockStatus.medium);
    expect(status(BioOp.writeZeroes, "write", FileStatus.noSpace)).toBe(BlockStatus.noSpace);
    expect(status(BioOp.flush, "sync", FileStatus.error)).toBe(BlockStatus.medium);
    expect(status(BioOp.flush, "sync", FileStatus.ok)).toBe(BlockStatus.medium);
  });

  it("offers what its store can do, and refuses memory that the CPU does not reach", () => {
    const memory = queueOver(new MemoryStore(MIB, new Copier()));
    expect(memory.features & (QueueFeature.writeCache | QueueFeature.fua)).toBe(0);
    const { file, queue } = fileOf(MIB);
    expect(queue.features & QueueFeature.discard).toBe(QueueFeature.discard);
    file.canPunch = false;
    const kept = queueOver(new FileStore(file, MIB));
    expect(kept.features & (QueueFeature.discard | QueueFeature.unmapZeroes)).toBe(0);
    const ends = new Ends();
    const bio = pool.acquire() as Bio;
    bio.op = BioOp.read;
    bio.owner = ends;
    bio.addMemory(new ArenaMemory(4096, { cpuAccessible: false }), 0, 4096);
    queue.submit(bio);
    expect(ends.statuses).toEqual([BlockStatus.notSupported]);
    expect(queue.inspect()).toMatchObject({ rejected: 1, inFlight: 0 });
  });
});
