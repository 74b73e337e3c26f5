/**
 * The driver of the model RNIC: verbs on a `DmaDevice`. The connection manager sits on top of it
 * (cm/); `attachRdma` in attach.ts gives both.
 *
 * Invariants: every object is known here until it is destroyed, so that `close` can destroy what is
 * left in the right order; events are taken from the event ring by `poll` only.
 */

import {
  formatBdf,
  highHalf,
  lowHalf,
  PeerlaneError,
  RNIC_QP_MAX,
  type Tree,
} from "../../core/index.ts";
import type { DmaBuffer, DmaDevice } from "../../dma/index.ts";
import {
  Access,
  DOORBELL_RECORD_BYTES,
  Eqe,
  formatGid,
  ONE_OBJECT_IN,
  QpState,
  QpType,
  RNIC_EVENT_RING_LOG,
  RNIC_QUEUE_LOG_MAX,
  RnicCommand,
  RnicEvent,
  RnicReg,
  RQE_STRIDE_LOG_MIN,
  sgesOfWqe,
  WQE_STRIDE_LOG_MIN,
} from "../../spec/rdma/index.ts";
import type { AsyncEvent, Cq, DeviceAttributes, Pd, Qp, QpOptions } from "../verbs.ts";
import { RnicControl } from "./control.ts";
import type { QueueRings, RingLayout } from "./queue-pair.hot.ts";
import {
  type QueueOwner,
  type QueuePairPlan,
  RnicCompletionQueue,
  RnicQueuePair,
} from "./queues.ts";
import { RnicPd } from "./regions.ts";

const EVENT_KINDS: Readonly<Record<number, AsyncEvent["kind"]>> = {
  [RnicEvent.qpFatal]: "qp-fatal",
  [RnicEvent.cqError]: "cq-error",
  [RnicEvent.deviceFatal]: "device-fatal",
};
/** Events kept for {@link RnicDevice.takeEvents}; the oldest go. */
const EVENTS_KEPT = 1024;

const logOf = (entries: number): number => Math.ceil(Math.log2(Math.max(1, entries)));

export class RnicDevice implements QueueOwner {
  readonly dma: DmaDevice;
  readonly control: RnicControl;
  readonly attributes: DeviceAttributes;
  readonly address: string;
  readonly gid: Uint8Array;
  readonly queuePairs: (QueueRings | null)[] = new Array(RNIC_QP_MAX).fill(null);
  readonly overruns = new Set<number>();
  private readonly localDmaLkey: number;
  private readonly pds = new Set<RnicPd>();
  private readonly cqs = new Set<RnicCompletionQueue>();
  private readonly qps = new Set<RnicQueuePair>();
  private readonly eventRing: DmaBuffer;
  private readonly eventView: DataView;
  private eventConsumer = 0;
  private events: AsyncEvent[] = [];

  constructor(dma: DmaDevice) {
    this.dma = dma;
    const control = new RnicControl(dma);
    this.control = control;
    this.attributes = readAttributes(control);
    this.gid = readGid(control);
    this.address = formatGid(this.gid);
    this.localDmaLkey = control.read(RnicReg.LKEY);
    this.eventRing = dma.allocCoherent(Eqe.sizeBytes << RNIC_EVENT_RING_LOG);
    const { bytes } = this.eventRing;
    this.eventView = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
    control.write(RnicReg.EVTLO, lowHalf(this.eventRing.dma));
    control.write(RnicReg.EVTHI, highHalf(this.eventRing.dma));
  }

  async allocPd(): Promise<Pd> {
    const number = await this.control.create(RnicCommand.allocPd, ONE_OBJECT_IN, {});
    const pd = new RnicPd(this, number, this.localDmaLkey);
    this.pds.add(pd);
    return pd;
  }

