/**
 * The receiving side of the model RNIC: takes request runs of peers in PSN order, moves their
 * payload, completes RECVs, answers. IBA 9.7.4 to 9.7.8 (responder), 9.9.3 (responder errors).
 *
 * What is answered: an ACK for each message that asks for one, with the PSN of its last packet; RNR
 * NAK when a RECV is needed and none is posted, and while a region is suspended; NAK for a PSN
 * ahead of the expected one (once), for an invalid request, for a key that does not allow it, for
 * an operation that failed here. Duplicates are acknowledged again without effect, duplicate READs
 * answered again. The last three NAKs end the queue pair.
 *
 * Invariants: payload is written before the completion, the completion before the ACK; a message
 * takes effect once.
 *
 * Leaves out: end-to-end credits (the ACK says "no credit count"), atomics.
 */

import { assert, Span } from "../../../core/index.ts";
import {
  Access,
  CqeFlag,
  PSN_HALF,
  PSN_MASK,
  packetsOf,
  psnDistance,
  QpState,
  SGE_LOG,
  Syndrome,
  WcOpcode,
  WcStatus,
} from "../../../spec/rdma/index.ts";
import type { Engine } from "./engine.hot.ts";
import { RECV_FETCH_MAX, type RnicQp } from "./queue-pair.ts";
import { RegionCheck } from "./region-table.hot.ts";
import { TransferStatus } from "./transfer.hot.ts";
import { RunFlag, RunKind, type WirePath, WireRun } from "./wire.ts";

export class Responder {
  private readonly engine: Engine;
  /** Acknowledgements and READ responses. */
  private readonly reply = new WireRun();
  private readonly span = new Span();

  constructor(engine: Engine) {
    this.engine = engine;
  }

  /** A request run for a reliable connection. */
  request(qp: RnicQp, run: WireRun): void {
    if (qp.state !== QpState.rtr && qp.state !== QpState.rts && qp.state !== QpState.sqd) return;
    const distance = psnDistance(run.psn, qp.expectedPsn);
    if (distance !== 0) {
      if (distance < PSN_HALF) this.gap(qp);
      else this.duplicate(qp, run);
      return;
    }
    qp.nakSent = false;
    if (run.kind === RunKind.readRequest) this.read(qp, run);
    else if (run.kind === RunKind.write) this.write(qp, run);
    else this.send(qp, run);
  }

  /**
   * Something before this run was lost. Said once, until the expected run arrives. IBA 9.7.5.2.4.
   */
  private gap(qp: RnicQp): void {
    if (qp.nakSent) return;
    qp.nakSent = true;
    this.answer(qp, qp.expectedPsn, Syndrome.nakSequence);
  }

  private duplicate(qp: RnicQp, run: WireRun): void {
    if (run.kind !== RunKind.readRequest) {
      // What was acknowledged last covers it. IBA 9.7.5.1.2.
      this.answer(qp, (qp.expectedPsn - 1) & PSN_MASK, Syndrome.ack);
      return;
    }
    if (!this.readAllowed(qp, run)) {
      this.refuseAccess(qp, run.psn);
      return;
    }
    this.respond(qp, run.psn, run.length);
  }

  private send(qp: RnicQp, run: WireRun): void {
    if (run.first) {
      if (qp.inMessage !== 0) {
        this.refuse(qp, run.psn, Syndrome.nakInvalidRequest);
        return;
      }
      const found = this.nextRecv(qp);
      if (found !== RecvFound.yes) {
        this.noRecv(qp, run.psn, found);
        return;
      }
      if (this.engine.transfer.isSuspended(qp.recvCursor, qp.pd)) {
        this.notNow(qp, run.psn);
        return;
      }
      qp.inMessage = RunKind.send;
      qp.messageBytes = 0;
    } else if (qp.inMessage !== RunKind.send) {
      this.refuse(qp, run.psn, Syndrome.nakInvalidRequest);
      return;
    }
    const { transfer } = this.engine;
    const status = transfer.scatterRun(run, qp.recvCursor, qp.pd, Access.localWrite);
    if (status !== TransferStatus.ok) {
      this.failRecv(qp, run.psn, status);
      return;
    }
    qp.messageBytes += run.payloadBytes;
    if (!run.last) {
      this.accept(qp, run);
      return;
    }
    let flags = 0;
    if ((run.flags & RunFlag.withInvalidate) !== 0) {
      if (!this.engine.regions.invalidate(run.immediate, qp.pd)) {
        this.completeRecv(qp, WcOpcode.recv, 0, WcStatus.remoteInvalidRequest, 0, 0);
        this.refuse(qp, run.psn, Syndrome.nakInvalidRequest);
        return;
      }
      flags = CqeFlag.withInvalidate;
    } else if ((run.flags & RunFlag.withImm) !== 0) flags = CqeFlag.withImm;
    if ((run.flags & RunFlag.solicited) !== 0) flags |= CqeFlag.solicited;
    const bytes = qp.messageBytes;
    this.completeRecv(qp, WcOpcode.recv, flags, WcStatus.success, bytes, run.immediate);
    this.finish(qp, run);
  }

