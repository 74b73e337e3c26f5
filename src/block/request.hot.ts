/**
 * The request: what a driver gets. One or more bios that are adjacent on the device, their data
 * mapped to DMA segments for the queue's initiator. Preallocated; `tag` is its index for good.
 *
 * Invariant: a request is completed once, by the driver that accepted it.
 */

import { assert } from "../core/index.ts";
import { SegmentList } from "../dma/index.ts";
import type { IoMemory } from "../memory/index.ts";
import { type Bio, NO_MEMORY } from "./bio.hot.ts";

/** Told by {@link Request.complete}; the queue. */
export interface RequestOwner {
  requestDone(request: Request, status: number): void;
}

export class Request {
  readonly tag: number;
  /** DMA segments of the data, for the queue's initiator. Empty for operations without data. */
  readonly segments: SegmentList;
  op = 0;
  /** `BioFlag` bits that matter to the driver. */
  flags = 0;
  sector = 0;
  sizeBytes = 0;
  /** DMA address of the metadata buffer; meaningful with `IntegrityFlag.buffer`. */
  metadataAddress = 0;
  /** `IntegrityFlag` bits: what is checked, by whom, with which buffer. 0: no protection. */
  integrityFlags = 0;
  /** Expected or inserted initial reference tag and application tag with its mask. */
  refTag = 0;
  appTag = 0;
  appTagMask = 0;
  /** How often the driver sent it; the driver's to count, zeroed by the queue. */
  attempts = 0;

  /** Bios in order of sector. For the queue. */
  head: Bio | null = null;
  tail: Bio | null = null;
  next: Request | null = null;
  /** `IntegrityMaker`, and where the metadata is. */
  integrityMaker = 0;
  metadataMemory: IoMemory = NO_MEMORY;
  metadataOffset = 0;
  metadataBytes = 0;
  /** Upper bound of segments, and the limit addresses of both ends (see split.hot.ts). */
  segmentBound = 0;
  firstAddress = 0;
  endAddress = 0;
  isMapped = false;
  isBusy = false;
  /** What mapping took and completion gives back. */
  unmapCount = 0;
  readonly unmapMemories: IoMemory[];
  readonly unmapAddresses: Float64Array;
  readonly unmapLengths: Uint32Array;
  private readonly owner: RequestOwner;

  constructor(owner: RequestOwner, tag: number, segmentsMax: number) {
    this.owner = owner;
    this.tag = tag;
    this.segments = new SegmentList(segmentsMax);
    // One more than segments: a metadata buffer is mapped as well.
    this.unmapMemories = new Array(segmentsMax + 1).fill(NO_MEMORY);
    this.unmapAddresses = new Float64Array(segmentsMax + 1);
    this.unmapLengths = new Uint32Array(segmentsMax + 1);
  }

  /** For drivers: ends the request with a `BlockStatus`. The request may be reused at once. */
  complete(status: number): void {
    assert(this.isBusy, "a request completes once");
    this.owner.requestDone(this, status);
  }
}

/**
 * What drives a device. Called by its queue alone, never re-entrantly from a completion.
 */
export interface BlockDriver {
  /**
   * Takes a mapped request: writes it to a ring, rings no doorbell. 0: accepted, and `complete`
   * will be called from `poll`, once. `BLOCK_BUSY`: no slot, offer it again after a completion.
   * Another `BlockStatus`: refused, the request fails with it.
   */
  queueRequest(request: Request): number;
  /** Makes what was queued since the last commit visible to the device: one doorbell. */
  commit(): void;
  /** Reaps completions. Returns how many requests it completed. */
  poll(): number;
}
