/**
 * The TCP transport's connection in the host: capsules and H2CData go out, R2Ts, C2HData and
 * responses come in. NVM Express TCP Transport Specification 1.0, section 3.
 *
 * The queue above builds capsules with keyed SGLs, as for every transport; here they become what
 * TCP has: small writes go in the capsule, the rest is a length, and the memory stays with the
 * host, remembered by tag.
 *
 * Invariants: data from the target goes nowhere but into the memory of a command that is in flight,
 * inside its bounds; a violation (a response to no command is one) is answered with one H2CTermReq
 * and ends the connection. Commands end inside `poll`, never while data arrives.
 */

import { assert, NVMET_SGL_DESCRIPTORS_MAX, Span } from "../../../core/index.ts";
import type { IoMemory } from "../../../memory/index.ts";
import type { ByteStream, StreamEvents } from "../../../platform/index.ts";
import {
  CqeOffset,
  DataDirection,
  dataDirection,
  NvmeStatus,
  SqeOffset,
  sglKey,
  sglKeyedLength,
  sglLength,
} from "../../../spec/nvme/index.ts";
import {
  COMMAND_BYTES,
  FABRICS_OPCODE,
  FabricsSqe,
  RESPONSE_BYTES,
  SGL_BYTES,
  SglId,
  SglOffset,
  setOffsetSgl,
  setTransportSgl,
  TCP_CAPSULE_AT,
  TCP_MAXH2CDATA_MIN,
  TcpDataOffset,
  TcpFes,
  TcpFlag,
  TcpIcOffset,
  TcpPdu,
} from "../../../spec/nvmf/index.ts";
import type { HostChannel, ResponseSink } from "../../host/transport.ts";
import { HOST_RECEIVES, type PduHandler, PduReader } from "./pdu-reader.hot.ts";
import { type PduWriter, PIECE_BYTES_MIN } from "./pdu-writer.hot.ts";

export interface TcpHostOwner {
  /** The target answered ICReq. */
  ready(channel: TcpHostChannel): void;
  /** Sends an H2CTermReq. */
  terminate(channel: TcpHostChannel): void;
  /** Memory under a key; null: none. */
  find(key: number): IoMemory | null;
  wake(): void;
}

export interface TcpHostParts {
  readonly owner: TcpHostOwner;
  readonly stream: ByteStream;
  readonly writer: PduWriter;
  readonly depth: number;
  /** Data bytes of the largest capsule of an I/O command. */
  readonly inCapsuleBytes: number;
  /** Of a Fabrics or admin command. */
  readonly adminInCapsuleBytes: number;
  readonly isAdmin: boolean;
  /** HPDA that was asked for. */
  readonly hpda: number;
}

const SEGMENTS = NVMET_SGL_DESCRIPTORS_MAX;
const SQHD_NONE = 0xffff;
const ALLOWED_FIRST = (1 << TcpPdu.ICRESP) | (1 << TcpPdu.C2H_TERM_REQ);
const span = new Span();

export class TcpHostChannel implements HostChannel, StreamEvents, PduHandler {
  readonly capsules: Uint8Array;
  readonly capsuleStride: number;
  readonly inCapsuleBytes: number;
  readonly stream: ByteStream;
  readonly writer: PduWriter;
  readonly reader: PduReader;
  ended: string | null = null;
  isReady = false;
  /** DGST that ICResp granted. */
  digests = 0;
  private readonly owner: TcpHostOwner;
  private readonly parts: TcpHostParts;
  private readonly view: DataView;
  /** Responses that the queue has not had, from the first on. */
  private readonly answers: DataView;
  private answerCount = 0;
  /** PDUs at the last poll. */
  private pdusSeen = 0;
  private maxH2c = TCP_MAXH2CDATA_MIN;
  /** By tag: the command's memory. */
  private readonly active: Uint8Array;
  private readonly inbound: Uint8Array;
  private readonly damaged: Uint8Array;
  private readonly totals: Float64Array;
  private readonly counts: Uint8Array;
  private readonly keys: Uint32Array;
  private readonly addresses: Float64Array;
  private readonly lengths: Uint32Array;
  /** By tag: the R2T that is being answered. */
  private readonly r2tAt: Float64Array;
  private readonly r2tEnd: Float64Array;
  private readonly r2tTag: Uint16Array;
  /** Tags with an R2T to answer: a ring. */
  private readonly ring: Uint16Array;
  private ringHead = 0;
  private ringCount = 0;
  /** C2HData that spans segments arrives here first. */
  private scratch = new Uint8Array(0);
  private scatters = false;
  /** Of the C2HData at hand. */
  private dataTag = 0;
  private dataAt = 0;

