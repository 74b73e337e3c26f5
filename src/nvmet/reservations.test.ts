/**
 * Reservations over a transport: commands on I/O queues of several hosts, what they keep out, who
 * hears of it, what Preempt and Abort waits for.
 */
import { describe, expect, it } from "vitest";
import { DeafNetwork } from "../../testing/deaf-network.ts";
import { type HostData, loopHarness, type TransportHarness } from "../../testing/nvmet-harness.ts";
import { tcpHarness } from "../../testing/nvmet-tcp-harness.ts";
import { Bench, quiesce } from "../../testing/nvmet-transport-contract.ts";
import { viewOf } from "../core/index.ts";
import {
  AdminOpcode,
  Cns,
  Feature,
  IdCtrl,
  IdNs,
  LogPage,
  NSID_ALL,
  NvmeStatus,
  NvmOpcode,
  ONCS_RESERVATIONS,
  ReservationNotice,
  ReservationNoticeLog,
  STATUS_DNR,
} from "../spec/nvme/index.ts";
import { type HostCommand, TcpHostTransport } from "./index.ts";

const DNR = STATUS_DNR;
const CONFLICT = NvmeStatus.reservationConflict | DNR;
const RESERVATION_EVENT = 0x80_00_06;
const WRITE_EXCLUSIVE = 1;

interface Member {
  readonly bench: Bench;
  readonly events: number[];
  readonly data: HostData;
  /** Keys of commands, apart from the data of reads and writes. */
  readonly keys: HostData;
}

/** A host with an identifier of its own, that listens. */
async function member(harness: TransportHarness, n: number, options = {}): Promise<Member> {
  const bench = await Bench.open(harness, { hostId: new Uint8Array(16).fill(n), ...options });
  const events: number[] = [];
  bench.host.onEvent = (event) => events.push(event);
  await bench.settle(bench.host.enableEvents(0));
  return { bench, events, data: await bench.data(8192), keys: await bench.data(64) };
}

/** A reservation command with its two keys, ready to submit. */
function prepare(
  { bench, keys }: Member,
  opcode: number,
  cdw10: number,
  current: number,
  other = 0,
): HostCommand {
  const command = bench.command(opcode, 0, 1, null);
  command.dwords.fill(0);
  command.dwords[0] = cdw10;
  const view = viewOf(keys.bytes);
  view.setBigUint64(0, BigInt(current), true);
  view.setBigUint64(8, BigInt(other), true);
  command.setData(keys.buffer, 0, opcode === NvmOpcode.reservationRelease ? 8 : 16);
  return command;
}

const run = (who: Member, ...command: [number, number, number, number?]): number =>
  who.bench.run(prepare(who, ...command));
const register = (who: Member, key: number, cdw10 = 0): number =>
  run(who, NvmOpcode.reservationRegister, cdw10, 0, key);
const acquire = (who: Member, type: number, key: number): number =>
  run(who, NvmOpcode.reservationAcquire, type << 8, key);
const io = ({ bench, data }: Member, opcode: number): number =>
  bench.io(opcode, 0, 8, opcode === NvmOpcode.flush ? null : data);

async function notice({ bench }: Member) {
  const log = await bench.settle(bench.host.logPage(LogPage.reservationNotification, 64));
  const view = viewOf(log);
  const { LPC, TYPE, AVAILABLE, NSID } = ReservationNoticeLog;
  return [LPC, TYPE, AVAILABLE, NSID].map((field) => field.get(view));
}

