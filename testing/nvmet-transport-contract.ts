/**
 * What host and target must do over every transport. Called by each transport's test with a
 * factory.
 */

import { describe, expect, it } from "vitest";
import { Prng, viewOf } from "../src/core/index.ts";
import { HostCommand, type HostQueue, type NvmfHost, SubmitStatus } from "../src/nvmet/index.ts";
import {
  AdminOpcode,
  AnaState,
  Cns,
  ErrorLog,
  Feature,
  LogPage,
  NvmeStatus,
  NvmOpcode,
  OAES_ANA_CHANGE,
  OAES_NAMESPACE_ATTRIBUTE,
  Smart,
  STATUS_DNR,
} from "../src/spec/nvme/index.ts";
import { DISCOVERY_NQN } from "../src/spec/nvmf/index.ts";
import {
  BLOCK_BYTES,
  HOST_NQN,
  type HostData,
  SUBSYSTEM_NQN,
  type TransportHarness,
} from "./nvmet-harness.ts";

const DNR = STATUS_DNR;

/** Fast for large arrays, where `toEqual` is not. */
export function expectSame(got: Uint8Array, wanted: Uint8Array): void {
  expect(got.length).toBe(wanted.length);
  expect(got.findIndex((byte, i) => byte !== wanted[i])).toBe(-1);
}

/** One command at a time, with promises, over a harness. */
export class Bench {
  readonly harness: TransportHarness;
  readonly host: NvmfHost;
  done = 0;
  readonly finished: HostCommand[] = [];

  constructor(harness: TransportHarness, host: NvmfHost) {
    this.harness = harness;
    this.host = host;
  }

  static async open(harness: TransportHarness, options = {}): Promise<Bench> {
    const host = harness.host(options);
    await harness.reactor.settle(host.connect(), "connect");
    return new Bench(harness, host);
  }

  get queue(): HostQueue {
    return this.host.queues[0];
  }

  commandDone(command: HostCommand): void {
    this.done++;
    this.finished.push(command);
  }

  command(opcode: number, lba: number, blocks: number, data: HostData | null, at = 0): HostCommand {
    const command = new HostCommand(this);
    command.opcode = opcode;
    command.nsid = 1;
    command.setRange(lba, blocks, false);
    if (data !== null) command.setData(data.buffer, at, blocks * BLOCK_BYTES);
    return command;
  }

  /** Submits and polls until it is done. Returns the status. */
  run(command: HostCommand, queue = this.queue): number {
    expect(queue.submit(command)).toBe(SubmitStatus.ok);
    queue.kick();
    this.harness.reactor.runUntil(() => !command.isBusy, "a command");
    return command.status;
  }

  io(opcode: number, lba: number, blocks: number, data: HostData | null, at = 0): number {
    return this.run(this.command(opcode, lba, blocks, data, at));
  }

  settle<T>(promise: Promise<T>): Promise<T> {
    return this.harness.reactor.settle(promise, "the host");
  }

  /** Polls, and lets promises run on, until nothing moves any more. */
  async idle(): Promise<void> {
    await quiesce(this.harness);
  }

  async data(sizeBytes: number): Promise<HostData> {
    return this.settle(this.harness.data(this.host, sizeBytes));
  }
}

/** Idle rounds in a row that mean the end; connection managers need a few for each step. */
const QUIET_ROUNDS = 50;

export async function quiesce({ reactor }: TransportHarness): Promise<void> {
  for (let quiet = 0; quiet < QUIET_ROUNDS; ) {
    quiet = reactor.round() === 0 ? quiet + 1 : 0;
    await Promise.resolve();
  }
}

/** `isInstant`: nothing stands between the target and the data that could hold a command back. */
export function nvmetTransportContract(
  name: string,
  make: () => Promise<TransportHarness>,
  isInstant = false,
): void {
  describe(`${name}: connect`, () => connectContract(make));
  describe(`${name}: I/O`, () => ioContract(make));
  describe(`${name}: admin`, () => adminContract(make));
  describe(`${name}: teardown`, () => teardownContract(make, isInstant));
}

