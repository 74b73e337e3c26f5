/**
 * What comes back to the sender in the model RNIC: ACKs, RNR NAKs, NAKs and READ responses. IBA
 * 9.7.5 (acknowledgements), 9.7.5.2 (NAKs and retries), 9.9.2 (requester errors).
 *
 * Leaves out: credits, selective repeat.
 */

import {
  Access,
  PSN_HALF,
  PSN_MASK,
  psnDistance,
  QpState,
  RNR_RETRY_FOREVER,
  RNR_TIMER_NS,
  SYNDROME_KIND_MASK,
  SYNDROME_VALUE_MASK,
  Syndrome,
  SyndromeKind,
  WcStatus,
  Wqe,
} from "../../../spec/rdma/index.ts";
import type { Engine } from "./engine.hot.ts";
import { type RnicQp, SLOT_LOG, Slot, SlotWait } from "./queue-pair.ts";
import { type SendQueue, SendTimer } from "./send-queue.hot.ts";
import { TransferStatus } from "./transfer.hot.ts";
import type { WireRun } from "./wire.ts";

export class Answers {
  private readonly engine: Engine;
  private readonly queue: SendQueue;

  constructor(engine: Engine, queue: SendQueue) {
    this.engine = engine;
    this.queue = queue;
  }

  /** True when `psn` is of a message under way. */
  private isOutstanding(qp: RnicQp, psn: number): boolean {
    if (qp.sqHead === qp.sqHigh) return false;
    const oldest = qp.slots[((qp.sqHead & qp.sqMask) << SLOT_LOG) + Slot.firstPsn];
    return psnDistance(psn, oldest) < psnDistance(qp.sentPsn, oldest);
  }

  /** Everything before `psn` is acknowledged. */
  private acknowledgeBefore(qp: RnicQp, psn: number): void {
    qp.ackedPsn = (psn - 1) & PSN_MASK;
    this.queue.retire(qp);
  }

  /** An acknowledge run for `qp`. */
  acknowledge(qp: RnicQp, run: WireRun): void {
    if (qp.state !== QpState.rts && qp.state !== QpState.sqd) return;
    if (!this.isOutstanding(qp, run.psn)) return;
    const value = run.syndrome & SYNDROME_VALUE_MASK;
    switch (run.syndrome & SYNDROME_KIND_MASK) {
      case SyndromeKind.ack:
        this.positive(qp, run.psn);
        return;
      case SyndromeKind.rnrNak:
        this.acknowledgeBefore(qp, run.psn);
        this.rnrNak(qp, value);
        return;
      case SyndromeKind.nak:
        this.acknowledgeBefore(qp, run.psn);
        this.nak(qp, run.syndrome);
        return;
      default:
        return;
    }
  }

  private positive(qp: RnicQp, psn: number): void {
    qp.ackedPsn = psn;
    this.queue.retire(qp);
    if (qp.sqHead !== qp.sqHigh && qp.state !== QpState.error) {
      const slot = (qp.sqHead & qp.sqMask) << SLOT_LOG;
      const lost =
        qp.slots[slot + Slot.wait] === SlotWait.readResponse &&
        psnDistance(psn, qp.slots[slot + Slot.lastPsn]) < PSN_HALF;
      // Acknowledged beyond a READ that has no response: the response was lost. IBA 9.7.5.1.1.
      if (lost) {
        this.queue.retry(qp);
        return;
      }
    }
    this.queue.again(qp);
  }

  private rnrNak(qp: RnicQp, code: number): void {
    if (qp.sqHead === qp.sqHigh || qp.state === QpState.error) return;
    if (qp.rnrRetry !== RNR_RETRY_FOREVER) {
      if (qp.rnrLeft === 0) {
        this.queue.completeWithError(qp, WcStatus.rnrRetryExceeded);
        return;
      }
      qp.rnrLeft--;
    }
    this.engine.rnrNaks++;
    this.queue.goBack(qp);
    if (qp.rnrWaiting) return;
    qp.rnrWaiting = true;
    const token = qp.number * 2 + SendTimer.rnr;
    this.engine.port.after(RNR_TIMER_NS[code], this.queue, token);
  }

