/**
 * The send queue of the model RNIC as a queue: fetching entries, giving them PSNs, completing in
 * order, going back after a loss, the local ACK timer, flushing. requester.hot.ts starts work on
 * it, answers.hot.ts ends it. IBA 9.7.6 (time-outs and retries), 10.8.3 (ordering), 9.9.2 (errors).
 *
 * Loss is repaired by going back to the oldest message that is not acknowledged (go-back-N): its
 * work queue entry is still in the ring, so nothing is kept for retries but first and last PSN.
 *
 * Invariants: completions leave in the order of posting; a failed work request completes after
 * those before it and before those behind it.
 */

import { assert } from "../../../core/index.ts";
import {
  CqeFlag,
  PSN_HALF,
  PSN_MASK,
  psnDistance,
  QpState,
  WcStatus,
  Wqe,
  WrFlag,
  WrOpcode,
} from "../../../spec/rdma/index.ts";
import { Event } from "../../../trace/index.ts";
import type { TimerClient } from "../../device.ts";
import type { Engine } from "./engine.hot.ts";
import { type RnicQp, SLOT_LOG, Slot, SlotWait } from "./queue-pair.ts";

/** What became of an attempt to start the next work request. */
export const Start = {
  started: 0,
  /** It must wait: for READs before it, for a slot, for those before it. */
  blocked: 1,
} as const;

/** Timer tokens: QP number * 2 + kind. */
export const SendTimer = { acknowledge: 0, rnr: 1 } as const;

/** Messages of one packet that may go without asking for an acknowledgement. */
const UNASKED_MAX = 16;

/** How long work waits before it looks again whether its region is still suspended. */
const PAUSE_NS = 10_000;

/** A queue's entries fetched by one DMA. */
const FETCH_MAX = 16;

export class SendQueue implements TimerClient {
  private readonly engine: Engine;

  constructor(engine: Engine) {
    this.engine = engine;
  }

  maySend(qp: RnicQp): boolean {
    if (qp.failPending || qp.rnrWaiting) return false;
    if (qp.state === QpState.rts) return qp.sqNext !== qp.sqTail;
    // Draining: what was begun may be sent again, nothing new starts.
    return qp.state === QpState.sqd && qp.sqNext !== qp.sqHigh;
  }

  /** Something changed that may let the next work request start. */
  again(qp: RnicQp): void {
    if (!qp.pumping && this.maySend(qp)) this.engine.activate(qp);
  }

  /**
   * Makes `qp.sqView` cover the entry at `counter`; its offset there, or -1 when the DMA failed.
   */
  fetch(qp: RnicQp, counter: number): number {
    const ahead = (counter - qp.fetchFirst) & 0xffff;
    if (qp.fetchSerial === this.engine.serial && ahead < qp.fetchCount) {
      return qp.sqSpan.offset + (ahead << qp.sqStrideLog);
    }
    const index = counter & qp.sqMask;
    let count = (qp.sqTail - counter) & 0xffff;
    if (count > qp.sqMask + 1 - index) count = qp.sqMask + 1 - index;
    if (count > FETCH_MAX) count = FETCH_MAX;
    const bytes = count << qp.sqStrideLog;
    const address = qp.sqRing + index * (1 << qp.sqStrideLog);
    const status = this.engine.port.borrow(address, bytes, qp.sqSpan);
    if (status !== 0) {
      this.engine.transfer.dmaStatus = status;
      return -1;
    }
    const span = qp.sqSpan;
    if (span.bytes !== qp.sqBytes) {
      qp.sqBytes = span.bytes;
      qp.sqView = new DataView(span.bytes.buffer, span.bytes.byteOffset, span.bytes.byteLength);
    }
    qp.fetchSerial = this.engine.serial;
    qp.fetchFirst = counter;
    qp.fetchCount = span.length >> qp.sqStrideLog;
    assert(qp.fetchCount > 0, "a work queue entry lies in one piece");
    return span.offset;
  }

  /** Takes the slot at `sqNext`, with `packets` PSNs. From here on answers find it. */
  take(qp: RnicQp, packets: number, wait: number): void {
    const slot = (qp.sqNext & qp.sqMask) << SLOT_LOG;
    qp.slots[slot + Slot.firstPsn] = qp.sqPsn;
    qp.slots[slot + Slot.lastPsn] = (qp.sqPsn + packets - 1) & PSN_MASK;
    qp.slots[slot + Slot.wait] = wait;
    qp.sqPsn = (qp.sqPsn + packets) & PSN_MASK;
    if (qp.sqNext === qp.sqHigh) {
      if (qp.sqHigh === qp.sqHead) {
        qp.ackDeadlineNs = this.engine.port.nowNs() + qp.timeoutNs;
      }
      qp.sqHigh = (qp.sqHigh + 1) & 0xffff;
      qp.sentPsn = qp.sqPsn;
    }
    qp.sqNext = (qp.sqNext + 1) & 0xffff;
  }

