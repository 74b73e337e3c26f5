/**
 * A block device made of an array, for tests of the block room and of what stands on it: memory
 * with addresses that differ per initiator, and a driver that moves bytes by those addresses,
 * checks every request against the limits, and can be made slow, full or failing.
 */

import {
  BioOp,
  BLOCK_BUSY,
  type BlockDriver,
  BlockStatus,
  directionOf,
  hasGap,
  IntegrityFlag,
  maxSegmentBytesAt,
  type QueueLimits,
  type Request,
} from "../src/block/index.ts";
import { assert, Copier, type Span, type Tree } from "../src/core/index.ts";
import {
  Direction,
  type InitiatorId,
  type IoMemory,
  MapStatus,
  MemoryKind,
} from "../src/memory/index.ts";

export interface ArenaOptions {
  /** Address that limit arithmetic sees for offset 0. Default 0x1_0000_0000_0000 / 16. */
  readonly limitBase?: number;
  /** DMA address of offset 0 by initiator id. Default: initiator 1 at `limitBase`. */
  readonly bases?: ReadonlyMap<InitiatorId, number>;
  readonly cpuAccessible?: boolean;
  readonly needsUnmap?: boolean;
}

/** Bytes with one DMA base per initiator; counts live mappings. */
export class ArenaMemory implements IoMemory {
  readonly kind = MemoryKind.host;
  readonly cpuAccessible: boolean;
  readonly needsUnmap: boolean;
  readonly data: Uint8Array;
  maps = 0;
  liveMaps = 0;
  /** What the next `map` answers, negated; 0: it works. */
  failNext = 0;
  private readonly limitBase: number;
  private readonly bases: ReadonlyMap<InitiatorId, number>;

  constructor(sizeBytes: number, options: ArenaOptions = {}) {
    this.data = new Uint8Array(sizeBytes);
    this.limitBase = options.limitBase ?? 0x1000_0000_0000;
    this.bases = options.bases ?? new Map([[1, this.limitBase]]);
    this.cpuAccessible = options.cpuAccessible ?? true;
    this.needsUnmap = options.needsUnmap ?? false;
  }

  map(initiator: InitiatorId, offset: number, length: number, direction: Direction): number {
    assert(direction >= Direction.fromMemory, "a mapping has a direction");
    this.maps++;
    if (this.failNext !== 0) {
      const status = this.failNext;
      this.failNext = 0;
      return -status;
    }
    const base = this.bases.get(initiator);
    if (base === undefined) return -MapStatus.wrongInitiator;
    if (offset < 0 || offset + length > this.data.length) return -MapStatus.outOfRange;
    if (this.needsUnmap) this.liveMaps++;
    return base + offset;
  }

  unmap(): void {
    assert(this.liveMaps > 0, "an unmap follows a map");
    this.liveMaps--;
  }

  limitAddress(offset: number): number {
    return this.limitBase + offset;
  }

  bytes(offset: number, length: number, span: Span): boolean {
    if (!this.cpuAccessible) return false;
    span.set(this.data, offset, length);
    return true;
  }

  /** Offset of a DMA address of `initiator`, or -1. */
  resolve(initiator: InitiatorId, dma: number, length: number): number {
    const base = this.bases.get(initiator);
    if (base === undefined) return -1;
    const offset = dma - base;
    return offset >= 0 && offset + length <= this.data.length ? offset : -1;
  }

  inspect(): Tree {
    return { kind: "arena", sizeBytes: this.data.length };
  }
}

export interface RamDiskOptions {
  readonly sizeBytes: number;
  readonly initiator?: InitiatorId;
  readonly memories: readonly ArenaMemory[];
  /** Requests that it holds at most. Default 64. */
  readonly slots?: number;
  /** Bytes of protection information per block that it stores; 0: none. */
  readonly metadataBytes?: number;
  readonly blockBytes?: number;
}

/** What a request looked like when the driver got it. */
export interface SeenRequest {
  readonly op: number;
  readonly sector: number;
  readonly sizeBytes: number;
  readonly addresses: readonly number[];
  readonly lengths: readonly number[];
  readonly integrityFlags: number;
  readonly refTag: number;
}

export class RamDisk implements BlockDriver {
  readonly data: Uint8Array;
  readonly metadata: Uint8Array;
  readonly seen: SeenRequest[] = [];
  /** Keep {@link seen}; off for runs that must not allocate. */
  records = true;
  commits = 0;
  /** Status of the next requests, first in first out; then `ok`. */
  readonly verdicts: number[] = [];
  /** What `queueRequest` answers next; then 0. */
  readonly refusals: number[] = [];
  /** Completions are held back while this is set. */
  isStalled = false;
  limits: QueueLimits | null = null;
  private readonly options: RamDiskOptions;
  private readonly initiator: InitiatorId;
  /** One per source, so that views of one do not push out those of the other. */
  private readonly fromDisk = new Copier();
  private readonly fromMemory = new Copier();
  private found: ArenaMemory;
  /** A ring, so that nothing is allocated. */
  private readonly ring: (Request | null)[];
  private head = 0;
  private queued = 0;
  private visible = 0;

