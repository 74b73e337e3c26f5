/**
 * The whole stack: remote host, wire, RNICs, target, block, NVMe driver and controller, on
 * simulated machines. What a write leaves on the medium is read there, never through the path that
 * wrote it.
 */
import { describe, expect, it } from "vitest";
import { type RdmaHarness, rdmaHarness } from "../../testing/nvmet-rdma-harness.ts";
import { Bench, expectSame, quiesce } from "../../testing/nvmet-transport-contract.ts";
import type { RigOptions } from "../../testing/target-rig.ts";
import { Raid0Queue } from "../block/index.ts";
import { makeBdf, Prng, Span } from "../core/index.ts";
import type { Provider } from "../p2p/index.ts";
import { NvmeStatus, NvmOpcode } from "../spec/nvme/index.ts";
import { Event, Tracer } from "../trace/index.ts";
import { Cause, type HostCommand, RouteIndex, SubmitStatus } from "./index.ts";

const KIB = 1024;
const BLOCK = 512;

async function open(
  options: RigOptions = {},
  hostOptions = {},
): Promise<{ harness: RdmaHarness; bench: Bench }> {
  const harness = await rdmaHarness(options);
  return { harness, bench: await Bench.open(harness, { depth: 32, ...hostOptions }) };
}

/** Bytes of payload that crossed host memory of the target machine. */
function payloadInHostMemory({ rig }: RdmaHarness): number {
  return rig.fabric
    .hostMemoryTraffic()
    .filter(({ purpose }) => purpose === "payload")
    .reduce((sum, { readBytes, writtenBytes }) => sum + readBytes + writtenBytes, 0);
}

/** Runs all commands at once. */
function runAll(bench: Bench, commands: readonly HostCommand[]): void {
  let submitted = 0;
  bench.harness.reactor.runUntil(() => {
    while (
      submitted < commands.length &&
      bench.queue.submit(commands[submitted]) === SubmitStatus.ok
    ) {
      submitted++;
    }
    bench.queue.kick();
    return submitted === commands.length && commands.every(({ isBusy }) => !isBusy);
  }, "all commands");
}

/** Writes `count` times `bytes`, checks the medium, reads back, checks the host. */
async function roundTrip(bench: Bench, count: number, bytes: number): Promise<void> {
  const total = count * bytes;
  const out = await bench.data(total);
  const back = await bench.data(total);
  new Prng(count * bytes).fill(out.bytes);
  const blocks = bytes / BLOCK;
  const make = (opcode: number, data: typeof out) =>
    Array.from({ length: count }, (_, i) =>
      bench.command(opcode, i * blocks, blocks, data, i * bytes),
    );
  const writes = make(NvmOpcode.write, out);
  runAll(bench, writes);
  expect(writes.filter(({ status }) => status !== 0)).toEqual([]);
  expectSame(bench.harness.disk(0, total), out.bytes);
  const reads = make(NvmOpcode.read, back);
  runAll(bench, reads);
  expect(reads.filter(({ status }) => status !== 0)).toEqual([]);
  expectSame(back.bytes, out.bytes);
}

