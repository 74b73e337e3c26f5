/**
 * What an architecture's linear map can hold: page-backed registration of device memory must fit in
 * it, page-less registration never asks. Sizes from the kernel's memory-layout documents
 * (Documentation/arch/x86/x86_64/mm.rst, arm64/memory.rst, riscv/vm-layout.rst, and powerpc's
 * MAX_PHYSMEM_BITS).
 *
 * Leaves out: KASLR, which shrank the x86-64 map to RAM and 10 TiB before Linux 6.15; 64 KiB pages.
 */

import { ADDRESS_LIMIT, alignDown, alignUp } from "../../core/index.ts";

const MIB = 2 ** 20;
const GIB = 2 ** 30;
const TIB = 2 ** 40;

/** What one `struct page` takes on 64-bit Linux. */
export const PAGE_ENTRY_BYTES = 64;
/** Memory is added and removed in pieces of this (x86-64, arm64 with 4 KiB pages). */
export const SUBSECTION_BYTES = 2 * MIB;
export const SECTION_BYTES = 128 * MIB;

export interface LinearMap {
  readonly name: string;
  /** First physical address that it maps: RAM's start on arm64 and riscv, 0 elsewhere. */
  readonly base: number;
  readonly sizeBytes: number;
  /** Start and length of a registration are multiples of this (memremap_compat_align). */
  readonly alignment: number;
}

const linear = (name: string, sizeBytes: number, alignment = SUBSECTION_BYTES): LinearMap => ({
  name,
  base: 0,
  sizeBytes: Math.min(sizeBytes, ADDRESS_LIMIT),
  alignment,
});

export const LINEAR_MAPS: readonly LinearMap[] = [
  linear("x86-64, 4 levels", 64 * TIB),
  linear("x86-64, 5 levels", 32 * 1024 * TIB),
  linear("arm64, 39 bits", 256 * GIB),
  linear("arm64, 42 bits", 2 * TIB),
  linear("arm64, 48 bits", 128 * TIB),
  linear("arm64, 52 bits", 4096 * TIB),
  linear("riscv, Sv39", 128 * GIB),
  linear("riscv, Sv48", 64 * TIB),
  linear("riscv, Sv57", 32 * 1024 * TIB),
  linear("powerpc, 51 bits, hash MMU", 2048 * TIB, 16 * MIB),
  linear("powerpc before 4.20, 46 bits, hash MMU", 64 * TIB, 16 * MIB),
];

/** The one that most servers with peer-to-peer DMA have. */
export const X86_64_LINEAR_MAP: LinearMap = LINEAR_MAPS[0] as LinearMap;

/** The same map in a machine whose RAM begins at `ramBase`; a BAR below it does not fit either. */
export function basedAt(map: LinearMap, ramBase: number): LinearMap {
  return { ...map, base: ramBase };
}

/** True when the whole of [phys, phys + sizeBytes), in subsections, lies inside the map. */
export function fitsLinearMap(map: LinearMap, phys: number, sizeBytes: number): boolean {
  const start = alignDown(phys, SUBSECTION_BYTES);
  const end = alignUp(phys + sizeBytes, SUBSECTION_BYTES);
  return start >= map.base && end <= map.base + map.sizeBytes;
}

/** What the kernel allocates for the pages of a range, by its formula. */
export function pageEntriesBytes(sizeBytes: number): number {
  return (alignUp(sizeBytes, SUBSECTION_BYTES) / 4096) * PAGE_ENTRY_BYTES;
}
