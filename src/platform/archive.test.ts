import { gzipSync } from "node:zlib";
import fc from "fast-check";
import { pack } from "tar-stream";
import { describe, expect, test } from "vitest";
import { PeerlaneError } from "../core/index.ts";
import { bunzip2, gunzip, packingOf, untar } from "./index.ts";

const base64 = (text: string): Uint8Array => Uint8Array.from(Buffer.from(text, "base64"));
const text = (bytes: Uint8Array): string => Buffer.from(bytes).toString("latin1");

/** Made with Python's bz2 of {@link PLAIN}: all byte values, long runs, runs of exactly four. */
const PACKED = [
  "QlpoOTFBWSZTWfTQ2isAAPt/////////////////////////////////////////////sAD7TCAAAAAAAAATAAmAAA",
  "ABGATAAAAATaAABoAAAAAAAAAAAATAAmAEmAAmAAJgAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAANKpom0j1PTJ",
  "DQGGpkMmI0MJpppo0aZGjCZMCDT1D1MmGkbTSGTRkDTIyAZGmJowmEwINME00000yGRiaBppoGjCZGmRoZMPHyAMJK",
  "ViEsymYnFGsWbTTh1OxmNxyfj8hkclk8ooKKkpnkCokERAKirlsvmFYlJicoKSorLC0uLzAxMjM0NTY3ODk6Ozw9Pj",
  "9AQUJDREVGR0hJSktMTU5PUFFSU1RVVnTXa/YbF12R8+RAtoQH+LCSQAgQgAgYA+zsADCQZd9yACCIAEHnVkAQentC",
  "+bhGACD6dOAAgiN60iIA6/HTgAIIzTs7vDy9Pb4+vz/AQMFBwkLDQ8RE/2KARcZGx0fISMlJykrLS8xMzU2BnJ2en6",
  "ChoqOkpaanqKmqq6ytrq+wsbKztLW2t7i5uru8vb6/wMHCw8TFxsfIycrLzM3Oz9DR0tPU1dbX2Nna29zd3t/g4eLj",
  "5OXm/3P0QHSA6uvs7e7v8PHy//n6evsKgvuB+Pn6+xdyRThQkPTQ2isA==",
].join("");
const PLAIN = Buffer.concat([
  Buffer.from("peerlane ".repeat(40)),
  Uint8Array.from({ length: 256 }, (_, byte) => byte),
  Buffer.from("a".repeat(1000) + "aaaab".repeat(10)),
]);
const ONE_TWO =
  "QlpoOTFBWSZTWbtwGxAAAAEBAAIBoAAhmBmBYXckU4UJC7cBsQBCWmg5MUFZJlNZzdyNmgAAAIGAAACEgCAAIZgZhGF3" +
  "JFOFCQzdyNmg";
/** 64 MiB of zeros. */
const BOMB =
  "QlpoOTFBWSZTWQ4J4t8BX45AAMAAAAggADCATUZCoCWpCoCXMUFZJlNZvAS1wwCidcAAwAAACCAAIKQINjKKiE0qKiE4" +
  "u5IpwoSFALuD6A==";

async function makeTar(add: (tar: ReturnType<typeof pack>) => void): Promise<Uint8Array> {
  const tar = pack();
  add(tar);
  tar.finalize();
  const chunks: Buffer[] = [];
  for await (const chunk of tar) chunks.push(chunk as Buffer);
  return Buffer.concat(chunks);
}

