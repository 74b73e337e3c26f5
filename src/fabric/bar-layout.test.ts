import { describe, expect, it } from "vitest";
import { Copier, SparseMemory } from "../core/index.ts";
import { BarLayout } from "./bar-layout.ts";
import type { BarRegion } from "./index.ts";

const copier = new Copier();
const registers = { read32: () => 0, write32() {} };
const region = (offset: number, sizeBytes: number, isMemory = true): BarRegion => ({
  bar: 0,
  offset,
  sizeBytes,
  registers: isMemory ? null : registers,
  memory: isMemory ? new SparseMemory(sizeBytes, copier) : null,
});
const SIZES = [0x10000, 0, 0, 0, 0, 0];
const runs = (layout: BarLayout): [number, number, string][] => {
  const found: [number, number, string][] = [];
  for (let at = 0; at < 0x10000; ) {
    const { base, limit, memory, registers: handler } = layout.pieceAt(0, at, 0x10000);
    found.push([base, limit, memory !== null ? "memory" : handler !== null ? "registers" : "hole"]);
    at = limit;
  }
  return found;
};

describe("BarLayout", () => {
  it("finds regions and the holes around them", () => {
    const layout = new BarLayout();
    layout.set([region(0x1000, 0x1000), region(0x4000, 0x1000, false)], [], SIZES);
    expect(runs(layout)).toEqual([
      [0, 0x1000, "hole"],
      [0x1000, 0x2000, "memory"],
      [0x2000, 0x4000, "hole"],
      [0x4000, 0x5000, "registers"],
      [0x5000, 0x10000, "hole"],
    ]);
  });

  it("cuts a region around overlays and keeps what its offsets count from", () => {
    const layout = new BarLayout();
    layout.set(
      [region(0, 0x10000)],
      [region(0x8000, 0x80, false), region(0x8040, 0x80, false)],
      SIZES,
    );
    expect(runs(layout)).toEqual([
      [0, 0x8000, "memory"],
      [0x8000, 0x8080, "registers"],
      [0x8080, 0x80c0, "registers"],
      [0x80c0, 0x10000, "memory"],
    ]);
    expect(layout.pieceAt(0, 0x9000, 0x10000).origin).toBe(0);
    expect(layout.pieceAt(0, 0x8090, 0x10000).origin).toBe(0x8040);
  });

  it("refuses regions that overlap or leave their BAR", () => {
    const layout = new BarLayout();
    expect(() => layout.set([region(0, 0x2000), region(0x1000, 0x1000)], [], SIZES)).toThrow(
      /overlap/,
    );
    expect(() => layout.set([region(0xf000, 0x2000)], [], SIZES)).toThrow(/does not fit/);
    const both = { ...region(0, 0x1000), registers };
    expect(() => layout.set([both], [], SIZES)).toThrow(/does not fit/);
  });
});
