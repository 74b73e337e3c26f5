import { describe, expect, it } from "vitest";
import { type GpuMachine, type GpuMachineOptions, gpuMachine } from "../../testing/gpu-machine.ts";
import { type MemoryFixture, memoryContract } from "../../testing/memory-contract.ts";
import { crc32c, Prng } from "../core/index.ts";
import type { IommuMode } from "../machine/index.ts";
import {
  Direction,
  importDmaBuf,
  MapStatus,
  mapHostMemory,
  staticImporter,
} from "../memory/index.ts";
import type { GpuExport } from "./index.ts";

const MIB = 2 ** 20;
const BYTES = 64 * 1024;
const MODES: readonly IommuMode[] = ["off", "passthrough", "strict"];

/** Bytes of an exported buffer as their owner has them, wherever they are. */
function peek({ peekVram }: GpuMachine, { buffer }: GpuExport, at: number, length: number) {
  const { place } = buffer;
  if (place.kind === "vram") return peekVram(place.offset + at, length);
  return place.region.bytes.slice(at, at + length);
}

/** A buffer in the middle of VRAM, mapped for near and far. `peerToPeer` false: in host memory. */
async function fixture(options: GpuMachineOptions, peerToPeer: boolean): Promise<MemoryFixture> {
  const machine = gpuMachine(options);
  const { gpu, near, far, rules } = machine;
  gpu.allocate(5 * 4096);
  const exported = gpu.exportBuffer(gpu.allocate(BYTES), { rules });
  const imported = await importDmaBuf(exported.dmaBuf, [near, far], { peerToPeer });
  await machine.drive(imported.map());
  expect(exported.buffer.place.kind).toBe(peerToPeer ? "vram" : "host");
  return {
    memory: imported.memory,
    plane: machine.plane,
    sizeBytes: BYTES,
    offsetOf: (byte) => byte,
    initiators: [near, far],
    stranger: machine.stranger,
    ranged: true,
    read: (byte, length) => peek(machine, exported, byte, length),
    revoke: () => machine.drive(exported.revoke()),
    other: mapHostMemory(machine.fabric.allocateHost(8192), [near, far]),
  };
}

/** The suite makes a fixture per test and does not wait: these are made ahead. */
const TESTS_OF_THE_SUITE = 10;
for (const iommu of MODES) {
  for (const [what, peerToPeer, acs] of [
    ["VRAM", true, 0],
    ["VRAM, ACS redirect", true, 0x1d],
    ["host memory", false, 0],
  ] as const) {
    const made = await Promise.all(
      Array.from({ length: TESTS_OF_THE_SUITE }, () => fixture({ iommu, acs }, peerToPeer)),
    );
    memoryContract(`dma-buf in ${what}, IOMMU ${iommu}`, () => {
      const next = made.pop();
      if (next === undefined) throw new Error("the suite has more tests than fixtures were made");
      return next;
    });
  }
}

async function exportedBuffer(options: GpuMachineOptions = {}, sizeBytes = BYTES) {
  const machine = gpuMachine(options);
  const { gpu, rules } = machine;
  const buffer = gpu.allocate(sizeBytes);
  const data = new Uint8Array(sizeBytes);
  new Prng(3).fill(data);
  machine.model.vram.write(buffer.vramAt(0, 1), data, 0, sizeBytes);
  const exported = gpu.exportBuffer(buffer, { rules });
  return { ...machine, machine, buffer, exported, dmaBuf: exported.dmaBuf, data };
}

