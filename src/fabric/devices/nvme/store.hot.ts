/**
 * Where a namespace's bytes are: memory, or a file (file-store.hot.ts). A store lends the place
 * where bytes are to go or come from, so that a transfer is one copy (memory), or one copy and one
 * positioned read or write (file). Statuses are NVMe statuses: a file that fails becomes a media
 * error.
 *
 * A store holds data from 0 to `capacityBytes` and metadata after it; it knows no blocks. Bytes
 * never written, and bytes zeroed, read as zeros.
 *
 * What a medium takes its time for (flush, deallocate) may be answered later, by `storeDone`.
 */

import { type Copier, type Span, SparseMemory, type Tree } from "../../../core/index.ts";
import { NvmeStatus } from "../../../spec/nvme/index.ts";

/** Answer of `flush` and `deallocate`: `storeDone` follows, never from inside the call. */
export const STORE_PENDING = -1;

/** Told what became of a flush or deallocate that was pending; `token` is what it gave. */
export interface StoreClient {
  storeDone(token: number, status: number): void;
}

export interface NamespaceStore {
  readonly kind: string;
  /** Bytes of data. Metadata may follow: up to an eighth more, and one page. */
  readonly capacityBytes: number;
  /** Nothing may be written: the medium takes no writes. */
  readonly readOnly: boolean;
  /** `deallocate` gives space back and makes the range read as zeros; else it does nothing. */
  readonly deallocates: boolean;
  /** Lends where up to `length` bytes at `offset` are. `span.length` says how many. */
  lend(offset: number, length: number, span: Span): number;
  /** Lends where up to `length` bytes at `offset` may be written; `commit` must follow. */
  lendForWrite(offset: number, length: number, span: Span): number;
  /** Ends a loan of `lendForWrite`: the first `length` bytes at `offset` are as in `span`. */
  commit(offset: number, length: number, span: Span): number;
  /** Makes a range read as zeros. */
  zero(offset: number, length: number): number;
  /** Gives the space of a range back; `isDurable`: that is on the medium when it is answered. */
  deallocate(
    offset: number,
    length: number,
    isDurable: boolean,
    client: StoreClient,
    token: number,
  ): number;
  /** Makes everything that was committed before this call durable. */
  flush(client: StoreClient, token: number): number;
  inspect(): Tree;
}

/** Bytes that metadata may need: 64 per 512 and rounding to a page. */
export function metadataBytesMax(capacityBytes: number): number {
  return Math.ceil(capacityBytes / 8) + 4096;
}

/** A namespace in memory that costs only what is written. */
export class MemoryStore implements NamespaceStore {
  readonly kind = "memory";
  readonly readOnly = false;
  readonly deallocates = true;
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

  deallocate(offset: number, length: number): number {
    return this.zero(offset, length);
  }

  flush(): number {
    return NvmeStatus.success;
  }

  get residentBytes(): number {
    return this.memory.residentBytes;
  }

  inspect(): Tree {
    return { kind: this.kind, residentBytes: this.residentBytes };
  }
}
