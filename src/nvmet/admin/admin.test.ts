/**
 * Fabrics and admin commands, row by row: which status each field out of place has, what is
 * refused, what Identify, log pages and features answer. NVM Express Base Specification 2.0,
 * sections 5 and 6.
 */
import { describe, expect, it } from "vitest";
import { HOST_NQN, loopHarness, SUBSYSTEM_NQN } from "../../../testing/nvmet-harness.ts";
import { Bench, quiesce } from "../../../testing/nvmet-transport-contract.ts";
import { encodeLayout, PeerlaneError, viewOf } from "../../core/index.ts";
import {
  AdminOpcode,
  AnaState,
  Cns,
  Feature,
  FeatureSelect,
  IdCtrl,
  LogPage,
  NSID_ALL,
  NvmeStatus,
  NvmOpcode,
  OAES_ANA_CHANGE,
  STATUS_DNR,
  statusCode,
} from "../../spec/nvme/index.ts";
import {
  CONNECT_SQE,
  DISCOVERY_NQN,
  encodeConnectData,
  FABRICS_OPCODE,
  FabricsSc,
  FabricsType,
} from "../../spec/nvmf/index.ts";
import { execute } from "../host/admin.ts";
import { HostQueue, type NvmfHost } from "../index.ts";

const S = NvmeStatus;
const DNR = STATUS_DNR;
const fabrics = (code: number): number => 0x100 | code | DNR;

/** Status and dword 0 of what an operation throws; 0 when it succeeds. */
async function outcome(promise: Promise<unknown>): Promise<{ status: number; result0: number }> {
  try {
    await promise;
    return { status: 0, result0: 0 };
  } catch (error) {
    if (error instanceof PeerlaneError) {
      return error.details as unknown as { status: number; result0: number };
    }
    throw error;
  }
}

interface Connect {
  readonly qid: number;
  readonly sqsize: number;
  readonly recfmt: number;
  readonly kato: number;
  readonly dataBytes: number;
  readonly cntlid: number;
  readonly hostId: number;
  readonly hostNqn: string;
  readonly subsystemNqn: string;
}
const GOOD: Connect = {
  qid: 0,
  sqsize: 31,
  recfmt: 0,
  kato: 0,
  dataBytes: 1024,
  cntlid: 0xffff,
  hostId: 1,
  hostNqn: HOST_NQN,
  subsystemNqn: SUBSYSTEM_NQN,
};

/** A Connect command of any kind on a connection of its own. */
async function connect(bench: Bench, change: Partial<Connect>) {
  const values = { ...GOOD, ...change };
  const { transport } = bench.host.options;
  const channel = await bench.settle(
    transport.connect({ qid: values.qid, depth: 64, cntlid: values.cntlid, inCapsuleBytes: 0 }),
  );
  const queue = new HostQueue(values.qid, 64, channel);
  bench.harness.reactor.add({ poll: () => queue.poll() });
  const data = await bench.data(2048);
  const hostId = new Uint8Array(16);
  hostId[15] = values.hostId;
  encodeConnectData({ ...values, hostId }, data.bytes);
  const raw = new Uint8Array(64);
  const { qid: QID, sqsize: SQSIZE, recfmt: RECFMT, kato: KATO } = values;
  encodeLayout(CONNECT_SQE, { FCTYPE: FabricsType.CONNECT, QID, SQSIZE, RECFMT, KATO }, raw);
  const run = execute(
    queue,
    (command) => {
      command.opcode = FABRICS_OPCODE;
      command.raw = raw;
      command.setData(data.buffer, 0, values.dataBytes);
    },
    "Connect",
  );
  return outcome(bench.settle(run));
}

const admin = (
  bench: Bench,
  opcode: number,
  dwords: number[],
  nsid = 0,
  dataBytes = 0,
): ReturnType<NvmfHost["admin"]> =>
  bench.settle(bench.host.admin({ opcode, nsid, dwords, dataBytes }));

