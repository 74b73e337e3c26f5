/**
 * Flushes the write caches under namespaces, on the target's own account: what a controller does
 * before it says that its shutdown is complete. NVM Express Base Specification 2.0, section 3.6.1.
 */

import { type Bio, BioOp, type BioOwner, BioPool, QueueFeature } from "../block/index.ts";
import type { Namespace } from "./namespace.ts";

class Flush implements BioOwner {
  private readonly namespaces: readonly Namespace[];
  private readonly done: () => void;
  private left: number;

  constructor(namespaces: readonly Namespace[], done: () => void) {
    this.namespaces = namespaces;
    this.done = done;
    this.left = namespaces.length;
  }

  start(): void {
    for (const [tag, { queue, exclusive }] of this.namespaces.entries()) {
      const bio = new BioPool(1, 0).acquire() as Bio;
      bio.op = BioOp.flush;
      bio.owner = this;
      bio.tag = tag;
      exclusive.inFlight++;
      queue.submit(bio);
    }
  }

  bioDone(bio: Bio): void {
    const { exclusive } = this.namespaces[bio.tag] as Namespace;
    exclusive.inFlight--;
    if (exclusive.isHolding) exclusive.advance();
    if (--this.left === 0) this.done();
  }
}

/**
 * Flushes those that have a write cache; `done` is told once, perhaps before this returns. A cache
 * that cannot be flushed is a lost device: nobody is left to tell, as with a disk that loses power.
 */
export function flushAll(namespaces: readonly Namespace[], done: () => void): void {
  const cached = namespaces.filter(({ queue }) => (queue.features & QueueFeature.writeCache) !== 0);
  if (cached.length === 0) done();
  else new Flush(cached, done).start();
}
