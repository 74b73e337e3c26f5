/**
 * The harness of the benchmarks: rounds of what is measured and what it is compared to, interleaved
 * so that both meet the same noise, and the median of the rounds' ratios. A benchmark claims
 * something of a ratio, so it says the same on a slow machine as on a fast one.
 */

import type { Clock } from "../src/platform/index.ts";

export interface BenchResult {
  /** What is claimed, as a number; `limit` and `bound` say what it must be. */
  readonly ratio: number;
  readonly limit: number;
  /** `at-least`: the ratio must not be below the limit; `at-most`: not above. */
  readonly bound: "at-least" | "at-most";
  /** Figures of the run for people: `1 MiB DMA 40.1 us, set 39.8 us`. */
  readonly figures: string;
}

export interface Bench {
  readonly name: string;
  /** One sentence: what the ratio is of. */
  readonly claim: string;
  run(clock: Clock): BenchResult | Promise<BenchResult>;
}

export interface Interleaved {
  /** Median over the rounds of (subject's rate / reference's rate). */
  readonly ratio: number;
  /** Median nanoseconds of one call. */
  readonly subjectNs: number;
  readonly referenceNs: number;
}

export interface Rounds {
  readonly rounds?: number;
  /** Calls per round of each. */
  readonly calls: number;
}

/**
 * CPU time of this process instead of time on the wall: what others do on the machine then takes
 * caches at most. Resolution 1 us.
 */
export const cpuClock: Pick<Clock, "nowNs"> = {
  nowNs() {
    const { user, system } = process.cpuUsage();
    return (user + system) * 1000;
  },
};

/** Measures two functions that do `calls` things per call of theirs, turn and turn about. */
export function interleave(
  clock: Pick<Clock, "nowNs">,
  subject: (calls: number) => void,
  reference: (calls: number) => void,
  { rounds = 15, calls }: Rounds,
): Interleaved {
  const time = (work: (calls: number) => void): number => {
    const start = clock.nowNs();
    work(calls);
    return (clock.nowNs() - start) / calls;
  };
  // Both compile before anything counts.
  for (let i = 0; i < 3; i++) {
    time(subject);
    time(reference);
  }
  const ratios: number[] = [];
  const subjects: number[] = [];
  const references: number[] = [];
  for (let i = 0; i < rounds; i++) {
    // The order alternates, so that neither always finds the caches as the other left them.
    const subjectFirst = i % 2 === 0;
    const first = time(subjectFirst ? subject : reference);
    const second = time(subjectFirst ? reference : subject);
    const [subjectNs, referenceNs] = subjectFirst ? [first, second] : [second, first];
    ratios.push(referenceNs / subjectNs);
    subjects.push(subjectNs);
    references.push(referenceNs);
  }
  return { ratio: median(ratios), subjectNs: median(subjects), referenceNs: median(references) };
}

export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[sorted.length >> 1] as number;
}

/** `512 ns`, `40.1 us`. */
export function formatNs(ns: number): string {
  return ns < 1000 ? `${ns.toFixed(0)} ns` : `${(ns / 1000).toFixed(1)} us`;
}

export function isMet({ ratio, limit, bound }: BenchResult): boolean {
  return bound === "at-least" ? ratio >= limit : ratio <= limit;
}
