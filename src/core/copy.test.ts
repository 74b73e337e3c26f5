import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { Copier, Span } from "./copy.hot.ts";
import { Prng } from "./prng.ts";
import { CHUNK_BYTES, SparseMemory } from "./sparse-memory.hot.ts";

describe("Copier", () => {
  it("copies like a plain loop, whatever was copied before", () => {
    const copier = new Copier();
    const source = new Uint8Array(200_000);
    new Prng(5).fill(source);
    const target = new Uint8Array(200_000);
    const model = new Uint8Array(200_000);
    const step = fc.tuple(
      fc.nat({ max: 99_999 }),
      fc.nat({ max: 99_999 }),
      fc.oneof(fc.nat({ max: 70 }), fc.constant(4096), fc.nat({ max: 100_000 })),
    );
    fc.assert(
      fc.property(fc.array(step, { maxLength: 20 }), (steps) => {
        for (const [from, to, length] of steps) {
          copier.copy(target, to, source, from, length);
          for (let i = 0; i < length; i++) model[to + i] = source[from + i] as number;
        }
        expect(Buffer.compare(target, model)).toBe(0);
      }),
      { seed: 6, numRuns: 20 },
    );
  });

  it("gives back the same view for the same place only", () => {
    const copier = new Copier();
    const bytes = new Uint8Array(8192);
    const view = copier.view(bytes, 64, 4096);
    expect(copier.view(bytes, 64, 4096)).toBe(view);
    expect(copier.view(bytes, 128, 4096)).not.toBe(view);
    expect(copier.view(new Uint8Array(8192), 64, 4096)).not.toBe(view);
  });

  it("copies overlapping ranges of one array as if through a buffer", () => {
    const copier = new Copier();
    const bytes = Uint8Array.from({ length: 16 }, (_, i) => i);
    copier.copy(bytes, 2, bytes, 0, 8);
    expect([...bytes.subarray(0, 10)]).toEqual([0, 1, 0, 1, 2, 3, 4, 5, 6, 7]);
  });

  it("refuses to leave its arrays", () => {
    const copier = new Copier();
    expect(() => copier.copy(new Uint8Array(4), 2, new Uint8Array(4), 0, 3)).toThrow("target");
    expect(() => copier.copy(new Uint8Array(4), 0, new Uint8Array(4), 2, 3)).toThrow("source");
  });
});

describe("SparseMemory", () => {
  it("behaves like a flat array across chunk ends", () => {
    const copier = new Copier();
    const size = 2 * CHUNK_BYTES;
    const memory = new SparseMemory(size, copier);
    const model = new Uint8Array(size);
    const data = new Uint8Array(64 * 1024);
    new Prng(7).fill(data);
    const at = fc.oneof(
      fc.integer({ min: CHUNK_BYTES - 5000, max: CHUNK_BYTES + 5000 }),
      fc.nat({ max: size - data.length }),
    );
    const step = fc.tuple(at, fc.nat({ max: data.length }), fc.constantFrom("write", "fill"));
    fc.assert(
      fc.property(fc.array(step, { maxLength: 8 }), (steps) => {
        for (const [offset, length, kind] of steps) {
          if (kind === "write") {
            memory.write(offset, data, 0, length);
            model.set(data.subarray(0, length), offset);
          } else {
            memory.fill(offset, length, length & 1);
            model.fill(length & 1, offset, offset + length);
          }
        }
        const all = new Uint8Array(size);
        memory.read(0, all, 0, size);
        expect(Buffer.compare(all, model)).toBe(0);
      }),
      { seed: 8, numRuns: 15 },
    );
  });

  it("costs only what is written, and reads zeros elsewhere", () => {
    const memory = new SparseMemory(128 * 2 ** 30, new Copier());
    const out = new Uint8Array(10).fill(9);
    memory.read(100 * 2 ** 30, out, 0, 10);
    expect([...out]).toEqual(new Array(10).fill(0));
    expect(memory.residentBytes).toBe(0);
    memory.write(64 * 2 ** 30 - 1, Uint8Array.of(1, 2), 0, 2);
    expect(memory.residentBytes).toBe(2 * CHUNK_BYTES);
    memory.clear();
    expect(memory.residentBytes).toBe(0);
  });

  it("lends what is contiguous", () => {
    const memory = new SparseMemory(2 * CHUNK_BYTES, new Copier());
    memory.write(CHUNK_BYTES - 1, Uint8Array.of(7, 8), 0, 2);
    const span = new Span();
    expect(memory.borrow(CHUNK_BYTES - 1, 2, span)).toBe(1);
    expect(span.bytes[span.offset]).toBe(7);
    expect(memory.borrow(CHUNK_BYTES, 1, span)).toBe(1);
    expect(span.bytes[span.offset]).toBe(8);
  });
});
