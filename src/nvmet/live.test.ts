/**
 * Configuration that changes while hosts are connected: namespaces that appear, go, grow and move
 * between ANA groups, hosts that may and may not, discovery that tells of it.
 */
import { describe, expect, it } from "vitest";
import {
  HOST_NQN,
  loopHarness,
  SUBSYSTEM_NQN,
  type TransportHarness,
} from "../../testing/nvmet-harness.ts";
import { Bench, quiesce } from "../../testing/nvmet-transport-contract.ts";
import { viewOf } from "../core/index.ts";
import {
  AnaGroup,
  AnaHeader,
  AnaState,
  Cns,
  IdCtrl,
  LogPage,
  NvmeStatus,
  NvmOpcode,
  OAES_ANA_CHANGE,
  OAES_DISCOVERY_CHANGE,
  OAES_NAMESPACE_ATTRIBUTE,
  STATUS_DNR,
} from "../spec/nvme/index.ts";
import { DISCOVERY_NQN, TransportType } from "../spec/nvmf/index.ts";

const DNR = STATUS_DNR;
const OTHER_HOST = "nqn.2026-11.test.peerlane:other";
const NAMESPACE_EVENT = 0x04_00_02;
const ANA_EVENT = 0x0c_03_02;
const DISCOVERY_EVENT = 0x70_f0_02;

async function listening(harness: TransportHarness, mask: number, options = {}) {
  const bench = await Bench.open(harness, options);
  const events: number[] = [];
  bench.host.onEvent = (event) => events.push(event);
  await bench.settle(bench.host.enableEvents(mask));
  return { bench, events };
}

const nsids = ({ host }: Bench) => host.namespaces.map(({ nsid }) => nsid);

describe("namespaces", () => {
  it("are seen by the hosts on their list alone, and appear and go with it", async () => {
    const harness = loopHarness();
    harness.subsystem.allowHost(OTHER_HOST);
    const secret = harness.addNamespace(2);
    harness.subsystem.setNamespaceHosts(secret, [OTHER_HOST]);
    harness.subsystem.enable(secret);
    const mine = await listening(harness, OAES_NAMESPACE_ATTRIBUTE);
    const other = await listening(harness, OAES_NAMESPACE_ATTRIBUTE, { hostNqn: OTHER_HOST });
    expect(nsids(mine.bench)).toEqual([1]);
    expect(nsids(other.bench)).toEqual([1, 2]);
    const data = await mine.bench.data(4096);
    const read = mine.bench.command(NvmOpcode.read, 0, 8, data);
    read.nsid = 2;
    expect(mine.bench.run(read)).toBe(NvmeStatus.invalidNamespaceOrFormat | DNR);
    harness.subsystem.setNamespaceHosts(secret, null);
    await quiesce(harness);
    expect([mine.events, other.events]).toEqual([[NAMESPACE_EVENT], []]);
    expect(mine.bench.run(read)).toBe(0);
    harness.subsystem.setNamespaceHosts(secret, [HOST_NQN]);
    await quiesce(harness);
    expect(other.events).toEqual([NAMESPACE_EVENT]);
    await other.bench.settle(other.bench.host.identifyNamespaces());
    expect(nsids(other.bench)).toEqual([1]);
  });

  it("are resized, which hosts hear of", async () => {
    const harness = loopHarness();
    const { bench, events } = await listening(harness, OAES_NAMESPACE_ATTRIBUTE);
    const { blocks } = harness.namespace;
    harness.subsystem.resize(harness.namespace, blocks / 2);
    await quiesce(harness);
    expect(events).toEqual([NAMESPACE_EVENT]);
    const data = await bench.data(4096);
    expect(bench.io(NvmOpcode.read, blocks / 2, 8, data)).toBe(NvmeStatus.lbaOutOfRange | DNR);
    await bench.settle(bench.host.identifyNamespaces());
    expect(bench.host.namespaces[0]?.blocks).toBe(blocks / 2);
    harness.subsystem.resize(harness.namespace);
    expect(bench.io(NvmOpcode.read, blocks / 2, 8, data)).toBe(0);
    expect(() => harness.subsystem.resize(harness.namespace, blocks + 1)).toThrow(/no size/);
    expect(() => harness.subsystem.resize(harness.namespace, 0)).toThrow(/no size/);
  });

  it("are removed with I/O in flight, which ends by itself", async () => {
    const harness = loopHarness();
    const second = harness.addNamespace(2);
    harness.subsystem.enable(second);
    const bench = await Bench.open(harness);
    const data = await bench.data(4096);
    const write = bench.command(NvmOpcode.write, 0, 8, data);
    write.nsid = 2;
    harness.stall(true);
    bench.queue.submit(write);
    bench.queue.kick();
    for (let i = 0; i < 5; i++) harness.reactor.round();
    expect(second.inFlight).toBe(1);
    harness.subsystem.removeNamespace(second);
    expect(harness.subsystem.namespace(2)).toBeNull();
    expect(harness.target.inspect()["namespacesLeaving"]).toBe(1);
    harness.stall(false);
    await quiesce(harness);
    expect([write.status, second.inFlight]).toEqual([0, 0]);
    expect(harness.target.inspect()["namespacesLeaving"]).toBe(0);
    expect(bench.run(write)).toBe(NvmeStatus.invalidNamespaceOrFormat | DNR);
    harness.addNamespace(2);
  });

  it("refuse writes while they are protected, and take flushes", async () => {
    const harness = loopHarness();
    const bench = await Bench.open(harness);
    const data = await bench.data(4096);
    const refused = NvmeStatus.namespaceWriteProtected | DNR;
    harness.subsystem.setReadOnly(harness.namespace, true);
    const writes = [NvmOpcode.write, NvmOpcode.writeZeroes, NvmOpcode.datasetManagement];
    for (const opcode of writes) {
      expect(bench.io(opcode, 0, 8, opcode === NvmOpcode.write ? data : null)).toBe(refused);
    }
    expect(bench.io(NvmOpcode.read, 0, 8, data)).toBe(0);
    expect(bench.io(NvmOpcode.flush, 0, 1, null)).toBe(0);
    harness.subsystem.setReadOnly(harness.namespace, false);
    expect(bench.io(NvmOpcode.write, 0, 8, data)).toBe(0);
  });
});