  /** Not more packets under way than half the PSN space tells apart. */
  psnRoom(qp: RnicQp, packets: number): boolean {
    if (qp.sqHead === qp.sqHigh) return true;
    const oldest = qp.slots[((qp.sqHead & qp.sqMask) << SLOT_LOG) + Slot.firstPsn];
    return psnDistance(qp.sqPsn, oldest) + packets < PSN_HALF;
  }

  /**
   * Whether the message just taken asks for an acknowledgement: not while more of its kind follow,
   * so that one acknowledgement completes a batch. What is followed by something that waits for it
   * does ask, and the caller may insist (long messages, and what is sent again).
   */
  wantsAck(qp: RnicQp, insist: boolean): boolean {
    const next = qp.sqNext;
    if (!insist && next !== qp.sqTail) {
      const ahead = (next - qp.fetchFirst) & 0xffff;
      if (ahead < qp.fetchCount && qp.unasked < UNASKED_MAX) {
        const at = qp.sqSpan.offset + (ahead << qp.sqStrideLog);
        const opcode = qp.sqView.getUint8(at + Wqe.opcode);
        const fenced = qp.sqView.getUint8(at + Wqe.flags) & WrFlag.fence;
        if (opcode <= WrOpcode.rdmaRead && fenced === 0) {
          qp.unasked++;
          return false;
        }
      }
    }
    qp.unasked = 0;
    return true;
  }

  /** The work request at `sqNext` failed here; it completes when those before it have. */
  fail(qp: RnicQp, status: number): number {
    if (qp.unasked > 0) {
      // Those before it wait for an acknowledgement that nobody asked for: send them again, asking.
      this.goBack(qp);
      return Start.started;
    }
    qp.failPending = true;
    qp.failCounter = qp.sqNext;
    qp.failStatus = status | (this.vendorOf(status) << 8);
    qp.sendEpoch++;
    if (qp.sqHead === qp.failCounter) this.completeFailed(qp);
    return Start.blocked;
  }

  /** The work request at `sqNext` uses a suspended region: it starts a little later. */
  pause(qp: RnicQp): number {
    if (qp.unasked > 0) {
      // As in `fail`: those before it wait for an acknowledgement that nobody asked for.
      this.goBack(qp);
      return Start.started;
    }
    qp.rnrWaiting = true;
    this.engine.port.after(PAUSE_NS, this, qp.number * 2 + SendTimer.rnr);
    return Start.blocked;
  }

  private vendorOf(status: number): number {
    return status === WcStatus.localQpOperationError ? this.engine.takeDmaStatus() : 0;
  }

  private completeFailed(qp: RnicQp): void {
    this.completeWithError(qp, qp.failStatus);
  }

  /** Completes the oldest work request with an error, which ends sending. */
  completeWithError(qp: RnicQp, status: number): void {
    this.complete(qp, status);
    qp.sqHead = (qp.sqHead + 1) & 0xffff;
    this.engine.completions.flush();
    this.engine.toSendError(qp);
  }

  complete(qp: RnicQp, status: number): void {
    const slot = (qp.sqHead & qp.sqMask) << SLOT_LOG;
    const bytes = qp.slots[slot + Slot.wait] === SlotWait.readResponse ? qp.readBytes : 0;
    this.engine.completions.push(
      qp.sendCq,
      qp.number,
      0,
      CqeFlag.send,
      qp.sqHead,
      status,
      bytes,
      0,
      0,
    );
  }

  /** Completes what is done, in order. */
  retire(qp: RnicQp): void {
    const before = qp.sqHead;
    while (qp.sqHead !== qp.sqHigh && qp.state !== QpState.error) {
      const slot = (qp.sqHead & qp.sqMask) << SLOT_LOG;
      const wait = qp.slots[slot + Slot.wait];
      if (wait === SlotWait.readResponse) break;
      if (
        wait === SlotWait.acknowledge &&
        psnDistance(qp.ackedPsn, qp.slots[slot + Slot.lastPsn]) >= PSN_HALF
      ) {
        break;
      }
      if (qp.slots[slot + Slot.signaled] === 1) this.complete(qp, WcStatus.success);
      qp.sqHead = (qp.sqHead + 1) & 0xffff;
    }
    if (qp.sqHead === before) return;
    this.flushUnlessPumping(qp);
    this.progressed(qp);
  }

