/**
 * What a host was promised of its blocks, and a workload that checks it against a medium that can
 * lose power at any moment. The promises (NVM Express Base 2.0, Flush; NVM Command Set 1.0, Force
 * Unit Access and section 2.1.4 on atomicity across power loss):
 *
 * - what was completed before a flush was submitted is on the medium once the flush is completed;
 * - what carries FUA, and everything while the volatile write cache is off, when it is completed;
 * - a block is whole: one of the contents it was ever given, never a mixture of two.
 *
 * After a cut a block may hold the last contents that were promised, or any later ones, completed
 * or not; never earlier ones. A host keeps writes to one block apart in time, as NVMe asks.
 */

import { assert, type Prng } from "../src/core/index.ts";
import type { PowerCutFile } from "./power-cut-file.ts";

interface Content {
  readonly sequence: number;
  readonly value: number;
}

/** A write that is under way or was completed; values are by block. */
interface Written {
  readonly lba: number;
  readonly contents: readonly Content[];
}

export class PromisedBlocks {
  readonly blockBytes: number;
  /** By block: from the last promised contents on, oldest first. */
  private readonly contents: Content[][];
  /** By block: the last completed contents. */
  private readonly completed: Content[];
  private readonly isBusy: boolean[];
  private sequence = 0;

  /** All blocks hold zeros, for sure; or `image`. */
  constructor(blocks: number, blockBytes: number, image?: Uint8Array) {
    this.blockBytes = blockBytes;
    this.completed = Array.from({ length: blocks }, (_, lba) => {
      const value = image === undefined ? 0 : blockValue(image, lba, blockBytes);
      assert(value >= 0, "a block that is there is whole");
      return { sequence: 0, value };
    });
    this.contents = this.completed.map((content) => [content]);
    this.isBusy = this.completed.map(() => false);
  }

  /** Blocks that nothing is being written to. */
  isFree(lba: number, blocks: number): boolean {
    return !this.isBusy.slice(lba, lba + blocks).includes(true);
  }

  begin(lba: number, values: readonly number[]): Written {
    const contents = values.map((value, i) => {
      const made = { sequence: ++this.sequence, value };
      this.contents[lba + i].push(made);
      this.isBusy[lba + i] = true;
      return made;
    });
    return { lba, contents };
  }

  complete({ lba, contents }: Written, isDurable: boolean): void {
    contents.forEach((content, i) => {
      this.completed[lba + i] = content;
      this.isBusy[lba + i] = false;
      if (isDurable) this.promise(lba + i, content);
    });
  }

  /** What a flush that is submitted now will promise. */
  mark(): readonly Content[] {
    return this.completed.slice();
  }

  flushed(mark: readonly Content[]): void {
    for (const [lba, content] of mark.entries()) this.promise(lba, content);
  }

  private promise(lba: number, content: Content): void {
    this.contents[lba] = this.contents[lba].filter(({ sequence }) => sequence >= content.sequence);
  }

  /** What of an image breaks a promise; null: nothing. */
  check(image: Uint8Array): string | null {
    for (const [lba, allowed] of this.contents.entries()) {
      const value = blockValue(image, lba, this.blockBytes);
      if (allowed.some((content) => content.value === value)) continue;
      const found = value < 0 ? "a mixture" : `contents ${value}`;
      return `block ${lba} holds ${found}, allowed: ${allowed.map((one) => one.value).join(", ")}`;
    }
    return null;
  }
}

/** A block's contents are one number, over and over. -1: they are not. */
function blockValue(image: Uint8Array, lba: number, blockBytes: number): number {
  const view = new DataView(image.buffer, image.byteOffset + lba * blockBytes, blockBytes);
  const value = view.getUint32(0, true);
  for (let at = 4; at < blockBytes; at += 4) if (view.getUint32(at, true) !== value) return -1;
  return value;
}

export interface DurableOp {
  readonly kind: "write" | "flush" | "write zeroes" | "deallocate";
  readonly lba: number;
  readonly blocks: number;
  readonly fua: boolean;
  /** Write Zeroes with DEAC. */
  readonly deallocates: boolean;
  /** Its place among those under way, and that of its data. */
  readonly slot: number;
}

/** A disk as the workload drives it: through a raw controller, or through all of the stack. */
export interface DurableDevice {
  /** The data of a slot; `blocksMax` blocks. */
  data(slot: number): Uint8Array;
  submit(op: DurableOp): void;
  /** Does what is ready; slots that completed, each well. */
  step(): number[];
}