  constructor(parts: TcpHostParts) {
    this.parts = parts;
    this.owner = parts.owner;
    this.stream = parts.stream;
    this.writer = parts.writer;
    const { depth } = parts;
    // A list of segments has its place in a capsule, until it is taken apart in `send`.
    this.inCapsuleBytes = Math.max(parts.inCapsuleBytes, SEGMENTS * SGL_BYTES);
    this.capsuleStride = COMMAND_BYTES + this.inCapsuleBytes;
    this.capsules = new Uint8Array(depth * this.capsuleStride);
    this.view = new DataView(this.capsules.buffer);
    this.answers = new DataView(new ArrayBuffer(depth * RESPONSE_BYTES));
    this.active = new Uint8Array(depth);
    this.inbound = new Uint8Array(depth);
    this.damaged = new Uint8Array(depth);
    this.totals = new Float64Array(depth);
    this.counts = new Uint8Array(depth);
    this.keys = new Uint32Array(depth * SEGMENTS);
    this.addresses = new Float64Array(depth * SEGMENTS);
    this.lengths = new Uint32Array(depth * SEGMENTS);
    this.r2tAt = new Float64Array(depth);
    this.r2tEnd = new Float64Array(depth);
    this.r2tTag = new Uint16Array(depth);
    this.ring = new Uint16Array(depth);
    this.reader = new PduReader(HOST_RECEIVES, ALLOWED_FIRST, this);
    this.reader.pda = parts.hpda;
  }

  /**
   * Reads what arrived, all of it at once: the bytes are lent. Data goes to its commands' memory;
   * responses wait for `poll`.
   */
  onData(bytes: Uint8Array): void {
    if (this.ended !== null) return;
    this.reader.consume(bytes, 0, Number.MAX_SAFE_INTEGER);
    if (this.reader.fes !== 0) this.broken();
    this.owner.wake();
  }

  onDrain(): void {
    this.owner.wake();
  }

  onEnd(reason: string): void {
    this.ended ??= reason;
    this.owner.wake();
  }

  send(tag: number, _bytes: number): boolean {
    if (this.ended !== null) return false;
    const at = tag * this.capsuleStride;
    const { view, writer } = this;
    const opcode = view.getUint8(at);
    const isFabrics = opcode === FABRICS_OPCODE;
    const code = isFabrics ? view.getUint8(at + FabricsSqe.FCTYPE) : opcode;
    const isOut = dataDirection(code) === DataDirection.hostToController;
    const total = this.remember(tag, at);
    if (total < 0) return false;
    const isSmall = isFabrics || this.parts.isAdmin;
    const limit = isSmall ? this.parts.adminInCapsuleBytes : this.parts.inCapsuleBytes;
    const inCapsule = total > 0 && isOut && total <= limit;
    const dataBytes = inCapsule ? total : 0;
    if (writer.begin(TcpPdu.CAPSULE_CMD, 0, dataBytes, dataBytes) < 0) return false;
    const sgl = at + SqeOffset.sgl1;
    if (inCapsule) setOffsetSgl(view, sgl, 0, total, SglId.offsetData);
    else if (total > 0) setTransportSgl(view, sgl, total);
    else for (let i = 0; i < SGL_BYTES; i += 4) view.setUint32(sgl + i, 0, true);
    const to = writer.at + TCP_CAPSULE_AT;
    for (let i = 0; i < COMMAND_BYTES; i += 4) {
      writer.view.setUint32(to + i, view.getUint32(at + i, true), true);
    }
    if (inCapsule && !this.putRange(tag, 0, total)) return false;
    writer.finish(dataBytes);
    this.active[tag] = 1;
    this.damaged[tag] = 0;
    this.inbound[tag] = isOut ? 0 : 1;
    return true;
  }

