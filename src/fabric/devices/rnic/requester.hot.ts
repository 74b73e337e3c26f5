/**
 * The sending side of the model RNIC: starts send work requests in order. IBA 9.7.3 (requester),
 * 10.8.3 (ordering).
 *
 * Invariant: whoever is in the middle of a message looks at `sendEpoch` after every run, because
 * the answer may have arrived inside the call.
 *
 * Leaves out: congestion control, atomics, memory windows, path migration.
 */

import { assert } from "../../../core/index.ts";
import {
  Access,
  PSN_MASK,
  packetsOf,
  QpState,
  QpType,
  WcStatus,
  Wqe,
  WrFlag,
  WrOpcode,
} from "../../../spec/rdma/index.ts";
import type { Engine } from "./engine.hot.ts";
import { type RnicQp, SLOT_LOG, Slot, SlotWait } from "./queue-pair.ts";
import { type SendQueue, Start } from "./send-queue.hot.ts";
import { TransferStatus } from "./transfer.hot.ts";
import { RunFlag, RunKind, type WirePath, WireRun } from "./wire.ts";

export class Requester {
  private readonly engine: Engine;
  private readonly queue: SendQueue;
  private readonly run = new WireRun();

  constructor(engine: Engine, queue: SendQueue) {
    this.engine = engine;
    this.queue = queue;
  }

  /** Starts work requests; true when it stopped only because its turn was over. */
  pump(qp: RnicQp, burst: number): boolean {
    qp.pumping = true;
    if (qp.unasked > 0 && qp.state === QpState.sqd) this.queue.goBack(qp);
    let left = burst;
    while (left > 0 && this.queue.maySend(qp)) {
      if (this.start(qp) === Start.blocked) break;
      left--;
    }
    qp.pumping = false;
    this.engine.completions.flush();
    this.queue.armTimer(qp);
    return left === 0 && this.queue.maySend(qp);
  }

  private start(qp: RnicQp): number {
    const at = this.queue.fetch(qp, qp.sqNext);
    if (at < 0) return this.queue.fail(qp, WcStatus.localQpOperationError);
    const view = qp.sqView;
    const opcode = view.getUint8(at + Wqe.opcode);
    const flags = view.getUint8(at + Wqe.flags);
    const slot = (qp.sqNext & qp.sqMask) << SLOT_LOG;
    if (qp.sqNext !== qp.sqHigh && qp.slots[slot + Slot.wait] === SlotWait.nothing) {
      // Sent again from an earlier one on; this one was local and is done.
      qp.sqNext = (qp.sqNext + 1) & 0xffff;
      return Start.started;
    }
    if (view.getUint8(at + Wqe.sgeCount) > qp.sgeMax) {
      return this.queue.fail(qp, WcStatus.localQpOperationError);
    }
    if ((flags & WrFlag.fence) !== 0 && qp.readsOutstanding > 0) return Start.blocked;
    qp.slots[slot + Slot.signaled] = qp.signalAll || (flags & WrFlag.signaled) !== 0 ? 1 : 0;
    if (qp.type !== QpType.rc) return this.startDatagram(qp, at, opcode);
    switch (opcode) {
      case WrOpcode.send:
      case WrOpcode.sendWithImm:
      case WrOpcode.sendWithInvalidate:
      case WrOpcode.rdmaWrite:
      case WrOpcode.rdmaWriteWithImm:
        return this.startMessage(qp, at, opcode, flags);
      case WrOpcode.rdmaRead:
        return this.startRead(qp, at);
      case WrOpcode.localInvalidate:
      case WrOpcode.fastRegister:
        return this.startLocal(qp, at, opcode);
      default:
        return this.queue.fail(qp, WcStatus.localQpOperationError);
    }
  }

