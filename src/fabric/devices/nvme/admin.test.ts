import { describe, expect, it } from "vitest";
import { makeNvme, type TestNvmeOptions } from "../../../../testing/nvme-raw-host.ts";
import { viewOf } from "../../../core/index.ts";
import * as spec from "../../../spec/nvme/index.ts";

const MIB = 1024 * 1024;
const { AdminOpcode, Cns, Feature, NvmeStatus } = spec;

function ready(options: TestNvmeOptions = {}, timed = false) {
  const made = makeNvme(options, { timed });
  made.host.enable();
  return made;
}

describe("Identify", () => {
  const namespaces = [
    { sizeBytes: 16 * MIB },
    { sizeBytes: 8 * MIB, lbaBytes: 4096, shared: true },
  ];

  function identify(cns: number, nsid = 0, more = {}) {
    const { host } = ready({ namespaces, serial: "PL-77", mdts: 5 });
    const done = host.adminCommand({
      opcode: AdminOpcode.identify,
      nsid,
      prp1: host.data(),
      cdw10: cns,
      ...more,
    });
    return { code: done.code, status: done.status, page: host.bytes(0, 4096) };
  }

  it("describes the controller", () => {
    const { code, page } = identify(Cns.controller);
    const view = viewOf(page);
    expect(code).toBe(0);
    expect(spec.IdCtrl.SN.get(view)).toBe("PL-77");
    expect(spec.IdCtrl.MDTS.get(view)).toBe(5);
    expect(spec.IdCtrl.NN.get(view)).toBe(2);
    expect(spec.IdCtrl.TNVMCAP.get(view)).toBe(24 * MIB);
    expect(spec.IdCtrl.SUBNQN.get(view)).toMatch(/^nqn\./);
    expect(spec.IdCtrl.SQES.get(view)).toBe(0x66);
    expect(spec.IdCtrl.CQES.get(view)).toBe(0x44);
  });

  it("describes namespaces", () => {
    const { page } = identify(Cns.namespace, 2);
    const view = viewOf(page);
    expect(spec.IdNs.NSZE.get(view)).toBe((8 * MIB) / 4096);
    const format = spec.getLbaFormat(view, spec.flbasIndex(spec.IdNs.FLBAS.get(view)));
    expect(spec.LBAF_LBADS.get(format)).toBe(12);
    expect(spec.IdNs.NMIC.get(view)).toBe(1);
    expect(spec.IdNs.NGUID.get(view).some((byte) => byte !== 0)).toBe(true);
  });

  it("lists namespaces above an NSID", () => {
    const first = identify(Cns.activeNamespaces, 0);
    expect([...new Uint32Array(first.page.slice(0, 16).buffer)]).toEqual([1, 2, 0, 0]);
    const second = identify(Cns.allocatedNamespaces, 1);
    expect([...new Uint32Array(second.page.slice(0, 8).buffer)]).toEqual([2, 0]);
    expect(identify(Cns.activeNamespaces, 0xffff_fffe).code).toBe(
      NvmeStatus.invalidNamespaceOrFormat,
    );
  });

  it("gives each namespace its own descriptors", () => {
    const a = spec.parseNsDescriptors(identify(Cns.namespaceDescriptors, 1).page);
    const b = spec.parseNsDescriptors(identify(Cns.namespaceDescriptors, 2).page);
    expect(a.map(({ nidt }) => nidt)).toEqual([1, 2, 3, 4]);
    for (const i of [0, 1, 2]) {
      expect(Buffer.from(a[i]?.nid ?? [])).not.toEqual(Buffer.from(b[i]?.nid ?? []));
    }
  });

  it("answers the command set specific structures and controller lists", () => {
    for (const cns of [Cns.controllerForCsi, Cns.ioCommandSets, Cns.controllers]) {
      expect(identify(cns).code).toBe(0);
    }
    for (const cns of [
      Cns.namespaceForCsi,
      Cns.namespaceIndependent,
      Cns.allocatedNamespace,
      Cns.controllersOfNamespace,
    ]) {
      expect(identify(cns, 1).code).toBe(0);
      expect(identify(cns, 3).code).toBe(NvmeStatus.invalidNamespaceOrFormat);
    }
    expect(identify(Cns.controllerForCsi, 0, { cdw11: 2 << 24 }).code).toBe(
      NvmeStatus.invalidField,
    );
  });

  it("refuses what it does not know, with Do Not Retry", () => {
    const { code, status } = identify(0x99);
    expect(code).toBe(NvmeStatus.invalidField);
    expect(status & spec.STATUS_DNR).not.toBe(0);
    expect(identify(Cns.namespace, 0).code).toBe(NvmeStatus.invalidNamespaceOrFormat);
    expect(identify(Cns.namespace, spec.NSID_ALL).code).toBe(NvmeStatus.invalidNamespaceOrFormat);
  });

  it("crosses pages by PRP2 and reports a bad one", () => {
    const { host } = ready();
    const good = host.adminCommand({
      opcode: AdminOpcode.identify,
      prp1: host.data(2048),
      prp2: host.data(8192),
      cdw10: Cns.controller,
    });
    expect(good.code).toBe(0);
    expect(spec.IdCtrl.SQES.get(viewOf(host.bytes(8192 - 2048, 4096)))).toBe(0);
    expect(host.bytes(2048, 2)[0]).toBe(0x36);
    // Byte 2048 of the page is in the second half: the power states, zero; SUBNQN is in the first.
    const bad = host.adminCommand({
      opcode: AdminOpcode.identify,
      prp1: host.data(2048),
      prp2: host.data(8192 + 4),
      cdw10: Cns.controller,
    });
    expect(bad.code).toBe(NvmeStatus.prpOffsetInvalid);
  });

  it("refuses SGLs and fused operations", () => {
    const { host } = ready();
    const sgl = { address: host.data(), length: 4096, type: spec.SglType.dataBlock };
    const identifyBySgl = { opcode: AdminOpcode.identify, psdt: 1, sgl, cdw10: 1 };
    expect(host.adminCommand(identifyBySgl).code).toBe(NvmeStatus.invalidField);
    const fused = { opcode: AdminOpcode.identify, fuse: 1, prp1: host.data(), cdw10: 1 };
    expect(host.adminCommand(fused).code).toBe(NvmeStatus.invalidField);
  });
});

