/**
 * The request queue: takes bios, splits and merges them into requests by the device's limits, maps
 * them for the queue's initiator, feeds the driver in batches, and ends bios when the driver is
 * done. It knows nothing of peer-to-peer rules.
 *
 * How a bio travels: `submit` checks and splits it and plugs requests; `kick` maps them, hands them
 * to the driver and commits once; `poll` reaps. What finds no request or no slot waits, in order.
 * Flushes are not ordered against writes: a flush covers what completed before it was submitted.
 *
 * Invariants: every submitted bio ends once; requests never outnumber `depth`; a mapped request is
 * unmapped before its bios end.
 */

import { assert, type Tree } from "../core/index.ts";
import type { InitiatorId, IoMemory } from "../memory/index.ts";
import { Event, Tracer } from "../trace/index.ts";
import { type Bio, type BioOwner, BioPool } from "./bio.hot.ts";
import { checkBio } from "./check.hot.ts";
import { QueueCounters } from "./counters.ts";
import { Integrity, IntegrityMaker } from "./integrity.hot.ts";
import { IntegrityFlag, IntegrityPolicy, type IntegrityProfile } from "./integrity.ts";
import type { QueueLimits } from "./limits.ts";
import { mapRequest, unmapRequest } from "./map.hot.ts";
import { tryMerge } from "./merge.hot.ts";
import { BioOp } from "./operation.ts";
import { type BlockDriver, Request, type RequestOwner } from "./request.hot.ts";
import { findSplit, SplitPoint } from "./split.hot.ts";
import { BLOCK_BUSY, BlockStatus } from "./status.ts";
import { WaitList } from "./wait-list.hot.ts";

/** Where bios go: a device's queue, or one stacked on others. */
export interface BlockQueue {
  readonly name: string;
  readonly limits: QueueLimits;
  /** `QueueFeature` bits. */
  readonly features: number;
  /** The device that will issue the DMA; 0 for a stacked queue, which has several. */
  readonly initiator: InitiatorId;
  /** Bytes on the device. */
  readonly capacityBytes: number;
  /** Takes the bio. `bio.owner.bioDone` is called once, perhaps before this returns. */
  submit(bio: Bio): void;
  /** Sends what was submitted: one doorbell per batch. */
  kick(): void;
  /** Reaps completions, and kicks. Returns how many things it did. */
  poll(): number;
  inspect(): Tree;
}

export interface RequestQueueOptions {
  readonly name: string;
  readonly limits: QueueLimits;
  readonly initiator: InitiatorId;
  readonly capacityBytes: number;
  /** Requests in flight at most. */
  readonly depth: number;
  readonly integrity?: IntegrityProfile | null;
  readonly integrityPolicy?: IntegrityPolicy;
  /** CPU-accessible memory for metadata: `metadataSlotBytes(limits, profile)` per request. */
  readonly integrityBuffers?: IoMemory | null;
  readonly tracer?: Tracer;
}

/** Bytes of metadata that the largest request of a queue has. */
export function metadataSlotBytes(limits: QueueLimits, profile: IntegrityProfile): number {
  return Math.floor(limits.maxBytes / profile.blockBytes) * profile.metadataBytes;
}

const SILENT = new Tracer(() => 0, 1);

/** Requests plugged before they are handed to the driver without being asked. */
const PLUG_MAX = 32;

export class RequestQueue implements BlockQueue, RequestOwner {
  readonly name: string;
  readonly limits: QueueLimits;
  readonly features: number;
  readonly initiator: InitiatorId;
  readonly capacityBytes: number;
  readonly depth: number;
  /** How the device is protected; null: it is not. */
  readonly integrity: Integrity | null;
  readonly counters = new QueueCounters();
  private readonly driver: BlockDriver;
  private readonly tracer: Tracer;
  private readonly freeRequests: Request[] = [];
  private freeCount: number;
  private readonly fragments: BioPool;
  private readonly point = new SplitPoint();
  private plugHead: Request | null = null;
  private plugTail: Request | null = null;
  private plugCount = 0;
  private readonly waiting = new WaitList();
  /** Requests that the driver has. */
  private inFlight = 0;
  private needsCommit = false;
  private isDispatching = false;

