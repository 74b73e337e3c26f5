/** Multipath: which path, what happens when one fails, and that nothing is sent twice. */
import { describe, expect, it } from "vitest";
import { BioRunner, LEG_BASES, makeLegs } from "../../../testing/stack-legs.ts";
import { DmaAddressMemory } from "../../memory/index.ts";
import {
  type Bio,
  BioOp,
  type BioOwner,
  BioPool,
  BlockStatus,
  type MultipathOptions,
  MultipathQueue,
  PathPolicy,
  Raid0Queue,
} from "../index.ts";

/** Paths to one disk: RAM disks with the same bytes. */
function setup(options: MultipathOptions = {}, count = 2) {
  const legs = makeLegs({ count });
  for (const disk of legs.disks) Object.assign(disk, { data: legs.disks[0].data });
  const queue = new MultipathQueue(legs.queues, options);
  const write = () => runner.io(BioOp.write, 0, [legs.memory, 0, 4096]);
  const runner = new BioRunner(queue);
  const seen = () => legs.disks.map((disk) => disk.seen.length);
  return { ...legs, queue, runner, write, seen };
}

describe("multipath", () => {
  it("takes paths in turn, or the first, or the emptiest", () => {
    const runs = (policy: PathPolicy) => {
      const { write, seen } = setup({ policy }, 3);
      for (let i = 0; i < 6; i++) expect(write()).toBe(BlockStatus.ok);
      return seen();
    };
    expect(runs(PathPolicy.roundRobin)).toEqual([2, 2, 2]);
    expect(runs(PathPolicy.failover)).toEqual([6, 0, 0]);
    const { queue, disks, memory } = setup({ policy: PathPolicy.queueDepth }, 3);
    for (const disk of disks) disk.isStalled = true;
    const pool = new BioPool(5, 1);
    for (let i = 0; i < 5; i++) {
      const bio = pool.acquire() as Bio;
      bio.owner = { bioDone: () => undefined };
      bio.sector = i * 16;
      bio.addMemory(memory, 0, 4096);
      queue.submit(bio);
    }
    expect(queue.counters.inFlight).toEqual([2, 2, 1]);
    for (const disk of disks) disk.isStalled = false;
    for (let i = 0; i < 3; i++) queue.poll();
    expect(queue.counters.inFlight).toEqual([0, 0, 0]);
  });

  it("goes on by another path after a path error, counted, with that device's address", () => {
    const { queue, disks, write, seen } = setup();
    disks[0].verdicts.push(BlockStatus.transport);
    expect(write()).toBe(BlockStatus.ok);
    expect(seen()).toEqual([1, 1]);
    expect(disks[1].seen[0].addresses).toEqual([LEG_BASES[1]]);
    expect(queue.counters).toMatchObject({ failovers: 1, errors: [1, 0], exhausted: 0 });
    // The path is out until somebody says that it works again.
    expect([queue.isLive(0), queue.isLive(1)]).toEqual([false, true]);
    for (let i = 0; i < 3; i++) expect(write()).toBe(BlockStatus.ok);
    expect(seen()).toEqual([1, 4]);
    queue.reinstate(0);
    write();
    write();
    expect(seen()).toEqual([2, 5]);
  });

  it("ends with the path's error when all paths were tried", () => {
    const { queue, disks, write, seen } = setup();
    disks[0].verdicts.push(BlockStatus.transport);
    disks[1].verdicts.push(BlockStatus.timeout);
    expect(write()).toBe(BlockStatus.timeout);
    expect(queue.counters).toMatchObject({ failovers: 2, exhausted: 1, errors: [1, 1] });
    // No path is left: refused without a try.
    expect(write()).toBe(BlockStatus.transport);
    expect(seen()).toEqual([1, 1]);
  });

  it("does not retry what another path would refuse too", () => {
    const { queue, disks, write, seen } = setup();
    disks[0].verdicts.push(BlockStatus.medium);
    expect(write()).toBe(BlockStatus.medium);
    expect(seen()).toEqual([1, 0]);
    expect(queue.counters.failovers).toBe(0);
  });

  it("sends a bare DMA address by its own path alone", () => {
    const { queue, disks, runner, seen } = setup();
    const forSecond = new DmaAddressMemory(2);
    const write = () => runner.io(BioOp.write, 0, [forSecond, LEG_BASES[1], 4096]);
    for (let i = 0; i < 3; i++) expect(write()).toBe(BlockStatus.ok);
    expect(seen()).toEqual([0, 3]);
    expect(queue.counters.refused[0]).toBeGreaterThan(0);
    // And there is no failover for it.
    disks[1].verdicts.push(BlockStatus.transport);
    expect(write()).toBe(BlockStatus.transport);
    expect(write()).toBe(BlockStatus.wrongInitiator);
    expect(seen()).toEqual([0, 4]);
  });

  it("waits when all parts are under way", () => {
    const { queue, disks, memory } = setup({ parts: 2 });
    const pool = new BioPool(6, 1);
    let ok = 0;
    const owner: BioOwner = {
      bioDone: ({ status }) => {
        if (status === BlockStatus.ok) ok++;
      },
    };
    for (let i = 0; i < 6; i++) {
      const bio = pool.acquire() as Bio;
      bio.op = BioOp.write;
      bio.owner = owner;
      bio.sector = i * 16;
      bio.addMemory(memory, i * 8192, 4096);
      queue.submit(bio);
    }
    expect(queue.counters.busy).toBe(4);
    queue.kick();
    for (let i = 0; i < 10; i++) queue.poll();
    expect(ok).toBe(6);
    expect(disks[0].seen.length + disks[1].seen.length).toBe(6);
  });

  it("retries in a stack on stacks, and inside one", () => {
    const a = makeLegs();
    const b = makeLegs({ memory: a.memory });
    const halves = [a, b].map(({ queues }) => new Raid0Queue(queues, { chunkBytes: 4096 }));
    const queue = new MultipathQueue(halves);
    a.disks[1].verdicts.push(BlockStatus.transport);
    const status = new BioRunner(queue).io(BioOp.write, 0, [a.memory, 0, 32_768]);
    expect(status).toBe(BlockStatus.ok);
    expect(Buffer.compare(b.disks[0].data.subarray(0, 4096), a.memory.data.subarray(0, 4096))).toBe(
      0,
    );
    expect(queue.inspect()).toMatchObject({
      policy: "round-robin",
      counters: { failovers: 1 },
      paths: [{ live: false }, { live: true, queue: { name: "raid0" } }],
    });
  });

  it("is made of paths to one thing", () => {
    const { queues } = makeLegs();
    const striped = new Raid0Queue(queues, { chunkBytes: 4096 });
    expect(() => new MultipathQueue([queues[0], striped])).toThrow("different sizes");
    expect(() => new MultipathQueue(Array(32).fill(queues[0]))).toThrow("32 paths");
    expect(() => new MultipathQueue([])).toThrow("at least one leg");
    expect(() => new MultipathQueue(queues, { parts: 0 })).toThrow("0 parts");
  });
});