  /** The requester's loop flushes at its end, for all that completed meanwhile. */
  flushUnlessPumping(qp: RnicQp): void {
    if (!qp.pumping) this.engine.completions.flush();
  }

  progressed(qp: RnicQp): void {
    qp.retryLeft = qp.retryCount;
    qp.rnrLeft = qp.rnrRetry;
    qp.ackDeadlineNs = this.engine.port.nowNs() + qp.timeoutNs;
    if (((qp.sqNext - qp.sqHead) & 0x8000) !== 0) {
      // An answer to the first sending arrived while the second had not got that far.
      qp.sqNext = qp.sqHead;
      qp.sqPsn =
        qp.sqHead === qp.sqHigh
          ? qp.sentPsn
          : qp.slots[((qp.sqHead & qp.sqMask) << SLOT_LOG) + Slot.firstPsn];
      qp.sendEpoch++;
    }
    if (qp.failPending && qp.sqHead === qp.failCounter) this.completeFailed(qp);
  }

  /** Sends again from the oldest message that is not acknowledged. */
  goBack(qp: RnicQp): void {
    if (qp.sqHead === qp.sqHigh) return;
    const psn = qp.slots[((qp.sqHead & qp.sqMask) << SLOT_LOG) + Slot.firstPsn];
    const { tracer } = this.engine;
    if (tracer.on) tracer.emit(Event.rdmaRetry, this.engine.port.bdf, qp.number, psn);
    qp.sqNext = qp.sqHead;
    qp.sqPsn = psn;
    qp.ackedPsn = (psn - 1) & PSN_MASK;
    qp.readsOutstanding = 0;
    qp.unasked = 0;
    qp.readPackets = 0;
    qp.readBytes = 0;
    qp.failPending = false;
    qp.sendEpoch++;
    qp.ackDeadlineNs = this.engine.port.nowNs() + qp.timeoutNs;
  }

  /** One transport retry, or the end. */
  retry(qp: RnicQp): void {
    if (qp.retryLeft === 0) {
      this.completeWithError(qp, WcStatus.transportRetryExceeded);
      return;
    }
    qp.retryLeft--;
    this.engine.retransmissions++;
    this.goBack(qp);
    this.again(qp);
  }

  /** Arms the local ACK timer while something is under way. One timer per queue pair at a time. */
  armTimer(qp: RnicQp): void {
    if (qp.ackTimerPending || qp.timeoutNs === 0 || qp.sqHead === qp.sqHigh) return;
    if (qp.rnrWaiting || (qp.state !== QpState.rts && qp.state !== QpState.sqd)) return;
    qp.ackTimerPending = true;
    const { port } = this.engine;
    const delay = qp.ackDeadlineNs - port.nowNs();
    port.after(Math.max(delay, 0), this, qp.number * 2 + SendTimer.acknowledge);
  }

  timer(token: number): void {
    const qp = this.engine.qps[token >> 1];
    if (qp === null) return;
    if ((token & 1) === SendTimer.rnr) {
      if (!qp.rnrWaiting) return;
      qp.rnrWaiting = false;
      qp.ackDeadlineNs = this.engine.port.nowNs() + qp.timeoutNs;
      this.again(qp);
      return;
    }
    if (!qp.ackTimerPending) return;
    qp.ackTimerPending = false;
    const late = this.engine.port.nowNs() >= qp.ackDeadlineNs;
    const waits = qp.sqHead !== qp.sqHigh && !qp.rnrWaiting;
    if (late && waits && (qp.state === QpState.rts || qp.state === QpState.sqd)) this.retry(qp);
    this.armTimer(qp);
  }

  /** Completes up to `burst` work requests as flushed; true when there are more. */
  flush(qp: RnicQp, burst: number): boolean {
    let left = burst;
    while (left > 0 && qp.sqHead !== qp.sqTail) {
      this.complete(qp, WcStatus.workRequestFlushed);
      qp.sqHead = (qp.sqHead + 1) & 0xffff;
      left--;
    }
    this.engine.completions.flush();
    qp.sqNext = qp.sqHead;
    qp.sqHigh = qp.sqHead;
    return qp.sqHead !== qp.sqTail;
  }
}
