/**
 * The TCP transport's connection in the target: command capsules and H2CData come in, R2Ts, C2HData
 * and responses go out. NVM Express TCP Transport Specification 1.0, section 3.
 *
 * - A write's data goes from the socket's buffer into the memory that the orchestrator chose, host
 *   memory or a provider's BAR, in one copy; in-capsule data goes into the receive ring, where the
 *   disk takes it.
 * - One R2T per command, for all of its data: what MAXR2T 1 allows, and nothing is gained by more,
 *   since the memory is there.
 * - A host that switched SQ flow control off gets no response to a read that went well: the last
 *   C2HData says so (SUCCESS).
 *
 * Invariants: what the host sends cannot make it hold more than the inbox, the receive ring and the
 * send buffers; every violation is answered with one C2HTermReq and ends the connection; a request
 * is on the send list at most once; after the end each comes back once, from inside `poll`.
 */

import {
  assert,
  Span,
  TCP_FLUSH_BYTES,
  TCP_H2C_DATA_BYTES_MAX,
  TCP_INBOX_BYTES_MAX,
  TCP_PDUS_PER_POLL,
} from "../../../core/index.ts";
import type { ByteStream, StreamEvents } from "../../../platform/index.ts";
import { NvmeStatus } from "../../../spec/nvme/index.ts";
import {
  COMMAND_BYTES,
  RESPONSE_BYTES,
  TCP_ADMIN_IN_CAPSULE_BYTES,
  TCP_CAPSULE_AT,
  TCP_PDA_MAX,
  TCP_PFV,
  TcpChOffset,
  TcpDataOffset,
  TcpDigest,
  TcpFes,
  TcpFlag,
  TcpIcOffset,
  TcpPdu,
} from "../../../spec/nvmf/index.ts";
import type { NamespaceBinding } from "../../binding.hot.ts";
import type { Channel, PeerPatience } from "../../channel.ts";
import type { TargetQueue } from "../../queue.hot.ts";
import { Placement, RequestState, type TargetRequest } from "../../request.hot.ts";
import { CONTROLLER_RECEIVES, type PduHandler, PduReader } from "./pdu-reader.hot.ts";
import { type PduWriter, PIECE_BYTES_MIN } from "./pdu-writer.hot.ts";
import { PeerWatch } from "./peer-watch.ts";

/** What the channel reports upwards. Control plane. */
export interface TcpChannelOwner {
  /** The host asks for a connection with these digests: answers with an ICResp. */
  initialize(channel: TcpTargetChannel, digests: number): void;
  /** Sends a C2HTermReq; the connection is then ended by `lost`. */
  terminate(channel: TcpTargetChannel): void;
  /** The connection is broken, or must go: the queue must be dropped. */
  lost(channel: TcpTargetChannel, reason: string): void;
  /** Nothing uses the buffers any more. */
  released(channel: TcpTargetChannel): void;
  /** Its host does not do its part: counted, and ended by `lost`. */
  stalled(channel: TcpTargetChannel, reason: string): void;
  /** Something arrived, or there is room to send again. */
  wake(): void;
}

export interface TcpChannelParts {
  readonly owner: TcpChannelOwner;
  readonly stream: ByteStream;
  readonly writer: PduWriter;
  readonly requests: readonly TargetRequest[];
  /** CPDA: alignment that the host must give its data. */
  readonly cpda: number;
}

/** Internal verdict: the send buffers are full. */
const NO_ROOM = -1;

const span = new Span();

export class TcpTargetChannel implements Channel, StreamEvents, PduHandler {
  readonly stream: ByteStream;
  readonly writer: PduWriter;
  readonly reader: PduReader;
  queue: TargetQueue | null = null;
  /** Why it ended; null while it is up. */
  ended: string | null = null;
  /** The stream itself is over, and why. */
  streamEnd: string | null = null;
  /** Bytes of the stream that arrived, and times that reading paused for want of room. */
  bytesIn = 0;
  pauses = 0;
  /** Data digests that did not match. */
  dataDigestErrors = 0;
  /** H2CData PDUs that arrived. */
  private dataPdus = 0;
  private readonly watch: PeerWatch;
  private readonly owner: TcpChannelOwner;
  private readonly requests: readonly TargetRequest[];
  private readonly free: TargetRequest[];
  private freeCount: number;
  /** Pieces that arrived and are not read yet; `inboxAt` is where in the first. */
  private inbox: Uint8Array[] = [];
  private inboxAt = 0;
  private inboxBytes = 0;
  private isPaused = false;
  /** Data bytes of a write that are here, or of a read that went out, by tag. */
  private readonly moved: Uint32Array;
  /** An R2T is out, by tag. */
  private readonly asked: Uint8Array;
  private readonly damaged: Uint8Array;
  private sendHead: TargetRequest | null = null;
  private sendTail: TargetRequest | null = null;
  private readonly answered: TargetRequest[];
  private answeredCount = 0;
  /** Of the PDU that is being received. */
  private incoming: TargetRequest | null = null;

