/**
 * The one contract of the five descriptions of I/O memory. A vector is (memory, offset, length):
 * `memory` implements this contract, `offset` means what the description says it means (a DMA
 * address, an offset into a lease, a physical address, ...), and block, NVMe and RDMA never ask.
 *
 * `map` and `unmap` are data plane: they return numbers and never throw. A negative result is the
 * negated {@link MapStatus}.
 */

import type { Inspectable, Span } from "../core/index.ts";
import type { Direction, InitiatorId } from "../dma/index.ts";

// Defined below, in dma, since mapping is done there; part of this contract all the same.
export { Direction, type InitiatorId, MAP_STATUS_NAMES, MapStatus } from "../dma/index.ts";

/** The description, for counters, tables and the operation classes of the block room. */
export const MemoryKind = {
  host: 0,
  page: 1,
  pfn: 2,
  dmaAddress: 3,
  phys: 4,
  lease: 5,
  dmaBuf: 6,
} as const;
export type MemoryKind = (typeof MemoryKind)[keyof typeof MemoryKind];

export const MEMORY_KIND_NAMES: readonly string[] = [
  "host",
  "page",
  "pfn",
  "dma-address",
  "phys",
  "lease",
  "dma-buf",
];

export interface IoMemory extends Inspectable {
  readonly kind: MemoryKind;
  /** True when the CPU may touch the bytes; {@link bytes} works only then. */
  readonly cpuAccessible: boolean;
  /** True when `map` took something that `unmap` must give back. */
  readonly needsUnmap: boolean;
  /**
   * DMA address for `initiator` of `length` bytes at `offset`, contiguous for it, or the
   * negated {@link MapStatus}.
   */
  map(initiator: InitiatorId, offset: number, length: number, direction: Direction): number;
  unmap(initiator: InitiatorId, dmaAddress: number, length: number): void;
  /**
   * The address that limit arithmetic (gaps, boundaries, merging) uses for `offset`. Mapping keeps
   * its low 12 bits; addresses that are adjacent here are adjacent for every initiator, except in
   * two mappings of a memory that {@link needsUnmap}: each has an address of its own.
   */
  limitAddress(offset: number): number;
  /** CPU view of the bytes; false when the CPU may not touch them or they are not there. */
  bytes(offset: number, length: number, span: Span): boolean;
}

/**
 * Memory that its owner can take back. Whoever uses it holds it from before the first map of an I/O
 * until the last completion; taking it back waits for that, and tells holders to hurry.
 */
export interface HoldableMemory extends IoMemory {
  /** False when it is being, or was, taken back: start nothing. */
  begin(): boolean;
  /** The I/O is over. */
  end(): void;
  /** Called when it is taken back, before that waits. */
  onRevoke(listener: (reason: string) => void): void;
}

export function isHoldable(memory: IoMemory): memory is HoldableMemory {
  return "onRevoke" in memory;
}
