/**
 * Bios that wait for room in a queue, in the order they came: linked through the bios themselves,
 * so waiting takes no memory. A bio is on one list at most; off a list its `next` is null.
 */

import { assert } from "../core/index.ts";
import type { Bio } from "./bio.hot.ts";

export class WaitList {
  private head: Bio | null = null;
  private tail: Bio | null = null;

  get isEmpty(): boolean {
    return this.head === null;
  }

  push(bio: Bio): void {
    if (this.tail === null) this.head = bio;
    else this.tail.next = bio;
    this.tail = bio;
  }

  /** Takes the first off. */
  shift(): Bio {
    const { head } = this;
    assert(head !== null, "somebody waits");
    this.head = head.next;
    if (this.head === null) this.tail = null;
    head.next = null;
    return head;
  }

  /** Puts one back in front: it was first and found no room. */
  unshift(bio: Bio): void {
    bio.next = this.head;
    this.head = bio;
    if (this.tail === null) this.tail = bio;
  }
}
