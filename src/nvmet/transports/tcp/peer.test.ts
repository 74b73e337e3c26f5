import { describe, expect, it } from "vitest";
import { type TcpHarnessOptions, tcpHarness } from "../../../../testing/nvmet-tcp-harness.ts";
import { Bench, expectSame } from "../../../../testing/nvmet-transport-contract.ts";
import { PEER_BAR, type RigOptions } from "../../../../testing/target-rig.ts";
import { Prng } from "../../../core/index.ts";
import { sha256 } from "../../../platform/index.ts";
import { NvmeStatus, NvmOpcode } from "../../../spec/nvme/index.ts";
import { HostCommand } from "../../index.ts";

const MIB = 2 ** 20;
const SIZES = [4096, 65_536, MIB];
/** Of a provider: what is looked at. */
const LOOK_BYTES = 4 * MIB;

async function open(options: RigOptions, more: Omit<TcpHarnessOptions, "rig"> = {}) {
  const harness = await tcpHarness({
    rig: { description: "lease", cmbBytes: LOOK_BYTES, ...options },
    ...more,
  });
  const bench = await Bench.open(harness, { depth: 8, inCapsuleBytes: 8192 });
  const data = await bench.data(2 * MIB);
  new Prng(11).fill(data.bytes.subarray(0, MIB));
  return { harness, bench, data, rig: harness.rig };
}
type Opened = Awaited<ReturnType<typeof open>>;

function digest(bytes: Uint8Array): string {
  const sum = sha256();
  sum.update(bytes);
  return sum.hex();
}

/** The owner looks into its own memory for a run of bytes. */
function ownerHas({ rig }: Opened, wanted: Uint8Array): boolean {
  const region = rig.fabric.open(rig.providerBdf).mapBar(PEER_BAR);
  const memory = new Uint8Array(Math.min(region.sizeBytes, LOOK_BYTES));
  region.readBytes(0, memory);
  const at = Buffer.from(memory.buffer).indexOf(wanted.subarray(0, 4096));
  if (at < 0) return false;
  return digest(memory.slice(at, at + wanted.length)) === digest(wanted);
}

/** Payload that any device moved to or from host memory. */
function hostPayload({ rig }: Opened): number {
  return rig.fabric
    .hostMemoryTraffic()
    .filter(({ purpose }) => purpose === "payload" || purpose === "capsules")
    .reduce((sum, { readBytes, writtenBytes }) => sum + readBytes + writtenBytes, 0);
}

const PROVIDERS: [string, RigOptions, string][] = [
  ["the SSD's own CMB, by leases", { provider: "cmb" }, "self"],
  ["the SSD's own CMB, by DMA addresses", { provider: "cmb", description: "dma-address" }, "self"],
  ["a GPU beside the SSD", { provider: "gpu" }, "bus"],
  ["a GPU beside the SSD, behind an IOMMU", { provider: "gpu", iommu: "strict" }, "bus"],
];

describe.each(PROVIDERS)("payload from sockets in %s", (_name, rigOptions, route) => {
  it("lands there and on the SSD, and comes back the same way", async () => {
    const opened = await open(rigOptions);
    const { bench, data, harness, rig } = opened;
    const { counters } = rig.assembly.orchestrator;
    const before = { ...harness.transport.copies };
    let payload = 0;
    for (const bytes of SIZES) {
      new Prng(bytes).fill(data.bytes.subarray(0, bytes));
      const written = data.bytes.slice(0, bytes);
      expect(bench.io(NvmOpcode.write, 64, bytes / 512, data)).toBe(0);
      expect(ownerHas(opened, written)).toBe(true);
      expect(digest(harness.disk(64 * 512, bytes))).toBe(digest(written));
      expect(bench.io(NvmOpcode.read, 64, bytes / 512, data, MIB)).toBe(0);
      expectSame(data.bytes.slice(MIB, MIB + bytes), written);
      payload += bytes;
    }
    expect(hostPayload(opened)).toBe(0);
    expect(counters.inspect()).toMatchObject({
      connectsWithProvider: 1,
      hostAllocations: 0,
      capsuleUses: 0,
      netBytes: { cpu: 2 * payload, "host-memory": 0, capsule: 0 },
      diskBytes: { [route]: 2 * payload, "host-memory": 0 },
    });
    // One copy of each byte in user space, in each direction.
    const { fromSocket, toSocket } = harness.transport.copies;
    expect([fromSocket - before.fromSocket, toSocket - before.toSocket]).toEqual([
      payload,
      payload,
    ]);
    expect(rig.provider?.pool.available).toBe(rig.provider?.sizeBytes);
  });
});

