/**
 * Control verbs of the model RNIC's completion queues and queue pairs: memory of the rings, changes
 * of state, destruction.
 *
 * Invariant: memory of a ring is freed after the device forgot the ring.
 */

import { formatBdf, PeerlaneError, type Tree } from "../../core/index.ts";
import type { DmaBuffer } from "../../dma/index.ts";
import {
  attributeNames,
  CQE_LOG,
  CREATE_CQ_IN,
  CREATE_QP_IN,
  checkTransition,
  DOORBELL_RECORD_BYTES,
  MODIFY_QP_IN,
  missingAttributes,
  ONE_OBJECT_IN,
  parseGid,
  QP_STATE_NAMES,
  QP_TYPE_NAMES,
  QpAttr,
  QpState,
  type QpType,
  QUERY_QP_OUT,
  RnicCommand,
  TransitionCheck,
} from "../../spec/rdma/index.ts";
import type { Cq, Qp, QpAttributes, VerbsDevice } from "../verbs.ts";
import { CompletionRing } from "./completion-queue.hot.ts";
import { QueueRings, type RingLayout } from "./queue-pair.hot.ts";
import type { RegionOwner, RnicPd } from "./regions.ts";

/** What the objects need of their device. */
export interface QueueOwner extends RegionOwner {
  /** By QP number. */
  readonly queuePairs: (QueueRings | null)[];
  /** CQ numbers that an asynchronous event named. */
  readonly overruns: Set<number>;
  forgetCq(cq: RnicCompletionQueue): void;
  forgetQp(qp: RnicQueuePair): void;
}

export class RnicCompletionQueue extends CompletionRing implements Cq {
  readonly owner: QueueOwner;
  private readonly buffer: DmaBuffer;

  private constructor(owner: QueueOwner, buffer: DmaBuffer, depthLog: number) {
    super(buffer, depthLog, 1 << (depthLog + CQE_LOG), owner.queuePairs);
    this.owner = owner;
    this.buffer = buffer;
  }

  static async create(owner: QueueOwner, depthLog: number): Promise<RnicCompletionQueue> {
    const ringBytes = 1 << (depthLog + CQE_LOG);
    const buffer = owner.dma.allocCoherent(ringBytes + DOORBELL_RECORD_BYTES);
    try {
      const cq = new RnicCompletionQueue(owner, buffer, depthLog);
      const input = { depthLog, vector: 0, ring: buffer.dma, record: buffer.dma + ringBytes };
      cq.number = await owner.control.create(RnicCommand.createCq, CREATE_CQ_IN, input);
      owner.overruns.delete(cq.number);
      return cq;
    } catch (error) {
      owner.dma.freeCoherent(buffer);
      throw error;
    }
  }

  get overrun(): boolean {
    return this.owner.overruns.has(this.number);
  }

  async destroy(): Promise<void> {
    await this.owner.control.about(RnicCommand.destroyCq, this.number);
    this.owner.dma.freeCoherent(this.buffer);
    this.owner.forgetCq(this);
  }

  inspect(): Tree {
    return {
      number: this.number,
      depth: this.depth,
      polled: this.polled,
      overrun: this.overrun,
    };
  }
}

/** What {@link RnicQueuePair.create} needs, checked by the device. */
export interface QueuePairPlan {
  readonly type: QpType;
  readonly pd: RnicPd;
  readonly sendCq: RnicCompletionQueue;
  readonly recvCq: RnicCompletionQueue;
  readonly layout: RingLayout;
  readonly maxSge: number;
  readonly maxRecvSge: number;
  readonly signalAll: boolean;
  readonly remoteAccess: number;
}

/** Names in {@link QpAttributes}, their bit, and whether MODIFY_QP carries them under that name. */
const ATTRIBUTES: readonly (keyof QpAttributes & keyof typeof QpAttr)[] = [
  "accessFlags",
  "pkeyIndex",
  "port",
  "qkey",
  "path",
  "pathMtu",
  "destQpn",
  "rqPsn",
  "sqPsn",
  "maxDestRdAtomic",
  "maxRdAtomic",
  "minRnrTimer",
  "timeout",
  "retryCount",
  "rnrRetry",
];

