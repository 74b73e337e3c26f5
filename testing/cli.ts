/** The command line in process: real files, output remembered. */

import { fileURLToPath } from "node:url";
import { makeContext, runCli } from "../src/cli/index.ts";
import { ManualClock, MemoryHost, realFiles } from "../src/platform/index.ts";

const SHIPPED = fileURLToPath(new URL("..", import.meta.url)).replace(/\/$/, "");

export interface CliRun {
  readonly status: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** Runs `peerlane ARGS`; the repository is the current folder for scenarios that ship with it. */
export async function peerlane(...args: string[]): Promise<CliRun> {
  const host = new MemoryHost({ args });
  const status = await runCli(makeContext(host, realFiles, new ManualClock(), SHIPPED));
  return { status, stdout: host.stdout.text, stderr: host.stderr.text };
}
