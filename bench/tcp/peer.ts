/**
 * The other end of the NVMe/TCP benchmarks, in a process of its own and on a processor of its own
 * where there are two: the target as a user starts it, or a bare echo. `taskset` pins; without it
 * the scheduler decides, and the figures say so.
 */

import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { availableParallelism, tmpdir } from "node:os";
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

async function start(
  clock: Clock,
  script: string,
  argsFor: (port: number) => readonly string[],
): Promise<Peer> {
  const port = await freePort();
  const words = [process.execPath, "--import", "tsx", `${ROOT}${script}`, ...argsFor(port)];
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

export interface TargetSetup {
  readonly nqn: string;
  readonly namespaceBytes: number;
  /** What has the blocks: memory itself, or the model of an SSD over it. */
  readonly backend: "cpu" | "ssd";
  /** Its port takes TLS with this host's key, and plain connections too. */
  readonly tls?: { readonly hostNqn: string; readonly key: string };
}

const MACHINE = `${ROOT}scenarios/machines/hgx-h100-gpud.vvv.txt`;

/** `peerlane target` with two namespaces in memory. */
export async function startTarget(clock: Clock, setup: TargetSetup): Promise<Peer> {
  const { nqn, namespaceBytes: size, backend, tls } = setup;
  const secure = tls === undefined ? {} : { addr_tsas: "tls1.3", addr_treq: "not required" };
  const namespaces = [
    { nsid: 1, size, backend },
    { nsid: 2, size, backend },
  ];
  const folder = mkdtempSync(`${tmpdir()}/peerlane-bench-`);
  const file = `${folder}/target.json`;
  const remove = (): void => rmSync(folder, { recursive: true, force: true });
  try {
    const peer = await start(clock, "src/cli/main.ts", (port) => {
      const config = {
        machine: [MACHINE],
        hosts: tls === undefined ? [] : [{ nqn: tls.hostNqn, tls_key: tls.key }],
        subsystems: [{ nqn, attr_allow_any_host: true, namespaces }],
        ports: [{ portid: 1, addr_trsvcid: port, ...secure, subsystems: [nqn] }],
      };
      writeFileSync(file, JSON.stringify(config), { mode: 0o600 });
      return ["target", "--config", file];
    });
    return {
      ...peer,
      stop() {
        peer.stop();
        remove();
      },
    };
  } catch (error) {
    remove();
    throw error;
  }
}

/** Answers every request of so many bytes with so many. */
export const startEcho = (clock: Clock, requestBytes: number, answerBytes: number): Promise<Peer> =>
  start(clock, "bench/tcp/echo-server.ts", (port) => [port, requestBytes, answerBytes].map(String));
