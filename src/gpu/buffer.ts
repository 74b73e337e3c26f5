/**
 * A buffer of a GPU: bytes in VRAM, or in host memory for as long as somebody needs them there.
 *
 * Invariants: a place is exactly one of the two; only the device that made the buffer changes it;
 * a freed buffer has no place.
 */

import type { HostRegion } from "../backing/interface.ts";
import { hex, type Inspectable, PeerlaneError, type Tree } from "../core/index.ts";
import type { VramPlacement } from "./vram.ts";

export type GpuPlace =
  | { readonly kind: "vram"; readonly offset: number }
  /** `dma`: where the GPU itself finds it. */
  | { readonly kind: "host"; readonly region: HostRegion; readonly dma: number };

/** Where a buffer may be moved: places to try, in order. */
export type RelocationTarget = VramPlacement | "host";

export class GpuBuffer implements Inspectable {
  readonly sizeBytes: number;
  /** What it is for, in `inspect()` and in errors. */
  readonly name: string;
  private where: GpuPlace | null;
  /** How often it changed its place. */
  moves = 0;

  constructor(name: string, sizeBytes: number, place: GpuPlace) {
    this.name = name;
    this.sizeBytes = sizeBytes;
    this.where = place;
  }

  get isFreed(): boolean {
    return this.where === null;
  }

  /** Throws `gpu-freed` after it was freed. */
  get place(): GpuPlace {
    if (this.where !== null) return this.where;
    throw new PeerlaneError("gpu-freed", `the buffer ${this.name} was freed`, {
      remedy: "free a buffer after its last use",
    });
  }

  /** For the device alone. */
  setPlace(place: GpuPlace | null): void {
    if (this.where !== null && place !== null) this.moves++;
    this.where = place;
  }

  /** VRAM offset of a part. Throws `gpu-range`, `gpu-not-resident` when it is in host memory. */
  vramAt(offset: number, length: number): number {
    const { place } = this;
    if (!(offset >= 0 && length > 0 && offset + length <= this.sizeBytes)) {
      throw new PeerlaneError("gpu-range", `[${offset}, +${length}) leaves ${this.name}`, {
        remedy: `stay within its ${this.sizeBytes} bytes`,
        details: { offset, length, sizeBytes: this.sizeBytes },
      });
    }
    if (place.kind === "vram") return place.offset + offset;
    throw new PeerlaneError("gpu-not-resident", `the buffer ${this.name} is in host memory`, {
      remedy: "move it back to VRAM first (its export's `makeResident`)",
    });
  }

  inspect(): Tree {
    const { where } = this;
    return {
      name: this.name,
      sizeBytes: this.sizeBytes,
      moves: this.moves,
      place: where === null ? "freed" : where.kind,
      at: where === null ? null : hex(where.kind === "vram" ? where.offset : where.region.phys),
    };
  }
}