  private write(qp: RnicQp, run: WireRun): void {
    if (run.first) {
      if (qp.inMessage !== 0) {
        this.refuse(qp, run.psn, Syndrome.nakInvalidRequest);
        return;
      }
      if (!this.writeAllowed(qp, run)) {
        this.refuseAccess(qp, run.psn);
        return;
      }
    } else if (qp.inMessage !== RunKind.write) {
      this.refuse(qp, run.psn, Syndrome.nakInvalidRequest);
      return;
    }
    const takesRecv = run.last && (run.flags & RunFlag.withImm) !== 0;
    if (takesRecv) {
      const found = this.nextRecv(qp);
      if (found !== RecvFound.yes) {
        this.noRecv(qp, run.psn, found);
        return;
      }
    }
    qp.inMessage = RunKind.write;
    const { transfer } = this.engine;
    const status = transfer.scatterRun(run, qp.remoteCursor, qp.pd, Access.remoteWrite);
    if (status !== TransferStatus.ok) {
      this.refuse(qp, run.psn, WRITE_NAKS[status]);
      return;
    }
    qp.messageBytes += run.payloadBytes;
    if (!run.last) {
      this.accept(qp, run);
      return;
    }
    if (!qp.remoteCursor.done) {
      this.refuse(qp, run.psn, Syndrome.nakInvalidRequest);
      return;
    }
    if (takesRecv) {
      let flags: number = CqeFlag.withImm;
      if ((run.flags & RunFlag.solicited) !== 0) flags |= CqeFlag.solicited;
      const bytes = qp.messageBytes;
      const opcode = WcOpcode.recvRdmaWithImm;
      this.completeRecv(qp, opcode, flags, WcStatus.success, bytes, run.immediate);
    }
    this.finish(qp, run);
  }

  private writeAllowed(qp: RnicQp, run: WireRun): boolean {
    qp.messageBytes = 0;
    // A request for no bytes is not checked: it touches nothing. IBA 9.7.4.1.5.
    if (run.length === 0) {
      qp.remoteCursor.setRange(null, 0, 0);
      return true;
    }
    const { regions } = this.engine;
    regions.reason = RegionCheck.noAccess;
    if ((qp.remoteAccess & Access.remoteWrite) === 0) return false;
    const region = regions.check(
      run.rkey,
      qp.pd,
      Access.remoteWrite,
      run.remoteAddress,
      run.length,
    );
    if (region === null) return false;
    qp.remoteCursor.setRange(region, run.remoteAddress, run.length);
    return true;
  }

  private read(qp: RnicQp, run: WireRun): void {
    if (qp.inMessage !== 0 || qp.maxDestRdAtomic === 0) {
      this.refuse(qp, run.psn, Syndrome.nakInvalidRequest);
      return;
    }
    if (!this.readAllowed(qp, run)) {
      this.refuseAccess(qp, run.psn);
      return;
    }
    const { psn, length } = run;
    qp.expectedPsn = (psn + packetsOf(length, qp.pathMtu)) & PSN_MASK;
    qp.msn = (qp.msn + 1) & PSN_MASK;
    this.respond(qp, psn, length);
  }

  private readAllowed(qp: RnicQp, run: WireRun): boolean {
    if (run.length === 0) {
      qp.remoteCursor.setRange(null, 0, 0);
      return true;
    }
    const { regions } = this.engine;
    regions.reason = RegionCheck.noAccess;
    if ((qp.remoteAccess & Access.remoteRead) === 0) return false;
    const region = regions.check(run.rkey, qp.pd, Access.remoteRead, run.remoteAddress, run.length);
    if (region === null) return false;
    qp.remoteCursor.setRange(region, run.remoteAddress, run.length);
    return true;
  }

