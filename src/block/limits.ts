/**
 * Queue limits: what one request to a device may look like, and how limits of several devices
 * combine. Checked when a queue is made, enforced when bios are split; adding a vector to a bio
 * checks nothing, since the queue may still change under it.
 *
 * Boundaries and masks are powers of two up to 2^52 and may exceed 32 bits, as DMA addresses do.
 * Defaults and the most-restrictive rule follow Linux block/blk-settings.c.
 */

import { hex, isPowerOfTwo, type Tree, UsageError } from "../core/index.ts";
import { QUEUE_FEATURE_NAMES, QueueFeature, SECTOR_BYTES } from "./operation.ts";

/** No boundary: beyond every address. */
export const NO_BOUNDARY = 2 ** 52;

/** What a driver states; what it leaves out gets the default. */
export interface QueueLimitOptions {
  readonly logicalBlockBytes?: number;
  readonly physicalBlockBytes?: number;
  /** Largest read, write or compare in bytes. */
  readonly maxBytes?: number;
  readonly maxSegments?: number;
  readonly maxSegmentBytes?: number;
  /** No segment crosses a multiple of this (the mask plus one). */
  readonly segmentBoundary?: number;
  /** All segments but the ends touch multiples of this; 0: gaps are allowed. */
  readonly virtBoundary?: number;
  /** Addresses and lengths of vectors are multiples of this. */
  readonly dmaAlignment?: number;
  /** Requests do not cross multiples of this (bytes on the device); 0: they may. */
  readonly chunkBytes?: number;
  readonly maxDiscardBytes?: number;
  readonly maxWriteZeroesBytes?: number;
  readonly maxVerifyBytes?: number;
  /** `QueueFeature` bits. */
  readonly features?: number;
}

export class QueueLimits {
  readonly logicalBlockBytes: number;
  readonly physicalBlockBytes: number;
  readonly maxBytes: number;
  readonly maxSegments: number;
  readonly maxSegmentBytes: number;
  readonly segmentBoundary: number;
  readonly virtBoundary: number;
  readonly dmaAlignment: number;
  readonly chunkBytes: number;
  readonly maxDiscardBytes: number;
  readonly maxWriteZeroesBytes: number;
  readonly maxVerifyBytes: number;
  readonly features: number;

  /** Throws `bad-limits` when the limits contradict each other. */
  constructor(options: QueueLimitOptions = {}) {
    const virtBoundary = options.virtBoundary ?? 0;
    this.logicalBlockBytes = options.logicalBlockBytes ?? 512;
    this.physicalBlockBytes = options.physicalBlockBytes ?? this.logicalBlockBytes;
    this.maxBytes = options.maxBytes ?? 255 * SECTOR_BYTES;
    this.maxSegments = options.maxSegments ?? 128;
    const segmentBytes = options.maxSegmentBytes ?? (virtBoundary > 0 ? 2 ** 32 - 1 : 65536);
    // A segment that is full must end where the next may begin.
    this.maxSegmentBytes = segmentBytes - (virtBoundary > 0 ? segmentBytes % virtBoundary : 0);
    this.segmentBoundary = options.segmentBoundary ?? 2 ** 32;
    this.virtBoundary = virtBoundary;
    this.dmaAlignment = options.dmaAlignment ?? 512;
    this.chunkBytes = options.chunkBytes ?? 0;
    this.maxDiscardBytes = options.maxDiscardBytes ?? 0;
    this.maxWriteZeroesBytes = options.maxWriteZeroesBytes ?? 0;
    this.maxVerifyBytes = options.maxVerifyBytes ?? 0;
    this.features = options.features ?? 0;
    this.check();
  }

