import { describe, expect, it } from "vitest";
import { GPU_APERTURE_BAR, gpuMachine } from "../../testing/gpu-machine.ts";
import { crc32c, PAGE_SIZE, Prng } from "../core/index.ts";
import { mapHostMemory } from "../memory/index.ts";
import { Header } from "../spec/pcie/index.ts";
import { GpuDevice } from "./index.ts";

const MIB = 2 ** 20;
const GIB = 2 ** 30;

function random(length: number, seed = 1): Uint8Array {
  const bytes = new Uint8Array(length);
  new Prng(seed).fill(bytes);
  return bytes;
}

describe("the GPU's own work", () => {
  it("copies in, reduces, copies out: the GPU's checksum is that of the bytes", async () => {
    const { gpu, fabric, drive } = gpuMachine();
    const length = 5 * MIB + 12;
    const buffer = gpu.allocate(length);
    const source = mapHostMemory(fabric.allocateHost(6 * MIB), [gpu.dma]);
    const data = random(length);
    source.region.bytes.set(data);
    await drive(gpu.copyFrom(source, 0, buffer, 0, length));
    expect(await drive(gpu.crc32c(buffer))).toBe(crc32c(data));
    const sink = mapHostMemory(fabric.allocateHost(6 * MIB), [gpu.dma]);
    await drive(gpu.copyTo(buffer, 0, sink, 4096, length));
    expect(Buffer.compare(sink.region.bytes.subarray(4096, 4096 + length), data)).toBe(0);
  });

  it("sums words modulo 2^64 across chunks", async () => {
    const { gpu, drive, model } = gpuMachine();
    const buffer = gpu.allocate(4 * MIB);
    const data = random(4 * MIB, 7);
    model.vram.write(buffer.vramAt(0, 1), data, 0, data.length);
    const { lo, hi } = await drive(gpu.reduce(1, buffer));
    const words = new Uint32Array(data.buffer);
    let sum = 0n;
    for (const word of words) sum += BigInt(word);
    expect((BigInt(hi) << 32n) + BigInt(lo)).toBe(sum % 2n ** 64n);
    await expect(drive(gpu.reduce(1, buffer, 1, 4))).rejects.toMatchObject({ code: "gpu-job" });
  });

  it("waits for a word that a peer writes, and gives up when none comes", async () => {
    const { gpu, drive, near, plane, rules, fabric } = gpuMachine();
    const flag = gpu.allocate(PAGE_SIZE);
    const lease = gpu.lease(flag, [near], rules);
    const waiting = gpu.acquire(flag, 8, 3);
    let done = false;
    waiting.then(() => {
      done = true;
    });
    for (let i = 0; i < 20; i++) fabric.poll() + gpu.poll();
    await Promise.resolve();
    expect(done).toBe(false);
    plane.dmaWrite(near.bdf, lease.bases[near.id] + 8, Uint8Array.of(3, 0, 0, 0));
    await drive(waiting);
    await expect(drive(gpu.acquire(flag, 8, 4, 10_000))).rejects.toMatchObject({
      message: expect.stringContaining("semaphore"),
    });
  });

  it("fails a job that the bus refuses, says why, and goes on", async () => {
    const { gpu, drive, fabric } = gpuMachine();
    const buffer = gpu.allocate(MIB);
    await expect(drive(gpu.copyIn(0x7fff_0000_0000, buffer, 0, 4096))).rejects.toMatchObject({
      code: "gpu-job",
      message: expect.stringContaining("Unsupported Request"),
    });
    await drive(gpu.fill(buffer, 0, 4096, 0x5a));
    expect(await drive(gpu.crc32c(buffer, 0, 4096))).toBe(crc32c(new Uint8Array(4096).fill(0x5a)));
    expect(fabric.inspect()).toBeDefined();
  });

  it("is stopped by Bus Master Enable, as any initiator, and says so", async () => {
    const { gpu, drive } = gpuMachine();
    const { config } = gpu.dma.fn;
    config.write16(Header.command, config.read16(Header.command) & ~4);
    const buffer = gpu.allocate(4096);
    await expect(drive(gpu.fill(buffer, 0, 4096, 1))).rejects.toMatchObject({ code: "gpu-job" });
    // Its ring cannot be read any more: the channel is halted for good.
    await expect(drive(gpu.crc32c(buffer))).rejects.toMatchObject({ code: "gpu-job" });
  });

  it("needs the IOMMU's leave for host memory", async () => {
    const { gpu, drive, fabric } = gpuMachine({ iommu: "strict" });
    const buffer = gpu.allocate(4096);
    const region = fabric.allocateHost(4096);
    await expect(drive(gpu.copyIn(region.phys, buffer, 0, 4096))).rejects.toMatchObject({
      message: expect.stringContaining("IOMMU fault"),
    });
    const memory = mapHostMemory(region, [gpu.dma]);
    region.bytes.fill(9);
    await drive(gpu.copyFrom(memory, 0, buffer, 0, 4096));
    expect(await drive(gpu.crc32c(buffer))).toBe(crc32c(new Uint8Array(4096).fill(9)));
  });

  it("takes more jobs than its ring holds, in order", async () => {
    const { gpu, drive } = gpuMachine();
    const buffer = gpu.allocate(MIB);
    const jobs = Array.from({ length: 300 }, (_, i) => gpu.fill(buffer, i * 64, 64, i));
    await drive(Promise.all(jobs));
    const expected = new Uint8Array(300 * 64).map((_, at) => Math.floor(at / 64));
    expect(await drive(gpu.crc32c(buffer, 0, expected.length))).toBe(crc32c(expected));
  });

  it("takes its time in timed mode, and less with a faster memory", async () => {
    const spent: number[] = [];
    for (const vramBytesPerNs of [1000, 100]) {
      const { gpu, drive, fabric } = gpuMachine({ mode: "timed", vramBytesPerNs });
      const buffer = gpu.allocate(8 * MIB);
      const start = fabric.clock.nowNs();
      await drive(gpu.crc32c(buffer));
      spent.push(fabric.clock.nowNs() - start);
    }
    expect(spent[0]).toBeGreaterThan((8 * MIB) / 1000);
    expect(spent[1]).toBeGreaterThan(spent[0] + (8 * MIB) / 150);
  });
});

