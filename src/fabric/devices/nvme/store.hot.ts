/**
 * Where a namespace's bytes are: memory, or a file. A store lends the place where bytes are to go
 * or come from, so that a transfer is one copy (memory), or one copy and one positioned read or
 * write (file). Statuses are NVMe statuses: a file that fails becomes a media error.
 *
 * A store holds data from 0 to `capacityBytes` and metadata after it; it knows no blocks. Bytes
 * never written, and bytes zeroed, read as zeros. A file keeps its data in the first
 * `capacityBytes`, so an image of a disk is a namespace.
 */

import { assert, type Copier, type Span, SparseMemory } from "../../../core/index.ts";
import { NvmeStatus } from "../../../spec/nvme/index.ts";

export interface NamespaceStore {
  readonly kind: string;
  /** Bytes of data. Metadata may follow: up to an eighth more, and one page. */
  readonly capacityBytes: number;
  /** Lends where up to `length` bytes at `offset` are. `span.length` says how many. */
  lend(offset: number, length: number, span: Span): number;
  /** Lends where up to `length` bytes at `offset` may be written; `commit` must follow. */
  lendForWrite(offset: number, length: number, span: Span): number;
  /** Ends a loan of `lendForWrite`: the first `length` bytes at `offset` are as in `span`. */
  commit(offset: number, length: number, span: Span): number;
  /** Makes a range read as zeros. */
  zero(offset: number, length: number): number;
  /** Makes everything committed so far durable. */
  flush(): number;
}

/** Bytes that metadata may need: 64 per 512 and rounding to a page. */
export function metadataBytesMax(capacityBytes: number): number {
  return Math.ceil(capacityBytes / 8) + 4096;
}

/** A namespace in memory that costs only what is written. */
export class MemoryStore implements NamespaceStore {
  readonly kind = "memory";
  readonly capacityBytes: number;
  private readonly memory: SparseMemory;

  constructor(capacityBytes: number, copier: Copier) {
    this.capacityBytes = capacityBytes;
    this.memory = new SparseMemory(capacityBytes + metadataBytesMax(capacityBytes), copier);
  }

  lend(offset: number, length: number, span: Span): number {
    this.memory.borrow(offset, length, span);
    return NvmeStatus.success;
  }

  lendForWrite(offset: number, length: number, span: Span): number {
    this.memory.borrowForWrite(offset, length, span);
    return NvmeStatus.success;
  }

  commit(_offset: number, _length: number, _span: Span): number {
    return NvmeStatus.success;
  }

  zero(offset: number, length: number): number {
    this.memory.fill(offset, length, 0);
    return NvmeStatus.success;
  }

  flush(): number {
    return NvmeStatus.success;
  }

  get residentBytes(): number {
    return this.memory.residentBytes;
  }
}

/**
 * A file with positioned, synchronous access, as src/platform opens it. Calls return what they
 * moved or 0, or -1 when the host refused; they do not throw.
 */
export interface StoreFile {
  readonly path: string;
  /** Bytes read; fewer at the end of the file; -1 on an error. */
  readAt(position: number, target: Uint8Array, targetOffset: number, length: number): number;
  /** Bytes written; fewer when the disk is full; -1 on an error. */
  writeAt(position: number, source: Uint8Array, sourceOffset: number, length: number): number;
  /** 0, or -1: everything written is on the medium. */
  sync(): number;
  /** 0, or -1: cuts or extends with zeros, without using space. */
  truncate(sizeBytes: number): number;
}

/** Bytes moved by one system call. */
const FILE_RUN_BYTES = 256 * 1024;

/** A namespace in a file. Ends of file inside the store read as zeros. */
export class FileStore implements NamespaceStore {
  readonly kind = "file";
  readonly capacityBytes: number;
  readonly file: StoreFile;
  /** System calls that failed, for `inspect`. */
  errors = 0;
  private readonly readBuffer = new Uint8Array(FILE_RUN_BYTES);
  private readonly writeBuffer = new Uint8Array(FILE_RUN_BYTES);
  private readonly zeros = new Uint8Array(FILE_RUN_BYTES);

  constructor(file: StoreFile, capacityBytes: number) {
    assert(capacityBytes > 0, "a store has a capacity");
    this.file = file;
    this.capacityBytes = capacityBytes;
  }

  lend(offset: number, length: number, span: Span): number {
    const run = Math.min(length, FILE_RUN_BYTES);
    const got = this.file.readAt(offset, this.readBuffer, 0, run);
    if (got < 0) {
      this.errors++;
      return NvmeStatus.unrecoveredReadError;
    }
    if (got < run) this.readBuffer.fill(0, got, run);
    span.set(this.readBuffer, 0, run);
    return NvmeStatus.success;
  }

  lendForWrite(_offset: number, length: number, span: Span): number {
    span.set(this.writeBuffer, 0, Math.min(length, FILE_RUN_BYTES));
    return NvmeStatus.success;
  }

  commit(offset: number, length: number, span: Span): number {
    return this.put(offset, span.bytes, span.offset, length);
  }

  zero(offset: number, length: number): number {
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

  flush(): number {
    if (this.file.sync() === 0) return NvmeStatus.success;
    this.errors++;
    return NvmeStatus.writeFault;
  }

  /** Cutting and extending frees the file's space, and its metadata with it. */
  private zeroAll(): number {
    if (this.file.truncate(0) === 0 && this.file.truncate(this.capacityBytes) === 0) {
      return NvmeStatus.success;
    }
    this.errors++;
    return NvmeStatus.writeFault;
  }

  private put(offset: number, source: Uint8Array, sourceOffset: number, length: number): number {
    if (this.file.writeAt(offset, source, sourceOffset, length) === length) {
      return NvmeStatus.success;
    }
    this.errors++;
    return NvmeStatus.writeFault;
  }
}