function connectContract(make: () => Promise<TransportHarness>): void {
  it("connects, identifies, and gives each host its own controller", async () => {
    const harness = await make();
    const first = await Bench.open(harness, { queues: 2 });
    const second = await Bench.open(harness);
    expect(first.host.queues.length).toBe(2);
    expect(first.host.namespaces).toEqual([
      { nsid: 1, blocks: harness.namespace.blocks, blockBytes: BLOCK_BYTES },
    ]);
    expect(second.host.cntlid).not.toBe(first.host.cntlid);
    expect(harness.subsystem.controllers.size).toBe(2);
    expect(first.host.info.model).toBe("Peerlane NVMe-oF target");
  });

  it("refuses a host that is not on the list", async () => {
    const harness = await make();
    const host = harness.host({ hostNqn: "nqn.2026-11.test.peerlane:other" });
    const connecting = harness.reactor.settle(host.connect(), "connect");
    await expect(connecting).rejects.toThrow(/Connect Invalid Host/);
    await quiesce(harness);
    expect(harness.target.isIdle).toBe(true);
  });

  it("refuses a subsystem that is not there, naming the field", async () => {
    const harness = await make();
    const host = harness.host({ subsystemNqn: "nqn.2026-11.test.peerlane:nothing" });
    const error = await harness.reactor
      .settle(host.connect(), "connect")
      .then(() => null)
      .catch((caught) => caught);
    expect(error?.message).toMatch(/Connect Invalid Parameters/);
    // IATTR: in the data; IPO: SUBNQN.
    expect(error.details).toMatchObject({ result0: 0x1_0100 });
  });

  it("grants no more queues than the subsystem has", async () => {
    const harness = await make();
    const bench = await Bench.open(harness, { queues: 100 });
    expect(bench.host.queues.length).toBe(harness.subsystem.queuesMax);
  });

  it("shows the discovery log", async () => {
    const harness = await make();
    const bench = await Bench.open(harness, { subsystemNqn: DISCOVERY_NQN });
    const entries = await bench.settle(bench.host.discoveryLog());
    expect(entries.map(({ subsystemNqn }) => subsystemNqn)).toEqual([DISCOVERY_NQN, SUBSYSTEM_NQN]);
    const { id: portId, transport } = harness.port;
    expect(entries[1]).toMatchObject({ portId, transport });
  });

  it("hides subsystems that the host may not use", async () => {
    const harness = await make();
    const bench = await Bench.open(harness, {
      subsystemNqn: DISCOVERY_NQN,
      hostNqn: "nqn.2026-11.test.peerlane:other",
    });
    const entries = await bench.settle(bench.host.discoveryLog());
    expect(entries.map(({ subsystemNqn }) => subsystemNqn)).toEqual([DISCOVERY_NQN]);
  });
}

