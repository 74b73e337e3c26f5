/** Copy: what it moves, what it refuses, where the data goes, and what is left when it fails. */
import { describe, expect, it } from "vitest";
import { type HostData, loopHarness } from "../../testing/nvmet-harness.ts";
import { rdmaHarness } from "../../testing/nvmet-rdma-harness.ts";
import { tcpHarness } from "../../testing/nvmet-tcp-harness.ts";
import { Bench, expectSame, quiesce } from "../../testing/nvmet-transport-contract.ts";
import { Prng, viewOf } from "../core/index.ts";
import {
  Cns,
  IdCtrl,
  IdNs,
  NvmeStatus,
  NvmOpcode,
  ONCS_COPY,
  STATUS_DNR,
} from "../spec/nvme/index.ts";
import type { HostCommand } from "./index.ts";

const DNR = STATUS_DNR;
const BLOCK = 512;
type Range = readonly [lba: number, blocks: number];

/** A Copy of `ranges` to `target`, its list at the start of `data`. */
function copyOf(
  bench: Bench,
  data: HostData,
  target: number,
  ranges: readonly Range[],
): HostCommand {
  const view = viewOf(data.bytes);
  for (const [i, [lba, blocks]] of ranges.entries()) {
    view.setUint32(32 * i + 8, lba >>> 0, true);
    view.setUint32(32 * i + 12, Math.floor(lba / 2 ** 32), true);
    view.setUint16(32 * i + 16, blocks - 1, true);
  }
  const command = bench.command(NvmOpcode.copy, target, 1, null);
  command.dwords[2] = ranges.length - 1;
  command.setData(data.buffer, 0, 32 * ranges.length);
  return command;
}

async function filled(bench: Bench, bytes: number): Promise<Uint8Array> {
  const data = await bench.data(bytes);
  new Prng(5).fill(data.bytes);
  expect(bench.io(NvmOpcode.write, 0, bytes / BLOCK, data)).toBe(0);
  return data.bytes.slice();
}

describe.each([
  ["tcp", () => tcpHarness()],
  ["rdma", () => rdmaHarness()],
] as const)("copy over %s", (_name, make) => {
  it("moves ranges one behind the other, in pieces", async () => {
    const bench = await Bench.open(await make());
    const controller = viewOf(await bench.settle(bench.host.identify(Cns.controller, 0)));
    expect(IdCtrl.ONCS.get(controller) & ONCS_COPY).toBe(ONCS_COPY);
    expect(IdCtrl.OCFS.get(controller)).toBe(1);
    const namespace = viewOf(await bench.settle(bench.host.identify(Cns.namespace, 1)));
    const limits = [IdNs.MSSRL, IdNs.MCL, IdNs.MSRC].map((field) => field.get(namespace));
    expect(limits).toEqual([2048, 32_768, 127]);
    const source = await filled(bench, 512 * 1024);
    const list = await bench.data(4096);
    const ranges: Range[] = [
      [3, 1],
      [100, 700],
      [0, 17],
    ];
    expect(bench.run(copyOf(bench, list, 2048, ranges))).toBe(0);
    const wanted = ranges.map(([lba, n]) => source.subarray(lba * BLOCK, (lba + n) * BLOCK));
    let at = 2048 * BLOCK;
    for (const piece of wanted) {
      expectSame(bench.harness.disk(at, piece.length), piece);
      at += piece.length;
    }
    expect(bench.harness.disk(at, BLOCK).every((byte) => byte === 0)).toBe(true);
    expect(bench.harness.namespace.inFlight).toBe(0);
  });

  it.each<[string, number, readonly Range[], (command: HostCommand) => void, number, number]>([
    [
      "a source that is not there",
      0,
      [
        [0, 1],
        [2 ** 40, 1],
      ],
      () => undefined,
      NvmeStatus.lbaOutOfRange,
      1,
    ],
    ["a source beyond 2^48", 0, [[2 ** 52, 1]], () => undefined, NvmeStatus.lbaOutOfRange, 0],
    ["a target that is too short", 2 ** 40, [[0, 1]], () => undefined, NvmeStatus.lbaOutOfRange, 0],
    [
      "a range above MSSRL",
      0,
      [[0, 2049]],
      () => undefined,
      NvmeStatus.commandSizeLimitExceeded,
      0,
    ],
    [
      "a format",
      0,
      [[0, 1]],
      (command) => (command.dwords[2] |= 0x100),
      NvmeStatus.invalidField,
      0,
    ],
    [
      "more ranges than MSRC",
      0,
      [[0, 1]],
      (command) => (command.dwords[2] = 128),
      NvmeStatus.commandSizeLimitExceeded,
      0,
    ],
    [
      "a list of another length",
      0,
      [[0, 1]],
      (command) => (command.dwords[2] = 1),
      NvmeStatus.dataSglLengthInvalid,
      0,
    ],
  ])("refuses %s", async (_what, target, ranges, change, status, first) => {
    const bench = await Bench.open(await make());
    await filled(bench, 64 * 1024);
    const before = bench.harness.disk(0, 128 * 1024);
    const command = copyOf(bench, await bench.data(8192), target, ranges);
    change(command);
    expect(bench.run(command)).toBe(status | DNR);
    expect(command.result0).toBe(first);
    expectSame(bench.harness.disk(0, 128 * 1024), before);
  });

  it("is refused by write protection and by a namespace that went", async () => {
    const harness = await make();
    const bench = await Bench.open(harness);
    const command = copyOf(bench, await bench.data(4096), 64, [[0, 8]]);
    harness.subsystem.setReadOnly(harness.namespace, true);
    expect(bench.run(command)).toBe(NvmeStatus.namespaceWriteProtected | DNR);
    harness.subsystem.setReadOnly(harness.namespace, false);
    harness.stall(true);
    bench.queue.submit(command);
    bench.queue.kick();
    for (let i = 0; i < 60; i++) harness.reactor.round();
    harness.subsystem.removeNamespace(harness.namespace);
    harness.stall(false);
    await quiesce(harness);
    // The read was with the disk; there is nothing to write to any more.
    expect(command.status).toBe(NvmeStatus.invalidNamespaceOrFormat | DNR);
    expect(harness.namespace.inFlight).toBe(0);
  });
});

describe("where a copy's data goes", () => {
  it("to the provider and back, and not through host memory", async () => {
    const harness = await rdmaHarness({ description: "lease" });
    const bench = await Bench.open(harness);
    await filled(bench, 64 * 1024);
    const payload = () =>
      harness.rig.fabric
        .hostMemoryTraffic()
        .filter(({ purpose }) => purpose === "payload")
        .reduce((sum, { readBytes, writtenBytes }) => sum + readBytes + writtenBytes, 0);
    const before = payload();
    expect(bench.run(copyOf(bench, await bench.data(4096), 1024, [[0, 128]]))).toBe(0);
    expect(payload()).toBe(before);
    const { provider } = harness.rig;
    expect(provider?.pool.available).toBe(provider?.sizeBytes);
  });

  it("nowhere on the loop transport, which has no memory for it", async () => {
    const bench = await Bench.open(loopHarness());
    const controller = viewOf(await bench.settle(bench.host.identify(Cns.controller, 0)));
    expect(IdCtrl.ONCS.get(controller) & ONCS_COPY).toBe(0);
    const command = copyOf(bench, await bench.data(4096), 64, [[0, 8]]);
    expect(bench.run(command)).toBe(NvmeStatus.invalidOpcode | DNR);
  });
});