export interface WorkloadOptions {
  readonly blocks: number;
  readonly blockBytes: number;
  /** Blocks of one write at most. */
  readonly blocksMax: number;
  readonly depth: number;
  readonly steps: number;
  /** The volatile write cache is off. */
  readonly writeThrough?: boolean;
  /** False: a deallocate is a hint that is not taken, and blocks stay as they are. */
  readonly deallocates: boolean;
}

export interface CutReport {
  cuts: number;
  /** Cuts that broke a promise, and the first one in words. */
  broken: number;
  firstBroken: string | null;
}

/** Steps that the last commands may take to complete. */
const ROUNDS_MAX = 1000;

/** Values are numbers of writes: unique over all runs of a process, 0 is for zeros. */
let lastValue = 0;

interface UnderWay {
  readonly op: DurableOp;
  readonly written: Written | null;
  readonly mark: readonly Content[];
}

/** Runs a seeded workload and cuts the power after every step, twice; the run goes on. */
export function cutOften(
  device: DurableDevice,
  file: PowerCutFile,
  promised: PromisedBlocks,
  prng: Prng,
  options: WorkloadOptions,
): CutReport {
  const report: CutReport = { cuts: 0, broken: 0, firstBroken: null };
  const underWay: (UnderWay | null)[] = new Array(options.depth).fill(null);
  const cut = (): void => {
    report.cuts++;
    const problem = promised.check(file.afterCut(prng));
    if (problem === null) return;
    report.broken++;
    report.firstBroken ??= problem;
  };
  const collect = (): void => {
    for (const slot of device.step()) {
      const { op, written, mark } = underWay[slot] as UnderWay;
      underWay[slot] = null;
      if (op.kind === "flush") promised.flushed(mark);
      else if (written !== null) {
        // Deallocate writes nothing: only a flush makes it last.
        const isForced = options.writeThrough === true && op.kind !== "deallocate";
        const isDurable = op.fua || isForced;
        promised.complete(written, isDurable);
      }
    }
  };
  for (let i = 0; i < options.steps; i++) {
    const slot = underWay.indexOf(null);
    const op = slot < 0 ? null : chooseOp(prng, slot, promised, options);
    if (op !== null && (file.deferredCount === 0 || prng.chance(0.7))) {
      underWay[op.slot] = { op, ...begin(device, promised, op, options) };
      device.submit(op);
    } else if (file.deferredCount > 0) file.settle();
    // Commands may be half done.
    cut();
    collect();
    cut();
  }
  for (let i = 0; i < ROUNDS_MAX && underWay.some((one) => one !== null); i++) {
    if (file.deferredCount > 0) file.settle();
    collect();
  }
  assert(
    underWay.every((one) => one === null),
    "every command completes in the end",
  );
  return report;
}

function chooseOp(
  prng: Prng,
  slot: number,
  promised: PromisedBlocks,
  options: WorkloadOptions,
): DurableOp | null {
  const kind = prng.pick([
    "write",
    "write",
    "write",
    "flush",
    "write zeroes",
    "deallocate",
  ] as const);
  const blocks = 1 + prng.below(options.blocksMax);
  const lba = prng.below(options.blocks - blocks + 1);
  // Deallocate has no FUA.
  const fua = kind !== "deallocate" && kind !== "flush" && prng.chance(0.25);
  if (kind !== "flush" && !promised.isFree(lba, blocks)) return null;
  return { kind, lba, blocks, fua, deallocates: prng.chance(0.5), slot };
}

function begin(
  device: DurableDevice,
  promised: PromisedBlocks,
  op: DurableOp,
  { blockBytes, deallocates }: WorkloadOptions,
): { written: Written | null; mark: readonly Content[] } {
  if (op.kind === "flush") return { written: null, mark: promised.mark() };
  if (op.kind === "deallocate" && !deallocates) return { written: null, mark: [] };
  const isZero = op.kind !== "write";
  const values = Array.from({ length: op.blocks }, () => (isZero ? 0 : ++lastValue));
  if (!isZero) {
    const bytes = device.data(op.slot);
    const words = new Uint32Array(bytes.buffer, bytes.byteOffset, (op.blocks * blockBytes) / 4);
    for (const [i, value] of values.entries()) {
      words.fill(value, (i * blockBytes) / 4, ((i + 1) * blockBytes) / 4);
    }
  }
  return { written: promised.begin(op.lba, values), mark: [] };
}
