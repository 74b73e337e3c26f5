/**
 * A block queue over a store (memory, a file) without a disk between: the CPU moves the data, as
 * Linux' nvmet does for files (io-cmd-file.c). Nothing is mapped, split or sent to a device, so a
 * read is one copy. What it takes must be in the CPU's reach: no peer memory.
 *
 * Most bios are over when `submit` returns; those wait for `poll` that another bio's end submitted
 * (so that the stack stays flat), what is left of a range longer than one step, and what waits for
 * the store to sync. Nothing is ordered: like a disk's, a flush covers what ended before it came.
 *
 * Invariants: every bio ends once; one step moves no more than `STEP_BYTES` of a range without
 * data, so that a long one holds nobody up.
 *
 * Leaves out: protection information (a bio that brings some is refused).
 */

import {
  type Bio,
  BioFlag,
  BioOp,
  type BlockQueue,
  BlockStatus,
  checkBio,
  QueueFeature,
  QueueLimits,
  SECTOR_BYTES,
  VecWalker,
  WaitList,
} from "../block/index.ts";
import {
  type Copier,
  type NamespaceStore,
  Span,
  STORE_PENDING,
  type StoreClient,
  type Tree,
} from "../core/index.ts";
import { blockStatusOfNvme } from "../nvme/index.ts";
import { NvmeStatus } from "../spec/nvme/index.ts";

export interface StoreQueueOptions {
  readonly name: string;
  readonly store: NamespaceStore;
  readonly blockBytes: number;
  /** What was written is lost with the power until a flush: true for files. */
  readonly isCached: boolean;
  readonly copier: Copier;
}

/** Bytes of a range without data that one step handles. */
const STEP_BYTES = 2 ** 20;
/** Bios that one `poll` takes up. */
const ROUND_BIOS = 64;
/** Internal verdict: the bio has not ended. */
const GOES_ON = -1;

export class StoreQueue implements BlockQueue, StoreClient {
  readonly name: string;
  readonly limits: QueueLimits;
  readonly features: number;
  /** No device issues DMA. */
  readonly initiator = 0;
  readonly capacityBytes: number;
  private readonly store: NamespaceStore;
  private readonly isCached: boolean;
  private readonly copier: Copier;
  private readonly waiting = new WaitList();
  private isRunning = false;
  private inFlight = 0;
  /** By token: who waits for the store, and its answer once that is here. */
  private readonly pending: (Bio | null)[] = [];
  private readonly freeTokens: number[] = [];
  private readonly answered: number[] = [];
  private readonly answers: number[] = [];
  private readonly walker = new VecWalker();
  private readonly piece = new Span();
  private readonly lent = new Span();
  private bios = 0;
  private rejected = 0;
  private failed = 0;
  private readBytes = 0;
  private writtenBytes = 0;

  constructor({ name, store, blockBytes, isCached, copier }: StoreQueueOptions) {
    this.name = name;
    this.store = store;
    this.isCached = isCached;
    this.copier = copier;
    this.capacityBytes = store.capacityBytes;
    const { compare, discard, fua, unmapZeroes, verify, writeCache, writeZeroes } = QueueFeature;
    const cache = isCached ? writeCache | fua : 0;
    const holes = store.deallocates ? discard | unmapZeroes : 0;
    this.features = writeZeroes | compare | verify | cache | holes;
    this.limits = new QueueLimits({
      logicalBlockBytes: blockBytes,
      dmaAlignment: 1,
      maxBytes: store.capacityBytes,
      maxDiscardBytes: store.capacityBytes,
      maxWriteZeroesBytes: store.capacityBytes,
      maxVerifyBytes: store.capacityBytes,
      features: this.features,
    });
  }

  /** Nothing was submitted that has not ended. */
  get isIdle(): boolean {
    return this.inFlight === 0;
  }

  submit(bio: Bio): void {
    this.bios++;
    bio.begin();
    let status = checkBio(bio, this.limits, this.capacityBytes);
    if (status === BlockStatus.ok && bio.integrity !== null) status = BlockStatus.protection;
    if (status !== BlockStatus.ok) {
      this.rejected++;
      bio.end(status);
      return;
    }
    this.inFlight++;
    bio.next = null;
    if (this.isRunning || !this.waiting.isEmpty) this.waiting.push(bio);
    else this.run(bio);
  }

  /**
   * Lends where up to `length` bytes at `offset` are, for who sends them at once: the data of a
   * read, without a bio. Answers an NVMe status.
   */
  lend(offset: number, length: number, span: Span): number {
    const status = this.store.lend(offset, length, span);
    if (status === NvmeStatus.success) this.readBytes += span.length;
    return status;
  }

  /** There is nothing to send. */
  kick(): void {}

  poll(): number {
    let done = this.takeAnswers();
    for (let i = 0; i < ROUND_BIOS && !this.waiting.isEmpty; i++) {
      this.run(this.waiting.shift());
      done++;
    }
    return done;
  }

  private run(bio: Bio): void {
    this.isRunning = true;
    const status = this.execute(bio);
    if (status !== GOES_ON) this.end(bio, status);
    this.isRunning = false;
  }

  private end(bio: Bio, status: number): void {
    this.inFlight--;
    if (status !== BlockStatus.ok) this.failed++;
    bio.end(status);
  }

  /** A {@link BlockStatus}, or `GOES_ON`. */
  private execute(bio: Bio): number {
    switch (bio.op) {
      case BioOp.read:
      case BioOp.compare:
        return this.transfer(bio);
      case BioOp.write: {
        const status = this.transfer(bio);
        return status === BlockStatus.ok ? this.harden(bio) : status;
      }
      case BioOp.flush:
        return this.flush(bio);
      default:
        return this.stepRange(bio);
    }
  }

