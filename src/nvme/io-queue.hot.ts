/**
 * An I/O queue pair: block requests in, NVM commands out, statuses back (NVM Command Set 1.0,
 * section 3.2). Data pointers are PRPs, or SGLs where segments are long or have gaps.
 *
 * Invariants: a request is in `requests` exactly while its command is in flight; a command that
 * times out is aborted once, then the controller is reset. Time is coarse (`nowNs` of the owner),
 * since timeouts are in seconds.
 */

import type { DriverClock } from "../backing/interface.ts";
import {
  BioFlag,
  BioOp,
  BLOCK_BUSY,
  BlockStatus,
  IntegrityFlag,
  type Request,
} from "../block/index.ts";
import { assert, type Tree } from "../core/index.ts";
import {
  DSM_AD,
  IO_DEAC,
  IO_FUA,
  IO_PRINFO,
  NvmOpcode,
  Psdt,
  packCdw0,
  SqeDword,
} from "../spec/nvme/index.ts";
import { Event, type Tracer } from "../trace/index.ts";
import type { ListPages } from "./list-pages.ts";
import { buildPrps } from "./prp.hot.ts";
import { type CommandSink, NO_CID, QueuePair, type QueueRings } from "./queue-pair.hot.ts";
import { buildSgl } from "./sgl.hot.ts";
import { blockStatusOfNvme, isRetryable } from "./status.ts";

const TWO_32 = 2 ** 32;
const SECTOR_SHIFT = 9;
const FUA_BIT = IO_FUA.bits;
const DEAC_BIT = IO_DEAC.bits;
const DSM_DEALLOCATE = DSM_AD.bits;

/** What commands to one namespace need to know. */
export class NamespaceFormat {
  readonly nsid: number;
  /** log2 of the logical block in bytes. */
  readonly lbaShift: number;
  /** Blocks per sector of 512 bytes and per byte: powers of two, so products are exact. */
  readonly blocksPerSector: number;
  readonly blocksPerByte: number;

  constructor(nsid: number, lbaShift: number) {
    assert(lbaShift >= SECTOR_SHIFT && lbaShift <= 30, "a logical block has 512 bytes to 1 GiB");
    this.nsid = nsid;
    this.lbaShift = lbaShift;
    this.blocksPerSector = 2 ** (SECTOR_SHIFT - lbaShift);
    this.blocksPerByte = 2 ** -lbaShift;
  }
}

/** What the queue asks of its controller. */
export interface IoQueueOwner {
  /** A command is past its deadline: abort it, and reset if that does not help. */
  commandTimedOut(queue: IoQueue, cid: number, isSecondTime: boolean): void;
}

export interface IoQueueOptions {
  readonly pageBytes: number;
  /** Largest average segment that still goes as PRPs; Infinity: never SGLs. */
  readonly sglThreshold: number;
  readonly sglSupported: boolean;
  readonly timeoutNs: number;
  /** Times that a command is sent at most. */
  readonly attemptsMax: number;
  readonly clock: DriverClock;
  readonly tracer: Tracer;
}

const OPCODES = new Uint8Array(7);
OPCODES[BioOp.read] = NvmOpcode.read;
OPCODES[BioOp.write] = NvmOpcode.write;
OPCODES[BioOp.flush] = NvmOpcode.flush;
OPCODES[BioOp.writeZeroes] = NvmOpcode.writeZeroes;
OPCODES[BioOp.discard] = NvmOpcode.datasetManagement;
OPCODES[BioOp.compare] = NvmOpcode.compare;
OPCODES[BioOp.verify] = NvmOpcode.verify;

export class IoQueue implements CommandSink {
  readonly pair: QueuePair;
  readonly counters = { prp: 0, sgl: 0, lists: 0, retries: 0, timeouts: 0, failed: 0 };
  /** Status field of the last command that failed. */
  lastFailure = 0;
  private readonly owner: IoQueueOwner;
  private readonly options: IoQueueOptions;
  private readonly tracer: Tracer;
  private readonly lists: ListPages;
  private readonly requests: (Request | null)[];
  private readonly formats: (NamespaceFormat | null)[];
  private readonly deadlines: Float64Array;
  private readonly abortSent: Uint8Array;
  /** Requests that wait to be sent again, with their formats. */
  private readonly retryRequests: Request[] = [];
  private readonly retryFormats: NamespaceFormat[] = [];
  private nowNs = 0;
  private nextScanNs = 0;

  constructor(rings: QueueRings, lists: ListPages, options: IoQueueOptions, owner: IoQueueOwner) {
    this.pair = new QueuePair(rings, this);
    this.lists = lists;
    this.options = options;
    this.tracer = options.tracer;
    this.owner = owner;
    const { cidCount } = this.pair;
    this.requests = new Array(cidCount).fill(null);
    this.formats = new Array(cidCount).fill(null);
    this.deadlines = new Float64Array(cidCount);
    this.abortSent = new Uint8Array(cidCount);
  }

