/** Reads that go out from where the blocks are: what can come between a command and its data. */

import { expect, it } from "vitest";
import { DeafNetwork } from "../../../../testing/deaf-network.ts";
import { expectNothingHeld } from "../../../../testing/held-memory.ts";
import { type TcpHarness, tcpHarness } from "../../../../testing/nvmet-tcp-harness.ts";
import { Bench, expectSame, quiesce } from "../../../../testing/nvmet-transport-contract.ts";
import { PowerCutFile } from "../../../../testing/power-cut-file.ts";
import { Prng } from "../../../core/index.ts";
import { FileStore } from "../../../fabric/index.ts";
import { FileStatus } from "../../../platform/index.ts";
import { Fuse, NvmeStatus, NvmOpcode } from "../../../spec/nvme/index.ts";
import { type Controller, SubmitStatus, TcpHostTransport } from "../../index.ts";

const MIB = 2 ** 20;
const BLOCK = 512;

/** A host that has asked for `count` MiB, each of all there is, and does not listen. */
async function deafReader(harness: TcpHarness, count: number, disableSqFlowControl = false) {
  const network = new DeafNetwork(harness.network);
  const transport = new TcpHostTransport({ network, address: "127.0.0.1", port: 4420 });
  const bench = await Bench.open(harness, { transport, disableSqFlowControl });
  const data = await bench.data(MIB);
  network.deafen();
  const commands = Array.from({ length: count }, () => {
    const command = bench.command(NvmOpcode.read, 0, MIB / BLOCK, data);
    expect(bench.queue.submit(command)).toBe(SubmitStatus.ok);
    return command;
  });
  bench.queue.kick();
  await quiesce(harness);
  return { network, bench, data, commands };
}

const controllersOf = ({ subsystem }: TcpHarness) =>
  [...subsystem.controllers.values()] as Controller[];

it("holds no memory for a deaf host, and sends the blocks as they are in the end", async () => {
  const harness = await tcpHarness({ rig: { backend: "cpu" } });
  const writer = await Bench.open(harness);
  const { network, data, commands } = await deafReader(harness, 40);
  const held = controllersOf(harness).flatMap(({ ioQueues }) =>
    [...ioQueues.values()].map(({ share }) => share.payloadBytes),
  );
  expect(Math.max(...held)).toBe(0);
  const fresh = await writer.data(MIB);
  new Prng(5).fill(fresh.bytes);
  expect(writer.io(NvmOpcode.write, 0, MIB / BLOCK, fresh)).toBe(0);
  network.heal();
  await quiesce(harness);
  expect(commands.map(({ status, isBusy }) => isBusy || status)).toEqual(new Array(40).fill(0));
  // The last of them was read after the write.
  expectSame(data.bytes, fresh.bytes);
  expect(harness.namespace.inFlight).toBe(0);
  expectNothingHeld(harness.rig.assembly);
});

it("never sends half of a block from before a write and half from after", async () => {
  const harness = await tcpHarness({ rig: { backend: "cpu" } });
  const writer = await Bench.open(harness);
  const written = await writer.data(MIB);
  // The send buffers hold less than 1 MiB: the write comes in the middle of the read.
  const { network, data, commands } = await deafReader(harness, 1);
  written.bytes.fill(1);
  expect(writer.io(NvmOpcode.write, 0, MIB / BLOCK, written)).toBe(0);
  network.heal();
  await quiesce(harness);
  expect(commands[0]?.status).toBe(0);
  expect([data.bytes[0], data.bytes[MIB - 1]]).toEqual([0, 1]);
  const isTorn = (at: number): boolean =>
    data.bytes.subarray(at, at + BLOCK).some((byte) => byte !== data.bytes[at]);
  for (let at = 0; at < MIB; at += BLOCK) expect(isTorn(at)).toBe(false);
});

it.each([false, true])("answers a read that fails half-way, flow control off: %s", async (off) => {
  const file = new PowerCutFile(new Uint8Array(2 * MIB), { sectorBytes: 512 });
  const store = new FileStore(file, 2 * MIB);
  const harness = await tcpHarness({ rig: { backend: "cpu", disk: { namespaces: [{ store }] } } });
  const { network, bench, data, commands } = await deafReader(harness, 3, off);
  file.failing.read = FileStatus.error;
  network.heal();
  await quiesce(harness);
  const code = NvmeStatus.unrecoveredReadError;
  expect(commands.map(({ status, isBusy }) => isBusy || status & 0x7ff)).toEqual([
    code,
    code,
    code,
  ]);
  file.failing.read = 0;
  expect(bench.io(NvmOpcode.read, 0, MIB / BLOCK, data)).toBe(0);
  expectNothingHeld(harness.rig.assembly);
});

it("ends reads that wait when their connection does, or their namespace goes", async () => {
  const harness = await tcpHarness({ rig: { backend: "cpu" } });
  const { namespace, subsystem } = harness;
  await deafReader(harness, 20);
  expect(namespace.inFlight).toBeGreaterThan(0);
  subsystem.removeNamespace(namespace);
  await quiesce(harness);
  harness.network.cutAll();
  await quiesce(harness);
  expect(namespace.inFlight).toBe(0);
  expectNothingHeld(harness.rig.assembly);
});

it("lets a fused pair wait for reads under way, and not for ever", async () => {
  const harness = await tcpHarness({ rig: { backend: "cpu" } });
  const bench = await Bench.open(harness);
  const { network } = await deafReader(harness, 4);
  const data = await bench.data(2 * BLOCK);
  data.bytes.fill(9, BLOCK);
  const compare = bench.command(NvmOpcode.compare, 8, 1, data);
  const write = bench.command(NvmOpcode.write, 8, 1, data, BLOCK);
  compare.fuse = Fuse.first;
  write.fuse = Fuse.second;
  for (const command of [compare, write]) bench.queue.submit(command);
  bench.queue.kick();
  await quiesce(harness);
  network.heal();
  await quiesce(harness);
  expect([compare, write].map(({ status, isBusy }) => isBusy || status)).toEqual([0, 0]);
  expect(harness.disk(8 * BLOCK, BLOCK).every((byte) => byte === 9)).toBe(true);
});

it("counts what was read, and copies it once", async () => {
  const harness = await tcpHarness({ rig: { backend: "cpu" } });
  const bench = await Bench.open(harness);
  const data = await bench.data(MIB);
  const before = harness.transport.copies.toSocket;
  for (const blocks of [1, 8, 256, 2048]) expect(bench.io(NvmOpcode.read, 0, blocks, data)).toBe(0);
  const bytes = (1 + 8 + 256 + 2048) * BLOCK;
  const { namespace } = harness;
  expect([namespace.reads, namespace.readBytes]).toEqual([4, bytes]);
  // One copy each, to where the socket takes it from.
  expect(harness.transport.copies.toSocket - before).toBe(bytes);
  expect(namespace.queue.inspect()).toMatchObject({ bios: 0, readBytes: bytes });
});
