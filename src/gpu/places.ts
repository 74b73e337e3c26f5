/**
 * Where buffers can lie: pages of VRAM, or host memory that the GPU can reach.
 *
 * Invariant: what is taken is given back once, with the size it was taken with.
 */

import type { HostRegion } from "../backing/interface.ts";
import { alignUp, formatBdf, formatBytes, PAGE_SIZE, PeerlaneError } from "../core/index.ts";
import { Direction, type DmaDevice, MAP_STATUS_NAMES } from "../dma/index.ts";
import type { GpuPlace, RelocationTarget } from "./buffer.ts";
import { type VisibleRange, VramAllocator } from "./vram.ts";

export class GpuPlaces {
  private readonly dma: DmaDevice;
  private readonly vram: VramAllocator;
  private readonly visible: () => VisibleRange;

  constructor(dma: DmaDevice, vramBytes: number, visible: () => VisibleRange) {
    this.dma = dma;
    this.vram = new VramAllocator(vramBytes);
    this.visible = visible;
  }

  get freeVramBytes(): number {
    return this.vram.freeBytes;
  }

  /** The first of these that has room. Throws `gpu-no-memory`, `dma-map`. */
  take(sizeBytes: number, targets: readonly RelocationTarget[]): GpuPlace {
    const isSize = Number.isSafeInteger(sizeBytes) && sizeBytes > 0;
    for (const target of isSize ? targets : []) {
      if (target === "host") return this.takeHost(sizeBytes);
      const offset = this.vram.alloc(sizeBytes, target, this.visible());
      if (offset >= 0) return { kind: "vram", offset };
    }
    throw this.noMemory(sizeBytes, targets.join(" or "));
  }

  give(place: GpuPlace, sizeBytes: number): void {
    if (place.kind === "vram") {
      this.vram.free(place.offset, sizeBytes);
      return;
    }
    this.dma.unmap(place.dma, alignUp(sizeBytes, PAGE_SIZE));
    this.dma.fn.machine.freeHost(place.region);
  }

  private takeHost(sizeBytes: number): GpuPlace {
    const { machine } = this.dma.fn;
    const bytes = alignUp(sizeBytes, PAGE_SIZE);
    const region: HostRegion = machine.allocateHost(bytes, PAGE_SIZE, "payload");
    const dma = this.dma.mapPhys(region.phys, bytes, Direction.both, false);
    if (dma >= 0) return { kind: "host", region, dma };
    machine.freeHost(region);
    throw new PeerlaneError("dma-map", `no DMA address: ${MAP_STATUS_NAMES[-dma]}`, {
      place: formatBdf(this.dma.bdf),
      remedy: "look at the inbound ranges of its host bridge, or at leaked mappings (inspect)",
    });
  }

  private noMemory(sizeBytes: number, placement: string): PeerlaneError {
    const { base, limit } = this.visible();
    const shown = formatBytes(limit - base);
    const what = sizeBytes > 0 ? formatBytes(sizeBytes) : String(sizeBytes);
    return new PeerlaneError("gpu-no-memory", `no ${what} of ${placement} VRAM`, {
      place: formatBdf(this.dma.bdf),
      remedy: `free buffers; the window shows ${shown}: it can be moved, the BAR resized`,
      details: { sizeBytes, freeBytes: this.freeVramBytes, windowBase: base, windowLimit: limit },
    });
  }
}
