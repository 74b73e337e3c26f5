/**
 * The promises of durability through all of the stack: a host over NVMe/TCP, target, block queue,
 * driver, controller model, store, and a medium that loses power. Fewer cuts than beneath the model
 * alone (fabric/devices/nvme/power-cut.test.ts): what is new here is that FUA, Flush and the write
 * cache's switch come down all the way.
 */

import { expect, it } from "vitest";
import {
  cutOften,
  type DurableDevice,
  type DurableOp,
  PromisedBlocks,
} from "../../testing/durability.ts";
import { tcpHarness } from "../../testing/nvmet-tcp-harness.ts";
import { Bench } from "../../testing/nvmet-transport-contract.ts";
import { PowerCutFile } from "../../testing/power-cut-file.ts";
import type { RigOptions } from "../../testing/target-rig.ts";
import { Prng } from "../core/index.ts";
import { FileStore } from "../fabric/index.ts";
import { AdminOpcode, Feature, NvmOpcode } from "../spec/nvme/index.ts";
import { HostCommand } from "./index.ts";

const BLOCK_BYTES = 512;
const BLOCKS = 24;
const BLOCKS_MAX = 16;
const DEPTH = 6;
const SLOT_BYTES = BLOCKS_MAX * BLOCK_BYTES;
const LISTS_AT = DEPTH * SLOT_BYTES;
const DEALLOCATE = 4;

/** The stack over a medium, as the workload drives it. */
async function stackDevice(store: FileStore, rig: RigOptions, writeThrough: boolean) {
  const harness = await tcpHarness({ rig: { ...rig, disk: { namespaces: [{ store }] } } });
  const bench = await Bench.open(harness, { depth: DEPTH + 1 });
  if (writeThrough) {
    const dwords = [Feature.volatileWriteCache, 0];
    await bench.settle(bench.host.admin({ opcode: AdminOpcode.setFeatures, dwords }));
  }
  const { buffer, bytes } = await bench.data(LISTS_AT + DEPTH * 16);
  const commands = Array.from({ length: DEPTH }, (_, slot) => {
    const command = new HostCommand(bench);
    command.nsid = 1;
    command.tag = slot;
    return command;
  });
  const fill = (command: HostCommand, op: DurableOp): void => {
    command.setData(null, 0, 0);
    command.setRange(op.lba, op.blocks, op.fua);
    switch (op.kind) {
      case "write":
        command.opcode = NvmOpcode.write;
        command.setData(buffer, op.slot * SLOT_BYTES, op.blocks * BLOCK_BYTES);
        return;
      case "flush":
        command.opcode = NvmOpcode.flush;
        command.dwords.fill(0);
        return;
      case "write zeroes":
        command.opcode = NvmOpcode.writeZeroes;
        return;
      default: {
        const at = LISTS_AT + op.slot * 16;
        const view = new DataView(bytes.buffer, bytes.byteOffset + at, 16);
        view.setUint32(4, op.blocks, true);
        view.setUint32(8, op.lba, true);
        command.opcode = NvmOpcode.datasetManagement;
        command.dwords.fill(0);
        command.dwords[1] = DEALLOCATE;
        command.setData(buffer, at, 16);
      }
    }
  };
  const device: DurableDevice = {
    data: (slot) => bytes.subarray(slot * SLOT_BYTES, (slot + 1) * SLOT_BYTES),
    submit(op) {
      const command = commands[op.slot];
      fill(command, op);
      expect(bench.queue.submit(command)).toBe(0);
      bench.queue.kick();
    },
    step() {
      // A few rounds: commands are caught on their way as often as not.
      for (let i = 0; i < 2; i++) harness.reactor.round();
      return bench.finished.splice(0).map(({ status, tag }) => {
        expect(status).toBe(0);
        return tag;
      });
    },
  };
  return { device, finish: () => bench.idle() };
}

const WAYS: [string, RigOptions, boolean][] = [
  ["host memory", { description: "host-memory" }, false],
  ["the SSD's CMB", { description: "lease", provider: "cmb" }, false],
  ["host memory, with the write cache off", { description: "host-memory" }, true],
  ["no disk, from the file itself", { backend: "cpu" }, false],
  ["no disk, with the write cache off", { backend: "cpu" }, true],
];

it.each(WAYS)("keeps every promise to a host over TCP, through %s", async (_name, rig, off) => {
  let cuts = 0;
  for (let seed = 1; seed <= 2; seed++) {
    const prng = new Prng(seed);
    const blank = new Uint8Array(BLOCKS * BLOCK_BYTES);
    const file = new PowerCutFile(blank, { sectorBytes: BLOCK_BYTES, isDeferred: seed % 2 === 1 });
    const store = new FileStore(file, blank.length);
    const { device, finish } = await stackDevice(store, rig, off);
    const sizes = { blocks: BLOCKS, blockBytes: BLOCK_BYTES, blocksMax: BLOCKS_MAX, depth: DEPTH };
    const options = { ...sizes, steps: 150, writeThrough: off, deallocates: true };
    const promised = new PromisedBlocks(BLOCKS, BLOCK_BYTES);
    const report = cutOften(device, file, promised, prng, options);
    expect(report).toMatchObject({ broken: 0, firstBroken: null });
    cuts += report.cuts;
    await finish();
  }
  expect(cuts).toBeGreaterThan(500);
});
