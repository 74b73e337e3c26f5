/**
 * The control plane as steps: generators that yield nanoseconds whenever they must wait. The same
 * code is driven from `attach` (which sleeps) and from `poll` (which must not wait), so a reset in
 * the middle of a polled run needs no second implementation and no event loop.
 */

import type { BackingMachine, DriverClock } from "../backing/interface.ts";

/** Yields how long to wait before the next step is worth taking. */
export type Steps<T> = Generator<number, T, void>;

const FIRST_WAIT_NS = 1_000;
const LONGEST_WAIT_NS = 10e6;

/** Runs steps to their end, sleeping in between. Throws what they throw. */
export async function runSteps<T>(machine: BackingMachine, steps: Steps<T>): Promise<T> {
  for (;;) {
    const step = steps.next();
    if (step.done === true) return step.value;
    machine.poll();
    await machine.clock.sleep(step.value);
  }
}

/**
 * Waits until `ready` says so. False when `timeoutNs` passed first. Waits get longer, from 1 us to
 * 10 ms.
 */
export function* waitUntil(
  clock: DriverClock,
  timeoutNs: number,
  ready: () => boolean,
): Steps<boolean> {
  const startNs = clock.nowNs();
  let waitNs = FIRST_WAIT_NS;
  while (!ready()) {
    if (clock.nowNs() - startNs >= timeoutNs) return false;
    yield waitNs;
    waitNs = Math.min(waitNs * 2, LONGEST_WAIT_NS);
  }
  return true;
}

/** Waits for a promise of the backing; throws what it rejects with. */
export function* waitForPromise(promise: Promise<void>): Steps<void> {
  let isSettled = false;
  let failure: unknown = null;
  let hasFailed = false;
  promise.then(
    () => {
      isSettled = true;
    },
    (reason: unknown) => {
      isSettled = true;
      hasFailed = true;
      failure = reason;
    },
  );
  while (!isSettled) yield FIRST_WAIT_NS;
  if (hasFailed) throw failure;
}
