/**
 * `peerlane target` over a file, in a process of its own, killed (SIGKILL) in the middle of I/O and
 * started again: nothing that was completed may be missing. The host's system survives, so that is
 * more than the specification asks for; power cuts: src/fabric/devices/nvme/power-cut.test.ts.
 */

import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { build } from "esbuild";
import { afterAll, beforeAll, expect, it } from "vitest";
import { Prng, physAddr } from "../src/core/index.ts";
import { cpuMemory } from "../src/memory/index.ts";
import { HostCommand, NvmfHost, SubmitStatus, TcpHostTransport } from "../src/nvmet/index.ts";
import { PollLoop, realClock, realNetwork } from "../src/platform/index.ts";
import { NvmOpcode } from "../src/spec/nvme/index.ts";
import { PromisedBlocks } from "../testing/durability.ts";

const ROOT = join(import.meta.dirname, "..");
/** Below node_modules, so that packages are found from there. */
const BUNDLE = join(ROOT, "node_modules/.peerlane-kill-test");
const MACHINE = join(ROOT, "scenarios/machines/hgx-h100-gpud.vvv.txt");
const NQN = "nqn.2026-11.test.peerlane:killed";
const ROUNDS = 3;
const BLOCKS = 256;
const BLOCK_BYTES = 4096;
const BLOCKS_MAX = 8;
const SLOT_BYTES = BLOCKS_MAX * BLOCK_BYTES;
const DEPTH = 8;

let folder = "";
let child: ChildProcess | null = null;

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "peerlane-kill-"));
  await build({
    entryPoints: [{ in: join(ROOT, "src/cli/main.ts"), out: "peerlane" }],
    outdir: BUNDLE,
    outExtension: { ".js": ".mjs" },
    bundle: true,
    splitting: true,
    format: "esm",
    platform: "node",
    packages: "external",
    logLevel: "warning",
  });
}, 60_000);

afterAll(async () => {
  child?.kill("SIGKILL");
  await rm(folder, { recursive: true });
  await rm(BUNDLE, { recursive: true, force: true });
});

async function freePort(): Promise<number> {
  const probe = await realNetwork.listen({ address: "127.0.0.1", port: 0 }, () => undefined);
  await probe.close();
  return probe.at.port;
}

/** Starts the target and waits until it listens. */
async function start(port: number, file: string): Promise<ChildProcess> {
  const spec = `size=${BLOCKS * BLOCK_BYTES},file=${file},block=${BLOCK_BYTES}`;
  const listen = ["-l", `127.0.0.1:${port}`, "--nqn", NQN, "-m", MACHINE, "-n", spec];
  const started = spawn(process.execPath, [join(BUNDLE, "peerlane.mjs"), "target", ...listen], {
    stdio: ["ignore", "pipe", "pipe"],
  });
  child = started;
  let said = "";
  const offered = new Promise<boolean>((resolve) => {
    const hear = (bytes: Buffer): void => {
      said += String(bytes);
      if (said.includes("connect: ")) resolve(true);
    };
    started.stdout?.on("data", hear);
    started.stderr?.on("data", hear);
    started.once("exit", () => resolve(false));
  });
  expect(await offered, said).toBe(true);
  return started;
}

/** Random writes, flushes and zeros at full depth until `count` of them are done; then `atEnd`. */
class Load {
  done = 0;
  private readonly host: NvmfHost;
  private readonly promised: PromisedBlocks;
  private readonly prng: Prng;
  private readonly bytes: Uint8Array;
  private readonly buffer: Awaited<ReturnType<NvmfHost["register"]>>;
  private readonly count: number;
  private readonly atEnd: () => void;
  private static value = 0;

  constructor(parts: {
    host: NvmfHost;
    promised: PromisedBlocks;
    prng: Prng;
    bytes: Uint8Array;
    buffer: Awaited<ReturnType<NvmfHost["register"]>>;
    count: number;
    atEnd: () => void;
  }) {
    this.host = parts.host;
    this.promised = parts.promised;
    this.prng = parts.prng;
    this.bytes = parts.bytes;
    this.buffer = parts.buffer;
    this.count = parts.count;
    this.atEnd = parts.atEnd;
  }

  start(): void {
    for (let slot = 0; slot < DEPTH; slot++) this.next(slot);
    this.host.queues[0].kick();
  }

