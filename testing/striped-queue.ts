/**
 * A striped queue over two or more others, small and not for production: what tests of stacked
 * namespaces stand on.
 */

import {
  type Bio,
  BioPool,
  type BlockQueue,
  BlockStatus,
  bytesToChunkEnd,
  carriesData,
  type QueueLimits,
  remap,
  SECTOR_BYTES,
  stackLimits,
} from "../src/block/index.ts";
import type { Tree } from "../src/core/index.ts";

export class StripedQueue implements BlockQueue {
  readonly name = "striped";
  readonly initiator = 0;
  readonly limits: QueueLimits;
  readonly features: number;
  readonly capacityBytes: number;
  private readonly legs: readonly BlockQueue[];
  private readonly chunkBytes: number;
  private readonly parts = new BioPool(256, 0);

  constructor(legs: readonly BlockQueue[], chunkBytes: number) {
    this.legs = legs;
    this.chunkBytes = chunkBytes;
    this.limits = stackLimits(legs.map(({ limits }) => limits));
    this.features = this.limits.features;
    this.capacityBytes = legs.length * Math.min(...legs.map(({ capacityBytes }) => capacityBytes));
  }

  submit(bio: Bio): void {
    bio.begin();
    while (carriesData(bio.op) && bio.sizeBytes > bytesToChunkEnd(bio.sector, this.chunkBytes)) {
      const part = bio.splitFront(bytesToChunkEnd(bio.sector, this.chunkBytes), this.parts);
      if (part === null) throw new Error("the test has enough parts");
      this.place(bio, part);
    }
    const rest = this.parts.acquire();
    if (rest === null) throw new Error("the test has enough parts");
    rest.cloneOf(bio);
    this.place(bio, rest);
    bio.end(BlockStatus.ok);
  }

  private place(bio: Bio, part: Bio): void {
    const chunkSectors = this.chunkBytes / SECTOR_BYTES;
    const chunk = Math.floor(part.sector / chunkSectors);
    const inChunk = part.sector % chunkSectors;
    part.chainTo(bio);
    const target = this.legs[chunk % this.legs.length];
    remap(part, target, Math.floor(chunk / this.legs.length) * chunkSectors + inChunk);
  }

  kick(): void {
    for (const leg of this.legs) leg.kick();
  }

  poll(): number {
    return this.legs.reduce((sum, leg) => sum + leg.poll(), 0);
  }

  inspect(): Tree {
    return { name: this.name, legs: this.legs.map((leg) => leg.inspect()) };
  }
}
