/**
 * Fused Compare and Write: what makes a pair, what becomes of half of one, and that a pair is one
 * operation to everybody else: counters that several hosts increase by compare and write lose no
 * update in any interleaving.
 */
import { describe, expect, it } from "vitest";
import { type HostData, loopHarness, type TransportHarness } from "../../testing/nvmet-harness.ts";
import { tcpHarness } from "../../testing/nvmet-tcp-harness.ts";
import { Bench, quiesce } from "../../testing/nvmet-transport-contract.ts";
import { Prng, viewOf } from "../core/index.ts";
import {
  AdminOpcode,
  AnaState,
  Cns,
  Fuse,
  IdCtrl,
  NvmeStatus,
  NvmOpcode,
  STATUS_DNR,
} from "../spec/nvme/index.ts";
import type { CommandOwner, HostCommand, TargetQueue } from "./index.ts";

const DNR = STATUS_DNR;
const MISSING = NvmeStatus.abortedMissingFused | DNR;
const FAILED = NvmeStatus.abortedFailedFused | DNR;
const OK = NvmeStatus.success;

interface Pair {
  readonly compare: HostCommand;
  readonly write: HostCommand;
  readonly data: HostData;
}

async function pairOf(bench: Bench, lba = 3): Promise<Pair> {
  const data = await bench.data(1024);
  const compare = bench.command(NvmOpcode.compare, lba, 1, data);
  const write = bench.command(NvmOpcode.write, lba, 1, data, 512);
  compare.fuse = Fuse.first;
  write.fuse = Fuse.second;
  return { compare, write, data };
}

function submit(bench: Bench, ...commands: HostCommand[]): void {
  for (const command of commands) bench.queue.submit(command);
  bench.queue.kick();
}

async function run(bench: Bench, ...commands: HostCommand[]): Promise<number[]> {
  submit(bench, ...commands);
  await quiesce(bench.harness);
  return commands.map(({ status, isBusy }) => (isBusy ? -1 : status));
}