describe("Connect", () => {
  const INVALID = fabrics(FabricsSc.CONNECT_INVALID_PARAMETERS);
  const inData = (offset: number) => offset | 0x1_0000;

  it.each<[string, Partial<Connect>, number, number]>([
    ["works", {}, 0, 0],
    ["a record format", { recfmt: 1 }, fabrics(FabricsSc.CONNECT_INCOMPATIBLE_FORMAT), 0],
    ["SQSIZE 0", { sqsize: 0 }, INVALID, 44],
    ["SQSIZE too large", { sqsize: 64 }, INVALID, 44],
    ["data too short", { dataBytes: 512 }, S.dataSglLengthInvalid | DNR, 0],
    ["a controller of the static model", { cntlid: 0xfffe }, INVALID, inData(16)],
    ["a controller by number", { cntlid: 7 }, INVALID, inData(16)],
    ["a host without a name", { hostNqn: "" }, INVALID, inData(512)],
    ["a host with a bad name", { hostNqn: "me" }, INVALID, inData(512)],
    ["a subsystem that is not there", { subsystemNqn: `${SUBSYSTEM_NQN}x` }, INVALID, inData(256)],
    [
      "a host that may not",
      { hostNqn: `${HOST_NQN}x` },
      fabrics(FabricsSc.CONNECT_INVALID_HOST),
      0,
    ],
    ["an I/O queue of no controller", { qid: 1, cntlid: 999 }, INVALID, inData(16)],
  ])("Admin Queue: %s", async (_what, change, status, result0) => {
    const bench = await Bench.open(loopHarness());
    expect(await connect(bench, change)).toMatchObject({ status, result0 });
  });

  it.each<[string, Partial<Connect>, number, number]>([
    ["works", { qid: 2 }, 0, 0],
    ["twice", { qid: 1 }, S.commandSequenceError | DNR, 0],
    ["one more than was granted", { qid: 4 }, INVALID, 42],
    ["of another host", { qid: 2, hostNqn: `${HOST_NQN}y` }, INVALID, inData(512)],
    ["with another host identifier", { qid: 2, hostId: 2 }, INVALID, inData(0)],
    ["SQSIZE 0", { qid: 2, sqsize: 0 }, INVALID, 44],
  ])("I/O queue: %s", async (_what, change, status, result0) => {
    const harness = loopHarness();
    harness.subsystem.allowHost(`${HOST_NQN}y`);
    const bench = await Bench.open(harness);
    const { cntlid } = bench.host;
    // This host asked for one; as if it had asked for three.
    const [controller] = harness.target.allControllers();
    if (controller === undefined) throw new Error("a host that connected has a controller");
    expect(controller.queuesGranted).toBe(1);
    controller.queuesGranted = 3;
    expect(await connect(bench, { cntlid, ...change })).toMatchObject({ status, result0 });
  });

  it("a discovery controller ends after two idle minutes, or as its timer says", async () => {
    const harness = loopHarness();
    const idle = await Bench.open(harness, { subsystemNqn: DISCOVERY_NQN });
    const alive = await Bench.open(harness, { subsystemNqn: DISCOVERY_NQN, keepAliveMs: 60_000 });
    // What it did to connect counts as a sign of life, once.
    for (let i = 0; i < 10; i++) {
      harness.advance(30e9);
      await quiesce(harness);
    }
    expect(idle.host.ended).toMatch(/keep-alive/);
    expect(alive.host.ended).toBeNull();
  });

  it("a reset takes I/O queues away before it is over, and they may come again", async () => {
    const harness = loopHarness();
    const bench = await Bench.open(harness);
    const [controller] = harness.target.allControllers();
    harness.stall(true);
    bench.queue.submit(bench.command(NvmOpcode.write, 0, 8, await bench.data(4096)));
    bench.queue.kick();
    for (let i = 0; i < 5; i++) harness.reactor.round();
    const cc = controller?.properties.get(0x14, 0).lo ?? 0;
    const effect = controller?.properties.set(0x14, 0, cc & ~1).effect ?? "none";
    controller?.propertyEffect(effect);
    for (let i = 0; i < 5; i++) harness.reactor.round();
    expect(controller?.properties.get(0x1c, 0).lo).toBe(1);
    harness.stall(false);
    await quiesce(harness);
    expect(controller?.properties.get(0x1c, 0).lo).toBe(0);
    controller?.propertyEffect(controller.properties.set(0x14, 0, cc).effect);
    const { cntlid } = bench.host;
    expect((await connect(bench, { qid: 1, cntlid })).status).toBe(0);
  });
});

