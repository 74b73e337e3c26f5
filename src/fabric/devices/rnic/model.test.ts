/**
 * The model RNIC seen from its registers, without the driver: what a driver with errors, or none at
 * all, can do to it.
 */

import { describe, expect, it } from "vitest";
import { FakePort } from "../../../../testing/fake-port.ts";
import { DmaStatus, encodeLayout, type LayoutValues, setU64LE } from "../../../core/index.ts";
import {
  Access,
  CREATE_CQ_IN,
  CREATE_MR_IN,
  CREATE_QP_IN,
  GSI_QPN,
  MAILBOX_OUTPUT,
  MODIFY_QP_IN,
  ONE_OBJECT_IN,
  QpAttr,
  QpState,
  QpType,
  RNIC_SIGNATURE,
  RnicCmdSts,
  RnicCommand,
  RnicCommandStatus,
  RnicDoorbell,
  RnicHeader,
  RnicReg,
} from "../../../spec/rdma/index.ts";
import type { RegisterHandler } from "../../device.ts";
import { InProcessWire } from "./in-process-wire.ts";
import { RnicModel } from "./model.ts";

const MAILBOX = 0;
const RINGS = 0x10000;

class Rig {
  readonly port = new FakePort();
  readonly model: RnicModel;
  readonly header: RegisterHandler;
  readonly registers: RegisterHandler;
  readonly doorbells: RegisterHandler;

  constructor(barBytes = 32 * 1024 * 1024) {
    this.model = new RnicModel({ barBytes, wire: new InProcessWire(), address: "10.0.0.1" });
    this.model.attach(this.port);
    const parts = this.model.barRegions();
    const at = (offset: number): RegisterHandler => {
      const part = parts.find((region) => region.offset === offset);
      if (part?.registers == null) throw new Error("no registers there");
      return part.registers;
    };
    this.header = at(0);
    this.registers = at(this.header.read32(RnicHeader.registers));
    this.doorbells = at(this.header.read32(RnicHeader.doorbells));
  }

  enable(): this {
    this.registers.write32(RnicReg.CTRL, 1);
    const mailbox = this.port.base + MAILBOX;
    this.registers.write32(RnicReg.MBOXLO, mailbox >>> 0);
    this.registers.write32(RnicReg.MBOXHI, Math.floor(mailbox / 2 ** 32));
    return this;
  }

  /** Runs a command; its status code. */
  command(opcode: number, layout = ONE_OBJECT_IN, values: LayoutValues = {}): number {
    encodeLayout(layout, values, this.port.memory, MAILBOX);
    this.registers.write32(RnicReg.CMD, opcode);
    return RnicCmdSts.code.get(this.registers.read32(RnicReg.CMDSTS));
  }

  /** What the last command made. */
  get made(): number {
    return this.port.view.getUint32(MAILBOX + MAILBOX_OUTPUT, true);
  }

  createQp(more: LayoutValues = {}): number {
    const ring = this.port.base + RINGS;
    expect(this.command(RnicCommand.allocPd)).toBe(RnicCommandStatus.ok);
    const pd = this.made;
    const cq = { depthLog: 4, ring, record: ring + 0x1000, vector: 3 };
    expect(this.command(RnicCommand.createCq, CREATE_CQ_IN, cq)).toBe(RnicCommandStatus.ok);
    const cqn = this.made;
    return this.command(RnicCommand.createQp, CREATE_QP_IN, {
      pd,
      type: QpType.rc,
      sendCq: cqn,
      recvCq: cqn,
      sendRing: ring + 0x2000,
      sendLog: 4,
      sendStrideLog: 6,
      recvRing: ring + 0x4000,
      recvLog: 4,
      recvStrideLog: 4,
      recvRecord: ring + 0x5000,
      ...more,
    });
  }
}

describe("RNIC model registers", () => {
  it.each([32 * 1024 * 1024, 0x2000])("are found through the header (BAR of %i bytes)", (bytes) => {
    const { header, registers } = new Rig(bytes);
    expect(header.read32(RnicHeader.signature)).toBe(RNIC_SIGNATURE);
    const at = header.read32(RnicHeader.registers);
    expect(at >= (bytes > 0x20000 ? 0x10000 : 0x10) && at < bytes).toBe(true);
    // ::ffff:10.0.0.1 in the order of its bytes.
    expect(registers.read32(RnicReg.GID2)).toBe(0xffff0000);
    expect(registers.read32(RnicReg.GID3)).toBe(0x0100000a);
    expect(registers.read32(RnicReg.STATUS)).toBe(0);
    header.write32(0, 1);
    expect(header.read32(RnicHeader.signature)).toBe(RNIC_SIGNATURE);
  });

  it("need a BAR", () => {
    expect(() => new Rig(0x1000)).toThrow("too small");
  });
});