describe("asymmetric access", () => {
  it.each([
    [AnaState.inaccessible, NvmeStatus.anaInaccessible],
    [AnaState.persistentLoss, NvmeStatus.anaPersistentLoss],
    [AnaState.change, NvmeStatus.anaTransition],
    [AnaState.nonOptimized, NvmeStatus.success],
  ])("state %i answers I/O with %i, in its group alone", async (state, status) => {
    const harness = loopHarness();
    const second = harness.addNamespace(2);
    harness.subsystem.setAnaGroup(second, 7);
    harness.subsystem.enable(second);
    const { bench, events } = await listening(harness, OAES_ANA_CHANGE);
    const data = await bench.data(4096);
    harness.target.setAnaState(harness.port, 7, state);
    await quiesce(harness);
    expect(events).toEqual([ANA_EVENT]);
    const read = bench.command(NvmOpcode.read, 0, 8, data);
    expect(bench.run(read)).toBe(0);
    read.nsid = 2;
    expect(bench.run(read)).toBe(status);
    const flush = bench.command(NvmOpcode.flush, 0, 1, null);
    flush.nsid = 2;
    expect(bench.run(flush)).toBe(status);
    // A group without namespaces of this host changes nothing for it.
    harness.target.setAnaState(harness.port, 9, AnaState.inaccessible);
    harness.subsystem.setAnaGroup(second, 1);
    expect(bench.run(read)).toBe(0);
  });

  it("lists groups, their states and members; without members on request", async () => {
    const harness = loopHarness();
    for (const [nsid, group] of [
      [2, 3],
      [3, 1],
    ]) {
      const namespace = harness.addNamespace(nsid);
      harness.subsystem.setAnaGroup(namespace, group);
      harness.subsystem.enable(namespace);
    }
    harness.target.setAnaState(harness.port, 3, AnaState.nonOptimized);
    const bench = await Bench.open(harness);
    const view = viewOf(await bench.settle(bench.host.logPage(LogPage.ana, 256)));
    expect(AnaHeader.NGRPS.get(view)).toBe(2);
    const first = { id: AnaGroup.AGID.get(view, 16), state: AnaGroup.STATE.get(view, 16) };
    expect(first).toEqual({ id: 1, state: AnaState.optimized });
    expect(AnaGroup.NNSV.get(view, 16)).toBe(2);
    expect([view.getUint32(48, true), view.getUint32(52, true)]).toEqual([1, 3]);
    expect(AnaGroup.AGID.get(view, 56)).toBe(3);
    expect(AnaGroup.STATE.get(view, 56)).toBe(AnaState.nonOptimized);
    expect(AnaGroup.CHGCNT.get(view, 56)).toBe(1);
    expect(view.getUint32(88, true)).toBe(2);
  });

  it("refuses groups and states that do not exist", () => {
    const harness = loopHarness();
    const { target, port, subsystem, namespace } = harness;
    expect(() => target.setAnaState(port, 0, AnaState.optimized)).toThrow(/ANA group/);
    expect(() => target.setAnaState(port, 129, AnaState.optimized)).toThrow(/ANA group/);
    expect(() => target.setAnaState(port, 1, 5)).toThrow(/ANA state/);
    expect(() => subsystem.setAnaGroup(namespace, 0)).toThrow(/ANA group/);
  });
});