describe("admin commands that are refused", () => {
  const REFUSED = [
    AdminOpcode.deleteIoSq,
    AdminOpcode.createIoSq,
    AdminOpcode.deleteIoCq,
    AdminOpcode.createIoCq,
    AdminOpcode.namespaceManagement,
    AdminOpcode.firmwareCommit,
    AdminOpcode.firmwareImageDownload,
    AdminOpcode.deviceSelfTest,
    AdminOpcode.namespaceAttachment,
    AdminOpcode.directiveSend,
    AdminOpcode.directiveReceive,
    AdminOpcode.virtualizationManagement,
    AdminOpcode.nvmeMiSend,
    AdminOpcode.nvmeMiReceive,
    AdminOpcode.capacityManagement,
    AdminOpcode.lockdown,
    AdminOpcode.doorbellBufferConfig,
    AdminOpcode.formatNvm,
    AdminOpcode.securitySend,
    AdminOpcode.securityReceive,
    AdminOpcode.sanitize,
    AdminOpcode.getLbaStatus,
    0xc0,
  ];

  it("answer Invalid Opcode, with data or without, and Identify announces none", async () => {
    const bench = await Bench.open(loopHarness());
    for (const opcode of REFUSED) {
      for (const dataBytes of [0, 512]) {
        const { status } = await outcome(admin(bench, opcode, [], 1, dataBytes));
        expect([opcode, status]).toEqual([opcode, S.invalidOpcode | DNR]);
      }
    }
    const view = viewOf(await bench.settle(bench.host.identify(Cns.controller, 0)));
    expect([IdCtrl.OACS.get(view), IdCtrl.SANICAP.get(view)]).toEqual([0, 0]);
    const errors = await bench.settle(bench.host.logPage(LogPage.errorInformation, 64));
    // The newest entry: of the last command.
    expect(viewOf(errors).getUint32(0, true)).toBe(2 * REFUSED.length);
    expect(errors[31]).toBe(0xc0);
  });
});

describe("Identify", () => {
  it.each<[string, number, number, number]>([
    ["namespace", Cns.namespace, 1, 0],
    ["inactive namespace", Cns.namespace, 5, 0],
    ["namespace 0", Cns.namespace, 0, S.invalidNamespaceOrFormat],
    ["namespace beyond NN", Cns.namespace, 1025, S.invalidNamespaceOrFormat],
    ["all namespaces", Cns.namespace, NSID_ALL, S.invalidNamespaceOrFormat],
    ["controller", Cns.controller, 0, 0],
    ["active list", Cns.activeNamespaces, 0, 0],
    ["active list above the last", Cns.activeNamespaces, 0xffff_fffe, S.invalidNamespaceOrFormat],
    ["descriptors", Cns.namespaceDescriptors, 1, 0],
    ["descriptors of nothing", Cns.namespaceDescriptors, 5, S.invalidNamespaceOrFormat],
    ["NVM set list", Cns.nvmSetList, 0, S.invalidField],
    ["namespace, NVM", Cns.namespaceForCsi, 1, 0],
    ["controller, NVM", Cns.controllerForCsi, 0, 0],
    ["active list, NVM", Cns.activeNamespacesForCsi, 0, 0],
    ["namespace, independent", Cns.namespaceIndependent, 1, 0],
    ["allocated list", Cns.allocatedNamespaces, 0, 0],
    ["allocated namespace", Cns.allocatedNamespace, 1, 0],
    ["controllers of a namespace", Cns.controllersOfNamespace, 1, 0],
    ["controllers", Cns.controllers, 0, 0],
    ["primary controller", Cns.primaryController, 0, S.invalidField],
    ["UUID list", Cns.uuidList, 0, S.invalidField],
    ["I/O command sets", Cns.ioCommandSets, 0, 0],
    ["reserved", 0xff, 0, S.invalidField],
  ])("%s", async (_what, cns, nsid, status) => {
    const bench = await Bench.open(loopHarness());
    const got = await outcome(bench.settle(bench.host.identify(cns, nsid)));
    expect(statusCode(got.status)).toBe(status);
  });

  it("lists the controllers that see a namespace, from a number on", async () => {
    const harness = loopHarness();
    harness.subsystem.allowHost(`${HOST_NQN}2`);
    const [a, b] = [
      await Bench.open(harness),
      await Bench.open(harness, { hostNqn: `${HOST_NQN}2` }),
    ];
    harness.subsystem.setNamespaceHosts(harness.namespace, [HOST_NQN]);
    const list = async (cns: number, from: number) => {
      const cdw10 = cns | (from << 16);
      const view = viewOf((await admin(a, AdminOpcode.identify, [cdw10], 1, 4096)).data);
      const count = view.getUint16(0, true);
      return Array.from({ length: count }, (_, i) => view.getUint16(2 + 2 * i, true));
    };
    const [mine, other] = [a.host.cntlid, b.host.cntlid];
    expect(await list(Cns.controllers, 0)).toEqual([mine, other]);
    expect(await list(Cns.controllers, other)).toEqual([other]);
    expect(await list(Cns.controllersOfNamespace, 0)).toEqual([mine]);
  });
});

