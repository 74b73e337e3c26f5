/**
 * The driver of the model GPU: VRAM and who has it, the window and the provider behind it, copies
 * and reductions. Its DMA goes through the mapping of a {@link DmaDevice} as everybody's does.
 *
 * Invariants: a peer reaches VRAM through the aperture only, under a lease of the aperture's
 * provider; the window moves when no lease of it is left. Jobs of one kind end in order (copies in,
 * copies out, and what happens inside VRAM have a channel each); between kinds, await.
 *
 * Leaves out: interrupts (poll), processes and their isolation, an MMU.
 */

import {
  formatBdf,
  formatBytes,
  highHalf,
  type Inspectable,
  lowHalf,
  PeerlaneError,
  type Poller,
  type Tree,
  viewOf,
} from "../core/index.ts";
import type { DmaBuffer, DmaDevice } from "../dma/index.ts";
import { Direction, type IoMemory, isHoldable, MAP_STATUS_NAMES } from "../memory/index.ts";
import {
  type Lease,
  openLease,
  Provider,
  type ProviderRegistry,
  type RouteRules,
} from "../p2p/index.ts";
import {
  GpuChannelCtrl,
  GpuChannelReg,
  GpuChannelState,
  GpuDesc,
  GpuFence,
  GpuKernel,
  GpuOp,
  GpuReg,
  gpuDoorbell,
} from "../spec/gpu/index.ts";
import { GpuBuffer, type GpuPlace } from "./buffer.ts";
import { GpuControl } from "./control.ts";
import { type GpuResult, PromisedQueue } from "./jobs.ts";
import { GpuQueue, type QueueHardware } from "./queue.hot.ts";
import { barSizesOffered, resizeBar } from "./resize-bar.ts";
import { type VisibleRange, VramAllocator, type VramPlacement } from "./vram.ts";

export interface GpuAttachOptions {
  /** log2 of the entries of each ring. Default 6. */
  readonly ringLog?: number;
}

const RING_LOG = 6;
/** Channels that the driver uses: copies in, copies out, what happens inside VRAM. */
const IN = 0;
const OUT = 1;
const LOCAL = 2;

interface Ring {
  readonly jobs: PromisedQueue;
  readonly buffers: readonly DmaBuffer[];
}

export class GpuDevice implements QueueHardware, Poller, Inspectable {
  readonly dma: DmaDevice;
  readonly vramBytes: number;
  /** What firmware gave the aperture: what it may grow back to. */
  readonly assignedBytes: number;
  private readonly control: GpuControl;
  private readonly allocator: VramAllocator;
  private readonly buffers = new Set<GpuBuffer>();
  private readonly rings: Ring[] = [];
  private readonly carvings = new Set<Provider>();
  private provider: Provider;

  private constructor(control: GpuControl) {
    this.control = control;
    this.dma = control.dma;
    this.vramBytes = control.vramBytes;
    this.assignedBytes = control.apertureBytes;
    this.allocator = new VramAllocator(control.vramBytes);
    this.provider = this.makeProvider();
  }

  /**
   * Enables the function and its channels. Throws `no-gpu` when the function is none of this
   * interface, `no-bar`, `dma-map`, `bad-provider-range` when the aperture has no address.
   */
  static attach(dma: DmaDevice, options: GpuAttachOptions = {}): GpuDevice {
    const control = new GpuControl(dma);
    const device = new GpuDevice(control);
    const log = Math.min(options.ringLog ?? RING_LOG, control.ringLogMax);
    const used = Math.min(control.channels, LOCAL + 1);
    for (let channel = 0; channel < used; channel++) device.openChannel(channel, log);
    return device;
  }

  // --- VRAM

  /** Where the window shows VRAM, in VRAM offsets. */
  get visible(): VisibleRange {
    const base = this.control.window;
    return { base, limit: Math.min(base + this.control.apertureBytes, this.vramBytes) };
  }

