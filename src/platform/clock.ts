/**
 * Time. The rest of the project takes a {@link Clock} as a parameter and never asks the host
 * itself, so one seed replays a run and a test decides what time it is. `realClock` is the host's;
 * `ManualClock` moves only when told to.
 *
 * Leaves out: simulated time, which the fabric keeps for itself.
 */
/** Stops a timer that has not fired; harmless afterwards. */
export type CancelTimer = () => void;

export interface Clock {
  /** Monotonic nanoseconds since some fixed past moment. A plain number: exact for 104 days. */
  nowNs(): number;
  /** Monotonic microseconds on the same scale, whole. */
  nowUs(): number;
  /** Wall clock, milliseconds since 1970. For reports and file names only; it may jump. */
  wallMs(): number;
  /** Calls `fn` once, `delayUs` from now. */
  after(delayUs: number, fn: () => void): CancelTimer;
  /** Resolves `delayUs` from now. */
  sleep(delayUs: number): Promise<void>;
}

class RealClock implements Clock {
  nowNs(): number {
    return Math.round(performance.now() * 1e6);
  }

  nowUs(): number {
    return Math.floor(performance.now() * 1e3);
  }

  wallMs(): number {
    return Date.now();
  }

  after(delayUs: number, fn: () => void): CancelTimer {
    // The host's timers count whole milliseconds: round up, a timer must never fire early.
    const timer = setTimeout(fn, Math.ceil(delayUs / 1e3));
    return () => clearTimeout(timer);
  }

  sleep(delayUs: number): Promise<void> {
    return new Promise((resolve) => this.after(delayUs, resolve));
  }
}

export const realClock: Clock = new RealClock();

interface PendingTimer {
  readonly dueNs: number;
  readonly fn: () => void;
}

/** A clock for tests. Timers fire inside `advanceNs`, in order of due time, then of creation. */
export class ManualClock implements Clock {
  #nowNs: number;
  #pending: PendingTimer[] = [];
  readonly #wallStartMs: number;

  constructor(startNs = 0, wallStartMs = 0) {
    this.#nowNs = startNs;
    this.#wallStartMs = wallStartMs;
  }

  nowNs(): number {
    return this.#nowNs;
  }

  nowUs(): number {
    return Math.floor(this.#nowNs / 1e3);
  }

  wallMs(): number {
    return this.#wallStartMs + Math.floor(this.#nowNs / 1e6);
  }

  after(delayUs: number, fn: () => void): CancelTimer {
    const timer: PendingTimer = { dueNs: this.#nowNs + Math.max(0, delayUs) * 1e3, fn };
    this.#pending.push(timer);
    return () => {
      this.#pending = this.#pending.filter((other) => other !== timer);
    };
  }

  sleep(delayUs: number): Promise<void> {
    return new Promise((resolve) => this.after(delayUs, resolve));
  }

  /** Timers that have not fired. A test that ends with some has leaked them. */
  get pendingTimers(): number {
    return this.#pending.length;
  }

  /** Moves time forward, firing what falls due on the way; a timer sees its own due time as now. */
  advanceNs(deltaNs: number): void {
    const endNs = this.#nowNs + deltaNs;
    for (let next = this.#takeDue(endNs); next !== undefined; next = this.#takeDue(endNs)) {
      this.#nowNs = Math.max(this.#nowNs, next.dueNs);
      next.fn();
    }
    this.#nowNs = endNs;
  }

  advanceUs(deltaUs: number): void {
    this.advanceNs(deltaUs * 1e3);
  }

  #takeDue(endNs: number): PendingTimer | undefined {
    let first: PendingTimer | undefined;
    for (const timer of this.#pending) {
      if (timer.dueNs <= endNs && (first === undefined || timer.dueNs < first.dueNs)) first = timer;
    }
    if (first !== undefined) this.#pending.splice(this.#pending.indexOf(first), 1);
    return first;
  }
}
