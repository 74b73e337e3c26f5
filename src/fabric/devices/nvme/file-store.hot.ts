/**
 * A namespace in a file. Its data is the first `capacityBytes` of the file, so an image of a disk
 * is a namespace; metadata follows.
 *
 * Durability: what was committed before a flush is on the medium when the flush is answered. One
 * sync of the file runs at a time and stands for all flushes that came before it started; what
 * comes meanwhile waits for the next. A sync that fails is final: the host's system forgets which
 * of its pages were lost and would call the next sync a success, so from then on the store takes no
 * write and no flush, whatever the file says (Linux: "fsyncgate", LWN 752063). The same when the
 * file has become shorter: somebody else cut it. Opening it anew is the only way back.
 *
 * A write is one call per 256 KiB. It is torn by a power cut where the medium tears it; a block is
 * whole when the medium writes its sectors (512 or 4096 bytes) whole, which is what AWUPF 0 says.
 *
 * Leaves out: atomicity of data with its metadata, which lie apart; reads in the background.
 */

import {
  assert,
  type NamespaceStore,
  type Span,
  STORE_PENDING,
  type StoreClient,
  type Tree,
} from "../../../core/index.ts";
import { FileStatus } from "../../../platform/index.ts";
import { NvmeStatus } from "../../../spec/nvme/index.ts";

/** A file as src/platform opens it. Calls do not throw: they return counts, or a FileStatus. */
export interface StoreFile {
  readonly path: string;
  readonly readOnly: boolean;
  readonly canPunch: boolean;
  readonly sizeBytes: number;
  /** The host's reason for the last failure. */
  readonly lastError: string | null;
  /** Bytes read; fewer at the end of the file. */
  readAt(position: number, target: Uint8Array, targetOffset: number, length: number): number;
  /** Bytes written. */
  writeAt(position: number, source: Uint8Array, sourceOffset: number, length: number): number;
  /** Everything written before it is on the medium: now, or (pending) when `done` is called. */
  sync(done: (status: number) => void): number;
  /** The range reads as zeros and uses no space: now, or when `done` is called, in order. */
  punch(position: number, length: number, done: (status: number) => void): number;
  /** Cuts or extends with zeros, without using space. */
  truncate(sizeBytes: number): number;
}

/** Bytes moved by one system call. */
const FILE_RUN_BYTES = 256 * 1024;

/** Who waits for a sync or a hole, in order. */
class Waiters {
  count = 0;
  readonly clients: StoreClient[] = [];
  readonly tokens: number[] = [];

  add(client: StoreClient, token: number): void {
    this.clients[this.count] = client;
    this.tokens[this.count] = token;
    this.count++;
  }

  /** Tells all; none is left. They may make new requests, elsewhere than in this list. */
  tell(status: number): void {
    const { count } = this;
    for (let i = 0; i < count; i++) this.clients[i].storeDone(this.tokens[i], status);
    this.count = 0;
  }
}

interface Punch {
  readonly client: StoreClient;
  readonly token: number;
  readonly isDurable: boolean;
}

export class FileStore implements NamespaceStore {
  readonly kind = "file";
  readonly capacityBytes: number;
  readonly file: StoreFile;
  /** Why nothing is written and flushed any more; null: it is. */
  failure: string | null = null;
  /** System calls that failed, and what was moved. */
  errors = 0;
  bytesRead = 0;
  bytesWritten = 0;
  syncs = 0;
  /** Flushes that were answered by a sync that others had asked for as well. */
  sharedSyncs = 0;
  bytesPunched = 0;
  /** Bytes that were to be given back, and stayed: the file cannot. */
  bytesKept = 0;
  private readonly readBuffer = new Uint8Array(FILE_RUN_BYTES);
  private readonly writeBuffer = new Uint8Array(FILE_RUN_BYTES);
  private readonly zeros = new Uint8Array(FILE_RUN_BYTES);
  /** Written since the last sync began. True at first: the file's last user may have left some. */
  private isDirty = true;
  private isSyncing = false;
  private riding = new Waiters();
  private waiting = new Waiters();
  private told = new Waiters();
  private readonly punches: Punch[] = [];
  private readonly onSynced = (status: number): void => this.synced(status);
  private readonly onPunched = (status: number): void => this.punched(status);

  constructor(file: StoreFile, capacityBytes: number) {
    assert(capacityBytes > 0, "a store has a capacity");
    this.file = file;
    this.capacityBytes = capacityBytes;
  }

  get readOnly(): boolean {
    return this.file.readOnly;
  }

  get deallocates(): boolean {
    return this.file.canPunch;
  }

  lend(offset: number, length: number, span: Span): number {
    const run = Math.min(length, FILE_RUN_BYTES);
    const got = this.file.readAt(offset, this.readBuffer, 0, run);
    if (got < 0) {
      this.errors++;
      return NvmeStatus.unrecoveredReadError;
    }
    if (got < run) {
      // The file holds all data since it was opened; metadata behind it may end anywhere.
      if (offset + got < this.capacityBytes) {
        this.errors++;
        this.fail("the file has become shorter");
        return NvmeStatus.unrecoveredReadError;
      }
      this.readBuffer.fill(0, got, run);
    }
    this.bytesRead += run;
    span.set(this.readBuffer, 0, run);
    return NvmeStatus.success;
  }

  lendForWrite(_offset: number, length: number, span: Span): number {
    if (this.failure !== null) return NvmeStatus.writeFault;
    span.set(this.writeBuffer, 0, Math.min(length, FILE_RUN_BYTES));
    return NvmeStatus.success;
  }

