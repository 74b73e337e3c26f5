import { describe, expect, it } from "vitest";
import { makeNvme, type RawCommand } from "../../../../testing/nvme-raw-host.ts";
import { PowerCutFile } from "../../../../testing/power-cut-file.ts";
import { FileStatus } from "../../../platform/index.ts";
import * as spec from "../../../spec/nvme/index.ts";
import { FileStore } from "./index.ts";

const MIB = 1024 * 1024;
const { NvmeStatus, NvmOpcode } = spec;
const FUA = 1 << 30;

/** An enabled controller with a namespace on a file whose calls can be made to fail or wait. */
function ready(options: { isDeferred?: boolean; readOnly?: boolean } = {}, bytes = MIB) {
  const { isDeferred = false, readOnly = false } = options;
  const file = new PowerCutFile(new Uint8Array(bytes), { sectorBytes: 512, isDeferred });
  file.readOnly = readOnly;
  const store = new FileStore(file, bytes);
  const made = makeNvme({ namespaces: [{ store }] });
  made.host.enable();
  const queue = made.host.createQueue(1, 16);
  const { host } = made;
  const io = { nsid: 1, prp1: host.data() };
  return {
    ...made,
    file,
    store,
    run: (command: RawCommand) => host.submit(queue, { ...io, ...command }),
    /** Submits without waiting; returns the CID. */
    begin(command: RawCommand): number {
      const cid = host.write(queue, { ...io, ...command });
      host.ring(queue);
      host.settle();
      return cid;
    },
    /** CIDs that completed since the last call, with their codes. */
    ended(): number[][] {
      host.settle();
      return host.poll(queue).map(({ cid, code }) => [cid, code]);
    },
  };
}

const write: RawCommand = { opcode: NvmOpcode.write };
const flush: RawCommand = { opcode: NvmOpcode.flush };

describe("what is synced, and when", () => {
  it("Flush, FUA, and every write once the cache is off", () => {
    const { host, run, file } = ready();
    run(write);
    expect(file.syncs).toBe(0);
    run({ ...write, cdw12: FUA });
    expect(file.syncs).toBe(1);
    run(write);
    run(flush);
    expect(file.syncs).toBe(2);
    // Nothing was written since.
    run(flush);
    expect(file.syncs).toBe(2);
    const set = { opcode: spec.AdminOpcode.setFeatures, cdw10: spec.Feature.volatileWriteCache };
    expect(host.adminCommand(set).code).toBe(0);
    run(write);
    run({ opcode: NvmOpcode.writeZeroes });
    expect(file.syncs).toBe(4);
    host.bytes(0, 16).set([0, 0, 0, 0, 4]);
    run({ opcode: NvmOpcode.datasetManagement, cdw11: 4 });
    expect(file.syncs).toBe(5);
    run(write);
    host.registers.write32(spec.Reg.cc, spec.CC_SHN.set(0x0046_0001, 1));
    expect(file.syncs).toBe(6);
  });

  it("syncs at first flush what the file's last user may have left", () => {
    const { run, file } = ready();
    expect(run(flush).code).toBe(0);
    expect(file.syncs).toBe(1);
  });

  it("answers a flush when its sync is done, and goes on meanwhile", () => {
    const { begin, ended, file, run } = ready({ isDeferred: true });
    run(write);
    const first = begin(flush);
    expect(ended()).toEqual([]);
    expect(run({ opcode: NvmOpcode.read }).code).toBe(0);
    file.settle();
    expect(ended()).toEqual([[first, 0]]);
  });

  it("lets one sync stand for all that came before it, and for nothing that came after", () => {
    const { begin, ended, file, store, run } = ready({ isDeferred: true });
    run(write);
    const a = begin(flush);
    const b = begin(flush);
    const c = begin({ ...write, cdw10: 8, cdw12: FUA });
    const d = begin({ ...write, cdw10: 9, cdw12: FUA });
    expect(file.deferredCount).toBe(1);
    file.settle();
    expect(ended()).toEqual([
      [a, 0],
      [b, 0],
    ]);
    expect(file.deferredCount).toBe(1);
    file.settle();
    expect(ended()).toEqual([
      [c, 0],
      [d, 0],
    ]);
    expect([file.syncs, store.syncs, store.sharedSyncs]).toEqual([2, 2, 2]);
  });

  it("completes a shutdown once everything is durable", () => {
    const { host, run, file } = ready({ isDeferred: true });
    run(write);
    host.registers.write32(spec.Reg.cc, spec.CC_SHN.set(0x0046_0001, 1));
    const state = () => spec.CSTS_SHST.get(host.registers.read32(spec.Reg.csts));
    expect(state()).toBe(1);
    file.settle();
    expect(state()).toBe(2);
  });

  it("forgets a flush whose controller was reset", () => {
    const { host, run, begin, file } = ready({ isDeferred: true });
    run(write);
    begin(flush);
    host.registers.write32(spec.Reg.cc, 0);
    file.settle();
    expect(host.enable() & 1).toBe(1);
    const queue = host.createQueue(1, 16);
    expect(host.poll(queue)).toEqual([]);
  });
});

