/**
 * The model GPU's registers and doorbells. Layout and meaning in spec/gpu/registers.ts.
 *
 * Invariants: a window that is not a multiple of 2^WINLOG, or at or beyond the end of VRAM, is not
 * taken (it reads back as it was); a channel's ring is set while the channel is off.
 */

import { highHalf, joinHalves, lowHalf } from "../../../core/index.ts";
import {
  GPU_CHANNEL_BLOCK,
  GPU_CHANNEL_STRIDE,
  GPU_RING_LOG_MAX,
  GPU_WINDOW_LOG,
  GpuChannelCtrl,
  GpuChannelReg,
  GpuChannelState,
  GpuCtrl,
  GpuReg,
} from "../../../spec/gpu/index.ts";
import type { RegisterHandler } from "../../device.ts";
import type { Channel } from "./channel.hot.ts";

/** What the registers act on. */
export interface GpuParts {
  readonly channels: readonly Channel[];
  readonly vramBytes: number;
  readonly apertureBar: number;
  readonly apertureBytes: number;
  readonly window: number;
  semaphoreNs: number;
  moveWindow(base: number): void;
  setEnabled(enabled: boolean): void;
  resetAll(): void;
}

/** The register block. */
export class GpuRegisters implements RegisterHandler {
  private readonly parts: GpuParts;
  private enabled = false;
  private windowLo = 0;

  constructor(parts: GpuParts) {
    this.parts = parts;
  }

  clear(): void {
    this.enabled = false;
    this.windowLo = 0;
  }

  read32(offset: number): number {
    if (offset >= GPU_CHANNEL_BLOCK) return this.readChannel(offset);
    const { parts } = this;
    switch (offset) {
      case GpuReg.CTRL:
      case GpuReg.STATUS:
        return this.enabled ? 1 : 0;
      case GpuReg.CHANNELS:
        return parts.channels.length;
      case GpuReg.RINGLOG:
        return GPU_RING_LOG_MAX;
      case GpuReg.VRAMLO:
        return lowHalf(parts.vramBytes);
      case GpuReg.VRAMHI:
        return highHalf(parts.vramBytes);
      case GpuReg.APBAR:
        return parts.apertureBar;
      case GpuReg.WINLOG:
        return GPU_WINDOW_LOG;
      case GpuReg.APLO:
        return lowHalf(parts.apertureBytes);
      case GpuReg.APHI:
        return highHalf(parts.apertureBytes);
      case GpuReg.WINLO:
        return lowHalf(parts.window);
      case GpuReg.WINHI:
        return highHalf(parts.window);
      case GpuReg.SEMNS:
        return parts.semaphoreNs;
      default:
        return 0;
    }
  }

  write32(offset: number, value: number): void {
    if (offset >= GPU_CHANNEL_BLOCK) {
      this.writeChannel(offset, value);
      return;
    }
    switch (offset) {
      case GpuReg.CTRL:
        if (GpuCtrl.reset.get(value) === 1) {
          this.parts.resetAll();
          return;
        }
        this.enabled = GpuCtrl.enable.get(value) === 1;
        this.parts.setEnabled(this.enabled);
        return;
      case GpuReg.WINLO:
        this.windowLo = value;
        return;
      case GpuReg.WINHI:
        this.setWindow(joinHalves(this.windowLo, value));
        return;
      case GpuReg.SEMNS:
        this.parts.semaphoreNs = value;
        return;
      default:
        return;
    }
  }

  private setWindow(base: number): void {
    if (base % 2 ** GPU_WINDOW_LOG === 0 && base < this.parts.vramBytes) {
      this.parts.moveWindow(base);
    }
  }

  private channelAt(offset: number): Channel | undefined {
    const index = Math.floor((offset - GPU_CHANNEL_BLOCK) / GPU_CHANNEL_STRIDE);
    return this.parts.channels[index];
  }

  private readChannel(offset: number): number {
    const channel = this.channelAt(offset);
    if (channel === undefined) return 0;
    switch (offset % GPU_CHANNEL_STRIDE) {
      case GpuChannelReg.RINGLO:
        return lowHalf(channel.ring);
      case GpuChannelReg.RINGHI:
        return highHalf(channel.ring);
      case GpuChannelReg.LOG:
        return channel.log;
      case GpuChannelReg.CTRL:
        return channel.state === GpuChannelState.off ? 0 : GpuChannelCtrl.enable.bits;
      case GpuChannelReg.STATE:
        return channel.state;
      case GpuChannelReg.GET:
        return channel.get;
      case GpuChannelReg.ERROR:
        return channel.error;
      default:
        return 0;
    }
  }

  private writeChannel(offset: number, value: number): void {
    const channel = this.channelAt(offset);
    if (channel === undefined) return;
    const register = offset % GPU_CHANNEL_STRIDE;
    if (register === GpuChannelReg.CTRL) {
      if (this.enabled) channel.setEnabled(GpuChannelCtrl.enable.get(value) === 1);
      return;
    }
    if (channel.state !== GpuChannelState.off) return;
    if (register === GpuChannelReg.RINGLO) {
      channel.ring = joinHalves(value, highHalf(channel.ring));
    } else if (register === GpuChannelReg.RINGHI) {
      channel.ring = joinHalves(lowHalf(channel.ring), value);
    } else if (register === GpuChannelReg.LOG) channel.log = Math.min(value, GPU_RING_LOG_MAX);
  }
}

/** The doorbell page. */
export class GpuDoorbells implements RegisterHandler {
  private readonly channels: readonly Channel[];

  constructor(channels: readonly Channel[]) {
    this.channels = channels;
  }

  read32(): number {
    return 0;
  }

  write32(offset: number, value: number): void {
    this.channels[offset >>> 2]?.ringDoorbell(value & 0xffff);
  }
}
