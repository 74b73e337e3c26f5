/**
 * Hosts that ask for data and never take it, or are asked for data and never send it, beside one
 * that works: what they pin, and that the other goes on as if it were alone. Counted in rounds.
 */

import { describe, expect, it, vi } from "vitest";
import { DeafNetwork } from "../../../../testing/deaf-network.ts";
import { expectNothingHeld } from "../../../../testing/held-memory.ts";
import type { HostData } from "../../../../testing/nvmet-harness.ts";
import { type TcpHarness, tcpHarness } from "../../../../testing/nvmet-tcp-harness.ts";
import { Bench, quiesce } from "../../../../testing/nvmet-transport-contract.ts";
import { PeerlaneError } from "../../../core/index.ts";
import { Cns, NvmOpcode } from "../../../spec/nvme/index.ts";
import { type Controller, SubmitStatus, type TcpEvent, TcpHostTransport } from "../../index.ts";

const KIB = 1024;
const MIB = KIB * KIB;
const BLOCK = 512;
/** Commands of each hostile host. */
const ASKED = 64;

/** Hosts that submit `ASKED` commands of `bytes` each and hear no answer. */
async function hogs(harness: TcpHarness, count: number, opcode: number, bytes: number) {
  const networks: DeafNetwork[] = [];
  for (let i = 0; i < count; i++) {
    const network = new DeafNetwork(harness.network);
    const transport = new TcpHostTransport({ network, address: "127.0.0.1", port: 4420 });
    const bench = await Bench.open(harness, { transport });
    const data = await bench.data(bytes);
    if (opcode === NvmOpcode.read) network.deafen();
    submit(bench, ASKED, opcode, bytes, data);
    network.mute();
    networks.push(network);
  }
  await quiesce(harness);
  return networks;
}

function submit(bench: Bench, count: number, opcode: number, bytes: number, data: HostData): void {
  for (let n = 0; n < count; n++) {
    const command = bench.command(opcode, 0, bytes / BLOCK, data);
    expect(bench.queue.submit(command)).toBe(SubmitStatus.ok);
  }
  bench.queue.kick();
}

/** Rounds that `count` reads and writes of each size take, one after another. */
async function pace(harness: TcpHarness, bench: Bench, count = 6): Promise<number> {
  const data = await bench.data(MIB);
  let rounds = 0;
  for (const bytes of [4 * KIB, 128 * KIB, MIB]) {
    for (let i = 0; i < count; i++) {
      const opcode = i % 2 === 0 ? NvmOpcode.read : NvmOpcode.write;
      const command = bench.command(opcode, 0, bytes / BLOCK, data);
      expect(bench.queue.submit(command)).toBe(SubmitStatus.ok);
      bench.queue.kick();
      for (let round = 0; round < 500 && command.isBusy; round++, rounds++) harness.reactor.round();
      expect([command.isBusy, command.status]).toEqual([false, 0]);
    }
  }
  return rounds;
}

/** The shares of all I/O queues. */
function shares({ subsystem }: TcpHarness) {
  return [...subsystem.controllers.values()].flatMap((member) =>
    [...(member as Controller).ioQueues.values()].map(({ share }) => share),
  );
}

describe.each([
  ["never read their answers", NvmOpcode.read],
  ["never send what they were asked for", NvmOpcode.write],
])("hosts that %s", (_, opcode) => {
  it.each([1, 12])("%i of them take nothing from another", async (count) => {
    const harness = await tcpHarness();
    const bench = await Bench.open(harness);
    const alone = await pace(harness, bench);
    const networks = await hogs(harness, count, opcode, MIB);
    const held = shares(harness).map(({ payloadBytes }) => payloadBytes);
    expect(Math.max(...held)).toBeLessThanOrEqual(6 * MIB);
    const beside = await pace(harness, bench);
    expect(beside).toBeLessThanOrEqual(alone * 1.05);
    // All of it comes back, whether they listen again or go.
    for (const network of networks) network.heal();
    harness.network.cutAll();
    await quiesce(harness);
    expectNothingHeld(harness.rig.assembly);
  });

  it("have no more of the SSD's memory than their share either", async () => {
    const harness = await tcpHarness({ rig: { description: "lease", provider: "cmb" } });
    const bench = await Bench.open(harness);
    const alone = await pace(harness, bench);
    await hogs(harness, 3, opcode, MIB);
    expect(await pace(harness, bench)).toBeLessThanOrEqual(alone * 1.05);
    const { counters } = harness.rig.assembly.orchestrator;
    expect([counters.hostAllocations, counters.refusalCount]).toEqual([0, 0]);
  });
});