describe("queues", () => {
  const create = (qid: number, size: number, cdw11: number, prp1: number, sq = false) => ({
    opcode: sq ? AdminOpcode.createIoSq : AdminOpcode.createIoCq,
    cdw10: ((size - 1) << 16) | qid,
    cdw11,
    prp1,
  });

  it("are created and deleted in order", () => {
    const { host } = ready();
    host.createQueue(3, 16);
    const remove = (opcode: number, qid: number) => host.adminCommand({ opcode, cdw10: qid }).code;
    expect(remove(AdminOpcode.deleteIoCq, 3)).toBe(NvmeStatus.invalidQueueDeletion);
    expect(remove(AdminOpcode.deleteIoSq, 3)).toBe(0);
    expect(remove(AdminOpcode.deleteIoSq, 3)).toBe(NvmeStatus.invalidQueueIdentifier);
    expect(remove(AdminOpcode.deleteIoCq, 3)).toBe(0);
    expect(remove(AdminOpcode.deleteIoCq, 3)).toBe(NvmeStatus.invalidQueueIdentifier);
    expect(remove(AdminOpcode.deleteIoSq, 0)).toBe(NvmeStatus.invalidQueueIdentifier);
    expect(remove(AdminOpcode.deleteIoCq, 0)).toBe(NvmeStatus.invalidQueueIdentifier);
    host.createQueue(3, 16);
  });

  it("are refused with the status of what is wrong", () => {
    const { host, port } = ready({ maxQueues: 4, maxEntries: 64, vectors: 3 });
    const page = port.base + 64 * 4096;
    const code = (command: ReturnType<typeof create>) => host.adminCommand(command).code;
    expect(code(create(0, 16, 1, page))).toBe(NvmeStatus.invalidQueueIdentifier);
    expect(code(create(5, 16, 1, page))).toBe(NvmeStatus.invalidQueueIdentifier);
    expect(code(create(1, 1, 1, page))).toBe(NvmeStatus.invalidQueueSize);
    expect(code(create(1, 65, 1, page))).toBe(NvmeStatus.invalidQueueSize);
    expect(code(create(1, 16, 0, page))).toBe(NvmeStatus.invalidField);
    expect(code(create(1, 16, 3 | (3 << 16), page))).toBe(NvmeStatus.invalidInterruptVector);
    expect(code(create(1, 16, 3 | (2 << 16), page + 64))).toBe(NvmeStatus.prpOffsetInvalid);
    expect(code(create(1, 16, 3 | (2 << 16), page))).toBe(0);
    expect(code(create(1, 16, 3, page))).toBe(NvmeStatus.invalidQueueIdentifier);
    expect(code(create(1, 16, 1, page, true))).toBe(NvmeStatus.invalidQueueIdentifier);
    expect(code(create(1, 16, 1 | (2 << 16), page, true))).toBe(NvmeStatus.completionQueueInvalid);
    expect(code(create(1, 16, 1 | (9 << 16), page, true))).toBe(NvmeStatus.invalidQueueIdentifier);
    expect(code(create(1, 16, 1 << 16, page, true))).toBe(NvmeStatus.invalidField);
    expect(code(create(1, 200, 1 | (1 << 16), page, true))).toBe(NvmeStatus.invalidQueueSize);
    expect(code(create(1, 16, 1 | (1 << 16), page + 8, true))).toBe(NvmeStatus.prpOffsetInvalid);
    expect(code(create(1, 16, 1 | (1 << 16), page, true))).toBe(0);
  });

  it("need the entry sizes in CC", () => {
    const { host, port } = makeNvme();
    host.enable(1);
    const page = port.base + 64 * 4096;
    expect(host.adminCommand(create(1, 16, 1, page)).code).toBe(NvmeStatus.invalidQueueSize);
  });

  it("may lie in the CMB only as CMBSZ allows", () => {
    const base = 0x8000_0000;
    const codeFor = (uses: { submissionQueues: boolean; completionQueues: boolean }) => {
      const { host } = ready({ cmb: { bar: 2, offset: 0, sizeBytes: MIB, ...uses } });
      host.registers.write32(spec.Reg.cmbmscLo, base | 3);
      return [
        host.adminCommand(create(1, 16, 1, base)).code,
        host.adminCommand(create(2, 16, 1, host.port.base + 64 * 4096)).code,
        host.adminCommand(create(2, 16, 1 | (2 << 16), base + 4096, true)).code,
      ];
    };
    expect(codeFor({ submissionQueues: true, completionQueues: true })).toEqual([0, 0, 0]);
    expect(codeFor({ submissionQueues: false, completionQueues: false })).toEqual([
      NvmeStatus.invalidUseOfCmb,
      0,
      NvmeStatus.invalidUseOfCmb,
    ]);
  });
});

