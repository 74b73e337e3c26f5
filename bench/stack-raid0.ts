/**
 * What stacking costs: 1 MiB writes of peer memory through raid0 over four NVMe controllers, chunks
 * of 128 KiB, each leg by its own lease address, against the same writes to the same four
 * controllers in turn without the stack. Block, driver, doorbells, fabric, controller models and
 * media take part in both, and the payload is copied once in both.
 */

import {
  type Bio,
  BioOp,
  type BioOwner,
  BioPool,
  type BlockQueue,
  Raid0Queue,
} from "../src/block/index.ts";
import { LeaseMemory } from "../src/memory/index.ts";
import { openLease } from "../src/p2p/index.ts";
import { chooseSubject, StackSetup } from "../src/scenario/index.ts";
import { MachineBuilder } from "../testing/machine-builder.ts";
import { type Bench, cpuClock, formatNs, interleave } from "./lib.ts";

const LEGS = 4;
const IO_BYTES = 2 ** 20;
const CHUNK = 128 * 1024;
const DEPTH = 4;
const SLOTS = 8;

/** A GPU and an SSD below one switch, three more SSDs below another root port's. */
function machine() {
  const host = { cpuVendor: "AuthenticAMD", cpuFamily: 0x19, kernelVersion: "7.3.4" };
  const builder = new MachineBuilder("striped", host);
  const root = builder.root({ busOffset: -0x1000_0000 });
  const near = builder.switch(builder.rootPort(root), 2).ports;
  const far = builder.switch(builder.rootPort(root), LEGS - 1).ports;
  builder.endpoint(near[0], { bars: [0x4000, 16 * 2 ** 20] });
  const ssds = [near[1], ...far].map((port) => builder.endpoint(port, { bars: [0x4000] }));
  return { snapshot: builder.build(), legs: ssds.map(({ bdf }) => bdf) };
}

/** Submits every bio again, to the next of the queues, until enough were done. */
class Load implements BioOwner {
  failed = 0;
  private readonly queues: readonly BlockQueue[];
  private readonly poll: () => number;
  private readonly bios: readonly Bio[];
  private left = 0;
  private next = 0;

  constructor(queues: readonly BlockQueue[], bios: readonly Bio[], poll: () => number) {
    this.queues = queues;
    this.bios = bios;
    this.poll = poll;
    for (const bio of bios) bio.owner = this;
  }

  bioDone(bio: Bio): void {
    if (bio.status !== 0) this.failed++;
    if (this.left-- > 0) this.submit(bio);
  }

  private submit(bio: Bio): void {
    this.queues[this.next++ % this.queues.length].submit(bio);
  }

  run(calls: number): void {
    const first = Math.min(calls, this.bios.length);
    this.left = calls - first;
    for (let i = 0; i < first; i++) this.submit(this.bios[i]);
    for (const queue of this.queues) queue.kick();
    for (let done = 1; done > 0; ) {
      done = this.poll();
      for (const queue of this.queues) done += queue.poll();
    }
  }
}

async function loads(): Promise<{ stacked: Load; plain: Load }> {
  const { snapshot, legs } = machine();
  const subject = chooseSubject(snapshot);
  const setup = await StackSetup.open(snapshot, subject, { legs, mode: "off" });
  const { rules, devices } = setup;
  const lease = openLease({ provider: setup.provider(), rules, initiators: devices });
  const memory = new LeaseMemory(lease);
  const bios = (): Bio[] => {
    const pool = new BioPool(DEPTH, 1);
    return Array.from({ length: DEPTH }, (_, i) => {
      const bio = pool.acquire() as Bio;
      bio.op = BioOp.write;
      bio.sector = (i * IO_BYTES) / 512;
      bio.addMemory(memory, (i % SLOTS) * IO_BYTES, IO_BYTES);
      return bio;
    });
  };
  const queues = setup.legs.map(({ queue }) => queue);
  const stripe = new Raid0Queue(queues, { chunkBytes: CHUNK });
  const poll = (): number => {
    let done = setup.fabric.poll();
    for (const { controller } of setup.legs) done += controller.poll();
    return done;
  };
  return { stacked: new Load([stripe], bios(), poll), plain: new Load(queues, bios(), poll) };
}

export const stackRaid0: Bench = {
  name: "stack-raid0-1m",
  claim: "1 MiB peer writes of a lease over raid0 of four legs, as a share of the unstacked rate",
  async run() {
    const { stacked, plain } = await loads();
    stacked.run(2000);
    plain.run(2000);
    const { ratio, subjectNs, referenceNs } = interleave(
      cpuClock,
      (calls) => stacked.run(calls),
      (calls) => plain.run(calls),
      { calls: 200, rounds: 21 },
    );
    if (stacked.failed + plain.failed > 0) throw new Error("some writes failed");
    const rate = (ns: number): string => `${(IO_BYTES / ns).toFixed(1)} GB/s`;
    return {
      ratio,
      limit: 0.9,
      bound: "at-least",
      figures:
        `raid0 ${formatNs(subjectNs)} (${rate(subjectNs)}), ` +
        `unstacked ${formatNs(referenceNs)} (${rate(referenceNs)})`,
    };
  },
};