function ioContract(make: () => Promise<TransportHarness>): void {
  it("writes what is then on the disk, and reads it back", async () => {
    const bench = await Bench.open(await make());
    const data = await bench.data(16_384);
    new Prng(1).fill(data.bytes);
    const written = data.bytes.slice(0, 8192);
    expect(bench.io(NvmOpcode.write, 8, 16, data)).toBe(0);
    expectSame(bench.harness.disk(8 * BLOCK_BYTES, 8192), written);
    expect(bench.io(NvmOpcode.read, 8, 16, data, 8192)).toBe(0);
    expectSame(data.bytes.slice(8192), written);
  });

  it("keeps many commands in flight and loses none", async () => {
    const bench = await Bench.open(await make(), { depth: 32 });
    const data = await bench.data(64 * 4096);
    const prng = new Prng(2);
    prng.fill(data.bytes);
    const { queue } = bench;
    let submitted = 0;
    const commands = Array.from({ length: 64 }, (_, i) =>
      bench.command(NvmOpcode.write, i * 8, 8, data, i * 4096),
    );
    bench.harness.reactor.runUntil(() => {
      while (submitted < 64 && queue.submit(commands[submitted]) === SubmitStatus.ok) submitted++;
      queue.kick();
      return bench.done === 64;
    }, "64 writes");
    expect(commands.filter(({ status }) => status !== 0)).toEqual([]);
    expectSame(bench.harness.disk(0, 64 * 4096), data.bytes);
    expect(queue.inFlight).toBe(0);
  });

  it("does the commands without data", async () => {
    const bench = await Bench.open(await make());
    const data = await bench.data(8192);
    data.bytes.fill(0xaa);
    expect(bench.io(NvmOpcode.write, 0, 16, data)).toBe(0);
    expect(bench.io(NvmOpcode.flush, 0, 1, null)).toBe(0);
    expect(bench.io(NvmOpcode.verify, 0, 16, null)).toBe(0);
    expect(bench.io(NvmOpcode.writeZeroes, 4, 4, null)).toBe(0);
    const disk = bench.harness.disk(0, 8192);
    expect(disk.subarray(2048, 4096).every((byte) => byte === 0)).toBe(true);
    expect(disk[2047]).toBe(0xaa);
    expect(disk[4096]).toBe(0xaa);
  });

  it("compares", async () => {
    const bench = await Bench.open(await make());
    const data = await bench.data(4096);
    new Prng(3).fill(data.bytes);
    expect(bench.io(NvmOpcode.write, 0, 8, data)).toBe(0);
    expect(bench.io(NvmOpcode.compare, 0, 8, data)).toBe(0);
    data.bytes[17] ^= 1;
    expect(bench.io(NvmOpcode.compare, 0, 8, data)).toBe(NvmeStatus.compareFailure | DNR);
  });

  it("discards the ranges of Dataset Management, and takes hints", async () => {
    const bench = await Bench.open(await make());
    const data = await bench.data(8192);
    data.bytes.fill(0x55);
    expect(bench.io(NvmOpcode.write, 0, 16, data)).toBe(0);
    const view = viewOf(data.bytes);
    for (const [i, lba] of [2, 9].entries()) {
      view.setUint32(i * 16, 0, true);
      view.setUint32(i * 16 + 4, 2, true);
      view.setUint32(i * 16 + 8, lba, true);
      view.setUint32(i * 16 + 12, 0, true);
    }
    const command = bench.command(NvmOpcode.datasetManagement, 0, 1, data);
    command.setData(data.buffer, 0, 32);
    command.dwords.set([1, 4, 0, 0, 0, 0]);
    expect(bench.run(command)).toBe(0);
    const disk = bench.harness.disk(0, 8192);
    const isZero = (lba: number) => disk[lba * BLOCK_BYTES] === 0;
    expect([1, 2, 3, 4, 8, 9, 10, 11].map(isZero)).toEqual([
      false,
      true,
      true,
      false,
      false,
      true,
      true,
      false,
    ]);
    view.setUint32(8, 0xffff_ffff, true);
    expect(bench.run(command)).toBe(NvmeStatus.lbaOutOfRange | DNR);
    command.dwords[1] = 1;
    expect(bench.run(command)).toBe(0);
  });

  it("refuses what makes no sense, with the right status", async () => {
    const bench = await Bench.open(await make());
    const data = await bench.data(4096);
    const { blocks } = bench.harness.namespace;
    expect(bench.io(NvmOpcode.read, blocks - 7, 8, data)).toBe(NvmeStatus.lbaOutOfRange | DNR);
    expect(bench.io(0x7e, 0, 8, null)).toBe(NvmeStatus.invalidOpcode | DNR);
    const stranger = bench.command(NvmOpcode.read, 0, 8, data);
    stranger.nsid = 7;
    expect(bench.run(stranger)).toBe(NvmeStatus.invalidNamespaceOrFormat | DNR);
    const short = bench.command(NvmOpcode.read, 0, 8, data);
    short.setData(data.buffer, 0, 512);
    expect(bench.run(short)).toBe(NvmeStatus.dataSglLengthInvalid | DNR);
    const huge = bench.command(NvmOpcode.read, 0, 8, data);
    huge.setRange(0, 65_536, false);
    expect(bench.run(huge) & 0x7ff).not.toBe(0);
    // And goes on working.
    expect(bench.io(NvmOpcode.read, 0, 8, data)).toBe(0);
    const log = viewOf(await bench.settle(bench.host.logPage(LogPage.errorInformation, 64 * 5)));
    const entries = [1, 2, 3, 4].map((i) => ({
      location: ErrorLog.LOCATION.get(log, i * 64),
      trtype: ErrorLog.TRTYPE.get(log, i * 64),
      lba: ErrorLog.LBA.get(log, i * 64),
    }));
    expect(ErrorLog.STATUS.get(log, 0) >> 1).toBeGreaterThan(0);
    // Newest first: length of the SGL, NSID, opcode, SLBA. Only some commands name blocks, and none
    // of these errors is the transport's.
    expect(entries).toEqual([
      { location: 32, trtype: 0, lba: 0 },
      { location: 4, trtype: 0, lba: 0 },
      { location: 0, trtype: 0, lba: 0 },
      { location: 40, trtype: 0, lba: blocks - 7 },
    ]);
  });

  it("counts SQHD, or leaves it alone when flow control is off", async () => {
    const harness = await make();
    const bench = await Bench.open(harness, { depth: 4 });
    const heads = [];
    for (let i = 0; i < 5; i++) {
      bench.io(NvmOpcode.flush, 0, 1, null);
      heads.push(bench.queue.sqHead);
    }
    // The Connect command was the first entry.
    expect(heads).toEqual([2, 3, 0, 1, 2]);
    const free = await Bench.open(harness, { disableSqFlowControl: true });
    free.io(NvmOpcode.flush, 0, 1, null);
    expect(free.queue.sqHead).toBe(0xffff);
  });
}

