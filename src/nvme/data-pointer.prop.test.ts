/** PRPs and SGLs that the driver builds, read back by a naive decoder. */
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { decodePrps, decodeSgl, joinPieces, type Piece } from "../../testing/nvme-decode.ts";
import { SegmentList } from "../dma/index.ts";
import {
  buildPrps,
  buildSgl,
  countPrps,
  PRP_IMPOSSIBLE,
  prpListPages,
  SGL_IMPOSSIBLE,
  sglListPages,
} from "./index.ts";

const LIST_DMA = 0x7_fffe_0000;
const LIST_PAGES = 8;
/** The entry is not at the start of the ring, nor the list of its slab. */
const SQE_AT = 32;
const LIST_AT = 1024;

function built(
  pieces: readonly Piece[],
  pageBytes: number,
  build: typeof buildPrps,
): { used: number; sqe: Uint32Array; read: (address: number) => number } {
  const segments = new SegmentList(Math.max(1, pieces.length));
  for (const { address, length } of pieces) segments.push(address, length);
  const ring = new Uint32Array(64).fill(0xdeadbeef);
  ring.fill(0, SQE_AT, SQE_AT + 16);
  const list = new Uint32Array(LIST_AT + (LIST_PAGES * pageBytes) / 4).fill(0xdeadbeef);
  const used = build(segments, pageBytes, ring, SQE_AT, list, LIST_AT, LIST_DMA, LIST_PAGES);
  return {
    used,
    sqe: ring.subarray(SQE_AT, SQE_AT + 16),
    read: (address) => {
      const at = address - LIST_DMA;
      if (at < 0 || at >= LIST_PAGES * pageBytes) throw new Error("read outside the list pages");
      return list[LIST_AT + at / 4];
    },
  };
}

const address = (pageBytes: number) =>
  fc.integer({ min: 1, max: 2 ** 40 / pageBytes }).map((page) => page * pageBytes);

/** Segments as the block layer makes them for a device without gaps. */
function pageSegments(
  pageBytes: number,
  pagesMax: number,
  countMax: number,
): fc.Arbitrary<Piece[]> {
  const bodies = fc.array(
    fc.record({ at: address(pageBytes), pages: fc.integer({ min: 1, max: pagesMax }) }),
    { minLength: 1, maxLength: countMax },
  );
  const inPage = fc.integer({ min: 0, max: pageBytes / 4 - 1 }).map((n) => n * 4);
  return fc.tuple(bodies, inPage, inPage).map(([list, head, tail]) =>
    list.map(({ at, pages }, i) => {
      const from = i === 0 ? head : 0;
      const cut = i === list.length - 1 ? tail : 0;
      // A single page that is cut on both sides keeps at least one dword.
      const length = Math.max(4, pages * pageBytes - from - cut);
      return { address: at + from, length };
    }),
  );
}

describe.each([4096, 8192])("PRPs with pages of %i bytes", (pageBytes) => {
  it("give back the segments", () => {
    fc.assert(
      fc.property(pageSegments(pageBytes, 40, 8), (pieces) => {
        const { used, sqe, read } = built(pieces, pageBytes, buildPrps);
        expect(used).toBeGreaterThanOrEqual(0);
        const total = pieces.reduce((sum, { length }) => sum + length, 0);
        const decoded = decodePrps(sqe, total, pageBytes, read);
        expect(joinPieces(decoded)).toEqual(joinPieces(pieces));
      }),
      { seed: 21, numRuns: 300 },
    );
  });
});

describe("PRP lists", () => {
  it.each([
    [1, 0],
    [2, 0],
    [3, 1],
    [512, 1],
    [513, 1],
    [514, 2],
    [512 + 512, 2],
    [512 + 513, 3],
    [511 * 3 + 513, 4],
    [511 * 3 + 514, 5],
  ])("of %i entries take %i pages and end where they should", (entries, pages) => {
    const pieces = [{ address: 0x1234_5678_9004, length: entries * 4096 - 4 }];
    const { used, sqe, read } = built(pieces, 4096, buildPrps);
    expect([used, prpListPages(entries - 1, 4096)]).toEqual([pages, entries < 3 ? 0 : pages]);
    const decoded = decodePrps(sqe, pieces[0].length, 4096, read);
    expect(decoded.length).toBe(entries);
    expect(joinPieces(decoded)).toEqual(pieces);
  });

  it.each([
    ["an address that is no dword", [{ address: 0x1002, length: 512 }]],
    [
      "a gap after the first segment",
      [
        { address: 0x1000, length: 512 },
        { address: 0x8000, length: 512 },
      ],
    ],
    [
      "a segment that starts inside a page",
      [
        { address: 0x1000, length: 4096 },
        { address: 0x8200, length: 512 },
      ],
    ],
    ["more than the list pages hold", [{ address: 0x1000, length: (511 * 8 + 3) * 4096 }]],
  ])("refuse %s", (_, pieces) => {
    expect(built(pieces, 4096, buildPrps).used).toBe(PRP_IMPOSSIBLE);
  });

  it("count entries without a list", () => {
    const segments = new SegmentList(2);
    segments.push(0x1ffc, 4 + 4096);
    segments.push(0x9000, 100);
    expect(countPrps(segments, 4096)).toBe(3);
  });
});

describe("SGLs", () => {
  it("give back the segments, gaps and all", () => {
    const piece = fc.record({
      address: fc.integer({ min: 1, max: 2 ** 50 }).map((n) => n * 4),
      length: fc.integer({ min: 1, max: 2 ** 28 }).map((n) => n * 4),
    });
    fc.assert(
      fc.property(fc.array(piece, { minLength: 1, maxLength: 700 }), (pieces) => {
        const { used, sqe, read } = built(pieces, 4096, buildSgl);
        expect(used).toBe(sglListPages(pieces.length, 4096));
        expect(decodeSgl(sqe, read)).toEqual(pieces);
      }),
      { seed: 22, numRuns: 100 },
    );
  });

  it.each([
    [1, 0],
    [2, 1],
    [256, 1],
    [257, 2],
    [511, 2],
    [512, 3],
  ])("of %i segments take %i list pages", (count, pages) => {
    const pieces = Array.from({ length: count }, (_, i) => ({ address: i * 8192, length: 4096 }));
    const { used, sqe, read } = built(pieces, 4096, buildSgl);
    expect(used).toBe(pages);
    expect(decodeSgl(sqe, read)).toEqual(pieces);
  });

  it("refuse more than the list pages hold", () => {
    const pieces = Array.from({ length: 255 * 8 + 2 }, (_, i) => ({ address: i * 8, length: 4 }));
    expect(built(pieces, 4096, buildSgl).used).toBe(SGL_IMPOSSIBLE);
  });
});
