/**
 * A namespace's bytes in memory (those in a file: file-store.hot.ts), and how many its metadata
 * may need.
 */

import {
  type Copier,
  type NamespaceStore,
  type Span,
  SparseMemory,
  type Tree,
} from "../../../core/index.ts";
import { NvmeStatus } from "../../../spec/nvme/index.ts";

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
