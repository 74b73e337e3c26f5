/**
 * A namespace in a file against the bare file: 4 KiB random reads and writes at depth 32 through
 * block queue, driver, doorbells, controller model and store, and the same positions by `readSync`
 * and `writeSync` alone. The file is in the page cache, as a working set would be. CPU time, the
 * kernel's included: what the disk below takes is the same for both.
 *
 * And why reads and writes are synchronous: the same reads handed to Node's threads, 32 at a time.
 */

import { closeSync, fdatasyncSync, openSync, read, readSync, rmSync, writeSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type Bio, BioOp, type BioOwner, BioPool, type RequestQueue } from "../src/block/index.ts";
import { Prng } from "../src/core/index.ts";
import { type Fabric, FileStore } from "../src/fabric/index.ts";
import { openBlockFile } from "../src/platform/index.ts";
import { nvmeMachine } from "../testing/nvme-machine.ts";
import { type Bench, cpuClock, formatNs, interleave, median } from "./lib.ts";

const BYTES = 4096;
const DEPTH = 32;
const FILE_BYTES = 64 * 2 ** 20;
const CALLS = 4000;
const WARM_UP_CALLS = 60_000;
const SECTORS_PER_IO = BYTES / 512;

/** Submits every bio again, at another place each time, until enough were done. */
class Load implements BioOwner {
  private readonly queue: RequestQueue;
  private readonly fabric: Fabric;
  private readonly bios: readonly Bio[];
  private readonly prng = new Prng(1);
  private left = 0;
  failed = 0;

  constructor(fabric: Fabric, queue: RequestQueue, bios: readonly Bio[]) {
    this.fabric = fabric;
    this.queue = queue;
    this.bios = bios;
    for (const bio of bios) bio.owner = this;
  }

  bioDone(bio: Bio): void {
    if (bio.status !== 0) this.failed++;
    if (this.left-- > 0) this.submit(bio);
  }

  private submit(bio: Bio): void {
    bio.sector = this.prng.below(FILE_BYTES / BYTES) * SECTORS_PER_IO;
    this.queue.submit(bio);
  }

  run(calls: number): void {
    this.left = calls - this.bios.length;
    for (const bio of this.bios) this.submit(bio);
    this.queue.kick();
    while (this.fabric.poll() + this.queue.poll() > 0);
  }
}

function makeFile(): string {
  const path = join(tmpdir(), `peerlane-bench-${process.pid}.img`);
  const fd = openSync(path, "w");
  const piece = new Uint8Array(2 ** 20).fill(7);
  for (let at = 0; at < FILE_BYTES; at += piece.length) writeSync(fd, piece, 0, piece.length, at);
  fdatasyncSync(fd);
  closeSync(fd);
  return path;
}

/** Runs `work` with a file of its own, which is gone afterwards. */
async function withFile<T>(work: (path: string) => Promise<T>): Promise<T> {
  const path = makeFile();
  try {
    return await work(path);
  } finally {
    rmSync(path);
  }
}

async function loadOn(path: string, op: number) {
  const file = openBlockFile(path, { sizeBytes: FILE_BYTES });
  const store = new FileStore(file, FILE_BYTES);
  const machine = nvmeMachine({ model: { namespaces: [{ store }] } });
  const controller = await machine.attach({ queueDepth: 128 });
  const memory = machine.hostMemory(DEPTH * BYTES);
  const pool = new BioPool(DEPTH, 1);
  const bios = Array.from({ length: DEPTH }, (_, i) => {
    const bio = pool.acquire() as Bio;
    bio.op = op;
    bio.addMemory(memory, i * BYTES, BYTES);
    return bio;
  });
  return { file, load: new Load(machine.fabric, controller.namespaces[0].queue, bios) };
}

function fileBench(name: string, op: number, limit: number): Bench {
  const isRead = op === BioOp.read;
  return {
    name: `nvme-file-${name}`,
    claim: `4 KiB random ${name}s of a file namespace, depth 32, in times of the bare file's rate`,
    run: () =>
      withFile(async (path) => {
        const { file, load } = await loadOn(path, op);
        load.run(WARM_UP_CALLS);
        const fd = openSync(path, "r+");
        const bytes = new Uint8Array(BYTES);
        const prng = new Prng(2);
        const bare = (calls: number): void => {
          for (let i = 0; i < calls; i++) {
            const at = prng.below(FILE_BYTES / BYTES) * BYTES;
            if (isRead) readSync(fd, bytes, 0, BYTES, at);
            else writeSync(fd, bytes, 0, BYTES, at);
          }
        };
        const subject = (calls: number): void => load.run(calls);
        const measured = interleave(cpuClock, subject, bare, { calls: CALLS, rounds: 15 });
        closeSync(fd);
        file.close();
        if (load.failed > 0) throw new Error(`${load.failed} failed`);
        const { ratio, subjectNs, referenceNs } = measured;
        const figures = `namespace ${formatNs(subjectNs)}, bare file ${formatNs(referenceNs)}`;
        return { ratio, limit, bound: "at-least" as const, figures };
      }),
  };
}

/** `DEPTH` reads at a time by Node's threads. */
function readInThreads(fd: number, calls: number, prng: Prng): Promise<void> {
  return new Promise((resolve, reject) => {
    let begun = 0;
    let done = 0;
    const next = (bytes: Uint8Array): void => {
      if (begun === calls) return;
      begun++;
      read(fd, bytes, 0, BYTES, prng.below(FILE_BYTES / BYTES) * BYTES, (error) => {
        if (error !== null) reject(error);
        done++;
        if (done === calls) resolve();
        else next(bytes);
      });
    };
    for (let i = 0; i < DEPTH; i++) next(new Uint8Array(BYTES));
  });
}

export const fileSync: Bench = {
  name: "file-sync",
  claim: "4 KiB random reads of a cached file on this thread, in times of those by Node's threads",
  run: (clock) =>
    withFile(async (path) => {
      const file = openBlockFile(path);
      const fd = openSync(path, "r");
      const bytes = new Uint8Array(BYTES);
      const prng = new Prng(3);
      const rounds: { here: number; there: number }[] = [];
      for (let round = 0; round < 13; round++) {
        const start = clock.nowNs();
        for (let i = 0; i < CALLS; i++) {
          file.readAt(prng.below(FILE_BYTES / BYTES) * BYTES, bytes, 0, BYTES);
        }
        const middle = clock.nowNs();
        await readInThreads(fd, CALLS, prng);
        const there = (clock.nowNs() - middle) / CALLS;
        // The first ones compile.
        if (round >= 2) rounds.push({ here: (middle - start) / CALLS, there });
      }
      closeSync(fd);
      file.close();
      const here = median(rounds.map((round) => round.here));
      const there = median(rounds.map((round) => round.there));
      const ratio = median(rounds.map((round) => round.there / round.here));
      const figures = `on this thread ${formatNs(here)}, by threads ${formatNs(there)}`;
      return { ratio, limit: 1, bound: "at-least" as const, figures };
    }),
};

export const nvmeFileRead = fileBench("read", BioOp.read, 0.5);
export const nvmeFileWrite = fileBench("write", BioOp.write, 0.5);
