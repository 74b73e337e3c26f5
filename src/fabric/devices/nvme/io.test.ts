import { describe, expect, it } from "vitest";
import {
  makeNvme,
  type RawCommand,
  type RawNvmeHost,
  type TestNvmeOptions,
} from "../../../../testing/nvme-raw-host.ts";
import { Prng, viewOf } from "../../../core/index.ts";
import * as spec from "../../../spec/nvme/index.ts";

const MIB = 1024 * 1024;
const { NvmeStatus, NvmOpcode } = spec;
const CMB_BASE = 0x20_0000_0000;

function ready(options: TestNvmeOptions = {}) {
  const made = makeNvme(options);
  if (options.cmb) {
    made.host.registers.write32(spec.Reg.cmbmscHi, CMB_BASE / 2 ** 32);
    made.host.registers.write32(spec.Reg.cmbmscLo, 3);
  }
  made.host.enable();
  const queue = made.host.createQueue(1, 64);
  const run = (command: RawCommand) => made.host.submit(queue, { nsid: 1, ...command });
  return { ...made, queue, run };
}

function fillRandom(bytes: Uint8Array, seed: number): Uint8Array {
  new Prng(seed).fill(bytes);
  return bytes.slice();
}

/** Writes a PRP list for pages from `first` on at `listAt`; returns its address. */
function putList(host: RawNvmeHost, listAt: number, pages: number[]): number {
  const view = viewOf(host.bytes(listAt, pages.length * 8));
  pages.forEach((page, i) => {
    view.setUint32(i * 8, page >>> 0, true);
    view.setUint32(i * 8 + 4, Math.floor(page / 2 ** 32), true);
  });
  return host.data(listAt);
}

