/**
 * Walking the data of a bio or of a request's bios without moving their iterators: vector by
 * vector, or in pieces of the caller's size. Preallocated; one walker per user.
 */

import type { IoMemory } from "../memory/index.ts";
import { type Bio, NO_MEMORY } from "./bio.hot.ts";

export class VecWalker {
  /** The current piece. */
  memory: IoMemory = NO_MEMORY;
  offset = 0;
  length = 0;
  private bio: Bio | null = null;
  private followsList = false;
  private index = 0;
  private done = 0;
  private left = 0;

  /** Starts at the bio's iterator; `followsList`: goes on with `bio.next` after it. */
  start(bio: Bio, followsList = false): void {
    this.followsList = followsList;
    this.enter(bio);
  }

  private enter(bio: Bio): void {
    this.bio = bio;
    this.index = bio.vecBase + bio.vecIndex;
    this.done = bio.vecDone;
    this.left = bio.sizeBytes;
  }

  /** Moves to the next piece, of at most `bytesMax`. False at the end. */
  next(bytesMax: number): boolean {
    while (this.left === 0) {
      const after: Bio | null = this.followsList && this.bio !== null ? this.bio.next : null;
      if (after === null) {
        this.memory = NO_MEMORY;
        this.bio = null;
        return false;
      }
      this.enter(after);
    }
    const bio = this.bio as Bio;
    const rest = bio.lengths[this.index] - this.done;
    const length = Math.min(rest, this.left, bytesMax);
    this.memory = bio.memories[this.index];
    this.offset = bio.offsets[this.index] + this.done;
    this.length = length;
    this.left -= length;
    if (length === rest) {
      this.index++;
      this.done = 0;
    } else {
      this.done += length;
    }
    return true;
  }
}
