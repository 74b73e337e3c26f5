/** The seam for stacked queues, by a striped queue over two devices. */
import { describe, expect, it } from "vitest";
import { ArenaMemory, RamDisk } from "../../testing/block-arena.ts";
import { StripedQueue } from "../../testing/striped-queue.ts";
import { DmaAddressMemory, type IoMemory } from "../memory/index.ts";
import {
  type Bio,
  BioOp,
  BioPool,
  BioResult,
  BlockStatus,
  QueueLimits,
  RequestQueue,
} from "./index.ts";

const CHUNK = 8192;

function setup(features = 0x7f) {
  // Like a lease: every device has its own address for the same bytes, and the CPU may not touch
  // them.
  const memory = new ArenaMemory(1024 * 1024, {
    cpuAccessible: false,
    bases: new Map([
      [1, 0x1_0000_0000],
      [2, 0x7_0000_0000],
    ]),
  });
  const disks = [1, 2].map(
    (initiator) => new RamDisk({ sizeBytes: 1024 * 1024, memories: [memory], initiator }),
  );
  const queues = disks.map(
    (disk, i) =>
      new RequestQueue(disk, {
        name: `leg ${i}`,
        limits: new QueueLimits({ features, dmaAlignment: 4 }),
        initiator: i + 1,
        capacityBytes: disk.data.length,
        depth: 16,
      }),
  );
  const striped = new StripedQueue(queues, CHUNK);
  const run = (op: number, sector: number, memory: IoMemory, offset: number, length: number) => {
    const result = new BioResult();
    const bio = new BioPool(1, 4).acquire() as Bio;
    bio.op = op;
    bio.sector = sector;
    bio.owner = result;
    bio.addMemory(memory, offset, length);
    striped.submit(bio);
    striped.kick();
    for (let i = 0; i < 10 && result.done === 0; i++) striped.poll();
    expect(result.done).toBe(1);
    expect([bio.sector, bio.sizeBytes]).toEqual([sector, length]);
    return result.status;
  };
  return { memory, disks, striped, run };
}

describe("a striped queue", () => {
  it("gives each leg its own address of the same memory", () => {
    const { memory, disks, run } = setup();
    for (let i = 0; i < memory.data.length; i++) memory.data[i] = (i >> 10) ^ i;
    const before = memory.data.slice(4096, 4096 + 40_960);
    expect(run(BioOp.write, 8, memory, 4096, 40_960)).toBe(BlockStatus.ok);
    // The chunks of a leg are neighbours there, so its queue made one request of them.
    const offsets = (i: number, base: number) => disks[i].seen[0].addresses.map((at) => at - base);
    expect(offsets(0, 0x1_0000_0000)).toEqual([4096, 16_384, 32_768]);
    expect(offsets(1, 0x7_0000_0000)).toEqual([8192, 24_576, 40_960]);
    memory.data.fill(0);
    expect(run(BioOp.read, 8, memory, 4096, 40_960)).toBe(BlockStatus.ok);
    expect(Buffer.compare(memory.data.subarray(4096, 45_056), before)).toBe(0);
  });

  it("does not let the address of one leg reach the other", () => {
    const { disks, run } = setup();
    const forFirst = new DmaAddressMemory(1);
    // Within the first leg's chunk all is well; across chunks the second leg refuses.
    expect(run(BioOp.write, 0, forFirst, 0x1_0000_0000, 8192)).toBe(BlockStatus.ok);
    expect(run(BioOp.write, 0, forFirst, 0x1_0000_0000, 16_384)).toBe(BlockStatus.wrongInitiator);
    expect(disks[1].seen).toEqual([]);
  });

  it("takes no dma-direct bio when a leg cannot", () => {
    const { memory, run, striped } = setup(0);
    expect(striped.features).toBe(0);
    expect(run(BioOp.write, 0, memory, 0, 16_384)).toBe(BlockStatus.notSupported);
  });

  it("ends a bio with the first error of a leg, once", () => {
    const { memory, disks, run } = setup();
    disks[1].verdicts.push(BlockStatus.medium);
    expect(run(BioOp.write, 0, memory, 0, 65_536)).toBe(BlockStatus.medium);
  });
});