  /** Writes the command for `request`. Returns a `BlockStatus` or `BLOCK_BUSY`. */
  submit(request: Request, format: NamespaceFormat): number {
    const { pair } = this;
    const cid = pair.takeCid();
    if (cid === NO_CID) return BLOCK_BUSY;
    const status = this.encode(request, format, cid, pair.sq, pair.entryAt());
    if (status !== BlockStatus.ok) {
      pair.giveBack(cid);
      return status;
    }
    // Polls keep the time while commands are in flight; the first one after a pause must ask.
    if (pair.inFlightCount === 1) this.nowNs = this.options.clock.nowNs();
    this.requests[cid] = request;
    this.formats[cid] = format;
    this.deadlines[cid] = this.nowNs + this.options.timeoutNs;
    this.abortSent[cid] = 0;
    request.attempts++;
    pair.push(cid);
    if (this.tracer.on) {
      this.tracer.emit(Event.nvmeSubmit, format.nsid, pair.qid, cid, OPCODES[request.op]);
    }
    return BlockStatus.ok;
  }

  private encode(
    request: Request,
    format: NamespaceFormat,
    cid: number,
    sq: Uint32Array,
    at: number,
  ): number {
    const { op } = request;
    let psdt: number = Psdt.prp;
    clearEntry(sq, at);
    sq[at + SqeDword.nsid] = format.nsid;
    if (op !== BioOp.flush) {
      const lba = request.sector * format.blocksPerSector;
      if (op === BioOp.discard) {
        this.encodeDiscard(request, format, cid, lba, sq, at);
      } else {
        sq[at + SqeDword.cdw10] = lba;
        sq[at + SqeDword.cdw11] = lba / TWO_32;
        const blocks = request.sizeBytes * format.blocksPerByte;
        const fua = (request.flags & BioFlag.fua) !== 0 ? FUA_BIT : 0;
        const deac = (request.flags & BioFlag.unmap) !== 0 ? DEAC_BIT : 0;
        sq[at + SqeDword.cdw12] = (blocks - 1) | fua | deac;
        if (request.segments.count > 0) {
          psdt = this.encodeData(request, cid, sq, at);
          if (psdt < 0) return BlockStatus.invalid;
        }
        if (request.integrityFlags !== 0) {
          // With PRPs the metadata pointer is dword aligned (Base 2.0, figure "Common Command
          // Format").
          const isBuffer = (request.integrityFlags & IntegrityFlag.buffer) !== 0;
          if (isBuffer && (request.metadataAddress & 3) !== 0) return BlockStatus.invalid;
          encodeIntegrity(request, sq, at);
        }
      }
    }
    sq[at] = packCdw0(OPCODES[op], cid, psdt);
    return BlockStatus.ok;
  }

  /** Writes DPTR. Returns PSDT, or -1 when the segments can be described neither way. */
  private encodeData(request: Request, cid: number, sq: Uint32Array, at: number): number {
    const { segments } = request;
    const { pageBytes, sglSupported, sglThreshold } = this.options;
    const { lists } = this;
    const words = lists.words[cid];
    const wordsAt = lists.at[cid];
    const dma = lists.dma[cid];
    const pages = lists.pagesPerCid;
    const prefersSgl = sglSupported && request.sizeBytes >= sglThreshold * segments.count;
    if (!prefersSgl) {
      const used = buildPrps(segments, pageBytes, sq, at, words, wordsAt, dma, pages);
      if (used >= 0) {
        this.counters.prp++;
        this.counters.lists += used;
        return Psdt.prp;
      }
      if (!sglSupported) return -1;
    }
    const used = buildSgl(segments, pageBytes, sq, at, words, wordsAt, dma, pages);
    if (used < 0) return -1;
    this.counters.sgl++;
    this.counters.lists += used;
    return Psdt.sglMptrBuffer;
  }

  /** Dataset Management with one range, which travels in the command's list page. */
  private encodeDiscard(
    request: Request,
    format: NamespaceFormat,
    cid: number,
    lba: number,
    sq: Uint32Array,
    at: number,
  ): void {
    const words = this.lists.words[cid];
    const wordsAt = this.lists.at[cid];
    const dma = this.lists.dma[cid];
    words[wordsAt] = 0;
    words[wordsAt + 1] = request.sizeBytes * format.blocksPerByte;
    words[wordsAt + 2] = lba;
    words[wordsAt + 3] = lba / TWO_32;
    sq[at + SqeDword.prp1Lo] = dma;
    sq[at + SqeDword.prp1Hi] = dma / TWO_32;
    sq[at + SqeDword.cdw11] = DSM_DEALLOCATE;
  }

