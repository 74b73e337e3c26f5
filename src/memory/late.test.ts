/** The descriptions that find the provider when they map, over the same contract as the others. */
import { describe, expect, it } from "vitest";
import { bytesPerCall } from "../../testing/heap.ts";
import { type MemoryFixture, memoryContract } from "../../testing/memory-contract.ts";
import { fabricPeerSetup, type PeerOptions, peerSetup } from "../../testing/peer-setup.ts";
import { PAGE_SIZE, type PeerlaneError, physAddr } from "../core/index.ts";
import type { IommuMode } from "../machine/index.ts";
import { Provider } from "../p2p/index.ts";
import {
  basedAt,
  Direction,
  FrameFlag,
  fitsLinearMap,
  frameOf,
  LINEAR_MAPS,
  MapStatus,
  mapHostMemory,
  offsetOfFrame,
  PAGE_ENTRY_WORDS,
  PageMemory,
  PageTable,
  PfnMemory,
  PhysMap,
  PhysMemory,
  pageEntriesBytes,
  RangeIndex,
  X86_64_LINEAR_MAP,
} from "./index.ts";

const MODES: readonly IommuMode[] = ["off", "passthrough", "strict"];
const MIB = 2 ** 20;
type Setup = ReturnType<typeof peerSetup> | ReturnType<typeof fabricPeerSetup>;

function common(setup: Setup, isClosed: boolean) {
  const { provider, near, far, self, stranger } = setup;
  return {
    plane: setup.plane,
    sizeBytes: provider.sizeBytes,
    offsetOf: (byte: number) => provider.phys + byte,
    // Where the CPU carries nothing between root ports, the far ones have no route.
    initiators: isClosed ? [near, self] : [near, far, self, stranger],
    stranger: isClosed ? stranger : null,
    strangerAnswer: MapStatus.noRoute,
    ranged: true,
    read: setup.peek,
    other: mapHostMemory(setup.backing.allocateHost(8192), [near]),
  };
}

function pageFixture(setup: Setup, isClosed: boolean): MemoryFixture {
  const table = new PageTable(setup.context, setup.rules);
  const memory = new PageMemory(table, table.register(setup.provider));
  const revoke = () => setup.provider.teardown();
  return { ...common(setup, isClosed), memory, revoke };
}

function physFixture(setup: Setup, isClosed: boolean): MemoryFixture {
  const map = new PhysMap(setup.context, setup.rules);
  map.addProvider(setup.provider);
  const revoke = async () => map.removeProvider(setup.provider);
  return { ...common(setup, isClosed), memory: new PhysMemory(map), revoke };
}

function pfnFixture(setup: Setup, isClosed: boolean): MemoryFixture {
  const map = new PhysMap(setup.context, setup.rules);
  map.addProvider(setup.provider);
  const frame = frameOf(setup.provider.phys, FrameFlag.device);
  return {
    ...common(setup, isClosed),
    memory: new PfnMemory(new PhysMemory(map), null),
    offsetOf: (byte) => offsetOfFrame(frame, byte),
    revoke: async () => map.removeProvider(setup.provider),
  };
}

function pfnWithPagesFixture(setup: Setup, isClosed: boolean): MemoryFixture {
  const table = new PageTable(setup.context, setup.rules);
  const pages = new PageMemory(table, table.register(setup.provider));
  const map = new PhysMap(setup.context, setup.rules);
  map.addProvider(setup.provider);
  const frame = frameOf(setup.provider.phys, FrameFlag.device | FrameFlag.map);
  return {
    ...common(setup, isClosed),
    memory: new PfnMemory(new PhysMemory(map), pages),
    offsetOf: (byte) => offsetOfFrame(frame, byte),
    revoke: () => setup.provider.teardown(),
  };
}

const FIXTURES = {
  page: pageFixture,
  pfn: pfnFixture,
  "pfn with pages": pfnWithPagesFixture,
  phys: physFixture,
};
const CLOSED: PeerOptions = { cpuForwards: false };

for (const mode of MODES) {
  for (const [kind, make] of Object.entries(FIXTURES)) {
    memoryContract(`${kind}, IOMMU ${mode}, addresses alone`, () => make(peerSetup(mode), false));
    if (kind === "pfn with pages") continue;
    memoryContract(`${kind}, IOMMU ${mode}, on the fabric`, () =>
      make(fabricPeerSetup(mode), false),
    );
    if (mode === "off") continue;
    memoryContract(`${kind}, IOMMU ${mode}, a CPU that does not forward`, () =>
      make(peerSetup(mode, CLOSED), true),
    );
  }
}

/** The code of the {@link PeerlaneError} that `act` throws. */
function codeOf(act: () => unknown): string {
  try {
    act();
  } catch (error) {
    return (error as PeerlaneError).code;
  }
  return "nothing thrown";
}