describe("where the buffer lies for whom", () => {
  it("gives a peer its address by the rules: bus address, or IOVA", async () => {
    const { dmaBuf, near, far, drive, gpu, buffer } = await exportedBuffer({ iommu: "strict" });
    const imported = await importDmaBuf(dmaBuf, [near, far]);
    await drive(imported.map());
    const [close, distant] = imported.attachments.map(({ address }) => address);
    expect(close).toBe(gpu.aperture.busAt(gpu.apertureOffset(buffer)));
    expect(distant).not.toBe(close);
  });

  it("moves to host memory for an importer without a route, and for one that cannot", async () => {
    for (const [cpuForwards, peerToPeer] of [
      [false, true],
      [true, false],
    ] as const) {
      const setup = await exportedBuffer({ cpuForwards });
      const imported = await importDmaBuf(setup.dmaBuf, [setup.far], { peerToPeer });
      await setup.drive(imported.map());
      expect(setup.buffer.place.kind).toBe("host");
      expect(imported.attachments[0].peerToPeer).toBe(false);
      const address = imported.memory.map(setup.far.id, 0, BYTES, Direction.fromMemory);
      const seen = setup.plane.dmaRead(setup.far.bdf, address, BYTES);
      expect(Buffer.compare(seen, setup.data)).toBe(0);
      // The VRAM it left is free again.
      expect(setup.gpu.freeBytes).toBe(setup.gpu.vramBytes);
    }
  });

  it("refuses the attach instead, with the verdict, where it is to stay in VRAM", () => {
    const { gpu, rules, far, near } = gpuMachine({ cpuForwards: false });
    const options = { rules, vramOnly: true };
    const { dmaBuf } = gpu.exportBuffer(gpu.allocate(4096), options);
    expect(() => dmaBuf.attach(staticImporter(far))).toThrowError(
      expect.objectContaining({
        code: "dma-buf-attach",
        details: expect.objectContaining({ verdict: expect.objectContaining({ route: "none" }) }),
      }),
    );
    expect(() => dmaBuf.attach(staticImporter(near, false))).toThrowError(/stays in VRAM/);
    expect(dmaBuf.attach(staticImporter(near)).peerToPeer).toBe(true);
  });

  it("moves hidden VRAM into the window, or to host memory when that is full", async () => {
    const { gpu, rules, near, drive, model } = gpuMachine();
    const first = gpu.allocate(10 * MIB, "hidden", "first");
    const second = gpu.allocate(10 * MIB, "hidden", "second");
    model.vram.fill(second.vramAt(0, 1), 10 * MIB, 0x33);
    for (const buffer of [first, second]) {
      const { dmaBuf } = gpu.exportBuffer(buffer, { rules });
      await drive((await importDmaBuf(dmaBuf, [near])).map());
    }
    expect([gpu.isVisible(first), second.place.kind]).toEqual([true, "host"]);
    const { place } = second;
    expect(place.kind === "host" && place.region.bytes.every((byte) => byte === 0x33)).toBe(true);
  });

  it("pins in VRAM when all importers reach it there, else in host memory", async () => {
    const { dmaBuf, near, far, drive, buffer, exported } = await exportedBuffer();
    const mapped = dmaBuf.attach(staticImporter(near));
    await drive(mapped.map());
    expect([buffer.place.kind, dmaBuf.isPinned]).toEqual(["vram", true]);
    await expect(drive(exported.evict())).rejects.toMatchObject({ code: "dma-buf-pinned" });
    // One that needs host memory comes too late while it is pinned, and is told so.
    const late = dmaBuf.attach(staticImporter(far, false));
    await expect(drive(late.map())).rejects.toMatchObject({ code: "dma-buf-pinned" });
    await drive(mapped.unmap());
    expect(dmaBuf.isPinned).toBe(false);
    await drive(late.map());
    expect(buffer.place.kind).toBe("host");
    await drive(mapped.map());
    expect(mapped.isMapped).toBe(true);
  });

  it("comes back to VRAM for the GPU, which sees the same bytes", async () => {
    const { dmaBuf, near, drive, exported, gpu, buffer, data } = await exportedBuffer();
    const imported = await importDmaBuf(dmaBuf, [near], { peerToPeer: false });
    await drive(imported.map());
    await expect(gpu.crc32c(buffer)).rejects.toMatchObject({ code: "gpu-not-resident" });
    await drive(exported.makeResident());
    expect(await drive(gpu.crc32c(buffer))).toBe(crc32c(data));
    expect(imported.isMapped).toBe(false);
  });
});

