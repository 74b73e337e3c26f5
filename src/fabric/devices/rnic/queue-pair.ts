/**
 * Queue pair context of the model RNIC: what IBA calls send and receive queue context. Plain state;
 * requester.hot.ts and responder.hot.ts work on it.
 *
 * Send queue counters, all modulo 2^16: `sqHead` oldest not completed, `sqNext` next to (re)send,
 * `sqHigh` next never sent, `sqTail` producer. head <= next <= high <= tail.
 */

import { Span, type Tree } from "../../../core/index.ts";
import {
  QP_STATE_NAMES,
  QP_TYPE_NAMES,
  type QpState,
  type QpType,
  QpState as S,
  sgesOfWqe,
} from "../../../spec/rdma/index.ts";
import type { RnicCq } from "./completion.hot.ts";
import { Cursor } from "./transfer.hot.ts";
import type { WirePath } from "./wire.ts";

/** What a started send work request waits for. */
export const SlotWait = {
  /** Nothing: done, completes when those before it have. */
  nothing: 0,
  acknowledge: 1,
  readResponse: 2,
} as const;

/** RECVs fetched by one DMA. */
export const RECV_FETCH_MAX = 8;
/** Numbers kept per send queue entry, side by side. */
export const SLOT_LOG = 2;
export const Slot = { firstPsn: 0, lastPsn: 1, wait: 2, signaled: 3 } as const;

const NO_BYTES = new Uint8Array(0);
const NO_VIEW = new DataView(new ArrayBuffer(0));

/** Where the rings lie: input of CREATE_QP. */
export interface QpRings {
  readonly sendRing: number;
  readonly sendLog: number;
  readonly sendStrideLog: number;
  readonly recvRing: number;
  readonly recvLog: number;
  readonly recvStrideLog: number;
  readonly recvRecord: number;
}

export class RnicQp {
  readonly number: number;
  readonly type: QpType;
  readonly pd: number;
  readonly sendCq: RnicCq;
  readonly recvCq: RnicCq;
  readonly signalAll: boolean;
  state: QpState = S.reset;

  // Attributes of MODIFY_QP.
  remoteAccess = 0;
  qkey = 0;
  destQpn = 0;
  path: WirePath | null = null;
  /** The source GID last seen to be the peer's. */
  knownSource: Uint8Array = NO_BYTES;
  pathMtu = 4096;
  maxRdAtomic = 0;
  maxDestRdAtomic = 0;
  minRnrTimer = 0;
  /** Local ACK timeout; 0 waits for ever. */
  timeoutNs = 0;
  retryCount = 0;
  rnrRetry = 0;

  // Send queue.
  readonly sqRing: number;
  readonly sqMask: number;
  readonly sqStrideLog: number;
  /** SGEs that fit an entry. */
  readonly sgeMax: number;
  sqHead = 0;
  sqNext = 0;
  sqHigh = 0;
  sqTail = 0;
  /** PSN of the next packet to (re)send, and the one after the last ever sent. */
  sqPsn = 0;
  sentPsn = 0;
  /** Newest PSN acknowledged. */
  ackedPsn = 0;
  /** What is known of each started work request: {@link Slot} numbers per entry. */
  readonly slots: Uint32Array;
  /** Changes when sending must start over: whoever is in the middle of a message stops. */
  sendEpoch = 0;
  readsOutstanding = 0;
  /** Messages sent since an acknowledgement was last asked for. */
  unasked = 0;
  retryLeft = 0;
  rnrLeft = 0;
  rnrWaiting = false;
  /** A local error at `failCounter` waits until those before it have completed. */
  failPending = false;
  failCounter = 0;
  failStatus = 0;
  ackTimerPending = false;
  ackDeadlineNs = 0;
  readonly sendCursor = new Cursor();
  /** Where responses of the oldest READ go. */
  readonly readCursor = new Cursor();
  readPackets = 0;
  readBytes = 0;
  // The entries fetched last, valid while `fetchSerial` is the model's.
  readonly sqSpan = new Span();
  sqBytes: Uint8Array = NO_BYTES;
  sqView: DataView = NO_VIEW;
  fetchSerial = -1;
  fetchFirst = 0;
  fetchCount = 0;