describe("Features", () => {
  const fid = (feature: number, select = 0) => feature | (select << 8);

  it("have current, default, saved and supported values", () => {
    const { host } = ready();
    const set = (feature: number, value: number, sv = 0, nsid = 0) =>
      host.adminCommand({
        opcode: AdminOpcode.setFeatures,
        nsid,
        cdw10: (feature | (sv << 31)) >>> 0,
        cdw11: value,
      }).code;
    const get = (feature: number, select = 0, nsid = 0, cdw11 = 0) => {
      const command = { opcode: AdminOpcode.getFeatures, nsid, cdw10: fid(feature, select), cdw11 };
      const done = host.adminCommand(command);
      return done.code === 0 ? done.result : -done.code;
    };
    expect(set(Feature.arbitration, 2)).toBe(0);
    expect(get(Feature.arbitration)).toBe(2);
    expect(get(Feature.arbitration, spec.FeatureSelect.default)).toBe(7);
    expect(get(Feature.arbitration, spec.FeatureSelect.saved)).toBe(7);
    expect(set(Feature.arbitration, 3, 1)).toBe(0);
    expect(get(Feature.arbitration, spec.FeatureSelect.saved)).toBe(3);
    expect(get(Feature.arbitration, spec.FeatureSelect.supported)).toBe(5);
    expect(get(Feature.errorRecovery, spec.FeatureSelect.supported)).toBe(7);
    expect(get(Feature.numberOfQueues, spec.FeatureSelect.supported)).toBe(4);

    expect(set(Feature.errorRecovery, 5, 0, 1)).toBe(0);
    expect(get(Feature.errorRecovery, 0, 1)).toBe(5);
    expect(get(Feature.errorRecovery, 0, 9)).toBe(-NvmeStatus.invalidNamespaceOrFormat);
    expect(set(Feature.errorRecovery, 0x1_0000, 0, 1)).toBe(NvmeStatus.invalidField);
    expect(set(Feature.arbitration, 1, 0, 1)).toBe(NvmeStatus.featureNotNamespaceSpecific);
    expect(set(Feature.ioCommandSetProfile, 0, 1)).toBe(NvmeStatus.featureNotSaveable);
    expect(set(Feature.powerManagement, 1)).toBe(NvmeStatus.invalidField);
    expect(set(Feature.keepAliveTimer, 1000)).toBe(NvmeStatus.invalidField);
    expect(get(Feature.keepAliveTimer)).toBe(-NvmeStatus.invalidField);
    expect(get(Feature.arbitration, 5)).toBe(-NvmeStatus.invalidField);
    expect(set(0x7e, 0)).toBe(NvmeStatus.invalidField);

    expect(set(Feature.interruptVectorConfiguration, 0x1_0002)).toBe(0);
    expect(get(Feature.interruptVectorConfiguration, 0, 0, 2)).toBe(0x1_0002);
    expect(get(Feature.interruptVectorConfiguration, 0, 0, 3)).toBe(3);
    expect(get(Feature.interruptVectorConfiguration, 0, 0, 999)).toBe(-NvmeStatus.invalidField);
    expect(set(Feature.temperatureThreshold, 350)).toBe(0);
    expect(set(Feature.temperatureThreshold, (1 << 20) | 280)).toBe(0);
    expect(get(Feature.temperatureThreshold)).toBe(350);
    expect(get(Feature.temperatureThreshold, 0, 0, 1 << 20)).toBe(280);
    expect(get(Feature.temperatureThreshold, 0, 0, 3 << 16)).toBe(-NvmeStatus.invalidField);

    host.enable(0);
    host.enable();
    expect(get(Feature.arbitration)).toBe(3);
    expect(get(Feature.temperatureThreshold)).toBe(343);
    expect(get(Feature.errorRecovery, 0, 1)).toBe(0);
  });

  it("Number of Queues answers what there is, before queues exist", () => {
    const { host } = ready({ maxQueues: 12 });
    const set = (cdw11: number) =>
      host.adminCommand({ opcode: AdminOpcode.setFeatures, cdw10: Feature.numberOfQueues, cdw11 });
    expect(set(0x0003_0003).result).toBe(0x000b_000b);
    expect(set(0xffff_0003).code).toBe(NvmeStatus.invalidField);
    host.createQueue(1, 4);
    expect(set(0x0003_0003).code).toBe(NvmeStatus.commandSequenceError);
  });

  it("Host Identifier travels as data, in one size", () => {
    const { host } = ready();
    host.bytes(0, 16).set(Uint8Array.from({ length: 16 }, (_, i) => i + 1));
    const set = { opcode: AdminOpcode.setFeatures, cdw10: Feature.hostIdentifier, cdw11: 1 };
    expect(host.adminCommand({ ...set, prp1: host.data() }).code).toBe(0);
    const get = { opcode: AdminOpcode.getFeatures, cdw10: Feature.hostIdentifier };
    expect(host.adminCommand({ ...get, cdw11: 1, prp1: host.data(4096) }).code).toBe(0);
    expect(host.bytes(4096, 16)).toEqual(host.bytes(0, 16));
    expect(host.adminCommand({ ...get, prp1: host.data(4096) }).code).toBe(
      NvmeStatus.hostIdInconsistentFormat,
    );
  });

  it("without a volatile write cache its feature does not exist", () => {
    const { host } = ready({ volatileWriteCache: false });
    const get = { opcode: AdminOpcode.getFeatures, cdw10: Feature.volatileWriteCache };
    expect(host.adminCommand(get).code).toBe(NvmeStatus.invalidField);
  });
});

