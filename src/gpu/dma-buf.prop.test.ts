/**
 * Random lives of a dma-buf: attach, map, I/O, move in every way, revoke, detach. At no moment does
 * an access through an address that was taken back touch the buffer or its neighbours.
 */
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { type GpuMachine, gpuMachine } from "../../testing/gpu-machine.ts";
import { PeerlaneError, Prng } from "../core/index.ts";
import type { DmaDevice } from "../dma/index.ts";
import { Direction, type DmaBufImport, importDmaBuf, MapStatus } from "../memory/index.ts";
import type { GpuBuffer, GpuExport } from "./index.ts";

const MIB = 2 ** 20;
const BYTES = 3 * 4096 + 100;

/** What may be refused in a life: everything else is a defect. */
const ALLOWED = new Set(["dma-buf-revoked", "dma-buf-pinned", "gpu-window-busy", "gpu-no-memory"]);

class Life {
  readonly machine: GpuMachine;
  readonly exported: GpuExport;
  readonly guards: GpuBuffer[];
  readonly expected = new Uint8Array(BYTES);
  readonly importers: (DmaBufImport | null)[] = [null, null];
  readonly pins: boolean[] = [false, false];
  /** Addresses of far that were taken back. */
  readonly stale: number[] = [];
  revoked = false;
  private readonly prng: Prng;

  constructor(seed: number) {
    this.machine = gpuMachine({ iommu: "strict", vramBytes: 8 * MIB, apertureBytes: 4 * MIB });
    this.prng = new Prng(seed);
    const { gpu, rules } = this.machine;
    const before = gpu.allocate(4096);
    const buffer = gpu.allocate(BYTES);
    this.guards = [before, gpu.allocate(4096), gpu.allocate(4096, "hidden")];
    for (const guard of this.guards) {
      this.machine.model.vram.fill(guard.vramAt(0, 1), 4096, 0xa5);
    }
    this.exported = gpu.exportBuffer(buffer, { rules });
  }

  device(who: number): DmaDevice {
    return who === 0 ? this.machine.near : this.machine.far;
  }

  /** Runs it; true unless it was refused for a reason that is allowed. */
  async attempt(work: () => Promise<unknown>): Promise<boolean> {
    try {
      await this.machine.drive(work());
      return true;
    } catch (error) {
      if (error instanceof PeerlaneError && ALLOWED.has(error.code)) return false;
      throw error;
    }
  }

  /** Notes far's address before something that takes it back. */
  private note(): void {
    const far = this.importers[1];
    if (far?.isMapped === true) this.stale.push(far.attachments[0].address);
  }

  async act(op: number, who: number): Promise<void> {
    const { exported, machine, importers } = this;
    this.note();
    const imported = importers[who] ?? null;
    switch (op) {
      case 0:
        if (imported !== null || this.revoked) return;
        importers[who] = await importDmaBuf(exported.dmaBuf, [this.device(who)], {
          peerToPeer: this.prng.below(4) > 0,
        });
        return;
      case 1:
        if (imported !== null) await this.attempt(() => imported.map());
        return;
      case 2:
        if (imported !== null) await machine.drive(imported.attachments[0].unmap());
        return;
      case 3:
        if (imported !== null) await machine.drive(imported.close());
        importers[who] = null;
        this.pins[who] = false;
        return;
      case 4:
        await this.attempt(() => exported.compact());
        return;
      case 5:
        await this.attempt(() => exported.evict());
        return;
      case 6:
        await this.attempt(() => exported.makeResident());
        return;
      case 7:
        await this.attempt(() => machine.gpu.moveWindow(this.prng.below(4) * 2 * MIB));
        return;
      case 8:
        if (imported === null) return;
        if (this.pins[who]) await machine.drive(imported.attachments[0].unpin());
        else if (!(await this.attempt(() => imported.attachments[0].pin()))) return;
        this.pins[who] = !this.pins[who];
        return;
      case 9:
        if (imported !== null) this.write(imported, who);
        return;
      case 10:
        if (imported !== null) await this.moveUnderIo(imported, who);
        return;
      default:
        // Rarely: it ends the fun.
        if (this.prng.below(6) > 0) return;
        await machine.drive(exported.revoke());
        this.revoked = true;
        this.pins.fill(false);
    }
  }

