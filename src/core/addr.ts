/**
 * Address spaces as types. A number that one device puts on the bus is not the number that the CPU
 * uses for the same byte, nor the one that another device uses, so each space has its own brand and
 * the compiler refuses to mix them. The casts live in this file alone (a repository test checks).
 *
 * Addresses are JavaScript numbers below 2^52: exact, unboxed in typed arrays, and large enough for
 * every x86-64 and arm64 physical address in use. `bigint` appears only where a 64-bit register is
 * printed or handed to foreign code.
 *
 * Not here: address arithmetic with offsets of host bridges (`busFromPhys`) knows no windows; the
 * machine room finds the window, this file only adds.
 */

import { PeerlaneError } from "./errors.ts";

declare const space: unique symbol;

/** Address as the CPU's load and store instructions see it. */
export type PhysAddr = number & { readonly [space]: "phys" };
/** Address in a TLP on one PCI hierarchy: what BARs hold and windows claim. */
export type BusAddr = number & { readonly [space]: "bus" };
/** Address that one given initiator must put in its TLPs: an IOVA or a bus address. */
export type DmaAddr = number & { readonly [space]: "dma" };
/** Page frame number: physical address divided by 4096. */
export type Pfn = number & { readonly [space]: "pfn" };
/** Logical block address, in the namespace's own block size. */
export type Lba = number & { readonly [space]: "lba" };

/** Addresses are below this: exact in a double with room for sums. */
export const ADDRESS_LIMIT = 2 ** 52;

export const PAGE_SHIFT = 12;
export const PAGE_SIZE = 4096;
export const PAGE_MASK = PAGE_SIZE - 1;

/** True for an integer in [0, 2^52). */
export function isAddress(value: number): boolean {
  return Number.isInteger(value) && value >= 0 && value < ADDRESS_LIMIT;
}

function checked(value: number, what: string): number {
  if (!isAddress(value)) {
    throw new PeerlaneError("address-range", `${what} ${value} is not an integer in [0, 2^52)`, {
      remedy: "addresses of 2^52 and above do not exist on supported machines; check the source",
    });
  }
  return value;
}

export const physAddr = (value: number): PhysAddr => checked(value, "physical address") as PhysAddr;
export const busAddr = (value: number): BusAddr => checked(value, "bus address") as BusAddr;
export const dmaAddr = (value: number): DmaAddr => checked(value, "DMA address") as DmaAddr;
export const pfn = (value: number): Pfn => checked(value, "page frame number") as Pfn;
export const lba = (value: number): Lba => checked(value, "LBA") as Lba;

/**
 * The bus address of a physical address behind a host bridge whose window starts at `physBase` for
 * the CPU and at `busBase` on the bus: bus = phys + (busBase - physBase).
 */
export function busFromPhys(address: PhysAddr, physBase: number, busBase: number): BusAddr {
  return busAddr(address + (busBase - physBase));
}

/** The inverse of {@link busFromPhys}. */
export function physFromBus(address: BusAddr, physBase: number, busBase: number): PhysAddr {
  return physAddr(address - (busBase - physBase));
}

/**
 * The DMA address of a bus address for an initiator with no translation between it and the bus
 * (same hierarchy, no IOMMU on the way). The caller states that by calling this.
 */
export function dmaFromBus(address: BusAddr): DmaAddr {
  return address as number as DmaAddr;
}

/** A DMA address on the wire of an untranslated hierarchy. The inverse of {@link dmaFromBus}. */
export function busFromDma(address: DmaAddr): BusAddr {
  return address as number as BusAddr;
}

export function pfnOf(address: PhysAddr): Pfn {
  return Math.floor(address / PAGE_SIZE) as Pfn;
}

/** Low 12 bits. `&` keeps the low 32 bits of a double below 2^53 exactly, so no division here. */
export function pageOffset(address: number): number {
  return address & PAGE_MASK;
}

/** `value` rounded down to a multiple of `alignment`, a power of two below 2^52. */
export function alignDown(value: number, alignment: number): number {
  return value - (value % alignment);
}

/** `value` rounded up to a multiple of `alignment`. */
export function alignUp(value: number, alignment: number): number {
  const rest = value % alignment;
  return rest === 0 ? value : value + (alignment - rest);
}

export function isPowerOfTwo(value: number): boolean {
  return value > 0 && Number.isInteger(Math.log2(value));
}

/** Lower-case digits, padded to `digits`. */
export const hexDigits = (value: number, digits: number): string =>
  value.toString(16).padStart(digits, "0");

/** `0x` and lower-case digits, padded to `digits`. */
export const hex = (value: number, digits = 1): string => `0x${hexDigits(value, digits)}`;