describe("log pages", () => {
  function readLog(made: ReturnType<typeof ready>, lid: number, bytes: number, more = {}) {
    const { host } = made;
    host.bytes(0, bytes).fill(0xee);
    const done = host.adminCommand({
      opcode: AdminOpcode.getLogPage,
      nsid: spec.NSID_ALL,
      prp1: host.data(),
      prp2: host.data(4096),
      cdw10: spec.packLogCdw10(lid, bytes),
      ...more,
    });
    return { ...done, page: host.bytes(0, bytes) };
  }

  it("error information has the newest first, and says More in completions", () => {
    const made = ready({ errorLogEntries: 4 });
    const { host } = made;
    for (let i = 0; i < 6; i++) {
      const done = host.adminCommand({ opcode: 0xc0 + i, cid: 100 + i });
      expect(done.code).toBe(NvmeStatus.invalidOpcode);
      expect(done.status & spec.STATUS_MORE).not.toBe(0);
    }
    const { page } = readLog(made, spec.LogPage.errorInformation, 64 * 4);
    const view = viewOf(page);
    const counts = [0, 1, 2, 3].map((i) => spec.ErrorLog.ERROR_COUNT.get(view, i * 64));
    expect(counts).toEqual([6, 5, 4, 3]);
    expect(spec.ErrorLog.CID.get(view)).toBe(105);
    expect(spec.ErrorLog.OPC.get(view)).toBe(0xc5);
    expect(spec.statusCode(spec.ErrorLog.STATUS.get(view) >> 1)).toBe(NvmeStatus.invalidOpcode);
  });

  it("SMART counts data units and commands", () => {
    const made = ready();
    const { host } = made;
    const queue = host.createQueue(1, 16);
    const io = { nsid: 1, prp1: host.data(), cdw12: 7 };
    for (let i = 0; i < 130; i++) host.submit(queue, { opcode: spec.NvmOpcode.write, ...io });
    host.submit(queue, { opcode: spec.NvmOpcode.read, ...io });
    const view = viewOf(readLog(made, spec.LogPage.smart, 512).page);
    // 130 x 4 KiB are 532,480 bytes: two thousands of 512 bytes, rounded up.
    expect(spec.Smart.DATA_UNITS_WRITTEN.get(view)).toBe(2);
    expect(spec.Smart.DATA_UNITS_READ.get(view)).toBe(1);
    expect(spec.Smart.HOST_WRITES.get(view)).toBe(130);
    expect(spec.Smart.HOST_READS.get(view)).toBe(1);
    expect(spec.Smart.TEMPERATURE.get(view)).toBe(313);
    expect(readLog(made, spec.LogPage.smart, 512, { nsid: 1 }).code).toBe(NvmeStatus.invalidField);
  });

  it("the others answer, with offsets", () => {
    const made = ready({ firmware: "2.1a" });
    const slot = readLog(made, spec.LogPage.firmwareSlot, 512).page;
    expect(new TextDecoder().decode(slot.subarray(8, 16))).toBe("2.1a    ");
    const effects = viewOf(readLog(made, spec.LogPage.commandEffects, 4096).page);
    expect(effects.getUint32(4 * AdminOpcode.identify, true)).toBe(1);
    expect(effects.getUint32(1024 + 4 * spec.NvmOpcode.write, true)).toBe(3);
    expect(effects.getUint32(1024 + 4 * spec.NvmOpcode.writeUncorrectable, true)).toBe(0);
    const rest = { cdw12: 1024 };
    const part = viewOf(readLog(made, spec.LogPage.commandEffects, 1024, rest).page);
    expect(part.getUint32(4 * spec.NvmOpcode.write, true)).toBe(3);
    expect(readLog(made, spec.LogPage.supportedLogPages, 1024).page[4]).toBe(1);
  });

  it("are refused when unknown or out of range, and end in zeros", () => {
    const made = ready();
    expect(readLog(made, 0x0d, 512).code).toBe(NvmeStatus.invalidLogPage);
    expect(readLog(made, spec.LogPage.smart, 512, { cdw12: 516 }).code).toBe(
      NvmeStatus.invalidField,
    );
    expect(readLog(made, spec.LogPage.smart, 512, { cdw12: 2 }).code).toBe(NvmeStatus.invalidField);
    const { code, page } = readLog(made, spec.LogPage.smart, 1024);
    expect(code).toBe(0);
    expect(page.subarray(512).every((byte) => byte === 0)).toBe(true);
  });
});

