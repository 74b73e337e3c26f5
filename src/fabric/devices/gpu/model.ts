/**
 * A model GPU: VRAM that costs only what is written, an aperture BAR that shows it (all of it, or
 * the part that the window names), and channels that copy and reduce. Registers in spec/gpu.
 *
 * Flow: a doorbell asks the fabric for a step; a step gives each channel its share. The aperture is
 * memory behind a BAR: what peers read and write there moves without the GPU's doing.
 *
 * Invariants: aperture byte i is VRAM byte WINDOW + i at every moment; DMA goes through the port
 * alone; a reset stops channels and closes nothing else: VRAM keeps its contents (the memory has
 * its own power), the window goes back to 0, the BAR keeps its size.
 *
 * Leaves out: an MMU, so channels take VRAM offsets and DMA addresses; more than one aperture;
 * display, graphics and compute other than the kernels of spec/gpu.
 */

import {
  assert,
  type Copier,
  PeerlaneError,
  SparseMemory,
  type Tree,
} from "../../../core/index.ts";
import {
  GPU_BAR_BYTES_MIN,
  GPU_DOORBELL_BYTES,
  GPU_DOORBELLS_OFFSET,
  GPU_REGISTER_BYTES,
  GPU_REGISTERS_OFFSET,
  GPU_SIGNATURE,
  GPU_SMALL_DOORBELLS_OFFSET,
  GPU_SMALL_REGISTERS_OFFSET,
  GPU_VERSION,
  GpuChannelState,
} from "../../../spec/gpu/index.ts";
import type { BarRegion, DeviceModel, DevicePort } from "../../device.ts";
import { controlBarRegions } from "../control-bar.ts";
import { Channel, type ChannelHost } from "./channel.hot.ts";
import { GpuDoorbells, type GpuParts, GpuRegisters } from "./register-file.ts";

export interface GpuModelOptions {
  readonly copier: Copier;
  /** Bytes of VRAM; up to 192 GiB. */
  readonly vramBytes: number;
  /** Sizes of the function's memory BARs by index; BAR0 has the registers. */
  readonly barSizes: readonly number[];
  /** The BAR that shows VRAM. Default: the largest but BAR0. */
  readonly apertureBar?: number;
  /** Channels, default 4. */
  readonly channels?: number;
  /** Timed runs: bytes per nanosecond of kernels and copies inside VRAM. Default: no time. */
  readonly vramBytesPerNs?: number;
}

/** What {@link gpuModelFor} may be told. */
export type GpuSettings = Partial<Omit<GpuModelOptions, "copier" | "barSizes">>;

const CHANNELS = 4;
const CHANNELS_MAX = 16;
const VRAM_BYTES_MAX = 192 * 2 ** 30;
/** Power-on value of SEMNS: a millisecond. */
const SEMAPHORE_NS = 1_000_000;
/** A BAR that holds registers and doorbells behind 64 KiB. */
const LARGE_BAR_BYTES = 0x20000;

export class GpuModel implements DeviceModel, GpuParts, ChannelHost {
  readonly kind = "GPU model";
  readonly vram: SparseMemory;
  readonly vramBytes: number;
  readonly vramRate: number;
  readonly apertureBar: number;
  readonly channels: readonly Channel[];
  apertureBytes: number;
  window = 0;
  semaphoreNs = SEMAPHORE_NS;
  private readonly registerBytes: number;
  private readonly registers: GpuRegisters;
  private readonly doorbells: GpuDoorbells;
  private attached: DevicePort | null = null;
  private enabled = false;
  private windowMoves = 0;

  /** Throws `gpu-bar` when a BAR is missing or too small, `gpu-vram` when VRAM is out of range. */
  constructor(options: GpuModelOptions) {
    const { vramBytes, barSizes, copier } = options;
    const { apertureBar = largestBut0(barSizes), channels = CHANNELS } = options;
    this.registerBytes = barSizes[0] ?? 0;
    this.apertureBytes = barSizes[apertureBar] ?? 0;
    if (this.registerBytes < GPU_BAR_BYTES_MIN || apertureBar < 1 || this.apertureBytes === 0) {
      throw new PeerlaneError("gpu-bar", "the function's BARs are not those of a GPU model", {
        remedy: `it needs BAR0 of ${GPU_BAR_BYTES_MIN} bytes or more, and another memory BAR`,
        details: { barSizes, apertureBar },
      });
    }
    if (!(vramBytes >= 4096 && vramBytes <= VRAM_BYTES_MAX && vramBytes % 4096 === 0)) {
      throw new PeerlaneError("gpu-vram", `a GPU model cannot have ${vramBytes} bytes of VRAM`, {
        remedy: "choose a multiple of 4096 up to 192 GiB",
      });
    }
    assert(channels >= 1 && channels <= CHANNELS_MAX, "a GPU model has 1 to 16 channels");
    this.vramBytes = vramBytes;
    this.vramRate = options.vramBytesPerNs ?? 0;
    this.apertureBar = apertureBar;
    this.vram = new SparseMemory(vramBytes, copier);
    this.channels = Array.from({ length: channels }, (_, i) => new Channel(i, this));
    this.registers = new GpuRegisters(this);
    this.doorbells = new GpuDoorbells(this.channels);
  }

