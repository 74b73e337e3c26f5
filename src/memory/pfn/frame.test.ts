/** What a frame is for: misuse does not compile. `npm run typecheck` checks the expectations. */
import { describe, expect, expectTypeOf, it } from "vitest";
import { hex, type Pfn, type PhysAddr, physAddr } from "../../core/index.ts";
import {
  FRAME_ADDRESS_LIMIT,
  type Frame,
  FrameFlag,
  frameFlags,
  frameOf,
  hasPage,
  offsetOfFrame,
  type PageIndex,
  pageOfFrame,
  physOfFrame,
} from "./index.ts";

const phys = physAddr(0x2000_0000_3000);
const device = frameOf(phys, FrameFlag.device);
const mapped = frameOf(phys, FrameFlag.device | FrameFlag.map);

describe("a frame", () => {
  it("carries address and flags", () => {
    expect(physOfFrame(device)).toBe(phys);
    expect([frameFlags(device), frameFlags(mapped)]).toEqual([1, 3]);
    expect(offsetOfFrame(mapped, 12)).toBe(3 * 2 ** 48 + phys + 12);
  });

  it("becomes a page only where there is one", () => {
    expect([hasPage(device), hasPage(mapped)]).toEqual([false, true]);
    expect(pageOfFrame(device)).toBeNull();
    expect(pageOfFrame(mapped)).toBe(phys / 4096);
  });

  it("has no room for the highest addresses", () => {
    expect(physOfFrame(frameOf(physAddr(FRAME_ADDRESS_LIMIT - 4096), 3))).toBe(2 ** 48 - 4096);
    expect(() => frameOf(physAddr(FRAME_ADDRESS_LIMIT), 0)).toThrow(/no frame number/);
    expect(() => frameOf(physAddr(0x1234), 0)).toThrow(/no frame number/);
    expect(() => frameOf(phys, 4)).toThrow(/no frame number/);
  });

  it("does not compile where a number, an address or a page is wanted", () => {
    expectTypeOf<Frame>().not.toExtend<number>();
    expectTypeOf<Frame>().not.toExtend<PhysAddr>();
    expectTypeOf<Frame>().not.toExtend<Pfn>();
    expectTypeOf<Frame>().not.toExtend<PageIndex>();
    expectTypeOf<number>().not.toExtend<Frame>();
    expectTypeOf<Pfn>().not.toExtend<Frame>();
    expectTypeOf(pageOfFrame).returns.toEqualTypeOf<PageIndex | null>();
    const misuse = () => [
      // @ts-expect-error a frame is not a number to be printed
      hex(device),
      // @ts-expect-error nor an address
      frameOf(device, 0),
      // @ts-expect-error nor can anything be added to it
      device * 4096,
      // @ts-expect-error a frame number of the core is not one
      physOfFrame(phys / 4096),
      // @ts-expect-error a page may be missing
      pageOfFrame(device).toString(),
    ];
    expect(misuse).toBeTypeOf("function");
  });
});
