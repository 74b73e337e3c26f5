import { describe, expect, it } from "vitest";
import { ArenaMemory } from "../../testing/block-arena.ts";
import { Copier } from "../core/index.ts";
import { DmaAddressMemory, type IoMemory } from "../memory/index.ts";
import {
  type Bio,
  BioOp,
  BioPool,
  BlockStatus,
  CPU_OPERATION_NAMES,
  CpuOperation,
  CpuOperations,
  OPERATION_CLASS_NAMES,
  OPERATION_CLASSES,
  OperationClass,
  RFC_CLASSES,
} from "./index.ts";

const memory = new ArenaMemory(65_536);
const peer = new DmaAddressMemory(1);
const pool = new BioPool(32, 8);

function hostBio(lengths: readonly number[], from = 0, op: number = BioOp.write): Bio {
  const bio = pool.acquire() as Bio;
  bio.op = op;
  for (const [i, length] of lengths.entries()) bio.addMemory(memory, from + i * 4096, length);
  return bio;
}

function peerBio(): Bio {
  const bio = pool.acquire() as Bio;
  bio.op = BioOp.read;
  bio.addMemory(peer, 0x8000_0000, 4096);
  return bio;
}

const operations = () => new CpuOperations(new Copier());

describe("operations on host memory", () => {
  it("zero, copy in and copy out over odd vectors, from the iterator on", () => {
    const cpu = operations();
    const bio = hostBio([5, 700, 95]);
    bio.advance(3);
    const source = Uint8Array.from({ length: 797 }, (_, i) => i + 1);
    memory.data.fill(0xee);
    expect(cpu.copyIn(bio, source)).toBe(BlockStatus.ok);
    const target = new Uint8Array(797);
    expect(cpu.copyOut(bio, target)).toBe(BlockStatus.ok);
    expect(target).toEqual(source);
    expect([memory.data[0], memory.data[3], memory.data[5]]).toEqual([0xee, 1, 0xee]);
    expect(cpu.zeroFill(bio)).toBe(BlockStatus.ok);
    expect([memory.data[2], memory.data[3], memory.data[4096], memory.data[8192]]).toEqual([
      0xee, 0, 0, 0,
    ]);
  });

  it("copy between bios whose vectors do not match", () => {
    const cpu = operations();
    const source = hostBio([100, 300, 112], 0);
    const target = hostBio([256, 256], 32_768);
    for (let i = 0; i < 32_768; i++) memory.data[i] = i * 7;
    const wanted = new Uint8Array(512);
    cpu.copyOut(source, wanted);
    expect(cpu.copyData(target, source)).toBe(BlockStatus.ok);
    const got = new Uint8Array(512);
    cpu.copyOut(target, got);
    expect(got).toEqual(wanted);
  });

  it("mark what a read changed, and bounce a write", () => {
    const cpu = operations();
    const marked: number[] = [];
    const tracker = {
      markDirty: (_: IoMemory, offset: number, length: number) => marked.push(offset, length),
    };
    expect(cpu.setDirty(hostBio([512, 1024], 0, BioOp.read), tracker)).toBe(BlockStatus.ok);
    expect(marked).toEqual([0, 512, 4096, 1024]);
    cpu.setDirty(hostBio([512]), tracker);
    expect(marked.length).toBe(4);
    const bio = hostBio([512, 512]);
    bio.sector = 77;
    memory.data.fill(0x42, 0, 512);
    const low = hostBio([1024], 40_960, BioOp.read);
    expect(cpu.bounce(bio, low)).toBe(BlockStatus.ok);
    expect([low.op, low.sector, memory.data[40_960]]).toEqual([BioOp.write, 77, 0x42]);
    expect(cpu.bounce(bio, hostBio([512]))).toBe(BlockStatus.invalid);
  });
});

describe("operations on a dma-direct bio", () => {
  it("are refused and counted, or skipped, by their class", () => {
    const cpu = operations();
    expect(cpu.zeroFill(peerBio())).toBe(BlockStatus.notSupported);
    expect(cpu.copyIn(peerBio(), new Uint8Array(8))).toBe(BlockStatus.notSupported);
    expect(cpu.copyOut(peerBio(), new Uint8Array(8))).toBe(BlockStatus.notSupported);
    expect(cpu.copyData(hostBio([512]), peerBio())).toBe(BlockStatus.notSupported);
    expect(cpu.copyData(peerBio(), hostBio([512]))).toBe(BlockStatus.notSupported);
    const never = {
      markDirty: () => {
        throw new Error("touched");
      },
    };
    expect(cpu.setDirty(peerBio(), never)).toBe(BlockStatus.ok);
    const low = hostBio([4096], 0, BioOp.write);
    expect(cpu.bounce(peerBio(), low)).toBe(BlockStatus.ok);
    expect(low.op).toBe(BioOp.write);
    expect(cpu.inspect()).toEqual({
      skipped: { "set-dirty": 1, bounce: 1 },
      refused: { "zero-fill": 1, "copy-in": 1, "copy-out": 1, "copy-data": 2 },
      warned: { "zero-fill": 1, "copy-in": 1, "copy-out": 1, "copy-data": 2 },
    });
  });

  it("include host bios that carry one peer vector", () => {
    const cpu = operations();
    const mixed = hostBio([512]);
    mixed.addMemory(peer, 0x9000_0000, 512);
    expect(cpu.zeroFill(mixed)).toBe(BlockStatus.notSupported);
  });

  it("follow the RFC's table, but for protection information", () => {
    const named = (classes: Uint8Array) =>
      Object.fromEntries(
        CPU_OPERATION_NAMES.map((name, i) => [name, OPERATION_CLASS_NAMES[classes[i]]]),
      );
    expect(named(RFC_CLASSES)).toEqual({
      "zero-fill": "refuse-and-warn",
      "copy-data": "refuse-and-warn",
      "copy-in": "refuse-and-warn",
      "copy-out": "refuse-and-warn",
      "add-page": "refuse-and-warn",
      "add-passthrough-page": "refuse",
      "merge-page": "refuse-and-warn",
      "pin-user-pages": "refuse-and-warn",
      "get-pages": "refuse-and-warn",
      "free-pages": "refuse-and-warn",
      "set-dirty": "skip",
      "check-dirty": "skip",
      "flush-cache": "skip",
      bounce: "skip",
      "make-integrity": "skip",
    });
    const differ = CPU_OPERATION_NAMES.filter((_, i) => RFC_CLASSES[i] !== OPERATION_CLASSES[i]);
    expect(differ).toEqual(["make-integrity"]);
    const cpu = operations();
    expect(cpu.classFor(CpuOperation.makeIntegrity, peerBio())).toBe(OperationClass.refuse);
    expect(cpu.classFor(CpuOperation.makeIntegrity, hostBio([512]))).toBe(OperationClass.allow);
  });
});
