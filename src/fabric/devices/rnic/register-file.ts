/**
 * The model RNIC's registers, mailbox commands, doorbells and event ring. Layout and meaning in
 * spec/rdma/rnic.ts.
 *
 * Invariant: doorbells of queue pairs that do not exist, or while CTRL.EN is clear, do nothing.
 */

import { isVisibleToInitiator, joinHalves } from "../../../core/index.ts";
import {
  Eqe,
  RNIC_EVENT_RING_LOG,
  RnicCmdSts,
  RnicCommandStatus,
  RnicCtrl,
  RnicDoorbell,
  RnicReg,
  RnicStatus,
  sgesOfWqe,
} from "../../../spec/rdma/index.ts";
import type { DevicePort, RegisterHandler } from "../../device.ts";
import type { CommandUnit } from "./commands.ts";
import type { Engine, EventSink } from "./engine.hot.ts";
import { DIRECT_LKEY } from "./region-table.hot.ts";

/** What the registers act on. Replaced as a whole on reset. */
export interface RnicParts {
  readonly engine: Engine;
  readonly commands: CommandUnit;
  /** CTRL.EN changed. */
  setEnabled(enabled: boolean): void;
  /** CTRL.RST was written. */
  resetAll(): void;
}

/** Asynchronous events: a ring in host memory, one DMA per event. */
export class EventRing implements EventSink {
  private readonly port: DevicePort;
  private readonly entry = new Uint8Array(Eqe.sizeBytes);
  private readonly view = new DataView(this.entry.buffer);
  base = 0;
  consumer = 0;
  lost = false;
  private producer = 0;

  constructor(port: DevicePort) {
    this.port = port;
  }

  event(kind: number, number: number, detail: number): void {
    const full = ((this.producer - this.consumer) & 0xffff) >= 1 << RNIC_EVENT_RING_LOG;
    if (this.base === 0 || full) {
      this.lost = true;
      return;
    }
    this.view.setUint32(Eqe.kind, kind, true);
    this.view.setUint32(Eqe.number, number, true);
    this.view.setUint32(Eqe.detail, detail, true);
    this.view.setUint32(Eqe.owner, ((this.producer >>> RNIC_EVENT_RING_LOG) & 1) ^ 1, true);
    const slot = this.producer & ((1 << RNIC_EVENT_RING_LOG) - 1);
    const at = this.base + slot * Eqe.sizeBytes;
    const status = this.port.write(at, this.entry, 0, Eqe.sizeBytes);
    if (isVisibleToInitiator(status)) this.lost = true;
    else this.producer = (this.producer + 1) & 0xffff;
  }

  clear(): void {
    this.base = 0;
    this.consumer = 0;
    this.producer = 0;
    this.lost = false;
  }
}

/** The register block. */
export class RnicRegisters implements RegisterHandler {
  private readonly parts: RnicParts;
  private readonly events: EventRing;
  private enabled = false;
  private mailboxLo = 0;
  private mailboxHi = 0;
  private eventLo = 0;
  private commandStatus = 0;
  commandsDone = 0;

  constructor(parts: RnicParts, events: EventRing) {
    this.parts = parts;
    this.events = events;
  }

  clear(): void {
    this.enabled = false;
    this.mailboxLo = 0;
    this.mailboxHi = 0;
    this.eventLo = 0;
    this.commandStatus = 0;
  }

  read32(offset: number): number {
    const { limits, wire } = this.parts.engine;
    switch (offset) {
      case RnicReg.CTRL:
        return this.enabled ? RnicCtrl.enable.bits : 0;
      case RnicReg.STATUS:
        return RnicStatus.eventsLost.set(this.enabled ? 1 : 0, this.events.lost ? 1 : 0);
      case RnicReg.QPMAX:
        return limits.qpMax;
      case RnicReg.CQMAX:
        return limits.cqMax;
      case RnicReg.MRMAX:
        return limits.mrMax;
      case RnicReg.PDMAX:
        return limits.pdMax;
      case RnicReg.QLOG:
        return limits.queueLogMax;
      case RnicReg.SGEMAX:
        return sgesOfWqe(limits.wqeStrideLogMax);
      case RnicReg.RDDEPTH:
        return limits.readDepthMax;
      case RnicReg.MTU:
        return wire.mtu;
      case RnicReg.MSGMAX:
        return limits.messageBytesMax;
      case RnicReg.LKEY:
        return DIRECT_LKEY;
      default:
        return this.readMore(offset);
    }
  }

  private readMore(offset: number): number {
    if (offset >= RnicReg.GID0 && offset <= RnicReg.GID3) {
      const { gid } = this.parts.engine.wire;
      const at = offset - RnicReg.GID0;
      return (gid[at] | (gid[at + 1] << 8) | (gid[at + 2] << 16) | (gid[at + 3] << 24)) >>> 0;
    }
    switch (offset) {
      case RnicReg.MBOXLO:
        return this.mailboxLo;
      case RnicReg.MBOXHI:
        return this.mailboxHi;
      case RnicReg.CMDSTS:
        return this.commandStatus;
      case RnicReg.EVTLO:
        return this.eventLo;
      case RnicReg.EVTHI:
        return Math.floor(this.events.base / 2 ** 32);
      default:
        return 0;
    }
  }

  write32(offset: number, value: number): void {
    switch (offset) {
      case RnicReg.CTRL:
        if (RnicCtrl.reset.get(value) === 1) {
          this.parts.resetAll();
          return;
        }
        this.enabled = RnicCtrl.enable.get(value) === 1;
        this.parts.setEnabled(this.enabled);
        return;
      case RnicReg.MBOXLO:
        this.mailboxLo = value;
        return;
      case RnicReg.MBOXHI:
        this.mailboxHi = value;
        return;
      case RnicReg.CMD:
        this.command(value);
        return;
      case RnicReg.EVTLO:
        this.eventLo = value;
        return;
      case RnicReg.EVTHI:
        this.events.base = joinHalves(this.eventLo, value);
        return;
      case RnicReg.EVTCI:
        this.events.consumer = value & 0xffff;
        return;
      default:
        return;
    }
  }

  private command(opcode: number): void {
    if (!this.enabled) {
      this.commandStatus = RnicCmdSts.code.set(0, RnicCommandStatus.notEnabled);
      return;
    }
    const mailbox = joinHalves(this.mailboxLo, this.mailboxHi);
    const { code, detail } = this.parts.commands.execute(opcode, mailbox);
    this.commandStatus = RnicCmdSts.detail.set(RnicCmdSts.code.set(0, code), detail);
    this.commandsDone++;
  }
}

/** The doorbell page. */
export class Doorbells implements RegisterHandler {
  private readonly parts: RnicParts;
  enabled = false;
  rung = 0;

  constructor(parts: RnicParts) {
    this.parts = parts;
  }

  read32(): number {
    return 0;
  }

  write32(offset: number, value: number): void {
    if (!this.enabled) return;
    const { engine } = this.parts;
    if (offset === RnicDoorbell.arm) {
      const cq = engine.cqs[value & 0xffff] ?? null;
      if (cq !== null) cq.armed = value >>> 31 === 1 ? 2 : 1;
      return;
    }
    const qp = engine.qps[value & 0xffff] ?? null;
    if (qp === null) return;
    this.rung++;
    if (offset === RnicDoorbell.send) qp.sqTail = value >>> 16;
    engine.activate(qp);
  }
}
