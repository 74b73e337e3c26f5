/** Linear and raid0: who gets which bytes, by which address, and what is refused. */
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { BioRunner, LEG_BASES, LEG_BYTES, makeLegs } from "../../../testing/stack-legs.ts";
import { DmaAddressMemory } from "../../memory/index.ts";
import { BioOp, BlockStatus, LinearQueue, QueueFeature, Raid0Queue } from "../index.ts";

const CHUNK = 8192;
const pattern = (data: Uint8Array): void => {
  for (let i = 0; i < data.length; i++) data[i] = (i >> 10) ^ i;
};

describe("raid0", () => {
  const setup = (options = {}) => {
    const legs = makeLegs(options);
    const queue = new Raid0Queue(legs.queues, { chunkBytes: CHUNK });
    return { ...legs, queue, runner: new BioRunner(queue) };
  };

  it("gives each leg its own address of the same memory", () => {
    const { memory, disks, runner } = setup();
    pattern(memory.data);
    const before = memory.data.slice(4096, 4096 + 40_960);
    expect(runner.io(BioOp.write, 8, [memory, 4096, 40_960])).toBe(BlockStatus.ok);
    // The chunks of a leg are neighbours there, so its queue made one request of them.
    const offsets = (i: number) => disks[i].seen[0].addresses.map((at) => at - LEG_BASES[i]);
    expect(offsets(0)).toEqual([4096, 16_384, 32_768]);
    expect(offsets(1)).toEqual([8192, 24_576, 40_960]);
    memory.data.fill(0);
    expect(runner.io(BioOp.read, 8, [memory, 4096, 40_960])).toBe(BlockStatus.ok);
    expect(Buffer.compare(memory.data.subarray(4096, 45_056), before)).toBe(0);
  });

  it("does not let the address of one leg reach the other", () => {
    const { disks, queue, runner } = setup();
    const forFirst = new DmaAddressMemory(1);
    // Within the first leg's chunk all is well; across chunks the second leg refuses.
    const at = LEG_BASES[0];
    expect(runner.io(BioOp.write, 0, [forFirst, at, CHUNK])).toBe(BlockStatus.ok);
    expect(runner.io(BioOp.write, 0, [forFirst, at, 2 * CHUNK])).toBe(BlockStatus.wrongInitiator);
    expect(disks[1].seen).toEqual([]);
    expect(queue.counters).toMatchObject({ wrongInitiator: 1, refused: [0, 1], splits: 1 });
  });

  it("ends a bio with the first error of a leg, once", () => {
    const { memory, disks, runner } = setup();
    disks[1].verdicts.push(BlockStatus.medium);
    expect(runner.io(BioOp.write, 0, [memory, 0, 65_536])).toBe(BlockStatus.medium);
    expect(runner.io(BioOp.write, 0, [memory, 0, 65_536])).toBe(BlockStatus.ok);
  });

  it("flushes every leg, and fails when one does", () => {
    const { disks, runner } = setup({ count: 4 });
    expect(runner.range(BioOp.flush, 0, 0)).toBe(BlockStatus.ok);
    expect(disks.map(({ seen }) => seen.map(({ op }) => op))).toEqual(Array(4).fill([BioOp.flush]));
    disks[2].verdicts.push(BlockStatus.offline);
    expect(runner.range(BioOp.flush, 0, 0)).toBe(BlockStatus.offline);
  });

  it("makes one part per leg of a range without data", () => {
    const { disks, queue, runner } = setup({ count: 3 });
    for (const { data } of disks) data.fill(1);
    // Chunks 1 to 6, the first and the last half of one.
    const [from, to] = [CHUNK + 4096, 6 * CHUNK + 4096];
    expect(runner.range(BioOp.discard, from / 512, to - from)).toBe(BlockStatus.ok);
    expect(queue.counters.parts).toEqual([1, 1, 1]);
    const ranges = disks.map(({ seen: [{ sector, sizeBytes }] }) => [sector * 512, sizeBytes]);
    expect(ranges).toEqual([
      [CHUNK, CHUNK + 4096],
      [4096, CHUNK + 4096],
      [0, 2 * CHUNK],
    ]);
    // A range inside one chunk is one leg's.
    expect(runner.range(BioOp.writeZeroes, 16 + 2, 512)).toBe(BlockStatus.ok);
    expect(queue.counters.parts).toEqual([1, 2, 1]);
  });

  it("lets nothing cross its end", () => {
    const { queue, memory, runner, disks } = setup();
    expect(queue.capacityBytes).toBe(2 * LEG_BYTES);
    const end = queue.capacityBytes / 512;
    expect(runner.io(BioOp.write, end - 1, [memory, 0, 1024])).toBe(BlockStatus.invalid);
    expect(runner.io(BioOp.write, end - 2, [memory, 0, 1024])).toBe(BlockStatus.ok);
    expect(runner.range(BioOp.flush, 0, 0)).toBe(BlockStatus.ok);
    expect(disks[0].seen.length).toBe(1);
  });

  it("works through a bio with more parts than there are", () => {
    const { queues, memory } = makeLegs({ depth: 2 });
    const queue = new Raid0Queue(queues, { chunkBytes: CHUNK, parts: 2 });
    pattern(memory.data);
    const before = memory.data.slice(0, 65_536);
    const runner = new BioRunner(queue);
    expect(runner.io(BioOp.write, 0, [memory, 0, 65_536])).toBe(BlockStatus.ok);
    expect(queue.counters.busy).toBeGreaterThan(0);
    memory.data.fill(0);
    expect(runner.io(BioOp.read, 0, [memory, 0, 65_536])).toBe(BlockStatus.ok);
    expect(Buffer.compare(memory.data.subarray(0, 65_536), before)).toBe(0);
  });

  it("tells what is wrong with it when it is made", () => {
    const { queues } = makeLegs();
    const make = (chunkBytes: number, parts?: number) => () =>
      new Raid0Queue(queues, { chunkBytes, ...(parts === undefined ? {} : { parts }) });
    expect(make(1000)).toThrow("a chunk of 1000 bytes");
    expect(make(0)).toThrow("a chunk of 0 bytes");
    expect(make(2 * LEG_BYTES)).toThrow("smaller than one chunk");
    expect(make(CHUNK, 1)).toThrow("1 parts");
    expect(() => new Raid0Queue([], { chunkBytes: CHUNK })).toThrow("at least one leg");
  });

  it("says what it did", () => {
    const { queue, memory, runner } = setup();
    runner.io(BioOp.write, 0, [memory, 0, 4 * CHUNK]);
    expect(queue.inspect()).toMatchObject({
      name: "raid0",
      partsFree: 256,
      limits: { chunkBytes: CHUNK },
      counters: { bios: 1, splits: 3, parts: [2, 2] },
      legs: [{ name: "leg 0" }, { name: "leg 1" }],
    });
  });
});

