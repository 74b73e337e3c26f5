/**
 * What linear and raid0 share: a bio is cut where it goes on in another leg, each part is chained
 * to it and moved to its leg with the re-check of `remap`, and the bio ends after its last part
 * with the first error. An address is never looked at: the leg's own queue asks the memory for the
 * address of the leg's own device.
 *
 * Invariants: every submitted bio ends once; parts come from one pool of a fixed size; what finds
 * none waits, in order, and goes on from `poll`.
 * Leaves out: redundancy (a leg that fails fails the bio); reference tags that a bio brings itself
 * in metadata memory are not rewritten for the leg, whose controller refuses them; ordering.
 */

import type { Tree } from "../../core/index.ts";
import { type Bio, BioPool } from "../bio.hot.ts";
import { checkBio } from "../check.hot.ts";
import type { QueueLimits } from "../limits.ts";
import { BioOp, carriesData } from "../operation.ts";
import type { BlockQueue } from "../queue.hot.ts";
import { remap } from "../remap.hot.ts";
import { BlockStatus } from "../status.ts";
import { WaitList } from "../wait-list.hot.ts";
import { StackCounters } from "./stack-counters.ts";

/** Where a run of sectors is; one per queue, overwritten by each look-up. */
export class Run {
  leg = 0;
  /** First sector there. */
  sector = 0;
  /** Bytes from the sector asked for to the end of the run. */
  bytes = 0;
}

export abstract class StackedQueue implements BlockQueue {
  readonly name: string;
  readonly limits: QueueLimits;
  readonly features: number;
  readonly initiator = 0;
  readonly capacityBytes: number;
  readonly legs: readonly BlockQueue[];
  readonly counters: StackCounters;
  protected readonly run = new Run();
  protected readonly parts: BioPool;
  private readonly waiting = new WaitList();

  constructor(
    name: string,
    legs: readonly BlockQueue[],
    limits: QueueLimits,
    capacityBytes: number,
    parts: number,
  ) {
    this.name = name;
    this.legs = legs;
    this.limits = limits;
    this.features = limits.features;
    this.capacityBytes = capacityBytes;
    this.counters = new StackCounters(legs.length);
    this.parts = new BioPool(parts, 0);
  }

  /** Fills `run` for a sector below the end. */
  protected abstract find(sector: number): void;

  submit(bio: Bio): void {
    this.counters.bios++;
    bio.begin();
    const status = checkBio(bio, this.limits, this.capacityBytes);
    if (status !== BlockStatus.ok) {
      this.counters.rejected++;
      bio.end(status);
      return;
    }
    bio.next = null;
    if (!this.waiting.isEmpty || !this.place(bio)) this.waiting.push(bio);
  }

  kick(): void {
    const { legs } = this;
    for (let i = 0; i < legs.length; i++) legs[i].kick();
  }

  poll(): number {
    const { legs } = this;
    let done = 0;
    for (let i = 0; i < legs.length; i++) done += legs[i].poll();
    let placed = 0;
    while (!this.waiting.isEmpty && this.placeWaiting()) placed++;
    if (placed > 0) this.kick();
    return done + placed;
  }

  /** Hands all parts to the legs. False when parts ran out; what is left is still to be placed. */
  private place(bio: Bio): boolean {
    let isPlaced: boolean;
    if (bio.op === BioOp.flush) isPlaced = this.placeFlush(bio);
    else if (carriesData(bio.op)) isPlaced = this.placeRuns(bio);
    else isPlaced = this.placeRange(bio);
    if (!isPlaced) this.counters.busy++;
    return isPlaced;
  }

  protected placeRuns(bio: Bio): boolean {
    const { run, parts } = this;
    for (;;) {
      this.find(bio.sector);
      const { leg, sector, bytes } = run;
      const isLast = bio.sizeBytes <= bytes;
      const part = isLast ? parts.acquire() : bio.splitFront(bytes, parts);
      if (part === null) return false;
      if (isLast) part.cloneOf(bio);
      else this.counters.splits++;
      this.hand(bio, part, leg, sector);
      if (!isLast) continue;
      bio.end(BlockStatus.ok);
      return true;
    }
  }

  /** A range without data; a kind of queue that can do better than cutting it up does. */
  protected placeRange(bio: Bio): boolean {
    return this.placeRuns(bio);
  }

  /** Chains the part and moves it to a leg; it may end before this returns. */
  protected hand(bio: Bio, part: Bio, leg: number, sector: number): void {
    const { counters } = this;
    counters.parts[leg]++;
    part.chainTo(bio);
    const status = remap(part, this.legs[leg], sector);
    if (status === BlockStatus.ok) return;
    counters.refused[leg]++;
    if (status === BlockStatus.wrongInitiator) counters.wrongInitiator++;
  }

  /** To every leg: the data of one bio may be in the cache of any. */
  private placeFlush(bio: Bio): boolean {
    const { legs } = this;
    let part = this.takeParts(bio, legs.length);
    if (part === null) return false;
    for (let leg = 0; part !== null; leg++) {
      const next: Bio | null = part.next;
      this.hand(bio, part, leg, 0);
      part = next;
    }
    bio.end(BlockStatus.ok);
    return true;
  }

  /**
   * `count` clones of the bio as a list, or null when there are not as many. All at once: handing
   * one over may end another bio, whose owner may submit one that takes parts.
   */
  protected takeParts(bio: Bio, count: number): Bio | null {
    if (this.parts.available < count) return null;
    let head: Bio | null = null;
    for (let i = 0; i < count; i++) {
      const part = this.parts.acquire() as Bio;
      part.cloneOf(bio);
      part.next = head;
      head = part;
    }
    return head;
  }

  /** Places the first waiting bio. False when it has to wait on. */
  private placeWaiting(): boolean {
    // Off the list first: placing may end a bio, whose owner may submit another that waits.
    const bio = this.waiting.shift();
    if (this.place(bio)) return true;
    this.waiting.unshift(bio);
    return false;
  }

  inspect(): Tree {
    return {
      name: this.name,
      capacityBytes: this.capacityBytes,
      partsFree: this.parts.available,
      limits: this.limits.inspect(),
      counters: this.counters.inspect(),
      legs: this.legs.map((leg) => leg.inspect()),
    };
  }
}
