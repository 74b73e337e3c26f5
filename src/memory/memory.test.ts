import { describe, expect, it } from "vitest";
import { type MemoryFixture, memoryContract } from "../../testing/memory-contract.ts";
import { PEER_BUS_OFFSET, peerSetup } from "../../testing/peer-setup.ts";
import { PAGE_SIZE } from "../core/index.ts";
import type { IommuMode } from "../machine/index.ts";
import { openLease } from "../p2p/index.ts";
import { Direction, DmaAddressMemory, LeaseMemory, MapStatus, mapHostMemory } from "./index.ts";

const MODES: readonly IommuMode[] = ["off", "passthrough", "strict"];

/** A lease in the middle of the provider, for both clients and the owner itself. */
function leaseFixture(mode: IommuMode): MemoryFixture {
  const setup = peerSetup(mode);
  const { provider, near, far, self, stranger, rules, backing, peerBytes } = setup;
  const range = { offset: 5 * PAGE_SIZE, length: 64 * 1024 };
  const lease = openLease({ provider, range, rules, initiators: [near, far, self] });
  return {
    memory: new LeaseMemory(lease),
    plane: backing,
    sizeBytes: range.length,
    offsetOf: (byte) => byte,
    initiators: [near, far, self],
    stranger,
    ranged: true,
    read: (byte, length) => peerBytes.subarray(range.offset + byte, range.offset + byte + length),
    revoke: () => lease.revoke("test"),
    other: mapHostMemory(backing.allocateHost(8192), [near, far]),
  };
}

function dmaAddressFixture(mode: IommuMode): MemoryFixture {
  const { provider, near, stranger, backing, peerBytes } = peerSetup(mode);
  return {
    memory: new DmaAddressMemory(near.id),
    plane: backing,
    sizeBytes: 64 * 1024,
    offsetOf: (byte) => provider.busAt(0) + byte,
    initiators: [near],
    stranger,
    ranged: false,
    read: (byte, length) => peerBytes.subarray(byte, byte + length),
    revoke: null,
    other: mapHostMemory(backing.allocateHost(8192), [near]),
  };
}

function hostFixture(mode: IommuMode): MemoryFixture {
  const { near, far, stranger, backing } = peerSetup(mode);
  const region = backing.allocateHost(64 * 1024);
  const memory = mapHostMemory(region, [near, far]);
  return {
    memory,
    plane: backing,
    sizeBytes: 64 * 1024,
    offsetOf: (byte) => byte,
    initiators: [near, far],
    stranger,
    ranged: true,
    read: (byte, length) => region.bytes.subarray(byte, byte + length),
    revoke: async () => memory.close(),
    other: mapHostMemory(backing.allocateHost(8192), [near, far]),
  };
}

for (const mode of MODES) {
  memoryContract(`lease, IOMMU ${mode}`, () => leaseFixture(mode));
  memoryContract(`dma-address, IOMMU ${mode}`, () => dmaAddressFixture(mode));
  memoryContract(`host, IOMMU ${mode}`, () => hostFixture(mode));
}

describe("addresses of a lease", () => {
  it.each(MODES)("%s: bus = phys + offset for the near one, with a non-zero offset", (mode) => {
    const { provider, near, far, rules } = peerSetup(mode);
    expect(provider.busOffset).toBe(PEER_BUS_OFFSET);
    const memory = new LeaseMemory(openLease({ provider, rules, initiators: [near, far] }));
    const bus = memory.map(near.id, 0x2000, 512, Direction.both);
    expect(bus).toBe(provider.phys + PEER_BUS_OFFSET + 0x2000);
    const other = memory.map(far.id, 0x2000, 512, Direction.both);
    expect(other).not.toBe(bus);
    if (mode !== "strict") expect(other).toBe(provider.phys + 0x2000);
  });

  it("strict: an address that was made for one initiator is no use to another", () => {
    const { provider, far, stranger, rules, backing, near } = peerSetup("strict");
    const memory = new LeaseMemory(openLease({ provider, rules, initiators: [near, far] }));
    const address = memory.map(far.id, 0, 16, Direction.both);
    backing.dmaWrite(far.bdf, address, Uint8Array.of(1));
    // Both lines of defence: the memory refuses, and where somebody cheats the IOMMU does.
    expect(memory.map(stranger.id, 0, 16, Direction.both)).toBe(-MapStatus.wrongInitiator);
    expect(() => backing.dmaWrite(stranger.bdf, address, Uint8Array.of(1))).toThrow();
  });

  it("strict: after the revoke the old address of the far one faults", async () => {
    const { provider, far, rules, backing } = peerSetup("strict");
    const lease = openLease({ provider, rules, initiators: [far] });
    const address = new LeaseMemory(lease).map(far.id, 0, 16, Direction.both);
    backing.dmaWrite(far.bdf, address, Uint8Array.of(1));
    await lease.revoke("test");
    expect(() => backing.dmaWrite(far.bdf, address, Uint8Array.of(1))).toThrow();
    expect(backing.iommu?.pages).toBe(0);
  });
});
