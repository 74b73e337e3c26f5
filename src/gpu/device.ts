/**
 * The driver of the model GPU: buffers in VRAM, copies and reductions, and sharing them: as leases
 * of the aperture, as published providers, as dma-bufs. Its DMA goes through the mapping of a
 * {@link DmaDevice} as everybody's does.
 *
 * Invariants: a peer reaches VRAM through the aperture only, under a lease of its provider; jobs of
 * one kind end in order (copies in, copies out, what happens inside VRAM), between kinds: await.
 *
 * Leaves out: interrupts (poll), processes and their isolation, an MMU.
 */

import {
  formatBdf,
  type Inspectable,
  PeerlaneError,
  type Poller,
  type Tree,
} from "../core/index.ts";
import type { DmaDevice } from "../dma/index.ts";
import {
  Direction,
  type DmaBuf,
  type DmaBufImport,
  type IoMemory,
  importDmaBuf,
  isHoldable,
  MAP_STATUS_NAMES,
  MapStatus,
} from "../memory/index.ts";
import {
  type Lease,
  openLease,
  type Provider,
  type ProviderRegistry,
  type RouteRules,
} from "../p2p/index.ts";
import { GpuKernel } from "../spec/gpu/index.ts";
import { GpuAperture } from "./aperture.ts";
import { GpuBuffer, type RelocationTarget } from "./buffer.ts";
import { GpuControl } from "./control.ts";
import { GpuEngines } from "./engines.ts";
import { type ExportHost, GpuExport, type GpuExportOptions } from "./export.ts";
import type { GpuResult } from "./jobs.ts";
import { GpuPlaces } from "./places.ts";
import type { VisibleRange, VramPlacement } from "./vram.ts";

export interface GpuAttachOptions {
  /** log2 of the entries of each ring. Default 6. */
  readonly ringLog?: number;
}

const RING_LOG = 6;
const ACQUIRE_NS = 1_000_000;

export class GpuDevice implements ExportHost, Poller, Inspectable {
  readonly dma: DmaDevice;
  readonly vramBytes: number;
  private readonly control: GpuControl;
  private readonly engines: GpuEngines;
  private readonly window: GpuAperture;
  private readonly places: GpuPlaces;
  private readonly buffers = new Set<GpuBuffer>();
  private readonly exports = new Map<GpuBuffer, GpuExport>();

  private constructor(control: GpuControl, ringLog: number) {
    this.control = control;
    this.dma = control.dma;
    this.vramBytes = control.vramBytes;
    this.window = new GpuAperture(control);
    this.places = new GpuPlaces(control.dma, control.vramBytes, () => this.visible);
    this.engines = new GpuEngines(control, ringLog);
  }

  /**
   * Enables the function and its channels. Throws `no-gpu` when the function is none of this
   * interface, `no-bar`, `dma-map`, `bad-provider-range` when the aperture has no address.
   */
  static attach(dma: DmaDevice, options: GpuAttachOptions = {}): GpuDevice {
    return new GpuDevice(new GpuControl(dma), options.ringLog ?? RING_LOG);
  }

  get bdf(): DmaDevice["bdf"] {
    return this.dma.bdf;
  }

  // --- buffers

  /** Where the window shows VRAM, in VRAM offsets. */
  get visible(): VisibleRange {
    return this.window.visible;
  }

  get freeBytes(): number {
    return this.places.freeVramBytes;
  }

  /** VRAM in whole pages, contents as they were. Throws `gpu-no-memory`. */
  allocate(sizeBytes: number, placement: VramPlacement = "visible", name = "buffer"): GpuBuffer {
    const buffer = new GpuBuffer(name, sizeBytes, this.places.take(sizeBytes, [placement]));
    this.buffers.add(buffer);
    return buffer;
  }

  /** Gives the buffer's memory back. Throws `gpu-exported` while importers may have it. */
  free(buffer: GpuBuffer): void {
    const exported = this.exports.get(buffer);
    if (exported !== undefined && !exported.dmaBuf.isTakenBack) {
      throw new PeerlaneError("gpu-exported", `the buffer ${buffer.name} is exported`, {
        place: formatBdf(this.bdf),
        remedy: "revoke the export, and wait for it, before the buffer is freed",
      });
    }
    this.exports.delete(buffer);
    this.places.give(buffer.place, buffer.sizeBytes);
    buffer.setPlace(null);
    this.buffers.delete(buffer);
  }

