import { describe, expect, it } from "vitest";
import { FakeBacking, type FakeIommu } from "../../testing/fake-backing.ts";
import { retainedBytes } from "../../testing/heap.ts";
import { MachineBuilder } from "../../testing/machine-builder.ts";
import { AssertionError, PAGE_SIZE, PeerlaneError, physAddr } from "../core/index.ts";
import type { IommuMode } from "../machine/index.ts";
import { Direction, DmaContext, type DmaOptions, MapStatus, SegmentList } from "./index.ts";

function setup(iommu: IommuMode, extra: Partial<DmaOptions> = {}) {
  const builder = new MachineBuilder("two");
  const root = builder.root({ busOffset: 0x1000_0000 });
  const { ports } = builder.switch(builder.rootPort(root), 3);
  const a = builder.endpoint(ports[0], { bars: [0x10_0000], iommuGroup: 1 });
  const b = builder.endpoint(ports[1], { bars: [0x10_0000], iommuGroup: 2 });
  const c = builder.endpoint(ports[2], { bars: [0x10_0000], iommuGroup: 2 });
  const snapshot = builder.build();
  const backing = new FakeBacking(snapshot, { iommu: iommu !== "off" });
  const context = new DmaContext(backing, { iommu, snapshot, ...extra });
  return { snapshot, backing, context, a: a.bdf, b: b.bdf, c: c.bdf };
}

const code = (run: () => unknown): string => {
  try {
    run();
  } catch (error) {
    if (error instanceof PeerlaneError) return error.code;
    throw error;
  }
  return "no error";
};