it("serves a large transfer when the pool is in pieces", async () => {
  const harness = await tcpHarness({ rig: { hostPoolBytes: 2 * MIB } });
  const bench = await Bench.open(harness);
  const alone = await pace(harness, bench);
  // 4 KiB each: all in one end of the pool at first, later wherever something was free.
  await hogs(harness, 6, NvmOpcode.write, 4 * KIB);
  const beside = await pace(harness, bench);
  expect(beside).toBeLessThanOrEqual(alone * 1.05);
});

it("gives connections that want all they can get the same", async () => {
  const harness = await tcpHarness({ rig: { hostPoolBytes: 2 * MIB } });
  const benches: Bench[] = [];
  for (let i = 0; i < 3; i++) benches.push(await Bench.open(harness));
  const bytes = 128 * KIB;
  for (const bench of benches) {
    const data = await bench.data(bytes);
    bench.commandDone = (): void => submit(bench, 1, NvmOpcode.read, bytes, data);
    submit(bench, 64, NvmOpcode.read, bytes, data);
  }
  const all = shares(harness);
  const held = all.map(() => 0);
  for (let round = 0; round < 200; round++) {
    harness.reactor.round();
    for (const [i, { payloadBytes }] of all.entries()) held[i] = (held[i] ?? 0) + payloadBytes;
  }
  expect(all.every(({ waits }) => waits > 0)).toBe(true);
  // Whoever is polled first.
  expect(Math.min(...held)).toBeGreaterThan(Math.max(...held) * 0.7);
});

it("keeps a connection to its limit, and lets it do one transfer at least", async () => {
  const harness = await tcpHarness();
  harness.target.connectionBytesMax = 256 * KIB;
  const bench = await Bench.open(harness);
  expect(await pace(harness, bench)).toBeGreaterThan(0);
  await hogs(harness, 1, NvmOpcode.read, 64 * KIB);
  await hogs(harness, 1, NvmOpcode.read, MIB);
  const [, small, large] = shares(harness);
  expect([small?.payloadBytes, large?.payloadBytes]).toEqual([256 * KIB, MIB]);
  expect([small?.isReserveTaken, large?.isReserveTaken]).toEqual([true, true]);
});

/** Lets `seconds` pass while the target looks. */
async function pass(harness: TcpHarness, seconds: number): Promise<void> {
  for (let i = 0; i < 5 * seconds; i++) {
    harness.advance(200e6);
    for (let round = 0; round < 4; round++) harness.reactor.round();
  }
  await quiesce(harness);
}