describe("asynchronous events", () => {
  const aer = { opcode: AdminOpcode.asyncEventRequest };

  it("wait for a request, are masked until their log is read", () => {
    const { host } = ready();
    const first = host.write(host.admin, aer);
    host.write(host.admin, aer);
    host.ring(host.admin);
    host.settle();
    expect(host.poll(host.admin)).toEqual([]);
    host.registers.write32(spec.sqTailDoorbell(7, 0), 1);
    host.settle();
    const [event] = host.poll(host.admin);
    expect(event?.cid).toBe(first);
    expect(event?.result).toBe(
      spec.packEvent(spec.EventType.error, spec.ErrorEvent.invalidDoorbellRegister, 1),
    );
    // A second one of the same type is held back, whatever it is.
    host.registers.write32(spec.sqTailDoorbell(0, 0), 999);
    host.settle();
    expect(host.poll(host.admin)).toEqual([]);
    const log = { opcode: AdminOpcode.getLogPage, prp1: host.data(), nsid: spec.NSID_ALL };
    const retained = host.adminCommand({ ...log, cdw10: spec.packLogCdw10(1, 64, 1) });
    expect(retained.code).toBe(0);
    expect(spec.ErrorLog.SQID.get(viewOf(host.bytes(0, 64)))).toBe(0);
    host.write(host.admin, { ...log, cdw10: spec.packLogCdw10(1, 64) });
    host.ring(host.admin);
    host.settle();
    const done = host.poll(host.admin);
    expect(done).toHaveLength(2);
    expect(done.map(({ result }) => spec.EVENT_INFO.get(result)).sort()).toEqual([
      0,
      spec.ErrorEvent.invalidDoorbellValue,
    ]);
  });

  it("have a limit on requests", () => {
    const { host } = ready({ asyncEventRequests: 2 });
    for (let i = 0; i < 3; i++) host.write(host.admin, aer);
    host.ring(host.admin);
    host.settle();
    const done = host.poll(host.admin);
    expect(done).toHaveLength(1);
    expect(done[0]?.code).toBe(NvmeStatus.asyncEventLimitExceeded);
  });

  it("come when the temperature crosses its threshold, if enabled", () => {
    const { host, model } = ready();
    host.write(host.admin, aer);
    host.ring(host.admin);
    host.settle();
    model.setTemperature(400);
    host.settle();
    expect(host.poll(host.admin)).toEqual([]);
    const set = { opcode: AdminOpcode.setFeatures, cdw10: Feature.asyncEventConfiguration };
    expect(host.adminCommand({ ...set, cdw11: spec.SMART_WARNING_TEMPERATURE }).code).toBe(0);
    model.setTemperature(400);
    host.settle();
    const [event] = host.poll(host.admin);
    expect(spec.EVENT_TYPE.get(event?.result ?? 0)).toBe(spec.EventType.smart);
    expect(spec.EVENT_LID.get(event?.result ?? 0)).toBe(spec.LogPage.smart);
  });

  it("are forgotten by a reset, with their requests", () => {
    const { host, model } = ready();
    host.write(host.admin, aer);
    host.ring(host.admin);
    host.settle();
    expect(model.engine.inFlight).toBe(1);
    host.enable(0);
    expect(model.engine.inFlight).toBe(0);
    host.enable();
    expect(host.adminCommand({ opcode: AdminOpcode.keepAlive }).code).toBe(
      NvmeStatus.invalidOpcode,
    );
  });
});