describe("where the bytes go", () => {
  const peer = ["lease", "dma-address"] as const;

  it.each(peer)("the CMB, with %s: none through host memory", async (description) => {
    const { harness, bench } = await open({ description });
    await roundTrip(bench, 40, 4 * KIB);
    const { counters } = harness.rig.assembly.orchestrator;
    expect(payloadInHostMemory(harness)).toBe(0);
    expect(counters.peerAllocations).toBe(80);
    expect(counters.hostAllocations).toBe(0);
    expect(counters.netBytes[RouteIndex.bus]).toBe(2 * 160 * KIB);
    expect(counters.diskBytes[RouteIndex.self]).toBe(2 * 160 * KIB);
    const peers = harness.rig.fabric.peerTraffic();
    const nic = peers.find(({ requester }) => requester === harness.rig.nic.dma.bdf);
    expect(nic).toMatchObject({
      owner: harness.rig.providerBdf,
      viaRootComplex: false,
      writtenBytes: 160 * KIB,
      readBytes: 160 * KIB,
    });
  });

  it.each(peer)("GPU memory, with %s", async (description) => {
    const { harness, bench } = await open({ description, provider: "gpu" });
    await roundTrip(bench, 10, 16 * KIB);
    const { counters } = harness.rig.assembly.orchestrator;
    expect(payloadInHostMemory(harness)).toBe(0);
    expect(counters.diskBytes[RouteIndex.bus]).toBe(2 * 160 * KIB);
  });

  it("host memory, when the namespace is set to it", async () => {
    const { harness, bench } = await open({ description: "host-memory" });
    await roundTrip(bench, 10, 16 * KIB);
    const { counters } = harness.rig.assembly.orchestrator;
    // Each byte enters it once and leaves it once, both ways.
    expect(payloadInHostMemory(harness)).toBe(4 * 160 * KIB);
    expect(counters.fallbackCount).toBe(0);
    expect(counters.netBytes[RouteIndex.hostMemory]).toBe(2 * 160 * KIB);
  });

  it.each(peer)("behind an IOMMU, each device its own address: %s", async (description) => {
    // The disk is below another root port: two devices, two routes, three address spaces.
    const { harness, bench } = await open({
      description,
      farDisk: true,
      cpuForwards: true,
      iommu: "strict",
    });
    await roundTrip(bench, 10, 16 * KIB);
    const { counters } = harness.rig.assembly.orchestrator;
    expect(payloadInHostMemory(harness)).toBe(0);
    expect(counters.netBytes[RouteIndex.bus]).toBe(2 * 160 * KIB);
    expect(counters.diskBytes[RouteIndex.hostBridge]).toBe(2 * 160 * KIB);
  });

  it("through the host bridge where ACS redirects", async () => {
    const { harness, bench } = await open({ acs: 0x1d, cpuForwards: true });
    await roundTrip(bench, 4, 16 * KIB);
    const { counters } = harness.rig.assembly.orchestrator;
    expect(counters.netBytes[RouteIndex.hostBridge]).toBe(2 * 64 * KIB);
    expect(payloadInHostMemory(harness)).toBe(0);
  });

  it("in large commands, which block splits by the disk's limits", async () => {
    const { harness, bench } = await open({ disk: { mdts: 5 } });
    await roundTrip(bench, 3, 512 * KIB);
    expect(payloadInHostMemory(harness)).toBe(0);
  });
});

describe("in capsules and in pieces", () => {
  it("takes small writes from the capsule, where they are in host memory", async () => {
    const { harness, bench } = await open({}, { inCapsuleBytes: 4096 });
    const bytes = new Uint8Array(4096);
    new Prng(9).fill(bytes);
    const command = bench.command(NvmOpcode.write, 8, 8, null);
    command.setCapsuleData(bytes);
    expect(bench.run(command)).toBe(0);
    expectSame(harness.disk(4096, 4096), bytes);
    const { counters } = harness.rig.assembly.orchestrator;
    expect(counters.capsuleUses).toBe(1);
    expect(counters.peerAllocations).toBe(0);
    expect(counters.netBytes[RouteIndex.capsule]).toBe(4096);
  });

  it("gathers and scatters over lists of keyed segments", async () => {
    const { harness, bench } = await open({}, { inCapsuleBytes: 4096 });
    const data = await bench.data(64 * KIB);
    new Prng(10).fill(data.bytes);
    const wanted = new Uint8Array(8 * KIB);
    const command = bench.command(NvmOpcode.write, 0, 16, null);
    let at = 0;
    for (const [offset, length] of [
      [40_000, 512],
      [3, 5000],
      [60_001, 2680],
    ]) {
      command.addData(data.buffer, offset, length);
      wanted.set(data.bytes.subarray(offset, offset + length), at);
      at += length;
    }
    expect(bench.run(command)).toBe(0);
    expectSame(harness.disk(0, 8 * KIB), wanted);
    command.opcode = NvmOpcode.read;
    data.bytes.fill(0);
    expect(bench.run(command)).toBe(0);
    expectSame(data.bytes.slice(3, 5003), wanted.subarray(512, 5512));
    expectSame(data.bytes.slice(60_001, 62_681), wanted.subarray(5512));
    expect(data.bytes[62_681]).toBe(0);
  });

  it("invalidates the key when it is asked to", async () => {
    const { bench } = await open();
    const data = await bench.data(4096);
    const command = bench.command(NvmOpcode.write, 0, 8, data);
    command.invalidate = true;
    expect(bench.run(command)).toBe(0);
    expect(data.buffer.valid).toBe(false);
  });
});