describe("features of a stacked queue", () => {
  it("are those of all legs; where Linux stacks, dma-direct is lost", () => {
    const { queues, memory } = makeLegs();
    const queue = new Raid0Queue(queues, { chunkBytes: CHUNK, inherit: "linux" });
    expect(queues[0].features & QueueFeature.dmaDirect).not.toBe(0);
    expect(queue.features).toBe(queues[0].features & ~QueueFeature.dmaDirect);
    const runner = new BioRunner(queue);
    expect(runner.io(BioOp.write, 0, [memory, 0, 4096])).toBe(BlockStatus.notSupported);
    expect(new LinearQueue([{ queue }]).features & QueueFeature.dmaDirect).toBe(0);
  });

  it("lack what one leg lacks", () => {
    const { queues } = makeLegs();
    const { queues: plain, memory } = makeLegs({ limits: { features: 0 } });
    const queue = new Raid0Queue([queues[0], plain[1]], { chunkBytes: CHUNK });
    // The cache of one leg must be flushed; the other writes through, so FUA holds for both.
    expect(queue.features).toBe(QueueFeature.writeCache | QueueFeature.fua);
    const runner = new BioRunner(queue);
    expect(runner.io(BioOp.write, 0, [memory, 0, 4096])).toBe(BlockStatus.notSupported);
    const cached = makeLegs({ limits: { features: QueueFeature.writeCache } }).queues[0];
    expect(new Raid0Queue([queues[0], cached], { chunkBytes: CHUNK }).features).toBe(1);
  });
});