  async createCq(depth: number): Promise<Cq> {
    this.checkCount("completions", depth, this.attributes.cqeMax);
    const cq = await RnicCompletionQueue.create(this, logOf(depth));
    this.cqs.add(cq);
    return cq;
  }

  createQp(pd: Pd, options: QpOptions): Promise<Qp> {
    return this.makeQp(pd, QpType.rc, options);
  }

  /** QP 1, for the connection manager. Comes in state RTS. */
  async createGsi(pd: Pd, options: QpOptions): Promise<RnicQueuePair> {
    const qp = await this.makeQp(pd, QpType.gsi, { ...options, initialize: false });
    await qp.modify({ state: QpState.init, pkeyIndex: 0, port: 1, qkey: 0 });
    await qp.modify({ state: QpState.rtr });
    await qp.modify({ state: QpState.rts, sqPsn: 0 });
    return qp;
  }

  private async makeQp(pd: Pd, type: QpType, options: QpOptions): Promise<RnicQueuePair> {
    const { maxSend, maxRecv, maxSge, maxRecvSge = 1, sendCq, recvCq } = options;
    this.checkCount("send work requests", maxSend, this.attributes.wrMax);
    this.checkCount("RECVs", maxRecv, this.attributes.wrMax);
    this.checkCount("SGEs", maxSge, this.attributes.sgeMax);
    this.checkCount("SGEs of a RECV", maxRecvSge, this.attributes.sgeMax);
    if (
      !(pd instanceof RnicPd) ||
      !(sendCq instanceof RnicCompletionQueue) ||
      !(recvCq instanceof RnicCompletionQueue) ||
      pd.device !== this ||
      sendCq.owner !== this ||
      recvCq.owner !== this
    ) {
      throw new PeerlaneError("rdma-foreign", "domain and queues are of another device", {
        place: formatBdf(this.dma.bdf),
        remedy: "make them with the device that the queue pair is for",
      });
    }
    const layout = this.layOut(maxSend, maxRecv, maxSge, maxRecvSge);
    const plan: QueuePairPlan = {
      type,
      pd,
      sendCq,
      recvCq,
      layout,
      maxSge: sgesOfWqe(layout.sendStrideLog),
      maxRecvSge: 1 << (layout.recvStrideLog - RQE_STRIDE_LOG_MIN),
      signalAll: options.signalAll ?? false,
      remoteAccess: options.remoteAccess ?? Access.remoteRead | Access.remoteWrite,
    };
    let qp: RnicQueuePair;
    try {
      qp = await RnicQueuePair.create(this, plan);
    } catch (error) {
      this.dma.freeCoherent(layout.buffer);
      throw error;
    }
    this.qps.add(qp);
    if (options.initialize ?? true) {
      const accessFlags = plan.remoteAccess;
      await qp.modify({ state: QpState.init, pkeyIndex: 0, port: 1, accessFlags });
    }
    return qp;
  }

  private layOut(maxSend: number, maxRecv: number, maxSge: number, maxRecvSge: number): RingLayout {
    let sendStrideLog = WQE_STRIDE_LOG_MIN;
    while (sgesOfWqe(sendStrideLog) < maxSge) sendStrideLog++;
    const recvStrideLog = RQE_STRIDE_LOG_MIN + logOf(maxRecvSge);
    const sendLog = logOf(maxSend);
    const recvLog = logOf(maxRecv);
    const stride = 2 ** recvStrideLog;
    const recvOffset = Math.ceil(2 ** (sendLog + sendStrideLog) / stride) * stride;
    const recordOffset = recvOffset + 2 ** (recvLog + recvStrideLog);
    const buffer = this.dma.allocCoherent(recordOffset + DOORBELL_RECORD_BYTES);
    return { buffer, sendLog, sendStrideLog, recvOffset, recvLog, recvStrideLog, recordOffset };
  }

