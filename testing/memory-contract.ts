/**
 * The contract of I/O memory (src/memory/contract.ts) as a suite that every description runs: the
 * address that `map` gives reaches the right byte for its initiator, and nothing else does.
 *
 * A fixture says how the bytes are seen from the owner's side, independently of any mapping.
 */

import { describe, expect, it } from "vitest";
import { BioFlag, BioOp, BioPool, BlockStatus } from "../src/block/index.ts";
import { type Bdf, PAGE_SIZE, Prng, Span } from "../src/core/index.ts";
import type { DmaDevice } from "../src/dma/index.ts";
import { Direction, type IoMemory, MapStatus, MEMORY_KIND_NAMES } from "../src/memory/index.ts";

/** Hardware's side of an initiator: what a DMA with this address does. Throws where it fails. */
export interface DmaPlane {
  dmaWrite(bdf: Bdf, address: number, source: Uint8Array): void;
  dmaRead(bdf: Bdf, address: number, length: number): Uint8Array;
}

export interface MemoryFixture {
  readonly memory: IoMemory;
  readonly plane: DmaPlane;
  /** Bytes that the fixture's memory has. */
  readonly sizeBytes: number;
  /** The offset that names byte `byte` (the byte itself, an address, ...). */
  offsetOf(byte: number): number;
  /** Initiators that may use it, at least one. */
  readonly initiators: readonly DmaDevice[];
  /** One that may not, though it is of the same context; null when every initiator may. */
  readonly stranger: DmaDevice | null;
  /**
   * What the stranger is told. Default `wrongInitiator`; descriptions that find the provider when
   * they map know no initiators, and refuse for want of a route.
   */
  readonly strangerAnswer?: MapStatus;
  /** True when the memory knows its own end. */
  readonly ranged: boolean;
  /** The owner's view of its bytes, without any mapping. */
  read(byte: number, length: number): Uint8Array;
  /** Takes the memory away; null when the description has no lifetime. */
  readonly revoke: (() => Promise<void>) | null;
  /** Another memory that the first initiator may use, to mix within one I/O. */
  readonly other: IoMemory;
}

/** Runs the suite over what `make` builds, once per test. */
export function memoryContract(name: string, make: () => MemoryFixture): void {
  describe(`I/O memory contract: ${name}`, () => {
    reachesItsBytes(make);
    travelsInABio(make);
    refuses(make);
    isRevoked(make);
  });
}

function reachesItsBytes(make: () => MemoryFixture): void {
  it("gives each initiator an address that reaches the right byte", () => {
    const { memory, plane, initiators, offsetOf, sizeBytes, read } = make();
    const prng = new Prng(12);
    for (const device of initiators) {
      for (const byte of [0, 1, PAGE_SIZE - 1, PAGE_SIZE, sizeBytes - 64, prng.below(sizeBytes)]) {
        const data = new Uint8Array(Math.min(64, sizeBytes - byte));
        prng.fill(data);
        // Both: where a mapping is made per I/O, its rights are those of the direction.
        const address = memory.map(device.id, offsetOf(byte), data.length, Direction.both);
        expect(address).toBeGreaterThan(0);
        plane.dmaWrite(device.bdf, address, data);
        expect([...read(byte, data.length)]).toEqual([...data]);
        expect([...plane.dmaRead(device.bdf, address, data.length)]).toEqual([...data]);
        memory.unmap(device.id, address, data.length);
      }
    }
  });

  it("lets one initiator read what another wrote, each by its own address", () => {
    const { memory, plane, initiators, offsetOf } = make();
    const writer = initiators[0];
    const reader = initiators[initiators.length - 1];
    const data = Uint8Array.from({ length: 512 }, (_, i) => i * 7);
    const to = memory.map(writer.id, offsetOf(PAGE_SIZE), 512, Direction.toMemory);
    plane.dmaWrite(writer.bdf, to, data);
    const from = memory.map(reader.id, offsetOf(PAGE_SIZE), 512, Direction.fromMemory);
    expect([...plane.dmaRead(reader.bdf, from, 512)]).toEqual([...data]);
  });

  it("keeps the low 12 bits of the limit address, and neighbours stay neighbours", () => {
    const { memory, initiators, offsetOf } = make();
    for (const { id } of initiators) {
      const first = memory.map(id, offsetOf(PAGE_SIZE - 24), 24, Direction.both);
      const second = memory.map(id, offsetOf(PAGE_SIZE), 24, Direction.both);
      expect(first % PAGE_SIZE).toBe(memory.limitAddress(offsetOf(PAGE_SIZE - 24)) % PAGE_SIZE);
      // Mappings made per call are neighbours only within one call.
      if (!memory.needsUnmap) expect(second - first).toBe(24);
    }
    const [low, high] = [100, 700].map((byte) => memory.limitAddress(offsetOf(byte)));
    expect(high - low).toBe(600);
  });

  it("lends its bytes to the CPU exactly when it says so", () => {
    const { memory, offsetOf, read } = make();
    const span = new Span();
    expect(memory.bytes(offsetOf(10), 20, span)).toBe(memory.cpuAccessible);
    if (!memory.cpuAccessible) return;
    span.bytes[span.offset] = 0x5a;
    expect(read(10, 1)[0]).toBe(0x5a);
  });

  it("mixes with other memory in one I/O", () => {
    const { memory, other, plane, initiators, offsetOf, read } = make();
    const [device] = initiators;
    const data = Uint8Array.from({ length: 1024 }, (_, i) => i % 251);
    const parts = [
      { address: memory.map(device.id, offsetOf(512), 512, Direction.toMemory), from: 0 },
      { address: other.map(device.id, 0, 512, Direction.toMemory), from: 512 },
    ];
    for (const { address, from } of parts) {
      plane.dmaWrite(device.bdf, address, data.subarray(from, from + 512));
    }
    const span = new Span();
    expect(other.bytes(0, 512, span)).toBe(true);
    const host = span.bytes.subarray(span.offset, span.offset + 512);
    expect([...read(512, 512), ...host]).toEqual([...data]);
  });

  it("says what it is", () => {
    const { memory } = make();
    expect(memory.inspect()).toMatchObject({ kind: MEMORY_KIND_NAMES[memory.kind] });
  });
}