  /** All that is visible as a provider, for leases of buffers. Another one after a window move. */
  get aperture(): Provider {
    return this.provider;
  }

  get freeBytes(): number {
    return this.allocator.freeBytes;
  }

  /** VRAM in whole pages, contents as they were. Throws `gpu-no-memory`. */
  allocate(sizeBytes: number, placement: VramPlacement = "visible", name = "buffer"): GpuBuffer {
    const offset = this.takeVram(sizeBytes, placement);
    if (offset < 0) {
      const { base, limit } = this.visible;
      throw new PeerlaneError(
        "gpu-no-memory",
        `no ${formatBytes(sizeBytes)} of ${placement} VRAM`,
        {
          place: formatBdf(this.dma.bdf),
          remedy:
            placement === "visible" && limit - base < this.vramBytes
              ? `the window shows ${formatBytes(limit - base)}: move it, or resize the BAR`
              : "free buffers",
          details: { sizeBytes, freeBytes: this.freeBytes, windowBase: base, windowLimit: limit },
        },
      );
    }
    const buffer = new GpuBuffer(name, sizeBytes, { kind: "vram", offset });
    this.buffers.add(buffer);
    return buffer;
  }

  /** Takes VRAM; -1 when there is none. Give it back with {@link giveVram}. */
  takeVram(sizeBytes: number, placement: VramPlacement): number {
    if (!(Number.isSafeInteger(sizeBytes) && sizeBytes > 0)) return -1;
    return this.allocator.alloc(sizeBytes, placement, this.visible);
  }

  giveVram(offset: number, sizeBytes: number): void {
    this.allocator.free(offset, sizeBytes);
  }

  /** Gives the buffer's memory back. Nobody may use it any more: revoke exports first. */
  free(buffer: GpuBuffer): void {
    const { place } = buffer;
    if (place.kind === "vram") this.giveVram(place.offset, buffer.sizeBytes);
    else this.giveHost(place, buffer.sizeBytes);
    buffer.setPlace(null);
    this.buffers.delete(buffer);
  }

  /** Gives back what a place in host memory took. */
  giveHost(place: Extract<GpuPlace, { kind: "host" }>, bytes: number): void {
    this.dma.unmap(place.dma, bytes);
    this.dma.fn.machine.freeHost(place.region);
  }

  /** True when the window shows all of it. */
  isVisible(buffer: GpuBuffer): boolean {
    const { place } = buffer;
    if (place.kind !== "vram") return false;
    const { base, limit } = this.visible;
    return place.offset >= base && place.offset + buffer.sizeBytes <= limit;
  }

  // --- work

  /** From a DMA address of this GPU into the buffer. Rejects with `gpu-job`. */
  async copyIn(source: number, buffer: GpuBuffer, offset: number, length: number): Promise<void> {
    const destination = buffer.vramAt(offset, length);
    await this.ring(IN).run({ opcode: GpuOp.copyIn, source, destination, length });
  }

  /** From the buffer to a DMA address of this GPU. */
  async copyOut(
    buffer: GpuBuffer,
    offset: number,
    destination: number,
    length: number,
  ): Promise<void> {
    const source = buffer.vramAt(offset, length);
    await this.ring(OUT).run({ opcode: GpuOp.copyOut, source, destination, length });
  }

  /**
   * Between any I/O memory that this GPU may use (host memory, a lease of another device's memory,
   * an imported dma-buf) and the buffer. Throws `gpu-map` when it has no address for this GPU.
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

  /** Inside VRAM, between offsets of it. */
  async copyLocal(source: number, destination: number, length: number): Promise<void> {
    await this.ring(LOCAL).run({ opcode: GpuOp.copyLocal, source, destination, length });
  }

  async fill(buffer: GpuBuffer, offset: number, length: number, value: number): Promise<void> {
    const destination = buffer.vramAt(offset, length);
    await this.ring(LOCAL).run({ opcode: GpuOp.fill, destination, length, value });
  }