  commandDone(cid: number, status: number, _dw0: number): void {
    const request = this.requests[cid];
    assert(request !== null, "a command in flight has a request");
    this.requests[cid] = null;
    if (this.tracer.on) {
      const nsid = this.formats[cid]?.nsid ?? 0;
      this.tracer.emit(Event.nvmeComplete, nsid, this.pair.qid, cid, status);
    }
    if (status === 0) {
      request.complete(BlockStatus.ok);
      return;
    }
    this.commandFailed(request, cid, status);
  }

  private commandFailed(request: Request, cid: number, status: number): void {
    const format = this.formats[cid] as NamespaceFormat;
    if (this.abortSent[cid] === 0 && isRetryable(status)) {
      if (request.attempts < this.options.attemptsMax) {
        this.requeue(request, format);
        return;
      }
    }
    this.counters.failed++;
    this.lastFailure = status;
    request.complete(this.abortSent[cid] !== 0 ? BlockStatus.timeout : blockStatusOfNvme(status));
  }

  /** Sends the request again at the next poll. */
  requeue(request: Request, format: NamespaceFormat): void {
    this.counters.retries++;
    this.retryRequests.push(request);
    this.retryFormats.push(format);
  }

  /** Reaps completions and sends what waits for another try. `nowNs` may be coarse. */
  poll(nowNs: number): number {
    this.nowNs = nowNs;
    const done = this.pair.poll();
    if (this.retryRequests.length > 0) this.sendRetries();
    if (done === 0 && nowNs >= this.nextScanNs) this.scanDeadlines(nowNs);
    return done;
  }

  private sendRetries(): void {
    while (this.retryRequests.length > 0) {
      const last = this.retryRequests.length - 1;
      const request = this.retryRequests[last];
      const status = this.submit(request, this.retryFormats[last]);
      if (status === BLOCK_BUSY) return;
      this.retryRequests.pop();
      this.retryFormats.pop();
      if (status !== BlockStatus.ok) request.complete(status);
    }
    this.pair.commit();
  }

  private scanDeadlines(nowNs: number): void {
    this.nextScanNs = nowNs + this.options.timeoutNs / 8;
    if (this.pair.inFlightCount === 0) return;
    for (let cid = 0; cid < this.pair.cidCount; cid++) {
      if (!this.pair.isInFlight(cid) || this.deadlines[cid] > nowNs) continue;
      const isSecondTime = this.abortSent[cid] !== 0;
      this.counters.timeouts++;
      this.abortSent[cid] = 1;
      this.deadlines[cid] = nowNs + this.options.timeoutNs;
      this.owner.commandTimedOut(this, cid, isSecondTime);
    }
  }

  /** Requests whose commands are in flight or wait for another try. */
  get pendingCount(): number {
    return this.pair.inFlightCount + this.retryRequests.length;
  }

  /**
   * After the controller is disabled: every command in flight is gone. Those that may be tried
   * again wait for the next poll, the others fail. The rings are empty afterwards.
   */
  restart(): void {
    for (let cid = 0; cid < this.pair.cidCount; cid++) {
      const request = this.requests[cid];
      if (request === null) continue;
      this.requests[cid] = null;
      const hasTimedOut = this.abortSent[cid] !== 0;
      if (request.attempts < this.options.attemptsMax) {
        this.requeue(request, this.formats[cid] as NamespaceFormat);
      } else {
        this.counters.failed++;
        request.complete(hasTimedOut ? BlockStatus.timeout : BlockStatus.aborted);
      }
    }
    this.pair.restart();
  }

  /** The controller is gone: everything fails with `status`. */
  failAll(status: number): void {
    for (let cid = 0; cid < this.pair.cidCount; cid++) {
      const request = this.requests[cid];
      if (request === null) continue;
      this.requests[cid] = null;
      request.complete(status);
    }
    this.pair.restart();
    while (this.retryRequests.length > 0) {
      this.retryFormats.pop();
      (this.retryRequests.pop() as Request).complete(status);
    }
  }

  inspect(): Tree {
    return {
      queue: this.pair.inspect(),
      counters: Object.fromEntries(Object.entries(this.counters)),
    };
  }
}

function clearEntry(sq: Uint32Array, at: number): void {
  for (let i = 0; i < 16; i++) sq[at + i] = 0;
}

/** PRINFO, tags, and the metadata pointer. */
function encodeIntegrity(request: Request, sq: Uint32Array, at: number): void {
  const { integrityFlags, metadataAddress } = request;
  sq[at + SqeDword.cdw12] |= (integrityFlags & IO_PRINFO.mask) << IO_PRINFO.low;
  sq[at + SqeDword.cdw14] = request.refTag;
  sq[at + SqeDword.cdw15] = request.appTag | (request.appTagMask << 16);
  if ((integrityFlags & IntegrityFlag.buffer) !== 0) {
    sq[at + SqeDword.mptrLo] = metadataAddress;
    sq[at + SqeDword.mptrHi] = metadataAddress / TWO_32;
  }
}