  private next(slot: number): void {
    const { prng, promised } = this;
    const blocks = 1 + prng.below(BLOCKS_MAX);
    const lba = prng.below(BLOCKS - blocks + 1);
    const kind = promised.isFree(lba, blocks) ? prng.below(10) : 9;
    const command = new HostCommand({ commandDone: () => undefined });
    command.nsid = 1;
    if (kind === 9) {
      command.opcode = NvmOpcode.flush;
      command.owner = this.finisher(slot, () => undefined);
    } else {
      const isZero = kind === 8;
      const values = Array.from({ length: blocks }, () => (isZero ? 0 : ++Load.value));
      const words = new Uint32Array(this.bytes.buffer, slot * SLOT_BYTES, SLOT_BYTES / 4);
      values.forEach((value, i) => {
        words.fill(value, (i * BLOCK_BYTES) / 4, ((i + 1) * BLOCK_BYTES) / 4);
      });
      command.opcode = isZero ? NvmOpcode.writeZeroes : NvmOpcode.write;
      command.setRange(lba, blocks, prng.chance(0.1));
      if (!isZero) command.setData(this.buffer, slot * SLOT_BYTES, blocks * BLOCK_BYTES);
      const written = promised.begin(lba, values);
      command.owner = this.finisher(slot, () => promised.complete(written, true));
    }
    expect(this.host.queues[0].submit(command)).toBe(SubmitStatus.ok);
  }

  /** Counts what succeeded; what ends with the connection is neither here nor there. */
  private finisher(slot: number, completed: () => void) {
    return {
      commandDone: ({ status }: HostCommand): void => {
        if (status !== 0 || this.done >= this.count) {
          if (status === 0) completed();
          return;
        }
        completed();
        this.done++;
        if (this.done === this.count) this.atEnd();
        else {
          this.next(slot);
          this.host.queues[0].kick();
        }
      },
    };
  }
}

async function connect(port: number) {
  const transport = new TcpHostTransport({
    network: realNetwork,
    address: "127.0.0.1",
    port,
    wake: () => loop.wake(),
  });
  const nowNs = (): number => realClock.nowNs();
  const hostNqn = "nqn.2026-11.test.peerlane:h";
  const host = new NvmfHost({ transport, hostNqn, subsystemNqn: NQN, depth: DEPTH + 1, nowNs });
  const errors: unknown[] = [];
  const loop: PollLoop = new PollLoop({
    poll: () => host.poll(),
    onError: (error) => errors.push(error),
  });
  loop.start();
  await host.connect();
  return { host, loop, errors };
}

it("loses nothing that was completed when it is killed at any moment", async () => {
  const file = join(folder, "disk.img");
  const port = await freePort();
  const prng = new Prng(0x51a1);
  let image: Uint8Array = new Uint8Array(BLOCKS * BLOCK_BYTES);
  for (let round = 0; round < ROUNDS; round++) {
    const target = await start(port, file);
    const { host, loop, errors } = await connect(port);
    const bytes = new Uint8Array(DEPTH * SLOT_BYTES);
    const buffer = await host.register(cpuMemory({ phys: physAddr(0), bytes }), 0, bytes.length);
    const promised = new PromisedBlocks(BLOCKS, BLOCK_BYTES, image);
    const gone = once(target, "exit");
    const atEnd = (): void => void target.kill("SIGKILL");
    const count = 20 + prng.below(400);
    new Load({ host, promised, prng, bytes, buffer, count, atEnd }).start();
    await gone;
    // Answers that were on their way still count.
    await realClock.sleep(50e3);
    loop.stop();
    expect(errors).toEqual([]);
    image = await readFile(file);
    expect(promised.check(image), `round ${round}, killed after ${count} commands`).toBe(null);
  }
  // The lock went with the process, and what is served is what is in the file.
  const target = await start(port, file);
  const { host, loop } = await connect(port);
  const bytes = new Uint8Array(SLOT_BYTES);
  const buffer = await host.register(cpuMemory({ phys: physAddr(0), bytes }), 0, bytes.length);
  const command = new HostCommand({ commandDone: () => undefined });
  command.nsid = 1;
  const ended = new Promise<void>((resolve) => {
    command.owner = { commandDone: () => resolve() };
  });
  command.setRange(0, BLOCKS_MAX, false);
  command.setData(buffer, 0, SLOT_BYTES);
  expect(host.queues[0].submit(command)).toBe(SubmitStatus.ok);
  host.queues[0].kick();
  await ended;
  expect(command.status).toBe(0);
  expect(Buffer.compare(bytes, image.subarray(0, SLOT_BYTES))).toBe(0);
  await host.disconnect();
  loop.stop();
  const gone = once(target, "exit");
  target.kill("SIGTERM");
  expect(await gone).toEqual([0, null]);
}, 60_000);
