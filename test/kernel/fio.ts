/** fio in the guest: a command line that verifies what it writes, and what came of it. */
import { expect } from "vitest";
import type { Guest } from "./guest.ts";

export type Job = Readonly<Record<string, string | number>>;

const ALWAYS: Job = {
  ioengine: "libaio",
  direct: 1,
  verify: "crc32c",
  verify_fatal: 1,
  // Without it fio makes a regular file when the device has gone.
  allow_file_create: 0,
  randrepeat: 1,
};

/** Jobs run one after another. */
export function fioCommand(device: string, jobs: readonly Job[]): string {
  const sections = jobs.map((job, i) => {
    const pairs = Object.entries({
      name: `job${i}`,
      stonewall: 1,
      filename: device,
      ...ALWAYS,
      ...job,
    });
    return pairs.map(([key, value]) => `--${key}=${value}`).join(" ");
  });
  return `fio --output-format=json ${sections.join(" ")}`;
}

export interface FioTotals {
  readonly reads: number;
  readonly writes: number;
}

/** Runs the jobs; throws when one fails, or verifies wrong. */
export async function fio(
  guest: Guest,
  device: string,
  jobs: readonly Job[],
  seconds = 60,
): Promise<FioTotals> {
  const output = await guest.sh(fioCommand(device, jobs), seconds);
  const report = JSON.parse(output.slice(output.indexOf("{"), output.lastIndexOf("}") + 1));
  let reads = 0;
  let writes = 0;
  for (const job of report.jobs) {
    expect(job.error, `${job.jobname}: ${output}`).toBe(0);
    reads += job.read.total_ios;
    writes += job.write.total_ios;
  }
  expect(writes).toBeGreaterThan(0);
  // Each block that was written was read again, or fio has verified nothing.
  expect(reads).toBeGreaterThanOrEqual(writes);
  return { reads, writes };
}