describe("policy", () => {
  /** The only provider is out of the NIC's reach; the disk's own. */
  const unreachable: RigOptions = { provider: "far-cmb", cpuForwards: false };

  it("fail: no provider for this NIC is a path error, with the reason kept", async () => {
    const { harness, bench } = await open({ ...unreachable, policy: "fail" });
    const data = await bench.data(4096);
    expect(bench.io(NvmOpcode.write, 0, 8, data)).toBe(NvmeStatus.internalPathError);
    expect(bench.io(NvmOpcode.flush, 0, 1, null)).toBe(0);
    const { orchestrator } = harness.rig.assembly;
    expect(orchestrator.counters.refusals[Cause.noProvider]).toBe(1);
    expect([...orchestrator.counters.noProviderReasons]).toEqual([
      ["no-common-bridge-unlisted", 1],
    ]);
    expect(orchestrator.choices()[0].text).toMatch(/upstream bridge/);
    expect(payloadInHostMemory(harness)).toBe(0);
  });

  it("host-memory: the same works, and is counted", async () => {
    const { harness, bench } = await open({ ...unreachable, policy: "host-memory" });
    await roundTrip(bench, 4, 4 * KIB);
    const { counters } = harness.rig.assembly.orchestrator;
    expect(counters.fallbacks[Cause.noProvider]).toBe(8);
    expect(counters.hostAllocations).toBe(8);
    expect(payloadInHostMemory(harness)).toBe(4 * 16 * KIB);
  });

  it("a fixed provider is that one or none", async () => {
    const gpu = { kind: "fixed", provider: makeBdf(0, 5, 0, 0) } as const;
    const { harness, bench } = await open({ provider: "gpu", p2pmem: gpu });
    harness.rig.assembly.publishCmb(harness.rig.ssd);
    expect(harness.rig.providerBdf).toBe(gpu.provider);
    await roundTrip(bench, 2, 4 * KIB);
    expect(harness.rig.assembly.orchestrator.choices()[0].provider).toBe(gpu.provider);
    await expect(rdmaHarness({ provider: "cmb", p2pmem: gpu })).rejects.toThrow(
      /no peer memory is published by 0000:05:00.0/,
    );
  });

  it("leaves its choices in the trace", async () => {
    const tracer = new Tracer(() => 0);
    tracer.on = true;
    const { bench } = await open({ ...unreachable, policy: "host-memory", tracer });
    bench.io(NvmOpcode.write, 0, 8, await bench.data(4096));
    const seen = [...tracer.records()].map(({ event, args }) => [event, args] as const);
    const argsOf = (wanted: Event) => seen.find(([event]) => event === wanted)?.[1];
    expect(argsOf(Event.nvmetConnect)?.slice(1)).toEqual([0, 32]);
    expect(argsOf(Event.nvmetNoProvider)?.[0]).toBe(1);
    expect(argsOf(Event.nvmetFallback)).toEqual([1, Cause.noProvider, 4096, 1]);
    expect(argsOf(Event.nvmetComplete)).toBeDefined();
  });

  it("refuses to enable a namespace that no provider can serve", async () => {
    await expect(rdmaHarness({ provider: "none" })).rejects.toThrow(/no peer memory is published/);
  });

  it("fail: commands wait for those before them, as long as these hold some", async () => {
    const { harness, bench } = await open({ cmbBytes: 64 * KIB, policy: "fail" });
    await roundTrip(bench, 31, 4 * KIB);
    const { counters } = harness.rig.assembly.orchestrator;
    expect(counters.refusalCount + counters.fallbackCount).toBe(0);
    expect(counters.hostWaits).toBeGreaterThan(0);
  });

  it("fail: a pool that others exhaust interrupts commands, which a retry cures", async () => {
    const { harness, bench } = await open({ cmbBytes: 64 * KIB, policy: "fail" });
    const other = await Bench.open(harness);
    const data = await bench.data(64 * KIB);
    const all = other.command(NvmOpcode.write, 0, 128, await other.data(64 * KIB));
    harness.stall(true);
    expect(other.queue.submit(all)).toBe(SubmitStatus.ok);
    other.queue.kick();
    await other.idle();
    const small = bench.command(NvmOpcode.write, 0, 8, data);
    expect(bench.run(small)).toBe(NvmeStatus.commandInterrupted);
    harness.stall(false);
    await other.idle();
    expect([all.isBusy, all.status]).toEqual([false, 0]);
    expect(bench.run(small)).toBe(0);
    const { counters } = harness.rig.assembly.orchestrator;
    expect(counters.refusals[Cause.exhausted]).toBe(1);
  });

  it("host-memory: an exhausted pool falls back, visibly", async () => {
    const { harness, bench } = await open({ cmbBytes: 64 * KIB, policy: "host-memory" });
    await roundTrip(bench, 31, 4 * KIB);
    const { counters } = harness.rig.assembly.orchestrator;
    expect(counters.fallbacks[Cause.exhausted]).toBeGreaterThan(0);
    expect(counters.peerAllocations + counters.hostAllocations).toBe(62);
  });

  it("lets commands wait for host buffers, and loses none", async () => {
    const { harness, bench } = await open({
      description: "host-memory",
      hostPoolBytes: 1024 * KIB,
    });
    await roundTrip(bench, 16, 256 * KIB);
    expect(harness.rig.assembly.orchestrator.counters.hostWaits).toBeGreaterThan(0);
  });
});

