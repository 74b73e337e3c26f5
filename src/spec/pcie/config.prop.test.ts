import fc from "fast-check";
import { describe, expect, it } from "vitest";
import {
  type BridgeWindow,
  decodeBarRegisters,
  decodeBridgeWindows,
  decodeResizableBars,
  encodeBarRegister,
  encodeBridgeWindows,
  encodeResizableBars,
  MEMORY_WINDOW_BYTES,
  sizingMask,
  walkCapabilities,
  walkExtendedCapabilities,
} from "./index.ts";

const window = (unit: number, limit: number): fc.Arbitrary<BridgeWindow | null> =>
  fc.option(
    fc.tuple(fc.nat({ max: limit / unit - 2 }), fc.nat({ max: 4096 })).map(([base, more]) => ({
      base: (base + 1) * unit,
      limit: Math.min(limit, (base + 2 + more) * unit) - 1,
    })),
  );
const RUNS = { seed: 41, numRuns: 200 };

describe("configuration space", () => {
  it("of any content is walked to an end", () => {
    fc.assert(
      fc.property(
        fc.uint8Array({ minLength: 4096, maxLength: 4096 }),
        fc.constantFrom(64, 256, 4096),
        (bytes, length) => {
          const config = bytes.subarray(0, length);
          const below = walkCapabilities(config).capabilities.map(({ offset }) => offset);
          const above = walkExtendedCapabilities(config).capabilities.map(({ offset }) => offset);
          expect(new Set(below).size).toBe(below.length);
          expect(new Set(above).size).toBe(above.length);
          expect(Math.max(0, ...below)).toBeLessThan(256);
          expect(Math.max(0, ...above)).toBeLessThan(length);
        },
      ),
      { seed: 40, numRuns: 100 },
    );
  });

  it("gives back the windows that were written", () => {
    fc.assert(
      fc.property(
        window(4096, 2 ** 31),
        window(MEMORY_WINDOW_BYTES, 2 ** 32),
        window(MEMORY_WINDOW_BYTES, 2 ** 50),
        (io, memory, prefetchable) => {
          const config = new Uint8Array(64);
          encodeBridgeWindows(config, { io, memory, prefetchable });
          expect(decodeBridgeWindows(config)).toEqual({ io, memory, prefetchable });
        },
      ),
      RUNS,
    );
  });

  it("gives back the BARs that were written, and sizes them as hardware does", () => {
    fc.assert(
      fc.property(
        fc.constantFrom("memory32" as const, "memory64" as const),
        fc.boolean(),
        fc.integer({ min: 4, max: 30 }),
        fc.nat({ max: 2 ** 20 }),
        (kind, prefetchable, bits, place) => {
          const config = new Uint8Array(64);
          const sizeBytes = 2 ** bits;
          const address = ((place + 1) * sizeBytes) % (kind === "memory32" ? 2 ** 32 : 2 ** 52);
          const bar = { index: 2, kind, prefetchable, address, decodes: true };
          encodeBarRegister(config, 0x18, bar);
          const found = decodeBarRegisters(config, 0x10, 6);
          // A 32-bit register that holds neither address nor type bits is no BAR.
          if (address > 0 || prefetchable || kind === "memory64") expect(found).toEqual([bar]);
          const { lo, hi } = sizingMask(kind, prefetchable, sizeBytes);
          const high = kind === "memory64" ? hi : 0xffffffff;
          const mask = BigInt(high) * 2n ** 32n + BigInt((lo & ~15) >>> 0);
          expect(Number(2n ** 64n - mask)).toBe(sizeBytes);
        },
      ),
      RUNS,
    );
  });

  it("gives back the resizable BARs that were written", () => {
    const bar = fc.record({
      index: fc.nat({ max: 5 }),
      currentBytes: fc.integer({ min: 20, max: 51 }).map((bits) => 2 ** bits),
      supportedBytes: fc
        .uniqueArray(fc.integer({ min: 20, max: 51 }), { maxLength: 8 })
        .map((bits) => bits.sort((a, b) => a - b).map((n) => 2 ** n)),
    });
    fc.assert(
      fc.property(fc.array(bar, { minLength: 1, maxLength: 6 }), (bars) => {
        const config = new Uint8Array(4096);
        encodeResizableBars(config, 0x200, bars);
        expect(decodeResizableBars(config, 0x200)).toEqual(bars);
      }),
      RUNS,
    );
  });
});