  /** Takes the queue's SGL apart. Returns the bytes it names; -1: it names memory that is gone. */
  private remember(tag: number, at: number): number {
    const { view } = this;
    const sgl = at + SqeOffset.sgl1;
    const id = view.getUint8(sgl + SglOffset.ID);
    let list = sgl;
    let count = 1;
    if (id === SglId.offsetLastSegment) {
      list = at + COMMAND_BYTES;
      count = sglLength(view, sgl) / SGL_BYTES;
    } else if (id === SglId.offsetData) {
      // Already in the capsule: key 0 is the capsule itself.
      const slot = tag * SEGMENTS;
      this.counts[tag] = 1;
      this.keys[slot] = 0;
      this.addresses[slot] = at + COMMAND_BYTES;
      this.lengths[slot] = sglLength(view, sgl);
      this.totals[tag] = this.lengths[slot];
      return this.totals[tag];
    } else if (id !== SglId.keyed && id !== SglId.keyedInvalidate) count = 0;
    let total = 0;
    for (let i = 0; i < count; i++) {
      const from = list + i * SGL_BYTES;
      const slot = tag * SEGMENTS + i;
      this.keys[slot] = sglKey(view, from);
      this.addresses[slot] = view.getUint32(from, true) + view.getUint32(from + 4, true) * 2 ** 32;
      this.lengths[slot] = sglKeyedLength(view, from);
      if (this.owner.find(this.keys[slot]) === null) return -1;
      total += this.lengths[slot];
    }
    this.counts[tag] = count;
    this.totals[tag] = total;
    return total;
  }

  /** Points `span` at as much of the command's data from `offset` as one segment has. */
  private locate(tag: number, offset: number, most: number): boolean {
    let start = 0;
    for (let i = 0; i < this.counts[tag]; i++) {
      const slot = tag * SEGMENTS + i;
      const length = this.lengths[slot];
      if (offset < start + length) {
        const take = Math.min(most, start + length - offset);
        const address = this.addresses[slot] + offset - start;
        if (this.keys[slot] === 0) {
          span.set(this.capsules, address, take);
          return true;
        }
        const memory = this.owner.find(this.keys[slot]);
        return memory?.bytes(address, take, span) ?? false;
      }
      start += length;
    }
    return false;
  }

  /** Appends a range of the command's data to the PDU that was begun. */
  private putRange(tag: number, offset: number, length: number): boolean {
    for (let done = 0; done < length; ) {
      if (!this.locate(tag, offset + done, length - done)) return false;
      this.writer.put(span.bytes, span.offset, span.length);
      done += span.length;
    }
    return true;
  }

  kick(): void {
    if (this.ended !== null) return;
    this.pump();
    this.writer.flush();
  }

  poll(sink: ResponseSink): number {
    const count = this.answerCount;
    for (let i = 0; i < count; i++) sink.response(this.answers, i * RESPONSE_BYTES);
    this.answerCount = 0;
    const { pdus } = this.reader;
    const done = count + pdus - this.pdusSeen;
    this.pdusSeen = pdus;
    if (this.ended === null) this.kick();
    return done;
  }

  private broken(): void {
    this.owner.terminate(this);
    this.ended ??= "the target broke the protocol";
    this.stream.end();
  }