describe("a provider that goes away under load", () => {
  async function teardown(options: RigOptions) {
    const { harness, bench } = await open(options);
    const { rig } = harness;
    const data = await bench.data(31 * 4096);
    new Prng(11).fill(data.bytes);
    const commands = Array.from({ length: 31 }, (_, i) =>
      bench.command(NvmOpcode.write, i * 8, 8, data, i * 4096),
    );
    // Half of them are with the disk when it happens, half arrive afterwards.
    harness.stall(true);
    for (const command of commands.slice(0, 15)) bench.queue.submit(command);
    bench.queue.kick();
    for (let i = 0; i < 30; i++) harness.reactor.round();
    const lease = rig.provider;
    let isGone = false;
    const gone = (rig.provider as Provider).teardown("the test").then(() => {
      isGone = true;
    });
    for (let i = 0; i < 30; i++) {
      harness.reactor.round();
      await Promise.resolve();
    }
    expect(isGone).toBe(false);
    for (const command of commands.slice(15)) bench.queue.submit(command);
    bench.queue.kick();
    harness.stall(false);
    await quiesce(harness);
    await bench.settle(gone);
    expect(lease?.state).toBe("dead");
    expect(commands.some(({ isBusy }) => isBusy)).toBe(false);
    return { harness, bench, commands, data };
  }

  it("host-memory: every command succeeds", async () => {
    const { harness, commands, data } = await teardown({ policy: "host-memory" });
    expect(commands.filter(({ status }) => status !== 0)).toEqual([]);
    expectSame(harness.disk(0, 31 * 4096), data.bytes);
    const { counters } = harness.rig.assembly.orchestrator;
    expect(counters.fallbacks[Cause.revoked]).toBeGreaterThan(0);
  });

  it("fail: what came after it is a path error, and nothing is lost", async () => {
    const { harness, commands, data } = await teardown({ policy: "fail" });
    const before = commands.slice(0, 15);
    expect(before.filter(({ status }) => status !== 0)).toEqual([]);
    const statuses = new Set(commands.slice(15).map(({ status }) => status));
    expect([...statuses]).toEqual([NvmeStatus.internalPathError]);
    expectSame(harness.disk(0, 15 * 4096), data.bytes.subarray(0, 15 * 4096));
  });

  it.each(["lease", "dma-address"] as const)("another one takes over: %s", async (description) => {
    const { harness, bench } = await open({ provider: "gpu", description });
    const { rig } = harness;
    rig.assembly.publishCmb(rig.ssd);
    await roundTrip(bench, 8, 4 * KIB);
    const first = rig.assembly.orchestrator.choices()[0].provider;
    await bench.settle((rig.provider as Provider).teardown("the test"));
    await roundTrip(bench, 8, 4 * KIB);
    const second = rig.assembly.orchestrator.choices()[0].provider;
    expect([first, second]).toEqual([rig.providerBdf, rig.ssd.device.bdf]);
    expect(rig.assembly.orchestrator.rebinds).toBe(1);
    expect(payloadInHostMemory(harness)).toBe(0);
  });
});

