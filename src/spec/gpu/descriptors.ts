/**
 * Ring descriptors and fence records of the model GPU: what a channel is asked to do, and how it
 * answers. A channel takes its descriptors in order, one at a time; channels run side by side.
 *
 * Addresses are of two kinds and never mixed in one field: VRAM offsets, and DMA addresses that the
 * GPU puts on the bus as itself. Counters of rings run freely modulo 2^16; entry i is at `i mod
 * entries`.
 */

import { bit, defineLayout, type Layout } from "../../core/index.ts";

const SOURCE = "Peerlane model GPU interface, version 1";

export const GpuOp = {
  /** Does nothing; its fence says that all before it is done. */
  nop: 0,
  /** From the bus (source: DMA address) into VRAM (destination: offset). */
  copyIn: 1,
  /** From VRAM (source: offset) to the bus (destination: DMA address). */
  copyOut: 2,
  /** Inside VRAM. The two ranges must not overlap. */
  copyLocal: 3,
  /** VRAM at destination is filled with the low byte of `value`. */
  fill: 4,
  /** A kernel over VRAM at source: its result goes into the fence record. */
  reduce: 5,
  /** Waits until the 32-bit word of VRAM at source is `value` or (modulo 2^32) later. */
  acquire: 6,
} as const;
export type GpuOp = (typeof GpuOp)[keyof typeof GpuOp];

export const GPU_OP_NAMES: readonly string[] = [
  "NOP",
  "COPY_IN",
  "COPY_OUT",
  "COPY_LOCAL",
  "FILL",
  "REDUCE",
  "ACQUIRE",
];

/** What REDUCE computes. */
export const GpuKernel = {
  /** CRC32C of the bytes: RFC 3720, appendix B.4. */
  crc32c: 0,
  /** Sum of the little-endian 32-bit words modulo 2^64; offset and length are multiples of 4. */
  sum64: 1,
} as const;
export type GpuKernel = (typeof GpuKernel)[keyof typeof GpuKernel];

export const GpuFlag = {
  /** Write a fence record when it is done, also when it failed. */
  fence: bit(0),
  /** Then send MSI-X vector `channel mod vectors`. */
  interrupt: bit(1),
} as const;

/** Offsets in a descriptor, for the data planes. */
export const GpuDesc = {
  opcode: 0,
  flags: 1,
  kernel: 2,
  fenceValue: 4,
  source: 8,
  destination: 16,
  length: 24,
  fence: 32,
  value: 40,
  sizeBytes: 64,
} as const;
export const GPU_DESC_LOG = 6;

export const GPU_DESCRIPTOR: Layout = defineLayout({
  name: "descriptor",
  source: SOURCE,
  sizeBytes: GpuDesc.sizeBytes,
  endian: "little",
  fields: [
    { name: "opcode", offset: GpuDesc.opcode, kind: "u8", text: "GpuOp" },
    { name: "flags", offset: GpuDesc.flags, kind: "u8", text: "sum of GpuFlag" },
    { name: "kernel", offset: GpuDesc.kernel, kind: "u8", text: "REDUCE: GpuKernel" },
    { name: "fenceValue", offset: GpuDesc.fenceValue, kind: "u32", text: "what the fence gets" },
    { name: "source", offset: GpuDesc.source, kind: "u64", text: "VRAM offset or DMA address" },
    { name: "destination", offset: GpuDesc.destination, kind: "u64", text: "the same" },
    { name: "length", offset: GpuDesc.length, kind: "u64", text: "bytes" },
    { name: "fence", offset: GpuDesc.fence, kind: "u64", text: "DMA address of the record" },
    { name: "value", offset: GpuDesc.value, kind: "u32", text: "FILL: byte; ACQUIRE: threshold" },
  ],
});

/** Fence record: 16 bytes, aligned, written by one DMA, so that it appears whole. */
export const GpuFence = { value: 0, status: 4, result: 8, sizeBytes: 16 } as const;

export const GPU_FENCE_RECORD: Layout = defineLayout({
  name: "fence record",
  source: SOURCE,
  sizeBytes: GpuFence.sizeBytes,
  endian: "little",
  fields: [
    { name: "value", offset: GpuFence.value, kind: "u32", text: "the descriptor's fenceValue" },
    { name: "status", offset: GpuFence.status, kind: "u32", text: "GpuFault" },
    { name: "result", offset: GpuFence.result, kind: "u64", text: "of REDUCE; 0 else" },
  ],
});

/** How a descriptor ended. A failed one does not stop its channel. */
export const GpuFault = {
  ok: 0,
  badOpcode: 1,
  badKernel: 2,
  /** A VRAM range leaves VRAM, or two that must not overlap do. */
  badRange: 3,
  /** SUM64 and ACQUIRE take words. */
  unaligned: 4,
  /** ACQUIRE waited longer than SEMNS. */
  timeout: 5,
  /** Plus the `DmaStatus`: the bus refused the GPU's request. */
  dma: 0x100,
} as const;