describe("failures of the host", () => {
  it("are media errors, counted; a write that failed is not the end", () => {
    const { run, file, store, model } = ready();
    file.failing.read = FileStatus.error;
    const read = run({ opcode: NvmOpcode.read });
    expect(read.code).toBe(NvmeStatus.unrecoveredReadError);
    expect(read.status & spec.STATUS_DNR).toBe(0);
    file.failing.write = FileStatus.error;
    expect(run(write).code).toBe(NvmeStatus.writeFault);
    file.failing.write = 0;
    expect(run(write).code).toBe(0);
    expect(store.errors).toBe(2);
    const counters = model.inspect()["counters"] as { mediaErrors: number };
    expect(counters.mediaErrors).toBe(2);
  });

  it("a full disk is Capacity Exceeded; what was there stays, and space makes it go on", () => {
    const { run, file, host } = ready();
    host.bytes(0, 512).fill(7);
    run(write);
    file.failing.write = FileStatus.noSpace;
    const failed = run({ ...write, cdw10: 8 });
    expect(failed.code).toBe(NvmeStatus.capacityExceeded);
    expect(failed.status & spec.STATUS_DNR).not.toBe(0);
    expect(run({ opcode: NvmOpcode.writeZeroes, cdw10: 9 }).code).toBe(failed.code);
    expect(run(flush).code).toBe(0);
    host.bytes(0, 512).fill(0);
    expect(run({ opcode: NvmOpcode.read }).code).toBe(0);
    expect(host.bytes(0, 512).every((byte) => byte === 7)).toBe(true);
    file.failing.write = 0;
    expect(run({ ...write, cdw10: 8 }).code).toBe(0);
  });

  it("a sync that failed is never made good by one that says success", () => {
    const { run, begin, ended, file, store } = ready({ isDeferred: true });
    run(write);
    const first = begin(flush);
    const second = begin({ ...write, cdw10: 5, cdw12: FUA });
    file.failing.sync = FileStatus.error;
    file.lastError = "EIO";
    file.settle();
    expect(ended()).toEqual([
      [first, NvmeStatus.writeFault],
      [second, NvmeStatus.writeFault],
    ]);
    file.failing.sync = 0;
    for (const command of [
      flush,
      write,
      { ...write, cdw12: FUA },
      { opcode: NvmOpcode.writeZeroes },
    ]) {
      expect(run(command).code).toBe(NvmeStatus.writeFault);
    }
    expect(run({ opcode: NvmOpcode.read }).code).toBe(0);
    expect(file.deferredCount).toBe(0);
    expect(store.inspect()).toMatchObject({ failure: "a sync of the file failed: EIO" });
  });

  it("a sync that finds the disk full says so, once", () => {
    const { run, file } = ready();
    run(write);
    file.failing.sync = FileStatus.noSpace;
    expect(run(flush).code).toBe(NvmeStatus.capacityExceeded);
    file.failing.sync = 0;
    expect(run(flush).code).toBe(NvmeStatus.writeFault);
  });

  it("a file that somebody cut is noticed by a read and by a flush", () => {
    for (const command of [{ opcode: NvmOpcode.read, cdw10: 2047 }, flush]) {
      const { run, file, store } = ready();
      file.truncate(MIB - 512);
      expect(run(command).code).not.toBe(0);
      expect(store.failure).toBe("the file has become shorter");
      // Writing behind the hole would make it longer again, and hide what was lost.
      expect(run({ ...write, cdw10: 2047 }).code).toBe(NvmeStatus.writeFault);
      expect(run({ opcode: NvmOpcode.read }).code).toBe(0);
    }
  });

  it("a shutdown that cannot write everything is fatal", () => {
    const { host, file } = ready();
    file.failing.sync = FileStatus.error;
    host.registers.write32(spec.Reg.cc, spec.CC_SHN.set(0x0046_0001, 1));
    expect(spec.CSTS_CFS.get(host.registers.read32(spec.Reg.csts))).toBe(1);
  });

  it("Format that cannot erase says so", () => {
    const { host, file } = ready();
    file.failing.truncate = FileStatus.error;
    const format = { opcode: spec.AdminOpcode.formatNvm, nsid: 1 };
    expect(host.adminCommand(format).code).toBe(NvmeStatus.writeFault);
  });
});