export class RnicQueuePair extends QueueRings implements Qp {
  readonly pd: RnicPd;
  readonly sendCq: RnicCompletionQueue;
  readonly recvCq: RnicCompletionQueue;
  readonly remoteAccess: number;
  private readonly owner: QueueOwner;

  private constructor(owner: QueueOwner, plan: QueuePairPlan) {
    const { doorbells, doorbellsAt } = owner.control;
    super(plan.type, plan.layout, plan.maxSge, plan.maxRecvSge, doorbells, doorbellsAt);
    this.owner = owner;
    this.pd = plan.pd;
    this.sendCq = plan.sendCq;
    this.recvCq = plan.recvCq;
    this.remoteAccess = plan.remoteAccess;
  }

  static async create(owner: QueueOwner, plan: QueuePairPlan): Promise<RnicQueuePair> {
    const { layout } = plan;
    const base = layout.buffer.dma;
    const qp = new RnicQueuePair(owner, plan);
    qp.number = await owner.control.create(RnicCommand.createQp, CREATE_QP_IN, {
      pd: plan.pd.number,
      type: plan.type,
      sendCq: plan.sendCq.number,
      recvCq: plan.recvCq.number,
      sendRing: base,
      sendLog: layout.sendLog,
      sendStrideLog: layout.sendStrideLog,
      recvRing: base + layout.recvOffset,
      recvLog: layout.recvLog,
      recvStrideLog: layout.recvStrideLog,
      recvRecord: base + layout.recordOffset,
      signalAll: plan.signalAll ? 1 : 0,
    });
    owner.queuePairs[qp.number] = qp;
    return qp;
  }

  get device(): VerbsDevice {
    return this.owner;
  }

  async modify(attributes: QpAttributes): Promise<void> {
    const to = attributes.state as QpState;
    let mask: number = QpAttr.state;
    const input: Record<string, number | Uint8Array> = { number: this.number, state: to };
    for (const name of ATTRIBUTES) {
      const value = attributes[name];
      if (value === undefined) continue;
      mask |= QpAttr[name];
      input[name] = typeof value === "string" ? parseGid(value) : value;
    }
    input["mask"] = mask;
    this.checkTransition(to, mask);
    await this.owner.control.command(RnicCommand.modifyQp, MODIFY_QP_IN, input);
    if (to === QpState.reset) this.clearQueues();
    this.state = to;
  }

  private checkTransition(to: QpState, mask: number): void {
    const from = this.state as QpState;
    const check = checkTransition(this.type, from, to, mask);
    if (check === TransitionCheck.ok) return;
    const edge = `${QP_STATE_NAMES[from]} to ${QP_STATE_NAMES[to] ?? to}`;
    const missing = attributeNames(missingAttributes(this.type, from, to, mask));
    const why =
      check === TransitionCheck.illegal
        ? "there is no such transition"
        : check === TransitionCheck.missing
          ? `missing: ${missing.join(", ")}`
          : "an attribute may not be changed here";
    throw new PeerlaneError("qp-transition", `queue pair ${this.number} ${edge}: ${why}`, {
      place: formatBdf(this.owner.dma.bdf),
      remedy: "give the attributes that IBA 11.2.4.2 requires for this transition, and no others",
      details: { from, to, missing, given: attributeNames(mask) },
    });
  }

  async query(): Promise<number> {
    const { control } = this.owner;
    const input = { number: this.number };
    const output = await control.command(RnicCommand.queryQp, ONE_OBJECT_IN, input, QUERY_QP_OUT);
    this.state = output["state"] as number;
    return this.state;
  }

  async destroy(): Promise<void> {
    await this.owner.control.about(RnicCommand.destroyQp, this.number);
    this.state = QpState.reset;
    this.owner.dma.freeCoherent(this.layout.buffer);
    this.owner.forgetQp(this);
  }

  inspect(): Tree {
    return {
      number: this.number,
      type: QP_TYPE_NAMES[this.type] ?? this.type,
      state: QP_STATE_NAMES[this.state] ?? this.state,
      pd: this.pd.number,
      sendCq: this.sendCq.number,
      recvCq: this.recvCq.number,
      maxSge: this.maxSge,
      sendRoom: this.sendRoom,
      recvRoom: this.recvRoom,
    };
  }
}