  constructor(options: RamDiskOptions) {
    this.options = options;
    this.initiator = options.initiator ?? 1;
    this.found = options.memories[0];
    this.ring = new Array(options.slots ?? 64).fill(null);
    this.data = new Uint8Array(options.sizeBytes);
    const blocks = options.sizeBytes / (options.blockBytes ?? 512);
    this.metadata = new Uint8Array(blocks * (options.metadataBytes ?? 0));
  }

  queueRequest(request: Request): number {
    const refusal = this.refusals.shift() ?? 0;
    if (refusal !== 0) return refusal;
    if (this.queued === this.ring.length) return BLOCK_BUSY;
    if (this.limits !== null) checkRequest(request, this.limits);
    if (this.records) this.remember(request);
    this.ring[(this.head + this.queued++) % this.ring.length] = request;
    return 0;
  }

  private remember(request: Request): void {
    const { count } = request.segments;
    this.seen.push({
      op: request.op,
      sector: request.sector,
      sizeBytes: request.sizeBytes,
      addresses: Array.from(request.segments.addr.subarray(0, count)),
      lengths: Array.from(request.segments.len.subarray(0, count)),
      integrityFlags: request.integrityFlags,
      refTag: request.refTag,
    });
  }

  commit(): void {
    this.commits++;
    this.visible = this.queued;
  }

  poll(): number {
    if (this.isStalled) return 0;
    let done = 0;
    while (this.visible > 0) {
      const request = this.ring[this.head] as Request;
      this.head = (this.head + 1) % this.ring.length;
      this.queued--;
      this.visible--;
      done++;
      const verdict = this.verdicts.shift() ?? BlockStatus.ok;
      request.complete(verdict === BlockStatus.ok ? this.execute(request) : verdict);
    }
    return done;
  }

  private execute(request: Request): number {
    const at = request.sector * 512;
    switch (request.op) {
      case BioOp.writeZeroes:
      case BioOp.discard:
        this.data.fill(0, at, at + request.sizeBytes);
        return BlockStatus.ok;
      case BioOp.flush:
      case BioOp.verify:
        return BlockStatus.ok;
      default:
        return this.transfer(request, at);
    }
  }

  private transfer(request: Request, start: number): number {
    let at = start;
    const { segments } = request;
    for (let i = 0; i < segments.count; i++) {
      const length = segments.len[i];
      const offset = this.find(segments.addr[i], length);
      if (offset < 0) return BlockStatus.transport;
      const memory = this.found.data;
      if (request.op === BioOp.read) this.fromDisk.copy(memory, offset, this.data, at, length);
      else if (request.op === BioOp.write)
        this.fromMemory.copy(this.data, at, memory, offset, length);
      else if (!isSame(memory, offset, this.data, at, length)) return BlockStatus.compareFailed;
      at += length;
    }
    if ((request.integrityFlags & IntegrityFlag.buffer) !== 0) this.moveMetadata(request);
    return BlockStatus.ok;
  }

  private moveMetadata(request: Request): void {
    const perBlock = this.options.metadataBytes ?? 0;
    const blockBytes = this.options.blockBytes ?? 512;
    const length = (request.sizeBytes / blockBytes) * perBlock;
    const at = ((request.sector * 512) / blockBytes) * perBlock;
    const offset = this.find(request.metadataAddress, length);
    assert(offset >= 0, "metadata lies in known memory");
    const memory = this.found.data;
    if (request.op === BioOp.read) this.fromDisk.copy(memory, offset, this.metadata, at, length);
    else this.fromMemory.copy(this.metadata, at, memory, offset, length);
  }

  /** Offset in {@link found}, or -1. */
  private find(dma: number, length: number): number {
    const { memories } = this.options;
    for (let i = 0; i < memories.length; i++) {
      const offset = memories[i].resolve(this.initiator, dma, length);
      if (offset < 0) continue;
      this.found = memories[i];
      return offset;
    }
    return -1;
  }
}

function isSame(a: Uint8Array, aAt: number, b: Uint8Array, bAt: number, length: number): boolean {
  for (let i = 0; i < length; i++) if (a[aAt + i] !== b[bAt + i]) return false;
  return true;
}

/** Asserts what every driver may rely on: a request obeys the queue's limits. */
export function checkRequest(request: Request, limits: QueueLimits): void {
  const { segments } = request;
  assert(request.sizeBytes % limits.logicalBlockBytes === 0, "a request is whole blocks");
  if (directionOf(request.op) === 0) return;
  assert(request.sizeBytes <= limits.maxBytes, "a request has at most maxBytes");
  assert(segments.count <= limits.maxSegments, "a request has at most maxSegments");
  assert(segments.totalBytes === request.sizeBytes, "segments cover the request");
  for (let i = 0; i < segments.count; i++) {
    const address = segments.addr[i];
    const length = segments.len[i];
    assert(length <= maxSegmentBytesAt(limits, address), "a segment stays inside its boundary");
    assert(((address | length) & (limits.dmaAlignment - 1)) === 0, "a segment is aligned");
    const isGap = i > 0 && hasGap(limits.virtBoundary, end(request, i - 1), address);
    assert(!isGap, "there is no gap where none is allowed");
  }
  if (limits.chunkBytes > 0) {
    const inChunk = (request.sector * 512) % limits.chunkBytes;
    assert(inChunk + request.sizeBytes <= limits.chunkBytes, "a request stays inside its chunk");
  }
}

function end(request: Request, i: number): number {
  return request.segments.addr[i] + request.segments.len[i];
}