  get port(): DevicePort {
    assert(this.attached !== null, "a model is used after attach");
    return this.attached;
  }

  attach(port: DevicePort): void {
    assert(this.attached === null, "a model is attached once");
    this.attached = port;
  }

  barRegions(): readonly BarRegion[] {
    const large = this.registerBytes >= LARGE_BAR_BYTES;
    return [
      ...controlBarRegions({
        signature: GPU_SIGNATURE,
        version: GPU_VERSION,
        registersAt: large ? GPU_REGISTERS_OFFSET : GPU_SMALL_REGISTERS_OFFSET,
        registerBytes: GPU_REGISTER_BYTES,
        registers: this.registers,
        doorbellsAt: large ? GPU_DOORBELLS_OFFSET : GPU_SMALL_DOORBELLS_OFFSET,
        doorbellBytes: GPU_DOORBELL_BYTES,
        doorbells: this.doorbells,
      }),
      {
        bar: this.apertureBar,
        offset: 0,
        sizeBytes: Math.min(this.apertureBytes, this.vramBytes - this.window),
        registers: null,
        memory: this.vram,
        memoryOffset: this.window,
      },
    ];
  }

  barResized(bar: number, sizeBytes: number): void {
    if (bar === this.apertureBar) this.apertureBytes = sizeBytes;
  }

  moveWindow(base: number): void {
    if (base === this.window) return;
    this.window = base;
    this.windowMoves++;
    this.port.regionsChanged();
  }

  setEnabled(enabled: boolean): void {
    this.enabled = enabled;
    if (!enabled) for (const channel of this.channels) channel.setEnabled(false);
  }

  step(): void {
    if (!this.enabled) return;
    for (let i = 0; i < this.channels.length; i++) this.channels[i].step();
  }

  resetAll(): void {
    this.reset();
    this.port.regionsChanged();
  }

  reset(): void {
    this.setEnabled(false);
    this.registers.clear();
    this.semaphoreNs = SEMAPHORE_NS;
    this.window = 0;
  }

  inspect(): Tree {
    return {
      enabled: this.enabled,
      vramBytes: this.vramBytes,
      residentBytes: this.vram.residentBytes,
      apertureBar: this.apertureBar,
      apertureBytes: this.apertureBytes,
      window: this.window,
      windowMoves: this.windowMoves,
      channels: this.channels
        .filter(({ state, done }) => state !== GpuChannelState.off || done > 0)
        .map(({ index, state, error, get, put, done, faults, ...counts }) => ({
          index,
          state,
          error,
          pending: (put - get) & 0xffff,
          done,
          faults,
          bytesIn: counts.bytesIn,
          bytesOut: counts.bytesOut,
          bytesReduced: counts.bytesReduced,
        })),
    };
  }
}

/** Index of the largest BAR after BAR0; 0 when there is none. */
function largestBut0(barSizes: readonly number[]): number {
  let best = 0;
  for (let i = 1; i < barSizes.length; i++) {
    const size = barSizes[i] ?? 0;
    if (size > 0 && (best === 0 || size > (barSizes[best] ?? 0))) best = i;
  }
  return best;
}

/**
 * A GPU model for a function with these BARs, or null where they are not a GPU's: what a model
 * factory of a fabric calls. VRAM is as large as the aperture unless said otherwise.
 */
export function gpuModelFor(
  tools: { readonly copier: Copier; readonly barSizes: readonly number[] },
  settings: GpuSettings = {},
): GpuModel | null {
  const { copier, barSizes } = tools;
  const aperture = settings.apertureBar ?? largestBut0(barSizes);
  if ((barSizes[0] ?? 0) < GPU_BAR_BYTES_MIN || aperture === 0) return null;
  const vramBytes = settings.vramBytes ?? Math.min(barSizes[aperture] ?? 0, VRAM_BYTES_MAX);
  return new GpuModel({ ...settings, copier, barSizes, vramBytes });
}
