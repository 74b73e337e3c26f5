/**
 * A GPU buffer as a dma-buf: where it lies for whom, after what amdgpu and xe do
 * (drivers/gpu/drm/amd/amdgpu/amdgpu_dma_buf.c, drivers/gpu/drm/xe/xe_dma_buf.c):
 *
 * - attach: peer-to-peer only where the importer can use it and the p2p rules know a route. Else
 *   the importer gets host memory, unless the export says that the buffer stays in VRAM: then the
 *   attach is refused, with the verdict.
 * - map: an importer without peer-to-peer moves the buffer to host memory. One with it takes it
 *   where it is; in VRAM that the window does not show, it is moved into the window, or to host
 *   memory when that is full.
 * - pin: in VRAM if every importer reaches it there, else in host memory.
 *
 * In VRAM a mapping is a lease of the aperture, so an IOVA through the host bridge and the bus
 * address below a switch come from the same rules as everything else's.
 *
 * Invariant: the bytes are copied by the GPU's engines after the last mapping is gone, and the old
 * place is given back after the copy.
 */

import { type Bdf, formatBdf, type Inspectable, PeerlaneError, type Tree } from "../core/index.ts";
import type { Direction } from "../dma/index.ts";
import {
  DmaBuf,
  type DmaBufAttachment,
  type DmaBufExporter,
  type DmaBufImporter,
  type DmaBufMapping,
  MAP_STATUS_NAMES,
} from "../memory/index.ts";
import { openLease, type Provider, type RouteRules } from "../p2p/index.ts";
import type { GpuBuffer, RelocationTarget } from "./buffer.ts";

export interface GpuExportOptions {
  readonly rules: RouteRules;
  /** It stays in VRAM: importers without a peer-to-peer route are refused. Default false. */
  readonly vramOnly?: boolean;
  /** It must be revocable at any time: static importers are refused. Default false. */
  readonly needsRevoke?: boolean;
}

/** The GPU as its exports see it. */
export interface ExportHost {
  readonly bdf: Bdf;
  /** The provider behind the window, now. */
  readonly aperture: Provider;
  isVisible(buffer: GpuBuffer): boolean;
  apertureOffset(buffer: GpuBuffer): number;
  relocate(buffer: GpuBuffer, targets: readonly RelocationTarget[]): Promise<void>;
}

/** The exporting half of a buffer. `dmaBuf` is what importers get. */
export class GpuExport implements DmaBufExporter, Inspectable {
  readonly name: string;
  readonly sizeBytes: number;
  readonly needsRevoke: boolean;
  readonly buffer: GpuBuffer;
  readonly dmaBuf: DmaBuf;
  private readonly gpu: ExportHost;
  private readonly rules: RouteRules;
  private readonly vramOnly: boolean;

  /** Use `GpuDevice.exportBuffer`. */
  constructor(gpu: ExportHost, buffer: GpuBuffer, options: GpuExportOptions) {
    this.gpu = gpu;
    this.buffer = buffer;
    this.name = `${formatBdf(gpu.bdf)} ${buffer.name}`;
    this.sizeBytes = buffer.sizeBytes;
    this.rules = options.rules;
    this.vramOnly = options.vramOnly ?? false;
    this.needsRevoke = options.needsRevoke ?? false;
    this.dmaBuf = new DmaBuf(this);
  }

  attach({ device, peerToPeer }: DmaBufImporter): boolean {
    const verdict = this.rules.verdict(this.gpu.bdf, device.bdf);
    const reaches = peerToPeer && verdict.route !== "none";
    if (reaches || !this.vramOnly) return reaches;
    throw new PeerlaneError("dma-buf-attach", `${this.name} stays in VRAM: ${verdict.text}`, {
      place: formatBdf(device.bdf),
      remedy: peerToPeer
        ? (verdict.remedies[0]?.text ?? "export it so that it may move to host memory")
        : "import it with a driver that takes peer-to-peer addresses",
      details: { verdict },
    });
  }

  async prepare(attachment: DmaBufAttachment): Promise<void> {
    const inHost = this.buffer.place.kind === "host";
    if (!attachment.peerToPeer) {
      if (!inHost) await this.toHost();
      return;
    }
    if (inHost || this.gpu.isVisible(this.buffer)) return;
    await this.toVisible();
  }

  async pin(attachments: readonly DmaBufAttachment[]): Promise<void> {
    const inHost = this.buffer.place.kind === "host";
    if (inHost) return;
    if (attachments.some(({ peerToPeer }) => !peerToPeer)) await this.toHost();
    else if (!this.gpu.isVisible(this.buffer)) await this.toVisible();
  }

  map({ importer }: DmaBufAttachment, direction: Direction): DmaBufMapping {
    const { device } = importer;
    const { place } = this.buffer;
    if (place.kind === "vram") {
      const { rules, gpu } = this;
      const range = { offset: gpu.apertureOffset(this.buffer), length: this.sizeBytes };
      const provider = gpu.aperture;
      const lease = openLease({ provider, range, initiators: [device], rules });
      return { address: lease.bases[device.id] as number, release: () => lease.close() };
    }
    const address = device.mapPhys(place.region.phys, this.sizeBytes, direction, false);
    if (address < 0) {
      throw new PeerlaneError("dma-map", `no DMA address: ${MAP_STATUS_NAMES[-address]}`, {
        place: formatBdf(device.bdf),
        remedy: "unmap what is not used, or look at its host bridge's inbound ranges",
      });
    }
    return { address, release: () => device.unmap(address, this.sizeBytes) };
  }

  /** Moves it back to VRAM (`visible` where there is room), for the GPU to work on. */
  async makeResident(): Promise<void> {
    if (this.buffer.place.kind === "vram") return;
    await this.dmaBuf.move(async () => {
      if (this.buffer.place.kind === "host")
        await this.gpu.relocate(this.buffer, ["visible", "any"]);
    });
  }

  /** Moves it out of VRAM, as memory pressure would. Throws `dma-buf-pinned`, `dma-buf-attach`. */
  async evict(): Promise<void> {
    this.checkMayLeave();
    await this.dmaBuf.move(async () => {
      if (this.buffer.place.kind === "vram") await this.gpu.relocate(this.buffer, ["host"]);
    });
  }

  /** Moves it to another place of VRAM, as compaction would. */
  async compact(): Promise<void> {
    await this.dmaBuf.move(async () => {
      if (this.buffer.place.kind === "vram") await this.gpu.relocate(this.buffer, ["any"]);
    });
  }

  /** Takes it back from everybody. The buffer stays the GPU's. */
  revoke(reason = "revoked by the GPU's driver"): Promise<void> {
    return this.dmaBuf.revoke(reason);
  }

  private async toHost(): Promise<void> {
    this.checkMayLeave();
    await this.dmaBuf.moveLocked(() => this.gpu.relocate(this.buffer, ["host"]));
  }

  private async toVisible(): Promise<void> {
    const targets: RelocationTarget[] = this.vramOnly ? ["visible"] : ["visible", "host"];
    await this.dmaBuf.moveLocked(() => this.gpu.relocate(this.buffer, targets));
  }

  private checkMayLeave(): void {
    if (!this.vramOnly) return;
    throw new PeerlaneError("dma-buf-attach", `${this.name} stays in VRAM`, {
      remedy: "export it so that it may move to host memory",
    });
  }

  inspect(): Tree {
    return {
      kind: "GPU buffer",
      vramOnly: this.vramOnly,
      needsRevoke: this.needsRevoke,
      buffer: this.buffer.inspect(),
    };
  }
}