  /** True when the window shows all of it. */
  isVisible(buffer: GpuBuffer): boolean {
    const { place } = buffer;
    if (place.kind !== "vram") return false;
    const { base, limit } = this.visible;
    return place.offset >= base && place.offset + buffer.sizeBytes <= limit;
  }

  /**
   * Moves the bytes to the first of these places that has room; for exports, when no mapping of the
   * buffer is left. Throws `gpu-no-memory`, `dma-map`, `gpu-job`; the buffer is as it was then.
   */
  async relocate(buffer: GpuBuffer, targets: readonly RelocationTarget[]): Promise<void> {
    const from = buffer.place;
    const to = this.places.take(buffer.sizeBytes, targets);
    try {
      await this.engines.copyPlace(from, to, buffer.sizeBytes);
    } catch (error) {
      this.places.give(to, buffer.sizeBytes);
      throw error;
    }
    buffer.setPlace(to);
    this.places.give(from, buffer.sizeBytes);
  }

  // --- work

  /** From a DMA address of this GPU into the buffer. Rejects with `gpu-job`. */
  async copyIn(source: number, buffer: GpuBuffer, offset: number, length: number): Promise<void> {
    await this.engines.copyIn(source, buffer.vramAt(offset, length), length);
  }

  /** From the buffer to a DMA address of this GPU. */
  async copyOut(
    buffer: GpuBuffer,
    offset: number,
    destination: number,
    length: number,
  ): Promise<void> {
    await this.engines.copyOut(buffer.vramAt(offset, length), destination, length);
  }

  /**
   * From any I/O memory that this GPU may use (host memory, a lease of another device's memory, an
   * imported dma-buf) into the buffer. Throws `gpu-map` when it has no address for this GPU.
   */
  async copyFrom(
    memory: IoMemory,
    at: number,
    buffer: GpuBuffer,
    offset: number,
    length: number,
  ): Promise<void> {
    await this.mapped(memory, at, length, Direction.fromMemory, (address) =>
      this.copyIn(address, buffer, offset, length),
    );
  }

  async copyTo(
    buffer: GpuBuffer,
    offset: number,
    memory: IoMemory,
    at: number,
    length: number,
  ): Promise<void> {
    await this.mapped(memory, at, length, Direction.toMemory, (address) =>
      this.copyOut(buffer, offset, address, length),
    );
  }

  async fill(buffer: GpuBuffer, offset: number, length: number, value: number): Promise<void> {
    await this.engines.fill(buffer.vramAt(offset, length), length, value);
  }

  /** What the GPU computes over the buffer's bytes as it sees them. */
  async reduce(
    kernel: GpuKernel,
    buffer: GpuBuffer,
    offset = 0,
    length = buffer.sizeBytes,
  ): Promise<GpuResult> {
    return this.engines.reduce(kernel, buffer.vramAt(offset, length), length);
  }

  /** CRC32C of the buffer's bytes, computed by the GPU. */
  async crc32c(buffer: GpuBuffer, offset = 0, length = buffer.sizeBytes): Promise<number> {
    return (await this.reduce(GpuKernel.crc32c, buffer, offset, length)).lo;
  }

  /**
   * Holds work inside VRAM back until the 32-bit word at `offset` is `value` or later (modulo
   * 2^32): how a kernel waits for what a peer writes. Rejects with `gpu-job` after `timeoutNs`.
   */
  async acquire(
    buffer: GpuBuffer,
    offset: number,
    value: number,
    timeoutNs = ACQUIRE_NS,
  ): Promise<void> {
    await this.engines.acquire(buffer.vramAt(offset, 4), value, timeoutNs);
  }

  private async mapped(
    memory: IoMemory,
    at: number,
    length: number,
    direction: Direction,
    work: (address: number) => Promise<void>,
  ): Promise<void> {
    const held = isHoldable(memory);
    const begun = !held || memory.begin();
    const address = begun ? memory.map(this.dma.id, at, length, direction) : -MapStatus.revoked;
    if (address < 0) {
      if (held && begun) memory.end();
      throw new PeerlaneError("gpu-map", `no address for this GPU: ${MAP_STATUS_NAMES[-address]}`, {
        place: formatBdf(this.bdf),
        remedy: "derive the memory for this GPU, and use it while its owner offers it",
        details: { mapStatus: -address, at, length },
      });
    }
    try {
      await work(address);
    } finally {
      if (memory.needsUnmap) memory.unmap(this.dma.id, address, length);
      if (held) memory.end();
    }
  }

  // --- sharing

  /** All visible VRAM as a provider, for leases of buffers. Another one after a window move. */
  get aperture(): Provider {
    return this.window.provider;
  }