describe("moves and revokes", () => {
  it("waits for I/O in flight, refuses new; the old address reaches nothing", async () => {
    const { dmaBuf, far, drive, exported, plane, machine, data } = await exportedBuffer({
      iommu: "strict",
    });
    const imported = await importDmaBuf(dmaBuf, [far]);
    await drive(imported.map());
    const { memory } = imported;
    expect(memory.begin()).toBe(true);
    const old = memory.map(far.id, 0, 64, Direction.both);
    let moved = false;
    const move = exported.compact().then(() => {
      moved = true;
    });
    await drive(Promise.resolve());
    expect(memory.begin()).toBe(false);
    // What is in flight goes on, under its address.
    plane.dmaWrite(far.bdf, old, data.slice(100, 164));
    expect(moved).toBe(false);
    memory.end();
    await drive(move);
    expect(memory.map(far.id, 0, 64, Direction.both)).toBe(-MapStatus.revoked);
    expect(() => plane.dmaWrite(far.bdf, old, new Uint8Array(64))).toThrowError(/IOMMU/);
    expect([...peek(machine, exported, 0, 64)]).toEqual([...data.slice(100, 164)]);
    await drive(imported.map());
    const fresh = memory.map(far.id, 0, 64, Direction.both);
    expect([...plane.dmaRead(far.bdf, fresh, 64)]).toEqual([...data.slice(100, 164)]);
  });

  it("tells importers, and waits until they have stopped", async () => {
    const { dmaBuf, near, drive, exported } = await exportedBuffer();
    const told: string[] = [];
    let release = (): void => undefined;
    const attachment = dmaBuf.attach({
      device: near,
      peerToPeer: true,
      invalidateMappings: (reason) => {
        told.push(reason);
        return new Promise((resolve) => {
          release = resolve;
        });
      },
    });
    await drive(attachment.map());
    const move = exported.compact();
    for (let i = 0; i < 20; i++) await Promise.resolve();
    expect([told, attachment.isMapped, dmaBuf.state]).toEqual([["move"], true, "moving"]);
    release();
    await drive(move);
    expect([attachment.isMapped, dmaBuf.state]).toEqual([false, "live"]);
    await drive(attachment.map());
    const revoke = exported.revoke();
    for (let i = 0; i < 20; i++) await Promise.resolve();
    release();
    await drive(revoke);
    expect(told).toEqual(["move", "revoke"]);
    await expect(drive(attachment.map())).rejects.toMatchObject({ code: "dma-buf-revoked" });
    expect(() => dmaBuf.attach(staticImporter(near))).toThrowError(/revoked/);
  });

  it("gives no memory to others while an importer did not stop", async () => {
    const { dmaBuf, near, drive, exported, gpu, buffer } = await exportedBuffer();
    const attachment = dmaBuf.attach({
      device: near,
      peerToPeer: true,
      invalidateMappings: () => Promise.reject(new Error("the device hangs")),
    });
    await drive(attachment.map());
    const place = buffer.place;
    await expect(drive(exported.compact())).rejects.toMatchObject({ code: "dma-buf-importer" });
    expect(buffer.place).toBe(place);
    await expect(drive(exported.revoke())).rejects.toMatchObject({ code: "dma-buf-importer" });
    expect(() => gpu.free(buffer)).toThrowError(/exported/);
  });

  it("refuses static importers of a buffer that must be revocable", () => {
    const { gpu, rules, near } = gpuMachine();
    const { dmaBuf } = gpu.exportBuffer(gpu.allocate(4096), { rules, needsRevoke: true });
    expect(() => dmaBuf.attach(staticImporter(near))).toThrowError(/revocable/);
  });

  it("takes a pinned buffer back, and only then lets it be freed", async () => {
    const { dmaBuf, near, drive, exported, gpu, buffer } = await exportedBuffer();
    const attachment = dmaBuf.attach(staticImporter(near));
    await drive(attachment.map());
    expect(() => gpu.free(buffer)).toThrowError(/exported/);
    await drive(exported.revoke());
    gpu.free(buffer);
    expect(gpu.freeBytes).toBe(gpu.vramBytes);
    await drive(attachment.detach());
  });

  it("moves with the window, and importers find it again", async () => {
    const { dmaBuf, near, drive, gpu, plane, data, exported } = await exportedBuffer();
    const imported = await importDmaBuf(dmaBuf, [near]);
    await drive(imported.map());
    await drive(gpu.moveWindow(32 * MIB));
    expect(imported.isMapped).toBe(false);
    await drive(imported.map());
    // It lay outside the new window, and was moved into it.
    expect(gpu.isVisible(exported.buffer)).toBe(true);
    const address = imported.memory.map(near.id, 0, BYTES, Direction.fromMemory);
    expect(Buffer.compare(plane.dmaRead(near.bdf, address, BYTES), data)).toBe(0);
    const pin = dmaBuf.attach(staticImporter(near));
    await drive(pin.map());
    await expect(drive(gpu.moveWindow(0))).rejects.toMatchObject({ code: "gpu-window-busy" });
  });

  it("is imported by a GPU, which copies from it over the bus", async () => {
    // Its own here: the copy engine takes the buffer's DMA address all the same.
    const { gpu, rules, drive } = gpuMachine();
    const source = gpu.allocate(4096);
    const { dmaBuf } = gpu.exportBuffer(source, { rules });
    const imported = await drive(gpu.importBuffer(dmaBuf));
    await drive(gpu.fill(source, 0, 4096, 0x77));
    const target = gpu.allocate(4096, "hidden");
    await drive(gpu.copyFrom(imported.memory, 0, target, 0, 4096));
    expect(await drive(gpu.crc32c(target))).toBe(crc32c(new Uint8Array(4096).fill(0x77)));
    await drive(imported.close());
    await expect(drive(gpu.copyFrom(imported.memory, 0, target, 0, 4096))).rejects.toMatchObject({
      code: "gpu-map",
    });
  });

  it("closes: everything shared is taken back first", async () => {
    const { dmaBuf, near, drive, gpu } = await exportedBuffer();
    const imported = await importDmaBuf(dmaBuf, [near]);
    await drive(imported.map());
    const provider = gpu.publish(MIB, null);
    await drive(gpu.close());
    expect([dmaBuf.state, provider.state, gpu.aperture.state]).toEqual(["revoked", "dead", "dead"]);
    expect(imported.memory.map(near.id, 0, 16, Direction.both)).toBe(-MapStatus.revoked);
  });
});