describe.each([
  ["loop", async () => loopHarness()],
  ["tcp", () => tcpHarness()],
  ["tcp, from a store", () => tcpHarness({ rig: { backend: "cpu" } })],
] as const)("fused compare and write over %s", (_name, make) => {
  it("is announced, writes when the blocks are equal, and not when they are not", async () => {
    const bench = await Bench.open(await make());
    const controller = viewOf(await bench.settle(bench.host.identify(Cns.controller, 0)));
    expect([IdCtrl.FUSES.get(controller), IdCtrl.ACWU.get(controller)]).toEqual([1, 0]);
    const { compare, write, data } = await pairOf(bench);
    data.bytes.fill(7, 512);
    expect(await run(bench, compare, write)).toEqual([OK, OK]);
    expect(bench.harness.disk(3 * 512, 512).every((byte) => byte === 7)).toBe(true);
    // It compares with zeros, and sevens are there now.
    data.bytes.fill(9, 512);
    expect(await run(bench, compare, write)).toEqual([NvmeStatus.compareFailure | DNR, FAILED]);
    expect(bench.harness.disk(3 * 512, 512).every((byte) => byte === 7)).toBe(true);
    // Answered in order.
    expect(bench.finished).toEqual([compare, write, compare, write]);
  });

  it("aborts halves without the other half, and nothing else", async () => {
    const bench = await Bench.open(await make());
    const { compare, write } = await pairOf(bench);
    const other = await pairOf(bench);
    const read = bench.command(NvmOpcode.read, 8, 1, await bench.data(512));
    expect(await run(bench, write)).toEqual([MISSING]);
    expect(await run(bench, compare)).toEqual([-1]);
    expect(await run(bench, read)).toEqual([OK]);
    expect(compare.status).toBe(MISSING);
    expect(await run(bench, compare, other.compare, other.write)).toEqual([MISSING, OK, OK]);
    expect(await run(bench, compare, read, write)).toEqual([MISSING, OK, MISSING]);
  });

  it.each<[string, (pair: Pair) => void, readonly [number, number]]>([
    [
      "another block",
      ({ write }) => write.setRange(4, 1, false),
      [FAILED, NvmeStatus.invalidField | DNR],
    ],
    [
      "another namespace",
      ({ write }) => (write.nsid = 9),
      [FAILED, NvmeStatus.invalidNamespaceOrFormat | DNR],
    ],
    [
      "a read first",
      ({ compare }) => (compare.opcode = NvmOpcode.read),
      [NvmeStatus.invalidField | DNR, FAILED],
    ],
    [
      "a compare second",
      ({ write }) => (write.opcode = NvmOpcode.compare),
      [FAILED, NvmeStatus.invalidField | DNR],
    ],
    [
      "a block that is not there",
      ({ compare }) => compare.setRange(2 ** 32, 1, false),
      [NvmeStatus.lbaOutOfRange | DNR, FAILED],
    ],
    ["FUSE 11b", ({ compare }) => (compare.fuse = 3), [NvmeStatus.invalidField | DNR, MISSING]],
  ])("refuses a pair with %s", async (_what, change, statuses) => {
    const bench = await Bench.open(await make());
    const pair = await pairOf(bench);
    change(pair);
    expect(await run(bench, pair.compare, pair.write)).toEqual(statuses);
    expect(bench.harness.disk(0, 4096).every((byte) => byte === 0)).toBe(true);
  });

  it("refuses more than one block", async () => {
    const bench = await Bench.open(await make());
    const data = await bench.data(2048);
    const compare = bench.command(NvmOpcode.compare, 0, 2, data);
    const write = bench.command(NvmOpcode.write, 0, 2, data, 1024);
    compare.fuse = Fuse.first;
    write.fuse = Fuse.second;
    const exceeded = NvmeStatus.atomicWriteUnitExceeded | DNR;
    expect(await run(bench, compare, write)).toEqual([exceeded, FAILED]);
  });

  it("refuses both where the path, a reservation or write protection does", async () => {
    const harness = await make();
    const bench = await Bench.open(harness);
    const { compare, write } = await pairOf(bench);
    harness.subsystem.setReadOnly(harness.namespace, true);
    const isProtected = NvmeStatus.namespaceWriteProtected | DNR;
    expect(await run(bench, compare, write)).toEqual([FAILED, isProtected]);
    harness.target.setAnaState(harness.port, 1, AnaState.inaccessible);
    expect(await run(bench, compare, write)).toEqual([NvmeStatus.anaInaccessible, FAILED]);
  });

  it("is no admin command, and half of one can be aborted", async () => {
    const bench = await Bench.open(await make());
    const { compare, write } = await pairOf(bench);
    submit(bench, compare);
    await quiesce(bench.harness);
    // The command identifier is the last of the free ones.
    const cid = bench.queue.depth - 2;
    const abort = { opcode: AdminOpcode.abort, dwords: [1 | (cid << 16)] };
    expect((await bench.settle(bench.host.admin(abort))).result0).toBe(0);
    await quiesce(bench.harness);
    expect(compare.status).toBe(NvmeStatus.abortRequested);
    expect(await run(bench, write)).toEqual([MISSING]);
  });

  it("drains in any state when the host or the namespace goes", async () => {
    for (const rounds of [0, 1, 2, 3, 5, 8]) {
      const harness = await make();
      const bench = await Bench.open(harness);
      const pairs = [await pairOf(bench), await pairOf(bench)];
      const plain = bench.command(NvmOpcode.write, 0, 1, await bench.data(512));
      harness.stall(true);
      submit(bench, plain, ...pairs.flatMap(({ compare, write }) => [compare, write]));
      for (let i = 0; i < rounds; i++) harness.reactor.round();
      if (rounds % 2 === 0) harness.subsystem.removeNamespace(harness.namespace);
      const leaving = bench.host.disconnect();
      for (let i = 0; i < 20; i++) {
        harness.reactor.round();
        await Promise.resolve();
      }
      harness.stall(false);
      await bench.settle(leaving);
      await bench.idle();
      expect(harness.target.isIdle).toBe(true);
      expect([harness.namespace.inFlight, harness.namespace.exclusive.isHolding]).toEqual([
        0,
        false,
      ]);
    }
  });

  it("loses no update of counters that several hosts increase", async () => {
    for (let seed = 1; seed <= 6; seed++) await countTogether(await make(), new Prng(seed));
  });
});

