import fc from "fast-check";
import { describe, expect, it } from "vitest";
import {
  ADDRESS_LIMIT,
  alignDown,
  alignUp,
  busFromPhys,
  hex,
  isAddress,
  isPowerOfTwo,
  pageOffset,
  pfnOf,
  physAddr,
  physFromBus,
} from "./addr.ts";
import { PeerlaneError } from "./errors.ts";

const address = fc.maxSafeNat().map((value) => value % ADDRESS_LIMIT);

describe("addresses", () => {
  it("refuses what is not an integer below 2^52", () => {
    for (const bad of [-1, 0.5, ADDRESS_LIMIT, Number.NaN, Number.POSITIVE_INFINITY]) {
      expect(() => physAddr(bad)).toThrow(PeerlaneError);
      expect(isAddress(bad)).toBe(false);
    }
    expect(physAddr(ADDRESS_LIMIT - 1)).toBe(2 ** 52 - 1);
  });

  it("adds the bus offset with the right sign", () => {
    // A host bridge whose window is at 0x100000000 for the CPU and at 0x80000000 on the bus.
    expect(busFromPhys(physAddr(0x1_0000_1000), 0x1_0000_0000, 0x8000_0000)).toBe(0x8000_1000);
  });

  it("comes back from the bus for any offset", () => {
    fc.assert(
      fc.property(
        fc.nat({ max: 2 ** 31 }),
        fc.nat({ max: 2 ** 31 }),
        fc.nat(),
        (phys, bus, off) => {
          const cpu = physAddr(phys + off);
          expect(physFromBus(busFromPhys(cpu, phys, bus), phys, bus)).toBe(cpu);
        },
      ),
      { seed: 1 },
    );
  });

  it("splits an address into frame and offset without losing bits", () => {
    fc.assert(
      fc.property(address, (value) => {
        expect(pfnOf(physAddr(value)) * 4096 + pageOffset(value)).toBe(value);
      }),
      { seed: 2 },
    );
  });

  it("aligns", () => {
    fc.assert(
      fc.property(address, fc.integer({ min: 0, max: 30 }), (value, shift) => {
        const unit = 2 ** shift;
        const down = alignDown(value, unit);
        expect(down % unit).toBe(0);
        expect(value - down).toBeLessThan(unit);
        expect(alignUp(value, unit) - down).toBe(value === down ? 0 : unit);
      }),
      { seed: 3 },
    );
    expect(isPowerOfTwo(2 ** 40)).toBe(true);
    expect(isPowerOfTwo(2 ** 40 + 1)).toBe(false);
    expect(hex(0x2f, 4)).toBe("0x002f");
  });
});
