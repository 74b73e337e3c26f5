/**
 * Memory behind BARs and nothing else: what stands behind a function that no model was given for,
 * and a GPU's device memory (a BAR of 128 GiB costs only what is written).
 *
 * Invariants: it never issues a request; a reset keeps the contents, as device memory with its own
 * power does, unless `losesContents` says otherwise.
 */

import { type Copier, SparseMemory, type Tree } from "../../core/index.ts";
import type { BarRegion, DeviceModel, DevicePort } from "../device.ts";

export interface DeviceMemoryOptions {
  readonly copier: Copier;
  /** Sizes of memory BARs by index; 0 for none. */
  readonly barSizes: readonly number[];
  /** `dumb memory` when absent. */
  readonly kind?: string;
  readonly losesContents?: boolean;
}

export class DeviceMemory implements DeviceModel {
  readonly kind: string;
  /** By BAR index; null where there is no memory BAR. */
  readonly memories: readonly (SparseMemory | null)[];
  private readonly losesContents: boolean;

  constructor(options: DeviceMemoryOptions) {
    this.kind = options.kind ?? "dumb memory";
    this.losesContents = options.losesContents ?? false;
    this.memories = options.barSizes.map((sizeBytes) =>
      sizeBytes === 0 ? null : new SparseMemory(sizeBytes, options.copier),
    );
  }

  attach(_port: DevicePort): void {
    // It never issues a request.
  }

  barRegions(): readonly BarRegion[] {
    return this.memories.flatMap((memory, bar) =>
      memory === null
        ? []
        : [{ bar, offset: 0, sizeBytes: memory.sizeBytes, registers: null, memory }],
    );
  }

  step(): void {
    // Nothing wakes it.
  }

  reset(): void {
    if (!this.losesContents) return;
    for (const memory of this.memories) memory?.clear();
  }

  inspect(): Tree {
    return {
      bars: this.memories.flatMap((memory, bar) =>
        memory === null
          ? []
          : [{ bar, sizeBytes: memory.sizeBytes, residentBytes: memory.residentBytes }],
      ),
    };
  }
}