  private startMessage(qp: RnicQp, at: number, opcode: number, flags: number): number {
    const view = qp.sqView;
    const cursor = qp.sendCursor;
    cursor.load(view, at + Wqe.sges, view.getUint8(at + Wqe.sgeCount), false);
    const total = cursor.total;
    if (total > this.engine.limits.messageBytesMax) {
      return this.queue.fail(qp, WcStatus.localLengthError);
    }
    const packets = packetsOf(total, qp.pathMtu);
    if (!this.queue.psnRoom(qp, packets)) return Start.blocked;
    if (this.engine.transfer.isSuspended(cursor, qp.pd)) return this.queue.pause(qp);
    const run = this.run;
    run.kind = RunKind.send;
    run.flags = (flags & WrFlag.solicited) !== 0 ? RunFlag.solicited : 0;
    run.immediate = view.getUint32(at + Wqe.immediate, true);
    if (opcode === WrOpcode.sendWithInvalidate) run.flags |= RunFlag.withInvalidate;
    else if (opcode === WrOpcode.sendWithImm) run.flags |= RunFlag.withImm;
    else if (opcode !== WrOpcode.send) {
      run.kind = RunKind.write;
      if (opcode === WrOpcode.rdmaWriteWithImm) run.flags |= RunFlag.withImm;
      run.remoteAddress =
        view.getUint32(at + Wqe.remoteAddress, true) +
        view.getUint32(at + Wqe.remoteAddress + 4, true) * 4294967296;
      run.rkey = view.getUint32(at + Wqe.rkey, true);
    }
    run.length = total;
    return this.sendRuns(qp, packets);
  }

  /** Sends the message whose header is in `run` and whose payload is at `sendCursor`. */
  private sendRuns(qp: RnicQp, packets: number): number {
    const { transfer, wire } = this.engine;
    const run = this.run;
    const cursor = qp.sendCursor;
    run.sourceQpn = qp.number;
    run.destQpn = qp.destQpn;
    run.psn = qp.sqPsn;
    run.first = true;
    const counter = qp.sqNext;
    let taken = false;
    for (;;) {
      const status = transfer.gatherRun(run, cursor, qp.pd, qp.pathMtu);
      if (status !== TransferStatus.ok) {
        // Those before it may wait for this message's acknowledgement: their timer finds out.
        if (taken) qp.sqNext = counter;
        return this.queue.fail(
          qp,
          status === TransferStatus.protection
            ? WcStatus.localProtectionError
            : WcStatus.localQpOperationError,
        );
      }
      run.last = cursor.done;
      run.packets = packetsOf(run.payloadBytes, qp.pathMtu);
      if (!taken) {
        const again = qp.sqNext !== qp.sqHigh;
        this.queue.take(qp, packets, SlotWait.acknowledge);
        run.ackRequest = this.queue.wantsAck(qp, again || !run.last || packets > 1);
        taken = true;
      }
      const epoch = qp.sendEpoch;
      const next = (run.psn + run.packets) & PSN_MASK;
      const { last, kind, flags } = run;
      wire.send(qp.path as WirePath, run);
      if (last || qp.sendEpoch !== epoch) return Start.started;
      // The answer to a run may have used this object for another queue pair of this RNIC.
      assert(run.kind === kind && run.flags === flags, "a message's header stays its own");
      run.psn = next;
      run.first = false;
    }
  }

  private startRead(qp: RnicQp, at: number): number {
    if (qp.readsOutstanding >= qp.maxRdAtomic) {
      return qp.maxRdAtomic === 0
        ? this.queue.fail(qp, WcStatus.localQpOperationError)
        : Start.blocked;
    }
    const view = qp.sqView;
    const cursor = qp.sendCursor;
    cursor.load(view, at + Wqe.sges, view.getUint8(at + Wqe.sgeCount), false);
    const total = cursor.total;
    if (total > this.engine.limits.messageBytesMax) {
      return this.queue.fail(qp, WcStatus.localLengthError);
    }
    const packets = packetsOf(total, qp.pathMtu);
    if (!this.queue.psnRoom(qp, packets)) return Start.blocked;
    if (this.engine.transfer.isSuspended(cursor, qp.pd)) return this.queue.pause(qp);
    if (this.engine.transfer.checkAll(cursor, qp.pd, Access.localWrite) !== TransferStatus.ok) {
      return this.queue.fail(qp, WcStatus.localProtectionError);
    }
    const run = this.run;
    run.kind = RunKind.readRequest;
    run.flags = 0;
    run.sourceQpn = qp.number;
    run.destQpn = qp.destQpn;
    run.psn = qp.sqPsn;
    run.packets = packets;
    run.first = true;
    run.last = true;
    run.length = total;
    run.remoteAddress =
      view.getUint32(at + Wqe.remoteAddress, true) +
      view.getUint32(at + Wqe.remoteAddress + 4, true) * 4294967296;
    run.rkey = view.getUint32(at + Wqe.rkey, true);
    run.clearPayload();
    this.queue.take(qp, packets, SlotWait.readResponse);
    qp.readsOutstanding++;
    this.engine.wire.send(qp.path as WirePath, run);
    return Start.started;
  }