describe("a transport that cannot fetch", () => {
  it.each([0, 1])("half %i: both are answered, and no buffer is lost", async (failing) => {
    const harness = await tcpHarness();
    const bench = await Bench.open(harness);
    const [controller] = harness.target.allControllers();
    const queue = controller?.ioQueues.get(1) as TargetQueue;
    const fetch = queue.channel.fetch.bind(queue.channel);
    let fetches = 0;
    queue.channel.fetch = (request) => {
      if (fetches++ === failing) queue.addressLost(request, 0);
      else fetch(request);
    };
    const { compare, write } = await pairOf(bench);
    const statuses = await run(bench, compare, write);
    const failed = NvmeStatus.abortedFailedFused;
    const pathError = NvmeStatus.internalPathError;
    expect(statuses).toEqual(failing === 0 ? [pathError, failed] : [failed, pathError]);
    expect(await run(bench, compare, write)).toEqual([OK, OK]);
    expect(queue.busy).toBe(0);
  });
});

const ROUNDS_MAX = 100_000;

/** Increases the counter in a block by compare and write, until it has done so often enough. */
class Counter implements CommandOwner {
  readonly pair: Pair;
  successes = 0;
  collisions = 0;
  private readonly read: HostCommand;
  private readonly bench: Bench;
  private readonly goal: number;
  private open = 0;

  constructor(bench: Bench, pair: Pair, goal: number) {
    this.bench = bench;
    this.pair = pair;
    this.goal = goal;
    this.read = bench.command(NvmOpcode.read, 3, 1, pair.data);
    for (const command of [pair.compare, pair.write, this.read]) command.owner = this;
  }

  get isDone(): boolean {
    return this.successes === this.goal && this.open === 0;
  }

  start(): void {
    this.open = 1;
    this.bench.queue.submit(this.read);
    this.bench.queue.kick();
  }

  commandDone(command: HostCommand): void {
    this.open--;
    if (this.open > 0) return;
    const view = viewOf(this.pair.data.bytes);
    const { compare, write } = this.pair;
    if (command === this.read) {
      view.setUint32(512, view.getUint32(0, true) + 1, true);
      this.open = 2;
      submit(this.bench, compare, write);
      return;
    }
    if (compare.status === OK) {
      expect(write.status).toBe(OK);
      this.successes++;
    } else {
      expect([compare.status, write.status]).toEqual([NvmeStatus.compareFailure | DNR, FAILED]);
      this.collisions++;
    }
    if (this.successes < this.goal) this.start();
  }
}

async function countTogether(harness: TransportHarness, prng: Prng): Promise<void> {
  const counters: Counter[] = [];
  for (let i = 0; i < 3; i++) {
    const bench = await Bench.open(harness, { depth: 16 });
    for (let n = 0; n < 2; n++) counters.push(new Counter(bench, await pairOf(bench), 6));
  }
  const noise = await Bench.open(harness, { depth: 16 });
  const block = await noise.data(512);
  const others = Array.from({ length: 4 }, (_, i) =>
    noise.command(i % 2 === 0 ? NvmOpcode.write : NvmOpcode.read, 10 + i, 1, block),
  );
  for (const counter of counters) counter.start();
  const isDone = () => counters.every((counter) => counter.isDone);
  for (let i = 0; i < ROUNDS_MAX && !isDone(); i++) {
    harness.stall(prng.chance(0.5));
    for (const command of others) if (!command.isBusy && prng.chance(0.3)) submit(noise, command);
    harness.reactor.round();
    // Sockets in memory need turns of their own.
    if (i % 8 === 0) await Promise.resolve();
  }
  expect(isDone()).toBe(true);
  harness.stall(false);
  await quiesce(harness);
  expect(viewOf(harness.disk(3 * 512, 4)).getUint32(0, true)).toBe(6 * counters.length);
  expect(counters.reduce((sum, { collisions }) => sum + collisions, 0)).toBeGreaterThan(0);
  expect(others.every(({ status }) => status === OK)).toBe(true);
}