describe("a host that does not do its part", () => {
  const events = (harness: TcpHarness) => harness.transport.counters;

  it.each([
    ["takes no data", NvmOpcode.read, /took no data for 15 s/],
    ["sends no data", NvmOpcode.write, /sent no H2CData for 15 s/],
  ])("is let go when it %s for a while, and all comes back", async (_, opcode, reason) => {
    const told: string[] = [];
    const onEvent = ({ what, reason: why }: TcpEvent) => void told.push(`${what} ${why}`);
    const harness = await tcpHarness({ port: { onEvent } });
    const bench = await Bench.open(harness);
    await hogs(harness, 1, opcode, MIB);
    await pass(harness, 12);
    expect(events(harness).stalled).toBe(0);
    await pass(harness, 4);
    expect(events(harness).stalled).toBe(1);
    expect(told.filter((line) => line.startsWith("stalled"))).toEqual([
      expect.stringMatching(reason),
    ]);
    expectNothingHeld(harness.rig.assembly);
    expect(await pace(harness, bench, 2)).toBeGreaterThan(0);
  });

  it("has as long as the Keep Alive Timeout that it asked for", async () => {
    const harness = await tcpHarness();
    const network = new DeafNetwork(harness.network);
    const transport = new TcpHostTransport({ network, address: "127.0.0.1", port: 4420 });
    const bench = await Bench.open(harness, { transport, keepAliveMs: 30_000 });
    const data = await bench.data(MIB);
    network.deafen();
    submit(bench, 8, NvmOpcode.read, MIB, data);
    await pass(harness, 20);
    expect(events(harness).stalled).toBe(0);
    network.heal();
    await pass(harness, 1);
    expect([bench.done, events(harness).stalled]).toEqual([8, 0]);
  });

  it("is let go as well when it takes a little now and then", async () => {
    const harness = await tcpHarness();
    const [network] = await hogs(harness, 1, NvmOpcode.read, MIB);
    for (let i = 0; i < 5; i++) {
      await pass(harness, 10);
      expect(events(harness).stalled).toBe(0);
      network?.heal();
      harness.reactor.round();
      network?.deafen();
    }
    await pass(harness, 14);
    expect(events(harness).stalled).toBe(1);
  });

  it("is not blamed for time in which the target itself stood still", async () => {
    const harness = await tcpHarness();
    const [network] = await hogs(harness, 1, NvmOpcode.read, MIB);
    for (let i = 0; i < 10; i++) {
      harness.advance(3600e9);
      harness.reactor.round();
    }
    network?.heal();
    await quiesce(harness);
    expect(events(harness).stalled).toBe(0);
    expect(harness.transport.connections).toBe(2);
  });
});

it("answers admin commands while others have all of the buffers for them", async () => {
  const harness = await tcpHarness();
  const bench = await Bench.open(harness);
  const { orchestrator } = harness.rig.assembly;
  const { pool } = orchestrator.controlPool(harness.rig.fabric);
  for (let at = 0; at >= 0; ) at = pool.alloc(4 * KIB);
  const controller = await bench.settle(bench.host.identify(Cns.controller, 0));
  expect(controller.some((byte) => byte !== 0)).toBe(true);
  // A list of ranges, on an I/O queue.
  const data = await bench.data(4 * KIB);
  const command = bench.command(NvmOpcode.datasetManagement, 0, 8, null);
  command.dwords.fill(0);
  command.setData(data.buffer, 0, 16);
  expect(bench.run(command)).toBe(0);
});

it.each([
  ["a receive ring", (bytes: number) => bytes > MIB, 1],
  ["an Admin Queue's reserve", (bytes: number) => bytes === 64 * KIB, 0],
  ["an I/O queue's reserve", (bytes: number) => bytes === MIB, 0],
])("refuses what there is no memory for, %s, and goes on", async (_, isMissing, refused) => {
  const harness = await tcpHarness();
  const bench = await Bench.open(harness);
  const { fabric } = harness.rig;
  const allocate = fabric.allocateHost.bind(fabric);
  const spy = vi.spyOn(fabric, "allocateHost").mockImplementation((bytes, alignment, purpose) => {
    if (isMissing(bytes)) throw new PeerlaneError("no-host-memory", "no run is long enough");
    return allocate(bytes, alignment, purpose);
  });
  await expect(Bench.open(harness)).rejects.toThrow();
  await quiesce(harness);
  expect(harness.transport.counters.refused).toBe(refused);
  expect(await pace(harness, bench, 2)).toBeGreaterThan(0);
  spy.mockRestore();
  expect(await pace(harness, await Bench.open(harness), 2)).toBeGreaterThan(0);
});