describe("linear", () => {
  it("goes from one extent to the next", () => {
    const { queues, disks, memory } = makeLegs();
    const queue = new LinearQueue([
      { queue: queues[1], offsetBytes: 4096, sizeBytes: 8192 },
      { queue: queues[0] },
      { queue: queues[1], offsetBytes: 65_536, sizeBytes: 4096 },
    ]);
    expect(queue.capacityBytes).toBe(8192 + LEG_BYTES + 4096);
    pattern(memory.data);
    const runner = new BioRunner(queue);
    expect(runner.io(BioOp.write, 8, [memory, 0, 8192])).toBe(BlockStatus.ok);
    const same = (disk: number, at: number, from: number) =>
      Buffer.compare(
        disks[disk].data.subarray(at, at + 4096),
        memory.data.subarray(from, from + 4096),
      );
    expect([same(1, 8192, 0), same(0, 0, 4096)]).toEqual([0, 0]);
    const last = (queue.capacityBytes - 4096) / 512;
    expect(runner.io(BioOp.write, last, [memory, 8192, 4096])).toBe(BlockStatus.ok);
    expect(same(1, 65_536, 8192)).toBe(0);
    expect(runner.range(BioOp.discard, 0, queue.capacityBytes)).toBe(BlockStatus.ok);
    expect(disks[0].data.every((byte) => byte === 0)).toBe(true);
  });

  it("refuses extents that are none", () => {
    const { queues } = makeLegs();
    const [queue] = queues;
    const make = (offsetBytes: number, sizeBytes?: number) => () =>
      new LinearQueue([{ queue, offsetBytes, ...(sizeBytes === undefined ? {} : { sizeBytes }) }]);
    for (const wrong of [
      make(100),
      make(0, 0),
      make(512, LEG_BYTES),
      make(LEG_BYTES),
      make(0, 700),
    ]) {
      expect(wrong).toThrow("extent 0 is no part of leg 0");
    }
    expect(make(LEG_BYTES - 512)).not.toThrow();
  });
});

/** Random I/O over any stack gives what a flat array would. */
describe("a stacked queue against an array", () => {
  const BYTES = 262_144;
  const step = fc.record({
    isWrite: fc.boolean(),
    sector: fc.nat(BYTES / 512 - 1),
    blocks: fc.integer({ min: 1, max: 96 }),
    at: fc.nat(200),
  });
  const shapes = ["raid0", "linear", "raid0 of linear", "linear of raid0"] as const;

  function stack(shape: (typeof shapes)[number], chunkBytes: number, queues: RequestQueues) {
    const [a, b, c] = queues;
    const half = (queue: (typeof queues)[number], offsetBytes: number) => ({
      queue,
      offsetBytes,
      sizeBytes: 131_072,
    });
    switch (shape) {
      case "raid0":
        return new Raid0Queue(queues, { chunkBytes, parts: 3 });
      case "linear":
        return new LinearQueue([half(a, 0), half(b, 512), half(c, 1024)], { parts: 3 });
      case "raid0 of linear":
        return new Raid0Queue([new LinearQueue([half(a, 0), half(b, 0)]), c], { chunkBytes });
      default:
        return new LinearQueue([{ queue: new Raid0Queue([a, b], { chunkBytes }) }, { queue: c }]);
    }
  }
  type RequestQueues = ReturnType<typeof makeLegs>["queues"];

  it("reads what was written, wherever the cuts are", () => {
    const cases = fc.record({
      shape: fc.constantFrom(...shapes),
      chunk: fc.integer({ min: 1, max: 40 }),
      legChunk: fc.constantFrom(0, 4096, 12_288),
      virtBoundary: fc.constantFrom(0, 4096),
      steps: fc.array(step, { minLength: 1, maxLength: 20 }),
    });
    fc.assert(
      fc.property(cases, ({ shape, chunk, legChunk, virtBoundary, steps }) => {
        const limits = { chunkBytes: legChunk, virtBoundary, maxBytes: 20_480 };
        const { queues, memory } = makeLegs({ count: 3, limits, depth: 3 });
        // Where no gaps are allowed a cut inside a page could not be sent.
        const granule = virtBoundary === 0 ? 512 : 4096;
        const queue = stack(shape, chunk * granule, queues);
        const runner = new BioRunner(queue);
        const model = new Uint8Array(queue.capacityBytes);
        for (const { isWrite, sector, blocks, at } of steps) {
          const length = blocks * granule;
          const from = at * granule;
          const start = Math.floor((sector * 512) / granule) * granule;
          if (start + length > BYTES || from + length > memory.data.length) continue;
          if (isWrite) {
            for (let i = 0; i < length; i++) memory.data[from + i] = i * 7 + start;
            model.set(memory.data.subarray(from, from + length), start);
            expect(runner.io(BioOp.write, start / 512, [memory, from, length])).toBe(0);
          } else {
            expect(runner.io(BioOp.read, start / 512, [memory, from, length])).toBe(0);
            const seen = memory.data.subarray(from, from + length);
            expect(Buffer.compare(seen, model.subarray(start, start + length))).toBe(0);
          }
        }
      }),
      { seed: 4, numRuns: 50 },
    );
  });
});
