/**
 * What runs next in a simulation: models that asked for a step, then events in order of simulated
 * time. Several fabrics may share one scheduler (two machines joined by a wire have one time).
 *
 * Invariants: models run in the order in which they woke, each once per wake; time never goes back;
 * time moves only when nothing is ready, and then only after the software around the simulation has
 * had a few rounds to give the devices work. While an event is pending, `poll` never answers 0, so
 * a loop that stops when everybody is idle does not stop before the last event.
 *
 * Left out: the CPU time of the software under test takes no simulated time.
 */

import { assert, type Inspectable, PeerlaneError, READY_MAX, type Tree } from "../core/index.ts";
import type { TimerClient } from "./device.ts";
import { EventHeap } from "./event-heap.hot.ts";

/** Something that asked to run once. `isReady` belongs to the scheduler. */
export interface Runnable {
  isReady: boolean;
  run(): void;
}

/**
 * Polls without ready work before time moves. Software above the fabric may still be passing a
 * completion upwards from one poller to the next; each of these polls gives it one more round.
 */
const QUIET_POLLS = 2;
/** Steps that one `sleep` may take before the simulation is called stuck. */
const SLEEP_STEPS_MAX = 1e9;

export class Scheduler implements Inspectable {
  private now = 0;
  private readonly events = new EventHeap();
  private ready: (Runnable | null)[] = new Array(64).fill(null);
  private readyHead = 0;
  private readyCount = 0;
  private quiet = 0;
  private sharers = 0;
  private stepsRun = 0;
  private eventsRun = 0;

  /** Simulated nanoseconds since the simulation began. */
  nowNs(): number {
    return this.now;
  }

  /** Called by each fabric that polls this scheduler; more fabrics mean more polls per round. */
  share(): void {
    this.sharers++;
  }

  /** Runs `runnable` from the next `poll`. Idempotent until it has run. */
  wake(runnable: Runnable): void {
    if (runnable.isReady) return;
    runnable.isReady = true;
    if (this.readyCount === this.ready.length) this.growReady();
    this.ready[(this.readyHead + this.readyCount) % this.ready.length] = runnable;
    this.readyCount++;
  }

  /** Calls `client.timer(token)` when `delayNs` have passed. */
  after(delayNs: number, client: TimerClient, token: number): void {
    assert(delayNs >= 0, "a timer runs out in the future");
    this.events.push(this.now + delayNs, client, token);
  }

  /** Runs what is ready; when nothing has been for a while, moves time to the next event. */
  poll(): number {
    const ran = this.runReady();
    if (ran > 0) {
      this.quiet = 0;
      return ran;
    }
    if (this.events.length === 0) return 0;
    if (++this.quiet <= QUIET_POLLS * Math.max(1, this.sharers)) return 1;
    this.quiet = 0;
    return this.runEventsAt(this.events.firstTime);
  }

  /**
   * Lets `delayNs` pass with everything that happens meanwhile. `between` runs after each step, for
   * what hangs on the simulation but is not in it (interrupt delivery).
   */
  sleep(delayNs: number, between: () => void): void {
    const end = this.now + delayNs;
    for (let i = 0; i < SLEEP_STEPS_MAX; i++) {
      const ran = this.runReady();
      between();
      if (ran > 0 || this.readyCount > 0) continue;
      if (this.events.firstTime > end) {
        this.now = end;
        return;
      }
      this.runEventsAt(this.events.firstTime);
    }
    throw new PeerlaneError("simulation-stuck", "the simulation takes steps without end", {
      remedy: "a device model wakes itself or arms timers of 0 ns for ever; look at the trace",
    });
  }

  inspect(): Tree {
    return {
      nowNs: this.now,
      ready: this.readyCount,
      pendingEvents: this.events.length,
      nextEventNs: this.events.length === 0 ? null : this.events.firstTime,
      stepsRun: this.stepsRun,
      eventsRun: this.eventsRun,
    };
  }

  /** Runs what was ready at the call; what wakes meanwhile waits for the next poll. */
  private runReady(): number {
    const batch = this.readyCount;
    for (let i = 0; i < batch; i++) {
      const runnable = this.ready[this.readyHead] as Runnable;
      this.ready[this.readyHead] = null;
      this.readyHead = (this.readyHead + 1) % this.ready.length;
      this.readyCount--;
      runnable.isReady = false;
      runnable.run();
    }
    this.stepsRun += batch;
    return batch;
  }

  private runEventsAt(time: number): number {
    assert(time >= this.now, "time does not go back");
    this.now = time;
    let ran = 0;
    // Events that these events arm for the same time wait for the next poll: a bounded batch.
    for (let left = this.events.length; left > 0 && this.events.firstTime === time; left--) {
      const { client, token } = this.events.pop();
      assert(client !== null, "an event has a client");
      client.timer(token);
      ran++;
    }
    this.eventsRun += ran;
    return ran;
  }

  private growReady(): void {
    assert(this.readyCount < READY_MAX, "a bounded number of models is ready");
    const old = this.ready;
    const made: (Runnable | null)[] = new Array(old.length * 2).fill(null);
    for (let i = 0; i < this.readyCount; i++) {
      made[i] = old[(this.readyHead + i) % old.length];
    }
    this.ready = made;
    this.readyHead = 0;
  }
}
