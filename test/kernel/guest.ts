/**
 * A Linux guest in QEMU without KVM: boots the kit's kernel with the initramfs, runs shell commands
 * in it through an agent on a virtio port. The guest reaches this machine's loopback address
 * 127.0.0.2 (guest/init). All waits have a limit, and QEMU itself ends after `LIFE_SECONDS`.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { connect, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { type Kit, kitCommand } from "./packages.ts";

/** A loopback address of this machine that the guest reaches too. */
export const HOST_ADDRESS = "127.0.0.2";

const BOOT_SECONDS = 150;
const LIFE_SECONDS = 1500;
/** A command's own limit is enforced in the guest; the answer may take this much longer. */
const ANSWER_SECONDS = 15;
const CONSOLE_TAIL_LINES = 30;
/** What a boot takes on an idle machine, about; limits grow with what it took. */
const USUAL_BOOT_SECONDS = 20;
export const PACE_MAX = 4;

export interface Result {
  readonly status: number;
  /** Standard output and error, as they came. */
  readonly output: string;
}

interface Waiter {
  resolve(result: Result): void;
  reject(error: Error): void;
}

export class GuestError extends Error {}

export class Guest {
  readonly #folder: string;
  readonly #qemu: ChildProcess;
  readonly #waiters = new Map<number, Waiter>();
  #agent: Socket | null = null;
  #received = Buffer.alloc(0);
  #lastId = 0;
  #ended: string | null = null;
  #stderr = "";
  /**
   * How slow this machine is now: 1 when it is idle, up to 4 when others use it as well. Time limits
   * are multiplied by it.
   */
  pace = 1;

