/**
 * One batch of peer I/Os in steps that are measured apart: build (take hold of the memory, make the
 * bio), split and merge (check it against the queue's limits, cut it, join it to the request before
 * it), map (an address for the initiator, per piece), unmap (give it back, let the memory go).
 *
 * Invariants: every step does the whole batch; no step allocates. Leaves out: the driver, the
 * device and the data itself, the same for all descriptions.
 */

import {
  type Bio,
  BioOp,
  BioPool,
  findSplit,
  QueueLimits,
  Request,
  SplitPoint,
  tryMerge,
} from "../../block/index.ts";
import { assert } from "../../core/index.ts";
import { Direction } from "../../memory/index.ts";
import type { Handle } from "./descriptions.ts";
import { PROVIDER_BYTES } from "./setup.ts";
import type { CompareWorkload } from "./workload.ts";

/** As a controller with MDTS 5 and PRPs. */
export const REQUEST_BYTES_MAX = 128 * 1024;
const SEGMENTS_MAX = 128;
/** Odd, and far apart, so that neighbours share no cache line. */
const STRIDE = 1237;
/** Coprime to a hundred: reads and writes mixed evenly. */
const MIX_STRIDE = 37;

const NO_OWNER = {
  requestDone(): void {
    assert(false, "no request of a measured batch reaches a driver");
  },
};

export class IoLoop {
  /** I/Os of one batch. */
  readonly batch: number;
  /** I/Os that some step refused: the figures mean nothing unless it is 0. */
  refused = 0;
  /** Requests that the batches came to, and pieces that they were mapped in. */
  requests = 0;
  pieces = 0;
  private readonly handle: Handle;
  private readonly initiator: number;
  private readonly blockBytes: number;
  private readonly readPercent: number;
  private readonly slots: number;
  private readonly slotStep: number;
  /** Where I/Os are random they are nobody's neighbours on the device either. */
  private readonly sectorStep: number;
  private readonly bios: Bio[] = [];
  private readonly addresses: Float64Array;
  private readonly limits = new QueueLimits({
    features: 4,
    dmaAlignment: 4,
    virtBoundary: 4096,
    maxBytes: REQUEST_BYTES_MAX,
    maxSegments: SEGMENTS_MAX,
  });
  private readonly point = new SplitPoint();
  private readonly request = new Request(NO_OWNER, 0, SEGMENTS_MAX);
  private next = 0;
  private mix = 0;

  constructor(handle: Handle, initiator: number, workload: CompareWorkload) {
    this.handle = handle;
    this.initiator = initiator;
    this.batch = workload.depth;
    this.blockBytes = workload.blockBytes;
    this.readPercent = workload.readPercent;
    const isRandom = workload.pattern === "random";
    this.slots = Math.floor(PROVIDER_BYTES / workload.blockBytes);
    this.slotStep = isRandom ? STRIDE % this.slots : 1;
    this.sectorStep = (workload.blockBytes / 512) * (isRandom ? 2 : 1);
    const pieces = Math.ceil(workload.blockBytes / REQUEST_BYTES_MAX);
    this.addresses = new Float64Array(this.batch * pieces);
    const pool = new BioPool(this.batch, 1);
    for (let bio = pool.acquire(); bio !== null; bio = pool.acquire()) this.bios.push(bio);
  }

  build(): void {
    const { bios, batch, blockBytes, sectorStep, slots, slotStep, readPercent } = this;
    const { memory, first, hold } = this.handle;
    let { next, mix } = this;
    let sector = 0;
    for (let i = 0; i < batch; i++) {
      const bio = bios[i];
      bio.reset();
      bio.op = mix < readPercent ? BioOp.read : BioOp.write;
      bio.sector = sector;
      sector += sectorStep;
      mix += MIX_STRIDE;
      if (mix >= 100) mix -= 100;
      const offset = first + next * blockBytes;
      next += slotStep;
      if (next >= slots) next -= slots;
      if (!hold.begin(offset, blockBytes)) this.refused++;
      if (bio.addMemory(memory, offset, blockBytes) !== 0) this.refused++;
    }
    this.next = next;
    this.mix = mix;
  }

  split(): void {
    const { bios, batch, limits, point, request } = this;
    let isOpen = false;
    for (let i = 0; i < batch; i++) {
      const bio = bios[i];
      for (;;) {
        if (findSplit(bio, limits, point) !== 0) {
          this.refused++;
          break;
        }
        const isWhole = point.bytes === bio.sizeBytes;
        if (isWhole && isOpen && tryMerge(request, bio, point, limits)) break;
        this.open(bio);
        isOpen = true;
        if (isWhole) break;
        bio.advance(point.bytes);
      }
    }
  }

  /** A new request at the end of the plug, as the queue makes one. */
  private open(bio: Bio): void {
    const { request, point } = this;
    request.op = bio.op;
    request.flags = bio.flags;
    request.sector = bio.sector;
    request.sizeBytes = point.bytes;
    request.segmentBound = point.segments;
    request.firstAddress = point.firstAddress;
    request.endAddress = point.endAddress;
    request.head = bio;
    request.tail = bio;
    this.requests++;
  }

  map(): void {
    const { bios, batch, addresses, initiator } = this;
    let at = 0;
    for (let i = 0; i < batch; i++) {
      const bio = bios[i];
      const { vecBase } = bio;
      const memory = bio.memories[vecBase];
      const length = bio.lengths[vecBase];
      const direction = bio.op === BioOp.read ? Direction.toMemory : Direction.fromMemory;
      for (let done = 0; done < length; done += REQUEST_BYTES_MAX) {
        const piece = Math.min(length - done, REQUEST_BYTES_MAX);
        const address = memory.map(initiator, bio.offsets[vecBase] + done, piece, direction);
        if (address < 0) this.refused++;
        addresses[at++] = address;
      }
    }
    this.pieces += at;
  }

  unmap(): void {
    const { bios, batch, addresses, initiator } = this;
    const { hold } = this.handle;
    let at = 0;
    for (let i = 0; i < batch; i++) {
      const bio = bios[i];
      const { vecBase } = bio;
      const memory = bio.memories[vecBase];
      const length = bio.lengths[vecBase];
      for (let done = 0; done < length; done += REQUEST_BYTES_MAX, at++) {
        const piece = Math.min(length - done, REQUEST_BYTES_MAX);
        if (memory.needsUnmap) memory.unmap(initiator, addresses[at], piece);
      }
      hold.end(bio.offsets[vecBase], length);
    }
  }

  /** One batch of everything that differs between descriptions. */
  runAll(): void {
    this.build();
    this.map();
    this.unmap();
  }
}
