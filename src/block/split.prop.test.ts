/** Splitting, merging and mapping against a naive model that works byte by byte. */
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { ArenaMemory, RamDisk } from "../../testing/block-arena.ts";
import {
  type Bio,
  BioFlag,
  BioOp,
  BioPool,
  BioResult,
  BlockStatus,
  maxSegmentBytesAt,
  offsetIn,
  type QueueLimitOptions,
  QueueLimits,
  RequestQueue,
} from "./index.ts";

const BASE = 0x7_ffff_f000;
const MEMORY_BYTES = 512 * 1024;
const powers = (from: number, to: number) =>
  fc.integer({ min: from, max: to }).map((power) => 2 ** power);

const anyLimits: fc.Arbitrary<QueueLimitOptions> = fc.record({
  logicalBlockBytes: fc.constantFrom(512, 4096),
  maxBytes: fc.integer({ min: 1, max: 16 }).map((n) => n * 4096),
  maxSegments: fc.integer({ min: 1, max: 6 }),
  maxSegmentBytes: fc.integer({ min: 1, max: 8 }).map((n) => n * 4096),
  segmentBoundary: powers(12, 20),
  virtBoundary: fc.constantFrom(0, 4096),
  dmaAlignment: fc.constantFrom(4, 512),
  chunkBytes: fc.constantFrom(0, 8192, 65_536),
  features: fc.constant(0x7f),
});

/** Vectors in units of 512 bytes: what every limit here can be satisfied for. */
const anyVecs = fc.array(
  fc.record({
    at: fc.integer({ min: 0, max: MEMORY_BYTES / 512 - 33 }),
    units: fc.integer({ min: 1, max: 32 }),
  }),
  { minLength: 1, maxLength: 12 },
);

interface Vec {
  readonly at: number;
  readonly units: number;
}

const memory = new ArenaMemory(MEMORY_BYTES, { limitBase: BASE, needsUnmap: true });
for (let i = 0; i < MEMORY_BYTES; i++) memory.data[i] = (i >> 12) ^ i;

function setup(limits: QueueLimits, depth = 32) {
  const disk = new RamDisk({ sizeBytes: 1024 * 1024, memories: [memory], slots: depth });
  disk.limits = limits;
  const queue = new RequestQueue(disk, {
    name: "ram",
    limits,
    initiator: 1,
    capacityBytes: disk.data.length,
    depth,
  });
  return { disk, queue };
}

function drain(queue: RequestQueue, isDone: () => boolean): void {
  for (let i = 0; i < 10_000 && !isDone(); i++) queue.poll();
  expect(isDone()).toBe(true);
}

/** Addresses of all bytes of a bio, in units of 512 bytes. */
function addressesOf(vecs: readonly Vec[]): number[] {
  return vecs.flatMap(({ at, units }) =>
    Array.from({ length: units }, (_, i) => BASE + (at + i) * 512),
  );
}

describe("splitting", () => {
  it("covers exactly the bytes of the bio, in order, each part within all limits", () => {
    fc.assert(
      fc.property(anyLimits, anyVecs, fc.integer({ min: 0, max: 64 }), (options, vecs, start) => {
        const limits = new QueueLimits(options);
        const { disk, queue } = setup(limits);
        const blockUnits = limits.logicalBlockBytes / 512;
        const total = vecs.reduce((sum, { units }) => sum + units, 0);
        fc.pre(total % blockUnits === 0);
        const result = new BioResult();
        const bio = new BioPool(1, 16).acquire() as Bio;
        bio.op = BioOp.write;
        bio.sector = start * blockUnits;
        bio.owner = result;
        for (const { at, units } of vecs) bio.addMemory(memory, at * 512, units * 512);
        queue.submit(bio);
        queue.kick();
        drain(queue, () => result.done === 1);
        expect(memory.liveMaps).toBe(0);
        if (result.status !== BlockStatus.ok) {
          // Only possible where not even one block fits before a gap or in the segments.
          expect(result.status).toBe(BlockStatus.invalid);
          expect(limits.logicalBlockBytes > 512).toBe(true);
          return;
        }
        // RamDisk has checked the limits of each request; here coverage and order.
        const parts = [...disk.seen].sort((a, b) => a.sector - b.sector);
        let sector = bio.sector;
        const seen: number[] = [];
        for (const part of parts) {
          expect(part.sector).toBe(sector);
          sector += part.sizeBytes / 512;
          for (const [i, address] of part.addresses.entries()) {
            for (let at = 0; at < part.lengths[i]; at += 512) seen.push(address + at);
          }
        }
        expect(sector).toBe(bio.sector + bio.sizeBytes / 512);
        expect(seen).toEqual(addressesOf(vecs));
      }),
      { seed: 11, numRuns: 80 },
    );
  });

  it("cuts no earlier than it must: the naive fill is never longer", () => {
    const whole = fc.integer({ min: 1, max: 128 });
    fc.assert(
      fc.property(anyLimits, whole, fc.integer({ min: 0, max: 500 }), (options, units, at) => {
        const limits = new QueueLimits({ ...options, logicalBlockBytes: 512, dmaAlignment: 4 });
        const { disk, queue } = setup(limits, 512);
        const result = new BioResult();
        const bio = new BioPool(1, 1).acquire() as Bio;
        bio.op = BioOp.write;
        bio.owner = result;
        bio.addMemory(memory, at * 512, units * 512);
        queue.submit(bio);
        queue.kick();
        drain(queue, () => result.done === 1);
        expect(result.status).toBe(BlockStatus.ok);
        expect(disk.seen.map(({ sizeBytes }) => sizeBytes)).toEqual(
          naiveParts(limits, BASE + at * 512, units * 512),
        );
      }),
      { seed: 12, numRuns: 80 },
    );
  });
});