describe.each([
  ["loop", async () => loopHarness()],
  ["tcp", () => tcpHarness()],
] as const)("reservations over %s", (_name, make) => {
  it("are announced, taken, kept and given back", async () => {
    const harness = await make();
    const [a, b] = [await member(harness, 1), await member(harness, 2)];
    const controller = viewOf(await a.bench.settle(a.bench.host.identify(Cns.controller, 0)));
    expect(IdCtrl.ONCS.get(controller) & ONCS_RESERVATIONS).toBe(ONCS_RESERVATIONS);
    const namespace = viewOf(await a.bench.settle(a.bench.host.identify(Cns.namespace, 1)));
    // All types, IEKEY of 1.3; nothing to persist in.
    expect(IdNs.RESCAP.get(namespace)).toBe(0xfe);
    expect(acquire(a, WRITE_EXCLUSIVE, 1)).toBe(CONFLICT);
    expect(register(a, 1)).toBe(0);
    expect(acquire(a, WRITE_EXCLUSIVE, 1)).toBe(0);
    expect(io(a, NvmOpcode.write)).toBe(0);
    expect(io(b, NvmOpcode.read)).toBe(0);
    expect(io(b, NvmOpcode.write)).toBe(CONFLICT);
    expect(io(b, NvmOpcode.flush)).toBe(CONFLICT);
    // Another controller of the same host has the same rights.
    const sibling = await member(harness, 1);
    expect(io(sibling, NvmOpcode.write)).toBe(0);
    // And so has the same host when it comes again; a stranger that came later has not.
    await a.bench.settle(a.bench.host.disconnect());
    const again = await member(harness, 1);
    expect(io(again, NvmOpcode.write)).toBe(0);
    expect(io(await member(harness, 3), NvmOpcode.write)).toBe(CONFLICT);
    expect(run(again, NvmOpcode.reservationRelease, WRITE_EXCLUSIVE << 8, 1)).toBe(0);
    expect(io(b, NvmOpcode.write)).toBe(0);
  });

  it("are reported, in the extended structure alone", async () => {
    const a = await member(await make(), 0xab);
    expect(register(a, 0x1234_5678)).toBe(0);
    expect(acquire(a, 2, 0x1234_5678)).toBe(0);
    const report = a.bench.command(NvmOpcode.reservationReport, 0, 1, null);
    report.dwords.set([31, 0, 0, 0, 0, 0]);
    report.setData(a.data.buffer, 0, 128);
    expect(a.bench.run(report)).toBe(NvmeStatus.hostIdInconsistentFormat | DNR);
    report.dwords[1] = 1;
    expect(a.bench.run(report)).toBe(0);
    const view = viewOf(a.data.bytes);
    expect([view.getUint32(0, true), view.getUint8(4), view.getUint16(5, true)]).toEqual([1, 2, 1]);
    expect([view.getUint16(64, true), view.getUint8(66)]).toEqual([0xffff, 1]);
    expect(view.getUint32(72, true)).toBe(0x1234_5678);
    expect([...a.data.bytes.slice(80, 96)]).toEqual(Array(16).fill(0xab));
  });

  it("tell the others, page by page, unless they masked it", async () => {
    const harness = await make();
    const [a, b, c] = [
      await member(harness, 1),
      await member(harness, 2),
      await member(harness, 3),
    ];
    for (const [i, who] of [a, b, c].entries()) expect(register(who, i + 1)).toBe(0);
    const mask = 1 << ReservationNotice.released;
    await c.bench.settle(
      c.bench.host.admin({
        opcode: AdminOpcode.setFeatures,
        nsid: NSID_ALL,
        dwords: [Feature.reservationNotificationMask, mask],
      }),
    );
    const registrantsOnly = 3;
    for (let i = 0; i < 2; i++) {
      expect(acquire(a, registrantsOnly, 1)).toBe(0);
      expect(run(a, NvmOpcode.reservationRelease, registrantsOnly << 8, 1)).toBe(0);
    }
    await quiesce(harness);
    expect([a.events, b.events, c.events]).toEqual([[], [RESERVATION_EVENT], []]);
    expect(await notice(b)).toEqual([1, ReservationNotice.released, 1, 1]);
    await quiesce(harness);
    // There was another page: it is told of after the first one was read.
    expect(b.events.length).toBe(2);
    expect(await notice(b)).toEqual([2, ReservationNotice.released, 0, 1]);
    expect(await notice(b)).toEqual([0, 0, 0, 0]);
    const clear = 1;
    expect(run(a, NvmOpcode.reservationRelease, clear, 1)).toBe(0);
    await quiesce(harness);
    expect(await notice(c)).toEqual([1, ReservationNotice.reservationPreempted, 0, 1]);
  });

  it("Preempt and Abort waits for what the victim has in flight", async () => {
    const harness = await make();
    const [a, b] = [await member(harness, 1), await member(harness, 2)];
    expect(register(a, 1)).toBe(0);
    expect(register(b, 2)).toBe(0);
    expect(acquire(a, WRITE_EXCLUSIVE, 1)).toBe(0);
    harness.stall(true);
    const write = a.bench.command(NvmOpcode.write, 0, 8, a.data);
    a.bench.queue.submit(write);
    a.bench.queue.kick();
    for (let i = 0; i < 30; i++) harness.reactor.round();
    const preemptAndAbort = 2 | (WRITE_EXCLUSIVE << 8);
    const preempt = prepare(b, NvmOpcode.reservationAcquire, preemptAndAbort, 2, 1);
    b.bench.queue.submit(preempt);
    b.bench.queue.kick();
    for (let i = 0; i < 30; i++) harness.reactor.round();
    // The state has changed; the command is not over.
    expect(harness.namespace.reservations.state.holder).toBe("02".repeat(16));
    expect([write.isBusy, preempt.isBusy]).toEqual([true, true]);
    harness.stall(false);
    await quiesce(harness);
    expect([write.isBusy, preempt.isBusy]).toEqual([false, false]);
    expect(preempt.status).toBe(0);
    expect([0, NvmeStatus.abortedPreempt]).toContain(write.status);
    expect(io(a, NvmOpcode.write)).toBe(CONFLICT);
    expect(io(b, NvmOpcode.write)).toBe(0);
    expect(await notice(a)).toEqual([1, ReservationNotice.registrationPreempted, 0, 1]);
  });

  it("refuse hosts without an identifier, namespaces without, and wrong lengths", async () => {
    const harness = await make();
    const nobody = await member(harness, 0);
    expect(register(nobody, 1)).toBe(NvmeStatus.hostIdNotInitialized | DNR);
    const a = await member(harness, 1);
    const command = prepare(a, NvmOpcode.reservationRegister, 0, 0, 1);
    command.nsid = 9;
    expect(a.bench.run(command)).toBe(NvmeStatus.invalidNamespaceOrFormat | DNR);
    command.nsid = 1;
    command.setData(a.keys.buffer, 0, 32);
    expect(a.bench.run(command)).toBe(NvmeStatus.dataSglLengthInvalid | DNR);
  });
});

