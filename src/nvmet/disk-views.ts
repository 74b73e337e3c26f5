/**
 * A region of host memory as disks see it, for namespaces: mapped once per set of disks, since many
 * namespaces are on the same ones.
 */

import type { HostRegion } from "../backing/interface.ts";
import { type HostMemory, mapHostMemory } from "../memory/index.ts";
import type { Namespace } from "./namespace.ts";

export class DiskViews {
  private readonly region: HostRegion;
  /** By the identifiers of a namespace's disks. */
  private readonly views = new Map<string, HostMemory>();

  constructor(region: HostRegion) {
    this.region = region;
  }

  /** Null for a namespace whose disks do no DMA. Throws `dma-map`. */
  of({ initiators }: Namespace): HostMemory | null {
    if (initiators.length === 0) return null;
    const key = initiators.map(({ id }) => id).join();
    let view = this.views.get(key);
    if (view === undefined) {
      view = mapHostMemory(this.region, initiators);
      this.views.set(key, view);
    }
    return view;
  }

  /** Unmaps all; the region stays. */
  close(): void {
    for (const view of this.views.values()) view.close();
  }
}