  pduHeader(reader: PduReader): number {
    switch (reader.type) {
      case TcpPdu.C2H_DATA:
        return this.dataHeader(reader);
      case TcpPdu.R2T:
        return this.r2tHeader(reader);
      case TcpPdu.CAPSULE_RESP:
        return this.responseHeader(reader);
      case TcpPdu.ICRESP: {
        const max = reader.view.getUint32(TcpIcOffset.MAX, true);
        const isGood = max >= TCP_MAXH2CDATA_MIN && max % 4 === 0;
        if (!isGood) return reader.fail(TcpFes.INVALID_HEADER_FIELD, TcpIcOffset.MAX);
        if (reader.view.getUint16(TcpIcOffset.PFV, true) !== 0) {
          return reader.fail(TcpFes.UNSUPPORTED_PARAMETER, TcpIcOffset.PFV);
        }
        return 0;
      }
      default:
        return 0;
    }
  }

  private dataHeader(reader: PduReader): number {
    const { view } = reader;
    const tag = view.getUint16(TcpDataOffset.CCCID, true);
    if (tag >= this.active.length || this.active[tag] === 0 || this.inbound[tag] === 0) {
      return reader.fail(TcpFes.INVALID_HEADER_FIELD, TcpDataOffset.CCCID);
    }
    const at = view.getUint32(TcpDataOffset.DATAO, true);
    const length = view.getUint32(TcpDataOffset.DATAL, true);
    if (at + length > this.totals[tag]) return reader.fail(TcpFes.DATA_OUT_OF_RANGE, 0);
    if (length !== reader.dataBytes) {
      return reader.fail(TcpFes.INVALID_HEADER_FIELD, TcpDataOffset.DATAL);
    }
    this.dataTag = tag;
    this.dataAt = at;
    this.scatters = false;
    if (!this.locate(tag, at, length)) {
      this.damaged[tag] = 1;
    } else if (span.length === length) {
      reader.setTarget(span.bytes, span.offset);
    } else {
      if (this.scratch.length < length) this.scratch = new Uint8Array(length);
      this.scatters = true;
      reader.setTarget(this.scratch, 0);
    }
    return 0;
  }

  private r2tHeader(reader: PduReader): number {
    const { view } = reader;
    const tag = view.getUint16(TcpDataOffset.CCCID, true);
    if (tag >= this.active.length || this.active[tag] === 0 || this.inbound[tag] === 1) {
      return reader.fail(TcpFes.INVALID_HEADER_FIELD, TcpDataOffset.CCCID);
    }
    const at = view.getUint32(TcpDataOffset.DATAO, true);
    const length = view.getUint32(TcpDataOffset.DATAL, true);
    if (at + length > this.totals[tag] || length === 0) {
      return reader.fail(TcpFes.DATA_OUT_OF_RANGE, 0);
    }
    // MAXR2T 0 was told: one at a time per command.
    if (this.r2tAt[tag] < this.r2tEnd[tag]) return reader.fail(TcpFes.DATA_LIMIT_EXCEEDED, 0);
    this.r2tAt[tag] = at;
    this.r2tEnd[tag] = at + length;
    this.r2tTag[tag] = view.getUint16(TcpDataOffset.TTAG, true);
    this.ring[(this.ringHead + this.ringCount) % this.ring.length] = tag;
    this.ringCount++;
    return 0;
  }

  pduDone(reader: PduReader, isIntact: boolean): void {
    switch (reader.type) {
      case TcpPdu.C2H_DATA:
        this.dataDone(reader, isIntact);
        return;
      case TcpPdu.CAPSULE_RESP:
        this.responseDone(reader);
        return;
      case TcpPdu.ICRESP:
        this.initDone(reader);
        return;
      case TcpPdu.C2H_TERM_REQ:
        this.ended ??= "the target ended the connection: C2HTermReq";
        this.stream.end();
        return;
      default:
    }
  }

  private initDone(reader: PduReader): void {
    const { view } = reader;
    this.writer.pda = view.getUint8(TcpIcOffset.PDA);
    this.maxH2c = view.getUint32(TcpIcOffset.MAX, true);
    this.digests = view.getUint8(TcpIcOffset.DGST);
    reader.allowed = HOST_RECEIVES & ~(1 << TcpPdu.ICRESP);
    this.isReady = true;
    this.owner.ready(this);
  }

