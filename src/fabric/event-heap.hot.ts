/**
 * The queue of future events of a simulation: a binary heap on typed arrays, so that arming a timer
 * allocates nothing once the heap has grown to its working size.
 *
 * Invariants: `pop` returns events in order of time, and events of one time in the order they were
 * pushed; times are never below the last popped time (the scheduler asserts that). Cancelling is
 * left out: a client ignores a token that it no longer expects.
 */

import { assert, TIMERS_MAX } from "../core/index.ts";
import type { TimerClient } from "./device.ts";

const INITIAL_CAPACITY = 64;

/** The event that `pop` removed. One per heap, overwritten by each `pop`. */
export class PoppedEvent {
  time = 0;
  client: TimerClient | null = null;
  token = 0;
}

export class EventHeap {
  readonly popped = new PoppedEvent();
  private times = new Float64Array(INITIAL_CAPACITY);
  private order = new Float64Array(INITIAL_CAPACITY);
  private tokens = new Float64Array(INITIAL_CAPACITY);
  private clients: (TimerClient | null)[] = new Array(INITIAL_CAPACITY).fill(null);
  private used = 0;
  private pushed = 0;

  get length(): number {
    return this.used;
  }

  /** Time of the first event; Infinity when there is none. */
  get firstTime(): number {
    return this.used === 0 ? Number.POSITIVE_INFINITY : this.times[0];
  }

  push(time: number, client: TimerClient, token: number): void {
    assert(this.used < TIMERS_MAX, "the simulation arms a bounded number of timers");
    if (this.used === this.times.length) this.grow();
    let at = this.used++;
    this.place(at, time, this.pushed++, client, token);
    while (at > 0) {
      const parent = (at - 1) >> 1;
      if (!this.isBefore(at, parent)) return;
      this.swap(at, parent);
      at = parent;
    }
  }

  /** Moves the first event into {@link popped}. The heap must not be empty. */
  pop(): PoppedEvent {
    assert(this.used > 0, "pop needs an event");
    const popped = this.popped;
    popped.time = this.times[0];
    popped.client = this.clients[0];
    popped.token = this.tokens[0];
    const last = --this.used;
    if (last > 0) this.swap(0, last);
    this.clients[last] = null;
    this.sink();
    return popped;
  }

  private sink(): void {
    let at = 0;
    while (true) {
      const left = 2 * at + 1;
      if (left >= this.used) return;
      const right = left + 1;
      const child = right < this.used && this.isBefore(right, left) ? right : left;
      if (!this.isBefore(child, at)) return;
      this.swap(at, child);
      at = child;
    }
  }

  private isBefore(a: number, b: number): boolean {
    const difference = this.times[a] - this.times[b];
    if (difference !== 0) return difference < 0;
    return this.order[a] < this.order[b];
  }

  private place(at: number, time: number, order: number, client: TimerClient, token: number): void {
    this.times[at] = time;
    this.order[at] = order;
    this.clients[at] = client;
    this.tokens[at] = token;
  }

  private swap(a: number, b: number): void {
    const time = this.times[a];
    const order = this.order[a];
    const client = this.clients[a] as TimerClient;
    const token = this.tokens[a];
    this.times[a] = this.times[b];
    this.order[a] = this.order[b];
    this.clients[a] = this.clients[b];
    this.tokens[a] = this.tokens[b];
    this.place(b, time, order, client, token);
  }

  private grow(): void {
    const capacity = this.times.length * 2;
    this.times = resized(this.times, capacity);
    this.order = resized(this.order, capacity);
    this.tokens = resized(this.tokens, capacity);
    for (let i = this.clients.length; i < capacity; i++) this.clients.push(null);
  }
}

function resized(old: Float64Array<ArrayBuffer>, capacity: number): Float64Array<ArrayBuffer> {
  const made = new Float64Array(capacity);
  made.set(old);
  return made;
}
