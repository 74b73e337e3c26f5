/**
 * The defects of the posted series "Removing struct page from P2PDMA" (linux-pci, June 2019), each
 * with a test that shows that this room does not have it.
 */
import { describe, expect, it } from "vitest";
import { ArenaMemory, RamDisk } from "../../testing/block-arena.ts";
import { DmaAddressMemory } from "../memory/index.ts";
import {
  type Bio,
  BioOp,
  BioPool,
  BioResult,
  BlockStatus,
  checkMove,
  findSplit,
  IntegrityFlag,
  type IntegrityProfile,
  QueueFeature,
  type QueueLimitOptions,
  QueueLimits,
  RequestQueue,
  remap,
  SplitPoint,
} from "./index.ts";

const PEER = 0x38_ffff_0000_0000 / 16;
const { dmaDirect } = QueueFeature;

interface SetupOptions {
  readonly limits?: QueueLimitOptions;
  readonly initiator?: number;
  readonly integrity?: IntegrityProfile;
}

/** A disk whose peer memory is reached by bare DMA addresses derived for initiator 1. */
function setup(options: SetupOptions = {}) {
  const peer = new ArenaMemory(8 * 1024 * 1024, { limitBase: PEER });
  const initiator = options.initiator ?? 1;
  const disk = new RamDisk({ sizeBytes: 16 * 1024 * 1024, memories: [peer], initiator });
  const limits = new QueueLimits({ features: dmaDirect, dmaAlignment: 4, ...options.limits });
  disk.limits = limits;
  const queue = new RequestQueue(disk, {
    name: "ram",
    limits,
    initiator,
    capacityBytes: disk.data.length,
    depth: 16,
    integrity: options.integrity ?? null,
  });
  return { peer, disk, queue };
}

const addresses = new DmaAddressMemory(1);

function bioOf(vecs: readonly (readonly [number, number])[], op: number = BioOp.write): Bio {
  const bio = new BioPool(1, Math.max(1, vecs.length)).acquire() as Bio;
  bio.op = op;
  for (const [address, length] of vecs) bio.addMemory(addresses, address, length);
  return bio;
}

function run(queue: RequestQueue, bio: Bio): number {
  const result = new BioResult();
  bio.owner = result;
  queue.submit(bio);
  queue.kick();
  for (let i = 0; i < 100 && result.done === 0; i++) queue.poll();
  expect(result.done).toBe(1);
  return result.status;
}