function adminContract(make: () => Promise<TransportHarness>): void {
  it("answers Identify and log pages", async () => {
    const bench = await Bench.open(await make());
    const { host } = bench;
    const data = await bench.data(4096);
    bench.io(NvmOpcode.write, 0, 8, data);
    const smart = viewOf(await bench.settle(host.logPage(LogPage.smart, 512)));
    expect(Smart.HOST_WRITES.get(smart)).toBe(1);
    const effects = viewOf(await bench.settle(host.logPage(LogPage.commandEffects, 4096)));
    expect(effects.getUint32(1024 + 4 * NvmOpcode.write, true)).toBe(3);
    const descriptors = await bench.settle(host.identify(Cns.namespaceDescriptors, 1));
    expect(Array.from(descriptors.subarray(0, 2))).toEqual([2, 16]);
    const inactive = await bench.settle(host.identify(Cns.namespace, 9));
    expect(inactive.every((byte) => byte === 0)).toBe(true);
    await expect(bench.settle(host.identify(Cns.namespaceDescriptors, 9))).rejects.toThrow(
      /Invalid Namespace/,
    );
    await expect(bench.settle(host.logPage(0xc0, 512))).rejects.toThrow(/Invalid Log Page/);
  });

  it("keeps features", async () => {
    const { host, settle } = await Bench.open(await make()).then((bench) => ({
      host: bench.host,
      settle: <T>(promise: Promise<T>) => bench.settle(promise),
    }));
    const set = (fid: number, value: number) =>
      settle(host.admin({ opcode: AdminOpcode.setFeatures, dwords: [fid, value] }));
    const get = async (fid: number) =>
      (await settle(host.admin({ opcode: AdminOpcode.getFeatures, dwords: [fid] }))).result0;
    await set(Feature.keepAliveTimer, 12_345);
    expect(await get(Feature.keepAliveTimer)).toBe(12_400);
    await set(Feature.asyncEventConfiguration, OAES_ANA_CHANGE);
    expect(await get(Feature.asyncEventConfiguration)).toBe(OAES_ANA_CHANGE);
    await expect(set(Feature.hostMemoryBuffer, 0)).rejects.toThrow(/Invalid Field/);
    expect(await get(Feature.volatileWriteCache)).toBe(1);
    await set(Feature.volatileWriteCache, 0);
    expect(await get(Feature.volatileWriteCache)).toBe(0);
    const id = await settle(
      host.admin({
        opcode: AdminOpcode.getFeatures,
        dwords: [Feature.hostIdentifier, 1],
        dataBytes: 16,
      }),
    );
    expect(id.data[15]).toBe(1);
  });

  it("tells of namespaces that come and go, once until the log is read", async () => {
    const harness = await make();
    const bench = await Bench.open(harness);
    const events: number[] = [];
    bench.host.onEvent = (event) => events.push(event);
    await bench.settle(bench.host.enableEvents(OAES_NAMESPACE_ATTRIBUTE));
    const second = harness.addNamespace(2);
    harness.subsystem.enable(second);
    harness.reactor.runUntilIdle();
    harness.subsystem.disable(second);
    harness.reactor.runUntilIdle();
    expect(events).toEqual([0x04_00_02]);
    const log = viewOf(await bench.settle(bench.host.logPage(LogPage.changedNamespaces, 4096)));
    expect([log.getUint32(0, true), log.getUint32(4, true)]).toEqual([2, 0]);
    harness.subsystem.enable(second);
    harness.reactor.runUntilIdle();
    // The event that was held back, and the new one, are the same notice.
    expect(events.length).toBe(2);
    await bench.settle(bench.host.identifyNamespaces());
    expect(bench.host.namespaces.map(({ nsid }) => nsid)).toEqual([1, 2]);
  });

  it("refuses I/O to a path that is inaccessible", async () => {
    const harness = await make();
    const bench = await Bench.open(harness);
    const data = await bench.data(4096);
    harness.target.setAnaState(harness.port, 1, AnaState.inaccessible);
    expect(bench.io(NvmOpcode.read, 0, 8, data)).toBe(NvmeStatus.anaInaccessible);
    harness.target.setAnaState(harness.port, 1, AnaState.optimized);
    expect(bench.io(NvmOpcode.read, 0, 8, data)).toBe(0);
    const log = viewOf(await bench.settle(bench.host.logPage(LogPage.ana, 64)));
    expect(log.getUint8(16 + 16)).toBe(AnaState.optimized);
  });
}

