/**
 * A region of host memory as disks see it, for namespaces: mapped once per set of disks, since many
 * namespaces are on the same ones.
 */

import type { HostRegion } from "../backing/interface.ts";
import { cpuMemory, type HostMemory, mapHostMemory } from "../memory/index.ts";
import type { Namespace } from "./namespace.ts";

export class DiskViews {
  private readonly region: HostRegion;
  /** By the identifiers of a namespace's disks. */
  private readonly views = new Map<string, HostMemory>();

  constructor(region: HostRegion) {
    this.region = region;
  }

  /** Mapped for none where no disk does DMA: the CPU reaches it all the same. Throws `dma-map`. */
  of({ initiators }: Namespace): HostMemory {
    const key = initiators.map(({ id }) => id).join();
    let view = this.views.get(key);
    if (view === undefined) {
      const { region } = this;
      view = initiators.length === 0 ? cpuMemory(region) : mapHostMemory(region, initiators);
      this.views.set(key, view);
    }
    return view;
  }

  /** Unmaps all; the region stays. */
  close(): void {
    for (const view of this.views.values()) view.close();
  }
}