  private check(): void {
    const wrong = (what: string, remedy: string): never => {
      throw new UsageError("bad-limits", `queue limits: ${what}`, { remedy });
    };
    const lbs = this.logicalBlockBytes;
    if (!isPowerOfTwo(lbs) || lbs < SECTOR_BYTES) {
      wrong(`logical block of ${lbs} bytes`, "use a power of two of at least 512");
    }
    if (this.maxBytes < lbs) {
      wrong(`maxBytes ${this.maxBytes} below one block`, "allow at least one logical block");
    }
    if (this.maxSegments < 1) wrong("maxSegments below 1", "allow at least one segment");
    if (this.maxSegmentBytes < 4096 || this.maxSegmentBytes > 2 ** 32 - 1) {
      wrong(`maxSegmentBytes ${this.maxSegmentBytes}`, "use 4096 to 4294967295");
    }
    for (const [name, value] of [
      ["segmentBoundary", this.segmentBoundary],
      ["virtBoundary", this.virtBoundary],
    ] as const) {
      const off = name === "virtBoundary" && value === 0;
      if (!off && (!isPowerOfTwo(value) || value < 4096 || value > NO_BOUNDARY)) {
        wrong(`${name} ${value}`, "use a power of two from 4096 to 2^52");
      }
    }
    if (this.virtBoundary > 2 ** 31) {
      wrong(
        `virtBoundary ${this.virtBoundary}`,
        "no device asks for more than its page; use <= 2^31",
      );
    }
    if (!isPowerOfTwo(this.dmaAlignment) || this.dmaAlignment > 4096) {
      wrong(`dmaAlignment ${this.dmaAlignment}`, "use a power of two up to 4096");
    }
    if (this.chunkBytes !== 0 && this.chunkBytes % lbs !== 0) {
      wrong(`chunkBytes ${this.chunkBytes}`, "use a multiple of the logical block");
    }
  }

  /** True when all bits of `features` are there. */
  has(features: number): boolean {
    return (this.features & features) === features;
  }

  inspect(): Tree {
    return {
      logicalBlockBytes: this.logicalBlockBytes,
      physicalBlockBytes: this.physicalBlockBytes,
      maxBytes: this.maxBytes,
      maxSegments: this.maxSegments,
      maxSegmentBytes: this.maxSegmentBytes,
      segmentBoundary: this.segmentBoundary === NO_BOUNDARY ? "none" : hex(this.segmentBoundary),
      virtBoundary: this.virtBoundary,
      dmaAlignment: this.dmaAlignment,
      chunkBytes: this.chunkBytes,
      maxDiscardBytes: this.maxDiscardBytes,
      maxWriteZeroesBytes: this.maxWriteZeroesBytes,
      maxVerifyBytes: this.maxVerifyBytes,
      features: QUEUE_FEATURE_NAMES.filter((_, i) => (this.features & (1 << i)) !== 0),
    };
  }
}

/**
 * Chunk sizes combined, 0 being none: their greatest common divisor, since only what crosses no
 * multiple of that crosses none of either.
 */
function combineChunks(a: number, b: number): number {
  while (b !== 0) [a, b] = [b, a % b];
  return a;
}

/**
 * Limits of a queue stacked on others: every request it makes fits all of them. Features are those
 * that all have; dma-direct is one of them, since each leg maps for itself. Throws `bad-limits` for
 * an empty list.
 */
export function stackLimits(legs: readonly QueueLimits[]): QueueLimits {
  const first = legs[0];
  if (first === undefined) {
    throw new UsageError("bad-limits", "a stacked queue needs at least one leg", {
      remedy: "give the queues to stack on",
    });
  }
  return legs.slice(1).reduce(
    (a, b) =>
      new QueueLimits({
        logicalBlockBytes: Math.max(a.logicalBlockBytes, b.logicalBlockBytes),
        physicalBlockBytes: Math.max(a.physicalBlockBytes, b.physicalBlockBytes),
        maxBytes: Math.min(a.maxBytes, b.maxBytes),
        maxSegments: Math.min(a.maxSegments, b.maxSegments),
        maxSegmentBytes: Math.min(a.maxSegmentBytes, b.maxSegmentBytes),
        segmentBoundary: Math.min(a.segmentBoundary, b.segmentBoundary),
        virtBoundary: Math.max(a.virtBoundary, b.virtBoundary),
        dmaAlignment: Math.max(a.dmaAlignment, b.dmaAlignment),
        chunkBytes: combineChunks(a.chunkBytes, b.chunkBytes),
        maxDiscardBytes: Math.min(a.maxDiscardBytes, b.maxDiscardBytes),
        maxWriteZeroesBytes: Math.min(a.maxWriteZeroesBytes, b.maxWriteZeroesBytes),
        maxVerifyBytes: Math.min(a.maxVerifyBytes, b.maxVerifyBytes),
        features: stackFeatures(a.features, b.features),
      }),
    first,
  );
}

// A leg with a volatile cache makes the whole need flushes; everything else needs all legs. A leg
// without a cache writes through in any case, so it takes FUA from nobody.
function stackFeatures(a: number, b: number): number {
  const { writeCache, fua } = QueueFeature;
  const cache = (a | b) & writeCache;
  if (cache === 0) return a & b;
  const through = (features: number): number =>
    ((features & writeCache) === 0 ? fua : 0) | features;
  return (a & b) | cache | (through(a) & through(b) & fua);
}
