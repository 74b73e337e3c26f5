/**
 * An opaque frame number with flags in the number, after the kernel's pfn_t that the block layer
 * refused in 2015: device memory named without a page, in a type that cannot be used by mistake.
 *
 * A {@link Frame} is no number to the compiler: adding to it, comparing it or passing it where a
 * physical address or a page is wanted does not compile. It becomes an address or a page only
 * through the functions here, and a page only where there is one.
 *
 * Invariants: the value is flags * 2^36 + frame, so `offsetOfFrame` stays below 2^52. The price:
 * physical addresses of 2^48 and above have no frame.
 */

import { PAGE_SHIFT, PAGE_SIZE, PeerlaneError, type PhysAddr, physAddr } from "../../core/index.ts";

declare const opaque: unique symbol;
/** Opaque. Make with {@link frameOf}. */
export interface Frame {
  readonly [opaque]: "frame";
}

/** Index of a page that exists; from {@link pageOfFrame} alone. */
export interface PageIndex {
  readonly [opaque]: "page";
}

const FRAME_BITS = 36;
const FRAMES = 2 ** FRAME_BITS;
/** Physical addresses that have frames are below this. */
export const FRAME_ADDRESS_LIMIT = 2 ** (FRAME_BITS + PAGE_SHIFT);

export const FrameFlag = {
  none: 0,
  /** Not RAM: made by a driver (PFN_DEV). */
  device: 1,
  /** There is a page behind it (PFN_MAP). */
  map: 2,
} as const;
const FLAGS = 4;

/**
 * The frame of a page-aligned physical address. Throws `no-frame` when the address is not aligned,
 * or so high that the flags have its bits.
 */
export function frameOf(phys: PhysAddr, flags: number): Frame {
  if (phys % PAGE_SIZE === 0 && phys < FRAME_ADDRESS_LIMIT && flags >= 0 && flags < FLAGS) {
    return (flags * FRAMES + phys / PAGE_SIZE) as unknown as Frame;
  }
  throw new PeerlaneError("no-frame", `there is no frame number for address ${phys}`, {
    remedy: "give a multiple of 4096 below 2^48: the flags take the bits above",
    details: { phys, flags },
  });
}

const numberIn = (frame: Frame): number => frame as unknown as number;

/** {@link FrameFlag} bits. */
export function frameFlags(frame: Frame): number {
  return Math.floor(numberIn(frame) / FRAMES);
}

export function physOfFrame(frame: Frame): PhysAddr {
  return physAddr((numberIn(frame) % FRAMES) * PAGE_SIZE);
}

export function hasPage(frame: Frame): boolean {
  return (frameFlags(frame) & FrameFlag.map) !== 0;
}

/** The page of a frame; null where there is none. There is no other way to one. */
export function pageOfFrame(frame: Frame): PageIndex | null {
  return hasPage(frame) ? ((numberIn(frame) % FRAMES) as unknown as PageIndex) : null;
}

/** The offset that a vector over `PfnMemory` carries for a byte of the frame. */
export function offsetOfFrame(frame: Frame, byteInFrame: number): number {
  return numberIn(frame) * PAGE_SIZE + byteInFrame;
}