  private dataDone(reader: PduReader, isIntact: boolean): void {
    const tag = this.dataTag;
    if (!isIntact) this.damaged[tag] = 1;
    if (this.scatters && !this.scatter(tag, reader.dataBytes)) this.damaged[tag] = 1;
    if ((reader.flags & TcpFlag.success) === 0) return;
    const { answers } = this;
    const at = this.answerCount * RESPONSE_BYTES;
    for (let i = 0; i < RESPONSE_BYTES; i += 4) answers.setUint32(at + i, 0, true);
    answers.setUint16(at + CqeOffset.sqhd, SQHD_NONE, true);
    answers.setUint16(at + CqeOffset.cid, tag, true);
    this.settle(tag, at);
  }

  /** Moves data that spans segments to where it belongs. */
  private scatter(tag: number, length: number): boolean {
    this.scatters = false;
    for (let done = 0; done < length; ) {
      if (!this.locate(tag, this.dataAt + done, length - done)) return false;
      span.bytes.set(this.scratch.subarray(done, done + span.length), span.offset);
      done += span.length;
    }
    return true;
  }

  private responseHeader(reader: PduReader): number {
    const tag = reader.view.getUint16(TCP_CAPSULE_AT + CqeOffset.cid, true);
    if (tag < this.active.length && this.active[tag] === 1) return 0;
    return reader.fail(TcpFes.INVALID_HEADER_FIELD, TCP_CAPSULE_AT + CqeOffset.cid);
  }

  private responseDone(reader: PduReader): void {
    const { answers } = this;
    const at = this.answerCount * RESPONSE_BYTES;
    for (let i = 0; i < RESPONSE_BYTES; i += 4) {
      answers.setUint32(at + i, reader.view.getUint32(TCP_CAPSULE_AT + i, true), true);
    }
    this.settle(answers.getUint16(at + CqeOffset.cid, true), at);
  }

  /** A command's response lies at `at`. What arrived damaged did not succeed. */
  private settle(tag: number, at: number): void {
    const { answers } = this;
    if (this.damaged[tag] === 1 && answers.getUint16(at + CqeOffset.status, true) === 0) {
      answers.setUint16(at + CqeOffset.status, NvmeStatus.transientTransportError << 1, true);
    }
    this.answerCount++;
    this.active[tag] = 0;
    this.damaged[tag] = 0;
    // An R2T that is not answered yet is void with its command.
    this.r2tAt[tag] = this.r2tEnd[tag];
  }

  /** Answers R2Ts while there is room. */
  private pump(): void {
    while (this.ringCount > 0) {
      const tag = this.ring[this.ringHead];
      while (this.r2tAt[tag] < this.r2tEnd[tag]) {
        if (!this.sendData(tag)) return;
      }
      this.ringHead = (this.ringHead + 1) % this.ring.length;
      this.ringCount--;
    }
  }

  private sendData(tag: number): boolean {
    const { writer } = this;
    const at = this.r2tAt[tag];
    const left = Math.min(this.r2tEnd[tag] - at, this.maxH2c);
    const length = writer.begin(TcpPdu.H2C_DATA, 0, left, Math.min(left, PIECE_BYTES_MIN));
    if (length < 0) return false;
    if (at + length === this.r2tEnd[tag]) writer.addFlags(TcpFlag.last);
    const { view } = writer;
    view.setUint16(writer.at + TcpDataOffset.CCCID, tag, true);
    view.setUint16(writer.at + TcpDataOffset.TTAG, this.r2tTag[tag], true);
    view.setUint32(writer.at + TcpDataOffset.DATAO, at, true);
    view.setUint32(writer.at + TcpDataOffset.DATAL, length, true);
    const isThere = this.putRange(tag, at, length);
    assert(isThere, "memory stays registered while a command uses it");
    writer.finish(length);
    this.r2tAt[tag] = at + length;
    return true;
  }

  close(): Promise<void> {
    if (this.ended === null) {
      this.writer.flush();
      this.ended = "closed by the host";
    }
    this.stream.end();
    return Promise.resolve();
  }
}