describe("discovery", () => {
  const discovery = { subsystemNqn: DISCOVERY_NQN };

  it("tells of what changed for this host, and once until the log is read", async () => {
    const harness = loopHarness();
    const { target, port, subsystem } = harness;
    const mine = await listening(harness, OAES_DISCOVERY_CHANGE, discovery);
    const other = await listening(harness, OAES_DISCOVERY_CHANGE, {
      ...discovery,
      hostNqn: OTHER_HOST,
    });
    subsystem.allowHost(OTHER_HOST);
    await quiesce(harness);
    expect([mine.events, other.events]).toEqual([[], [DISCOVERY_EVENT]]);
    const entries = await other.bench.settle(other.bench.host.discoveryLog());
    expect(entries.map(({ subsystemNqn }) => subsystemNqn)).toContain(SUBSYSTEM_NQN);
    subsystem.disallowHost(OTHER_HOST);
    await quiesce(harness);
    expect(other.events.length).toBe(2);
    const referral = {
      transport: TransportType.TCP,
      address: "10.0.0.9",
      serviceId: "8009",
      portId: 4,
      nqn: "nqn.2026-11.test.peerlane:elsewhere",
    };
    target.addReferral(port, referral);
    await quiesce(harness);
    expect(mine.events).toEqual([DISCOVERY_EVENT]);
    const log = await mine.bench.settle(mine.bench.host.discoveryLog());
    expect(log.at(-1)).toMatchObject({
      subsystemType: 1,
      address: "10.0.0.9",
      serviceId: "8009",
      subsystemNqn: referral.nqn,
    });
    target.removeReferral(port, referral);
    await quiesce(harness);
    expect(mine.events.length).toBe(2);
  });

  it("has a name of its own, and answers to the well-known one as well", async () => {
    const harness = loopHarness();
    const name = "nqn.2026-11.test.peerlane:discovery";
    harness.target.discoveryNqn = name;
    for (const subsystemNqn of [name, DISCOVERY_NQN]) {
      const bench = await Bench.open(harness, { subsystemNqn });
      const [own] = await bench.settle(bench.host.discoveryLog());
      expect(own).toMatchObject({ subsystemType: 3, subsystemNqn: name });
      const controller = viewOf(await bench.settle(bench.host.identify(Cns.controller, 0)));
      expect(IdCtrl.SUBNQN.get(controller)).toBe(name);
      expect(IdCtrl.CNTRLTYPE.get(controller)).toBe(2);
    }
    expect(() => harness.target.addSubsystem({ nqn: name })).toThrow(/discovery/);
    expect(() => harness.target.addSubsystem({ nqn: DISCOVERY_NQN })).toThrow(/discovery/);
    expect(() => {
      harness.target.discoveryNqn = SUBSYSTEM_NQN;
    }).toThrow(/already/);
  });

  it("loses a port with its controllers, and a host that is told to go", async () => {
    const harness = loopHarness();
    const bench = await Bench.open(harness);
    expect(harness.subsystem.disconnectHost(HOST_NQN)).toBe(1);
    await quiesce(harness);
    expect(bench.host.ended).toMatch(/administrator/);
    const again = await Bench.open(harness);
    harness.target.removePort(harness.port);
    await quiesce(harness);
    expect(again.host.ended).toMatch(/port removed/);
    expect([...harness.target.allPorts()]).toEqual([]);
    expect(harness.target.isIdle).toBe(true);
  });
});
