import { describe, expect, it } from "vitest";
import {
  ACS,
  barOf,
  endpoint,
  endpointsOf,
  GIB,
  MIB,
  makeMachine,
  rootPort,
  sameSwitch,
} from "../../testing/machines.ts";
import { portedFabric } from "../../testing/ported-fabric.ts";
import { type Bdf, DmaStatus } from "../core/index.ts";

function setUp(machine = sameSwitch([{ acs: ACS.ALL }, {}])) {
  const set = portedFabric(machine);
  const [a, b] = endpointsOf(machine) as [Bdf, Bdf];
  return { ...set, a, b };
}

describe("configuration space", () => {
  it("says what the snapshot says", () => {
    const { fabric, machine, a } = setUp();
    const fn = machine.functions.find(({ bdf }) => bdf === a)!;
    const { config } = fabric.open(a);
    expect(config.read16(0)).toBe(fn.vendorId);
    expect(config.read32(8) >>> 8).toBe(fn.classCode);
    expect(config.read8(0x0e)).toBe(0);
    const bar = barOf(machine, a);
    expect((config.read32(0x10) & ~0xf) >>> 0).toBe(bar.address % 2 ** 32);
    expect(config.read32(0x14)).toBe(Math.floor(bar.address / 2 ** 32));
    // The capability list leads to PCI Express and MSI-X, and ends.
    const ids: number[] = [];
    for (let at = config.read8(0x34); at !== 0; at = config.read8(at + 1))
      ids.push(config.read8(at));
    expect(ids).toEqual([0x10, 0x11]);
  });

  it("shows the size of a BAR by its read-only bits, and nothing reaches it meanwhile", () => {
    const bars = [
      { sizeBytes: 64 * 1024, kind: "memory32" as const },
      { sizeBytes: 8 * GIB, index: 2 },
    ];
    const machine = makeMachine({ hostBridges: [{ roots: [rootPort([endpoint({ bars })])] }] });
    const { fabric, a } = setUp(machine);
    const { config } = fabric.open(a);
    const saved = [0x10, 0x18, 0x1c].map((at) => config.read32(at));
    for (const at of [0x10, 0x18, 0x1c]) config.write32(at, 0xffffffff);
    expect(config.read32(0x10)).toBe(0xffff0000);
    expect(config.read32(0x18)).toBe(0x0000000c);
    expect(config.read32(0x1c)).toBe(0xfffffffe);
    expect(fabric.open(a).barAddress(2)).toBeNull();
    for (const [i, at] of [0x10, 0x18, 0x1c].entries()) config.write32(at, saved[i]!);
    expect(fabric.open(a).barAddress(2)?.sizeBytes).toBe(8 * GIB);
  });

  it("keeps read-only bits, clears write-one-to-clear bits", () => {
    const { fabric, a } = setUp();
    const { config } = fabric.open(a);
    const before = config.read32(0);
    config.write32(0, 0x12345678);
    expect(config.read32(0)).toBe(before);
    config.write16(4, 0xffff);
    expect(config.read16(4)).toBe(0x0547);
    config.write16(6, 0xffff);
    expect(config.read16(6)).toBe(0x10);
  });

  it("lets only implemented ACS controls be set", () => {
    const machine = sameSwitch([{ acs: 0 }, {}]);
    const functions = machine.functions.map((fn) =>
      fn.acs === null ? fn : { ...fn, acs: { ...fn.acs, capabilities: ACS.RR | ACS.CR } },
    );
    const { fabric } = setUp({ ...machine, functions });
    const port = functions.find(({ acs }) => acs !== null)!;
    const { config } = fabric.open(port.bdf);
    config.write16(port.acs!.offset + 6, 0xffff);
    expect(config.read16(port.acs!.offset + 6)).toBe(ACS.RR | ACS.CR);
  });

  it("a moved BAR answers at its new address and not at its old one", () => {
    const { fabric, machine, port, a, b } = setUp();
    const old = barOf(machine, b).address;
    const span = 16 * MIB;
    const { config } = fabric.open(b);
    const region = fabric.open(b).mapBar(0);
    port(a).write(old, Uint8Array.of(1, 1, 1, 1), 0, 4);
    expect(region.read32(0)).toBe(0x01010101);
    // The port's window ends with the old BAR: open it for another 16 MiB, and the switch's.
    for (const fn of machine.functions) {
      if (fn.bridge?.prefetchable == null || fn.bridge.prefetchable.limit !== old + span - 1)
        continue;
      const limit = fn.bridge.prefetchable.limit + span;
      const bridge = fabric.open(fn.bdf).config;
      bridge.write16(0x26, Math.floor(limit / 2 ** 16) & 0xfff0);
      bridge.write32(0x2c, Math.floor(limit / 2 ** 32));
    }
    config.write32(0x10, (old + span) % 2 ** 32);
    config.write32(0x14, Math.floor((old + span) / 2 ** 32));
    expect(port(a).write(old, Uint8Array.of(2), 0, 1)).toBe(DmaStatus.unsupportedRequest);
    expect(port(a).write(old + span, Uint8Array.of(3), 0, 1)).toBe(DmaStatus.ok);
    expect(region.read32(0)).toBe(0xffffffff);
    expect(fabric.open(b).mapBar(0).read32(0)).toBe(0x01010103);
  });

  it("a function level reset clears addresses; the driver's reset restores them", async () => {
    const { fabric, machine, port, a, b } = setUp();
    const bus = barOf(machine, b).address;
    const { config } = fabric.open(b);
    const control = 0x70 + 8;
    config.write16(control, config.read16(control) | 0x8000);
    expect(config.read16(control) & 0x8000).toBe(0);
    expect(config.read16(4)).toBe(0);
    expect(fabric.open(b).barAddress(0)).toBeNull();
    expect(port(a).write(bus, Uint8Array.of(1), 0, 1)).toBe(DmaStatus.unsupportedRequest);

    const again = setUp();
    await again.fabric.open(again.b).reset();
    expect(again.port(again.a).write(bus, Uint8Array.of(1), 0, 1)).toBe(DmaStatus.ok);
  });

  it("Secondary Bus Reset resets what is below the bridge", () => {
    const { fabric, machine, a, b } = setUp();
    const top = machine.functions.find(({ bridge }) => bridge !== null)!;
    const { config } = fabric.open(top.bdf);
    config.write16(0x3e, 0x40);
    for (const bdf of [a, b]) expect(fabric.open(bdf).config.read16(4)).toBe(0);
    expect(config.read16(4)).not.toBe(0);
  });

  it("names the functions there are when asked for one there is not", () => {
    const { fabric } = setUp();
    expect(() => fabric.open(0xfff8 as Bdf)).toThrow(/no function 0000:ff:1f.0/);
  });
});