  /** Sends what `remoteCursor` covers, in as many runs as it takes. */
  private respond(qp: RnicQp, firstPsn: number, length: number): void {
    const { reply } = this;
    const { transfer, wire, completions } = this.engine;
    const cursor = qp.remoteCursor;
    completions.flush();
    let psn = firstPsn;
    let first = true;
    for (;;) {
      const status = transfer.gatherRun(reply, cursor, qp.pd, qp.pathMtu);
      if (status !== TransferStatus.ok) {
        this.refuse(qp, psn, Syndrome.nakRemoteOperation);
        return;
      }
      const last = cursor.done;
      reply.kind = RunKind.readResponse;
      reply.flags = 0;
      reply.sourceQpn = qp.number;
      reply.destQpn = qp.destQpn;
      reply.psn = psn;
      reply.packets = packetsOf(reply.payloadBytes, qp.pathMtu);
      reply.first = first;
      reply.last = last;
      reply.syndrome = Syndrome.ack;
      reply.msn = qp.msn;
      reply.length = length;
      psn = (psn + reply.packets) & PSN_MASK;
      first = false;
      wire.send(qp.path as WirePath, reply);
      if (last) return;
    }
  }

  /** A run that is not the last of its message. */
  private accept(qp: RnicQp, run: WireRun): void {
    qp.expectedPsn = (run.psn + run.packets) & PSN_MASK;
  }

  /** The message is complete and its effects are done. */
  private finish(qp: RnicQp, run: WireRun): void {
    qp.inMessage = 0;
    const psn = (run.psn + run.packets - 1) & PSN_MASK;
    qp.expectedPsn = (psn + 1) & PSN_MASK;
    qp.msn = (qp.msn + 1) & PSN_MASK;
    if (run.ackRequest) this.answer(qp, psn, Syndrome.ack);
    else this.engine.completions.flushLater();
  }

  private answer(qp: RnicQp, psn: number, syndrome: number): void {
    const { reply } = this;
    reply.kind = RunKind.acknowledge;
    reply.flags = 0;
    reply.first = true;
    reply.last = true;
    reply.sourceQpn = qp.number;
    reply.destQpn = qp.destQpn;
    reply.psn = psn;
    reply.packets = 1;
    reply.syndrome = syndrome;
    reply.msn = qp.msn;
    reply.length = 0;
    reply.clearPayload();
    this.engine.completions.flush();
    this.engine.wire.send(qp.path as WirePath, reply);
  }

  /** A NAK that ends the connection: this side goes to error as well. IBA 9.9.3. */
  private refuse(qp: RnicQp, psn: number, syndrome: number): void {
    qp.inMessage = 0;
    // Error first: the answer may come back inside the call.
    this.engine.qpFatal(qp, syndrome);
    this.answer(qp, psn, syndrome);
  }

  /** The key does not allow it; or its region is suspended, and the peer is to ask again. */
  private refuseAccess(qp: RnicQp, psn: number): void {
    if (this.engine.regions.reason === RegionCheck.suspended) this.notNow(qp, psn);
    else this.refuse(qp, psn, Syndrome.nakRemoteAccess);
  }

  private notNow(qp: RnicQp, psn: number): void {
    // Runs behind this one are not to be NAKed as a gap: the sender goes back anyway.
    qp.nakSent = true;
    this.answer(qp, psn, Syndrome.rnrNak | qp.minRnrTimer);
  }

  private noRecv(qp: RnicQp, psn: number, found: number): void {
    if (found === RecvFound.failed) {
      this.refuse(qp, psn, Syndrome.nakRemoteOperation);
      return;
    }
    this.notNow(qp, psn);
  }

  /** The RECV could not take the message: it completes in error, and the sender is told. */
  private failRecv(qp: RnicQp, psn: number, status: number): void {
    const vendor = status === TransferStatus.dma ? this.engine.takeDmaStatus() << 8 : 0;
    this.completeRecv(qp, WcOpcode.recv, 0, RECV_STATUSES[status] | vendor, 0, 0);
    this.engine.toError(qp);
    qp.inMessage = 0;
    this.answer(qp, psn, RECV_NAKS[status]);
  }

  /** Loads the oldest RECV into `recvCursor`, without consuming it. */
  private nextRecv(qp: RnicQp): number {
    if (qp.rqHead === qp.rqTail && !this.refreshRecvs(qp)) return RecvFound.failed;
    if (qp.rqHead === qp.rqTail) return RecvFound.none;
    const ahead = (qp.rqHead - qp.rqFirst) & 0xffff;
    if (ahead >= qp.rqFetched && !this.fetchRecvs(qp)) return RecvFound.failed;
    const entry = (qp.rqHead - qp.rqFirst) & 0xffff;
    qp.recvCursor.load(qp.rqView, entry << qp.rqStrideLog, 1 << (qp.rqStrideLog - SGE_LOG), true);
    return RecvFound.yes;
  }