  constructor(driver: BlockDriver, options: RequestQueueOptions) {
    assert(options.depth > 0, "a request queue has requests");
    this.driver = driver;
    this.name = options.name;
    this.limits = options.limits;
    this.features = options.limits.features;
    this.initiator = options.initiator;
    this.capacityBytes = options.capacityBytes;
    this.depth = options.depth;
    this.tracer = options.tracer ?? SILENT;
    const profile = options.integrity ?? null;
    this.integrity =
      profile === null
        ? null
        : new Integrity(
            profile,
            options.integrityPolicy ?? IntegrityPolicy.controllerFirst,
            options.integrityBuffers ?? null,
            metadataSlotBytes(options.limits, profile),
          );
    this.fragments = new BioPool(options.depth, 0);
    for (let tag = 0; tag < options.depth; tag++) {
      this.freeRequests.push(new Request(this, tag, options.limits.maxSegments));
    }
    this.freeCount = options.depth;
  }

  /** Nothing was submitted that has not ended. */
  get isIdle(): boolean {
    return this.freeCount === this.depth && this.waiting.isEmpty;
  }

  submit(bio: Bio): void {
    this.counters.bios++;
    bio.begin();
    let status = checkBio(bio, this.limits, this.capacityBytes);
    if (status === BlockStatus.ok && bio.op !== BioOp.flush) status = this.checkIntegrity(bio);
    if (status !== BlockStatus.ok) {
      this.reject(bio, status);
      return;
    }
    bio.next = null;
    if (!this.waiting.isEmpty || !this.place(bio)) this.waiting.push(bio);
    if (this.plugCount >= PLUG_MAX) this.dispatch();
  }

  kick(): void {
    this.flush();
  }

  /** Maps and hands over what is plugged, and commits once. Returns how many requests that were. */
  private flush(): number {
    const handed = this.dispatch();
    if (this.needsCommit) {
      this.needsCommit = false;
      this.counters.commits++;
      this.driver.commit();
    }
    return handed;
  }

  poll(): number {
    return this.driver.poll() + this.pump();
  }

  /** `poll` without the driver, for a driver that polls itself: what waited goes on. */
  pump(): number {
    let done = 0;
    while (!this.waiting.isEmpty && this.placeWaiting()) done++;
    return done + this.flush();
  }

  /**
   * A driver's verdict on a request it accepted, or the queue's own on one it never handed over.
   */
  requestDone(request: Request, status: number): void {
    this.inFlight--;
    this.finish(request, status);
  }

  private checkIntegrity(bio: Bio): number {
    const { integrity } = this;
    if (integrity === null) {
      if (bio.integrity === null) return BlockStatus.ok;
    } else {
      const maker = integrity.makerFor(bio);
      if (maker >= 0) return BlockStatus.ok;
      if (maker !== -BlockStatus.protection) return -maker;
    }
    this.counters.integrityRefused++;
    return BlockStatus.protection;
  }

  /**
   * Puts the bio into requests, the front parts as chained fragments. False when requests or
   * fragments ran out; what is left of the bio is then still to be placed.
   */
  private place(bio: Bio): boolean {
    const { point, limits } = this;
    for (;;) {
      if (bio.op !== BioOp.flush) {
        const status = findSplit(bio, limits, point);
        if (status !== BlockStatus.ok) {
          this.reject(bio, status);
          return true;
        }
      } else {
        point.bytes = 0;
        point.segments = 0;
      }
      const isWhole = point.bytes === bio.sizeBytes;
      if (isWhole && this.plugTail !== null && tryMerge(this.plugTail, bio, point, limits)) {
        this.counters.merges++;
        return true;
      }
      if (this.freeCount === 0) break;
      let part = bio;
      if (!isWhole) {
        const front = bio.splitFront(point.bytes, this.fragments);
        if (front === null) break;
        front.chainTo(bio);
        front.begin();
        this.counters.splits++;
        part = front;
      }
      this.plug(part);
      if (isWhole) return true;
    }
    this.counters.busy++;
    return false;
  }

