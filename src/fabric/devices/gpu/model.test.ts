import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { FakePort } from "../../../../testing/fake-port.ts";
import {
  Copier,
  decodeLayout,
  encodeLayout,
  type LayoutValues,
  PeerlaneError,
} from "../../../core/index.ts";
import {
  GPU_CHANNEL_BLOCK,
  GPU_CHANNEL_STRIDE,
  GPU_DESCRIPTOR,
  GPU_FENCE_RECORD,
  GPU_REGISTER_BYTES,
  GpuChannelReg,
  GpuChannelState,
  GpuCtrl,
  GpuDesc,
  GpuFault,
  GpuOp,
  GpuReg,
  gpuDoorbell,
} from "../../../spec/gpu/index.ts";
import type { RegisterHandler } from "../../device.ts";
import { GpuModel, gpuModelFor } from "./index.ts";

const MIB = 2 ** 20;
const BASE = 0x1_0000_0000;
const FENCE = BASE + 0x8000;
const LOG = 3;

/** A model behind a fake port, with channel 0 on a ring at the start of the port's memory. */
class Bench {
  readonly port: FakePort;
  readonly model: GpuModel;
  readonly registers: RegisterHandler;
  readonly doorbells: RegisterHandler;
  put = 0;

  constructor(timed = false) {
    this.port = new FakePort({ base: BASE, sizeBytes: MIB, timed });
    const barSizes = [0x4000, 0, 2 * MIB, 0, 0, 0];
    this.model = new GpuModel({ copier: new Copier(), vramBytes: 6 * MIB, barSizes });
    this.model.attach(this.port);
    const parts = this.model.barRegions().filter(({ bar }) => bar === 0);
    this.registers = parts[1].registers as RegisterHandler;
    this.doorbells = parts[2].registers as RegisterHandler;
    this.registers.write32(GpuReg.CTRL, GpuCtrl.enable.bits);
    this.channel(GpuChannelReg.RINGLO, BASE % 2 ** 32);
    this.channel(GpuChannelReg.RINGHI, BASE / 2 ** 32);
    this.channel(GpuChannelReg.LOG, LOG);
    this.channel(GpuChannelReg.CTRL, 1);
  }

  channel(register: number, value: number): void {
    this.registers.write32(GPU_CHANNEL_BLOCK + register, value);
  }

  state(register: number = GpuChannelReg.STATE): number {
    return this.registers.read32(GPU_CHANNEL_BLOCK + register);
  }

  push(values: LayoutValues): void {
    const at = (this.put & ((1 << LOG) - 1)) * GpuDesc.sizeBytes;
    const fence = { flags: 1, fenceValue: this.put + 1, fence: FENCE };
    encodeLayout(GPU_DESCRIPTOR, { ...fence, ...values }, this.port.memory, at);
    this.put = (this.put + 1) & 0xffff;
    this.doorbells.write32(gpuDoorbell(0), this.put);
  }

  /** Runs it and gives the fence record. */
  run(values: LayoutValues): Record<string, unknown> {
    this.push(values);
    this.port.run(this.model);
    return decodeLayout(GPU_FENCE_RECORD, this.port.memory, FENCE - BASE);
  }
}

describe("descriptors", () => {
  it.each([
    ["an unknown opcode", { opcode: 99 }, GpuFault.badOpcode],
    ["an unknown kernel", { opcode: GpuOp.reduce, kernel: 9, length: 4 }, GpuFault.badKernel],
    ["a range beyond VRAM", { opcode: GpuOp.fill, destination: 6 * MIB, length: 1 }, 3],
    ["a length beyond all", { opcode: GpuOp.reduce, length: 2 ** 52 }, GpuFault.badRange],
    ["ranges that overlap", { opcode: GpuOp.copyLocal, destination: 1, length: 2 }, 3],
    ["words that are none", { opcode: GpuOp.reduce, kernel: 1, source: 2, length: 4 }, 4],
    ["an unaligned semaphore", { opcode: GpuOp.acquire, source: 2 }, GpuFault.unaligned],
    ["an address that nobody has", { opcode: GpuOp.copyIn, source: 1, length: 8 }, 0x101],
  ])("%s: says so in the fence, and the channel goes on", (_what, values, status) => {
    const bench = new Bench();
    expect(bench.run(values)).toMatchObject({ value: 1, status });
    expect(bench.run({ opcode: GpuOp.nop })).toMatchObject({ value: 2, status: 0 });
    expect(bench.state()).toBe(GpuChannelState.idle);
  });

  it("takes nothing for something: lengths of 0", () => {
    for (const opcode of [GpuOp.copyIn, GpuOp.copyOut, GpuOp.copyLocal, GpuOp.fill]) {
      expect(new Bench().run({ opcode })).toMatchObject({ status: 0 });
    }
    expect(new Bench().run({ opcode: GpuOp.reduce })).toMatchObject({ status: 0, result: 0 });
  });

  it("halts where ring or fence cannot be reached, and starts again when enabled anew", () => {
    const bench = new Bench();
    bench.push({ opcode: GpuOp.nop, fence: 64 });
    bench.port.run(bench.model);
    expect([bench.state(), bench.state(GpuChannelReg.ERROR)]).toEqual([3, 0x101]);
    bench.channel(GpuChannelReg.CTRL, 1);
    bench.put = 0;
    expect(bench.run({ opcode: GpuOp.nop })).toMatchObject({ value: 1 });
    bench.port.refuse(BASE, 4096);
    bench.push({ opcode: GpuOp.nop });
    bench.port.run(bench.model);
    expect(bench.state()).toBe(GpuChannelState.halted);
    // A doorbell that is more than a ring ahead is a driver gone wrong.
    const other = new Bench();
    other.doorbells.write32(gpuDoorbell(0), (1 << LOG) + 1);
    expect(other.state()).toBe(GpuChannelState.halted);
  });

  it("writes the fence when the data has landed, not before, and forgets it on reset", () => {
    const bench = new Bench(true);
    bench.push({ opcode: GpuOp.copyOut, destination: BASE + 0x10000, length: 4096 });
    bench.port.run(bench.model);
    const fence = () => bench.port.view.getUint32(FENCE - BASE, true);
    expect(fence()).toBe(0);
    bench.port.land();
    expect(fence()).toBe(1);
    bench.push({ opcode: GpuOp.copyOut, destination: BASE + 0x10000, length: 4096 });
    bench.port.run(bench.model);
    bench.registers.write32(GpuReg.CTRL, GpuCtrl.reset.bits);
    bench.port.land();
    expect([fence(), bench.state()]).toEqual([1, GpuChannelState.off]);
  });
});