describe("a namespace over two disks", () => {
  const CHUNK = 16 * KIB;

  async function striped(options: RigOptions) {
    // One disk is reached by bus address, the other through the host bridge and its IOMMU.
    const harness = await rdmaHarness({ cpuForwards: true, iommu: "strict", ...options });
    const { rig } = harness;
    const legs = [rig.ssd, await rig.farSsd()];
    const queue = new Raid0Queue(
      legs.map(({ namespaces }) => namespaces[0].queue),
      { chunkBytes: CHUNK },
    );
    const namespace = harness.subsystem.addNamespace({
      nsid: 2,
      queue,
      initiators: legs.map(({ device }) => device),
      p2pmem: { kind: "auto" },
    });
    harness.subsystem.enable(namespace);
    const bench = await Bench.open(harness);
    const data = await bench.data(4 * CHUNK);
    new Prng(13).fill(data.bytes);
    const command = bench.command(NvmOpcode.write, 0, (4 * CHUNK) / BLOCK, data);
    command.nsid = 2;
    return { harness, bench, data, command };
  }

  it("works on a lease: each leg gets its own address of the same bytes", async () => {
    const { harness, bench, data, command } = await striped({ description: "lease" });
    expect(bench.run(command)).toBe(0);
    expectSame(harness.disk(0, CHUNK), data.bytes.slice(0, CHUNK));
    expectSame(harness.disk(CHUNK, CHUNK), data.bytes.slice(2 * CHUNK, 3 * CHUNK));
    const written = data.bytes.slice();
    data.bytes.fill(0);
    command.opcode = NvmOpcode.read;
    expect(bench.run(command)).toBe(0);
    expectSame(data.bytes, written);
    expect(payloadInHostMemory(harness)).toBe(0);
  });

  it("gets no bare DMA address, since one cannot serve two devices", async () => {
    const { harness, bench, command } = await striped({ description: "dma-address" });
    expect(bench.run(command)).toBe(NvmeStatus.internalPathError);
    const choice = harness.rig.assembly.orchestrator.choices().find(({ nsid }) => nsid === 2);
    expect(choice).toMatchObject({ reason: "stacked-needs-lease", provider: null });
  });
});

describe("a protected namespace", () => {
  const PI: RigOptions = {
    disk: { namespaces: [{ sizeBytes: 8 * 1024 * KIB, metadataBytes: 8, piType: 1 }] },
  };

  it("is protected between target and medium, with its data in peer memory", async () => {
    const { harness, bench } = await open(PI);
    await roundTrip(bench, 4, 8 * KIB);
    expect(payloadInHostMemory(harness)).toBe(0);
    // The controller wrote a tuple behind the data for each block.
    const tuples = harness.disk(8 * 1024 * KIB, 8 * 4);
    expect(tuples.some((byte) => byte !== 0)).toBe(true);
  });

  it("tells of data that changed on the medium", async () => {
    const { harness, bench } = await open(PI);
    const data = await bench.data(4096);
    new Prng(14).fill(data.bytes);
    expect(bench.io(NvmOpcode.write, 0, 8, data)).toBe(0);
    const { store } = harness.rig.diskModel.namespaces[0];
    const span = new Span();
    store.lendForWrite(700, 1, span);
    span.bytes[span.offset] ^= 1;
    store.commit(700, 1, span);
    expect(bench.io(NvmOpcode.read, 0, 8, data)).toBe(NvmeStatus.guardCheckError | 0x4000);
  });
});

