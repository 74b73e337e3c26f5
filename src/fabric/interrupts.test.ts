import { describe, expect, it } from "vitest";
import { endpoint, endpointsOf, MIB, makeMachine, rootPort } from "../../testing/machines.ts";
import { portedFabric } from "../../testing/ported-fabric.ts";
import type { Bdf } from "../core/index.ts";
import type { Machine } from "../machine/index.ts";

const bars = [{ sizeBytes: MIB }];
const TABLE = MIB - 0x2000;
const PENDING = MIB - 0x1000;

function setUp(machine = withVectors(4)) {
  const set = portedFabric(machine);
  const bdf = endpointsOf(machine)[0] as Bdf;
  const seen: number[] = [];
  const sink = { interrupt: (vector: number) => void seen.push(vector) };
  const poll = (): number[] => {
    set.fabric.poll();
    return seen.splice(0);
  };
  return { ...set, bdf, fn: set.fabric.open(bdf), port: set.port(bdf), sink, poll };
}

const withVectors = (msixVectors: number): Machine =>
  makeMachine({ hostBridges: [{ roots: [rootPort([endpoint({ bars, msixVectors })])] }] });

/** A function with MSI only, as a raw dump shows it. */
function withMsi(): Machine {
  const machine = withVectors(0);
  const functions = machine.functions.map((fn) => {
    if (fn.bridge !== null) return fn;
    const capabilities = [{ id: 5, offset: 0x50, extended: false, version: 0 }];
    return { ...fn, capabilities };
  });
  return { ...machine, functions };
}

describe("MSI-X", () => {
  it("delivers each vector once per poll, however often it was raised", () => {
    const { fn, port, sink, poll } = setUp();
    fn.enableInterrupts(4, sink);
    port.interrupt(3);
    port.interrupt(3);
    port.interrupt(0);
    expect(poll()).toEqual([3, 0]);
    expect(poll()).toEqual([]);
  });

  it("keeps a masked vector pending, shows it, and sends it once unmasked", () => {
    const { fn, port, sink, poll } = setUp();
    fn.enableInterrupts(2, sink);
    const table = fn.mapBar(0);
    table.write32(TABLE + 16 + 12, 1);
    port.interrupt(1);
    expect(poll()).toEqual([]);
    expect(table.read32(PENDING)).toBe(2);
    table.write32(TABLE + 16 + 12, 0);
    expect(poll()).toEqual([1]);
    expect(table.read32(PENDING)).toBe(0);
  });

  it("honours the function mask", () => {
    const { fn, port, sink, poll } = setUp();
    fn.enableInterrupts(1, sink);
    const control = 0xb0 + 2;
    fn.config.write16(control, fn.config.read16(control) | 0x4000);
    port.interrupt(0);
    expect(poll()).toEqual([]);
    fn.config.write16(control, fn.config.read16(control) & ~0x4000);
    expect(poll()).toEqual([0]);
  });

  it("needs bus mastering, as any write does", () => {
    const { fn, port, sink, poll } = setUp();
    fn.enableInterrupts(1, sink);
    fn.config.write16(4, 2);
    port.interrupt(0);
    expect(poll()).toEqual([]);
  });

  it("refuses more vectors than there are, and a table that does not answer", () => {
    const { fn, sink } = setUp();
    expect(() => fn.enableInterrupts(5, sink)).toThrow(/4 MSI-X vectors/);
    fn.config.write16(4, 4);
    expect(() => fn.enableInterrupts(1, sink)).toThrow(/does not answer/);
  });

  it("is the function's own memory: a reset masks everything", async () => {
    const { fn, port, sink, poll } = setUp();
    fn.enableInterrupts(1, sink);
    await fn.reset();
    port.interrupt(0);
    expect(poll()).toEqual([]);
    fn.enableInterrupts(1, sink);
    port.interrupt(0);
    expect(poll()).toEqual([0]);
  });

  it("a write of another device to the interrupt window interrupts too, or is spurious", () => {
    const { fn, port, sink, poll, fabric } = setUp();
    fn.enableInterrupts(1, sink);
    const region = fn.mapBar(0);
    const address = region.read32(TABLE);
    const data = Uint8Array.of(region.read32(TABLE + 8), 0, 0, 0);
    expect(port.write(address, data, 0, 4)).toBe(0);
    expect(poll()).toEqual([0]);
    data[0] = 0xff;
    port.write(address, data, 0, 4);
    expect(poll()).toEqual([]);
    expect(fabric.inspect()["interrupts"]).toMatchObject({ spurious: 1, delivered: 1 });
  });
});

describe("MSI", () => {
  it("is used where there is no MSI-X", () => {
    const { fn, port, sink, poll } = setUp(withMsi());
    fn.enableInterrupts(1, sink);
    port.interrupt(0);
    expect(poll()).toEqual([0]);
    expect(() => fn.enableInterrupts(2, sink)).toThrow(/1 vectors/);
    fn.disableInterrupts();
    port.interrupt(0);
    expect(poll()).toEqual([]);
  });

  it("gives vectors back, so that enabling can go on for ever", () => {
    const { fn, port, sink, poll, fabric } = setUp(withVectors(32));
    for (let i = 0; i < 3000; i++) fn.enableInterrupts(32, sink);
    port.interrupt(31);
    expect(poll()).toEqual([31]);
    expect(fabric.inspect()["interrupts"]).toMatchObject({ allocated: 32 });
  });

  it("neither: says so", () => {
    const { fn, sink } = setUp(withVectors(0));
    expect(() => fn.enableInterrupts(1, sink)).toThrow(/neither MSI-X nor MSI/);
  });
});