/** A provider at an address of choice, on the owner of the setup. */
function providerAt({ owner }: Setup, phys: number, sizeBytes: number): Provider {
  const at = physAddr(phys);
  return new Provider({ owner, bar: 2, barOffset: 0, phys: at, bus: at as never, sizeBytes });
}

describe("registering pages", () => {
  it("takes 64 bytes of real memory per page of the BAR, and gives them back", async () => {
    const setup = peerSetup("off");
    const table = new PageTable(setup.context, setup.rules);
    const pages = table.register(setup.provider);
    expect(pages.words.buffer.byteLength).toBe((16 * MIB) / 64);
    expect(table.entriesBytes).toBe(pageEntriesBytes(16 * MIB));
    expect(pages.words[100 * PAGE_ENTRY_WORDS + 3]).toBe(100);
    await setup.provider.teardown();
    expect(pages.gone).toBe(true);
    expect(table.entriesBytes).toBe(0);
    expect(setup.provider.state).toBe("dead");
  });

  it("refuses what is not aligned: a CMB of 512 KiB has no pages", () => {
    const setup = peerSetup("off");
    const table = new PageTable(setup.context, setup.rules);
    const at = (phys: number, bytes: number) =>
      codeOf(() => table.register(providerAt(setup, phys, bytes)));
    expect(at(2 ** 40, 512 * 1024)).toBe("page-alignment");
    expect(at(2 ** 40 + PAGE_SIZE, 2 * MIB)).toBe("page-alignment");
    expect(at(2 ** 40, 2 * MIB)).toBe("nothing thrown");
    expect(at(2 ** 40, 4 * MIB)).toBe("page-overlap");
    expect(at(2 ** 41, 256 * 2 ** 30)).toBe("page-entries");
    expect(at(64 * 2 ** 40, 2 * MIB)).toBe("linear-map");
  });

  it("asks the linear map of each architecture", () => {
    const fits = (phys: number) =>
      LINEAR_MAPS.filter((map) => fitsLinearMap(map, phys, 16 * MIB)).map(({ name }) => name);
    expect(fits(2 ** 37)).not.toContain("riscv, Sv39");
    expect(fits(2 ** 37)).toContain("arm64, 39 bits");
    // A POWER9 host bridge has its 64-bit window near 2^50.
    expect(fits(2 ** 50)).toContain("powerpc, 51 bits, hash MMU");
    expect(fits(2 ** 50)).not.toContain("powerpc before 4.20, 46 bits, hash MMU");
    // arm64: a BAR below RAM does not fit either (reported for a BAR at 0x58500000).
    expect(fitsLinearMap(basedAt(X86_64_LINEAR_MAP, 2 ** 31), 0x5850_0000, 16 * MIB)).toBe(false);
  });

  it("finds a page through two levels, and none beside it", () => {
    const setup = peerSetup("off");
    const { table } = new PageTable(setup.context, setup.rules);
    const all = new PageTable(setup.context, setup.rules);
    const pages = all.register(providerAt(setup, 2 ** 45 - 4 * MIB, 4 * MIB));
    expect(all.table.find(2 ** 45 - 1)).toBe(pages);
    expect(all.table.find(2 ** 45)).toBeNull();
    expect(all.table.find(2 ** 45 - 4 * MIB - 1)).toBeNull();
    expect(table.find(0)).toBeNull();
  });
});

describe("pages while the provider goes", () => {
  it("a pinned page holds the teardown up; new pins fail, mapping goes on", async () => {
    const setup = peerSetup("off");
    const { provider, near } = setup;
    const table = new PageTable(setup.context, setup.rules);
    const pages = table.register(provider);
    const memory = new PageMemory(table, pages);
    expect(pages.pin(provider.phys, 8192)).toBe(MapStatus.ok);
    expect(pages.pinned).toBe(2);
    let isDone = false;
    const ending = provider.teardown().then(() => {
      isDone = true;
    });
    await Promise.resolve();
    expect(pages.pin(provider.phys, 4096)).toBe(MapStatus.revoked);
    expect(memory.map(near.id, provider.phys, 4096, Direction.both)).toBeGreaterThan(0);
    expect(isDone).toBe(false);
    pages.unpin(provider.phys, 8192);
    await ending;
    expect(memory.map(near.id, provider.phys, 4096, Direction.both)).toBe(-MapStatus.revoked);
  });

  it("refuses a pin without an end, and one that leaves the range", () => {
    const setup = peerSetup("off");
    const { provider } = setup;
    const pages = new PageTable(setup.context, setup.rules).register(provider);
    expect(codeOf(() => pages.pinLongTerm())).toBe("long-term-pin");
    const end = provider.phys + provider.sizeBytes;
    expect(pages.pin(end - 4096, 8192)).toBe(MapStatus.outOfRange);
    expect(pages.pinned).toBe(0);
  });

  it("gives the CPU single accesses to device memory, and no view of it", () => {
    const setup = fabricPeerSetup("off");
    const { provider, backing, owner } = setup;
    const pages = new PageTable(setup.context, setup.rules).register(provider);
    pages.attachRegisters(backing.open(owner).mapBar(2));
    pages.writel(64, 0x1234_5678);
    expect(pages.readl(64)).toBe(0x1234_5678);
    expect([...setup.peek(64, 4)]).toEqual([0x78, 0x56, 0x34, 0x12]);
  });

  it("maps host pages as host memory: the flag decides", () => {
    const setup = peerSetup("strict");
    const { near, backing, plane } = setup;
    const table = new PageTable(setup.context, setup.rules);
    const region = backing.allocateHost(2 * MIB, 2 * MIB);
    const memory = new PageMemory(table, table.registerRam(region));
    const dma = memory.map(near.id, region.phys + 100, 4, Direction.toMemory);
    plane.dmaWrite(near.bdf, dma, Uint8Array.of(1, 2, 3, 4));
    memory.unmap(near.id, dma, 4);
    expect([...region.bytes.subarray(100, 104)]).toEqual([1, 2, 3, 4]);
    expect(memory.cpuAccessible).toBe(true);
    expect(backing.iommu?.pages).toBe(0);
  });
});