describe("VRAM behind the aperture", () => {
  it("costs only what is written: 192 GiB behind a BAR of 128 GiB", async () => {
    const machine = gpuMachine({ vramBytes: 192 * GIB, apertureBytes: 128 * GIB });
    const { gpu, model, drive } = machine;
    const far = gpu.allocate(4096, "hidden");
    expect(far.vramAt(0, 1)).toBeGreaterThanOrEqual(128 * GIB);
    await drive(gpu.fill(far, 0, 4096, 7));
    expect(await drive(gpu.crc32c(far))).toBe(crc32c(new Uint8Array(4096).fill(7)));
    expect(model.vram.residentBytes).toBeLessThan(8 * MIB);
  });

  it("shows what the window names, to the CPU and to peers", async () => {
    const { gpu, drive, near, plane, rules, model } = gpuMachine();
    await drive(gpu.moveWindow(32 * MIB));
    const buffer = gpu.allocate(4096);
    expect(buffer.vramAt(0, 1)).toBe(32 * MIB);
    const lease = gpu.lease(buffer, [near], rules);
    plane.dmaWrite(near.bdf, lease.bases[near.id], Uint8Array.of(1, 2, 3, 4));
    const seen = new Uint8Array(4);
    model.vram.read(32 * MIB, seen, 0, 4);
    expect([...seen]).toEqual([1, 2, 3, 4]);
    expect(gpu.dma.fn.mapBar(GPU_APERTURE_BAR).read32(0)).toBe(0x04030201);
    await drive(gpu.moveWindow(0));
    // The lease is gone with its window, and so is the address's meaning.
    expect(lease.revoked).toBe(true);
    expect(gpu.dma.fn.mapBar(GPU_APERTURE_BAR).read32(0)).toBe(0);
  });

  it("ends where VRAM ends", async () => {
    const { gpu, drive } = gpuMachine({ vramBytes: 24 * MIB });
    await drive(gpu.moveWindow(16 * MIB));
    expect(gpu.visible).toEqual({ base: 16 * MIB, limit: 24 * MIB });
    const bar = gpu.dma.fn.mapBar(GPU_APERTURE_BAR);
    bar.write32(8 * MIB, 0xffffffff);
    expect(bar.read32(8 * MIB)).toBe(0);
    bar.write32(8 * MIB - 4, 0x1234);
    expect(bar.read32(8 * MIB - 4)).toBe(0x1234);
  });

  it("refuses a window that is not aligned or beyond VRAM", async () => {
    const { gpu, drive } = gpuMachine();
    for (const base of [4096, 64 * MIB, 2 ** 40]) {
      await expect(drive(gpu.moveWindow(base))).rejects.toMatchObject({ code: "gpu-window" });
    }
    expect(gpu.visible.base).toBe(0);
    // The aperture is usable again.
    expect(gpu.aperture.alive).toBe(true);
  });

  it("resizes its BAR, down and up again, and keeps what is in VRAM", async () => {
    const { gpu, drive, model } = gpuMachine();
    const buffer = gpu.allocate(4096);
    await drive(gpu.fill(buffer, 0, 4096, 3));
    expect(gpu.apertureSizes).toEqual([2, 4, 8, 16].map((mib) => mib * MIB));
    await drive(gpu.resizeAperture(4 * MIB));
    expect(model.apertureBytes).toBe(4 * MIB);
    expect(gpu.dma.fn.barAddress(GPU_APERTURE_BAR)?.sizeBytes).toBe(4 * MIB);
    expect(() => gpu.allocate(8 * MIB)).toThrowError(/visible VRAM/);
    expect(gpu.allocate(8 * MIB, "any").vramAt(0, 1)).toBe(4 * MIB);
    await drive(gpu.resizeAperture(16 * MIB));
    expect(gpu.visible.limit).toBe(16 * MIB);
    expect(await drive(gpu.crc32c(buffer))).toBe(crc32c(new Uint8Array(4096).fill(3)));
    for (const size of [3 * MIB, 32 * MIB, 0]) {
      await expect(drive(gpu.resizeAperture(size))).rejects.toMatchObject({ code: "gpu-bar-size" });
    }
  });

  it("keeps the window while published VRAM lies behind it", async () => {
    const { gpu, drive } = gpuMachine();
    const before = gpu.freeBytes;
    const provider = gpu.publish(MIB, null);
    await expect(drive(gpu.moveWindow(16 * MIB))).rejects.toMatchObject({
      code: "gpu-window-busy",
    });
    await drive(provider.teardown());
    expect(gpu.freeBytes).toBe(before);
    await drive(gpu.moveWindow(16 * MIB));
  });

  it("is no driver for other functions", () => {
    const { context, near } = gpuMachine();
    expect(() => GpuDevice.attach(context.device(near.bdf))).toThrowError(/not a GPU/);
  });
});
