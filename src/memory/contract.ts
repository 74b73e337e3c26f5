/**
 * The one contract of the five descriptions of I/O memory. A vector is (memory, offset, length):
 * `memory` implements this contract, `offset` means what the description says it means (a DMA
 * address, an offset into a lease, a physical address, ...), and block, NVMe and RDMA never ask.
 *
 * `map` and `unmap` are data plane: they return numbers and never throw. A negative result is the
 * negated {@link MapStatus}.
 */

import type { Inspectable, Span } from "../core/index.ts";

/** The description, for counters, tables and the operation classes of the block room. */
export const MemoryKind = {
  host: 0,
  page: 1,
  pfn: 2,
  dmaAddress: 3,
  phys: 4,
  lease: 5,
} as const;
export type MemoryKind = (typeof MemoryKind)[keyof typeof MemoryKind];

export const MEMORY_KIND_NAMES: readonly string[] = [
  "host",
  "page",
  "pfn",
  "dma-address",
  "phys",
  "lease",
];

/** Why a mapping was refused. Returned negated by `map`. */
export const MapStatus = {
  ok: 0,
  /** The address was derived for another initiator. */
  wrongInitiator: 1,
  /** The lease was revoked, or the provider is going away. */
  revoked: 2,
  /** Offset and length leave the described memory. */
  outOfRange: 3,
  /** No route from this initiator to this memory. */
  noRoute: 4,
  /** No IOVA space or page-table memory. */
  noResources: 5,
} as const;
export type MapStatus = (typeof MapStatus)[keyof typeof MapStatus];

export const MAP_STATUS_NAMES: readonly string[] = [
  "ok",
  "address of another initiator",
  "lease revoked",
  "out of range",
  "no route",
  "no resources",
];

/** Which way data moves, seen from the initiator. */
export const Direction = {
  /** The initiator reads the memory (a disk write, an RDMA send). */
  fromMemory: 1,
  /** The initiator writes the memory. */
  toMemory: 2,
  both: 3,
} as const;
export type Direction = (typeof Direction)[keyof typeof Direction];

/** An initiator, as the dma room numbers it: a small integer, index of its `DmaDevice`. */
export type InitiatorId = number;

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
   * its low 12 bits; addresses that are adjacent here are adjacent for every initiator.
   */
  limitAddress(offset: number): number;
  /** CPU view of the bytes; false when the CPU may not touch them or they are not there. */
  bytes(offset: number, length: number, span: Span): boolean;
}