function travelsInABio(make: () => MemoryFixture): void {
  it("joins, splits and advances in a bio, and each part reaches its bytes", () => {
    const { memory, plane, initiators, offsetOf, read } = make();
    const device = initiators[initiators.length - 1];
    const pool = new BioPool(3, 4);
    const bio = pool.acquire();
    if (bio === null) throw new Error("the pool has bios");
    bio.op = BioOp.read;
    // Three neighbours are one vector; a gap begins another.
    for (const byte of [PAGE_SIZE, PAGE_SIZE + 1024, PAGE_SIZE + 2048, 4 * PAGE_SIZE]) {
      expect(bio.addMemory(memory, offsetOf(byte), 1024)).toBe(BlockStatus.ok);
    }
    expect([bio.vecCount, bio.sizeBytes]).toEqual([2, 4096]);
    expect((bio.flags & BioFlag.dmaDirect) !== 0).toBe(!memory.cpuAccessible);
    const front = bio.splitFront(512, pool);
    if (front === null) throw new Error("the pool has bios");
    const data = Uint8Array.from({ length: 4096 }, (_, i) => (i * 11) & 0xff);
    let at = 0;
    for (const part of [front, bio]) {
      while (part.sizeBytes > 0) {
        const length = part.currentBytes();
        const vec = part.vecBase + part.vecIndex;
        const offset = part.offsets[vec] + part.vecDone;
        const address = part.memories[vec].map(device.id, offset, length, Direction.both);
        plane.dmaWrite(device.bdf, address, data.subarray(at, at + length));
        memory.unmap(device.id, address, length);
        expect(part.advance(length)).toBe(BlockStatus.ok);
        at += length;
      }
    }
    expect(at).toBe(4096);
    const seen = [...read(PAGE_SIZE, 3072), ...read(4 * PAGE_SIZE, 1024)];
    expect(seen).toEqual([...data]);
  });
}

function refuses(make: () => MemoryFixture): void {
  it("refuses an initiator that it was not made for", () => {
    const { memory, stranger, offsetOf, strangerAnswer } = make();
    for (const id of [0, 4000]) {
      const answer = memory.map(id, offsetOf(0), 16, Direction.both);
      expect(answer).toBe(-MapStatus.wrongInitiator);
    }
    if (stranger === null) return;
    const answer = memory.map(stranger.id, offsetOf(0), 16, Direction.both);
    expect(answer).toBe(-(strangerAnswer ?? MapStatus.wrongInitiator));
  });

  it("refuses what leaves it", () => {
    const { memory, initiators, offsetOf, sizeBytes, ranged } = make();
    const [{ id }] = initiators;
    expect(memory.map(id, offsetOf(0), 0, Direction.both)).toBe(-MapStatus.outOfRange);
    expect(memory.map(id, -1, 16, Direction.both)).toBe(-MapStatus.outOfRange);
    if (!ranged) return;
    const end = offsetOf(sizeBytes);
    expect(memory.map(id, end, 1, Direction.both)).toBe(-MapStatus.outOfRange);
    expect(memory.map(id, end - 16, 17, Direction.both)).toBe(-MapStatus.outOfRange);
    expect(memory.map(id, end - 16, 16, Direction.both)).toBeGreaterThan(0);
  });
}

function isRevoked(make: () => MemoryFixture): void {
  it("maps nothing any more once it was taken away", async () => {
    const { memory, initiators, stranger, offsetOf, revoke } = make();
    if (revoke === null) return;
    const [{ id }] = initiators;
    expect(memory.map(id, offsetOf(0), 16, Direction.both)).toBeGreaterThan(0);
    await revoke();
    for (const who of [id, stranger?.id ?? id]) {
      expect(memory.map(who, offsetOf(0), 16, Direction.both)).toBe(-MapStatus.revoked);
    }
  });
}