it("takes its data in pieces, with digests, as any other memory", async () => {
  const prng = new Prng(3);
  const { bench, data, harness } = await open(
    { provider: "cmb" },
    {
      host: { headerDigest: true, dataDigest: true },
      network: { cut: (available) => 1 + prng.below(Math.min(available, 3000)) },
    },
  );
  const written = data.bytes.slice(0, 65_536);
  expect(bench.io(NvmOpcode.write, 0, 128, data)).toBe(0);
  expectSame(harness.disk(0, 65_536), written);
});

it("keeps what the CPU itself reads in host memory: ranges of Dataset Management", async () => {
  const { bench, data, harness } = await open({ provider: "cmb" });
  expect(bench.io(NvmOpcode.write, 0, 8, data)).toBe(0);
  new DataView(data.bytes.buffer).setUint32(4, 8, true);
  data.bytes.fill(0, 8, 16);
  const command = new HostCommand(bench);
  command.opcode = NvmOpcode.datasetManagement;
  command.nsid = 1;
  command.dwords[1] = 4;
  command.setData(data.buffer, 0, 16);
  expect(bench.run(command)).toBe(0);
  expect(harness.disk(0, 4096).every((byte) => byte === 0)).toBe(true);
});

describe("without peer memory", () => {
  const SMALL = { provider: "cmb", cmbBytes: 65_536 } as const;

  it("of that size the policy decides, and counts", async () => {
    const refused = await open(SMALL);
    const { bench, data } = refused;
    expect(bench.io(NvmOpcode.write, 0, 2048, data) & 0x7ff).toBe(NvmeStatus.commandInterrupted);
    expect(refused.rig.assembly.orchestrator.counters.inspect()).toMatchObject({
      refusals: { exhausted: 1 },
      fallbacks: { exhausted: 0 },
    });
    const allowed = await open({ ...SMALL, policy: "host-memory" });
    expect(allowed.bench.io(NvmOpcode.write, 0, 2048, allowed.data)).toBe(0);
    expectSame(allowed.harness.disk(0, MIB), allowed.data.bytes.slice(0, MIB));
    expect(hostPayload(allowed)).toBe(MIB);
    expect(allowed.rig.assembly.orchestrator.counters.inspect()).toMatchObject({
      fallbacks: { exhausted: 1 },
      netBytes: { "host-memory": MIB },
    });
  });

  it("in the machine the policy decides", async () => {
    await expect(open({ provider: "none" })).rejects.toMatchObject({ code: "p2pmem-unusable" });
    const allowed = await open({ provider: "none", policy: "host-memory" });
    expect(allowed.bench.io(NvmOpcode.write, 0, 8, allowed.data)).toBe(0);
    const { orchestrator } = allowed.rig.assembly;
    expect(orchestrator.choices()[0]).toMatchObject({
      provider: null,
      reason: "nothing-published",
    });
    expect(orchestrator.counters.inspect()).toMatchObject({ fallbacks: { "no-provider": 1 } });
  });

  it("that reaches the SSD the rules' reason is kept", async () => {
    const opened = await open({ provider: "far-cmb", farDisk: true, policy: "host-memory" });
    expect(opened.rig.assembly.orchestrator.choices()[0]).toMatchObject({ reason: "direct" });
  });

  it("because it was taken away, I/O goes on as the policy says", async () => {
    const { bench, data, rig } = await open({ provider: "cmb", policy: "host-memory" });
    expect(bench.io(NvmOpcode.write, 0, 8, data)).toBe(0);
    await rig.settle(rig.provider?.teardown() ?? Promise.resolve());
    expect(bench.io(NvmOpcode.write, 0, 8, data)).toBe(0);
    expect(rig.assembly.orchestrator.counters.inspect()).toMatchObject({
      peerAllocations: 1,
      hostAllocations: 1,
    });
  });
});