  /** Offset of a visible buffer in the aperture. Throws `gpu-hidden`, `gpu-not-resident`. */
  apertureOffset(buffer: GpuBuffer): number {
    const offset = buffer.vramAt(0, buffer.sizeBytes);
    if (this.isVisible(buffer)) return offset - this.visible.base;
    throw new PeerlaneError("gpu-hidden", `the window does not show all of ${buffer.name}`, {
      place: formatBdf(this.bdf),
      remedy: "allocate it visible, or move the window over it",
      details: { offset, sizeBytes: buffer.sizeBytes, ...this.visible },
    });
  }

  /** A lease of a visible buffer for these devices. Throws what {@link openLease} throws. */
  lease(buffer: GpuBuffer, initiators: readonly DmaDevice[], rules: RouteRules): Lease {
    const range = { offset: this.apertureOffset(buffer), length: buffer.sizeBytes };
    return openLease({ provider: this.aperture, range, initiators, rules });
  }

  /**
   * Sets visible VRAM aside as a provider of its own, with a pool, for orchestrators that stage
   * payload. Its teardown gives the VRAM back. `registry` null: not published.
   */
  publish(sizeBytes: number, registry: ProviderRegistry | null): Provider {
    const buffer = this.allocate(sizeBytes, "visible", "published");
    const at = buffer.vramAt(0, sizeBytes);
    const provider = this.window.carve(at, sizeBytes, () => this.free(buffer));
    registry?.publish(provider);
    return provider;
  }

  /** Makes the buffer a dma-buf. Once per buffer: throws `gpu-exported`. */
  exportBuffer(buffer: GpuBuffer, options: GpuExportOptions): GpuExport {
    if (this.exports.has(buffer)) {
      throw new PeerlaneError("gpu-exported", `the buffer ${buffer.name} is exported already`, {
        place: formatBdf(this.bdf),
        remedy: "attach further importers to the export it has",
      });
    }
    const exported = new GpuExport(this, buffer, options);
    this.exports.set(buffer, exported);
    return exported;
  }

  /** Attaches this GPU to somebody's dma-buf, mapped: a memory for copies from and to it. */
  async importBuffer(buffer: DmaBuf): Promise<DmaBufImport> {
    const imported = await importDmaBuf(buffer, [this.dma]);
    await imported.map();
    return imported;
  }

  // --- the window

  /**
   * Shows another part of VRAM. To importers of exported buffers it is a move; other leases of the
   * aperture are revoked and drained. Throws `gpu-window`, and `gpu-window-busy` while VRAM is
   * published or an exported buffer is pinned.
   */
  moveWindow(base: number): Promise<void> {
    return this.changeWindow(() => this.window.moveWindow(base));
  }

  /** Sizes that the aperture BAR can have, ascending; empty when it is not resizable. */
  get apertureSizes(): readonly number[] {
    return this.window.sizes;
  }

  /**
   * Gives the aperture BAR another size, up to what it had when it was attached. Otherwise as
   * {@link moveWindow}. Throws `gpu-bar-size` too.
   */
  resizeAperture(sizeBytes: number): Promise<void> {
    return this.changeWindow(() => this.window.resize(sizeBytes));
  }

  private async changeWindow(change: () => Promise<void>): Promise<void> {
    const shared = [...this.exports.values()].filter(({ dmaBuf }) => dmaBuf.state !== "revoked");
    const pinned = shared.filter(({ dmaBuf }) => dmaBuf.isPinned);
    this.window.checkIdle(pinned.map(({ name }) => name));
    // A move of every export at once: one inside the other, the change innermost.
    const moveAll = shared.reduce(
      (inner, { dmaBuf }) =>
        () =>
          dmaBuf.move(inner),
      change,
    );
    await moveAll();
  }

  poll(): number {
    return this.engines.poll();
  }

  /** Revokes what is shared, waits for it, stops the device. Jobs under way fail. */
  async close(): Promise<void> {
    for (const exported of this.exports.values()) await exported.revoke("GPU closed");
    await this.window.close();
    this.control.close();
    this.engines.close();
  }

  inspect(): Tree {
    return {
      function: formatBdf(this.bdf),
      vramBytes: this.vramBytes,
      freeBytes: this.freeBytes,
      aperture: this.window.inspect(),
      ...this.engines.inspect(),
      buffers: [...this.buffers].map((buffer) => buffer.inspect()),
      exports: [...this.exports.values()].map(({ dmaBuf }) => dmaBuf.inspect()),
    };
  }
}