  /** What the GPU computes over the buffer's bytes as it sees them. */
  reduce(
    kernel: GpuKernel,
    buffer: GpuBuffer,
    offset = 0,
    length = buffer.sizeBytes,
  ): Promise<GpuResult> {
    const source = buffer.vramAt(offset, length);
    return this.ring(LOCAL).run({ opcode: GpuOp.reduce, kernel, source, length });
  }

  /** CRC32C of the buffer's bytes, computed by the GPU. */
  async crc32c(buffer: GpuBuffer, offset = 0, length = buffer.sizeBytes): Promise<number> {
    return (await this.reduce(GpuKernel.crc32c, buffer, offset, length)).lo;
  }

  /**
   * Holds work inside VRAM back until the 32-bit word at `offset` is `value` or later. Rejects with
   * `gpu-job` when that takes longer than `timeoutNs`.
   */
  async acquire(
    buffer: GpuBuffer,
    offset: number,
    value: number,
    timeoutNs = 1_000_000,
  ): Promise<void> {
    this.control.write(GpuReg.SEMNS, Math.min(timeoutNs, 0xffffffff));
    const source = buffer.vramAt(offset, 4);
    await this.ring(LOCAL).run({ opcode: GpuOp.acquire, source, value: value >>> 0 });
  }

  // --- the aperture

  /** A lease of a visible buffer for these devices. Throws what {@link openLease} throws. */
  lease(buffer: GpuBuffer, initiators: readonly DmaDevice[], rules: RouteRules): Lease {
    const length = buffer.sizeBytes;
    const range = { offset: this.apertureOffset(buffer), length };
    return openLease({ provider: this.provider, range, initiators, rules });
  }

  /** Offset of a visible buffer in the aperture BAR. Throws `gpu-hidden`. */
  apertureOffset(buffer: GpuBuffer): number {
    const offset = buffer.vramAt(0, buffer.sizeBytes);
    if (this.isVisible(buffer)) return offset - this.visible.base;
    throw new PeerlaneError("gpu-hidden", `the window does not show all of ${buffer.name}`, {
      place: formatBdf(this.dma.bdf),
      remedy: "allocate it visible, or move the window over it",
      details: { offset, sizeBytes: buffer.sizeBytes, ...this.visible },
    });
  }

  /**
   * Sets visible VRAM aside as a provider of its own, with a pool, for orchestrators that stage
   * payload. Its teardown gives the VRAM back. `registry` null: not published.
   */
  publish(sizeBytes: number, registry: ProviderRegistry | null): Provider {
    const buffer = this.allocate(sizeBytes, "visible", "published");
    const part = { offset: this.apertureOffset(buffer), sizeBytes };
    const provider = Provider.fromBar(this.dma.fn, this.control.apertureBar, part, {
      release: () => {
        this.carvings.delete(provider);
        this.free(buffer);
      },
    });
    this.carvings.add(provider);
    registry?.publish(provider);
    return provider;
  }

  /**
   * Shows another part of VRAM. Leases of the aperture are revoked and drained first; published
   * providers are not: throws `gpu-window-busy` while there are any.
   */
  moveWindow(base: number): Promise<void> {
    return this.changeAperture(`window moved to ${base}`, () => this.control.setWindow(base));
  }

  /** Sizes that the aperture BAR can have, ascending; empty when it is not resizable. */
  get apertureSizes(): readonly number[] {
    return barSizesOffered(this.dma.fn, this.control.apertureBar);
  }

  /**
   * Gives the aperture BAR another size, up to what it had when it was attached. Leases as with
   * {@link moveWindow}. Throws `gpu-bar-size`, `gpu-window-busy`.
   */
  resizeAperture(sizeBytes: number): Promise<void> {
    return this.changeAperture(`aperture resized to ${sizeBytes}`, () =>
      resizeBar(this.dma.fn, this.control.apertureBar, sizeBytes, this.assignedBytes),
    );
  }

