/**
 * A 4 KiB write from host memory to a namespace: block queue, NVMe driver, doorbells, fabric,
 * controller model and medium, against the one copy that it cannot do without. Queue depth 32,
 * then 1.
 */

import { type Bio, BioOp, type BioOwner, BioPool, type RequestQueue } from "../src/block/index.ts";
import type { Fabric } from "../src/fabric/index.ts";
import { nvmeMachine } from "../testing/nvme-machine.ts";
import { type Bench, formatNs, interleave } from "./lib.ts";

const BYTES = 4096;
const SLOTS = 64;
const WARM_UP_CALLS = 300_000;

/** Submits every bio again until enough were done. */
class Load implements BioOwner {
  private readonly queue: RequestQueue;
  private readonly fabric: Fabric;
  private readonly bios: Bio[];
  private left = 0;
  failed = 0;

  constructor(fabric: Fabric, queue: RequestQueue, bios: Bio[]) {
    this.fabric = fabric;
    this.queue = queue;
    this.bios = bios;
    for (const bio of bios) bio.owner = this;
  }

  bioDone(bio: Bio): void {
    if (bio.status !== 0) this.failed++;
    if (this.left-- > 0) this.queue.submit(bio);
  }

  run(calls: number): void {
    this.left = calls - this.bios.length;
    for (const bio of this.bios) this.queue.submit(bio);
    this.queue.kick();
    while (this.fabric.poll() + this.queue.poll() > 0);
  }
}

async function load(depth: number): Promise<Load> {
  const machine = nvmeMachine();
  const controller = await machine.attach({ queueDepth: 128 });
  const memory = machine.hostMemory(SLOTS * BYTES);
  const pool = new BioPool(depth, 1);
  const bios: Bio[] = [];
  for (let i = 0; i < depth; i++) {
    const bio = pool.acquire() as Bio;
    bio.op = BioOp.write;
    // Apart on the device, so that they stay commands of their own.
    bio.sector = i * 64;
    bio.addMemory(memory, (i % SLOTS) * BYTES, BYTES);
    bios.push(bio);
  }
  return new Load(machine.fabric, controller.namespaces[0].queue, bios);
}

function nvmeIo(depth: number, limit: number): Bench {
  return {
    name: `nvme-write-4k-qd${depth}`,
    claim: `4 KiB writes, block to medium, depth ${depth}, as a share of the rate of one 4 KiB copy`,
    async run(clock) {
      const writes = await load(depth);
      // Some twenty functions take part: more calls than the harness makes before all are compiled.
      writes.run(WARM_UP_CALLS);
      const source = new Uint8Array(SLOTS * BYTES).fill(1);
      const target = new Uint8Array(SLOTS * BYTES).fill(1);
      const views = Array.from({ length: SLOTS }, (_, i) =>
        source.subarray(i * BYTES, (i + 1) * BYTES),
      );
      const copy = (calls: number): void => {
        for (let i = 0; i < calls; i++)
          target.set(views[i % SLOTS] as Uint8Array, (i % SLOTS) * BYTES);
      };
      const { ratio, subjectNs, referenceNs } = interleave(
        clock,
        (calls) => writes.run(calls),
        copy,
        // Short rounds: a long one would be preempted where the short copy is not.
        { calls: 1000, rounds: 51 },
      );
      if (writes.failed > 0) throw new Error(`${writes.failed} writes failed`);
      return {
        ratio,
        limit,
        bound: "at-least",
        figures: `write ${formatNs(subjectNs)}, copy ${formatNs(referenceNs)}`,
      };
    },
  };
}

export const nvmeWriteDeep = nvmeIo(32, 0.07);
export const nvmeWriteSingle = nvmeIo(1, 0.04);