describe("Read and Write", () => {
  it("move what was written, for every size of buffer", () => {
    const { host, run } = ready({ namespaces: [{ sizeBytes: 16 * MIB, lbaBytes: 512 }] });
    const listAt = 4 * MIB;
    for (const blocks of [1, 8, 15, 16, 17, 64, 300]) {
      const bytes = blocks * 512;
      const data = fillRandom(host.bytes(512, bytes), blocks);
      const pages = Array.from({ length: Math.ceil((bytes + 512) / 4096) }, (_, i) => i * 4096);
      const rest = pages.slice(1).map((page) => host.data(page));
      const prp2 = rest.length > 1 ? putList(host, listAt, rest) : (rest[0] ?? 0);
      const write = { opcode: NvmOpcode.write, prp1: host.data(512), prp2, cdw10: 40 };
      expect(run({ ...write, cdw12: blocks - 1 }).code).toBe(0);
      host.bytes(0, bytes + 4096).fill(0);
      const read = { ...write, opcode: NvmOpcode.read };
      expect(run({ ...read, cdw12: blocks - 1 }).code).toBe(0);
      expect(Buffer.compare(host.bytes(512, bytes), data), `${blocks} blocks`).toBe(0);
      expect(host.bytes(0, 512).every((byte) => byte === 0)).toBe(true);
    }
  });

  it("of blocks never written give zeros", () => {
    const { host, run } = ready();
    host.bytes(0, 4096).fill(0xff);
    expect(run({ opcode: NvmOpcode.read, prp1: host.data(), cdw12: 7 }).code).toBe(0);
    expect(host.bytes(0, 4096).every((byte) => byte === 0)).toBe(true);
  });

  it("check ranges, namespaces, opcodes, sizes", () => {
    const { host, run } = ready({ mdts: 1 });
    const last = (16 * MIB) / 512 - 1;
    const read = { opcode: NvmOpcode.read, prp1: host.data(), prp2: host.data(4096) };
    expect(run({ ...read, cdw10: last }).code).toBe(0);
    expect(run({ ...read, cdw10: last, cdw12: 1 }).code).toBe(NvmeStatus.lbaOutOfRange);
    expect(run({ ...read, cdw11: 0x8000_0000 }).code).toBe(NvmeStatus.lbaOutOfRange);
    expect(run({ ...read, cdw12: 15 }).code).toBe(0);
    expect(run({ ...read, cdw12: 16 }).code).toBe(NvmeStatus.invalidField);
    expect(run({ ...read, nsid: 2 }).code).toBe(NvmeStatus.invalidNamespaceOrFormat);
    expect(run({ ...read, nsid: 0 }).code).toBe(NvmeStatus.invalidNamespaceOrFormat);
    expect(run({ ...read, nsid: spec.NSID_ALL }).code).toBe(NvmeStatus.invalidNamespaceOrFormat);
    expect(run({ ...read, fuse: 1 }).code).toBe(NvmeStatus.invalidField);
    expect(run({ ...read, psdt: 3 }).code).toBe(NvmeStatus.invalidField);
    for (const opcode of [0x03, NvmOpcode.writeUncorrectable, 0x0d, 0x7f, 0xff]) {
      expect(run({ ...read, opcode }).code).toBe(NvmeStatus.invalidOpcode);
    }
  });

  it("report what the bus refuses as Data Transfer Error, without Do Not Retry", () => {
    const { host, run, port } = ready();
    port.refuse(host.data(), 4096);
    for (const opcode of [NvmOpcode.read, NvmOpcode.write]) {
      const done = run({ opcode, prp1: host.data(), cdw12: 7 });
      expect(done.code).toBe(NvmeStatus.dataTransferError);
      expect(done.status & spec.STATUS_DNR).toBe(0);
    }
    port.refuse(host.data(), 4096, 7);
    expect(run({ opcode: NvmOpcode.read, prp1: host.data(), cdw12: 7 }).code).toBe(0);
    const beyond = { opcode: NvmOpcode.write, prp1: 2 ** 60, cdw12: 7 };
    expect(run(beyond).code).toBe(NvmeStatus.dataTransferError);
  });

  it("refuse to change a read-only namespace", () => {
    const { host, run } = ready({ namespaces: [{ sizeBytes: MIB, readOnly: true }] });
    const io = { prp1: host.data() };
    for (const opcode of [NvmOpcode.write, NvmOpcode.writeZeroes, NvmOpcode.copy]) {
      expect(run({ opcode, ...io }).code).toBe(NvmeStatus.namespaceWriteProtected);
    }
    const trim = { opcode: NvmOpcode.datasetManagement, ...io, cdw11: 4 };
    expect(run(trim).code).toBe(NvmeStatus.namespaceWriteProtected);
    expect(run({ opcode: NvmOpcode.read, ...io }).code).toBe(0);
  });

  it("use pages of CC.MPS", () => {
    const made = makeNvme();
    made.host.enable(0x0046_0001 | (4 << 7));
    const queue = made.host.createQueue(1, 1024, {
      sq: made.port.base + 2 * 65_536,
      cq: made.port.base + 3 * 65_536,
    });
    const { host } = made;
    const data = fillRandom(host.bytes(65_536 - 512, 1024), 3);
    const write = { opcode: NvmOpcode.write, nsid: 1, prp1: host.data(65_536 - 512), cdw12: 1 };
    expect(host.submit(queue, { ...write, prp2: host.data(4096) }).code).toBe(
      NvmeStatus.prpOffsetInvalid,
    );
    expect(host.submit(queue, { ...write, prp2: host.data(65_536) }).code).toBe(0);
    const read = { opcode: NvmOpcode.read, nsid: 1, prp1: host.data(1024 * 1024), cdw12: 1 };
    expect(host.submit(queue, read).code).toBe(0);
    expect(Buffer.compare(host.bytes(1024 * 1024, 1024), data)).toBe(0);
  });
});

