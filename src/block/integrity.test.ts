import { describe, expect, it } from "vitest";
import { ArenaMemory, RamDisk } from "../../testing/block-arena.ts";
import { Prng } from "../core/index.ts";
import { crc16T10, getAppTag, getGuard, getRefTag } from "../spec/nvme/index.ts";
import {
  type Bio,
  BioIntegrity,
  BioOp,
  BioPool,
  BioResult,
  BlockStatus,
  IntegrityFlag,
  IntegrityPolicy,
  type IntegrityProfile,
  metadataSlotBytes,
  QueueLimits,
  RequestQueue,
} from "./index.ts";

const PI_ONLY: IntegrityProfile = {
  piType: 1,
  blockBytes: 512,
  metadataBytes: 8,
  tupleOffset: 0,
  extendedLba: false,
  controllerInserts: true,
};
/** Metadata of 16 bytes with protection information in its last 8. */
const WIDE: IntegrityProfile = {
  ...PI_ONLY,
  metadataBytes: 16,
  tupleOffset: 8,
  controllerInserts: false,
};

interface SetupOptions {
  readonly profile?: IntegrityProfile | null;
  readonly policy?: IntegrityPolicy;
  readonly hasBuffers?: boolean;
  readonly cpuAccessible?: boolean;
}

function setup(options: SetupOptions = {}) {
  const profile = options.profile === undefined ? PI_ONLY : options.profile;
  const limits = new QueueLimits({ features: 0x7f, dmaAlignment: 4, maxBytes: 8192 });
  const memory = new ArenaMemory(1024 * 1024, { cpuAccessible: options.cpuAccessible ?? true });
  const slot = profile === null ? 0 : metadataSlotBytes(limits, profile);
  const buffers = new ArenaMemory(Math.max(1, slot * 8), { limitBase: 0x9000_0000 });
  const own = new ArenaMemory(4096, { limitBase: 0xa000_0000 });
  const disk = new RamDisk({
    sizeBytes: 1024 * 1024,
    memories: [memory, buffers, own],
    metadataBytes: profile?.metadataBytes ?? 0,
  });
  const queue = new RequestQueue(disk, {
    name: "ram",
    limits,
    initiator: 1,
    capacityBytes: disk.data.length,
    depth: 8,
    integrity: profile,
    integrityPolicy: options.policy ?? IntegrityPolicy.controllerFirst,
    integrityBuffers: options.hasBuffers === false ? null : buffers,
  });
  const pool = new BioPool(8, 8);
  const run = (op: number, sector: number, parts: readonly number[], integrity?: BioIntegrity) => {
    const result = new BioResult();
    const bio = pool.acquire() as Bio;
    bio.op = op;
    bio.sector = sector;
    bio.owner = result;
    bio.integrity = integrity ?? null;
    let at = 0;
    for (const [i, length] of parts.entries()) {
      bio.addMemory(memory, at + i * 512, length);
      at += length;
    }
    queue.submit(bio);
    queue.kick();
    for (let i = 0; i < 10 && result.done === 0; i++) queue.poll();
    pool.release(bio);
    return result.status;
  };
  return { memory, disk, queue, own, run };
}

describe("on a namespace without protection", () => {
  it("a bio that asks for it is refused, not stripped of it", () => {
    const { run, disk, queue } = setup({ profile: null });
    expect(run(BioOp.write, 0, [512], new BioIntegrity())).toBe(BlockStatus.protection);
    expect([disk.seen.length, queue.counters.integrityRefused]).toEqual([0, 1]);
  });
});

describe("who makes protection information", () => {
  const { controller, buffer } = IntegrityFlag;
  const makers = controller | buffer;
  it.each([
    ["controller first", {}, controller],
    ["controller first, which cannot", { profile: WIDE }, buffer],
    ["host first", { policy: IntegrityPolicy.hostFirst }, buffer],
    [
      "host first, peer memory",
      { policy: IntegrityPolicy.hostFirst, cpuAccessible: false },
      controller,
    ],
    [
      "host first, no buffers",
      { policy: IntegrityPolicy.hostFirst, hasBuffers: false },
      controller,
    ],
  ] as [string, SetupOptions, number][])("%s", (_, options, maker) => {
    const { run, disk } = setup(options);
    expect(run(BioOp.write, 0, [1024])).toBe(BlockStatus.ok);
    expect(disk.seen[0].integrityFlags & makers).toBe(maker);
    expect(disk.seen[0].integrityFlags & IntegrityFlag.checkGuard).not.toBe(0);
  });

  it.each([
    ["only callers may", { policy: IntegrityPolicy.callerOnly }],
    ["neither controller nor CPU can", { profile: WIDE, cpuAccessible: false }],
    ["the CPU has no buffers", { profile: WIDE, hasBuffers: false }],
    ["metadata is inside the blocks", { profile: { ...WIDE, extendedLba: true } }],
  ] as [string, SetupOptions][])("nobody, where %s: refused", (_, options) => {
    const { run, disk, queue } = setup(options);
    expect(run(BioOp.write, 0, [1024])).toBe(BlockStatus.protection);
    expect(run(BioOp.read, 0, [1024])).toBe(BlockStatus.protection);
    expect([disk.seen.length, queue.counters.integrityRefused]).toEqual([0, 2]);
  });

  it("a caller's wish for the controller is refused where that cannot", () => {
    const { run } = setup({ profile: WIDE });
    expect(run(BioOp.write, 0, [512], new BioIntegrity())).toBe(BlockStatus.protection);
  });

  it("write zeroes goes through the controller, verify needs none", () => {
    const { queue, disk } = setup();
    for (const op of [BioOp.writeZeroes, BioOp.verify]) {
      const limits = { maxWriteZeroesBytes: 4096, maxVerifyBytes: 4096, features: 0x7f };
      const other = new RequestQueue(disk, {
        name: "ram",
        limits: new QueueLimits(limits),
        initiator: 1,
        capacityBytes: disk.data.length,
        depth: 2,
        integrity: queue.integrity?.profile ?? null,
      });
      const bio = new BioPool(1, 0).acquire() as Bio;
      bio.op = op;
      bio.owner = new BioResult();
      bio.setRange(0, 4096);
      other.submit(bio);
      other.poll();
      other.poll();
    }
    expect(disk.seen.map(({ integrityFlags }) => integrityFlags & controller)).toEqual([8, 0]);
  });
});