describe("physical addresses", () => {
  it("RAM is mapped as RAM, and given back", () => {
    const setup = peerSetup("strict");
    const { near, backing, plane } = setup;
    const map = new PhysMap(setup.context, setup.rules);
    const region = backing.allocateHost(8192);
    map.addRam(region.phys, 8192);
    const memory = new PhysMemory(map);
    const dma = memory.map(near.id, region.phys + 16, 4, Direction.toMemory);
    plane.dmaWrite(near.bdf, dma, Uint8Array.of(9, 8, 7, 6));
    expect([...region.bytes.subarray(16, 20)]).toEqual([9, 8, 7, 6]);
    memory.unmap(near.id, dma, 4);
    expect(backing.iommu?.pages).toBe(0);
  });

  it("strict: maps for a far initiator per I/O, and takes nothing for a near one", () => {
    const setup = peerSetup("strict");
    const { near, far, provider, backing } = setup;
    const map = new PhysMap(setup.context, setup.rules);
    map.addProvider(provider);
    const memory = new PhysMemory(map);
    const count = (id: number) => {
      const before = backing.iommu?.maps ?? 0;
      const dma = memory.map(id, provider.phys, 4096, Direction.both);
      memory.unmap(id, dma, 4096);
      return (backing.iommu?.maps ?? 0) - before;
    };
    expect(count(near.id)).toBe(0);
    expect(count(far.id)).toBe(1);
    expect(backing.iommu?.pages).toBe(0);
  });

  it("a provider that comes again is a new one; ranges never overlap", () => {
    const setup = peerSetup("off");
    const { near, provider } = setup;
    const map = new PhysMap(setup.context, setup.rules);
    map.addProvider(provider);
    expect(codeOf(() => map.addProvider(provider))).toBe("range-overlap");
    map.removeProvider(provider);
    map.addProvider(provider);
    const memory = new PhysMemory(map);
    expect(memory.map(near.id, provider.phys, 16, Direction.both)).toBe(provider.busAt(0));
  });

  it("finds ranges among many", () => {
    const index = new RangeIndex();
    for (const i of [5, 1, 9, 3, 7]) expect(index.add(i * 100, 50, i)).toBe(true);
    expect(index.add(140, 20, 0)).toBe(false);
    expect(index.add(90, 20, 0)).toBe(false);
    const found = [99, 100, 149, 150, 949, 950, 300].map((at) => index.find(at, 1));
    expect(found).toEqual([-1, 1, 1, -1, 9, -1, 3]);
    expect(index.find(140, 20)).toBe(-1);
  });
});

describe("allocation", () => {
  it.each(["page", "pfn", "phys"] as const)("%s leaves nothing behind", (kind) => {
    const setup = peerSetup("off");
    const { memory, offsetOf } = FIXTURES[kind](setup, false);
    const { near, far } = setup;
    const first = offsetOf(0);
    let refused = 0;
    const perIo = bytesPerCall(250_000, (calls) => {
      for (let i = 0; i < calls; i++) {
        const offset = first + (i & 0xfff) * 4096;
        if (memory.map(near.id, offset, 4096, Direction.toMemory) < 0) refused++;
        if (memory.map(far.id, offset, 4096, Direction.fromMemory) < 0) refused++;
      }
    });
    expect(refused).toBe(0);
    // Addresses that may be boxed on their way, nothing else.
    expect(perIo).toBeLessThan(128);
  });
});
