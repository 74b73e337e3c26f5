/**
 * What a bio asks for: operations, flags, and the small tables that the data plane indexes by
 * operation. Sectors are 512 bytes everywhere in this room, whatever the device's block size.
 */

import { Direction } from "../memory/index.ts";

export const SECTOR_BYTES = 512;

export const BioOp = {
  read: 0,
  write: 1,
  /** Carries no data and no range: everything completed before it reaches stable media. */
  flush: 2,
  /** A range without vectors reads as zeros afterwards. */
  writeZeroes: 3,
  /** A range whose content is no longer needed. */
  discard: 4,
  /** The device compares the vectors with the medium. */
  compare: 5,
  /** The device checks that a range can be read; no data moves. */
  verify: 6,
} as const;
export type BioOp = (typeof BioOp)[keyof typeof BioOp];

export const BIO_OP_NAMES: readonly string[] = [
  "read",
  "write",
  "flush",
  "write-zeroes",
  "discard",
  "compare",
  "verify",
];

/** Bits of `bio.flags`. */
export const BioFlag = {
  /** Force Unit Access: on stable media before completion. */
  fua: 1,
  /** Never joined with another bio in one request. */
  noMerge: 2,
  /**
   * Some vector's memory is out of the CPU's reach. Set by `addMemory`, never by hand: a submitter
   * cannot forget it. Only a queue with `QueueFeature.dmaDirect` takes such a bio.
   */
  dmaDirect: 4,
  /** Shares the vectors of another bio; vectors cannot be added. */
  clone: 8,
  /** Of a write-zeroes: the range may give its space back, if it reads as zeros all the same. */
  unmap: 16,
} as const;

/** Flags that a merged request must agree on. */
export const MERGE_FLAGS = BioFlag.fua | BioFlag.dmaDirect | BioFlag.unmap;

const DIRECTION = new Uint8Array(BIO_OP_NAMES.length);
DIRECTION[BioOp.read] = Direction.toMemory;
DIRECTION[BioOp.write] = Direction.fromMemory;
DIRECTION[BioOp.compare] = Direction.fromMemory;

/** {@link Direction} of an operation's data seen from the device; 0 when no data moves. */
export function directionOf(op: number): number {
  return DIRECTION[op];
}

/** True for operations whose size is the sum of their vectors. */
export function carriesData(op: number): boolean {
  return DIRECTION[op] !== 0;
}

/** What a queue can do. Bits of `QueueLimits.features`; a stacked queue has what all legs have. */
export const QueueFeature = {
  /** A volatile write cache: flush means something. */
  writeCache: 1,
  fua: 2,
  /** Takes bios whose memory the CPU cannot reach (the RFC's queue flag, and its successors). */
  dmaDirect: 4,
  writeZeroes: 8,
  discard: 16,
  compare: 32,
  verify: 64,
  /** What was discarded reads as zeros, and a write-zeroes may discard (`BioFlag.unmap`). */
  unmapZeroes: 128,
} as const;

export const QUEUE_FEATURE_NAMES: readonly string[] = [
  "write-cache",
  "fua",
  "dma-direct",
  "write-zeroes",
  "discard",
  "compare",
  "verify",
  "unmap-zeroes",
];

const NEEDS = new Uint8Array(BIO_OP_NAMES.length);
NEEDS[BioOp.writeZeroes] = QueueFeature.writeZeroes;
NEEDS[BioOp.discard] = QueueFeature.discard;
NEEDS[BioOp.compare] = QueueFeature.compare;
NEEDS[BioOp.verify] = QueueFeature.verify;

/** The {@link QueueFeature} bits that an operation needs; 0 for read, write and flush. */
export function featuresNeeded(op: number): number {
  return NEEDS[op];
}
