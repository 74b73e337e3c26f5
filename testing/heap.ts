/**
 * How much a piece of hot code allocates. Garbage counts too: the young generation is not collected
 * within one run, so an object per call would show.
 */

import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";

setFlagsFromString("--expose-gc");
const collectGarbage = runInNewContext("gc") as () => void;

/**
 * Bytes allocated per call of `work(calls)`, of the best of three runs (the others may meet the
 * optimizer). The engine boxes some doubles, 16 bytes each, on their way through calls that it does
 * not inline; an object or a view is more.
 */
export function bytesPerCall(calls: number, work: (calls: number) => void): number {
  work(calls);
  const growth = [0, 1, 2].map(() => allocatedBytes(() => work(calls)));
  return Math.max(0, Math.min(...growth)) / calls;
}

/** Bytes allocated by `work`, garbage included. */
export function allocatedBytes(work: () => void): number {
  collectGarbage();
  const before = process.memoryUsage().heapUsed;
  work();
  return process.memoryUsage().heapUsed - before;
}

/** Bytes that are still held after `work`, garbage collected: what leaks. */
export function retainedBytes(work: () => void): number {
  collectGarbage();
  const before = process.memoryUsage().heapUsed;
  work();
  collectGarbage();
  return process.memoryUsage().heapUsed - before;
}

/**
 * The least of up to `triesMax` measurements, done as soon as one is below `limit`: the engine
 * compiles late on a busy machine, and a leak shows in every try.
 */
export function leastOf(triesMax: number, limit: number, measure: () => number): number {
  let least = Number.POSITIVE_INFINITY;
  for (let i = 0; i < triesMax && least >= limit; i++) least = Math.min(least, measure());
  return least;
}
