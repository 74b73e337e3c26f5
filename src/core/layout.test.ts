import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { decodeLayout, defineLayout, encodeLayout, type Layout } from "./layout.ts";

const table = (endian: "little" | "big"): Layout =>
  defineLayout({
    name: "sample",
    source: "none",
    sizeBytes: 64,
    endian,
    fields: [
      { name: "a", offset: 0, kind: "u8", text: "" },
      { name: "b", offset: 1, kind: "u16", text: "" },
      { name: "c", offset: 3, kind: "u24", text: "" },
      { name: "d", offset: 6, kind: "u32", text: "" },
      { name: "e", offset: 10, kind: "u64", text: "" },
      { name: "f", offset: 20, kind: "ascii", bytes: 10, text: "" },
      { name: "h", offset: 40, kind: "utf8", bytes: 24, text: "" },
      { name: "g", offset: 30, kind: "bytes", bytes: 4, text: "" },
    ],
  });

describe("layouts", () => {
  it.each(["little", "big"] as const)("read what they wrote, %s-endian", (endian) => {
    const layout = table(endian);
    fc.assert(
      fc.property(
        fc.record({
          a: fc.nat(0xff),
          b: fc.nat(0xffff),
          c: fc.nat(0xffffff),
          d: fc.nat(0xffffffff),
          e: fc.maxSafeNat(),
          f: fc.string({ unit: fc.constantFrom("a", "b", "-"), maxLength: 10 }),
          h: fc.string({ unit: fc.constantFrom("a", "\u00e9", "\u{1f600}"), maxLength: 6 }),
          g: fc.uint8Array({ minLength: 4, maxLength: 4 }),
        }),
        (values) => {
          const bytes = new Uint8Array(70).fill(0xee);
          encodeLayout(layout, values, bytes, 3);
          expect(decodeLayout(layout, bytes, 3)).toEqual(values);
          expect(bytes[2]).toBe(0xee);
          expect(bytes[67]).toBe(0xee);
        },
      ),
      { seed: 1, numRuns: 50 },
    );
  });

  it("put the low byte of 24 bits where the endianness says", () => {
    const bytes = new Uint8Array(64);
    encodeLayout(table("little"), { c: 0x010203 }, bytes);
    expect(Array.from(bytes.subarray(3, 6))).toEqual([3, 2, 1]);
    encodeLayout(table("big"), { c: 0x010203 }, bytes);
    expect(Array.from(bytes.subarray(3, 6))).toEqual([1, 2, 3]);
  });

  it("refuse fields that overlap or leave the structure", () => {
    const base = { name: "x", source: "none", sizeBytes: 4, endian: "little" } as const;
    const two = [
      { name: "a", offset: 0, kind: "u16", text: "" },
      { name: "b", offset: 1, kind: "u16", text: "" },
    ] as const;
    expect(() => defineLayout({ ...base, fields: two })).toThrow(/overlap/);
    expect(() =>
      defineLayout({ ...base, fields: [{ name: "a", offset: 2, kind: "u32", text: "" }] }),
    ).toThrow(/inside/);
  });
});
