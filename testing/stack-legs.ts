/**
 * Legs for tests of stacked queues: RAM disks behind request queues, and one memory that is, like a
 * lease, at another address for the device of each leg and out of the CPU's reach.
 */

import {
  type Bio,
  BioPool,
  BioResult,
  type BlockQueue,
  type QueueLimitOptions,
  QueueLimits,
  RequestQueue,
} from "../src/block/index.ts";
import type { IoMemory } from "../src/memory/index.ts";
import { ArenaMemory, RamDisk } from "./block-arena.ts";

export const LEG_BASES = [0x1_0000_0000, 0x7_0000_0000, 0x21_0000_0000, 0x55_0000_0000];
export const LEG_BYTES = 1024 * 1024;
const ALL_FEATURES = 0x7f;

export interface LegsOptions {
  readonly count?: number;
  readonly limits?: QueueLimitOptions;
  readonly depth?: number;
  readonly memory?: ArenaMemory;
}

/** Memory that each leg's device has at an address of its own. */
export function legMemory(sizeBytes = LEG_BYTES): ArenaMemory {
  const bases = new Map(LEG_BASES.map((base, i) => [i + 1, base]));
  return new ArenaMemory(sizeBytes, { cpuAccessible: false, bases });
}

export function makeLegs(options: LegsOptions = {}) {
  const { count = 2, depth = 16, memory = legMemory() } = options;
  const limits = new QueueLimits({
    features: ALL_FEATURES,
    dmaAlignment: 4,
    maxDiscardBytes: LEG_BYTES,
    maxWriteZeroesBytes: LEG_BYTES,
    maxVerifyBytes: LEG_BYTES,
    ...options.limits,
  });
  const disks = Array.from(
    { length: count },
    (_, i) => new RamDisk({ sizeBytes: LEG_BYTES, memories: [memory], initiator: i + 1 }),
  );
  const queues = disks.map(
    (disk, i) =>
      new RequestQueue(disk, {
        name: `leg ${i}`,
        limits,
        initiator: i + 1,
        capacityBytes: LEG_BYTES,
        depth,
      }),
  );
  return { memory, disks, queues };
}

/** One bio, to its end; it must look as it did before. */
export class BioRunner {
  readonly result = new BioResult();
  private readonly pool = new BioPool(1, 8);
  private readonly queue: BlockQueue;

  constructor(queue: BlockQueue) {
    this.queue = queue;
  }

  /** Reads, writes and compares: vectors of (memory, offset, length). */
  io(op: number, sector: number, ...vectors: readonly (readonly [IoMemory, number, number])[]) {
    const bio = this.make(op, sector);
    for (const [memory, offset, length] of vectors) bio.addMemory(memory, offset, length);
    return this.run(bio);
  }

  /** Operations on a range, and flush. */
  range(op: number, sector: number, sizeBytes: number): number {
    const bio = this.make(op, sector);
    bio.setRange(sector, sizeBytes);
    return this.run(bio);
  }

  private make(op: number, sector: number): Bio {
    const bio = this.pool.acquire() as Bio;
    bio.op = op;
    bio.sector = sector;
    bio.owner = this.result;
    return bio;
  }

  private run(bio: Bio): number {
    const { result, queue } = this;
    result.done = 0;
    const before = [bio.sector, bio.sizeBytes, bio.vecIndex, bio.vecDone];
    queue.submit(bio);
    queue.kick();
    for (let i = 0; i < 1000 && result.done === 0; i++) queue.poll();
    if (result.done !== 1) throw new Error(`the bio ended ${result.done} times`);
    const after = [bio.sector, bio.sizeBytes, bio.vecIndex, bio.vecDone];
    if (`${after}` !== `${before}`) throw new Error("the bio does not look as it did");
    this.pool.release(bio);
    return result.status;
  }
}