  commit(offset: number, length: number, span: Span): number {
    return this.put(offset, span.bytes, span.offset, length);
  }

  zero(offset: number, length: number): number {
    if (this.failure !== null) return NvmeStatus.writeFault;
    if (offset === 0 && length >= this.capacityBytes) return this.zeroAll();
    let done = 0;
    while (done < length) {
      const left = length - done;
      const run = Math.min(left, FILE_RUN_BYTES);
      const status = this.put(offset + done, this.zeros, 0, run);
      if (status !== NvmeStatus.success) return status;
      done += run;
    }
    return NvmeStatus.success;
  }

  deallocate(
    offset: number,
    length: number,
    isDurable: boolean,
    client: StoreClient,
    token: number,
  ): number {
    if (this.failure !== null) return NvmeStatus.writeFault;
    if (!this.file.canPunch) {
      this.bytesKept += length;
      return NvmeStatus.success;
    }
    this.bytesPunched += length;
    const status = this.file.punch(offset, length, this.onPunched);
    if (status === FileStatus.pending) {
      this.punches.push({ client, token, isDurable });
      return STORE_PENDING;
    }
    this.isDirty = true;
    if (status !== FileStatus.ok) return this.refused(status);
    return isDurable ? this.flush(client, token) : NvmeStatus.success;
  }

  private punched(status: number): void {
    const punch = this.punches.shift();
    assert(punch !== undefined, "a hole was asked for");
    const { client, token, isDurable } = punch;
    this.isDirty = true;
    let answer: number = NvmeStatus.success;
    if (status !== FileStatus.ok) answer = this.refused(status);
    else if (isDurable) answer = this.flush(client, token);
    if (answer !== STORE_PENDING) client.storeDone(token, answer);
  }

  flush(client: StoreClient, token: number): number {
    if (this.failure !== null) return NvmeStatus.writeFault;
    if (this.isSyncing) {
      // The sync under way covers what was written before it began, and nothing since.
      const list = this.isDirty ? this.waiting : this.riding;
      if (list.count > 0) this.sharedSyncs++;
      list.add(client, token);
      return STORE_PENDING;
    }
    if (!this.isDirty) return NvmeStatus.success;
    const status = this.beginSync();
    if (status === FileStatus.pending) {
      this.riding.add(client, token);
      return STORE_PENDING;
    }
    return this.endSync(status);
  }

  private beginSync(): number {
    this.isSyncing = true;
    this.isDirty = false;
    this.syncs++;
    return this.file.sync(this.onSynced);
  }

  private endSync(status: number): number {
    this.isSyncing = false;
    if (status === FileStatus.ok && this.file.sizeBytes >= this.capacityBytes) {
      return this.failure === null ? NvmeStatus.success : NvmeStatus.writeFault;
    }
    this.errors++;
    if (status === FileStatus.ok) this.fail("the file has become shorter");
    else this.fail(`a sync of the file failed: ${this.file.lastError ?? "no reason given"}`);
    return status === FileStatus.noSpace ? NvmeStatus.capacityExceeded : NvmeStatus.writeFault;
  }

  private synced(fileStatus: number): void {
    let status: number = fileStatus;
    for (;;) {
      const answer = this.endSync(status);
      const { riding } = this;
      this.riding = this.told;
      this.told = riding;
      // What waited may only start once nobody can mistake its sync for the one that ended.
      const starts = this.waiting.count > 0 && this.failure === null;
      if (starts) {
        const next = this.riding;
        this.riding = this.waiting;
        this.waiting = next;
        status = this.beginSync();
      }
      this.told.tell(answer);
      if (this.failure !== null) this.waiting.tell(NvmeStatus.writeFault);
      if (!starts || status === FileStatus.pending) return;
    }
  }

  private fail(why: string): void {
    this.failure ??= why;
  }

  /** Cutting and extending frees the file's space, and its metadata with it. */
  private zeroAll(): number {
    this.isDirty = true;
    const cut = this.file.truncate(0);
    const status = cut === FileStatus.ok ? this.file.truncate(this.capacityBytes) : cut;
    return status === FileStatus.ok ? NvmeStatus.success : this.refused(status);
  }

  private put(offset: number, source: Uint8Array, sourceOffset: number, length: number): number {
    // Even a write that failed may have changed some of it.
    this.isDirty = true;
    const written = this.file.writeAt(offset, source, sourceOffset, length);
    if (written !== length) return this.refused(written);
    this.bytesWritten += length;
    return NvmeStatus.success;
  }

  /** The NVMe status of a call that changes the file and failed. */
  private refused(status: number): number {
    this.errors++;
    if (status === FileStatus.noSpace) return NvmeStatus.capacityExceeded;
    if (status === FileStatus.readOnly) return NvmeStatus.namespaceWriteProtected;
    return NvmeStatus.writeFault;
  }

  inspect(): Tree {
    return {
      kind: this.kind,
      path: this.file.path,
      readOnly: this.readOnly,
      deallocates: this.deallocates,
      failure: this.failure,
      errors: this.errors,
      lastError: this.file.lastError,
      bytesRead: this.bytesRead,
      bytesWritten: this.bytesWritten,
      syncs: this.syncs,
      sharedSyncs: this.sharedSyncs,
      bytesPunched: this.bytesPunched,
      bytesKept: this.bytesKept,
    };
  }
}
