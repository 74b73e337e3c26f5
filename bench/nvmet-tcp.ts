/**
 * NVMe/TCP over loopback, one connection, depth 32: `peerlane target` with a namespace in memory in
 * a process on one processor, our host on the other. `nvmet-tcp-ssd` has the driver and the model of
 * an SSD between target and memory, as `peerlane target` has by default; the others have the memory
 * alone (`backend: cpu`).
 *
 * Reads and writes are measured against a bare TCP echo between two processes placed alike, with
 * messages of the same sizes, whose client reads into one buffer as our host does. The echo answers
 * from memory that is never touched, which is one page of zeros; so the reads that are compared with
 * it are of blocks that nobody wrote, which is the same. Printed beside them: reads of blocks that
 * were written, which come from memory that is in no cache.
 *
 * TLS and digests are measured against plain connections to the same target, all blocks written.
 * Wall clock, in turn, since what is measured waits for the kernel.
 */

import { deriveTlsPsk, generateTlsKey, parseTlsKey } from "../src/nvmet/index.ts";
import { type Clock, realRandom } from "../src/platform/index.ts";
import type { Bench, BenchResult } from "./lib.ts";
import { contest, type Score } from "./tcp/contest.ts";
import { HOST_NQN, IN_CAPSULE_BYTES, openEcho, openIo, type Shape } from "./tcp/load.ts";
import { isPinned, pinSelf, startEcho, startTarget, type TargetSetup } from "./tcp/peer.ts";

const NQN = "nqn.2026-11.bench.peerlane:tcp";
const CAPSULE_BYTES = 72;
const DATA_HEADER_BYTES = 24;
const RESPONSE_BYTES = 24;
const KIB = 1024;
const NAMESPACE_BYTES = 64 * KIB * KIB;
const DEPTH = 32;

const small = { depth: DEPTH, ioBytes: 4 * KIB, namespaceBytes: NAMESPACE_BYTES };
const large = { ...small, ioBytes: 128 * KIB };
/** I/Os of one round. */
const SMALL_IOS = 40_000;
const LARGE_IOS = 3000;

const place = isPinned ? "a processor each" : "processes not pinned";

/** The median round, and the best. */
const rate = ({ perSecond, bestPerSecond }: Score, ioBytes: number): string =>
  ioBytes < 64 * KIB
    ? `${Math.round(perSecond)} a second, best ${Math.round(bestPerSecond)}`
    : `${((perSecond * ioBytes) / 1e9).toFixed(2)} GB/s, best ` +
      `${((bestPerSecond * ioBytes) / 1e9).toFixed(2)}`;

const cpu = ({ cpuUs, peerCpuUs }: Score): string =>
  `${cpuUs.toFixed(1)} + ${peerCpuUs.toFixed(1)} us`;

const latency = ({ medianUs, p99Us }: Score): string =>
  `latency median ${medianUs.toFixed(0)} us, p99 ${(p99Us / 1000).toFixed(2)} ms`;

/** What an echo exchanges for one I/O. */
function echoSizes({ ioBytes, isWrite = false, depth }: Shape) {
  if (!isWrite) {
    return { requestBytes: CAPSULE_BYTES, answerBytes: DATA_HEADER_BYTES + ioBytes, depth };
  }
  const headers = CAPSULE_BYTES + (ioBytes > IN_CAPSULE_BYTES ? DATA_HEADER_BYTES : 0);
  return { requestBytes: headers + ioBytes, answerBytes: RESPONSE_BYTES, depth };
}

async function againstEcho(
  clock: Clock,
  shape: Shape,
  ios: number,
  limit: number,
  backend: TargetSetup["backend"] = "cpu",
): Promise<BenchResult> {
  pinSelf();
  const sizes = echoSizes(shape);
  const isUnwritten = shape.isWrite !== true;
  const target = await startTarget(clock, { nqn: NQN, namespaceBytes: NAMESPACE_BYTES, backend });
  const server = await startEcho(clock, sizes.requestBytes, sizes.answerBytes);
  try {
    const { ratio, scores } = await contest(clock, ios, [
      { load: await openIo(clock, target.at, NQN, { ...shape, isUnwritten }), peer: target },
      { load: await openEcho(server.at, sizes), peer: server },
      ...(isUnwritten ? [{ load: await openIo(clock, target.at, NQN, shape), peer: target }] : []),
    ]);
    const [ours, echo, written] = scores as [Score, Score, Score | undefined];
    const blocks =
      written === undefined
        ? ""
        : `; written blocks ${rate(written, shape.ioBytes)} with ${cpu(written)}`;
    const { ioBytes } = shape;
    const figures =
      `${rate(ours, ioBytes)} (echo ${rate(echo, ioBytes)}${blocks}), ${latency(ours)}; ` +
      `CPU of host + target ${cpu(ours)} each (echo ${cpu(echo)}); ${place}`;
    return { ratio, limit, bound: "at-least", figures };
  } finally {
    target.stop();
    server.stop();
  }
}