describe("hostile software", () => {
  const word = fc.oneof(
    fc.integer({ min: 0, max: 0xffffffff }),
    fc.constantFrom(0, 1, 2, 3, BASE % 2 ** 32, 0xffffffff),
  );
  const action = fc.oneof(
    fc.record({ kind: fc.constant("register"), at: fc.nat(GPU_REGISTER_BYTES / 4 - 1), word }),
    fc.record({ kind: fc.constant("doorbell"), at: fc.nat(20), word: fc.nat(0x1ffff) }),
    fc.record({ kind: fc.constant("memory"), at: fc.nat(400), word }),
    fc.record({ kind: fc.constant("start"), at: fc.nat(3), word: fc.nat(20) }),
  );

  it("never breaks the model, whatever is in registers, rings and doorbells", () => {
    fc.assert(
      fc.property(fc.array(action, { maxLength: 60 }), (actions) => {
        const { port, model, registers, doorbells } = new Bench();
        for (const { kind, at, word: value } of actions) {
          if (kind === "register") registers.write32(at * 4, value);
          else if (kind === "doorbell") doorbells.write32(at * 4, value);
          else if (kind === "memory") port.view.setUint32(at * 4, value, true);
          else {
            const block = GPU_CHANNEL_BLOCK + at * GPU_CHANNEL_STRIDE;
            registers.write32(GpuReg.CTRL, 1);
            registers.write32(block + GpuChannelReg.CTRL, 0);
            registers.write32(block + GpuChannelReg.RINGHI, BASE / 2 ** 32);
            registers.write32(block + GpuChannelReg.LOG, value);
            registers.write32(block + GpuChannelReg.CTRL, 1);
          }
          port.run(model);
          port.advance(10_000);
          port.run(model);
          let isSane = true;
          for (let offset = 0; offset < GPU_REGISTER_BYTES; offset += 4) {
            const read = registers.read32(offset);
            isSane &&= read >= 0 && read <= 0xffffffff && Number.isInteger(read);
          }
          expect(isSane).toBe(true);
          const aperture = model.barRegions().find(({ bar }) => bar === 2);
          const end = (aperture?.memoryOffset ?? 0) + (aperture?.sizeBytes ?? 0);
          expect(end).toBeLessThanOrEqual(model.vramBytes);
        }
        expect(model.inspect()).toBeDefined();
      }),
      { seed: 4, numRuns: 40 },
    );
  });

  it("refuses BARs and VRAM that a GPU model cannot have", () => {
    const copier = new Copier();
    const bars = [0x4000, 0, 2 * MIB];
    expect(gpuModelFor({ copier, barSizes: [0x4000] })).toBeNull();
    expect(gpuModelFor({ copier, barSizes: [0x1000, 0, MIB] })).toBeNull();
    expect(gpuModelFor({ copier, barSizes: bars })?.vramBytes).toBe(2 * MIB);
    for (const vramBytes of [0, 100, 193 * 2 ** 30, Number.NaN]) {
      expect(() => new GpuModel({ copier, barSizes: bars, vramBytes })).toThrowError(PeerlaneError);
    }
    expect(() => new GpuModel({ copier, barSizes: [0x4000], vramBytes: MIB })).toThrowError(/BARs/);
  });
});