  private plug(bio: Bio): void {
    const request = this.freeRequests[--this.freeCount];
    const { point } = this;
    request.isBusy = true;
    request.op = bio.op;
    request.flags = bio.flags;
    request.sector = bio.sector;
    request.sizeBytes = bio.sizeBytes;
    request.segmentBound = point.segments;
    request.firstAddress = point.firstAddress;
    request.endAddress = point.endAddress;
    request.head = bio;
    request.tail = bio;
    request.next = null;
    request.attempts = 0;
    request.segments.clear();
    if (this.integrity !== null) this.integrity.begin(request, bio);
    this.counters.requests++;
    if (this.plugTail === null) this.plugHead = request;
    else this.plugTail.next = request;
    this.plugTail = request;
    this.plugCount++;
  }

  /** Places the first waiting bio. False when it has to wait on. */
  private placeWaiting(): boolean {
    // Off the list first: placing may end a bio, whose owner may submit another that waits.
    const bio = this.waiting.shift();
    if (this.place(bio)) return true;
    this.waiting.unshift(bio);
    return false;
  }

  /** Maps plugged requests and hands them to the driver until it is full. Returns how many. */
  private dispatch(): number {
    // A bio that ends in here may submit and kick; its requests are taken by this same loop.
    if (this.isDispatching) return 0;
    this.isDispatching = true;
    let handed = 0;
    while (this.plugHead !== null) {
      const request: Request = this.plugHead;
      let status: number = BlockStatus.ok;
      if (!request.isMapped) status = this.prepare(request);
      if (status === BlockStatus.ok) status = this.driver.queueRequest(request);
      if (status === BLOCK_BUSY || (status === BlockStatus.resource && this.inFlight > 0)) {
        this.counters.busy++;
        break;
      }
      handed++;
      this.plugHead = request.next;
      if (this.plugHead === null) this.plugTail = null;
      this.plugCount--;
      request.next = null;
      if (this.tracer.on) {
        const { op, sector, sizeBytes } = request;
        this.tracer.emit(Event.blockRequest, this.initiator, op, sector, sizeBytes);
      }
      if (status === BlockStatus.ok) {
        this.inFlight++;
        this.needsCommit = true;
      } else {
        this.finish(request, status);
      }
    }
    this.isDispatching = false;
    return handed;
  }

  /** Makes protection information where that is the queue's work, and maps. */
  private prepare(request: Request): number {
    if ((request.integrityFlags & IntegrityFlag.buffer) !== 0) {
      const integrity = this.integrity as Integrity;
      integrity.locate(request);
      const isOurs = request.integrityMaker === IntegrityMaker.queue;
      if (isOurs && request.op !== BioOp.read) {
        const status = integrity.generate(request);
        if (status !== BlockStatus.ok) return status;
      }
    }
    return mapRequest(request, this.initiator, this.limits);
  }

  /** Unmaps, frees the request, ends its bios: in this order, so that an owner may submit again. */
  private finish(request: Request, driverStatus: number): void {
    unmapRequest(request, this.initiator);
    let status = driverStatus;
    if (request.integrityMaker === IntegrityMaker.queue && request.op === BioOp.read) {
      if (status === BlockStatus.ok) status = (this.integrity as Integrity).verify(request);
    }
    if (this.tracer.on) {
      this.tracer.emit(Event.blockDone, this.initiator, request.op, request.sector, status);
    }
    if (status === BlockStatus.ok) this.counters.completed++;
    else this.counters.failed++;
    if (status === BlockStatus.wrongInitiator) this.counters.wrongInitiator++;
    let bio = request.head;
    request.head = null;
    request.tail = null;
    request.isBusy = false;
    this.freeRequests[this.freeCount++] = request;
    while (bio !== null) {
      const next: Bio | null = bio.next;
      bio.next = null;
      bio.end(status);
      bio = next;
    }
  }

  private reject(bio: Bio, status: number): void {
    this.counters.rejected++;
    bio.end(status);
  }

  inspect(): Tree {
    return {
      name: this.name,
      initiator: this.initiator,
      capacityBytes: this.capacityBytes,
      depth: this.depth,
      inFlight: this.inFlight,
      plugged: this.plugCount,
      limits: this.limits.inspect(),
      integrity: this.integrity === null ? null : this.integrity.inspect(),
      counters: this.counters.inspect(),
    };
  }
}

/** A bio owner that remembers the last status: for tests and one-off I/O. */
export class BioResult implements BioOwner {
  done = 0;
  status: number = BlockStatus.ok;
  bioDone(bio: Bio): void {
    this.done++;
    this.status = bio.status;
  }
}
