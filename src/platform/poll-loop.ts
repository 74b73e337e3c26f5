/**
 * Runs a polled stack inside the host's event loop: rounds while there is work, then a turn of the
 * event loop so that sockets and signals have theirs, a few turns more when there is none, and then
 * nothing at all: a socket wakes it, or a slow tick for timers that the stack keeps by itself
 * (keep-alive).
 *
 * Invariants: `poll` is never re-entered; an error it throws stops the loop and is reported once.
 */

export interface PollLoopOptions {
  readonly poll: () => number;
  /** The loop has stopped after this error. */
  readonly onError: (error: unknown) => void;
  /** Rounds before the event loop has a turn. Default 16. */
  readonly roundsPerTurn?: number;
  /** Milliseconds between two looks while idle. Default 50. */
  readonly tickMs?: number;
}

const ROUNDS_PER_TURN = 16;
const TICK_MS = 50;
/**
 * Turns without work before it sleeps, some 60 us: less than a processor takes to fall asleep and
 * wake up again twice, and often the next command is there by then.
 */
const IDLE_TURNS = 32;

export class PollLoop {
  /** Turns of the event loop that it ran in: what a busy loop would have many of. */
  turns = 0;
  #idleTurns = 0;
  readonly #options: PollLoopOptions;
  readonly #rounds: number;
  readonly #run = (): void => this.#turn();
  #tick: NodeJS.Timeout | null = null;
  #isScheduled = false;
  #isStopped = false;

  constructor(options: PollLoopOptions) {
    this.#options = options;
    this.#rounds = options.roundsPerTurn ?? ROUNDS_PER_TURN;
  }

  start(): void {
    this.#tick = setInterval(() => this.wake(), this.#options.tickMs ?? TICK_MS);
    this.wake();
  }

  /** Something happened: polls in this turn of the event loop, after all sockets had theirs. */
  wake(): void {
    if (this.#isScheduled || this.#isStopped) return;
    this.#isScheduled = true;
    setImmediate(this.#run);
  }

  #turn(): void {
    this.#isScheduled = false;
    if (this.#isStopped) return;
    this.turns++;
    try {
      for (let i = 0; i < this.#rounds; i++) {
        if (this.#options.poll() > 0) {
          this.#idleTurns = 0;
          continue;
        }
        if (this.#idleTurns++ < IDLE_TURNS) this.wake();
        return;
      }
    } catch (error) {
      this.stop();
      this.#options.onError(error);
      return;
    }
    this.wake();
  }

  /** By {@link stop}, or by an error. */
  get isStopped(): boolean {
    return this.#isStopped;
  }

  stop(): void {
    this.#isStopped = true;
    if (this.#tick !== null) clearInterval(this.#tick);
    this.#tick = null;
  }
}
