/**
 * The registers of a model GPU as its driver has them: finds and enables the device, reads what it
 * is, moves the window. Leaves out: interrupts (work is polled).
 */

import type { MappedRegion } from "../backing/interface.ts";
import {
  formatBdf,
  highHalf,
  joinHalves,
  lowHalf,
  PeerlaneError,
  type U64,
} from "../core/index.ts";
import type { DmaDevice } from "../dma/index.ts";
import {
  GPU_CHANNEL_BLOCK,
  GPU_CHANNEL_STRIDE,
  GPU_SIGNATURE,
  GPU_VERSION,
  GpuCtrl,
  GpuHeader,
  GpuReg,
  GpuStatus,
} from "../spec/gpu/index.ts";
import { Command, Header } from "../spec/pcie/index.ts";

export class GpuControl {
  readonly dma: DmaDevice;
  /** BAR0, for doorbells. */
  readonly region: MappedRegion;
  readonly doorbellsAt: number;
  readonly channels: number;
  readonly ringLogMax: number;
  readonly vramBytes: number;
  readonly apertureBar: number;
  /** The window starts at a multiple of this. */
  readonly windowUnit: number;
  private readonly registersAt: number;

  /** Enables memory decode and bus mastering, resets, enables. Throws `no-gpu`, `gpu-not-ready`. */
  constructor(dma: DmaDevice) {
    this.dma = dma;
    const { config } = dma.fn;
    const on = Command.memorySpaceEnable.bits | Command.busMasterEnable.bits;
    config.write16(Header.command, config.read16(Header.command) | on);
    const region = dma.fn.mapBar(0);
    this.region = region;
    const signature = region.read32(GpuHeader.signature);
    if (signature !== GPU_SIGNATURE || region.read32(GpuHeader.version) !== GPU_VERSION) {
      throw new PeerlaneError("no-gpu", "the function is not a GPU that this driver knows", {
        place: formatBdf(dma.bdf),
        remedy: "put a GPU model behind it; drivers of real GPUs export dma-bufs of their own",
        details: { signature },
      });
    }
    this.registersAt = region.read32(GpuHeader.registers);
    this.doorbellsAt = region.read32(GpuHeader.doorbells);
    this.write(GpuReg.CTRL, GpuCtrl.reset.bits);
    this.write(GpuReg.CTRL, GpuCtrl.enable.bits);
    if (GpuStatus.ready.get(this.read(GpuReg.STATUS)) !== 1) {
      throw new PeerlaneError("gpu-not-ready", "the GPU did not become ready", {
        place: formatBdf(dma.bdf),
        remedy: "look at Memory Space Enable of the bridges above it, and at its link",
      });
    }
    this.channels = this.read(GpuReg.CHANNELS);
    this.ringLogMax = this.read(GpuReg.RINGLOG);
    this.vramBytes = this.readWide(GpuReg.VRAMLO, GpuReg.VRAMHI);
    this.apertureBar = this.read(GpuReg.APBAR);
    this.windowUnit = 2 ** this.read(GpuReg.WINLOG);
  }

  read(register: number): number {
    return this.region.read32(this.registersAt + register);
  }

  write(register: number, value: number): void {
    this.region.write32(this.registersAt + register, value);
  }

  private readWide(low: number, high: number): number {
    const halves: U64 = { lo: this.read(low), hi: this.read(high) };
    return joinHalves(halves.lo, halves.hi);
  }

  /** Bytes of the aperture BAR, as the device has it. */
  get apertureBytes(): number {
    return this.readWide(GpuReg.APLO, GpuReg.APHI);
  }

  /** VRAM offset that the aperture's byte 0 shows. */
  get window(): number {
    return this.readWide(GpuReg.WINLO, GpuReg.WINHI);
  }

  /** Throws `gpu-window` when the device does not take it. */
  setWindow(base: number): void {
    this.write(GpuReg.WINLO, lowHalf(base));
    this.write(GpuReg.WINHI, highHalf(base));
    const { window } = this;
    if (window === base) return;
    throw new PeerlaneError("gpu-window", `the window cannot start at VRAM offset ${base}`, {
      place: formatBdf(this.dma.bdf),
      remedy: `choose a multiple of ${this.windowUnit} below ${this.vramBytes}`,
      details: { wanted: base, window },
    });
  }

  readChannel(channel: number, register: number): number {
    return this.read(GPU_CHANNEL_BLOCK + channel * GPU_CHANNEL_STRIDE + register);
  }

  writeChannel(channel: number, register: number, value: number): void {
    this.write(GPU_CHANNEL_BLOCK + channel * GPU_CHANNEL_STRIDE + register, value);
  }

  /** Stops everything that the device does. */
  close(): void {
    this.write(GpuReg.CTRL, GpuCtrl.reset.bits);
  }
}