describe("Abort", () => {
  const abort = (sqid: number, cid: number) => ({
    opcode: AdminOpcode.abort,
    cdw10: ((cid << 16) | sqid) >>> 0,
  });

  it("takes back an event request", () => {
    const { host } = ready();
    const cid = host.write(host.admin, { opcode: AdminOpcode.asyncEventRequest });
    host.ring(host.admin);
    host.settle();
    const abortCid = host.write(host.admin, abort(0, cid));
    host.ring(host.admin);
    host.settle();
    const done = host.poll(host.admin);
    expect(done.map((one) => [one.cid, one.code, one.result])).toEqual([
      [cid, NvmeStatus.abortRequested, 0],
      [abortCid, 0, 0],
    ]);
  });

  it("takes back an I/O command that a fault holds", () => {
    const rules = [{ opcode: spec.NvmOpcode.read, drop: true, count: 1 }];
    const { host } = ready({ faults: { seed: 1, rules } });
    const queue = host.createQueue(1, 16);
    const cid = host.write(queue, { opcode: spec.NvmOpcode.read, nsid: 1, prp1: host.data() });
    host.ring(queue);
    host.settle();
    expect(host.poll(queue)).toEqual([]);
    expect(host.adminCommand(abort(1, cid)).result).toBe(0);
    expect(host.poll(queue).map((one) => [one.cid, one.code])).toEqual([
      [cid, NvmeStatus.abortRequested],
    ]);
  });

  it("says so when the command is not there", () => {
    const { host } = ready();
    host.createQueue(1, 16);
    expect(host.adminCommand(abort(1, 77))).toMatchObject({ code: 0, result: 1 });
    expect(host.adminCommand(abort(9, 77)).code).toBe(NvmeStatus.invalidField);
  });
});