  /** I/O as everybody does it: begin, map, DMA, end. */
  private write({ memory }: DmaBufImport, who: number): void {
    if (!memory.begin()) return;
    const data = new Uint8Array(1 + this.prng.below(256));
    this.prng.fill(data);
    const at = this.prng.below(BYTES - data.length);
    const { id, bdf } = this.device(who);
    const address = memory.map(id, at, data.length, Direction.toMemory);
    this.machine.plane.dmaWrite(bdf, address, data);
    this.expected.set(data, at);
    memory.end();
  }

  /** A move begins while I/O is in flight: the I/O lands in what is moved. */
  private async moveUnderIo(imported: DmaBufImport, who: number): Promise<void> {
    const { memory } = imported;
    if (!memory.begin()) return;
    const { id, bdf } = this.device(who);
    const address = memory.map(id, 0, 16, Direction.toMemory);
    const move = this.attempt(() => this.exported.compact());
    for (let i = 0; i < 10; i++) await Promise.resolve();
    const data = Uint8Array.from({ length: 16 }, () => this.prng.below(256));
    this.machine.plane.dmaWrite(bdf, address, data);
    this.expected.set(data, 0);
    memory.end();
    await move;
  }

  /** What must hold after every step. */
  check(): void {
    const { machine, importers, expected } = this;
    expect(Buffer.compare(this.bytes(), expected)).toBe(0);
    for (const [who, imported] of importers.entries()) {
      if (imported === null) continue;
      const { id, bdf } = this.device(who);
      const address = imported.memory.map(id, 4000, 200, Direction.fromMemory);
      if (!imported.isMapped || this.revoked) {
        expect(address).toBe(-MapStatus.revoked);
        continue;
      }
      const seen = machine.plane.dmaRead(bdf, address, 200);
      expect(Buffer.compare(seen, expected.subarray(4000, 4200))).toBe(0);
    }
    this.poke();
    expect(Buffer.compare(this.bytes(), expected)).toBe(0);
    for (const guard of this.guards) {
      const seen = machine.peekVram(guard.vramAt(0, 1), 4096);
      expect(seen.every((byte) => byte === 0xa5)).toBe(true);
    }
  }

  /** A device that goes on with an old address is stopped by the IOMMU. */
  private poke(): void {
    const far = this.importers[1];
    const live = far?.isMapped === true ? far.attachments[0].address : -BYTES - 4096;
    for (const address of this.stale) {
      // An IOVA may have been given out again, to this very buffer.
      if (Math.abs(address - live) < BYTES + 4096) continue;
      expect(() =>
        this.machine.plane.dmaWrite(this.machine.far.bdf, address, Uint8Array.of(0xee)),
      ).toThrowError(/IOMMU fault|Unsupported/);
    }
  }

  private bytes(): Uint8Array {
    const { place } = this.exported.buffer;
    if (place.kind === "vram") return this.machine.peekVram(place.offset, BYTES);
    return place.region.bytes.slice(0, BYTES);
  }
}

describe("a dma-buf's life", () => {
  it("never lets an access through a stale address touch anything", async () => {
    const step = fc.tuple(fc.integer({ min: 0, max: 11 }), fc.integer({ min: 0, max: 1 }));
    const steps = fc.array(step, { minLength: 5, maxLength: 40 });
    await fc.assert(
      fc.asyncProperty(fc.nat(), steps, async (seed, ops) => {
        const life = new Life(seed);
        // So that most lives have something to lose.
        await life.act(0, 0);
        await life.act(0, 1);
        for (const [op, who] of ops) {
          await life.act(op, who);
          life.check();
        }
        await life.machine.drive(life.exported.revoke());
        life.revoked = true;
        life.check();
        expect(life.machine.fabric.iommu?.inspect()).toBeDefined();
      }),
      { seed: 24, numRuns: 40 },
    );
  }, 30_000);
});
