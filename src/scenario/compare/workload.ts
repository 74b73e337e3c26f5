/**
 * What one measured I/O is: size, how many are under way at once, where they go, reads or writes.
 * By name, or in fio's words (`bs=`, `iodepth=`, `rw=`, `mix=`), so that figures can be put beside
 * those of a real device.
 */

import { parseSize, UsageError } from "../../core/index.ts";

export interface CompareWorkload {
  readonly name: string;
  /** Bytes of one I/O, a multiple of 512. */
  readonly blockBytes: number;
  /** I/Os built before the first is mapped, mapped before the first is unmapped. */
  readonly depth: number;
  readonly pattern: "random" | "sequential";
  /** Reads in a hundred I/Os. */
  readonly readPercent: number;
}

const KIB = 1024;

export const COMPARE_WORKLOADS: readonly CompareWorkload[] = [
  { name: "random-4k", blockBytes: 4 * KIB, depth: 256, pattern: "random", readPercent: 0 },
  { name: "mixed-4k", blockBytes: 4 * KIB, depth: 32, pattern: "random", readPercent: 70 },
  { name: "small-512", blockBytes: 512, depth: 64, pattern: "random", readPercent: 100 },
  { name: "stream-128k", blockBytes: 128 * KIB, depth: 16, pattern: "sequential", readPercent: 0 },
  { name: "bulk-1m", blockBytes: 1024 * KIB, depth: 8, pattern: "sequential", readPercent: 100 },
];

export const DEFAULT_WORKLOAD: CompareWorkload = COMPARE_WORKLOADS[0] as CompareWorkload;

const BLOCK_BYTES_MAX = 1024 * KIB;
const DEPTH_MAX = 1024;
const KINDS: Readonly<Record<string, Pick<CompareWorkload, "pattern" | "readPercent">>> = {
  read: { pattern: "sequential", readPercent: 100 },
  write: { pattern: "sequential", readPercent: 0 },
  rw: { pattern: "sequential", readPercent: 50 },
  randread: { pattern: "random", readPercent: 100 },
  randwrite: { pattern: "random", readPercent: 0 },
  randrw: { pattern: "random", readPercent: 50 },
};

function bad(text: string, what: string, remedy: string): never {
  throw new UsageError("bad-workload", `workload "${text.slice(0, 80)}": ${what}`, { remedy });
}

function whole(text: string, key: string, value: string, low: number, high: number): number {
  const number = /^\d{1,9}$/.test(value) ? Number(value) : Number.NaN;
  if (number >= low && number <= high) return number;
  return bad(text, `${key}=${value}`, `give an integer from ${low} to ${high}`);
}

/**
 * A name of {@link COMPARE_WORKLOADS}, or settings over the first of them such as
 * `bs=4k,iodepth=32,rw=randrw,mix=70`. Throws `bad-workload`.
 */
export function parseWorkload(text: string): CompareWorkload {
  const named = COMPARE_WORKLOADS.find(({ name }) => name === text);
  if (named !== undefined) return named;
  const names = COMPARE_WORKLOADS.map(({ name }) => name).join(", ");
  const form = `use one of ${names}; or bs=4k,iodepth=32,rw=randwrite,mix=70 (any of them)`;
  if (!text.includes("=")) bad(text, "no such name", form);
  let workload: CompareWorkload = { ...DEFAULT_WORKLOAD, name: text };
  for (const setting of text.split(",")) {
    const [key, value, rest] = setting.trim().split("=");
    if (value === undefined || rest !== undefined) bad(text, `"${setting}" sets nothing`, form);
    workload = { ...workload, ...settingOf(text, key as string, value, form) };
  }
  return workload;
}

function settingOf(
  text: string,
  key: string,
  value: string,
  form: string,
): Partial<CompareWorkload> {
  switch (key) {
    case "bs": {
      const blockBytes = parseSize(value) ?? 0;
      const isGood = blockBytes > 0 && blockBytes % 512 === 0 && blockBytes <= BLOCK_BYTES_MAX;
      if (!isGood) bad(text, `bs=${value}`, "give a multiple of 512 up to 1M, for example 4k");
      return { blockBytes };
    }
    case "iodepth":
      return { depth: whole(text, key, value, 1, DEPTH_MAX) };
    case "mix":
    case "rwmixread":
      return { readPercent: whole(text, key, value, 0, 100) };
    case "rw": {
      const kind = Object.hasOwn(KINDS, value) ? KINDS[value] : undefined;
      return kind ?? bad(text, `rw=${value}`, `use one of ${Object.keys(KINDS).join(", ")}`);
    }
    default:
      return bad(text, `"${key}" is no setting`, form);
  }
}