  constructor(parts: TcpChannelParts) {
    this.owner = parts.owner;
    this.stream = parts.stream;
    this.writer = parts.writer;
    this.requests = parts.requests;
    this.free = parts.requests.slice();
    this.freeCount = parts.requests.length;
    this.answered = parts.requests.slice();
    this.moved = new Uint32Array(parts.requests.length);
    this.asked = new Uint8Array(parts.requests.length);
    this.damaged = new Uint8Array(parts.requests.length);
    this.watch = new PeerWatch(parts.requests);
    this.reader = new PduReader(CONTROLLER_RECEIVES, 1 << TcpPdu.ICREQ, this);
    this.reader.pda = parts.cpda;
  }

  get awaitsHandshake(): boolean {
    return this.reader.pdus === 0;
  }

  onData(bytes: Uint8Array): void {
    if (this.ended !== null) return;
    this.inbox.push(bytes);
    this.inboxBytes += bytes.length;
    this.bytesIn += bytes.length;
    if (this.inboxBytes >= TCP_INBOX_BYTES_MAX && !this.isPaused) {
      this.isPaused = true;
      this.pauses++;
      this.stream.pause();
    }
    this.owner.wake();
  }

  onDrain(): void {
    this.owner.wake();
  }

  onEnd(reason: string): void {
    this.streamEnd = reason;
    this.owner.wake();
  }

  fetch(request: TargetRequest): void {
    this.moved[request.tag] = 0;
    this.asked[request.tag] = 0;
    this.damaged[request.tag] = 0;
    this.append(request);
  }

  respond(request: TargetRequest): void {
    this.moved[request.tag] = 0;
    this.append(request);
  }

  private append(request: TargetRequest): void {
    request.next = null;
    if (this.sendTail === null) this.sendHead = request;
    else this.sendTail.next = request;
    this.sendTail = request;
  }

  private takeHead(): void {
    const head = this.sendHead;
    assert(head !== null, "there is something to send");
    this.sendHead = head.next;
    if (this.sendHead === null) this.sendTail = null;
    head.next = null;
  }

  poll(): number {
    const queue = this.queue as TargetQueue;
    let done = this.giveBack(queue);
    if (queue.isClosed || this.ended !== null) return done + this.abandon(queue);
    done += this.pump();
    if (this.inboxBytes > 0) done += this.takeIn(queue);
    if (this.streamEnd !== null && this.inboxBytes === 0 && this.ended === null) {
      this.owner.lost(this, this.streamEnd);
      done++;
    }
    return done;
  }

  kick(): void {
    if (this.ended !== null) return;
    this.pump();
    this.writer.flush();
  }

  /** Reads what arrived: a bounded number of PDUs. */
  private takeIn(queue: TargetQueue): number {
    const { reader, inbox } = this;
    const before = reader.pdus;
    const stopAt = before + TCP_PDUS_PER_POLL;
    let pieces = 0;
    while (pieces < inbox.length && reader.pdus < stopAt) {
      const piece = inbox[pieces];
      const at = reader.consume(piece, this.inboxAt, stopAt - reader.pdus);
      this.inboxBytes -= at - this.inboxAt;
      this.inboxAt = at;
      if (reader.fes !== 0) {
        this.broken();
        return reader.pdus - before + 1;
      }
      // A command may have ended the connection.
      if (queue.isClosed || this.ended !== null) return reader.pdus - before + 1;
      if (at < piece.length) break;
      pieces++;
      this.inboxAt = 0;
    }
    if (pieces > 0) inbox.splice(0, pieces);
    if (this.isPaused && this.inboxBytes < TCP_INBOX_BYTES_MAX / 2) {
      this.isPaused = false;
      this.stream.resume();
    }
    // Pieces without a whole PDU are progress as well.
    return reader.pdus - before + pieces;
  }

