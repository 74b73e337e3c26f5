/**
 * Loads on connections, run turn and turn about so that all meet the same noise: the ratio of their
 * best rounds, and what both ends' processors had to do for each I/O.
 *
 * Best rounds, because all that disturbs only slows: a peer that was disturbed would flatter who is
 * compared with it.
 */

import type { Clock } from "../../src/platform/index.ts";
import { median } from "../lib.ts";
import type { IoLoad, Load } from "./load.ts";
import type { Peer } from "./peer.ts";

const ROUNDS = 7;
/** The first rounds compile. */
const WARM_UP = 4;

/** One side of a contest. */
export interface Entry {
  readonly load: Load | IoLoad;
  /** The process at the other end. */
  readonly peer: Peer;
}

export interface Score {
  /** Rate of the best round, and of the median one. */
  readonly bestPerSecond: number;
  readonly perSecond: number;
  /** CPU time of this process and of the peer's for one I/O: the mean. */
  readonly cpuUs: number;
  readonly peerCpuUs: number;
  /** Latency, the median over the rounds; NaN for a load that does not measure it. */
  readonly medianUs: number;
  readonly p99Us: number;
}

export interface Outcome {
  /** Best rate of the first entry in times of the second's. */
  readonly ratio: number;
  readonly scores: readonly Score[];
}

interface Sample {
  readonly ns: number;
  readonly cpuUs: number;
  readonly peerCpuUs: number;
  readonly medianNs: number;
  readonly p99Ns: number;
}

async function sample(clock: Clock, { load, peer }: Entry, ios: number): Promise<Sample> {
  const peerBefore = peer.cpuUs();
  const before = process.cpuUsage();
  const start = clock.nowNs();
  await load.run(ios);
  const ns = (clock.nowNs() - start) / ios;
  const { user, system } = process.cpuUsage(before);
  const percentile = (percent: number): number =>
    "percentileNs" in load ? load.percentileNs(percent) : Number.NaN;
  return {
    ns,
    cpuUs: (user + system) / ios,
    peerCpuUs: (peer.cpuUs() - peerBefore) / ios,
    medianNs: percentile(50),
    p99Ns: percentile(99),
  };
}

const mean = (values: readonly number[]): number =>
  values.reduce((sum, value) => sum + value, 0) / values.length;

function score(samples: readonly Sample[]): Score {
  const times = samples.map(({ ns }) => ns);
  return {
    bestPerSecond: 1e9 / Math.min(...times),
    perSecond: 1e9 / median(times),
    cpuUs: mean(samples.map(({ cpuUs }) => cpuUs)),
    // The kernel counts a process in ticks: only the sum over all rounds is exact enough.
    peerCpuUs: mean(samples.map(({ peerCpuUs }) => peerCpuUs)),
    medianUs: median(samples.map(({ medianNs }) => medianNs)) / 1000,
    p99Us: median(samples.map(({ p99Ns }) => p99Ns)) / 1000,
  };
}

/** Runs all entries `ios` I/Os a round. */
export async function contest(
  clock: Clock,
  ios: number,
  entries: readonly [Entry, Entry, ...Entry[]],
): Promise<Outcome> {
  const rounds: Sample[][] = [];
  for (let i = 0; i < ROUNDS + WARM_UP; i++) {
    const round: Sample[] = [];
    for (const entry of entries) round.push(await sample(clock, entry, ios));
    if (i >= WARM_UP) rounds.push(round);
  }
  for (const { load } of entries) await load.close();
  const scores = entries.map((_, i) => score(rounds.map((round) => round[i] as Sample)));
  const [ours, peer] = scores as [Score, Score];
  return { ratio: ours.bestPerSecond / peer.bestPerSecond, scores };
}
