/**
 * The other end of the NVMe/TCP benchmarks, in a process of its own and on a processor of its own
 * where there are two: the target as a user starts it, or a bare echo. `taskset` pins; without it
 * the scheduler decides, and the figures say so.
 */

import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { createServer } from "node:net";
import { availableParallelism } from "node:os";
import { fileURLToPath } from "node:url";
import { type Clock, realNetwork, type StreamAddress } from "../../src/platform/index.ts";

const ROOT = fileURLToPath(new URL("../../", import.meta.url));
/** How long a peer may take to listen: it compiles first. */
const START_US = 30e6;
const RETRY_US = 100e3;

export interface Peer {
  readonly at: StreamAddress;
  /** CPU time that its process has taken, in microseconds, to 10 ms; NaN where there is no /proc. */
  cpuUs(): number;
  stop(): void;
}

/** A clock tick of /proc/PID/stat: 1/100 s on every Linux that Node runs on (proc(5)). */
const TICK_US = 10_000;

function cpuUs(pid: number): number {
  try {
    // Behind the name, which may hold spaces: fields 14 and 15 are user and system time.
    const fields = readFileSync(`/proc/${pid}/stat`, "utf8").split(") ")[1]?.split(" ") ?? [];
    return (Number(fields[11]) + Number(fields[12])) * TICK_US;
  } catch {
    return Number.NaN;
  }
}

/** True when this process and its peers have processors of their own. */
export const isPinned =
  availableParallelism() > 1 && spawnSync("taskset", ["--version"]).status === 0;

/** Keeps this process to the first processor; its peers get the second. */
export function pinSelf(): void {
  if (isPinned) spawnSync("taskset", ["-a", "-c", "-p", "0", String(process.pid)]);
}

/** A port that was free a moment ago. */
function freePort(): Promise<number> {
  return new Promise((resolve, reject) => {
    const server = createServer();
    server.on("error", reject);
    server.listen({ host: "127.0.0.1", port: 0 }, () => {
      const at = server.address();
      server.close(() => resolve(at !== null && typeof at === "object" ? at.port : 0));
    });
  });
}

async function start(clock: Clock, script: string, args: readonly string[]): Promise<Peer> {
  const port = await freePort();
  const node = [process.execPath, "--import", "tsx", `${ROOT}${script}`];
  const words = [...node, ...args.map((word) => word.replace("PORT", String(port)))];
  const [command = "", ...rest] = isPinned ? ["taskset", "-c", "1", ...words] : words;
  const child: ChildProcess = spawn(command, rest, { stdio: ["ignore", "ignore", "pipe"] });
  let said = "";
  child.stderr?.on("data", (bytes) => {
    said = `${said}${bytes}`.slice(-2000);
  });
  const at = { address: "127.0.0.1", port };
  for (let waitedUs = 0; waitedUs < START_US && child.exitCode === null; waitedUs += RETRY_US) {
    try {
      (await realNetwork.connect(at)).destroy();
      const { pid = 0 } = child;
      return { at, cpuUs: () => cpuUs(pid), stop: () => void child.kill("SIGTERM") };
    } catch {
      // Not there yet.
      await clock.sleep(RETRY_US);
    }
  }
  child.kill("SIGKILL");
  throw new Error(`${script} does not listen: ${said}`);
}

/** `peerlane target` with one namespace in memory. */
export const startTarget = (clock: Clock, nqn: string, size: string): Promise<Peer> =>
  start(clock, "src/cli/main.ts", [
    "target",
    ...["--listen", "127.0.0.1:PORT", "--nqn", nqn, "--namespace", `size=${size}`],
    ...["--machine", `${ROOT}scenarios/machines/hgx-h100-gpud.vvv.txt`],
  ]);

/** Answers every request of so many bytes with so many. */
export const startEcho = (clock: Clock, requestBytes: number, answerBytes: number): Promise<Peer> =>
  start(clock, "bench/tcp/echo-server.ts", ["PORT", String(requestBytes), String(answerBytes)]);