  private checkCount(what: string, count: number, max: number): void {
    if (Number.isInteger(count) && count >= 1 && count <= max) return;
    throw new PeerlaneError("rdma-limit", `${count} ${what}: the device has 1 to ${max}`, {
      place: formatBdf(this.dma.bdf),
      remedy: "ask for fewer; `attributes` says what the device can",
    });
  }

  forgetCq(cq: RnicCompletionQueue): void {
    this.cqs.delete(cq);
  }

  forgetQp(qp: RnicQueuePair): void {
    this.qps.delete(qp);
  }

  forgetPd(pd: RnicPd): void {
    this.pds.delete(pd);
  }

  /** Something went wrong with nobody there to tell: kept for {@link takeEvents}. */
  report(event: AsyncEvent): void {
    if (this.events.length === EVENTS_KEPT) this.events.shift();
    this.events.push(event);
  }

  takeEvents(): AsyncEvent[] {
    const taken = this.events;
    this.events = [];
    return taken;
  }

  poll(): number {
    let taken = 0;
    for (; taken < 1 << RNIC_EVENT_RING_LOG; taken++) {
      const slot = this.eventConsumer & ((1 << RNIC_EVENT_RING_LOG) - 1);
      const owner = ((this.eventConsumer >>> RNIC_EVENT_RING_LOG) & 1) ^ 1;
      const at = slot * Eqe.sizeBytes;
      if ((this.eventView.getUint32(at + Eqe.owner, true) & 1) !== owner) break;
      this.takeEvent(at);
      this.eventConsumer = (this.eventConsumer + 1) & 0xffff;
    }
    if (taken > 0) this.control.write(RnicReg.EVTCI, this.eventConsumer);
    return taken;
  }

  private takeEvent(at: number): void {
    const kind = EVENT_KINDS[this.eventView.getUint32(at + Eqe.kind, true)] ?? "device-fatal";
    const number = this.eventView.getUint32(at + Eqe.number, true);
    if (kind === "cq-error") this.overruns.add(number);
    if (kind === "qp-fatal") this.queuePairs[number]?.sawError(false);
    this.report({ kind, number });
  }

  async close(): Promise<void> {
    for (const qp of [...this.qps]) await qp.destroy();
    for (const cq of [...this.cqs]) await cq.destroy();
    for (const pd of this.pds) await pd.release();
    this.pds.clear();
    this.control.close();
    this.dma.freeCoherent(this.eventRing);
  }

  inspect(): Tree {
    return {
      function: formatBdf(this.dma.bdf),
      address: this.address,
      attributes: { ...this.attributes },
      domains: [...this.pds].map((pd) => pd.inspect()),
      completionQueues: [...this.cqs].map((cq) => cq.inspect()),
      queuePairs: [...this.qps].map((qp) => qp.inspect()),
    };
  }
}

function readAttributes(control: RnicControl): DeviceAttributes {
  const queueLog = Math.min(control.read(RnicReg.QLOG), RNIC_QUEUE_LOG_MAX);
  return {
    qpMax: Math.min(control.read(RnicReg.QPMAX), RNIC_QP_MAX),
    cqMax: control.read(RnicReg.CQMAX),
    mrMax: control.read(RnicReg.MRMAX),
    pdMax: control.read(RnicReg.PDMAX),
    wrMax: 2 ** queueLog,
    cqeMax: 2 ** queueLog,
    sgeMax: control.read(RnicReg.SGEMAX),
    readDepthMax: control.read(RnicReg.RDDEPTH),
    messageBytesMax: control.read(RnicReg.MSGMAX),
    activeMtu: control.read(RnicReg.MTU),
  };
}

function readGid(control: RnicControl): Uint8Array {
  const gid = new Uint8Array(16);
  const view = new DataView(gid.buffer);
  const registers = [RnicReg.GID0, RnicReg.GID1, RnicReg.GID2, RnicReg.GID3];
  for (const [i, register] of registers.entries()) {
    view.setUint32(i * 4, control.read(register), true);
  }
  return gid;
}