describe("DmaContext", () => {
  it("numbers initiators from 1 in the order they are opened", () => {
    const { context, a, b } = setup("off");
    expect(context.device(b).id).toBe(1);
    expect(context.device(a).id).toBe(2);
    expect(context.device(b).id).toBe(1);
    expect(context.byId(2).bdf).toBe(a);
    expect(() => context.byId(3)).toThrow(AssertionError);
  });

  it("refuses a mode that the machine cannot have", () => {
    const { backing } = setup("off");
    expect(code(() => new DmaContext(backing, { iommu: "strict" }))).toBe("no-iommu");
    expect(code(() => new DmaContext(backing, { iommu: "passthrough" }))).toBe("no-iommu");
  });

  it.each(["off", "passthrough", "strict"] as const)(
    "%s: a coherent buffer is the same bytes for the device and the CPU, and is freed",
    (mode) => {
      const { backing, context, a } = setup(mode);
      const device = context.device(a);
      const buffer = device.allocCoherent(10_000);
      expect(buffer.bytes).toHaveLength(10_000);
      buffer.bytes.fill(7);
      expect([...backing.dmaRead(a, buffer.dma, 3)]).toEqual([7, 7, 7]);
      backing.dmaWrite(a, buffer.dma + 9_990, Uint8Array.of(1, 2, 3));
      expect([...buffer.bytes.subarray(9_990, 9_993)]).toEqual([1, 2, 3]);
      device.freeCoherent(buffer);
      expect(backing.regions).toBe(0);
      expect(backing.iommu?.pages ?? 0).toBe(0);
      expect(() => device.freeCoherent(buffer)).toThrow(AssertionError);
    },
  );

  it.each(["off", "strict"] as const)("%s: an alignment above a page holds for both", (mode) => {
    const { context, a } = setup(mode);
    const device = context.device(a);
    device.allocCoherent(100);
    for (const sizeBytes of [100, 70_000, 131_072]) {
      const { phys, dma } = device.allocCoherent(sizeBytes, 65_536);
      expect([phys % 65_536, dma % 65_536]).toEqual([0, 0]);
    }
  });

  it("off: shifts by the host bridge's inbound ranges, refuses what they leave out", () => {
    const inboundRanges = () => [{ phys: 0, bus: 0x80_0000_0000, sizeBytes: 0x200_0000 }];
    const { context, a } = setup("off", { inboundRanges });
    const device = context.device(a);
    expect(device.mapPhys(physAddr(0x1234), 16, Direction.both, false)).toBe(0x80_0000_1234);
    const outside = device.mapPhys(physAddr(0x1ff_fff8), 16, Direction.both, false);
    expect(outside).toBe(-MapStatus.noRoute);
  });

  it("strict: what is not mapped faults, before and after; every unmap flushes", () => {
    const { backing, context, a } = setup("strict");
    const device = context.device(a);
    const region = backing.allocateHost(8192);
    expect(code(() => backing.dmaRead(a, region.phys, 1))).toBe("iommu-fault");
    const dma = device.mapPhys(physAddr(region.phys + 100), 5000, Direction.fromMemory, false);
    expect(dma % PAGE_SIZE).toBe(100);
    region.bytes[100] = 42;
    expect(backing.dmaRead(a, dma, 1)[0]).toBe(42);
    expect(code(() => backing.dmaWrite(a, dma, Uint8Array.of(1)))).toBe("iommu-fault");
    device.unmap(dma, 5000);
    expect(backing.iommu?.flushes).toBe(1);
    expect(code(() => backing.dmaRead(a, dma, 1))).toBe("iommu-fault");
    expect(() => device.unmap(dma, 5000)).toThrow(AssertionError);
  });

  it("strict: groups have a domain each, members of a group share it", () => {
    const { backing, context, a, b, c } = setup("strict");
    const region = backing.allocateHost(PAGE_SIZE);
    const [first, second, third] = [a, b, c].map((bdf) => context.device(bdf));
    const dma = second.mapPhys(region.phys, 16, Direction.both, false);
    expect(code(() => backing.dmaRead(first.bdf, dma, 1))).toBe("iommu-fault");
    expect(backing.dmaRead(third.bdf, dma, 1)).toHaveLength(1);
  });

  it("strict: no IOVA lies where a bridge or a BAR would claim it", () => {
    const { snapshot, context, a } = setup("strict");
    const device = context.device(a);
    const windows = snapshot.functions.flatMap(({ bridge }) => bridge?.prefetchable ?? []);
    expect(windows.length).toBeGreaterThan(0);
    for (let i = 0; i < 500; i++) {
      const dma = device.mapPhys(physAddr(0x100_0000), PAGE_SIZE * 32, Direction.both, false);
      expect(dma).toBeGreaterThan(0xffff_ffff);
      for (const { base, limit } of windows) {
        expect(dma > limit || dma + PAGE_SIZE * 32 <= base).toBe(true);
      }
    }
  });

  it("strict: a mapping and its end allocate no IOVA run in the steady state", () => {
    const { context, a } = setup("strict");
    const device = context.device(a);
    const first = device.mapPhys(physAddr(0x100_0000), 4096, Direction.both, false);
    device.unmap(first, 4096);
    for (let i = 0; i < 100; i++) {
      const again = device.mapPhys(physAddr(0x100_0000), 4096, Direction.both, false);
      expect(again).toBe(first);
      device.unmap(again, 4096);
    }
  });

  it("strict: a million mappings and their ends leave nothing behind", () => {
    const { context, backing, a } = setup("strict");
    // The fake's page tables allocate; the real question is what is ours.
    const iommu = backing.iommu as FakeIommu;
    iommu.map = () => undefined;
    iommu.unmap = () => undefined;
    const device = context.device(a);
    const phys = physAddr(0x100_0000);
    const retained = retainedBytes(() => {
      for (let i = 0; i < 1_000_000; i++) {
        const dma = device.mapPhys(phys, 4096 * (1 + (i & 31)), Direction.both, false);
        device.unmap(dma, 4096 * (1 + (i & 31)));
      }
    });
    expect(retained).toBeLessThan(512 * 1024);
    expect(context.inspect()).toMatchObject({ domains: [{ mappings: 0, iovaBytesUsed: 0 }] });
  });

  it("shows devices and domains", () => {
    const { context, a, b } = setup("strict");
    context.device(a).allocCoherent(4096);
    context.device(b);
    expect(context.inspect()).toMatchObject({
      mode: "strict",
      devices: [{ id: 1, coherentBuffers: 1 }, { id: 2 }],
      domains: [
        { group: 1, mappings: 1, iovaBytesUsed: 4096 },
        { group: 2, mappings: 0 },
      ],
    });
  });
});

describe("SegmentList", () => {
  it("appends, extends and says when it is full", () => {
    const list = new SegmentList(2);
    expect(list.extend(0x1000, 512, 1024)).toBe(true);
    expect(list.extend(0x1200, 512, 1024)).toBe(true);
    expect(list.count).toBe(1);
    expect(list.extend(0x1400, 512, 1024)).toBe(true);
    expect(list.extend(0x9000, 512, 1024)).toBe(false);
    expect([...list.addr]).toEqual([0x1000, 0x1400]);
    expect([...list.len]).toEqual([1024, 512]);
    expect(list.totalBytes).toBe(1536);
    list.clear();
    expect(list.count).toBe(0);
  });
});