describe("defects of the posted series", () => {
  it("patch 15 counted DMA vectors as pages and pages as DMA vectors", () => {
    const { disk, queue, peer } = setup();
    const vecs = [0, 3, 6].map((page) => [PEER + page * 4096, 4096] as const);
    expect(run(queue, bioOf(vecs))).toBe(BlockStatus.ok);
    expect(disk.seen[0].addresses).toEqual(vecs.map(([address]) => address));
    // And the same shape in host memory counts the same.
    const host = new BioPool(1, 4).acquire() as Bio;
    host.op = BioOp.write;
    for (const page of [0, 3, 6]) host.addMemory(peer, page * 4096, 4096);
    expect(run(queue, host)).toBe(BlockStatus.ok);
    expect(disk.seen[1].addresses).toEqual(disk.seen[0].addresses);
  });

  it("helpers took the low 32 bits of an address for all of it", () => {
    const limits = new QueueLimits({ dmaAlignment: 4, virtBoundary: 4096, maxBytes: 2 ** 20 });
    const point = new SplitPoint();
    const segmentsOf = (address: number, length: number): number => {
      expect(findSplit(bioOf([[address, length]]), limits, point)).toBe(BlockStatus.ok);
      expect(point.bytes).toBe(length);
      return point.segments;
    };
    // One page stays one segment however high it lies; the sum of address and length does not wrap.
    expect(segmentsOf(2 ** 44 + 2 ** 32 - 4096, 4096)).toBe(1);
    expect(segmentsOf(2 ** 44 + 2 ** 32 - 4096, 8192)).toBe(2);
    expect(segmentsOf(2 ** 44 + 2 ** 31, 65_536)).toBe(1);
  });

  it("patch 16 measured segments from the offset in the vector, not from the address", () => {
    const { disk, queue } = setup({ limits: { segmentBoundary: 65_536, maxSegments: 8 } });
    // Starts 8 KiB before a boundary: the first segment must end there.
    expect(run(queue, bioOf([[PEER + 57_344, 65_536]]))).toBe(BlockStatus.ok);
    expect(disk.seen[0].addresses).toEqual([PEER + 57_344, PEER + 65_536]);
    expect(disk.seen[0].lengths).toEqual([8192, 57_344]);
  });

  it("the boundary that counts is that of the device's address, where the two differ", () => {
    // 8 KiB before a boundary for the limits, 4 KiB before one for the device.
    const memory = new ArenaMemory(1024 * 1024, {
      limitBase: 0x1_0000_0000 - 8192,
      bases: new Map([[1, 0x9_0000_0000 - 4096]]),
    });
    const disk = new RamDisk({ sizeBytes: 1024 * 1024, memories: [memory] });
    const limits = new QueueLimits({ segmentBoundary: 2 ** 32, maxSegments: 4 });
    disk.limits = limits;
    const options = { name: "ram", limits, initiator: 1, capacityBytes: 1024 * 1024, depth: 4 };
    const queue = new RequestQueue(disk, options);
    const bio = new BioPool(1, 1).acquire() as Bio;
    bio.op = BioOp.write;
    bio.addMemory(memory, 0, 16_384);
    expect(run(queue, bio)).toBe(BlockStatus.ok);
    expect(disk.seen[0].lengths).toEqual([4096, 12_288]);
  });

  it("patch 16 merged one length of a segment and not the other", () => {
    const { disk, queue } = setup();
    const vecs = [0, 1, 2].map((page) => [PEER + page * 4096, 4096] as const);
    // Two memories, so that only mapping can join them.
    const bio = bioOf([vecs[0]]);
    expect(run(queue, bio)).toBe(BlockStatus.ok);
    const twin = new DmaAddressMemory(1);
    const joined = new BioPool(1, 3).acquire() as Bio;
    joined.op = BioOp.write;
    joined.addMemory(addresses, ...vecs[0]);
    joined.addMemory(twin, ...vecs[1]);
    joined.addMemory(addresses, ...vecs[2]);
    expect(run(queue, joined)).toBe(BlockStatus.ok);
    // RamDisk also checks that the lengths cover the request.
    expect(disk.seen[1]).toMatchObject({ addresses: [PEER], lengths: [12_288] });
  });

  it("nothing re-checked a bio that moved to another device", () => {
    const { disk, queue } = setup({ initiator: 2 });
    const bio = bioOf([[PEER, 4096]]);
    // The queue has the feature; only the device is another.
    expect(checkMove(bio, queue)).toBe(BlockStatus.wrongInitiator);
    const ended = new BioResult();
    bio.owner = ended;
    expect(remap(bio, queue, 8)).toBe(BlockStatus.wrongInitiator);
    expect(ended).toMatchObject({ done: 1, status: BlockStatus.wrongInitiator });
    // And if somebody submits it all the same, mapping refuses before the driver sees it.
    expect(run(queue, bio)).toBe(BlockStatus.wrongInitiator);
    expect(disk.seen).toEqual([]);
    expect(queue.counters.wrongInitiator).toBe(1);
  });

  it("the queue's capability was checked when a vector was added, and never again", () => {
    const { disk, queue } = setup({ limits: { features: 0 } });
    const bio = bioOf([[PEER, 4096]]);
    expect(checkMove(bio, queue)).toBe(BlockStatus.notSupported);
    expect(run(queue, bio)).toBe(BlockStatus.notSupported);
    expect(disk.seen).toEqual([]);
  });

  it("patch 5 sent dma-direct I/O on without protection information", () => {
    const profile: IntegrityProfile = {
      piType: 1,
      blockBytes: 512,
      metadataBytes: 16,
      tupleOffset: 8,
      extendedLba: false,
      controllerInserts: false,
    };
    const refusing = setup({ integrity: profile });
    expect(run(refusing.queue, bioOf([[PEER, 4096]]))).toBe(BlockStatus.protection);
    expect(refusing.queue.counters.integrityRefused).toBe(1);
    expect(refusing.disk.seen).toEqual([]);
    // Where the controller can make it, it does.
    const inserts = { ...profile, metadataBytes: 8, tupleOffset: 0, controllerInserts: true };
    const inserting = setup({ integrity: inserts });
    expect(run(inserting.queue, bioOf([[PEER, 4096]]))).toBe(BlockStatus.ok);
    expect(inserting.disk.seen[0].integrityFlags & IntegrityFlag.controller).not.toBe(0);
  });

  it("patch 22 worked only while one vector was the whole transfer", () => {
    const { disk, queue, peer } = setup({ limits: { maxBytes: 64 * 1024, maxSegments: 4 } });
    for (let i = 0; i < peer.data.length; i++) peer.data[i] = i ^ (i >> 9);
    const vecs = Array.from({ length: 40 }, (_, i) => [PEER + i * 12_288, 8192] as const);
    expect(run(queue, bioOf(vecs))).toBe(BlockStatus.ok);
    expect(disk.seen.length).toBeGreaterThan(4);
    for (const [i] of vecs.entries()) {
      const got = disk.data.subarray(i * 8192, (i + 1) * 8192);
      expect(Buffer.compare(got, peer.data.subarray(i * 12_288, i * 12_288 + 8192))).toBe(0);
    }
  });
});
