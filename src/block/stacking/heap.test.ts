/** What a part, a path and a failover leave on the heap: nothing. */
import { describe, expect, it } from "vitest";
import { bytesPerCall } from "../../../testing/heap.ts";
import { legMemory, makeLegs } from "../../../testing/stack-legs.ts";
import {
  type Bio,
  BioFlag,
  BioOp,
  type BioOwner,
  BioPool,
  BlockStatus,
  MultipathQueue,
  Raid0Queue,
} from "../index.ts";

const CHUNK = 8192;

describe("a stacked queue allocates nothing per I/O", () => {
  it("raid0", () => {
    const memory = legMemory();
    const { queues, disks } = makeLegs({ count: 4, memory });
    for (const disk of disks) disk.records = false;
    const queue = new Raid0Queue(queues, { chunkBytes: CHUNK });
    const bio = new BioPool(1, 1).acquire() as Bio;
    bio.op = BioOp.write;
    bio.flags |= BioFlag.noMerge;
    let failed = 0;
    const owner: BioOwner = {
      bioDone({ status }) {
        if (status !== BlockStatus.ok) failed++;
      },
    };
    bio.owner = owner;
    bio.addMemory(memory, 0, 8 * CHUNK);
    const perIo = bytesPerCall(4_000, (calls) => {
      for (let i = 0; i < calls; i++) {
        queue.submit(bio);
        queue.kick();
        while (bio.pending > 0) queue.poll();
      }
    });
    expect(failed).toBe(0);
    // Eight parts, each with addresses that may be boxed on their way.
    expect(perIo / 8).toBeLessThan(128);
  });

  it("multipath, failovers included", () => {
    const { queues, disks, memory } = makeLegs();
    const queue = new MultipathQueue(queues);
    for (const disk of disks) disk.records = false;
    const bio = new BioPool(1, 1).acquire() as Bio;
    bio.op = BioOp.write;
    let failed = 0;
    bio.owner = {
      bioDone({ status }: Bio) {
        if (status !== BlockStatus.ok) failed++;
      },
    };
    bio.addMemory(memory, 0, 4096);
    const perIo = bytesPerCall(20_000, (calls) => {
      for (let i = 0; i < calls; i++) {
        if ((i & 15) === 0) {
          disks[i & 1].refusals.push(BlockStatus.transport);
          queue.reinstate(0);
          queue.reinstate(1);
        }
        queue.submit(bio);
        queue.kick();
        while (bio.pending > 0) queue.poll();
      }
    });
    expect(failed).toBe(0);
    expect(queue.counters.failovers).toBeGreaterThan(500);
    expect(perIo).toBeLessThan(128);
  });
});