describe("a file that takes no writes", () => {
  it("is a namespace that is write protected", () => {
    const { host, run, file } = ready({ readOnly: true });
    expect(run(write).code).toBe(NvmeStatus.namespaceWriteProtected);
    expect(run({ opcode: NvmOpcode.writeZeroes }).code).toBe(NvmeStatus.namespaceWriteProtected);
    expect(run({ opcode: NvmOpcode.read }).code).toBe(0);
    host.adminCommand({ opcode: spec.AdminOpcode.identify, nsid: 1, prp1: host.data() });
    const view = new DataView(host.bytes(0, 4096).slice().buffer);
    expect(spec.IdNs.NSATTR.get(view)).toBe(1);
    expect(file.syncs).toBe(0);
  });
});

describe("deallocating", () => {
  const range = (host: { bytes(at: number, length: number): Uint8Array }, lba: number): void => {
    const bytes = host.bytes(4096, 16);
    bytes.fill(0);
    new DataView(bytes.buffer, bytes.byteOffset).setUint32(4, 16, true);
    new DataView(bytes.buffer, bytes.byteOffset).setUint32(8, lba, true);
  };
  const deallocate = (at: number): RawCommand => ({
    opcode: NvmOpcode.datasetManagement,
    cdw11: 4,
    prp1: at,
  });

  it("is answered when the hole is there", () => {
    const { host, begin, ended, run, file, store } = ready({ isDeferred: true });
    host.bytes(0, 512).fill(9);
    run({ ...write, cdw10: 16 });
    range(host, 16);
    const cid = begin(deallocate(host.data(4096)));
    expect(ended()).toEqual([]);
    file.settle();
    expect(ended()).toEqual([[cid, 0]]);
    run({ opcode: NvmOpcode.read, cdw10: 16 });
    expect(host.bytes(0, 512).every((byte) => byte === 0)).toBe(true);
    expect(store.bytesPunched).toBe(8192);
  });

  it("with FUA is durable when it is answered", () => {
    const { begin, ended, file } = ready({ isDeferred: true });
    const DEAC = 1 << 25;
    const cid = begin({ opcode: NvmOpcode.writeZeroes, cdw12: (FUA | DEAC) >>> 0 });
    file.settle();
    expect(ended()).toEqual([]);
    file.settle();
    expect(ended()).toEqual([[cid, 0]]);
    expect(file.syncs).toBe(1);
  });

  it("that fails is an error", () => {
    const { host, run, file } = ready();
    range(host, 0);
    file.failing.punch = FileStatus.error;
    expect(run(deallocate(host.data(4096))).code).toBe(NvmeStatus.writeFault);
  });

  it("is a hint not taken where the file cannot, and is not promised then", () => {
    const { host, run, file, store } = ready();
    file.canPunch = false;
    host.bytes(0, 512).fill(9);
    run({ ...write, cdw10: 16 });
    range(host, 16);
    expect(run(deallocate(host.data(4096))).code).toBe(0);
    run({ opcode: NvmOpcode.read, cdw10: 16 });
    expect(host.bytes(0, 512).every((byte) => byte === 9)).toBe(true);
    expect(store.bytesKept).toBe(8192);
    host.adminCommand({ opcode: spec.AdminOpcode.identify, nsid: 1, prp1: host.data() });
    const view = new DataView(host.bytes(0, 4096).slice().buffer);
    expect(spec.IdNs.DLFEAT.get(view)).toBe(0);
    // Write Zeroes is no hint.
    const DEAC = 1 << 25;
    run({ opcode: NvmOpcode.writeZeroes, cdw10: 16, cdw12: DEAC });
    run({ opcode: NvmOpcode.read, cdw10: 16 });
    expect(host.bytes(0, 512).every((byte) => byte === 0)).toBe(true);
  });
});
