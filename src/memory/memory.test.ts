import { describe, expect, it } from "vitest";
import { bytesPerCall } from "../../testing/heap.ts";
import { type MemoryFixture, memoryContract } from "../../testing/memory-contract.ts";
import { fabricPeerSetup, PEER_BUS_OFFSET, peerSetup } from "../../testing/peer-setup.ts";
import { PAGE_SIZE } from "../core/index.ts";
import type { IommuMode } from "../machine/index.ts";
import { openLease } from "../p2p/index.ts";
import { Direction, DmaAddressMemory, LeaseMemory, MapStatus, mapHostMemory } from "./index.ts";

const MODES: readonly IommuMode[] = ["off", "passthrough", "strict"];
type Setup = ReturnType<typeof peerSetup> | ReturnType<typeof fabricPeerSetup>;

/** A lease in the middle of the provider, for both clients and the owner itself. */
function leaseFixture({ provider, near, far, self, ...setup }: Setup): MemoryFixture {
  const range = { offset: 5 * PAGE_SIZE, length: 64 * 1024 };
  const lease = openLease({ provider, range, rules: setup.rules, initiators: [near, far, self] });
  return {
    memory: new LeaseMemory(lease),
    plane: setup.plane,
    sizeBytes: range.length,
    offsetOf: (byte) => byte,
    initiators: [near, far, self],
    stranger: setup.stranger,
    ranged: true,
    read: (byte, length) => setup.peek(range.offset + byte, length),
    revoke: () => lease.revoke("test"),
    other: mapHostMemory(setup.backing.allocateHost(8192), [near, far]),
  };
}

function dmaAddressFixture({ provider, near, ...setup }: Setup): MemoryFixture {
  return {
    memory: new DmaAddressMemory(near.id),
    plane: setup.plane,
    sizeBytes: 64 * 1024,
    offsetOf: (byte) => provider.busAt(0) + byte,
    initiators: [near],
    stranger: setup.stranger,
    ranged: false,
    read: setup.peek,
    revoke: null,
    other: mapHostMemory(setup.backing.allocateHost(8192), [near]),
  };
}

function hostFixture({ near, far, backing, ...setup }: Setup): MemoryFixture {
  const region = backing.allocateHost(64 * 1024);
  const memory = mapHostMemory(region, [near, far]);
  return {
    memory,
    plane: setup.plane,
    sizeBytes: 64 * 1024,
    offsetOf: (byte) => byte,
    initiators: [near, far],
    stranger: setup.stranger,
    ranged: true,
    read: (byte, length) => region.bytes.subarray(byte, byte + length),
    revoke: async () => memory.close(),
    other: mapHostMemory(backing.allocateHost(8192), [near, far]),
  };
}

const FIXTURES = { lease: leaseFixture, "dma-address": dmaAddressFixture, host: hostFixture };

for (const mode of MODES) {
  for (const [kind, make] of Object.entries(FIXTURES)) {
    memoryContract(`${kind}, IOMMU ${mode}, addresses alone`, () => make(peerSetup(mode)));
    memoryContract(`${kind}, IOMMU ${mode}, on the fabric`, () => make(fabricPeerSetup(mode)));
  }
  // ACS sends everything up: no initiator uses the bus address, and a lease still works.
  memoryContract(`lease, IOMMU ${mode}, ACS redirect, on the fabric`, () =>
    leaseFixture(fabricPeerSetup(mode, { acs: 0x1d })),
  );
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

  it("leaves nothing behind over a million I/Os", () => {
    const { provider, rules, near, far } = peerSetup("off");
    const lease = openLease({ provider, rules, initiators: [near, far] });
    const memory = new LeaseMemory(lease);
    let refused = 0;
    const perIo = bytesPerCall(250_000, (calls) => {
      for (let i = 0; i < calls; i++) {
        const offset = lease.allocate(4096);
        if (memory.map(near.id, offset, 4096, Direction.toMemory) < 0) refused++;
        if (memory.map(far.id, offset, 4096, Direction.fromMemory) < 0) refused++;
        lease.release(offset, 4096);
      }
    });
    expect(refused).toBe(0);
    // Two addresses that may be boxed, nothing else.
    expect(perIo).toBeLessThan(64);
    expect(lease.inFlight).toBe(0);
  });
});
