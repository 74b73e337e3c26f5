/**
 * What the parts of the model RNIC share: its port, its wire, its tables, the list of queue pairs
 * with work, and the ways into the error state.
 *
 * Invariant: a queue pair is in the work list at most once; who leaves work behind puts it back.
 */

import {
  type Copier,
  RNIC_CQ_MAX,
  RNIC_MR_MAX,
  RNIC_PD_MAX,
  RNIC_QP_MAX,
} from "../../../core/index.ts";
import { GID_BYTES, QpState, QpType, RnicEvent } from "../../../spec/rdma/index.ts";
import { Event, type Tracer } from "../../../trace/index.ts";
import type { DevicePort } from "../../device.ts";
import { CompletionUnit, type CqErrorSink, type RnicCq } from "./completion.hot.ts";
import type { RnicQp } from "./queue-pair.ts";
import { RegionTable } from "./region-table.hot.ts";
import { Transfer } from "./transfer.hot.ts";
import type { WirePath, WirePort } from "./wire.ts";

/** Sizes of one RNIC. */
export interface RnicLimits {
  readonly qpMax: number;
  readonly cqMax: number;
  readonly mrMax: number;
  readonly pdMax: number;
  readonly readDepthMax: number;
  readonly messageBytesMax: number;
  /** log2 of the entries of one queue. */
  readonly queueLogMax: number;
  /** log2 of the bytes of one send entry. */
  readonly wqeStrideLogMax: number;
}

export const DEFAULT_RNIC_LIMITS: RnicLimits = {
  qpMax: RNIC_QP_MAX,
  cqMax: RNIC_CQ_MAX,
  mrMax: RNIC_MR_MAX,
  pdMax: RNIC_PD_MAX,
  readDepthMax: 16,
  // Half the PSN space at the smallest MTU: a message never laps its own PSNs.
  messageBytesMax: 2 ** 30,
  queueLogMax: 15,
  wqeStrideLogMax: 8,
};

/** Destinations of datagrams remembered. */
const DATAGRAM_PATHS = 16;

function sameGid(gid: Uint8Array, bytes: Uint8Array, at: number): boolean {
  for (let i = 0; i < GID_BYTES; i++) if (gid[i] !== bytes[at + i]) return false;
  return true;
}

/** Told of asynchronous events, to put them in the event ring. */
export interface EventSink {
  event(kind: number, number: number, detail: number): void;
}

export class Engine implements CqErrorSink {
  readonly port: DevicePort;
  readonly wire: WirePort;
  readonly limits: RnicLimits;
  readonly tracer: Tracer;
  readonly regions: RegionTable;
  readonly transfer: Transfer;
  readonly completions: CompletionUnit;
  readonly qps: (RnicQp | null)[];
  readonly cqs: (RnicCq | null)[];
  /** Changes with every step: what was borrowed in an earlier one is gone. */
  serial = 0;
  /** Messages sent again. */
  retransmissions = 0;
  /** RNR NAKs received. */
  rnrNaks = 0;
  private readonly events: EventSink;
  private readonly active: (RnicQp | null)[];
  private activeHead = 0;
  activeCount = 0;
  /** Ways to where datagrams went last, newest at `pathNext - 1`. */
  private readonly paths: (WirePath | null)[] = new Array(DATAGRAM_PATHS).fill(null);
  private pathNext = 0;

  constructor(
    port: DevicePort,
    wire: WirePort,
    copier: Copier,
    limits: RnicLimits,
    events: EventSink,
    tracer: Tracer,
  ) {
    this.port = port;
    this.wire = wire;
    this.limits = limits;
    this.events = events;
    this.tracer = tracer;
    this.regions = new RegionTable(limits.mrMax);
    this.transfer = new Transfer(port, this.regions, copier);
    this.completions = new CompletionUnit(port, this);
    this.qps = new Array(limits.qpMax).fill(null);
    this.cqs = new Array(limits.cqMax).fill(null);
    this.active = new Array(limits.qpMax).fill(null);
  }

  /** The queue pair has work for the next step. Idempotent. */
  activate(qp: RnicQp): void {
    if (qp.active) return;
    qp.active = true;
    let at = this.activeHead + this.activeCount;
    if (at >= this.active.length) at -= this.active.length;
    this.active[at] = qp;
    this.activeCount++;
    this.port.wake();
  }

  /** The next queue pair with work. Call only while `activeCount` is not 0. */
  takeActive(): RnicQp {
    const qp = this.active[this.activeHead] as RnicQp;
    this.active[this.activeHead] = null;
    this.activeHead = this.activeHead + 1 === this.active.length ? 0 : this.activeHead + 1;
    this.activeCount--;
    qp.active = false;
    return qp;
  }

  /** The way to the GID at `at`. */
  datagramPath(bytes: Uint8Array, at: number): WirePath {
    for (let i = 0; i < this.paths.length; i++) {
      const path = this.paths[i];
      if (path !== null && sameGid(path.gid, bytes, at)) return path;
    }
    const path = this.wire.path(bytes.slice(at, at + GID_BYTES));
    this.paths[this.pathNext] = path;
    this.pathNext = (this.pathNext + 1) % this.paths.length;
    return path;
  }

  /** The `DmaStatus` of the failure being reported; 0 when it was no DMA. */
  takeDmaStatus(): number {
    const status = this.transfer.dmaStatus;
    this.transfer.dmaStatus = 0;
    return status;
  }

  /** To the error state: everything posted is flushed from the next step on. */
  toError(qp: RnicQp): void {
    if (qp.state === QpState.error || qp.state === QpState.reset) return;
    qp.state = QpState.error;
    if (this.tracer.on) this.tracer.emit(Event.rdmaQpError, this.port.bdf, qp.number);
    this.stopSending(qp);
  }

  /**
   * A local error of a send work request: RC goes to error, a datagram queue stops sending only.
   */
  toSendError(qp: RnicQp): void {
    if (qp.type === QpType.rc) {
      this.toError(qp);
      return;
    }
    if (qp.state !== QpState.rts && qp.state !== QpState.sqd) return;
    qp.state = QpState.sqe;
    this.stopSending(qp);
  }

  private stopSending(qp: RnicQp): void {
    qp.sendEpoch++;
    qp.failPending = false;
    qp.rnrWaiting = false;
    this.activate(qp);
  }

  /** Reset: timers and completions of this engine find nothing any more. */
  abandon(): void {
    this.qps.fill(null);
    this.cqs.fill(null);
    this.active.fill(null);
    this.activeCount = 0;
    this.completions.clear();
  }

  /** The responder failed without a RECV to report it in. IBA 11.6.3.2. */
  qpFatal(qp: RnicQp, detail: number): void {
    this.toError(qp);
    this.events.event(RnicEvent.qpFatal, qp.number, detail);
  }

  cqError(cq: RnicCq, dmaStatus: number): void {
    this.events.event(RnicEvent.cqError, cq.number, dmaStatus);
    if (cq.users === 0) return;
    for (let i = 0; i < this.qps.length; i++) {
      const qp = this.qps[i];
      if (qp !== null && (qp.sendCq === cq || qp.recvCq === cq)) this.toError(qp);
    }
  }
}