describe("Format NVM", () => {
  it("changes the format, clears the blocks and reports the change", () => {
    const { host } = ready();
    const queue = host.createQueue(1, 16);
    const set = { opcode: AdminOpcode.setFeatures, cdw10: Feature.asyncEventConfiguration };
    host.adminCommand({ ...set, cdw11: spec.OAES_NAMESPACE_ATTRIBUTE });
    host.bytes(0, 512).fill(0x5a);
    host.submit(queue, { opcode: spec.NvmOpcode.write, nsid: 1, prp1: host.data() });
    const format = spec.FORMAT_LBAFL.set(spec.FORMAT_PI.set(0, 1), 3);
    expect(host.adminCommand({ opcode: AdminOpcode.formatNvm, nsid: 1, cdw10: format }).code).toBe(
      0,
    );
    host.adminCommand({ opcode: AdminOpcode.identify, nsid: 1, prp1: host.data(4096) });
    const view = viewOf(host.bytes(4096, 4096));
    expect(spec.IdNs.NSZE.get(view)).toBe((16 * MIB) / 4096);
    expect(spec.DPS_TYPE.get(spec.IdNs.DPS.get(view))).toBe(1);
    const read = {
      opcode: spec.NvmOpcode.read,
      nsid: 1,
      prp1: host.data(8192),
      cdw12: (spec.PRACT | spec.PRCHK_GUARD) << 26,
    };
    expect(host.submit(queue, read).code).toBe(0);
    expect(host.bytes(8192, 4096).every((byte) => byte === 0)).toBe(true);
    const log = { opcode: AdminOpcode.getLogPage, prp1: host.data(), nsid: spec.NSID_ALL };
    host.adminCommand({ ...log, cdw10: spec.packLogCdw10(spec.LogPage.changedNamespaces, 4096) });
    expect(viewOf(host.bytes(0, 8)).getUint32(0, true)).toBe(1);
    host.adminCommand({ ...log, cdw10: spec.packLogCdw10(spec.LogPage.changedNamespaces, 4096) });
    expect(viewOf(host.bytes(0, 8)).getUint32(0, true)).toBe(0);
  });

  it("refuses impossible formats and read-only namespaces", () => {
    const { host } = ready({
      namespaces: [{ sizeBytes: MIB }, { sizeBytes: MIB, readOnly: true }],
    });
    const format = (cdw10: number, nsid = 1) =>
      host.adminCommand({ opcode: AdminOpcode.formatNvm, nsid, cdw10 }).code;
    expect(format(9)).toBe(NvmeStatus.invalidFormat);
    expect(format(spec.FORMAT_PI.set(0, 1))).toBe(NvmeStatus.invalidFormat);
    expect(format(spec.FORMAT_PI.set(2, 5))).toBe(NvmeStatus.invalidFormat);
    expect(format(spec.FORMAT_MSET.set(0, 1))).toBe(NvmeStatus.invalidFormat);
    expect(format(spec.FORMAT_SES.set(0, 3))).toBe(NvmeStatus.invalidField);
    expect(format(0, 3)).toBe(NvmeStatus.invalidNamespaceOrFormat);
    expect(format(1, 2)).toBe(NvmeStatus.namespaceWriteProtected);
    expect(format(1, spec.NSID_ALL)).toBe(NvmeStatus.namespaceWriteProtected);
    expect(format(1)).toBe(0);
  });
});

describe("commands that are left out", () => {
  it("are Invalid Opcode", () => {
    const { host } = ready();
    for (const opcode of [0x0d, 0x10, 0x11, 0x14, 0x15, 0x18, 0x1c, 0x7f, 0x84, 0xff]) {
      expect(host.adminCommand({ opcode }).code).toBe(NvmeStatus.invalidOpcode);
    }
  });
});
