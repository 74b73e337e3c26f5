/**
 * The polling loop that drives a run: devices, queues and targets are pollers, called in the order
 * they were added until none has anything to do. No timers and no threads, so a run is a function
 * of its seed. The names are SPDK's.
 */

import { PeerlaneError } from "./errors.ts";

export interface Poller {
  /** Does what is ready, in a bounded batch, and returns how many things it did. */
  poll(): number;
}

/** Idle rounds in a row after which a promise is called lost: chains of awaits need some each. */
const IDLE_ROUNDS_MAX = 1000;
/** Rounds after which a loop that never goes idle is called stuck. */
const ROUNDS_MAX = 1e9;

export class Reactor {
  private readonly pollers: Poller[] = [];

  add(poller: Poller): void {
    this.pollers.push(poller);
  }

  remove(poller: Poller): void {
    const at = this.pollers.indexOf(poller);
    if (at >= 0) this.pollers.splice(at, 1);
  }

  /** One call of each poller. Returns how many things were done. */
  round(): number {
    let done = 0;
    for (let i = 0; i < this.pollers.length; i++) done += (this.pollers[i] as Poller).poll();
    return done;
  }

  /** Polls until a whole round does nothing. */
  runUntilIdle(): void {
    for (let i = 0; i < ROUNDS_MAX; i++) if (this.round() === 0) return;
    throw new PeerlaneError("reactor-stuck", "the pollers never went idle", {
      remedy: "this is a bug: a poller reports work that it does not do",
    });
  }

  /** Polls until `done` says so; throws when the loop goes idle before that. */
  runUntil(done: () => boolean, what: string): void {
    for (let i = 0; i < ROUNDS_MAX && !done(); i++) {
      if (this.round() === 0 && !done()) {
        throw new PeerlaneError("reactor-idle", `nothing left to do while waiting for ${what}`, {
          remedy: "look at the trace: a completion was lost or a device is stopped",
        });
      }
    }
  }

  /**
   * Polls until `promise` settles, and gives what it settled to. For control planes whose promises
   * settle from inside `poll`. Throws `reactor-idle` when nothing moves any more.
   */
  async settle<T>(promise: Promise<T>, what: string): Promise<T> {
    let isOpen = true;
    const close = (): void => {
      isOpen = false;
    };
    promise.then(close, close);
    for (let idle = 0; isOpen && idle < IDLE_ROUNDS_MAX; ) {
      idle = this.round() === 0 ? idle + 1 : 0;
      // Lets what the round settled run on.
      await Promise.resolve();
    }
    if (!isOpen) return promise;
    throw new PeerlaneError("reactor-idle", `nothing left to do while waiting for ${what}`, {
      remedy: "look at the trace: a completion was lost or a device is stopped",
    });
  }
}