describe("log pages", () => {
  it.each<[string, number, number, number]>([
    ["supported log pages", LogPage.supportedLogPages, 0, 0],
    ["errors", LogPage.errorInformation, 0, 0],
    ["SMART of all", LogPage.smart, NSID_ALL, 0],
    ["SMART of one", LogPage.smart, 1, 0],
    ["SMART of none", LogPage.smart, 9, S.invalidNamespaceOrFormat],
    ["firmware slots", LogPage.firmwareSlot, 0, 0],
    ["changed namespaces", LogPage.changedNamespaces, 0, 0],
    ["effects", LogPage.commandEffects, 0, 0],
    ["self-test", LogPage.deviceSelfTest, 0, S.invalidLogPage],
    ["telemetry of the host", LogPage.telemetryHost, 0, S.invalidLogPage],
    ["telemetry of the controller", LogPage.telemetryController, 0, S.invalidLogPage],
    ["endurance group", LogPage.enduranceGroup, 0, S.invalidLogPage],
    ["ANA", LogPage.ana, 0, 0],
    ["persistent events", LogPage.persistentEvent, 0, S.invalidLogPage],
    ["discovery", LogPage.discovery, 0, S.invalidLogPage],
    ["reservations", LogPage.reservationNotification, 0, 0],
    ["sanitize", LogPage.sanitizeStatus, 0, S.invalidLogPage],
    ["reserved", 0xff, 0, S.invalidLogPage],
  ])("%s", async (_what, lid, nsid, status) => {
    const bench = await Bench.open(loopHarness());
    const got = await outcome(bench.settle(bench.host.logPage(lid, 512, 0, nsid)));
    expect(statusCode(got.status)).toBe(status);
    const supported = viewOf(
      await bench.settle(bench.host.logPage(LogPage.supportedLogPages, 1024)),
    );
    if (nsid !== 9) expect(supported.getUint32(4 * lid, true) & 1).toBe(status === 0 ? 1 : 0);
  });

  it("start at an offset of whole dwords, inside the page", async () => {
    const bench = await Bench.open(loopHarness());
    const at = (offset: number) =>
      outcome(bench.settle(bench.host.logPage(LogPage.commandEffects, 64, offset)));
    expect((await at(4096)).status).toBe(0);
    expect((await at(4100)).status).toBe(S.invalidField | DNR);
    expect((await at(2)).status).toBe(S.invalidField | DNR);
  });

  it("of discovery are those of discovery", async () => {
    const bench = await Bench.open(loopHarness(), { subsystemNqn: DISCOVERY_NQN });
    for (const [lid, status] of [
      [LogPage.discovery, 0],
      [LogPage.supportedLogPages, 0],
      [LogPage.smart, S.invalidLogPage],
      [LogPage.ana, S.invalidLogPage],
    ]) {
      const got = await outcome(bench.settle(bench.host.logPage(lid, 1024)));
      expect([lid, statusCode(got.status)]).toEqual([lid, status]);
    }
    const { status } = await outcome(bench.settle(bench.host.identify(Cns.activeNamespaces, 0)));
    expect(status).toBe(S.invalidField | DNR);
  });
});

