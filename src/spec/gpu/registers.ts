/**
 * Programming interface of Peerlane's model GPU. The interfaces of real GPUs are private to their
 * vendors or span thousands of registers, so this one is ours and no vendor's. It keeps the parts
 * that decide about peer-to-peer: device memory (VRAM) behind a resizable BAR, a window over VRAM
 * where the BAR is the smaller of the two, and channels whose descriptors copy and reduce.
 * Version 1. All structures are little-endian.
 *
 * BAR0 begins with a header that tells where the register block and the doorbells are, so that they
 * can lie behind an MSI-X table wherever the modelled card has it. VRAM is in a BAR of its own, the
 * aperture (APBAR): byte 0 of it shows the VRAM byte that WINDOW names. What lies beyond the end of
 * VRAM reads zeros and takes no writes.
 *
 * Size of the aperture: the Resizable BAR capability (PCI Express Base 6.x, 7.8.6), if the function
 * has one; APERTURE says what the device made of it.
 */

import { bit, defineRegisters, field, type RegisterTable } from "../../core/index.ts";

const SOURCE = "Peerlane model GPU interface, version 1";

/** Header at offset 0 of BAR0. */
export const GpuHeader = {
  signature: 0x00,
  version: 0x04,
  /** Offset of the register block in BAR0. */
  registers: 0x08,
  /** Offset of the doorbell page in BAR0. */
  doorbells: 0x0c,
  sizeBytes: 0x10,
} as const;

/** `PLGP` in memory order. */
export const GPU_SIGNATURE = 0x50474c50;
export const GPU_VERSION = 1;

/** Where the blocks go: behind the space that MSI-X tables use, when the BAR is large enough. */
export const GPU_REGISTERS_OFFSET = 0x10000;
export const GPU_DOORBELLS_OFFSET = 0x11000;
/** In a BAR below 128 KiB. */
export const GPU_SMALL_REGISTERS_OFFSET = 0x400;
export const GPU_SMALL_DOORBELLS_OFFSET = 0x1000;
export const GPU_BAR_BYTES_MIN = 0x2000;

/** Offsets in the register block. */
export const GpuReg = {
  CTRL: 0x00,
  STATUS: 0x04,
  CHANNELS: 0x08,
  RINGLOG: 0x0c,
  VRAMLO: 0x10,
  VRAMHI: 0x14,
  APBAR: 0x18,
  WINLOG: 0x1c,
  APLO: 0x20,
  APHI: 0x24,
  WINLO: 0x28,
  WINHI: 0x2c,
  SEMNS: 0x30,
} as const;
/** First channel's block in the register block, and bytes from one to the next. */
export const GPU_CHANNEL_BLOCK = 0x100;
export const GPU_CHANNEL_STRIDE = 0x20;
export const GPU_REGISTER_BYTES = 0x400;

export const GpuCtrl = { enable: bit(0), reset: bit(1) } as const;
export const GpuStatus = { ready: bit(0) } as const;

/** Offsets in a channel's block. */
export const GpuChannelReg = {
  RINGLO: 0x00,
  RINGHI: 0x04,
  LOG: 0x08,
  CTRL: 0x0c,
  STATE: 0x10,
  GET: 0x14,
  ERROR: 0x18,
} as const;

export const GpuChannelCtrl = { enable: bit(0) } as const;

/** STATE of a channel. */
export const GpuChannelState = {
  off: 0,
  /** Nothing in the ring. */
  idle: 1,
  running: 2,
  /** Descriptors or fence records could not be moved: ERROR says why; enable it again. */
  halted: 3,
} as const;

/** Doorbell page: one double word per channel, the producer counter (bits 15:0) of its ring. */
export const GPU_DOORBELL_BYTES = 0x1000;
export const gpuDoorbell = (channel: number): number => 4 * channel;

/** log2 of the entries of one ring, at most: counters of 16 bits tell full from empty. */
export const GPU_RING_LOG_MAX = 15;
/** The window starts at a multiple of 2^21 bytes of VRAM. */
export const GPU_WINDOW_LOG = 21;

const whole = (name: string, offset: number, access: "RO" | "RW" | "WO", text: string) => ({
  name,
  offset,
  bits: 32 as const,
  access,
  text,
  fields: [{ name, field: field(0, 32), text }],
});

export const GPU_REGISTERS: RegisterTable = defineRegisters({
  name: "model GPU",
  source: SOURCE,
  registers: [
    {
      name: "CTRL",
      offset: GpuReg.CTRL,
      bits: 32,
      access: "RW",
      text: "control",
      fields: [
        { name: "EN", field: GpuCtrl.enable, text: "enabled: channels run" },
        {
          name: "RST",
          field: GpuCtrl.reset,
          text: "write 1: channels and window as after power-on",
        },
      ],
    },
    {
      name: "STATUS",
      offset: GpuReg.STATUS,
      bits: 32,
      access: "RO",
      text: "status",
      fields: [{ name: "RDY", field: GpuStatus.ready, text: "enabled and working" }],
    },
    whole("CHANNELS", GpuReg.CHANNELS, "RO", "channels, each with a ring of its own"),
    whole("RINGLOG", GpuReg.RINGLOG, "RO", "log2 of the entries of one ring, at most"),
    whole("VRAMLO", GpuReg.VRAMLO, "RO", "bytes of VRAM, low half"),
    whole("VRAMHI", GpuReg.VRAMHI, "RO", "bytes of VRAM, high half"),
    whole("APBAR", GpuReg.APBAR, "RO", "index of the BAR that shows VRAM"),
    whole("WINLOG", GpuReg.WINLOG, "RO", "log2 of what WINDOW must be a multiple of"),
    whole("APLO", GpuReg.APLO, "RO", "bytes of the aperture as the BAR is sized now, low half"),
    whole("APHI", GpuReg.APHI, "RO", "bytes of the aperture, high half"),
    whole("WINLO", GpuReg.WINLO, "RW", "VRAM offset of the aperture's byte 0, low half"),
    whole("WINHI", GpuReg.WINHI, "RW", "high half: writing it moves the window, if it is valid"),
    whole("SEMNS", GpuReg.SEMNS, "RW", "nanoseconds after which an ACQUIRE gives up"),
  ],
});

export const GPU_CHANNEL_REGISTERS: RegisterTable = defineRegisters({
  name: "model GPU channel",
  source: SOURCE,
  registers: [
    whole("RINGLO", GpuChannelReg.RINGLO, "RW", "DMA address of the ring, low half"),
    whole("RINGHI", GpuChannelReg.RINGHI, "RW", "DMA address of the ring, high half"),
    whole("LOG", GpuChannelReg.LOG, "RW", "log2 of its entries"),
    {
      name: "CTRL",
      offset: GpuChannelReg.CTRL,
      bits: 32,
      access: "RW",
      text: "control",
      fields: [
        {
          name: "EN",
          field: GpuChannelCtrl.enable,
          text: "write 1: starts with both counters at 0; write 0: stops, work is dropped",
        },
      ],
    },
    whole("STATE", GpuChannelReg.STATE, "RO", "off, idle, running or halted"),
    whole("GET", GpuChannelReg.GET, "RO", "consumer counter, 16 bits"),
    whole("ERROR", GpuChannelReg.ERROR, "RO", "status of what halted it"),
  ],
});