  private nak(qp: RnicQp, syndrome: number): void {
    if (qp.sqHead === qp.sqHigh || qp.state === QpState.error) return;
    switch (syndrome) {
      case Syndrome.nakSequence:
        this.queue.retry(qp);
        return;
      case Syndrome.nakInvalidRequest:
        this.queue.completeWithError(qp, WcStatus.remoteInvalidRequest);
        return;
      case Syndrome.nakRemoteAccess:
        this.queue.completeWithError(qp, WcStatus.remoteAccessError);
        return;
      case Syndrome.nakRemoteOperation:
        this.queue.completeWithError(qp, WcStatus.remoteOperationError);
        return;
      default:
        this.queue.completeWithError(qp, WcStatus.badResponse);
    }
  }

  /** A READ response run for `qp`. */
  readResponse(qp: RnicQp, run: WireRun): void {
    if (qp.state !== QpState.rts && qp.state !== QpState.sqd) return;
    if (!this.isOutstanding(qp, run.psn)) return;
    const slot = this.readSlot(qp, run.psn);
    if (slot < 0) return;
    const ahead = psnDistance(
      run.psn,
      (qp.slots[slot + Slot.firstPsn] + qp.readPackets) & PSN_MASK,
    );
    if (ahead !== 0) {
      // Behind: a response seen already. Ahead: one before it was lost.
      if (ahead < PSN_HALF) this.queue.retry(qp);
      return;
    }
    if (qp.readPackets === 0 && !this.loadReadTarget(qp)) return;
    const status = this.engine.transfer.scatterRun(run, qp.readCursor, qp.pd, Access.localWrite);
    if (status !== TransferStatus.ok) {
      this.failRead(qp, status);
      return;
    }
    qp.readPackets += run.packets;
    qp.readBytes += run.payloadBytes;
    if (!run.last) {
      qp.ackDeadlineNs = this.engine.port.nowNs() + qp.timeoutNs;
      return;
    }
    if (!qp.readCursor.done) {
      this.queue.completeWithError(qp, WcStatus.badResponse);
      return;
    }
    this.finishRead(qp, slot);
  }

  /**
   * Slot of the READ that a response with `psn` is for: the oldest request once those before are
   * completed by it. -1 when it is none, after going back where a response was lost.
   */
  private readSlot(qp: RnicQp, psn: number): number {
    this.acknowledgeBefore(qp, psn);
    if (qp.sqHead === qp.sqHigh || qp.state === QpState.error) return -1;
    const slot = (qp.sqHead & qp.sqMask) << SLOT_LOG;
    if (qp.slots[slot + Slot.wait] !== SlotWait.readResponse) return -1;
    const inMessage = psnDistance(psn, qp.slots[slot + Slot.firstPsn]);
    if (inMessage > psnDistance(qp.slots[slot + Slot.lastPsn], qp.slots[slot + Slot.firstPsn])) {
      if (inMessage < PSN_HALF) this.queue.retry(qp);
      return -1;
    }
    return slot;
  }

  private loadReadTarget(qp: RnicQp): boolean {
    const at = this.queue.fetch(qp, qp.sqHead);
    if (at < 0) {
      this.queue.completeWithError(
        qp,
        WcStatus.localQpOperationError | (this.engine.takeDmaStatus() << 8),
      );
      return false;
    }
    qp.readCursor.load(qp.sqView, at + Wqe.sges, qp.sqView.getUint8(at + Wqe.sgeCount), false);
    qp.readBytes = 0;
    return true;
  }

  private failRead(qp: RnicQp, status: number): void {
    if (status === TransferStatus.tooLong) this.queue.completeWithError(qp, WcStatus.badResponse);
    else if (status === TransferStatus.protection) {
      this.queue.completeWithError(qp, WcStatus.localProtectionError);
    } else {
      this.queue.completeWithError(
        qp,
        WcStatus.localQpOperationError | (this.engine.takeDmaStatus() << 8),
      );
    }
  }

  private finishRead(qp: RnicQp, slot: number): void {
    if (qp.slots[slot + Slot.signaled] === 1) this.queue.complete(qp, WcStatus.success);
    qp.sqHead = (qp.sqHead + 1) & 0xffff;
    qp.ackedPsn = qp.slots[slot + Slot.lastPsn];
    qp.readsOutstanding--;
    qp.readPackets = 0;
    qp.readBytes = 0;
    this.queue.flushUnlessPumping(qp);
    this.queue.progressed(qp);
    this.queue.retire(qp);
    this.queue.again(qp);
  }
}
