/**
 * What Node cannot do with a file: lock it (flock) and give the space of a range back (fallocate).
 * Both are done by the programs of util-linux of those names, on a descriptor that they inherit.
 *
 * A lock belongs to the open file: the program that took it ends, and the lock stays until this
 * process closes the file or dies. Holes are punched by one helper per file that is started at the
 * first one, on an open file of its own (so that it holds no lock), and ends with its input.
 *
 * Leaves out: systems without /proc and util-linux; there nothing is locked and nothing punched.
 */
import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { closeSync, constants, openSync } from "node:fs";

/** What locking and trying to punch a hole behind the end of the file said. */
export const Probe = { punches: 0, plain: 1, locked: 2, noTools: 3 } as const;
export type Probe = (typeof Probe)[keyof typeof Probe];

const EXIT_LOCKED = 75;
const EXIT_PLAIN = 76;
const EXIT_NO_TOOLS = 77;
const LOCK_SCRIPT = [
  `command -v flock >/dev/null || exit ${EXIT_NO_TOOLS}`,
  `flock "$1" --nonblock 3 || exit ${EXIT_LOCKED}`,
  `[ "$1" = --exclusive ] || exit ${EXIT_PLAIN}`,
  `fallocate --punch-hole --offset "$2" --length 4096 /proc/self/fd/3 || exit ${EXIT_PLAIN}`,
].join("\n");

/**
 * Locks the open file `fd` for this process, for reading or for writing. `end`: where it ends, so
 * that trying to punch a hole there changes nothing.
 */
export function lockAndProbe(fd: number, readOnly: boolean, end: number): Probe {
  const mode = readOnly ? "--shared" : "--exclusive";
  const { status } = spawnSync("sh", ["-c", LOCK_SCRIPT, "sh", mode, String(end)], {
    stdio: ["ignore", "ignore", "ignore", fd],
  });
  switch (status) {
    case 0:
      return Probe.punches;
    case EXIT_PLAIN:
      return Probe.plain;
    case EXIT_LOCKED:
      return Probe.locked;
    default:
      return Probe.noTools;
  }
}

const PUNCH_SCRIPT = [
  "while read -r at bytes; do",
  '  if fallocate --punch-hole --offset "$at" --length "$bytes" /proc/self/fd/3',
  "  then echo y; else echo n; fi",
  "done",
].join("\n");

/** Punches holes into one file, one after the other. */
export class HolePuncher {
  private readonly fd: number;
  private readonly waiting: ((isDone: boolean) => void)[] = [];
  private helper: ChildProcess | null = null;

  constructor(fd: number) {
    this.fd = fd;
  }

  /** Calls `done` when the hole is there, or could not be made; never from inside this call. */
  punch(position: number, length: number, done: (isDone: boolean) => void): void {
    this.waiting.push(done);
    this.helper ??= this.start();
    this.helper.stdin?.write(`${position} ${length}\n`);
  }

  private start(): ChildProcess {
    const own = openSync(`/proc/self/fd/${this.fd}`, constants.O_RDWR);
    const helper = spawn("sh", ["-c", PUNCH_SCRIPT], { stdio: ["pipe", "pipe", "ignore", own] });
    closeSync(own);
    helper.stdout?.setEncoding("latin1").on("data", (text: string) => {
      for (const letter of text) if (letter !== "\n") this.waiting.shift()?.(letter === "y");
    });
    const ended = (): void => {
      if (this.helper !== helper) return;
      this.helper = null;
      // It was killed, or could not be started: what it was asked for did not happen.
      for (const done of this.waiting.splice(0)) done(false);
    };
    helper.on("error", ended).on("close", ended);
    helper.stdin?.on("error", () => undefined);
    return helper;
  }

  /** Ends the helper. Nothing may be waiting. */
  close(): void {
    this.helper?.stdin?.end();
  }
}
