import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { bit, type Field, field } from "./bits.ts";
import { ExitStatus, PeerlaneError, UsageError } from "./errors.ts";
import { Prng } from "./prng.ts";
import { type Poller, Reactor } from "./reactor.ts";
import { decodeRegister, defineRegisters, formatFlags } from "./registers.ts";
import { alignWithin, cutTo, parseSize, widthOf } from "./text.ts";
import { formatTree } from "./tree.ts";
import { getU64BE, getU64LE, highHalf, joinHalves, lowHalf, setU64BE, setU64LE } from "./wire.ts";

describe("bit fields", () => {
  it("set and get are inverse and leave other bits alone", () => {
    const anyField = fc
      .tuple(fc.nat({ max: 31 }), fc.integer({ min: 1, max: 32 }))
      .filter(([low, width]) => low + width <= 32)
      .map(([low, width]) => field(low, width));
    const u32 = fc.nat({ max: 0xffffffff });
    fc.assert(
      fc.property(anyField, u32, u32, (f: Field, word, value) => {
        const changed = f.set(word, value);
        expect(f.get(changed)).toBe((value & f.mask) >>> 0);
        expect((changed & ~f.bits) >>> 0).toBe((word & ~f.bits) >>> 0);
      }),
      { seed: 9 },
    );
  });
});

describe("wire helpers", () => {
  it("carry every number below 2^53 in both orders", () => {
    const view = new DataView(new ArrayBuffer(16));
    fc.assert(
      fc.property(fc.maxSafeNat(), (value) => {
        setU64LE(view, 0, value);
        setU64BE(view, 8, value);
        expect(getU64LE(view, 0)).toBe(value);
        expect(getU64BE(view, 8)).toBe(value);
        expect(view.getBigUint64(0, true)).toBe(BigInt(value));
        expect(view.getBigUint64(8, false)).toBe(BigInt(value));
        expect(joinHalves(lowHalf(value), highHalf(value))).toBe(value);
      }),
      { seed: 10 },
    );
  });
});

describe("register tables", () => {
  const table = defineRegisters({
    name: "example",
    source: "none",
    registers: [
      {
        name: "CTL",
        offset: 0,
        bits: 16,
        access: "RW",
        text: "control",
        fields: [
          { name: "SV", field: bit(0), text: "source validation" },
          { name: "MODE", field: field(4, 2), text: "mode", values: { 2: "fast" } },
        ],
      },
    ],
  });
  const control = table.registers[0];
  if (control === undefined) throw new Error("the table has one register");

  it("decode a word for people", () => {
    expect(
      decodeRegister(control, 0x21).map(({ name, value, meaning }) => [name, value, meaning]),
    ).toEqual([
      ["SV", 1, null],
      ["MODE", 2, "fast"],
    ]);
    expect(formatFlags(control, 0x21)).toBe("SV+");
  });

  it("refuse overlapping fields when they are made", () => {
    const bad = {
      ...control,
      fields: [
        { name: "A", field: field(0, 4), text: "" },
        { name: "B", field: bit(3), text: "" },
      ],
    };
    expect(() => defineRegisters({ name: "bad", source: "none", registers: [bad] })).toThrow(
      "overlap",
    );
  });
});

describe("Prng", () => {
  it("replays from its seed and differs between seeds", () => {
    const draw = (seed: number): number[] => {
      const prng = new Prng(seed);
      return Array.from({ length: 8 }, () => prng.u32());
    };
    expect(draw(42)).toEqual(draw(42));
    expect(draw(42)).not.toEqual(draw(43));
  });

  it("stays below its bound and reaches every value", () => {
    const prng = new Prng(11);
    const seen = new Set<number>();
    for (let i = 0; i < 1000; i++) seen.add(prng.below(10));
    expect([...seen].sort((a, b) => a - b)).toEqual([0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
  });
});

describe("Reactor", () => {
  const counting = (work: number): Poller & { left: number } => ({
    left: work,
    poll() {
      if (this.left === 0) return 0;
      this.left--;
      return 1;
    },
  });

  it("polls in order until a whole round does nothing", () => {
    const reactor = new Reactor();
    const a = counting(3);
    const b = counting(5);
    reactor.add(a);
    reactor.add(b);
    reactor.runUntilIdle();
    expect([a.left, b.left]).toEqual([0, 0]);
  });

  it("says what it waited for when everything is idle", () => {
    const reactor = new Reactor();
    reactor.add(counting(1));
    expect(() => reactor.runUntil(() => false, "a completion")).toThrow("a completion");
  });
});

describe("errors", () => {
  it("carry place, remedy and exit status", () => {
    const error = new PeerlaneError("x", "it broke", { place: "a:1", remedy: "mend it" });
    expect(error.toJSON()).toEqual({
      code: "x",
      message: "it broke",
      place: "a:1",
      remedy: "mend it",
      details: {},
    });
    expect(error.exitStatus).toBe(ExitStatus.failure);
    expect(new UsageError("y", "no").exitStatus).toBe(ExitStatus.usage);
  });
});

describe("trees", () => {
  it("print as indented text", () => {
    expect(formatTree({ a: 1, b: { c: [true, null] } })).toBe(
      "a: 1\nb:\n  c:\n    [0]: true\n    [1]: null",
    );
  });
});

describe("alignWithin", () => {
  const rows = [
    ["a", "one two three four five six seven eight"],
    ["bcd", "nine"],
  ];
  it("leaves rows that fit as they are", () => {
    const lines = ["a    one two three four five six seven eight", "bcd  nine"];
    expect(alignWithin(rows, 44)).toEqual(lines);
    expect(alignWithin(rows, Number.POSITIVE_INFINITY)).toEqual(lines);
    expect(alignWithin([], 10)).toEqual([]);
  });

  it("wraps the last cell beside the others, or below where there is no room", () => {
    expect(alignWithin(rows, 36)).toEqual([
      "a    one two three four five six",
      "     seven eight",
      "bcd  nine",
    ]);
    expect(alignWithin(rows, 20)).toEqual([
      "a",
      "    one two three",
      "    four five six",
      "    seven eight",
      "bcd  nine",
    ]);
  });
});

describe("parseSize", () => {
  it("reads units of 1024, and refuses what is no whole number of bytes", () => {
    expect(["512", "4K", "64MiB", "1g", "2 TB", "1.5G"].map(parseSize)).toEqual([
      512,
      4096,
      64 * 2 ** 20,
      2 ** 30,
      2 * 2 ** 40,
      1.5 * 2 ** 30,
    ]);
    const refused = ["", "K", "-1", "0", "0.3", "1 EiB", "9999999999999T"];
    expect(refused.map(parseSize)).toEqual(refused.map(() => null));
  });
});

describe("cutTo", () => {
  it("keeps colours whole and the width exact", () => {
    const text = "\u001b[31mred\u001b[39m and plain";
    expect(cutTo(text, 40)).toBe(text);
    expect(cutTo(text, 5)).toBe("\u001b[31mred\u001b[39m …");
    for (let width = 1; width < 13; width++) expect(widthOf(cutTo(text, width))).toBe(width);
  });
});
