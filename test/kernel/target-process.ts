/**
 * `peerlane target` as a user runs it: the built command line in a process of its own, listening on
 * loopback. It can be killed, stopped in its tracks, and started again on the same port.
 */
import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { readFileSync } from "node:fs";
import { createServer } from "node:net";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { HOST_ADDRESS } from "./guest.ts";

const ROOT = join(import.meta.dirname, "../..");
/** The command that is installed. */
const COMMAND = JSON.parse(readFileSync(join(ROOT, "package.json"), "utf8")).bin.peerlane;
const START_SECONDS = 60;
const END_SECONDS = 15;
const LOG_TAIL_LINES = 25;

export const NQN = "nqn.2026-11.dev.peerlane:target";

/** A port of the loopback address that is free now. */
export function freePort(): Promise<number> {
  return new Promise((resolve, reject) => {
    const server = createServer();
    server.on("error", reject);
    server.listen(0, HOST_ADDRESS, () => {
      const address = server.address();
      const port = typeof address === "object" && address !== null ? address.port : 0;
      server.close(() => resolve(port));
    });
  });
}

/** `peerlane targetctl`, which must succeed. */
export function targetctl(socket: string, ...words: string[]): string {
  const args = [join(ROOT, COMMAND), "targetctl", "--socket", socket, ...words];
  return execFileSync(process.execPath, args, { encoding: "utf8", timeout: 60_000 });
}

export class TargetProcess {
  readonly port: number;
  readonly #args: readonly string[];
  #child: ChildProcess | null = null;
  #log = "";

  private constructor(port: number, args: readonly string[]) {
    this.port = port;
    this.#args = args;
  }

  /** `args` for the port that it shall listen on. */
  static async start(args: (port: number) => readonly string[]): Promise<TargetProcess> {
    const port = await freePort();
    const target = new TargetProcess(port, args(port));
    await target.start();
    return target;
  }

  async start(): Promise<void> {
    const args = [join(ROOT, COMMAND), "target", ...this.#args];
    const child = spawn(process.execPath, args, {
      // What docs/guide/linux-host.md tells those to set who use TLS.
      env: { ...process.env, OPENSSL_CONF: join(ROOT, "bin/openssl.cnf") },
      stdio: ["ignore", "pipe", "pipe"],
    });
    this.#child = child;
    let offer = "";
    child.stdout.on("data", (bytes) => {
      offer += bytes;
      this.#log += bytes;
    });
    child.stderr.on("data", (bytes) => {
      this.#log += bytes;
    });
    const until = Date.now() + START_SECONDS * 1000;
    while (!offer.includes("connect: ")) {
      if (child.exitCode !== null) throw new Error(`the target ended at once\n${this.logTail()}`);
      if (Date.now() > until) throw new Error(`the target does not listen\n${this.logTail()}`);
      await sleep(20);
    }
  }

  get pid(): number {
    return this.#child?.pid ?? -1;
  }

  get isRunning(): boolean {
    return this.#child !== null && this.#child.exitCode === null && this.#child.signalCode === null;
  }

  /** Sends a signal; waits for the end when it is one that ends it. */
  async signal(signal: "SIGKILL" | "SIGTERM" | "SIGSTOP" | "SIGCONT"): Promise<void> {
    const child = this.#child;
    if (child === null || !this.isRunning) return;
    const gone = new Promise((resolve) => child.once("exit", resolve));
    child.kill(signal);
    if (signal === "SIGSTOP" || signal === "SIGCONT") return;
    const late = sleep(END_SECONDS * 1000, "late", { ref: false });
    if ((await Promise.race([gone, late])) === "late") {
      child.kill("SIGKILL");
      throw new Error(`the target did not end in ${END_SECONDS} s of ${signal}\n${this.logTail()}`);
    }
  }

  /** Ends it as Ctrl-C does. Throws when its exit status is not 0. */
  async stop(): Promise<void> {
    if (!this.isRunning) return;
    await this.signal("SIGTERM");
    const status = this.#child?.exitCode;
    if (status !== 0) throw new Error(`the target ended with status ${status}\n${this.logTail()}`);
  }

  /** Everything it printed. */
  get log(): string {
    return this.#log;
  }

  logTail(): string {
    const lines = this.#log.trimEnd().split("\n").slice(-LOG_TAIL_LINES);
    return ["--- the target's log, its last lines:", ...lines].join("\n");
  }
}
