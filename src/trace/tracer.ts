/**
 * The tracer: per-event counters and a ring of records in typed arrays. Call sites guard with
 * `if (trace.on)`, so that a disabled trace point is one load and one branch.
 *
 * The clock is injected as a function, since a simulated run traces simulated time.
 */

import { assert } from "../core/index.ts";
import { EVENTS, type Event } from "./events.ts";

/** Numbers per record: time, event, four arguments. */
const RECORD_NUMBERS = 6;

export interface TraceRecord {
  readonly timeNs: number;
  readonly event: Event;
  readonly args: readonly number[];
}

export class Tracer {
  /** Call sites test this before they emit. */
  on = false;
  /** How often each event was emitted while on. Indexed by event number. */
  readonly counters = new Float64Array(EVENTS.length);
  private readonly now: () => number;
  private readonly ring: Float64Array;
  private readonly capacity: number;
  private next = 0;

  /** `capacity`: records kept; older ones are overwritten. `now`: nanoseconds. */
  constructor(now: () => number, capacity = 65_536) {
    assert(capacity > 0, "a trace ring holds at least one record");
    this.now = now;
    this.capacity = capacity;
    this.ring = new Float64Array(capacity * RECORD_NUMBERS);
  }

  emit(event: Event, a = 0, b = 0, c = 0, d = 0): void {
    if (!this.on) return;
    this.counters[event] = (this.counters[event] as number) + 1;
    const at = (this.next % this.capacity) * RECORD_NUMBERS;
    const ring = this.ring;
    ring[at] = this.now();
    ring[at + 1] = event;
    ring[at + 2] = a;
    ring[at + 3] = b;
    ring[at + 4] = c;
    ring[at + 5] = d;
    this.next++;
  }

  /** Records lost because the ring was full. */
  get overwritten(): number {
    return Math.max(0, this.next - this.capacity);
  }

  /** The kept records, oldest first. */
  *records(): Generator<TraceRecord> {
    for (let i = this.overwritten; i < this.next; i++) {
      const at = (i % this.capacity) * RECORD_NUMBERS;
      const event = this.ring[at + 1] as Event;
      const argCount = (EVENTS[event] as { args: readonly string[] }).args.length;
      yield {
        timeNs: this.ring[at] as number,
        event,
        args: Array.from(this.ring.subarray(at + 2, at + 2 + argCount)),
      };
    }
  }

  clear(): void {
    this.next = 0;
    this.counters.fill(0);
  }
}