describe("PRP errors", () => {
  const cases: [string, (host: RawNvmeHost) => RawCommand][] = [
    ["PRP1 is not dword aligned", (host) => ({ opcode: 1, prp1: host.data(2) })],
    [
      "the second page has an offset",
      (host) => ({ opcode: 1, prp1: host.data(512), prp2: host.data(4100), cdw12: 7 }),
    ],
    [
      "the list is not 8-byte aligned",
      (host) => ({ opcode: 1, prp1: host.data(), prp2: host.data(4 * MIB + 4), cdw12: 31 }),
    ],
    [
      "a list entry has an offset",
      (host) => ({
        opcode: 1,
        prp1: host.data(),
        prp2: putList(host, 4 * MIB, [host.data(4096), host.data(8192 + 8), host.data(12_288)]),
        cdw12: 31,
      }),
    ],
  ];
  it.each(cases)("%s", (_name, make) => {
    const { host, run } = ready();
    expect(run(make(host)).code).toBe(NvmeStatus.prpOffsetInvalid);
  });

  it("a list that cannot be fetched is a Data Transfer Error", () => {
    const { host, run } = ready();
    const write = { opcode: NvmOpcode.write, prp1: host.data(), prp2: 0x1000, cdw12: 31 };
    expect(run(write).code).toBe(NvmeStatus.dataTransferError);
  });
});

describe("SGL", () => {
  /** Descriptors at `at`; returns the address of the segment. */
  function segment(host: RawNvmeHost, at: number, rows: [number, number, number, number?][]) {
    const view = viewOf(host.bytes(at, rows.length * 16));
    rows.forEach(([address, length, type, subtype], i) => {
      spec.setSgl(view, i * 16, address, length, type, subtype);
    });
    return host.data(at);
  }
  const { dataBlock, bitBucket, segment: more, lastSegment } = spec.SglType;
  const listAt = 4 * MIB;
  const io = (opcode: number, address: number, length: number, type: number, subtype = 0) => ({
    opcode,
    psdt: 1,
    cdw12: 7,
    sgl: { address, length, type, subtype },
  });

  it("moves data by one descriptor, by segments, and around bit buckets", () => {
    const { host, run } = ready();
    const data = fillRandom(host.bytes(1, 4096), 5);
    expect(run(io(NvmOpcode.write, host.data(1), 4096, dataBlock)).code).toBe(0);
    const second = segment(host, listAt + 4096, [
      [host.data(40_000), 96, dataBlock],
      [0, 1000, bitBucket],
      [host.data(50_000), 2000, dataBlock],
    ]);
    const first = segment(host, listAt, [
      [host.data(30_000), 1000, dataBlock],
      [host.data(35_000), 0, dataBlock],
      [second, 48, lastSegment],
    ]);
    host.bytes(20_000, 60_000).fill(0);
    expect(run(io(NvmOpcode.read, first, 48, more)).code).toBe(0);
    expect(Buffer.compare(host.bytes(30_000, 1000), data.subarray(0, 1000))).toBe(0);
    expect(Buffer.compare(host.bytes(40_000, 96), data.subarray(1000, 1096))).toBe(0);
    expect(Buffer.compare(host.bytes(50_000, 2000), data.subarray(2096))).toBe(0);
  });

  const bad: [string, number, (host: RawNvmeHost) => RawCommand][] = [
    ["too short", NvmeStatus.dataSglLengthInvalid, (host) => io(1, host.data(), 4095, dataBlock)],
    ["too long", NvmeStatus.dataSglLengthInvalid, (host) => io(1, host.data(), 4097, dataBlock)],
    [
      "a bit bucket is no source of data",
      NvmeStatus.dataSglLengthInvalid,
      () => io(1, 0, 4096, bitBucket),
    ],
    [
      "a keyed descriptor",
      NvmeStatus.sglDescriptorTypeInvalid,
      (host) => io(1, host.data(), 4096, spec.SglType.keyedDataBlock),
    ],
    [
      "an offset without a CMB",
      NvmeStatus.sglDescriptorTypeInvalid,
      () => io(1, 0, 4096, dataBlock, 1),
    ],
    [
      "a segment of no descriptors",
      NvmeStatus.invalidSglSegmentDescriptor,
      (host) => io(1, host.data(listAt), 0, lastSegment),
    ],
    [
      "a segment of half a descriptor",
      NvmeStatus.invalidSglSegmentDescriptor,
      (host) => io(1, host.data(listAt), 24, lastSegment),
    ],
    [
      "a last segment that goes on",
      NvmeStatus.invalidSglSegmentDescriptor,
      (host) =>
        io(1, segment(host, listAt, [[host.data(listAt), 16, lastSegment]]), 16, lastSegment),
    ],
    [
      "a segment that ends",
      NvmeStatus.invalidSglSegmentDescriptor,
      (host) => io(1, segment(host, listAt, [[host.data(), 4096, dataBlock]]), 16, more),
    ],
    [
      "a segment pointer in the middle",
      NvmeStatus.invalidNumberOfSglDescriptors,
      (host) =>
        io(
          1,
          segment(host, listAt, [
            [host.data(listAt), 16, lastSegment],
            [host.data(listAt), 16, lastSegment],
          ]),
          32,
          more,
        ),
    ],
    [
      "a list that leads to itself",
      NvmeStatus.invalidNumberOfSglDescriptors,
      (host) => io(1, segment(host, listAt, [[host.data(listAt), 16, more]]), 16, more),
    ],
    ["a segment out of reach", NvmeStatus.dataTransferError, () => io(1, 0x1000, 16, lastSegment)],
  ];
  it.each(bad)("%s", (_name, status, make) => {
    const { host, run } = ready();
    expect(run(make(host)).code).toBe(status);
  });

  it("is refused where the controller has none", () => {
    const { host, run } = ready({ sgl: false });
    expect(run(io(1, host.data(), 4096, dataBlock)).code).toBe(NvmeStatus.invalidField);
  });
});

