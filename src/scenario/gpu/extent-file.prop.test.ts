import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { UsageError } from "../../core/index.ts";
import { type Extent, ExtentFile } from "./extent-file.ts";

const BLOCK = 512;
const BLOCKS = 4096;

/** Extents that do not overlap, in any order. */
const layout = fc
  .array(fc.tuple(fc.integer({ min: 0, max: 40 }), fc.integer({ min: 1, max: 40 })), {
    minLength: 1,
    maxLength: 12,
  })
  .chain((gaps) => {
    let at = 0;
    const extents: Extent[] = gaps.map(([gap, blocks]) => {
      const extent = { block: at + gap, blocks };
      at += gap + blocks;
      return extent;
    });
    return fc.shuffledSubarray(extents, { minLength: 1 });
  });

describe("a file as extents", () => {
  it("maps every byte of a range to the block that has it, in order", () => {
    fc.assert(
      fc.property(layout, fc.nat(), fc.nat(), fc.nat(), (extents, from, size, request) => {
        const file = new ExtentFile(extents, BLOCK, BLOCKS * BLOCK);
        // Where each block of the file is, the slow way.
        const blocks = extents.flatMap(({ block, blocks: count }) =>
          Array.from({ length: count }, (_, i) => block + i),
        );
        expect(file.sizeBytes).toBe(blocks.length * BLOCK);
        const offset = from % file.sizeBytes;
        const length = 1 + (size % (file.sizeBytes - offset));
        const check = (pieces: ReturnType<ExtentFile["pieces"]>, start: number, end: number) => {
          let at = start;
          for (const piece of pieces) {
            expect(piece.offset).toBe(at);
            for (const byte of [0, piece.length - 1]) {
              const inFile = piece.offset + byte;
              const place = (blocks[Math.floor(inFile / BLOCK)] as number) * BLOCK;
              expect(piece.at + byte).toBe(place + (inFile % BLOCK));
            }
            at += piece.length;
          }
          expect(at).toBe(end);
        };
        check(file.pieces(offset, length), offset, offset + length);
        check(file.requests(BLOCK * (1 + (request % 50))), 0, file.sizeBytes);
      }),
      { seed: 3, numRuns: 150 },
    );
  });

  it("refuses extents that overlap or leave the namespace", () => {
    for (const extents of [
      [
        { block: 10, blocks: 5 },
        { block: 14, blocks: 1 },
      ],
      [{ block: BLOCKS - 1, blocks: 2 }],
    ]) {
      expect(() => new ExtentFile(extents, BLOCK, BLOCKS * BLOCK)).toThrowError(UsageError);
    }
  });
});