  private constructor(folder: string, qemu: ChildProcess) {
    this.#folder = folder;
    this.#qemu = qemu;
    qemu.stderr?.on("data", (bytes) => {
      this.#stderr += bytes;
    });
    qemu.on("exit", (code, signal) => this.#end(`QEMU ended (${signal ?? `status ${code}`})`));
    qemu.on("error", (error) => this.#end(`QEMU did not start: ${error.message}`));
  }

  static async boot(kit: Kit, initramfs: Buffer, cpus = 4): Promise<Guest> {
    const folder = mkdtempSync(join(tmpdir(), "peerlane-guest-"));
    const initrd = join(folder, "initrd");
    const agent = join(folder, "agent");
    writeFileSync(initrd, initramfs);
    const share = (path: string): string[] => ["-L", join(kit.root, "usr/share", path)];
    const args = kitCommand(kit.root, "usr/bin/qemu-system-x86_64", [
      ...share("seabios"),
      ...share("qemu"),
      ...["-M", "q35", "-accel", "tcg,thread=multi", "-cpu", "max,la57=off"],
      ...["-smp", String(cpus), "-m", "1G", "-nodefaults", "-display", "none", "-no-reboot"],
      ...["-kernel", kit.vmlinuz, "-initrd", initrd],
      ...["-append", "console=ttyS0 panic=-1 loglevel=6 mitigations=off random.trust_cpu=on"],
      ...["-serial", `file:${join(folder, "console")}`],
      ...["-netdev", "user,id=net", "-device", "virtio-net-pci,netdev=net,romfile="],
      ...["-chardev", `socket,id=agent,path=${agent},server=on,wait=off`],
      ...["-device", "virtio-serial-pci", "-device", "virtserialport,chardev=agent,name=agent"],
    ]);
    // In the foreground: what ends the process group of the test run ends QEMU too.
    const qemu = spawn("timeout", ["--foreground", "-k", "5", String(LIFE_SECONDS), ...args], {
      stdio: ["ignore", "ignore", "pipe"],
    });
    const guest = new Guest(folder, qemu);
    const started = Date.now();
    try {
      await guest.#join(agent);
      const took = (Date.now() - started) / 1000;
      guest.pace = Math.min(PACE_MAX, Math.max(1, took / USUAL_BOOT_SECONDS));
    } catch (error) {
      await guest.close();
      throw error;
    }
    return guest;
  }

  /** Connects to the agent's port, and waits until it says that it is there. */
  async #join(path: string): Promise<void> {
    const until = Date.now() + BOOT_SECONDS * 1000;
    const ready = new Promise<Result>((resolve, reject) => {
      this.#waiters.set(0, { resolve, reject });
    });
    ready.catch(() => undefined);
    while (!existsSync(path) && this.#ended === null && Date.now() < until) await sleep(20);
    if (this.#ended !== null) throw this.#error(this.#ended);
    const agent = await this.#dial(path, until);
    agent.on("data", (bytes) => this.#take(bytes));
    agent.on("error", (error) => this.#end(`the agent's port failed: ${error.message}`));
    this.#agent = agent;
    const late = sleep(until - Date.now(), null, { ref: false });
    if ((await Promise.race([ready, late])) === null) {
      throw this.#error(`the guest did not come up in ${BOOT_SECONDS} s`);
    }
  }

  /** The socket's file is there a moment before QEMU listens. */
  async #dial(path: string, until: number): Promise<Socket> {
    for (;;) {
      const agent = connect(path);
      const failure = await new Promise<Error | null>((resolve) => {
        agent.once("connect", () => resolve(null));
        agent.once("error", resolve);
      });
      if (failure === null) return agent;
      if (this.#ended !== null || Date.now() > until) throw this.#error(failure.message);
      await sleep(50);
    }
  }

  #take(bytes: Buffer): void {
    this.#received = Buffer.concat([this.#received, bytes]);
    for (;;) {
      const newline = this.#received.indexOf(10);
      if (newline < 0) return;
      const head = this.#received.toString("latin1", 0, newline).split(" ").map(Number);
      const [id = -1, status = -1, length = 0] = head;
      const end = newline + 1 + length;
      if (this.#received.length < end) return;
      const output = this.#received.toString("utf8", newline + 1, end);
      this.#received = this.#received.subarray(end);
      const waiter = this.#waiters.get(id);
      this.#waiters.delete(id);
      waiter?.resolve({ status, output });
    }
  }

  #end(why: string): void {
    this.#ended ??= why;
    const error = this.#error(this.#ended);
    for (const waiter of this.#waiters.values()) waiter.reject(error);
    this.#waiters.clear();
  }

  #error(what: string): GuestError {
    const said = this.#stderr.trim();
    return new GuestError(`${what}${said ? `\n${said}` : ""}\n${this.consoleTail()}`);
  }

  get isUsable(): boolean {
    return this.#ended === null;
  }

  /** Runs a shell command. Rejects only when the guest is lost or does not answer in time. */
  async run(command: string, usualSeconds = 30): Promise<Result> {
    const seconds = Math.ceil(usualSeconds * this.pace);
    if (this.#ended !== null || this.#agent === null) throw this.#error(this.#ended ?? "no guest");
    const id = ++this.#lastId;
    const answer = new Promise<Result>((resolve, reject) => {
      this.#waiters.set(id, { resolve, reject });
    });
    const line = `${id} ${seconds} ${Buffer.from(command).toString("base64")}\n`;
    this.#agent.write(line);
    const late = sleep((seconds + ANSWER_SECONDS) * 1000, null, { ref: false });
    const result = await Promise.race([answer, late]);
    if (result !== null) return result;
    this.#waiters.delete(id);
    // A process that not even SIGKILL ends waits in the kernel: this guest is of no use any more.
    this.#end(`the guest hangs: no answer in ${seconds + ANSWER_SECONDS} s to: ${command}`);
    throw this.#error(this.#ended ?? "");
  }

  /** Runs a command that must succeed. Returns its output. */
  async sh(command: string, seconds?: number): Promise<string> {
    const { status, output } = await this.run(command, seconds);
    if (status !== 0) throw new GuestError(`status ${status} of: ${command}\n${output.trimEnd()}`);
    return output;
  }

  /** Stops the guest in its tracks: no processor runs, no packet moves. */
  pause(): void {
    this.#signalQemu("SIGSTOP");
  }

  resume(): void {
    this.#signalQemu("SIGCONT");
  }

  /** QEMU is the one child of `timeout`. */
  #signalQemu(signal: NodeJS.Signals): void {
    const { pid } = this.#qemu;
    if (pid === undefined || !this.isUsable) return;
    const children = readFileSync(`/proc/${pid}/task/${pid}/children`, "latin1").trim();
    process.kill(Number(children), signal);
  }

  /** Last lines of the guest's console. */
  consoleTail(): string {
    const path = join(this.#folder, "console");
    const text = existsSync(path) ? readFileSync(path, "latin1").trimEnd() : "";
    const lines = text.split(/\r*\n/).slice(-CONSOLE_TAIL_LINES);
    return ["--- the guest's console, its last lines:", ...lines].join("\n");
  }

  async close(): Promise<void> {
    this.#agent?.destroy();
    if (this.#qemu.exitCode === null && this.#qemu.signalCode === null) {
      const gone = new Promise((resolve) => this.#qemu.once("exit", resolve));
      this.#qemu.kill("SIGTERM");
      await Promise.race([gone, sleep(10_000, null, { ref: false })]);
    }
    this.#end("the guest was closed");
    rmSync(this.#folder, { recursive: true, force: true });
  }
}