describe("the CMB", () => {
  const cmb = { bar: 2, offset: 0, sizeBytes: 2 * MIB };

  it("is source and target of data without leaving the device", () => {
    const { host, run, model, port } = ready({ cmb });
    const memory = model.memory.cmb.memory;
    const data = fillRandom(new Uint8Array(8192), 9);
    memory?.write(4096, data, 0, 8192);
    const io = { prp1: CMB_BASE + 4096, prp2: CMB_BASE + 8192, cdw12: 15 };
    port.journal = [];
    expect(run({ opcode: NvmOpcode.write, ...io }).code).toBe(0);
    expect(port.journal.filter(({ length }) => length >= 512)).toEqual([]);
    port.journal = null;
    const back = { opcode: NvmOpcode.read, prp1: host.data(), prp2: host.data(4096), cdw12: 15 };
    expect(run(back).code).toBe(0);
    expect(Buffer.compare(host.bytes(0, 8192), data)).toBe(0);
    memory?.fill(4096, 8192, 0);
    expect(run({ opcode: NvmOpcode.read, ...io }).code).toBe(0);
    const read = new Uint8Array(8192);
    memory?.read(4096, read, 0, 8192);
    expect(Buffer.compare(read, data)).toBe(0);
  });

  it("takes SGL offsets, and refuses those outside", () => {
    const { host, run, model } = ready({ cmb });
    const data = fillRandom(new Uint8Array(4096), 4);
    model.memory.cmb.memory?.write(512, data, 0, 4096);
    const sgl = { address: 512, length: 4096, type: 0, subtype: 1 };
    const write = { opcode: NvmOpcode.write, psdt: 1, cdw12: 7 };
    expect(run({ ...write, sgl }).code).toBe(0);
    expect(run({ opcode: NvmOpcode.read, prp1: host.data(), cdw12: 7 }).code).toBe(0);
    expect(Buffer.compare(host.bytes(0, 4096), data)).toBe(0);
    const outside = { ...sgl, address: 2 * MIB - 4095 };
    expect(run({ ...write, sgl: outside }).code).toBe(NvmeStatus.sglOffsetInvalid);
  });

  it("is used only as CMBSZ allows", () => {
    const uses = { readData: false, writeData: false, lists: false };
    const { host, run } = ready({ cmb: { ...cmb, ...uses } });
    const io = { prp1: CMB_BASE, cdw12: 7 };
    expect(run({ opcode: NvmOpcode.write, ...io }).code).toBe(NvmeStatus.invalidUseOfCmb);
    expect(run({ opcode: NvmOpcode.read, ...io }).code).toBe(NvmeStatus.invalidUseOfCmb);
    const list = { opcode: NvmOpcode.write, prp1: host.data(), prp2: CMB_BASE, cdw12: 31 };
    expect(run(list).code).toBe(NvmeStatus.invalidUseOfCmb);
    const sgl = { address: CMB_BASE, length: 16, type: spec.SglType.lastSegment };
    expect(run({ opcode: NvmOpcode.write, psdt: 1, sgl, cdw12: 7 }).code).toBe(
      NvmeStatus.invalidUseOfCmb,
    );
  });

  it("a range across its end is refused", () => {
    const { run } = ready({ cmb });
    const sgl = { address: CMB_BASE + 2 * MIB - 512, length: 4096, type: 0 };
    expect(run({ opcode: NvmOpcode.write, psdt: 1, sgl, cdw12: 7 }).code).toBe(
      NvmeStatus.invalidUseOfCmb,
    );
    const before = { ...sgl, address: CMB_BASE - 512 };
    expect(run({ opcode: NvmOpcode.write, psdt: 1, sgl: before, cdw12: 7 }).code).toBe(
      NvmeStatus.invalidUseOfCmb,
    );
  });

  it("holds submission queues, completion queues and PRP lists", () => {
    const { host, model, port } = makeNvme({ cmb });
    host.registers.write32(spec.Reg.cmbmscHi, CMB_BASE / 2 ** 32);
    host.registers.write32(spec.Reg.cmbmscLo, 3);
    host.enable();
    const memory = model.memory.cmb.memory;
    const queue = host.createQueue(1, 16, { sq: CMB_BASE, cq: CMB_BASE + 4096 });
    const list = new Uint8Array(64);
    const view = viewOf(list);
    for (let i = 0; i < 3; i++) {
      view.setUint32(i * 8, host.data((i + 1) * 4096) >>> 0, true);
      view.setUint32(i * 8 + 4, 1, true);
    }
    memory?.write(8192, list, 0, 64);
    const data = fillRandom(host.bytes(0, 16_384), 8);
    const entry = new Uint8Array(64);
    const sqe = viewOf(entry);
    sqe.setUint32(0, spec.packCdw0(NvmOpcode.write, 5), true);
    sqe.setUint32(4, 1, true);
    sqe.setUint32(24, host.data() >>> 0, true);
    sqe.setUint32(28, 1, true);
    sqe.setUint32(32, 8192, true);
    sqe.setUint32(36, CMB_BASE / 2 ** 32, true);
    sqe.setUint32(48, 31, true);
    memory?.write(0, entry, 0, 64);
    queue.tail = 1;
    host.ring(queue);
    host.settle();
    const cqe = new Uint8Array(16);
    memory?.read(4096, cqe, 0, 16);
    expect(viewOf(cqe).getUint32(12, true)).toBe(spec.packCqeStatus(5, 0, 1));
    expect(port.interrupts.get(1)).toBe(1);
    const reading = host.createQueue(2, 16);
    const back = { opcode: NvmOpcode.read, nsid: 1, cdw12: 31 };
    const rest = [MIB + 4096, MIB + 8192, MIB + 12_288].map((at) => host.data(at));
    const prp2 = putList(host, 4 * MIB, rest);
    expect(host.submit(reading, { ...back, prp1: host.data(MIB), prp2 }).code).toBe(0);
    expect(Buffer.compare(host.bytes(MIB, 16_384), data)).toBe(0);
  });

  it("is the whole BAR's address in a controller of before 1.4", () => {
    const { host, model } = makeNvme({ cmb: { ...cmb, offset: 4096, legacy: true } });
    model.barMoved(2, 0xe000_0000);
    host.enable();
    const queue = host.createQueue(1, 16);
    const data = fillRandom(new Uint8Array(4096), 2);
    model.memory.cmb.memory?.write(0, data, 0, 4096);
    const write = { opcode: NvmOpcode.write, nsid: 1, prp1: 0xe000_1000, cdw12: 7 };
    expect(host.submit(queue, write).code).toBe(0);
  });
});