  /** Fetches RECVs from `rqHead` on into the device. They stay as posted until they complete. */
  private fetchRecvs(qp: RnicQp): boolean {
    const index = qp.rqHead & qp.rqMask;
    const posted = (qp.rqTail - qp.rqHead) & 0xffff;
    const count = Math.min(posted, RECV_FETCH_MAX, qp.rqMask + 1 - index);
    const address = qp.rqRing + index * (1 << qp.rqStrideLog);
    const status = this.engine.port.read(address, qp.rqEntries, 0, count << qp.rqStrideLog);
    if (status !== 0) {
      this.engine.transfer.dmaStatus = status;
      return false;
    }
    qp.rqFirst = qp.rqHead;
    qp.rqFetched = count;
    return true;
  }

  /** Reads the producer's doorbell record. */
  private refreshRecvs(qp: RnicQp): boolean {
    const { span } = this;
    const status = this.engine.port.borrow(qp.rqRecord, 4, span);
    if (status !== 0) {
      this.engine.transfer.dmaStatus = status;
      return false;
    }
    assert(span.length === 4, "a doorbell record lies in one piece");
    qp.rqTail = span.bytes[span.offset] | (span.bytes[span.offset + 1] << 8);
    return true;
  }

  /** Consumes the oldest RECV and completes it. */
  private completeRecv(
    qp: RnicQp,
    opcode: number,
    flags: number,
    status: number,
    bytes: number,
    immediate: number,
  ): void {
    const counter = qp.rqHead;
    qp.rqHead = (qp.rqHead + 1) & 0xffff;
    const { completions } = this.engine;
    completions.push(qp.recvCq, qp.number, opcode, flags, counter, status, bytes, immediate, 0);
  }

  /** A datagram for QP 1 or another UD queue pair. Whatever does not fit is dropped. IBA 9.8.3. */
  datagram(qp: RnicQp, run: WireRun, header: Uint8Array): void {
    if (qp.state < QpState.rtr || qp.state === QpState.error) return;
    if (run.qkey !== qp.qkey || this.nextRecv(qp) !== RecvFound.yes) return;
    const { transfer } = this.engine;
    let status = transfer.scatter(
      header,
      0,
      header.length,
      qp.recvCursor,
      qp.pd,
      Access.localWrite,
    );
    if (status === TransferStatus.ok) {
      status = transfer.scatterRun(run, qp.recvCursor, qp.pd, Access.localWrite);
    }
    const vendor = status === TransferStatus.dma ? this.engine.takeDmaStatus() << 8 : 0;
    const counter = qp.rqHead;
    qp.rqHead = (qp.rqHead + 1) & 0xffff;
    this.engine.completions.push(
      qp.recvCq,
      qp.number,
      WcOpcode.recv,
      CqeFlag.grh,
      counter,
      RECV_STATUSES[status] | vendor,
      status === TransferStatus.ok ? header.length + run.payloadBytes : 0,
      0,
      run.sourceQpn,
    );
    this.engine.completions.flush();
    if (status !== TransferStatus.ok) this.engine.toError(qp);
  }

  /** Completes up to `burst` RECVs as flushed; true when there are more. */
  flush(qp: RnicQp, burst: number): boolean {
    if (!this.refreshRecvs(qp)) return false;
    qp.inMessage = 0;
    let left = burst;
    while (left > 0 && qp.rqHead !== qp.rqTail) {
      this.completeRecv(qp, WcOpcode.recv, 0, WcStatus.workRequestFlushed, 0, 0);
      left--;
    }
    this.engine.completions.flush();
    return qp.rqHead !== qp.rqTail;
  }
}

const RecvFound = {
  yes: 0,
  none: 1,
  /** The ring or its record could not be read. */
  failed: 2,
} as const;

/** Indexed by `TransferStatus`. */
const RECV_STATUSES: readonly number[] = [
  WcStatus.success,
  WcStatus.localProtectionError,
  WcStatus.localQpOperationError,
  WcStatus.localLengthError,
];
const RECV_NAKS: readonly number[] = [
  Syndrome.ack,
  Syndrome.nakRemoteOperation,
  Syndrome.nakRemoteOperation,
  Syndrome.nakInvalidRequest,
];
const WRITE_NAKS: readonly number[] = [
  Syndrome.ack,
  Syndrome.nakRemoteAccess,
  Syndrome.nakRemoteOperation,
  Syndrome.nakInvalidRequest,
];