/** The same I/Os, plain and not. */
async function againstPlain(
  clock: Clock,
  what: Pick<Shape, "digests" | "tls">,
  setup: Partial<TargetSetup>,
  shapes: readonly { readonly shape: Shape; readonly ios: number; readonly limit: number }[],
): Promise<BenchResult> {
  pinSelf();
  const memory = { namespaceBytes: NAMESPACE_BYTES, backend: "cpu" } as const;
  const target = await startTarget(clock, { nqn: NQN, ...memory, ...setup });
  try {
    let worst = Number.POSITIVE_INFINITY;
    let result: BenchResult | null = null;
    const parts: string[] = [];
    for (const { shape, ios, limit } of shapes) {
      const { ratio, scores } = await contest(clock, ios, [
        { load: await openIo(clock, target.at, NQN, { ...shape, ...what }), peer: target },
        { load: await openIo(clock, target.at, NQN, shape), peer: target },
      ]);
      const [ours, plain] = scores as [Score, Score];
      const { ioBytes } = shape;
      parts.push(
        `${ioBytes / KIB} KiB: ${rate(ours, ioBytes)} (plain ${rate(plain, ioBytes)}), ` +
          `${latency(ours)}; CPU of host + target ${cpu(ours)} each (plain ${cpu(plain)})`,
      );
      if (ratio / limit >= worst) continue;
      worst = ratio / limit;
      result = { ratio, limit, bound: "at-least", figures: "" };
    }
    if (result === null) throw new Error("there is nothing to compare");
    return { ...result, figures: `${parts.join("; ")}; ${place}` };
  } finally {
    target.stop();
  }
}

export const nvmetTcp: Bench = {
  name: "nvmet-tcp",
  claim: "rate of 4 KiB random reads by NVMe/TCP at depth 32, in times of a bare echo's",
  run: (clock) => againstEcho(clock, small, SMALL_IOS, 0.5),
};

export const nvmetTcpLarge: Bench = {
  name: "nvmet-tcp-128k",
  claim: "rate of 128 KiB random reads by NVMe/TCP at depth 32, in times of a bare echo's",
  run: (clock) => againstEcho(clock, large, LARGE_IOS, 0.8),
};

export const nvmetTcpSsd: Bench = {
  name: "nvmet-tcp-ssd",
  claim: "rate of 4 KiB random reads through the model of an SSD, in times of a bare echo's",
  run: (clock) => againstEcho(clock, small, SMALL_IOS, 0.25, "ssd"),
};

export const nvmetTcpWrite: Bench = {
  name: "nvmet-tcp-write",
  claim: "rate of 4 KiB random writes, data in the capsule, in times of a bare echo's",
  run: (clock) => againstEcho(clock, { ...small, isWrite: true }, SMALL_IOS, 0.15),
};

export const nvmetTcpWriteLarge: Bench = {
  name: "nvmet-tcp-write-128k",
  claim: "rate of 128 KiB random writes, each after an R2T, in times of a bare echo's",
  run: (clock) => againstEcho(clock, { ...large, isWrite: true }, LARGE_IOS, 0.3),
};

export const nvmetTcpTls: Bench = {
  name: "nvmet-tcp-tls",
  claim: "rate of random reads over TLS 1.3, in times of the plain rate: the worse of two sizes",
  run(clock) {
    const key = generateTlsKey(realRandom);
    const tls = deriveTlsPsk(parseTlsKey(key), HOST_NQN, NQN, 1);
    return againstPlain(clock, { tls }, { tls: { hostNqn: HOST_NQN, key } }, [
      { shape: small, ios: SMALL_IOS / 2, limit: 0.25 },
      { shape: large, ios: LARGE_IOS / 2, limit: 0.25 },
    ]);
  },
};

export const nvmetTcpDigests: Bench = {
  name: "nvmet-tcp-digests",
  claim: "rate of random reads with digests, in times of the rate without: the worse of two sizes",
  run: (clock) =>
    againstPlain(clock, { digests: true }, {}, [
      { shape: small, ios: SMALL_IOS / 2, limit: 0.2 },
      { shape: large, ios: LARGE_IOS / 2, limit: 0.2 },
    ]),
};