/** Parts of one contiguous vector from sector 0 on, 512 bytes at a time. */
function naiveParts(limits: QueueLimits, address: number, length: number): number[] {
  const parts: number[] = [];
  let at = 0;
  while (at < length) {
    let bytes = 0;
    let segments = 0;
    let segmentBytes = 0;
    while (at + bytes < length) {
      const here = address + at + bytes;
      const startsSegment =
        segmentBytes === 0 ||
        here % limits.segmentBoundary === 0 ||
        segmentBytes === limits.maxSegmentBytes;
      const crossesChunk =
        limits.chunkBytes > 0 && bytes > 0 && (at + bytes) % limits.chunkBytes === 0;
      const mayNotStart =
        startsSegment &&
        (segments === limits.maxSegments ||
          (bytes > 0 && limits.virtBoundary > 0 && here % limits.virtBoundary !== 0));
      if (bytes === limits.maxBytes || crossesChunk || mayNotStart) break;
      if (startsSegment) {
        segments++;
        segmentBytes = 0;
      }
      segmentBytes += 512;
      bytes += 512;
    }
    parts.push(bytes);
    at += bytes;
  }
  return parts;
}

describe("merging", () => {
  it("joins neighbours without breaking a limit, and moves the same bytes", () => {
    const pieces = fc.array(
      fc.record({
        at: fc.integer({ min: 0, max: MEMORY_BYTES / 4096 - 2 }),
        isFront: fc.boolean(),
        noMerge: fc.boolean(),
      }),
      { minLength: 2, maxLength: 12 },
    );
    fc.assert(
      fc.property(anyLimits, pieces, (options, list) => {
        const limits = new QueueLimits({ ...options, logicalBlockBytes: 512 });
        const { disk, queue } = setup(limits);
        const pool = new BioPool(list.length, 2);
        const result = new BioResult();
        // Front and back neighbours of a growing range in the middle of the device.
        let low = 1024;
        let high = 1024;
        const expected = new Map<number, number>();
        for (const { at, isFront, noMerge } of list) {
          const bio = pool.acquire() as Bio;
          bio.op = BioOp.write;
          if (isFront) low -= 8;
          bio.sector = isFront ? low : high;
          if (!isFront) high += 8;
          if (noMerge) bio.flags |= BioFlag.noMerge;
          bio.owner = result;
          bio.addMemory(memory, at * 4096, 4096);
          expected.set(bio.sector, at * 4096);
          queue.submit(bio);
        }
        queue.kick();
        drain(queue, () => result.done === list.length);
        expect(result.status).toBe(BlockStatus.ok);
        for (const [sector, offset] of expected) {
          const got = disk.data.subarray(sector * 512, sector * 512 + 4096);
          expect(Buffer.compare(got, memory.data.subarray(offset, offset + 4096))).toBe(0);
        }
        // Parts add up: nothing was written twice.
        const written = disk.seen.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0);
        expect(written).toBe(list.length * 4096);
        if (list.some(({ noMerge }) => !noMerge)) return;
        expect(queue.counters.merges).toBe(0);
      }),
      { seed: 13, numRuns: 80 },
    );
  });
});

describe("segment arithmetic above 32 bits", () => {
  it("takes the offset in any boundary from the whole address", () => {
    fc.assert(
      fc.property(fc.integer({ min: 0, max: 2 ** 52 - 1 }), powers(12, 52), (address, boundary) => {
        expect(offsetIn(address, boundary)).toBe(Number(BigInt(address) % BigInt(boundary)));
      }),
      { seed: 14, numRuns: 500 },
    );
  });

  it("ends a segment at its boundary, wherever the address starts", () => {
    const limits = new QueueLimits({ segmentBoundary: 2 ** 33, maxSegmentBytes: 2 ** 20 });
    expect(maxSegmentBytesAt(limits, 2 ** 40)).toBe(2 ** 20);
    expect(maxSegmentBytesAt(limits, 2 ** 40 + 2 ** 33 - 4096)).toBe(4096);
    expect(maxSegmentBytesAt(limits, 2 ** 40 + 2 ** 32)).toBe(2 ** 20);
  });
});