describe("errors of the network", () => {
  it("packets that are lost are sent again, and every byte is right", async () => {
    const wire = { lossProbability: 0.02, prng: new Prng(15), latencyNs: 2000 };
    const { bench } = await open({ wire });
    await roundTrip(bench, 40, 16 * KIB);
  });

  it("a queue that is too deep is rejected with the reason", async () => {
    const { harness, bench } = await open({ rdma: { depthMax: 16 } }, { depth: 64 });
    expect(bench.queue.depth).toBe(16);
    const { transport } = bench.host.options;
    const asking = transport.connect({ qid: 1, depth: 17, cntlid: 1, inCapsuleBytes: 0 });
    await expect(bench.settle(asking)).rejects.toThrow(/RDMA Invalid HSQSIZE/);
    expect(harness.rig.transport.inspect()["rejected"]).toEqual({ "RDMA Invalid HSQSIZE": 1 });
  });

  it("a key that means nothing ends the connection, and the target drains", async () => {
    const { harness, bench } = await open();
    const data = await bench.data(4096);
    const command = bench.command(NvmOpcode.write, 0, 8, data);
    command.segmentKeys[0] ^= 0xff00;
    expect(bench.queue.submit(command)).toBe(SubmitStatus.ok);
    bench.queue.kick();
    await quiesce(harness);
    expect(command.status).toBe(NvmeStatus.hostPathError);
    expect(bench.queue.channel.ended).not.toBeNull();
    const { counters } = harness.rig.assembly.orchestrator;
    expect(counters.peerAllocations).toBe(1);
    expect(harness.rig.provider?.pool.available).toBe(harness.rig.provider?.sizeBytes);
  });

  it("a namespace that is taken away lets its I/O end", async () => {
    const { harness, bench } = await open();
    const data = await bench.data(8 * 4096);
    harness.stall(true);
    const commands = Array.from({ length: 8 }, (_, i) =>
      bench.command(NvmOpcode.write, i * 8, 8, data, i * 4096),
    );
    for (const command of commands) bench.queue.submit(command);
    bench.queue.kick();
    for (let i = 0; i < 30; i++) harness.reactor.round();
    harness.subsystem.disable(harness.namespace);
    harness.stall(false);
    await quiesce(harness);
    expect(commands.filter(({ status }) => status !== 0)).toEqual([]);
    expect(bench.io(NvmOpcode.read, 0, 8, data)).toBe(NvmeStatus.invalidNamespaceOrFormat | 0x4000);
    expect(harness.rig.provider?.references).toBe(0);
  });
});

describe("mixed load", () => {
  it("leaves on the medium what a model says, in any order of sizes and operations", async () => {
    const { harness, bench } = await open({}, { depth: 64 });
    const prng = new Prng(12);
    const region = 256 * KIB;
    const model = new Uint8Array(region);
    const data = await bench.data(2 * region);
    for (let round = 0; round < 12; round++) {
      const commands: HostCommand[] = [];
      // Disjoint ranges, so that the order in which they are done does not matter.
      for (let lba = 0; lba < region / BLOCK; ) {
        const blocks = Math.min(1 + prng.below(40), region / BLOCK - lba);
        const at = lba * BLOCK;
        if (prng.chance(0.6)) {
          prng.fill(data.bytes.subarray(at, at + blocks * BLOCK));
          model.set(data.bytes.subarray(at, at + blocks * BLOCK), at);
          commands.push(bench.command(NvmOpcode.write, lba, blocks, data, at));
        } else if (prng.chance(0.3)) {
          model.fill(0, at, at + blocks * BLOCK);
          commands.push(bench.command(NvmOpcode.writeZeroes, lba, blocks, null));
        } else {
          commands.push(bench.command(NvmOpcode.read, lba, blocks, data, region + at));
        }
        lba += blocks;
      }
      runAll(bench, commands);
      expect(commands.filter(({ status }) => status !== 0)).toEqual([]);
      expectSame(harness.disk(0, region), model);
    }
    const { provider } = harness.rig;
    expect(provider?.pool.available).toBe(provider?.sizeBytes);
  });
});
