/**
 * What the steps share: the guest (booted when a step needs one, again when one was lost), targets,
 * and `step`, which bounds each test's time, cleans up after it, and shows on a failure what the
 * guest and the target said.
 */
import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { it } from "vitest";
import { Guest, HOST_ADDRESS, PACE_MAX } from "./guest.ts";
import { buildInitramfs } from "./initramfs.ts";
import { type Kit, prepareKit } from "./packages.ts";
import { NQN, TargetProcess } from "./target-process.ts";

const STEP_SECONDS = 60;
/** Boot, and clean-up, come on top of a step's own time. */
const AROUND_SECONDS = 240;
const SETTLE_SECONDS = 20;

const say = (line: string): void => console.log(`kernel: ${line}`);

/** A connected controller, and the block device of its first namespace. */
export interface Connected {
  /** `nvme0` */
  readonly controller: string;
  /** `/dev/nvme0n1` */
  readonly device: string;
}

class Lab {
  #kit: Promise<Kit> | null = null;
  #image: Buffer | null = null;
  #guest: Guest | null = null;
  #targets: TargetProcess[] = [];
  readonly #folder = mkdtempSync(join(tmpdir(), "peerlane-kernel-"));

  /** Fetches and unpacks what is needed, and builds the command line. */
  async prepare(): Promise<void> {
    const kit = await this.kit();
    say(kit.versions.join(", "));
    execFileSync(process.execPath, [join(import.meta.dirname, "../../scripts/build.mjs")]);
    this.#image = buildInitramfs(kit);
    say(`initramfs of ${Math.round(this.#image.length / 1e6)} MB`);
  }

  kit(): Promise<Kit> {
    this.#kit ??= prepareKit(say);
    return this.#kit;
  }

  async guest(): Promise<Guest> {
    if (this.#guest?.isUsable) return this.#guest;
    await this.#guest?.close();
    if (this.#image === null) throw new Error("the lab is not prepared: see the first failure");
    const started = Date.now();
    this.#guest = await Guest.boot(await this.kit(), this.#image);
    const took = ((Date.now() - started) / 1000).toFixed(1);
    say(`guest up after ${took} s; time limits are multiplied by ${this.#guest.pace.toFixed(1)}`);
    return this.#guest;
  }

  /** A folder that is gone after the run. */
  get folder(): string {
    return this.#folder;
  }

  /** A file of this name, for a namespace; gone after the step. */
  file(name: string): string {
    return join(this.#folder, name);
  }

  /** A running target, which `cleanUp` stops: its options beside the address. */
  target(...args: string[]): Promise<TargetProcess> {
    return this.#start((port) => ["-l", `${HOST_ADDRESS}:${port}`, ...args]);
  }

  /** A running target with this configuration file; JSON is YAML. */
  configured(config: (port: number) => object): Promise<TargetProcess> {
    return this.#start((port) => {
      const file = this.file(`target-${port}.yaml`);
      writeFileSync(file, JSON.stringify(config(port)), { mode: 0o600 });
      return ["-c", file];
    });
  }

  async #start(args: (port: number) => readonly string[]): Promise<TargetProcess> {
    const target = await TargetProcess.start(args);
    this.#targets.push(target);
    return target;
  }

  /** Connects, and waits for the block device of the first namespace. */
  async connect(target: { readonly port: number }, options = "", nqn = NQN): Promise<Connected> {
    const guest = await this.guest();
    const at = `-t tcp -a ${HOST_ADDRESS} -s ${target.port} -n ${nqn}`;
    const answer = await guest.sh(`nvme connect ${at} -o json ${options}`);
    const controller = /"device"\s*:\s*"(nvme\d+)"/.exec(answer)?.[1];
    if (controller === undefined) throw new Error(`nvme connect names no controller: ${answer}`);
    const device = await this.until(async () => {
      // With native multipath the block device belongs to the subsystem, not to the controller.
      const { output } = await guest.run(
        `for s in /sys/class/nvme-subsystem/*; do [ -e $s/${controller} ] && cd $s && ` +
          "for n in nvme*n*; do [ -e /dev/$n ] && echo /dev/$n; done; done",
      );
      return output.split("\n").find((line) => /^\/dev\/nvme\d+n\d+$/.test(line));
    }, `a block device of ${controller}`);
    return { controller, device };
  }

  /** Asks again and again until there is an answer. */
  async until<T>(
    ask: () => Promise<T | undefined | false>,
    what: string,
    seconds = SETTLE_SECONDS,
  ): Promise<T> {
    const end = Date.now() + seconds * 1000 * (this.#guest?.pace ?? 1);
    for (;;) {
      const answer = await ask();
      if (answer !== undefined && answer !== false) return answer;
      if (Date.now() > end) throw new Error(`waited ${seconds} s and more in vain for ${what}`);
      await sleep(100);
    }
  }

  /** What the guest's console and the targets said last. */
  tails(): string {
    const guest = this.#guest === null ? "(no guest was booted)" : this.#guest.consoleTail();
    return [guest, ...this.#targets.map((target) => target.logTail())].join("\n");
  }

  /** After each step: nothing mounted, nothing connected, no target. */
  async cleanUp(): Promise<void> {
    const targets = this.#targets;
    this.#targets = [];
    if (this.#guest?.isUsable) {
      // A target that is stopped or gone would make the guest wait for its time-outs.
      for (const target of targets) await target.signal("SIGCONT");
      await this.#guest.run("umount -a -t ext4; nvme disconnect-all", SETTLE_SECONDS).catch(say);
    }
    for (const target of targets) await target.stop();
  }

  async close(): Promise<void> {
    await this.#guest?.close();
    for (const target of this.#targets) await target.signal("SIGKILL");
    rmSync(this.#folder, { recursive: true, force: true });
  }
}

export const lab = new Lab();

/** A test of the kernel suite. `remedy` says where to look first when it fails. */
export function step(
  name: string,
  options: { readonly seconds?: number; readonly remedy: string },
  body: (guest: Guest) => Promise<void>,
): void {
  const { seconds = STEP_SECONDS, remedy } = options;
  it(name, { timeout: (seconds * PACE_MAX + AROUND_SECONDS) * 1000 }, async () => {
    let failure: unknown = null;
    try {
      const guest = await lab.guest();
      const limit = Math.ceil(seconds * guest.pace);
      const late = sleep(limit * 1000, "late" as const, { ref: false });
      const outcome = await Promise.race([body(guest), late]);
      if (outcome === "late") throw new Error(`the step took more than ${limit} s`);
    } catch (error) {
      failure = error;
      explain(error, name, remedy);
    }
    try {
      await lab.cleanUp();
    } catch (error) {
      failure ??= error;
    }
    if (failure !== null) throw failure;
  });
}

function explain(error: unknown, name: string, remedy: string): void {
  if (!(error instanceof Error)) return;
  error.message += `\n\nstep: ${name}\nremedy: ${remedy}\n${lab.tails()}`;
}