  private async changeAperture(why: string, change: () => void): Promise<void> {
    if (this.carvings.size > 0) {
      throw new PeerlaneError(
        "gpu-window-busy",
        "VRAM that is published lies behind the aperture",
        {
          place: formatBdf(this.dma.bdf),
          remedy: "tear the published providers down first",
          details: { providers: this.carvings.size },
        },
      );
    }
    await this.provider.teardown(why);
    try {
      change();
    } finally {
      this.provider = this.makeProvider();
    }
  }

  private makeProvider(): Provider {
    const { base, limit } = this.visible;
    const part = { offset: 0, sizeBytes: limit - base };
    return Provider.fromBar(this.dma.fn, this.control.apertureBar, part);
  }

  // --- channels

  private openChannel(channel: number, log: number): void {
    const { control, dma } = this;
    const ring = dma.allocCoherent(GpuDesc.sizeBytes << log);
    const fences = dma.allocCoherent(GpuFence.sizeBytes << log);
    control.writeChannel(channel, GpuChannelReg.RINGLO, lowHalf(ring.dma));
    control.writeChannel(channel, GpuChannelReg.RINGHI, highHalf(ring.dma));
    control.writeChannel(channel, GpuChannelReg.LOG, log);
    control.writeChannel(channel, GpuChannelReg.CTRL, GpuChannelCtrl.enable.bits);
    const views = [viewOf(ring.bytes), viewOf(fences.bytes)] as const;
    const queue = new GpuQueue(channel, this, views[0], views[1], fences.dma, log);
    const jobs = new PromisedQueue(queue, `${formatBdf(dma.bdf)} channel ${channel}`);
    this.rings.push({ jobs, buffers: [ring, fences] });
  }

  /** A device with fewer channels shares the last one. */
  private ring(use: number): PromisedQueue {
    return (this.rings[Math.min(use, this.rings.length - 1)] as Ring).jobs;
  }

  ringDoorbell(channel: number, put: number): void {
    const { region, doorbellsAt } = this.control;
    region.write32(doorbellsAt + gpuDoorbell(channel), put);
  }

  isRunning(channel: number): boolean {
    const state = this.control.readChannel(channel, GpuChannelReg.STATE);
    return state === GpuChannelState.idle || state === GpuChannelState.running;
  }

  poll(): number {
    let done = 0;
    for (const { jobs } of this.rings) done += jobs.poll();
    return done;
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
    const address = begun ? memory.map(this.dma.id, at, length, direction) : -2;
    if (address < 0) {
      if (held && begun) memory.end();
      throw new PeerlaneError("gpu-map", `no address for this GPU: ${MAP_STATUS_NAMES[-address]}`, {
        place: formatBdf(this.dma.bdf),
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

  /** Stops the device. Jobs under way fail, leases are revoked. Revoke exports before. */
  async close(): Promise<void> {
    this.control.close();
    for (const { jobs } of this.rings) jobs.queue.fail();
    for (const carving of [...this.carvings]) await carving.teardown("GPU closed");
    await this.provider.teardown("GPU closed");
    for (const { buffers } of this.rings.splice(0)) {
      for (const buffer of buffers) this.dma.freeCoherent(buffer);
    }
  }

  inspect(): Tree {
    const { base, limit } = this.visible;
    return {
      function: formatBdf(this.dma.bdf),
      vramBytes: this.vramBytes,
      freeBytes: this.freeBytes,
      aperture: { bar: this.control.apertureBar, windowBase: base, windowLimit: limit },
      channels: this.rings.map(({ jobs: { queue } }) => ({
        index: queue.index,
        pending: queue.pending,
        submitted: queue.submitted,
        failed: queue.failed,
      })),
      buffers: [...this.buffers].map((buffer) => buffer.inspect()),
      provider: this.provider.inspect(),
      published: [...this.carvings].map((provider) => provider.inspect()),
    };
  }
}
