/**
 * On random machines with random ACS, commands and policies: the route that `route()` reports is
 * where the bytes really land, and they land nowhere else.
 */
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { portedFabric } from "../../testing/ported-fabric.ts";
import { randomMachine } from "../../testing/random-machine.ts";
import { type Bdf, DmaStatus, Prng, physAddr } from "../core/index.ts";
import type { Machine, PciFunction } from "../machine/index.ts";
import { type Fabric, formatRoute, type RouteReport } from "./index.ts";

const DRAM_BYTES = 4 * 2 ** 20;
const STEPS = 100;

interface MemoryBar {
  readonly owner: Bdf;
  readonly index: number;
  readonly address: number;
  readonly sizeBytes: number;
}

const memoryBars = (machine: Machine): MemoryBar[] =>
  machine.functions
    .filter(({ bridge }) => bridge === null)
    .flatMap(({ bdf: owner, bars }) =>
      bars.flatMap(({ index, address, sizeBytes, kind }) =>
        kind === "io" || sizeBytes === null ? [] : [{ owner, index, address, sizeBytes }],
      ),
    );

/** What every memory should hold: BARs by owner and index, and host memory. */
class Expected {
  readonly bars = new Map<string, Uint8Array>();
  readonly host: Uint8Array;
  constructor(bars: readonly MemoryBar[], host: Uint8Array) {
    for (const bar of bars) this.bars.set(key(bar.owner, bar.index), new Uint8Array(bar.sizeBytes));
    this.host = host;
  }
  land({ target }: RouteReport, hostBase: number, bytes: Uint8Array): void {
    if (target?.kind === "host-memory") this.host.set(bytes, target.offset - hostBase);
    else if (target?.bdf != null && target.bar !== null) {
      this.bars.get(key(target.bdf, target.bar))?.set(bytes, target.offset);
    }
  }
}

const key = (owner: Bdf, index: number): string => `${owner}/${index}`;

/** Changes something that routing depends on. */
function disturb(fabric: Fabric, prng: Prng, functions: readonly PciFunction[]): void {
  const ports = functions.filter(({ acs }) => acs !== null);
  const fn = prng.pick(ports.length > 0 && prng.chance(0.6) ? ports : functions);
  const { config } = fabric.open(fn.bdf);
  if (fn.acs !== null && prng.chance(0.8)) {
    config.write16(fn.acs.offset + 6, prng.u32() & 0x7f);
    for (let word = 0; word < 2; word++) {
      config.write32(fn.acs.offset + 8 + 4 * word, prng.u32() & prng.u32());
    }
  } else {
    config.write16(4, prng.pick([0x6, 0x6, 0x6, 0x4, 0x2]));
  }
}

function runMachine(seed: number): void {
  const prng = new Prng(seed);
  const machine = randomMachine(prng, { functions: 8 + prng.below(30) });
  const bars = memoryBars(machine);
  const policies = ["forward", "forward", "drop"] as const;
  const rootComplex = { peerWrites: prng.pick(policies), peerReads: prng.pick(policies) };
  const { fabric, port } = portedFabric(machine, { dramBytes: DRAM_BYTES, rootComplex });
  const region = fabric.allocateHost(DRAM_BYTES / 2, 4096);
  const expected = new Expected(bars, new Uint8Array(region.bytes.length));
  const endpoints = bars.map(({ owner }) => owner);
  for (let step = 0; step < STEPS; step++) {
    if (prng.chance(0.25)) disturb(fabric, prng, machine.functions);
    const initiator = prng.pick(endpoints);
    const bytes = new Uint8Array(8);
    prng.fill(bytes);
    const address = pickAddress(fabric, prng, bars, region.phys, region.bytes.length);
    const write = fabric.route(initiator, address, "write");
    expect(port(initiator).write(address, bytes, 0, 8), formatRoute(write)).toBe(write.status);
    if (write.status === DmaStatus.ok) {
      expected.land(write, region.phys, bytes);
      checkAddress(fabric, write);
    }
    const read = fabric.route(initiator, address, "read");
    const back = new Uint8Array(8);
    expect(port(initiator).read(address, back, 0, 8), formatRoute(read)).toBe(read.status);
    if (write.status === DmaStatus.ok && read.status === DmaStatus.ok) expect(back).toEqual(bytes);
    checkRange(fabric, read);
  }
  for (const { owner, index, sizeBytes } of bars) {
    const seen = new Uint8Array(sizeBytes);
    fabric.peek(owner, index, 0, seen);
    expect(Buffer.compare(seen, expected.bars.get(key(owner, index))!), "a BAR").toBe(0);
  }
  const host = new Uint8Array(region.bytes.length);
  fabric.peekHost(region.phys, host);
  expect(Buffer.compare(host, expected.host), "host memory").toBe(0);
}

/** Bus and physical addresses of BARs, host memory, and nonsense. */
function pickAddress(
  fabric: Fabric,
  prng: Prng,
  bars: readonly MemoryBar[],
  hostBase: number,
  hostBytes: number,
): number {
  const kind = prng.below(10);
  if (kind === 0) return hostBase + 8 * prng.below(hostBytes / 8);
  if (kind === 1) return prng.u32() * 4096;
  const bar = prng.pick(bars);
  const offset = 8 * prng.below(bar.sizeBytes / 8);
  const place = fabric.open(bar.owner).barAddress(bar.index);
  return (kind < 6 || place === null ? bar.address : place.phys) + offset;
}

/** The target's own address must be the request's: on the bus, or for the CPU. */
function checkAddress(fabric: Fabric, { target, address, viaRootComplex }: RouteReport): void {
  if (target?.kind === "host-memory") expect(target.offset).toBe(address);
  if (target?.bdf == null || target.bar === null) return;
  const place = fabric.open(target.bdf).barAddress(target.bar)!;
  expect((viaRootComplex ? place.phys : place.bus) + target.offset).toBe(address);
}

/** Both ends of the reported range have the same answer. */
function checkRange(fabric: Fabric, report: RouteReport): void {
  const { initiator, direction, range } = report;
  expect(report.address).toBeGreaterThanOrEqual(range.base);
  expect(report.address).toBeLessThan(range.limit);
  for (const address of [range.base, range.limit - 1]) {
    const other = fabric.route(initiator, address, direction);
    expect(other.range).toEqual(range);
    expect(other.status).toBe(report.status);
    expect(other.target?.bdf).toBe(report.target?.bdf);
    expect(other.hops.map(({ reason }) => reason)).toEqual(report.hops.map(({ reason }) => reason));
  }
}

describe("routes on random machines", () => {
  it("are where the bytes land", () => {
    fc.assert(
      fc.property(fc.nat(2 ** 31), (seed) => runMachine(seed)),
      { seed: 20261124, numRuns: 15, endOnFailure: true },
    );
  });

  it("can be asked for host memory through physAddr alone", () => {
    const { fabric } = portedFabric(randomMachine(new Prng(3), { functions: 10 }));
    expect(() => fabric.peekHost(physAddr(0), new Uint8Array(1))).toThrow(/inside RAM/);
  });
});
