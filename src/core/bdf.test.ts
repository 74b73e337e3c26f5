import fc from "fast-check";
import { describe, expect, it } from "vitest";
import {
  bdfBus,
  bdfDevice,
  bdfDomain,
  bdfFunction,
  bdfRequesterId,
  formatBdf,
  makeBdf,
  parseBdf,
  tryParseBdf,
} from "./bdf.ts";
import { UsageError } from "./errors.ts";

const parts = fc.tuple(
  fc.nat({ max: 0xffffffff }),
  fc.nat({ max: 255 }),
  fc.nat({ max: 31 }),
  fc.nat({ max: 7 }),
);

describe("BDF", () => {
  it("packs and unpacks every function, VMD domains included", () => {
    fc.assert(
      fc.property(parts, ([domain, bus, device, fn]) => {
        const bdf = makeBdf(domain, bus, device, fn);
        expect([bdfDomain(bdf), bdfBus(bdf), bdfDevice(bdf), bdfFunction(bdf)]).toEqual([
          domain,
          bus,
          device,
          fn,
        ]);
        expect(bdfRequesterId(bdf)).toBe(bus * 256 + device * 8 + fn);
        expect(parseBdf(formatBdf(bdf))).toBe(bdf);
      }),
      { seed: 4 },
    );
  });

  it("reads the short form in domain 0", () => {
    expect(formatBdf(parseBdf("18:00.0"))).toBe("0000:18:00.0");
    expect(formatBdf(parseBdf("10000:e1:00.0"))).toBe("10000:e1:00.0");
  });

  it("refuses other text and says the right form", () => {
    for (const text of ["", "18.00.0", "18:20.0", "18:00.8", "0000:00:00:00.0", "x8:00.0"]) {
      expect(tryParseBdf(text)).toBeNull();
      expect(() => parseBdf(text)).toThrow(UsageError);
    }
  });
});
