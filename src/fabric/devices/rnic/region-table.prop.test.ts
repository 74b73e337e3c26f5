import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { FakePort } from "../../../../testing/fake-port.ts";
import { Copier, setU64LE } from "../../../core/index.ts";
import { Access, Range } from "../../../spec/rdma/index.ts";
import { DIRECT_LKEY, RegionCheck, RegionTable } from "./region-table.hot.ts";
import { Cursor, Transfer, TransferStatus } from "./transfer.hot.ts";
import { WireRun } from "./wire.ts";

const SETTINGS = { seed: 20261124, numRuns: 60 };
const ALL = Access.localWrite | Access.remoteRead | Access.remoteWrite;
const MTU = 1024;

/** Pieces of memory in any order, of any length, not overlapping. */
const pieces = fc
  .array(fc.integer({ min: 1, max: 3000 }), { minLength: 1, maxLength: 90 })
  .chain((lengths) =>
    fc
      .shuffledSubarray(
        lengths.map((_, i) => i),
        { minLength: lengths.length, maxLength: lengths.length },
      )
      .map((order) => {
        const places = new Array<number>(lengths.length).fill(0);
        let at = 0;
        for (const i of order) {
          places[i] = at;
          at += (lengths[i] as number) + 3;
        }
        return lengths.map((length, i) => ({ at: places[i] as number, length }));
      }),
  );

function build(list: readonly { at: number; length: number }[], address: number) {
  const port = new FakePort({ sizeBytes: 2 * 1024 * 1024 });
  const table = new RegionTable(16);
  const region = table.create(3, list.length, false);
  if (region === null) throw new Error("no region");
  const listAt = 1024 * 1024;
  list.forEach(({ at, length }, i) => {
    setU64LE(port.view, listAt + i * Range.sizeBytes, port.base + at);
    setU64LE(port.view, listAt + i * Range.sizeBytes + 8, length);
  });
  expect(table.readRanges(region, port, port.base + listAt, list.length)).toBe(0);
  region.define(address, region.length, ALL);
  return { port, table, region, transfer: new Transfer(port, table, new Copier()) };
}

describe("regions of many ranges", () => {
  it("are found by binary search as by walking", () => {
    fc.assert(
      fc.property(pieces, fc.nat(), (list, where) => {
        const { region } = build(list, 0x1000);
        const total = list.reduce((sum, { length }) => sum + length, 0);
        expect(region.length).toBe(total);
        const offset = where % total;
        let start = 0;
        let expected = 0;
        while (start + (list[expected]?.length ?? 0) <= offset) {
          start += list[expected]?.length ?? 0;
          expected++;
        }
        expect(region.rangeAt(offset)).toBe(expected);
      }),
      SETTINGS,
    );
  });

  it("gather and scatter move every byte once, in runs of whole packets", () => {
    fc.assert(
      fc.property(pieces, fc.nat(), fc.nat(), (list, first, size) => {
        const address = 0x7000;
        const { port, region, transfer } = build(list, address);
        const from = first % region.length;
        const length = 1 + (size % (region.length - from));
        for (let i = 0; i < 1024 * 1024; i++) port.memory[i] = (i * 13) & 0xff;
        const expected: number[] = [];
        for (const { at, length: bytes } of list) {
          for (let i = 0; i < bytes; i++) expected.push(port.memory[at + i] as number);
        }
        const cursor = new Cursor();
        cursor.setRange(region, address + from, length);
        const run = new WireRun();
        const got: number[] = [];
        for (let runs = 0; !cursor.done; runs++) {
          expect(transfer.gatherRun(run, cursor, 3, MTU)).toBe(TransferStatus.ok);
          if (!cursor.done) expect(run.payloadBytes % MTU).toBe(0);
          for (let i = 0; i < run.fragmentCount; i++) {
            const { bytes, offset, length: part } = run.fragments[i];
            got.push(...bytes.subarray(offset, offset + part));
          }
          expect(runs).toBeLessThan(1000);
        }
        expect(got).toEqual(expected.slice(from, from + length));

        // And back, inverted, into the same places.
        const inverted = Uint8Array.from(got, (byte) => byte ^ 0xff);
        cursor.setRange(region, address + from, length);
        expect(transfer.scatter(inverted, 0, length, cursor, 3, Access.localWrite)).toBe(0);
        const after: number[] = [];
        for (const { at, length: bytes } of list)
          after.push(...port.memory.subarray(at, at + bytes));
        expect(after.slice(from, from + length)).toEqual([...inverted]);
        expect(after.slice(0, from)).toEqual(expected.slice(0, from));
        expect(after.slice(from + length)).toEqual(expected.slice(from + length));
      }),
      { ...SETTINGS, numRuns: 25 },
    );
  });
});

describe("checks", () => {
  it("give a region only for its domain, rights and bounds", () => {
    const { table, region } = build([{ at: 0, length: 100 }], 0x1000);
    const check = (key: number, pd: number, access: number, address: number, length: number) => {
      table.check(key, pd, access, address, length);
      return table.reason;
    };
    expect(check(region.key, 3, ALL, 0x1000, 100)).toBe(RegionCheck.ok);
    expect(check(region.key ^ 1, 3, 0, 0x1000, 1)).toBe(RegionCheck.badKey);
    expect(check(0, 3, 0, 0x1000, 1)).toBe(RegionCheck.badKey);
    expect(check(0xffffff00, 3, 0, 0x1000, 1)).toBe(RegionCheck.badKey);
    expect(check(region.key, 4, 0, 0x1000, 1)).toBe(RegionCheck.badPd);
    expect(check(region.key, 3, 0, 0xfff, 1)).toBe(RegionCheck.outOfBounds);
    expect(check(region.key, 3, 0, 0x1000, 101)).toBe(RegionCheck.outOfBounds);
    expect(check(DIRECT_LKEY, 9, Access.localWrite, 2 ** 40, 4096)).toBe(RegionCheck.ok);
    expect(check(DIRECT_LKEY, 9, Access.remoteWrite, 0, 1)).toBe(RegionCheck.noAccess);
  });

  it("do not find a successor by an old key", () => {
    const table = new RegionTable(3);
    const keys = new Set<number>();
    for (let i = 0; i < 300; i++) {
      const region = table.create(0, 1, false);
      if (region === null) throw new Error("no region");
      if (i < 200) expect(keys.has(region.key)).toBe(false);
      keys.add(region.key);
      expect(table.find(region.key)).toBe(region);
      expect(table.create(0, 1, false)).toBeNull();
      table.destroy(region);
      expect(table.find(region.key)).toBeNull();
    }
    expect(table.count).toBe(0);
  });

  it("refuse lists with empty ranges", () => {
    const port = new FakePort();
    const table = new RegionTable(4);
    const region = table.create(0, 2, false);
    if (region === null) throw new Error("no region");
    setU64LE(port.view, 8, 100);
    expect(table.readRanges(region, port, port.base, 2)).toBe(-1);
    expect(table.readRanges(region, port, 0, 2)).toBeGreaterThan(0);
  });
});
