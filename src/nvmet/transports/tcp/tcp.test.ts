import { expect, it } from "vitest";
import { tcpHarness } from "../../../../testing/nvmet-tcp-harness.ts";
import {
  Bench,
  expectSame,
  nvmetTransportContract,
} from "../../../../testing/nvmet-transport-contract.ts";
import { PowerCutFile } from "../../../../testing/power-cut-file.ts";
import type { RigOptions } from "../../../../testing/target-rig.ts";
import { Prng } from "../../../core/index.ts";
import { FileStore } from "../../../fabric/index.ts";
import { NvmOpcode } from "../../../spec/nvme/index.ts";
import { HostCommand } from "../../index.ts";

nvmetTransportContract("tcp", () => tcpHarness());
nvmetTransportContract("tcp, from a file", () => tcpHarness(fromFile()), true);

function fromFile(): { rig: RigOptions } {
  const image = new Uint8Array(4 * 2 ** 20);
  const store = new FileStore(new PowerCutFile(image, { sectorBytes: 512 }), image.length);
  return { rig: { backend: "cpu", disk: { namespaces: [{ store }] } } };
}

const VARIANTS: [string, Parameters<typeof tcpHarness>[0], object][] = [
  ["header digest", { host: { headerDigest: true } }, {}],
  ["both digests, pieces cut anywhere", cutAnywhere(), { disableSqFlowControl: true }],
  ["data aligned to 64 and 128 bytes", { host: { hpda: 15 }, port: { cpda: 31 } }, {}],
  ["in-capsule data", {}, { inCapsuleBytes: 8192 }],
  ["no disk, from memory", { rig: { backend: "cpu" } }, {}],
  [
    "no disk, both digests, pieces cut anywhere",
    { rig: { backend: "cpu" }, ...cutAnywhere() },
    { disableSqFlowControl: true },
  ],
  [
    "no disk and a window of 4 KiB",
    { rig: { backend: "cpu" }, network: { windowBytes: 4096 } },
    { disableSqFlowControl: true },
  ],
  ["a window of 4 KiB", { network: { windowBytes: 4096 } }, { disableSqFlowControl: true }],
];

function cutAnywhere(): Parameters<typeof tcpHarness>[0] {
  const prng = new Prng(7);
  return {
    host: { headerDigest: true, dataDigest: true },
    network: { cut: (available) => 1 + prng.below(Math.min(available, 3000)) },
  };
}

it.each(VARIANTS)("moves data with %s", async (_name, options, hostOptions) => {
  const harness = await tcpHarness(options);
  const bench = await Bench.open(harness, { depth: 8, ...hostOptions });
  const data = await bench.data(2 * 2 ** 18);
  new Prng(3).fill(data.bytes);
  const half = 2 ** 18;
  for (const bytes of [512, 4096, 8192, 65_536, half]) {
    const written = data.bytes.slice(0, bytes);
    expect(bench.io(NvmOpcode.write, 16, bytes / 512, data)).toBe(0);
    expectSame(harness.disk(16 * 512, bytes), written);
    data.bytes.fill(0, half);
    expect(bench.io(NvmOpcode.read, 16, bytes / 512, data, half)).toBe(0);
    expectSame(data.bytes.slice(half, half + bytes), written);
  }
});

it("gathers and scatters the segments of a host's memory", async () => {
  const bench = await Bench.open(await tcpHarness());
  const data = await bench.data(16_384);
  new Prng(4).fill(data.bytes);
  const command = new HostCommand(bench);
  command.opcode = NvmOpcode.write;
  command.nsid = 1;
  command.setRange(0, 16, false);
  command.addData(data.buffer, 100, 1000);
  command.addData(data.buffer, 5000, 7192);
  const wanted = Buffer.concat([data.bytes.slice(100, 1100), data.bytes.slice(5000, 12_192)]);
  expect(bench.run(command)).toBe(0);
  expectSame(bench.harness.disk(0, 8192), wanted);
  data.bytes.fill(0);
  command.opcode = NvmOpcode.read;
  expect(bench.run(command)).toBe(0);
  const got = Buffer.concat([data.bytes.slice(100, 1100), data.bytes.slice(5000, 12_192)]);
  expectSame(got, wanted);
  expect(data.bytes[99] === 0 && data.bytes[1100] === 0).toBe(true);
});