describe("commands", () => {
  it("are refused until the device is enabled", () => {
    const rig = new Rig();
    rig.registers.write32(RnicReg.CMD, RnicCommand.allocPd);
    const status = rig.registers.read32(RnicReg.CMDSTS);
    expect(RnicCmdSts.code.get(status)).toBe(RnicCommandStatus.notEnabled);
  });

  it("say when the mailbox is out of reach", () => {
    const rig = new Rig().enable();
    rig.port.refuse(rig.port.base, 4096, DmaStatus.iommuFault);
    rig.registers.write32(RnicReg.CMD, RnicCommand.allocPd);
    const status = rig.registers.read32(RnicReg.CMDSTS);
    expect(RnicCmdSts.code.get(status)).toBe(RnicCommandStatus.dmaFailed);
    expect(RnicCmdSts.detail.get(status)).toBe(DmaStatus.iommuFault);
  });

  it("refuse what makes no sense", () => {
    const rig = new Rig().enable();
    const { noSuchObject, badParameter, badOpcode, badTransition, busy } = RnicCommandStatus;
    expect(rig.command(0x99)).toBe(badOpcode);
    for (const opcode of [
      RnicCommand.deallocPd,
      RnicCommand.destroyCq,
      RnicCommand.destroyMr,
      RnicCommand.destroyQp,
      RnicCommand.queryQp,
    ]) {
      expect(rig.command(opcode, ONE_OBJECT_IN, { number: 777 })).toBe(noSuchObject);
    }
    const ring = rig.port.base + RINGS;
    const cq = { depthLog: 16, ring, record: ring };
    expect(rig.command(RnicCommand.createCq, CREATE_CQ_IN, cq)).toBe(badParameter);
    const odd = { depthLog: 4, ring: ring + 8, record: ring };
    expect(rig.command(RnicCommand.createCq, CREATE_CQ_IN, odd)).toBe(badParameter);
    expect(rig.createQp({ sendStrideLog: 5 })).toBe(badParameter);
    expect(rig.createQp({ pd: 99 })).toBe(noSuchObject);
    expect(rig.createQp({ type: QpType.gsi })).toBe(RnicCommandStatus.ok);
    expect(rig.made).toBe(GSI_QPN);
    expect(rig.createQp({ type: QpType.gsi })).toBe(busy);
    const modify = { number: GSI_QPN, mask: QpAttr.state, state: QpState.rts };
    expect(rig.command(RnicCommand.modifyQp, MODIFY_QP_IN, modify)).toBe(badTransition);
  });

  it("refuse regions that give remote write without local write, or do not add up", () => {
    const rig = new Rig().enable();
    rig.command(RnicCommand.allocPd);
    const pd = rig.made;
    const list = 0x8000;
    setU64LE(rig.port.view, list, rig.port.base);
    setU64LE(rig.port.view, list + 8, 4096);
    const mr = { pd, access: 7, address: 0, length: 4096, rangeCount: 1 };
    const ranges = rig.port.base + list;
    const create = (change: LayoutValues): number =>
      rig.command(RnicCommand.createMr, CREATE_MR_IN, { ...mr, ranges, ...change });
    expect(create({})).toBe(RnicCommandStatus.ok);
    expect(create({ access: Access.remoteWrite })).toBe(RnicCommandStatus.badParameter);
    expect(create({ length: 4095 })).toBe(RnicCommandStatus.badParameter);
    expect(create({ rangeCount: 0 })).toBe(RnicCommandStatus.badParameter);
    expect(create({ ranges: 0 })).toBe(RnicCommandStatus.dmaFailed);
    expect(create({ pd: 5 })).toBe(RnicCommandStatus.noSuchObject);
  });
});

describe("doorbells", () => {
  it("of queue pairs that do not exist do nothing", () => {
    const rig = new Rig();
    rig.doorbells.write32(RnicDoorbell.send, 0x0001_0002);
    rig.enable();
    rig.doorbells.write32(RnicDoorbell.send, 0x0001_0fff);
    rig.doorbells.write32(RnicDoorbell.arm, 12);
    rig.doorbells.write32(0x800, 1);
    expect(rig.port.woken).toBe(false);
  });

  it("of a queue pair whose ring is out of reach end it with an error, once", () => {
    const rig = new Rig().enable();
    expect(rig.createQp()).toBe(RnicCommandStatus.ok);
    const qpn = rig.made;
    const qp = rig.model.engine.qps[qpn];
    if (qp == null) throw new Error("no queue pair");
    qp.state = QpState.rts;
    rig.port.refuse(rig.port.base + RINGS + 0x2000, 64);
    rig.doorbells.write32(RnicDoorbell.arm, 1);
    rig.doorbells.write32(RnicDoorbell.send, (1 << 16) | qpn);
    rig.port.run(rig.model);
    expect(qp.state).toBe(QpState.error);
    expect(rig.port.interrupts.get(3)).toBe(1);
    // Status 2, local QP operation error; syndrome 1, Unsupported Request.
    expect(rig.port.view.getUint32(RINGS + 20, true)).toBe(0x0102);
  });
});

describe("reset", () => {
  it("forgets all objects and keeps the place on the wire", () => {
    const rig = new Rig().enable();
    rig.createQp();
    rig.model.reset();
    expect(rig.registers.read32(RnicReg.CTRL)).toBe(0);
    rig.enable();
    expect(rig.command(RnicCommand.queryQp, ONE_OBJECT_IN, { number: 2 })).toBe(
      RnicCommandStatus.noSuchObject,
    );
    expect(rig.createQp()).toBe(RnicCommandStatus.ok);
    rig.registers.write32(RnicReg.CTRL, 2);
    expect(rig.model.inspect()).toMatchObject({
      enabled: false,
      queuePairs: [],
      address: "10.0.0.1",
    });
  });
});