describe("bzip2", () => {
  test("decodes all byte values and long runs", () => {
    expect(text(bunzip2(base64(PACKED), 1e6, "x.bz2"))).toBe(text(PLAIN));
  });

  test("decodes concatenated streams and the empty one", () => {
    expect(text(bunzip2(base64(ONE_TWO), 100, "x"))).toBe("onetwo");
    expect(bunzip2(base64("QlpoORdyRThQkAAAAAA="), 100, "x")).toHaveLength(0);
  });

  test("stops at the limit", () => {
    expect(() => bunzip2(base64(BOMB), 1e6, "x.bz2")).toThrow(/x.bz2 unpacks to more than 1000000/);
  });

  test("a run too long for its block is damage, not an endless loop", () => {
    // Level 1, one block, two equal codes in which RUNA repeats for ever.
    const bits: number[] = [];
    const put = (value: number, count: number): void => {
      for (let bit = count - 1; bit >= 0; bit--) bits.push(Math.floor(value / 2 ** bit) % 2);
    };
    for (const byte of Buffer.from("BZh1")) put(byte, 8);
    put(0x314159265359, 48);
    put(0, 32 + 1 + 24);
    put(0x8000, 16);
    put(0x8000, 16); // only byte 0 is used: symbols RUNA, RUNB, end
    put(2, 3);
    put(1, 15);
    put(0, 1);
    for (let code = 0; code < 2; code++) {
      put(1, 5); // RUNA has 1 bit, RUNB and end have 2
      put(0, 1);
      put(0b100, 3);
      put(0, 1);
    }
    put(0, 40);
    while (bits.length % 8 !== 0) bits.push(0);
    const bytes = Uint8Array.from({ length: bits.length / 8 }, (_, byte) =>
      bits.slice(byte * 8, byte * 8 + 8).reduce((sum, bit) => sum * 2 + bit, 0),
    );
    expect(() => bunzip2(bytes, 1e9, "x")).toThrow(/a run is longer than its block/);
  });

  test("any change of a byte, any cut, is an error or the same bytes", () => {
    const packed = base64(PACKED);
    const at = fc.nat({ max: packed.length - 1 });
    fc.assert(
      fc.property(at, fc.integer({ min: 1, max: 255 }), fc.boolean(), (index, flip, cut) => {
        const copy = cut ? packed.slice(0, index) : packed.slice();
        if (!cut) copy[index] ^= flip;
        try {
          expect(text(bunzip2(copy, 1e6, "x"))).toBe(text(PLAIN));
        } catch (error) {
          expect(error).toBeInstanceOf(PeerlaneError);
        }
      }),
      { seed: 31, numRuns: 300 },
    );
  });
});

describe("gzip", () => {
  test("decodes within the limit, refuses beyond it", () => {
    const packed = gzipSync(PLAIN);
    expect(text(gunzip(packed, 1e6, "x"))).toBe(text(PLAIN));
    expect(() => gunzip(gzipSync(new Uint8Array(1e6)), 1000, "x.gz")).toThrow(/more than 1000/);
  });

  test("says that a cut file is not whole", () => {
    expect(() => gunzip(gzipSync(PLAIN).subarray(0, 40), 1e6, "x.gz")).toThrow(
      /x.gz is not a whole gzip file/,
    );
  });
});

describe("tar", () => {
  test("files, folders, links; what leaves the archive is dropped and counted", async () => {
    const bytes = await makeTar((tar) => {
      tar.entry({ name: "./a/", type: "directory" });
      tar.entry({ name: "./a/file" }, "data");
      tar.entry({ name: "a/hard", type: "link", linkname: "a/file" });
      tar.entry({ name: "a/soft", type: "symlink", linkname: "../b" });
      tar.entry({ name: "/abs" }, "x");
      tar.entry({ name: "../../etc/passwd" }, "x");
      tar.entry({ name: "dev", type: "fifo" });
      tar.entry({ name: `long/${"n".repeat(200)}` }, "pax");
    });
    expect(packingOf(bytes)).toBe("tar");
    const { entries, dropped } = await untar(bytes, "x.tar");
    expect(entries.map((e) => [e.path.slice(0, 12), e.kind, e.target, text(e.bytes)])).toEqual([
      ["a", "directory", "", ""],
      ["a/file", "file", "", "data"],
      ["a/hard", "file", "", "data"],
      ["a/soft", "symlink", "../b", ""],
      ["abs", "file", "", "x"],
      ["long/nnnnnnn", "file", "", "pax"],
    ]);
    expect(dropped).toBe(2);
  });

  test("keeps only wanted bytes", async () => {
    const bytes = await makeTar((tar) => {
      tar.entry({ name: "big" }, "x".repeat(10_000));
      tar.entry({ name: "small" }, "y");
    });
    const { entries } = await untar(bytes, "x.tar", (path) => path === "small");
    expect(entries.map((e) => e.bytes.length)).toEqual([0, 1]);
  });

  test("a cut archive is an error with its name", async () => {
    const bytes = await makeTar((tar) => void tar.entry({ name: "a" }, "x".repeat(2000)));
    await expect(untar(bytes.subarray(0, 1500), "x.tar")).rejects.toThrow(
      /x.tar is not a whole tar file/,
    );
  });
});

test("packings are told by their first bytes", () => {
  expect(packingOf(gzipSync(""))).toBe("gzip");
  expect(packingOf(base64(PACKED))).toBe("bzip2");
  expect(packingOf(Uint8Array.of(0xfd, 0x37, 0x7a, 0x58, 0x5a, 0))).toBe("xz");
  expect(packingOf(Uint8Array.of(0x28, 0xb5, 0x2f, 0xfd))).toBe("zstd");
  expect(packingOf(Buffer.from("00:00.0 Host bridge"))).toBeNull();
  expect(packingOf(new Uint8Array(0))).toBeNull();
});
