/**
 * The aperture: the part of VRAM that the window shows, as a provider for leases, and parts of it
 * set aside as providers of their own.
 *
 * Invariants: window and BAR size change only when no lease of the aperture is left and nothing is
 * set aside; then there is another provider. `aperture offset = VRAM offset - window`.
 */

import { formatBdf, type Inspectable, PeerlaneError, type Tree } from "../core/index.ts";
import { Provider } from "../p2p/index.ts";
import type { GpuControl } from "./control.ts";
import { barSizesOffered, resizeBar } from "./resize-bar.ts";
import type { VisibleRange } from "./vram.ts";

export class GpuAperture implements Inspectable {
  /** What firmware gave the BAR: what it may grow back to. */
  readonly assignedBytes: number;
  private readonly control: GpuControl;
  private readonly carvings = new Set<Provider>();
  private current: Provider;

  /** Throws `bad-provider-range` when the BAR has no address. */
  constructor(control: GpuControl) {
    this.control = control;
    this.assignedBytes = control.apertureBytes;
    this.current = this.makeProvider();
  }

  /** Where the window shows VRAM, in VRAM offsets. */
  get visible(): VisibleRange {
    const base = this.control.window;
    const limit = Math.min(base + this.control.apertureBytes, this.control.vramBytes);
    return { base, limit };
  }

  /** All that is visible. Another one after a change of window or size. */
  get provider(): Provider {
    return this.current;
  }

  /** Sizes that the BAR can have, ascending; empty when it is not resizable. */
  get sizes(): readonly number[] {
    return barSizesOffered(this.control.dma.fn, this.control.apertureBar);
  }

  /** A provider of its own over visible VRAM. `release` gets the VRAM back after its teardown. */
  carve(vramOffset: number, sizeBytes: number, release: () => void): Provider {
    const part = { offset: vramOffset - this.visible.base, sizeBytes };
    const { dma, apertureBar } = this.control;
    const provider = Provider.fromBar(dma.fn, apertureBar, part, {
      release: () => {
        this.carvings.delete(provider);
        release();
      },
    });
    this.carvings.add(provider);
    return provider;
  }

  /** Throws `gpu-window-busy` while anything is set aside, or `pinned` names something. */
  checkIdle(pinned: readonly string[]): void {
    if (this.carvings.size + pinned.length === 0) return;
    throw new PeerlaneError("gpu-window-busy", "VRAM in use lies behind the aperture", {
      place: formatBdf(this.control.dma.bdf),
      remedy: "tear published providers down and unpin exported buffers first",
      details: { providers: this.carvings.size, pinned },
    });
  }

  async moveWindow(base: number): Promise<void> {
    await this.change(`window moved to ${base}`, () => this.control.setWindow(base));
  }

  async resize(sizeBytes: number): Promise<void> {
    const { dma, apertureBar } = this.control;
    await this.change(`aperture resized to ${sizeBytes}`, () =>
      resizeBar(dma.fn, apertureBar, sizeBytes, this.assignedBytes),
    );
  }

  /** Revokes the leases that are left, waits for them, changes, and offers what is visible then. */
  private async change(why: string, change: () => void): Promise<void> {
    await this.current.teardown(why);
    try {
      change();
    } finally {
      this.current = this.makeProvider();
    }
  }

  private makeProvider(): Provider {
    const { base, limit } = this.visible;
    const { dma, apertureBar } = this.control;
    return Provider.fromBar(dma.fn, apertureBar, { offset: 0, sizeBytes: limit - base });
  }

  async close(): Promise<void> {
    for (const carving of [...this.carvings]) await carving.teardown("GPU closed");
    await this.current.teardown("GPU closed");
  }

  inspect(): Tree {
    const { base, limit } = this.visible;
    return {
      bar: this.control.apertureBar,
      windowBase: base,
      windowLimit: limit,
      provider: this.current.inspect(),
      published: [...this.carvings].map((provider) => provider.inspect()),
    };
  }
}