  private broken(): void {
    this.owner.terminate(this);
    this.dropInbox();
    this.owner.lost(this, "protocol error");
  }

  private dropInbox(): void {
    this.inbox = [];
    this.inboxAt = 0;
    this.inboxBytes = 0;
  }

  pduHeader(reader: PduReader): number {
    switch (reader.type) {
      case TcpPdu.CAPSULE_CMD:
        return this.capsuleHeader(reader);
      case TcpPdu.H2C_DATA:
        return this.dataHeader(reader);
      case TcpPdu.ICREQ:
        return this.initHeader(reader);
      default:
        return 0;
    }
  }

  private initHeader(reader: PduReader): number {
    const { view } = reader;
    if (view.getUint16(TcpIcOffset.PFV, true) !== TCP_PFV) {
      return reader.fail(TcpFes.UNSUPPORTED_PARAMETER, TcpIcOffset.PFV);
    }
    const hpda = view.getUint8(TcpIcOffset.PDA);
    if (hpda > TCP_PDA_MAX) return reader.fail(TcpFes.INVALID_HEADER_FIELD, TcpIcOffset.PDA);
    this.writer.pda = hpda;
    return 0;
  }

  private capsuleHeader(reader: PduReader): number {
    // More commands than the queue has entries: the host does not keep to what it was granted.
    if (this.freeCount === 0) return reader.fail(TcpFes.PDU_SEQUENCE_ERROR, 0);
    if (reader.dataBytes > TCP_ADMIN_IN_CAPSULE_BYTES) {
      return reader.fail(TcpFes.INVALID_HEADER_FIELD, TcpChOffset.PLEN);
    }
    const request = this.free[--this.freeCount];
    const { capsule, capsuleBase } = request;
    capsule.set(reader.entry, capsuleBase);
    if (reader.dataBytes > 0) reader.setTarget(capsule, capsuleBase + COMMAND_BYTES);
    this.incoming = request;
    return 0;
  }

  private dataHeader(reader: PduReader): number {
    const { view } = reader;
    const tag = view.getUint16(TcpDataOffset.TTAG, true);
    const request = tag < this.requests.length ? this.requests[tag] : null;
    const isOpen =
      request !== null && request.state === RequestState.fetching && this.asked[tag] === 1;
    if (!isOpen) return reader.fail(TcpFes.INVALID_HEADER_FIELD, TcpDataOffset.TTAG);
    if (view.getUint16(TcpDataOffset.CCCID, true) !== request.cid) {
      return reader.fail(TcpFes.INVALID_HEADER_FIELD, TcpDataOffset.CCCID);
    }
    const length = view.getUint32(TcpDataOffset.DATAL, true);
    const at = view.getUint32(TcpDataOffset.DATAO, true);
    if (length > TCP_H2C_DATA_BYTES_MAX) return reader.fail(TcpFes.DATA_LIMIT_EXCEEDED, 0);
    if (at + length > request.dataBytes) return reader.fail(TcpFes.DATA_OUT_OF_RANGE, 0);
    if (length !== reader.dataBytes) {
      return reader.fail(TcpFes.INVALID_HEADER_FIELD, TcpDataOffset.DATAL);
    }
    // PDUs of one R2T come in order (section 3.3.2).
    if (at !== this.moved[tag]) {
      return reader.fail(TcpFes.INVALID_HEADER_FIELD, TcpDataOffset.DATAO);
    }
    const isLast = at + length === request.dataBytes;
    if (((reader.flags & TcpFlag.last) !== 0) !== isLast) {
      return reader.fail(TcpFes.INVALID_HEADER_FIELD, TcpChOffset.FLAGS);
    }
    const { netWindow } = request;
    if (netWindow !== null) reader.setWindow(netWindow, request.netOffset + at);
    else if (request.netMemory.bytes(request.netOffset + at, length, span)) {
      reader.setTarget(span.bytes, span.offset);
    } else this.damaged[tag] = 1;
    this.moved[tag] += length;
    this.incoming = request;
    return 0;
  }