  /** Reads, writes or compares, wherever the bio's memory and the store's are in pieces. */
  private transfer(bio: Bio): number {
    const { walker, piece, lent } = this;
    let at = bio.sector * SECTOR_BYTES;
    walker.start(bio);
    while (walker.next(Number.MAX_SAFE_INTEGER)) {
      const { length } = walker;
      if (!walker.memory.bytes(walker.offset, length, piece)) return BlockStatus.outOfRange;
      for (let done = 0; done < length; done += lent.length, at += lent.length) {
        const status = this.transferPiece(bio.op, at, done, length - done);
        if (status !== NvmeStatus.success) return blockStatusOfNvme(status);
      }
    }
    if (bio.op === BioOp.read) this.readBytes += bio.sizeBytes;
    if (bio.op === BioOp.write) this.writtenBytes += bio.sizeBytes;
    return BlockStatus.ok;
  }

  /** Up to `length` bytes at `at`, and from `done` in the memory's piece. `lent` says how many. */
  private transferPiece(op: number, at: number, done: number, length: number): number {
    const { piece, lent, store, copier } = this;
    const isWrite = op === BioOp.write;
    const status = isWrite ? store.lendForWrite(at, length, lent) : store.lend(at, length, lent);
    if (status !== NvmeStatus.success) return status;
    const from = piece.offset + done;
    if (isWrite) {
      copier.copy(lent.bytes, lent.offset, piece.bytes, from, lent.length);
      return store.commit(at, lent.length, lent);
    }
    if (op === BioOp.read) {
      copier.copy(piece.bytes, from, lent.bytes, lent.offset, lent.length);
      return status;
    }
    for (let i = 0; i < lent.length; i++) {
      if (piece.bytes[from + i] !== lent.bytes[lent.offset + i]) return NvmeStatus.compareFailure;
    }
    return status;
  }

  /** One step of a range; the bio's iterator remembers how far it is. */
  private stepRange(bio: Bio): number {
    const length = Math.min(bio.sizeBytes, STEP_BYTES);
    const at = bio.sector * SECTOR_BYTES;
    const isLast = length === bio.sizeBytes;
    const isForced = (bio.flags & BioFlag.fua) !== 0;
    let status: number = NvmeStatus.success;
    if (bio.op === BioOp.verify) status = this.verify(at, length);
    else if (bio.op === BioOp.writeZeroes && (bio.flags & BioFlag.unmap) === 0) {
      status = this.store.zero(at, length);
    } else {
      // The last step's sync covers those before it.
      const token = this.tokenOf(bio);
      status = this.store.deallocate(at, length, isForced && isLast, this, token);
      if (status === STORE_PENDING) return GOES_ON;
      this.dropToken(token);
      if (status !== NvmeStatus.success || isLast) return blockStatusOfNvme(status);
    }
    if (status !== NvmeStatus.success) return blockStatusOfNvme(status);
    return isLast ? this.harden(bio) : this.goOn(bio, length);
  }

  private goOn(bio: Bio, done: number): number {
    bio.advance(done);
    this.waiting.push(bio);
    return GOES_ON;
  }

  private verify(at: number, length: number): number {
    const { lent, store } = this;
    for (let done = 0; done < length; done += lent.length) {
      const status = store.lend(at + done, length - done, lent);
      if (status !== NvmeStatus.success) return status;
    }
    return NvmeStatus.success;
  }

  /** After a write: on the medium, where it was asked for. */
  private harden(bio: Bio): number {
    return (bio.flags & BioFlag.fua) !== 0 ? this.flush(bio) : BlockStatus.ok;
  }

  private flush(bio: Bio): number {
    if (!this.isCached) return BlockStatus.ok;
    const token = this.tokenOf(bio);
    const status = this.store.flush(this, token);
    if (status === STORE_PENDING) return GOES_ON;
    this.dropToken(token);
    return blockStatusOfNvme(status);
  }

  private tokenOf(bio: Bio): number {
    const token = this.freeTokens.pop() ?? this.pending.length;
    this.pending[token] = bio;
    return token;
  }

  private dropToken(token: number): void {
    this.pending[token] = null;
    this.freeTokens.push(token);
  }

  /** The store has answered; the bio ends, or goes on, in `poll`. */
  storeDone(token: number, status: number): void {
    this.answered.push(token);
    this.answers.push(status);
  }

  private takeAnswers(): number {
    let done = 0;
    while (this.answered.length > 0) {
      const token = this.answered.pop() as number;
      const status = this.answers.pop() as number;
      const bio = this.pending[token] as Bio;
      this.dropToken(token);
      done++;
      const isRange = bio.op === BioOp.discard || bio.op === BioOp.writeZeroes;
      const step = Math.min(bio.sizeBytes, STEP_BYTES);
      const isMore = isRange && step < bio.sizeBytes;
      if (status === NvmeStatus.success && isMore) this.goOn(bio, step);
      else this.end(bio, blockStatusOfNvme(status));
    }
    return done;
  }

  inspect(): Tree {
    return {
      name: this.name,
      capacityBytes: this.capacityBytes,
      inFlight: this.inFlight,
      bios: this.bios,
      rejected: this.rejected,
      failed: this.failed,
      readBytes: this.readBytes,
      writtenBytes: this.writtenBytes,
      store: this.store.inspect(),
      limits: this.limits.inspect(),
    };
  }
}