function teardownContract(make: () => Promise<TransportHarness>, isInstant: boolean): void {
  it("ends a host that is silent for too long, and not one that works", async () => {
    const harness = await make();
    const silent = await Bench.open(harness, { keepAliveMs: 1000 });
    const { host } = silent;
    harness.reactor.remove(host);
    const worker = await Bench.open(harness, { keepAliveMs: 1000 });
    for (let i = 0; i < 10; i++) {
      harness.advance(400e6);
      worker.io(NvmOpcode.flush, 0, 1, null);
      await worker.idle();
    }
    harness.reactor.add(host);
    await worker.idle();
    expect(host.ended).not.toBeNull();
    expect(worker.host.ended).toBeNull();
    expect(harness.subsystem.controllers.size).toBe(1);
  });

  it("closes a connection over which no Connect command comes", async () => {
    const harness = await make();
    const { transport } = harness.host().options;
    const options = { qid: 0, depth: 8, cntlid: 0, inCapsuleBytes: 0 };
    const channel = await harness.reactor.settle(transport.connect(options), "a connection");
    await quiesce(harness);
    expect(harness.target.isIdle).toBe(false);
    harness.advance(31e9);
    await quiesce(harness);
    expect(harness.target.isIdle).toBe(true);
    await harness.reactor.settle(channel.close(), "the end");
  });

  const unlessInstant = (name: string, test: () => Promise<void>): void => {
    if (!isInstant) it(name, test);
  };
  unlessInstant("drains when the host leaves under load", async () => {
    const harness = await make();
    const bench = await Bench.open(harness, { depth: 16 });
    const data = await bench.data(16 * 4096);
    harness.stall(true);
    const commands = Array.from({ length: 15 }, (_, i) =>
      bench.command(i % 2 === 0 ? NvmOpcode.write : NvmOpcode.read, i * 8, 8, data, i * 4096),
    );
    for (const command of commands) expect(bench.queue.submit(command)).toBe(SubmitStatus.ok);
    bench.queue.kick();
    for (let i = 0; i < 20; i++) harness.reactor.round();
    const leaving = bench.host.disconnect();
    for (let i = 0; i < 20; i++) {
      harness.reactor.round();
      await Promise.resolve();
    }
    expect(harness.target.isIdle).toBe(false);
    harness.stall(false);
    await bench.settle(leaving);
    await bench.idle();
    expect(harness.target.isIdle).toBe(true);
    expect(bench.done).toBe(15);
    expect(bench.finished.every(({ status }) => status === NvmeStatus.hostPathError)).toBe(true);
    const again = await Bench.open(harness);
    expect(again.io(NvmOpcode.write, 0, 8, await again.data(4096))).toBe(0);
  });

  it("drains when the target goes under load", async () => {
    const harness = await make();
    const bench = await Bench.open(harness, { depth: 16 });
    const data = await bench.data(16 * 4096);
    harness.stall(true);
    for (let i = 0; i < 15; i++) {
      bench.queue.submit(bench.command(NvmOpcode.write, i * 8, 8, data, i * 4096));
    }
    bench.queue.kick();
    for (let i = 0; i < 20; i++) harness.reactor.round();
    harness.target.shutdown();
    harness.stall(false);
    await bench.idle();
    expect(harness.target.isIdle).toBe(true);
    expect(bench.done).toBe(15);
    expect(bench.host.ended).not.toBeNull();
    await bench.settle(bench.host.disconnect());
  });

  it("takes its I/O queues away with a reset, and gives them back", async () => {
    const harness = await make();
    const bench = await Bench.open(harness);
    await bench.settle(bench.host.disconnect());
    await bench.idle();
    expect(harness.target.isIdle).toBe(true);
    const host = harness.host({ hostNqn: HOST_NQN });
    await bench.settle(host.connect());
    expect(host.queues.length).toBe(1);
  });
}