  pduDone(reader: PduReader, isIntact: boolean): void {
    switch (reader.type) {
      case TcpPdu.CAPSULE_CMD:
        this.capsuleDone(reader, isIntact);
        return;
      case TcpPdu.H2C_DATA:
        this.dataDone(isIntact);
        return;
      case TcpPdu.ICREQ:
        this.initDone(reader);
        return;
      default:
        this.owner.lost(this, "the host ended the connection: H2CTermReq");
    }
  }

  private initDone(reader: PduReader): void {
    const asked = reader.view.getUint8(TcpIcOffset.DGST);
    const digests = asked & (TcpDigest.header | TcpDigest.data);
    this.owner.initialize(this, digests);
    reader.headerDigest = (digests & TcpDigest.header) !== 0;
    reader.dataDigest = (digests & TcpDigest.data) !== 0;
    this.writer.headerDigest = reader.headerDigest;
    this.writer.dataDigest = reader.dataDigest;
    reader.allowed = CONTROLLER_RECEIVES & ~(1 << TcpPdu.ICREQ);
  }

  private capsuleDone(reader: PduReader, isIntact: boolean): void {
    const request = this.incoming as TargetRequest;
    this.incoming = null;
    if (!isIntact) this.dataDigestErrors++;
    const damage = isIntact ? NvmeStatus.success : NvmeStatus.transientTransportError;
    (this.queue as TargetQueue).receive(request, COMMAND_BYTES + reader.dataBytes, damage);
  }

  private dataDone(isIntact: boolean): void {
    const request = this.incoming as TargetRequest;
    this.incoming = null;
    const { tag } = request;
    this.dataPdus++;
    if (!isIntact) {
      this.dataDigestErrors++;
      this.damaged[tag] = 1;
    }
    if (this.moved[tag] < request.dataBytes) return;
    this.asked[tag] = 0;
    // A data digest error is the command's alone, not the connection's (section 3.3.1.1).
    const isGood = this.damaged[tag] === 0;
    const status = isGood ? NvmeStatus.success : NvmeStatus.transientTransportError;
    (this.queue as TargetQueue).dataArrived(request, status);
  }

  /** Builds what is to be sent while there is room. Returns how many things went. */
  private pump(): number {
    let done = 0;
    while (this.sendHead !== null) {
      const request: TargetRequest = this.sendHead;
      const isOut =
        request.state === RequestState.fetching ? this.sendR2t(request) : this.sendAnswer(request);
      if (!isOut) break;
      done++;
      if (this.writer.unsentBytes >= TCP_FLUSH_BYTES) this.writer.flush();
    }
    return done;
  }

  private sendR2t(request: TargetRequest): boolean {
    const { writer } = this;
    if (writer.begin(TcpPdu.R2T, 0, 0, 0) < 0) return false;
    const { view, at } = writer;
    view.setUint16(at + TcpDataOffset.CCCID, request.cid, true);
    view.setUint16(at + TcpDataOffset.TTAG, request.tag, true);
    view.setUint32(at + TcpDataOffset.DATAO, 0, true);
    view.setUint32(at + TcpDataOffset.DATAL, request.dataBytes, true);
    writer.finish(0);
    this.asked[request.tag] = 1;
    this.takeHead();
    return true;
  }

  /** Data, then the response. False: no room for all of it now. */
  private sendAnswer(request: TargetRequest): boolean {
    const queue = this.queue as TargetQueue;
    const mayImply = !queue.hasFlowControl && request.result0 === 0 && request.result1 === 0;
    const status = this.sendAllData(request, mayImply);
    if (status === NO_ROOM) return false;
    if (request.state === RequestState.reading) queue.storeRead(request, status);
    // What failed has no data any more.
    const impliesSuccess = mayImply && request.dataBytes > 0;
    if (!impliesSuccess && !this.sendResponse(request)) return false;
    this.takeHead();
    this.answered[this.answeredCount++] = request;
    return true;
  }

  /** Success, `NO_ROOM` for all of it now, or the NVMe status of a store that cannot be read. */
  private sendAllData(request: TargetRequest, impliesSuccess: boolean): number {
    const { moved } = this;
    const { tag } = request;
    let status: number = NvmeStatus.success;
    while (status === NvmeStatus.success && moved[tag] < request.dataBytes) {
      status = this.sendData(request, impliesSuccess);
    }
    return status;
  }