  // Receive queue.
  readonly rqRing: number;
  readonly rqMask: number;
  readonly rqStrideLog: number;
  readonly rqRecord: number;
  rqHead = 0;
  rqTail = 0;
  /** RECVs fetched last: `rqFetched` of them from counter `rqFirst` on. */
  readonly rqEntries: Uint8Array;
  readonly rqView: DataView;
  rqFirst = 0;
  rqFetched = 0;

  // Responder.
  expectedPsn = 0;
  msn = 0;
  /** A NAK for the expected PSN is out: further gaps are ignored until it arrives. */
  nakSent = false;
  /** Kind of the message that has begun and not ended; 0 between messages. */
  inMessage = 0;
  messageBytes = 0;
  readonly recvCursor = new Cursor();
  /** Source or target of the peer's RDMA. */
  readonly remoteCursor = new Cursor();

  /** In the list of queue pairs with work. */
  active = false;
  /** The requester is in its loop: no need to activate. */
  pumping = false;
  destroyed = false;

  constructor(
    number: number,
    type: QpType,
    pd: number,
    sendCq: RnicCq,
    recvCq: RnicCq,
    signalAll: boolean,
    rings: QpRings,
  ) {
    this.number = number;
    this.type = type;
    this.pd = pd;
    this.sendCq = sendCq;
    this.recvCq = recvCq;
    this.signalAll = signalAll;
    this.sqRing = rings.sendRing;
    this.sqMask = (1 << rings.sendLog) - 1;
    this.sqStrideLog = rings.sendStrideLog;
    this.sgeMax = sgesOfWqe(rings.sendStrideLog);
    this.rqRing = rings.recvRing;
    this.rqMask = (1 << rings.recvLog) - 1;
    this.rqStrideLog = rings.recvStrideLog;
    this.rqRecord = rings.recvRecord;
    this.rqEntries = new Uint8Array(RECV_FETCH_MAX << rings.recvStrideLog);
    this.rqView = new DataView(this.rqEntries.buffer);
    this.slots = new Uint32Array(1 << (rings.sendLog + SLOT_LOG));
  }

  /** Back to RESET: queues empty, as made. */
  clear(): void {
    this.state = S.reset;
    this.sqHead = this.sqNext = this.sqHigh = this.sqTail = 0;
    this.rqHead = this.rqTail = 0;
    this.rqFetched = 0;
    this.sendEpoch++;
    this.readsOutstanding = 0;
    this.unasked = 0;
    this.rnrWaiting = false;
    this.failPending = false;
    this.ackTimerPending = false;
    this.readPackets = 0;
    this.readBytes = 0;
    this.fetchSerial = -1;
    this.fetchCount = 0;
    this.nakSent = false;
    this.inMessage = 0;
    this.messageBytes = 0;
    this.msn = 0;
    this.path = null;
    this.knownSource = NO_BYTES;
  }

  inspect(): Tree {
    return {
      number: this.number,
      type: QP_TYPE_NAMES[this.type] ?? this.type,
      state: QP_STATE_NAMES[this.state] ?? this.state,
      pd: this.pd,
      destQpn: this.destQpn,
      pathMtu: this.pathMtu,
      send: {
        cq: this.sendCq.number,
        pending: (this.sqTail - this.sqHead) & 0xffff,
        outstanding: (this.sqHigh - this.sqHead) & 0xffff,
        readsOutstanding: this.readsOutstanding,
        nextPsn: this.sqPsn,
        retriesLeft: this.retryLeft,
        rnrRetriesLeft: this.rnrLeft,
        waitsForRnrTimer: this.rnrWaiting,
      },
      receive: {
        cq: this.recvCq.number,
        posted: (this.rqTail - this.rqHead) & 0xffff,
        expectedPsn: this.expectedPsn,
        msn: this.msn,
      },
    };
  }
}