it("Preempt and Abort does not wait for data that a victim never sends", async () => {
  const harness = await tcpHarness();
  const network = new DeafNetwork(harness.network);
  const transport = new TcpHostTransport({ network, address: "127.0.0.1", port: 4420 });
  const [a, b] = [await member(harness, 1, { transport }), await member(harness, 2)];
  expect(register(a, 1)).toBe(0);
  expect(register(b, 2)).toBe(0);
  expect(acquire(a, WRITE_EXCLUSIVE, 1)).toBe(0);
  const before = harness.disk(0, 4096);
  a.data.bytes.fill(0xa5);
  const write = a.bench.command(NvmOpcode.write, 0, 8, a.data);
  a.bench.queue.submit(write);
  a.bench.queue.kick();
  network.hold();
  await quiesce(harness);
  expect(write.isBusy).toBe(true);
  // Preempted, and answered at once.
  expect(run(b, NvmOpcode.reservationAcquire, 2 | (WRITE_EXCLUSIVE << 8), 2, 1)).toBe(0);
  // When the data comes after all, it is not written.
  network.release();
  await quiesce(harness);
  expect([write.isBusy, write.status]).toEqual([false, NvmeStatus.abortedPreempt]);
  expect(harness.disk(0, 4096)).toEqual(before);
});