  private sendData(request: TargetRequest, impliesSuccess: boolean): number {
    const { writer, moved } = this;
    const { tag, dataBytes } = request;
    const at = moved[tag];
    const left = dataBytes - at;
    const length = writer.begin(TcpPdu.C2H_DATA, 0, left, Math.min(left, PIECE_BYTES_MIN));
    if (length < 0) return NO_ROOM;
    if (at + length === dataBytes) {
      writer.addFlags(impliesSuccess ? TcpFlag.last | TcpFlag.success : TcpFlag.last);
    }
    const { view } = writer;
    view.setUint16(writer.at + TcpDataOffset.CCCID, request.cid, true);
    view.setUint32(writer.at + TcpDataOffset.DATAO, at, true);
    view.setUint32(writer.at + TcpDataOffset.DATAL, length, true);
    const { netWindow, placement } = request;
    if (placement === Placement.store) {
      // A PDU that was not finished is not sent.
      const status = this.putStored(request, at, length);
      if (status !== NvmeStatus.success) return status;
    } else if (netWindow !== null) {
      writer.putFrom(netWindow, request.netOffset + at, length);
    } else {
      const isReadable = request.netMemory.bytes(request.netOffset + at, length, span);
      assert(isReadable, "the CPU reaches the buffers of a transport that uses it");
      writer.put(span.bytes, span.offset, length);
    }
    writer.finish(length);
    moved[tag] = at + length;
    return NvmeStatus.success;
  }

  private putStored(request: TargetRequest, from: number, length: number): number {
    if (request.abortStatus !== NvmeStatus.success) return request.abortStatus;
    const { store } = request.binding as NamespaceBinding;
    assert(store !== null, "a read of a store has one");
    const at = request.diskOffset + from;
    for (let done = 0; done < length; done += span.length) {
      const status = store.lend(at + done, length - done, span);
      if (status !== NvmeStatus.success) return status;
      this.writer.put(span.bytes, span.offset, span.length);
    }
    return NvmeStatus.success;
  }

  private sendResponse(request: TargetRequest): boolean {
    const { writer } = this;
    if (writer.begin(TcpPdu.CAPSULE_RESP, 0, 0, 0) < 0) return false;
    const to = writer.at + TCP_CAPSULE_AT;
    for (let i = 0; i < RESPONSE_BYTES; i += 4) {
      const word = request.response.getUint32(request.responseBase + i, true);
      writer.view.setUint32(to + i, word, true);
    }
    writer.finish(0);
    return true;
  }

  private giveBack(queue: TargetQueue): number {
    const count = this.answeredCount;
    this.answeredCount = 0;
    for (let i = 0; i < count; i++) {
      const request = this.answered[i];
      this.free[this.freeCount++] = request;
      queue.responded(request);
    }
    return count;
  }

  /** After the end: what was to be sent or fetched comes back. */
  private abandon(queue: TargetQueue): number {
    if (queue.busy === 0) return 0;
    let done = 0;
    while (this.sendHead !== null) {
      const request: TargetRequest = this.sendHead;
      this.takeHead();
      if (request.state === RequestState.reading) {
        queue.storeRead(request, NvmeStatus.dataTransferError);
      } else if (request.state === RequestState.responding) queue.responded(request);
      else continue;
      done++;
    }
    for (const request of this.requests) {
      if (request.state !== RequestState.fetching) continue;
      queue.dataArrived(request, NvmeStatus.dataTransferError);
      done++;
    }
    return done;
  }

  close(reason: string): void {
    if (this.ended !== null) return;
    this.writer.flush();
    this.ended = reason;
    this.incoming = null;
    this.dropInbox();
    this.stream.end();
  }

  /** Control plane. */
  checkPeer(nowNs: number, patience: PeerPatience): void {
    if (this.ended !== null) return;
    const { writer, reader, incoming } = this;
    const isInside = incoming !== null && reader.type === TcpPdu.H2C_DATA;
    const progress = {
      owesReading: writer.isPending,
      read: writer.taken,
      owesData: this.asked.includes(1),
      delivered: isInside ? this.bytesIn : this.dataPdus,
    };
    const reason = this.watch.look(nowNs, progress, patience);
    if (reason === null) return;
    this.owner.stalled(this, reason);
    this.owner.lost(this, reason);
  }

  release(): void {
    this.owner.released(this);
  }
}