  /** Work of this RNIC alone. It waits for all before it, which may still use the region. */
  private startLocal(qp: RnicQp, at: number, opcode: number): number {
    if (qp.sqHead !== qp.sqNext) return Start.blocked;
    const done =
      opcode === WrOpcode.localInvalidate
        ? this.engine.regions.invalidate(qp.sqView.getUint32(at + Wqe.immediate, true), qp.pd)
        : this.fastRegister(qp, at);
    if (!done) return this.queue.fail(qp, WcStatus.localQpOperationError);
    this.queue.take(qp, 0, SlotWait.nothing);
    this.queue.retire(qp);
    return Start.started;
  }

  /** IBA 10.6.3.3. The new key keeps the region's index; its low 8 bits are the consumer's. */
  private fastRegister(qp: RnicQp, at: number): boolean {
    const view = qp.sqView;
    const { regions, port } = this.engine;
    const key = view.getUint32(at + Wqe.immediate, true);
    const region = regions.findSlot(key);
    if (region === null || region.pd !== qp.pd || !region.fastRegister || region.valid)
      return false;
    const count = view.getUint32(at + Wqe.rangeCount, true);
    if (count === 0 || count > region.targets.length) return false;
    const length =
      view.getUint32(at + Wqe.regionLength, true) +
      view.getUint32(at + Wqe.regionLength + 4, true) * 4294967296;
    const target =
      view.getUint32(at + Wqe.ranges, true) +
      view.getUint32(at + Wqe.ranges + 4, true) * 4294967296;
    if (count === 1) {
      region.starts[0] = 0;
      region.targets[0] = target;
      region.rangeCount = 1;
    } else {
      const status = regions.readRanges(region, port, target, count);
      if (status > 0) this.engine.transfer.dmaStatus = status;
      if (status !== 0 || region.length !== length) return false;
    }
    const address =
      view.getUint32(at + Wqe.remoteAddress, true) +
      view.getUint32(at + Wqe.remoteAddress + 4, true) * 4294967296;
    region.key = key;
    region.define(address, length, view.getUint32(at + Wqe.rkey, true));
    return true;
  }

  private startDatagram(qp: RnicQp, at: number, opcode: number): number {
    if (opcode !== WrOpcode.send) return this.queue.fail(qp, WcStatus.localQpOperationError);
    const view = qp.sqView;
    const cursor = qp.sendCursor;
    cursor.load(view, at + Wqe.sges, view.getUint8(at + Wqe.sgeCount), false);
    if (cursor.total > this.engine.wire.mtu) return this.queue.fail(qp, WcStatus.localLengthError);
    const run = this.run;
    const status = this.engine.transfer.gatherRun(run, cursor, qp.pd, this.engine.wire.mtu);
    if (status !== TransferStatus.ok) {
      return this.queue.fail(
        qp,
        status === TransferStatus.protection
          ? WcStatus.localProtectionError
          : WcStatus.localQpOperationError,
      );
    }
    assert(cursor.done, "a datagram is one packet");
    run.kind = RunKind.datagram;
    run.flags = 0;
    run.sourceQpn = qp.number;
    run.destQpn = view.getUint32(at + Wqe.destQpn, true);
    run.qkey = view.getUint32(at + Wqe.qkey, true);
    run.psn = qp.sqPsn;
    run.packets = 1;
    run.first = true;
    run.last = true;
    run.length = cursor.total;
    const path = this.engine.datagramPath(qp.sqBytes, at + Wqe.gid);
    this.queue.take(qp, 0, SlotWait.nothing);
    qp.sqPsn = (qp.sqPsn + 1) & PSN_MASK;
    this.engine.wire.send(path, run);
    this.queue.retire(qp);
    return Start.started;
  }
}