describe("the PMR", () => {
  it("is source of data once it has addresses", () => {
    const { host, run, model } = ready({ pmr: { bar: 4, sizeBytes: MIB } });
    host.registers.write32(spec.Reg.pmrctl, 1);
    host.registers.write32(spec.Reg.pmrmscu, 0x30);
    host.registers.write32(spec.Reg.pmrmscl, 2);
    const data = fillRandom(new Uint8Array(4096), 6);
    model.memory.pmr.memory?.write(0, data, 0, 4096);
    const write = { opcode: NvmOpcode.write, prp1: 0x30_0000_0000, cdw12: 7 };
    expect(run(write).code).toBe(0);
    expect(run({ opcode: NvmOpcode.read, prp1: host.data(), cdw12: 7 }).code).toBe(0);
    expect(Buffer.compare(host.bytes(0, 4096), data)).toBe(0);
  });
});

describe("the other commands", () => {
  function written(options: TestNvmeOptions = {}) {
    const made = ready(options);
    const data = fillRandom(made.host.bytes(0, 8192), 12);
    const io = { prp1: made.host.data(), prp2: made.host.data(4096), cdw12: 15 };
    expect(made.run({ opcode: NvmOpcode.write, ...io }).code).toBe(0);
    return { ...made, data, io };
  }
  const readAll = (made: { host: RawNvmeHost; run: (c: RawCommand) => { code: number } }) => {
    const { host, run } = made;
    const io = { prp1: host.data(65_536), prp2: host.data(65_536 + 4096), cdw12: 15 };
    expect(run({ opcode: NvmOpcode.read, ...io }).code).toBe(0);
    return host.bytes(65_536, 8192);
  };

  it("Write Zeroes clears its range alone", () => {
    const made = written();
    expect(made.run({ opcode: NvmOpcode.writeZeroes, cdw10: 2, cdw12: 3 }).code).toBe(0);
    const now = readAll(made);
    made.data.fill(0, 1024, 1024 + 2048);
    expect(Buffer.compare(now, made.data)).toBe(0);
    const beyond = { opcode: NvmOpcode.writeZeroes, cdw10: 32_767, cdw12: 3 };
    expect(made.run(beyond).code).toBe(NvmeStatus.lbaOutOfRange);
  });

  it("Compare finds a difference of one byte", () => {
    const { run, io, host } = written();
    const same = run({ opcode: NvmOpcode.compare, ...io });
    expect(same.code).toBe(0);
    const bytes = host.bytes(0, 8192);
    bytes[8191] = (bytes[8191] as number) ^ 1;
    const different = run({ opcode: NvmOpcode.compare, ...io });
    expect(different.code).toBe(NvmeStatus.compareFailure);
  });

  it("Dataset Management deallocates ranges, all or none", () => {
    const made = written();
    const { host, run, data } = made;
    const ranges = viewOf(host.bytes(4 * MIB, 48));
    const setRange = (i: number, slba: number, blocks: number): void => {
      spec.DsmRange.SLBA.set(ranges, slba, i * 16);
      spec.DsmRange.LENGTH.set(ranges, blocks, i * 16);
    };
    setRange(0, 0, 1);
    setRange(1, 4, 0);
    setRange(2, 14, 2);
    const trim = { opcode: NvmOpcode.datasetManagement, prp1: host.data(4 * MIB), cdw10: 2 };
    expect(run({ ...trim, cdw11: 1 }).code).toBe(0);
    expect(Buffer.compare(readAll(made), data)).toBe(0);
    expect(run({ ...trim, cdw11: 4 }).code).toBe(0);
    data.fill(0, 0, 512);
    data.fill(0, 7168, 8192);
    expect(Buffer.compare(readAll(made), data)).toBe(0);
    setRange(0, 2, 1);
    setRange(2, 32_767, 2);
    expect(run({ ...trim, cdw11: 4 }).code).toBe(NvmeStatus.lbaOutOfRange);
    expect(Buffer.compare(readAll(made), data)).toBe(0);
  });

  it("Verify reads without moving data", () => {
    const { run, port } = written();
    port.journal = [];
    expect(run({ opcode: NvmOpcode.verify, cdw12: 15 }).code).toBe(0);
    expect(port.journal.filter(({ length }) => length > 64)).toEqual([]);
    const beyond = { opcode: NvmOpcode.verify, cdw10: 32_768 };
    expect(run(beyond).code).toBe(NvmeStatus.lbaOutOfRange);
  });

  it("Copy gathers source ranges", () => {
    const made = written();
    const { host, run, data } = made;
    const ranges = viewOf(host.bytes(4 * MIB, 64));
    spec.CopyRange0.SLBA.set(ranges, 10);
    spec.CopyRange0.NLB.set(ranges, 1);
    spec.CopyRange0.SLBA.set(ranges, 0, 32);
    spec.CopyRange0.NLB.set(ranges, 2, 32);
    const copy = { opcode: NvmOpcode.copy, prp1: host.data(4 * MIB), cdw10: 2000, cdw12: 1 };
    expect(run(copy).code).toBe(0);
    const read = { opcode: NvmOpcode.read, prp1: host.data(65_536), cdw10: 2000, cdw12: 4 };
    expect(run(read).code).toBe(0);
    const expected = Buffer.concat([data.subarray(5120, 6144), data.subarray(0, 1536)]);
    expect(Buffer.compare(host.bytes(65_536, 2560), expected)).toBe(0);
  });

  it("Copy has limits", () => {
    const { host, run } = written();
    const ranges = viewOf(host.bytes(4 * MIB, 4096));
    const copy = { opcode: NvmOpcode.copy, prp1: host.data(4 * MIB) };
    expect(run({ ...copy, cdw12: 1 << 8 }).code).toBe(NvmeStatus.invalidField);
    expect(run({ ...copy, cdw12: 128 }).code).toBe(NvmeStatus.commandSizeLimitExceeded);
    spec.CopyRange0.NLB.set(ranges, 65_535);
    expect(run(copy).code).toBe(NvmeStatus.commandSizeLimitExceeded);
    spec.CopyRange0.NLB.set(ranges, 0);
    spec.CopyRange0.SLBA.set(ranges, 32_768);
    expect(run(copy).code).toBe(NvmeStatus.lbaOutOfRange);
    spec.CopyRange0.SLBA.set(ranges, 0);
    expect(run({ ...copy, cdw10: 32_768 }).code).toBe(NvmeStatus.lbaOutOfRange);
  });

  it("Flush takes one namespace or all", () => {
    const { run } = ready({ namespaces: [{ sizeBytes: MIB }, { sizeBytes: MIB }] });
    expect(run({ opcode: NvmOpcode.flush }).code).toBe(0);
    expect(run({ opcode: NvmOpcode.flush, nsid: spec.NSID_ALL }).code).toBe(0);
    expect(run({ opcode: NvmOpcode.flush, nsid: 3 }).code).toBe(
      NvmeStatus.invalidNamespaceOrFormat,
    );
    expect(run({ opcode: NvmOpcode.flush, nsid: 0 }).code).toBe(
      NvmeStatus.invalidNamespaceOrFormat,
    );
  });
});
