/**
 * A linear queue: extents of other queues, one after the other, as device-mapper's linear target
 * and logical volumes are. One extent of one queue is a partition.
 *
 * Invariants: extents are whole blocks of the whole and lie inside their queues; a bio that crosses
 * an extent's end is cut there. Leaves out: changing the table while it is in use.
 */

import { SECTOR_BYTES } from "../operation.ts";
import type { BlockQueue } from "../queue.hot.ts";
import { badStack, limitsOver, partsOf, type StackOptions } from "./stack-options.ts";
import { StackedQueue } from "./stacked-queue.hot.ts";

export interface LinearExtent {
  readonly queue: BlockQueue;
  /** First byte of the extent in its queue. Default 0. */
  readonly offsetBytes?: number;
  /** Default: to the end of the queue. */
  readonly sizeBytes?: number;
}

export class LinearQueue extends StackedQueue {
  /** First sector of each extent in the whole, and the end of the last. */
  private readonly starts: Float64Array;
  /** First sector of each extent in its queue. */
  private readonly offsets: Float64Array;
  private last = 0;

  /** Throws `bad-stack` when an extent is empty, not whole blocks, or leaves its queue. */
  constructor(extents: readonly LinearExtent[], options: StackOptions = {}) {
    const legs = extents.map(({ queue }) => queue);
    const limits = limitsOver(legs, options.inherit ?? "all", 0);
    const block = limits.logicalBlockBytes;
    const starts = new Float64Array(extents.length + 1);
    extents.forEach(({ queue, offsetBytes = 0, sizeBytes }, i) => {
      const room = queue.capacityBytes - offsetBytes;
      const size = sizeBytes ?? room - (room % block);
      if (!(size > 0 && size <= room) || size % block !== 0 || offsetBytes % block !== 0) {
        badStack(
          `extent ${i} is no part of ${queue.name}`,
          `give whole blocks of ${block} bytes within its ${queue.capacityBytes} bytes`,
          { offsetBytes, sizeBytes: size },
        );
      }
      starts[i + 1] = starts[i] + size / SECTOR_BYTES;
    });
    const capacityBytes = starts[extents.length] * SECTOR_BYTES;
    super(options.name ?? "linear", legs, limits, capacityBytes, partsOf(options, legs.length));
    this.starts = starts;
    this.offsets = Float64Array.from(
      extents,
      ({ offsetBytes }) => (offsetBytes ?? 0) / SECTOR_BYTES,
    );
  }

  protected find(sector: number): void {
    const { starts, offsets, run } = this;
    let at = this.last;
    if (sector < starts[at] || sector >= starts[at + 1]) {
      at = this.search(sector);
      this.last = at;
    }
    run.leg = at;
    run.sector = offsets[at] + (sector - starts[at]);
    run.bytes = (starts[at + 1] - sector) * SECTOR_BYTES;
  }

  private search(sector: number): number {
    const { starts } = this;
    let low = 0;
    let high = starts.length - 2;
    while (low < high) {
      const middle = (low + high + 1) >> 1;
      if (starts[middle] <= sector) low = middle;
      else high = middle - 1;
    }
    return low;
  }
}