describe("protection information made on the CPU", () => {
  it("covers each block over all its vectors, and counts the reference tag up", () => {
    const { run, disk, memory } = setup({ profile: WIDE });
    new Prng(3).fill(memory.data);
    // Blocks of 512 over vectors that end inside them; more than one request of 8 KiB.
    const parts = [100, 924, 4, 1020, 8192, 512 * 4];
    expect(run(BioOp.write, 40, parts)).toBe(BlockStatus.ok);
    const bytes = parts.reduce((sum, part) => sum + part, 0);
    for (let block = 0; block < bytes / 512; block++) {
      const at = (40 + block) * 16;
      expect(getGuard(disk.metadata, at + 8)).toBe(
        // The guard covers the 8 bytes of metadata in front of it as well.
        crc16T10(disk.metadata, at, 8, crc16T10(disk.data, (40 + block) * 512, 512)),
      );
      expect(getRefTag(disk.metadata, at + 8)).toBe(40 + block);
    }
  });

  it("is checked on the way up: data, guard and reference tag", () => {
    const { run, disk, queue } = setup({ profile: WIDE });
    expect(run(BioOp.write, 0, [4096])).toBe(BlockStatus.ok);
    expect(run(BioOp.read, 0, [4096])).toBe(BlockStatus.ok);
    disk.data[700] ^= 1;
    expect(run(BioOp.read, 0, [512])).toBe(BlockStatus.ok);
    expect(run(BioOp.read, 0, [4096])).toBe(BlockStatus.protection);
    disk.data[700] ^= 1;
    disk.metadata[16 + 15] ^= 1;
    expect(run(BioOp.read, 1, [512])).toBe(BlockStatus.protection);
    expect(queue.integrity?.mismatches).toBe(2);
  });

  it("is not checked where the escape value turns checks off", () => {
    const { run, disk } = setup({ profile: WIDE });
    disk.metadata.fill(0xff);
    expect(run(BioOp.read, 0, [4096])).toBe(BlockStatus.ok);
  });

  it("does not check reference tags of type 3", () => {
    const { run, disk } = setup({ profile: { ...WIDE, piType: 3 } });
    expect(run(BioOp.write, 5, [1024])).toBe(BlockStatus.ok);
    expect(disk.seen[0].integrityFlags & IntegrityFlag.checkRefTag).toBe(0);
    disk.metadata[5 * 16 + 15] ^= 0x55;
    expect(run(BioOp.read, 5, [1024])).toBe(BlockStatus.ok);
  });
});

describe("protection information that the caller brings", () => {
  it("goes with the data, and each part of a split bio gets its own piece", () => {
    const { run, disk, own } = setup({ profile: WIDE });
    const integrity = new BioIntegrity();
    integrity.controller = false;
    integrity.memory = own;
    integrity.offset = 64;
    integrity.appTag = 0x1234;
    integrity.appTagMask = 0xffff;
    integrity.refTag = 1000;
    const blocks = 40;
    for (let i = 0; i < blocks * 16; i++) own.data[64 + i] = i ^ 0x5a;
    expect(run(BioOp.write, 16, [blocks * 512], integrity)).toBe(BlockStatus.ok);
    expect(disk.seen.map(({ refTag }) => refTag)).toEqual([1000, 1016, 1032]);
    const stored = disk.metadata.subarray(16 * 16, (16 + blocks) * 16);
    expect(Buffer.compare(stored, own.data.subarray(64, 64 + blocks * 16))).toBe(0);
    expect(disk.seen[0].integrityFlags & IntegrityFlag.checkAppTag).not.toBe(0);
    expect(getAppTag(stored, 8)).toBe(((8 + 2) ^ 0x5a) * 256 + ((8 + 3) ^ 0x5a));
  });

  it("is mapped for the queue's device like any vector", () => {
    const { run } = setup({ profile: WIDE });
    const integrity = new BioIntegrity();
    integrity.controller = false;
    integrity.memory = new ArenaMemory(4096, { bases: new Map([[9, 0x1000]]) });
    expect(run(BioOp.write, 0, [512], integrity)).toBe(BlockStatus.wrongInitiator);
  });
});
