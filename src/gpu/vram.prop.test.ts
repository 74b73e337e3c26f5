/** VRAM offsets, the window, bus addresses: the same byte by every way that leads to it. */
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { GPU_APERTURE_BAR, gpuMachine } from "../../testing/gpu-machine.ts";
import { VramAllocator } from "./vram.ts";

const MIB = 2 ** 20;
const PAGE = 4096;

describe("VRAM allocation", () => {
  it("never gives a byte twice, keeps to its placement, and gets everything back", () => {
    const request = fc.record({
      bytes: fc.integer({ min: 1, max: 9 * PAGE }),
      placement: fc.constantFrom("visible", "hidden", "any" as const),
      free: fc.boolean(),
    });
    fc.assert(
      fc.property(
        fc.integer({ min: 0, max: 20 }),
        fc.integer({ min: 1, max: 20 }),
        fc.array(request, { maxLength: 60 }),
        (base, pages, requests) => {
          const vram = new VramAllocator(32 * PAGE);
          const visible = { base: base * PAGE, limit: Math.min(32, base + pages) * PAGE };
          const held: { at: number; end: number; bytes: number }[] = [];
          for (const { bytes, placement, free } of requests) {
            const at = vram.alloc(bytes, placement as "any", visible);
            const end = at + Math.ceil(bytes / PAGE) * PAGE;
            if (at >= 0) {
              expect(end).toBeLessThanOrEqual(32 * PAGE);
              expect(held.every((other) => end <= other.at || at >= other.end)).toBe(true);
              const inside = at >= visible.base && end <= visible.limit;
              const outside = end <= visible.base || at >= visible.limit;
              if (placement === "visible") expect(inside).toBe(true);
              if (placement === "hidden") expect(outside).toBe(true);
              held.push({ at, end, bytes });
            }
            const last = free ? held.shift() : undefined;
            if (last !== undefined) vram.free(last.at, last.bytes);
          }
          for (const { at, bytes } of held) vram.free(at, bytes);
          expect(vram.freeBytes).toBe(32 * PAGE);
        },
      ),
      { seed: 7, numRuns: 200 },
    );
  });
});

describe("the window", () => {
  it("shows VRAM byte window + i at aperture byte i, by CPU and by bus", async () => {
    const machine = gpuMachine({ vramBytes: 12 * MIB, apertureBytes: 4 * MIB });
    const { gpu, drive, model, near, plane, fabric } = machine;
    const word = fc.integer({ min: 0, max: 4 * MIB - 4 }).map((at) => at - (at % 4));
    await fc.assert(
      fc.asyncProperty(
        fc.integer({ min: 0, max: 5 }),
        word,
        fc.integer({ min: 1, max: 0xffffffff }),
        async (step, at, value) => {
          const base = step * 2 * MIB;
          await drive(gpu.moveWindow(base));
          const bar = gpu.dma.fn.mapBar(GPU_APERTURE_BAR);
          bar.write32(at, value);
          const { busOffset, phys } = gpu.aperture;
          const bytes = plane.dmaRead(near.bdf, phys + busOffset + at, 4);
          const seen = new DataView(bytes.buffer).getUint32(0, true);
          if (base + at + 4 > 12 * MIB) {
            // Beyond the end of VRAM there is nothing.
            expect([seen, bar.read32(at)]).toEqual([0, 0]);
            return;
          }
          const own = new Uint8Array(4);
          model.vram.read(base + at, own, 0, 4);
          const held = new DataView(own.buffer).getUint32(0, true);
          expect([held, seen, bar.read32(at)]).toEqual([value, value, value]);
          const far = new Uint8Array(4);
          fabric.peek(gpu.bdf, GPU_APERTURE_BAR, at, far);
          expect([...far]).toEqual([...own]);
        },
      ),
      { seed: 11, numRuns: 100 },
    );
  });
});
