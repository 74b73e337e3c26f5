/**
 * NVMe/TCP over loopback, one connection, depth 32: `peerlane target` with a namespace in memory
 * (sockets, target, SSD driver and SSD model) in a process on one processor, our host on the other;
 * against a bare TCP echo between two processes placed alike, with messages of the same sizes.
 * Wall clock, in turn, since what is measured waits for the kernel.
 */

import type { Clock } from "../src/platform/index.ts";
import { type Bench, type BenchResult, median } from "./lib.ts";
import { openEcho, openReads, type Shape } from "./tcp/load.ts";
import { isPinned, pinSelf, startEcho, startTarget } from "./tcp/peer.ts";

const NQN = "nqn.2026-11.bench.peerlane:tcp";
const REQUEST_BYTES = 72;
const DATA_HEADER_BYTES = 24;
const ROUNDS = 7;

interface Measured {
  /** Echo's time over ours. */
  readonly ratio: number;
  readonly perSecond: number;
  readonly echoPerSecond: number;
  readonly medianUs: number;
  readonly p99Us: number;
  /** CPU time of the target's process, and of the echo's, per request. */
  readonly targetCpuUs: number;
  readonly echoCpuUs: number;
}

async function measure(clock: Clock, shape: Shape, ios: number): Promise<Measured> {
  pinSelf();
  const { depth, ioBytes, namespaceBytes } = shape;
  const answerBytes = DATA_HEADER_BYTES + ioBytes;
  const target = await startTarget(clock, NQN, `${namespaceBytes / 2 ** 20}M`);
  const server = await startEcho(clock, REQUEST_BYTES, answerBytes);
  try {
    const reads = await openReads(clock, target.at, NQN, shape);
    const echo = await openEcho(server.at, REQUEST_BYTES, answerBytes, depth);
    const time = async (run: (count: number) => Promise<void>): Promise<number> => {
      const start = clock.nowNs();
      await run(ios);
      return (clock.nowNs() - start) / ios;
    };
    const rounds: { subject: number; reference: number; median: number; p99: number }[] = [];
    let cpu = [0, 0];
    for (let i = 0; i < ROUNDS + 2; i++) {
      if (i === 2) cpu = [target.cpuUs(), server.cpuUs()];
      const subject = await time(reads.run);
      const [middle, p99] = [reads.percentileNs(50), reads.percentileNs(99)];
      const reference = await time(echo.run);
      // The first two compile.
      if (i >= 2) rounds.push({ subject, reference, median: middle, p99 });
    }
    const used = [target.cpuUs() - cpu[0], server.cpuUs() - cpu[1]];
    await reads.close();
    await echo.close();
    return {
      targetCpuUs: used[0] / (ROUNDS * ios),
      echoCpuUs: used[1] / (ROUNDS * ios),
      ratio: median(rounds.map(({ subject, reference }) => reference / subject)),
      perSecond: 1e9 / median(rounds.map(({ subject }) => subject)),
      echoPerSecond: 1e9 / median(rounds.map(({ reference }) => reference)),
      medianUs: median(rounds.map(({ median: ns }) => ns)) / 1000,
      p99Us: median(rounds.map(({ p99 }) => p99)) / 1000,
    };
  } finally {
    target.stop();
    server.stop();
  }
}

const place = isPinned ? "a processor each" : "processes not pinned";

const result = (ratio: number, limit: number, figures: string): BenchResult => ({
  ratio,
  limit,
  bound: "at-least",
  figures,
});

const details = ({ medianUs, p99Us, targetCpuUs, echoCpuUs }: Measured): string =>
  `latency median ${medianUs.toFixed(0)} us, p99 ${(p99Us / 1000).toFixed(2)} ms; CPU of the ` +
  `target ${targetCpuUs.toFixed(1)} us a read (echo ${echoCpuUs.toFixed(1)}); ${place}`;

export const nvmetTcp: Bench = {
  name: "nvmet-tcp",
  claim: "rate of 4 KiB random reads by NVMe/TCP at depth 32, in times of a bare echo's",
  async run(clock) {
    const shape = { depth: 32, ioBytes: 4096, namespaceBytes: 64 * 2 ** 20 };
    const got = await measure(clock, shape, 20_000);
    const figures =
      `${Math.round(got.perSecond)} reads a second (echo ${Math.round(got.echoPerSecond)}), ` +
      details(got);
    return result(got.ratio, 0.5, figures);
  },
};

export const nvmetTcpLarge: Bench = {
  name: "nvmet-tcp-128k",
  claim: "rate of 128 KiB random reads by NVMe/TCP at depth 32, in times of a bare echo's",
  async run(clock) {
    const shape = { depth: 32, ioBytes: 128 * 1024, namespaceBytes: 64 * 2 ** 20 };
    const got = await measure(clock, shape, 3000);
    const rate = (perSecond: number): string => ((perSecond * shape.ioBytes) / 1e9).toFixed(2);
    const figures = `${rate(got.perSecond)} GB/s (echo ${rate(got.echoPerSecond)}), ${details(got)}`;
    return result(got.ratio, 0.8, figures);
  },
};