describe("features", () => {
  it.each<[string, number, number, number, number]>([
    ["arbitration", Feature.arbitration, 0, 3, 0],
    ["arbitration, reserved bits", Feature.arbitration, 0, 0x10, S.invalidField],
    ["power state 0", Feature.powerManagement, 0, 0, 0],
    ["power state 1", Feature.powerManagement, 0, 1, S.invalidField],
    ["temperature", Feature.temperatureThreshold, 0, 350, 0],
    ["temperature of a sensor", Feature.temperatureThreshold, 0, 0x1_0000, S.invalidField],
    ["error recovery", Feature.errorRecovery, 1, 5, 0],
    ["error recovery, DULBE", Feature.errorRecovery, 1, 0x1_0000, S.invalidField],
    ["error recovery of nothing", Feature.errorRecovery, 7, 0, S.invalidNamespaceOrFormat],
    ["write cache on", Feature.volatileWriteCache, 0, 1, 0],
    ["write cache off", Feature.volatileWriteCache, 0, 0, 0],
    ["queues after they were made", Feature.numberOfQueues, 0, 0, S.commandSequenceError],
    ["write atomicity", Feature.writeAtomicity, 0, 1, 0],
    ["events", Feature.asyncEventConfiguration, 0, OAES_ANA_CHANGE, 0],
    ["events of discovery", Feature.asyncEventConfiguration, 0, 0x8000_0000, S.invalidField],
    ["keep-alive", Feature.keepAliveTimer, 0, 250, 0],
    ["keep-alive of a namespace", Feature.keepAliveTimer, 1, 250, S.featureNotNamespaceSpecific],
    ["host identifier", Feature.hostIdentifier, 0, 1, S.commandSequenceError],
    ["reservation mask", Feature.reservationNotificationMask, 1, 0xe, 0],
    ["reservation mask of all", Feature.reservationNotificationMask, NSID_ALL, 2, 0],
    ["reservation mask, reserved", Feature.reservationNotificationMask, 1, 1, S.invalidField],
    ["persistence without a file", Feature.reservationPersistence, 1, 1, S.invalidField],
    ["write protection", Feature.namespaceWriteProtection, 1, 1, 0],
    ["write protection for good", Feature.namespaceWriteProtection, 1, 3, S.invalidField],
    ["host memory buffer", Feature.hostMemoryBuffer, 0, 1, S.invalidField],
    ["timestamp", Feature.timestamp, 0, 0, S.invalidField],
    ["reserved", 0x00, 0, 0, S.invalidField],
  ])("%s", async (_what, fid, nsid, value, status) => {
    const bench = await Bench.open(loopHarness());
    const set = await outcome(admin(bench, AdminOpcode.setFeatures, [fid, value], nsid));
    expect(statusCode(set.status)).toBe(status);
    if (status !== 0 || nsid === NSID_ALL) return;
    // Its value is what was set; keep-alive in the units of KAS.
    const wanted = fid === Feature.keepAliveTimer ? 300 : value;
    const got = await admin(bench, AdminOpcode.getFeatures, [fid], nsid);
    expect(got.result0).toBe(wanted >>> 0);
    const saved = await outcome(
      admin(bench, AdminOpcode.setFeatures, [(fid | 0x8000_0000) >>> 0, value], nsid),
    );
    expect(statusCode(saved.status)).toBe(S.featureNotSaveable);
    const capabilities = [fid | (FeatureSelect.supported << 8)];
    const caps = (await admin(bench, AdminOpcode.getFeatures, capabilities, nsid)).result0;
    expect(caps & 1).toBe(0);
    expect((caps & 2) !== 0).toBe(nsid !== 0);
  });

  it("of a namespace are answered with the state of its path", async () => {
    const harness = loopHarness();
    const bench = await Bench.open(harness);
    harness.target.setAnaState(harness.port, 1, AnaState.inaccessible);
    for (const opcode of [AdminOpcode.setFeatures, AdminOpcode.getFeatures]) {
      const { status } = await outcome(admin(bench, opcode, [Feature.errorRecovery, 0], 1));
      expect(status).toBe(S.anaInaccessible);
    }
  });

  it("a threshold below the temperature warns, in an event and in SMART", async () => {
    const harness = loopHarness();
    const bench = await Bench.open(harness);
    const events: number[] = [];
    bench.host.onEvent = (event) => events.push(event);
    const temperature = 2;
    await bench.settle(bench.host.enableEvents(temperature));
    await admin(bench, AdminOpcode.setFeatures, [Feature.temperatureThreshold, 300]);
    await quiesce(harness);
    expect(events).toEqual([0x02_01_01]);
    const smart = await bench.settle(bench.host.logPage(LogPage.smart, 512, 0, NSID_ALL));
    expect(smart[0]).toBe(temperature);
  });
});
