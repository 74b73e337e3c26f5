/**
 * What a controller must make of a byte stream from a host, said a second time and another way than
 * the reader in src/nvmet does: for each PDU the complaints that its bytes allow. TCP Transport
 * Specification 1.0, sections 3.5 and 3.6. A controller may name any of several mistakes of the
 * first PDU that has some, and must name one.
 *
 * H2CData is judged by the R2Ts that had been sent. One that names an R2T which was sent in answer to
 * the same write may have come before or after it: `maybe` has what could be said then.
 */

import { crc32c, TCP_H2C_DATA_BYTES_MAX, viewOf } from "../src/core/index.ts";
import {
  TCP_ADMIN_IN_CAPSULE_BYTES,
  TCP_CAPSULE_AT,
  TCP_CH_BYTES,
  TCP_HLEN,
  TcpChOffset,
  TcpDataOffset,
  TcpFes,
  TcpFlag,
  TcpIcOffset,
  TcpPdu,
} from "../src/spec/nvmf/index.ts";

/** `FES:FEI`. */
type Complaint = string;

export interface JudgedPdu {
  readonly type: number;
  readonly header: Uint8Array;
  /** One of these must be said; empty: nothing is wrong that the bytes show. */
  readonly must: readonly Complaint[];
  /** These may be said, for what the bytes alone do not show. */
  readonly maybe: readonly Complaint[];
  /** All of it is there. */
  readonly isWhole: boolean;
  /** Its data matches its digest, or there is none. */
  readonly isIntact: boolean;
  /** Of a command: identifier, opcode, and FUSE with PSDT. */
  readonly cid: number;
  readonly opcode: number;
  readonly flags: number;
}

export interface Judgement {
  /** Up to the first that is wrong or not whole, or ends the connection. */
  readonly pdus: readonly JudgedPdu[];
  /** One of the host's PDUs must be refused. */
  readonly isBad: boolean;
  /** The host ended the connection with a H2CTermReq. */
  readonly isTerminated: boolean;
  readonly digests: number;
}

const field = (offset: number): Complaint => `${TcpFes.INVALID_HEADER_FIELD}:${offset}`;
const sequence = `${TcpFes.PDU_SEQUENCE_ERROR}:0`;
const TERM_DATA_MAX = 128;
const TCP_HLEN_OF_DATA = 24;
const CONTROLLER_TYPES = [
  TcpPdu.ICREQ,
  TcpPdu.H2C_TERM_REQ,
  TcpPdu.CAPSULE_CMD,
  TcpPdu.H2C_DATA,
] as const;
const DATA_COMPLAINTS = [
  field(TcpDataOffset.TTAG),
  field(TcpDataOffset.CCCID),
  field(TcpDataOffset.DATAL),
  field(TcpDataOffset.DATAO),
  field(TcpChOffset.FLAGS),
  `${TcpFes.DATA_LIMIT_EXCEEDED}:0`,
  `${TcpFes.DATA_OUT_OF_RANGE}:0`,
];

/** What a host wrote at once, between R2Ts of the target: how many were there before and after. */
export interface Written {
  readonly bytes: Uint8Array;
  readonly r2tsBefore: number;
  r2tsAfter: number;
}

export interface SentR2t {
  readonly cid: number;
  readonly tag: number;
  readonly length: number;
}

/** R2Ts that a host may answer: what it has been asked for, and how much of that it sent. */
class Transfers {
  private readonly r2ts: readonly SentR2t[];
  private readonly open = new Map<number, { cid: number; length: number; moved: number }>();
  private known = 0;

  constructor(r2ts: readonly SentR2t[]) {
    this.r2ts = r2ts;
  }

  /** What is wrong with H2CData whose header came with `written`: what must, and what may be said. */
  judge(pdu: Uint8Array, dataBytes: number, written: Written): [Complaint[], Complaint[]] {
    for (; this.known < written.r2tsBefore; this.known++) {
      const { cid, tag, length } = this.r2ts[this.known] as SentR2t;
      this.open.set(tag, { cid, length, moved: 0 });
    }
    const view = viewOf(pdu);
    const tag = view.getUint16(TcpDataOffset.TTAG, true);
    const transfer = this.open.get(tag);
    const between = this.r2ts.slice(written.r2tsBefore, written.r2tsAfter);
    if (between.some((r2t) => r2t.tag === tag)) return [[], DATA_COMPLAINTS];
    if (transfer === undefined) return [[field(TcpDataOffset.TTAG)], []];
    const at = view.getUint32(TcpDataOffset.DATAO, true);
    const length = view.getUint32(TcpDataOffset.DATAL, true);
    const must: Complaint[] = [];
    if (view.getUint16(TcpDataOffset.CCCID, true) !== transfer.cid) {
      must.push(field(TcpDataOffset.CCCID));
    }
    if (length > TCP_H2C_DATA_BYTES_MAX) must.push(`${TcpFes.DATA_LIMIT_EXCEEDED}:0`);
    if (at + length > transfer.length) must.push(`${TcpFes.DATA_OUT_OF_RANGE}:0`);
    if (length !== dataBytes) must.push(field(TcpDataOffset.DATAL));
    if (at !== transfer.moved) must.push(field(TcpDataOffset.DATAO));
    const isLast = ((pdu[TcpChOffset.FLAGS] as number) & TcpFlag.last) !== 0;
    if (isLast !== (at + length === transfer.length)) must.push(field(TcpChOffset.FLAGS));
    transfer.moved += length;
    if (transfer.moved >= transfer.length) this.open.delete(tag);
    return [must, []];
  }
}

/** Judges what a host sent on one connection. */
export function judgeStream(writes: readonly Written[], r2ts: readonly SentR2t[]): Judgement {
  const stream: Uint8Array = Buffer.concat(writes.map(({ bytes }) => bytes));
  const transfers = new Transfers(r2ts);
  const pdus: JudgedPdu[] = [];
  let digests = 0;
  let at = 0;
  for (;;) {
    if (stream.length - at < TCP_CH_BYTES) break;
    const judged = judgePdu(stream.subarray(at), pdus.length === 0, digests, (pdu, dataBytes) =>
      transfers.judge(pdu, dataBytes, writeOf(writes, at + TCP_HLEN_OF_DATA)),
    );
    pdus.push(judged);
    if (judged.must.length > 0) return { pdus, isBad: true, isTerminated: false, digests };
    if (!judged.isWhole) break;
    if (judged.type === TcpPdu.H2C_TERM_REQ) {
      return { pdus, isBad: false, isTerminated: true, digests };
    }
    if (judged.type === TcpPdu.ICREQ) digests = (stream[TcpIcOffset.DGST] as number) & 3;
    at += viewOf(stream).getUint32(at + TcpChOffset.PLEN, true);
  }
  return { pdus, isBad: false, isTerminated: false, digests };
}

/** The write that has the byte before `end`. */
function writeOf(writes: readonly Written[], end: number): Written {
  let left = end;
  for (const written of writes) {
    if (left <= written.bytes.length) return written;
    left -= written.bytes.length;
  }
  throw new Error("a PDU ends behind the stream");
}

function judgePdu(
  bytes: Uint8Array,
  isFirst: boolean,
  digests: number,
  judgeData: (pdu: Uint8Array, dataBytes: number) => [Complaint[], Complaint[]],
): JudgedPdu {
  const view = viewOf(bytes);
  const type = bytes[TcpChOffset.TYPE] as number;
  const plen = view.getUint32(TcpChOffset.PLEN, true);
  const hlen = TCP_HLEN[type] ?? 0;
  const must = commonComplaints(bytes, type, plen, isFirst, digests);
  const isBare = type < TcpPdu.CAPSULE_CMD;
  const headerBytes = hlen + (!isBare && (digests & 1) !== 0 ? 4 : 0);
  const isRead = must.length === 0 && bytes.length >= headerBytes;
  if (isRead) must.push(...headerComplaints(bytes, type, hlen, headerBytes));
  const maybe: Complaint[] = [];
  if (isRead && must.length === 0 && type === TcpPdu.H2C_DATA) {
    const [wrong, possible] = judgeData(bytes, dataBytesOf(bytes, headerBytes));
    must.push(...wrong);
    maybe.push(...possible);
  }
  const isWhole = must.length === 0 && bytes.length >= plen;
  const isCommand = type === TcpPdu.CAPSULE_CMD && isRead;
  // More commands than the queue has entries.
  if (isCommand && must.length === 0) maybe.push(sequence);
  return {
    type,
    header: bytes.slice(0, Math.max(TCP_CH_BYTES, headerBytes)),
    must,
    maybe,
    isWhole,
    isIntact: !isWhole || isBare || isIntact(bytes.subarray(0, plen), headerBytes, digests),
    cid: isCommand ? view.getUint16(TCP_CAPSULE_AT + 2, true) : -1,
    opcode: isCommand ? (bytes[TCP_CAPSULE_AT] as number) : -1,
    flags: isCommand ? (bytes[TCP_CAPSULE_AT + 1] as number) : 0,
  };
}

/** What the eight bytes that all PDUs have show. */
function commonComplaints(
  bytes: Uint8Array,
  type: number,
  plen: number,
  isFirst: boolean,
  digests: number,
): Complaint[] {
  const found: Complaint[] = [];
  if (!CONTROLLER_TYPES.includes(type as never)) return [field(TcpChOffset.TYPE)];
  if (isFirst !== (type === TcpPdu.ICREQ)) found.push(sequence);
  const hlen = TCP_HLEN[type] as number;
  if (bytes[TcpChOffset.HLEN] !== hlen) found.push(field(TcpChOffset.HLEN));
  if (type < TcpPdu.CAPSULE_CMD) {
    const most = type === TcpPdu.ICREQ ? hlen : hlen + TERM_DATA_MAX;
    if (plen < hlen || plen > most) found.push(field(TcpChOffset.PLEN));
    return found;
  }
  const flags = bytes[TcpChOffset.FLAGS] as number;
  const headerBytes = hlen + ((digests & 1) !== 0 ? 4 : 0);
  if (((flags & TcpFlag.hdgst) !== 0) !== ((digests & 1) !== 0)) found.push(field(1));
  if (plen < headerBytes) found.push(field(TcpChOffset.PLEN));
  if (plen > headerBytes) {
    const pdo = bytes[TcpChOffset.PDO] as number;
    if (((flags & TcpFlag.ddgst) !== 0) !== ((digests & 2) !== 0)) found.push(field(1));
    if (pdo < headerBytes || pdo % 4 !== 0) found.push(field(TcpChOffset.PDO));
    const data = plen - pdo - ((digests & 2) !== 0 ? 4 : 0);
    if (data <= 0) found.push(field(TcpChOffset.PLEN));
  }
  return found;
}

/** What the rest of a header shows, once the common header is right. */
function headerComplaints(
  bytes: Uint8Array,
  type: number,
  hlen: number,
  headerBytes: number,
): Complaint[] {
  const view = viewOf(bytes);
  if (headerBytes > hlen) {
    const received = view.getUint32(hlen, true);
    if (received !== crc32c(bytes, 0, hlen)) return [`${TcpFes.HEADER_DIGEST_ERROR}:${received}`];
  }
  const found: Complaint[] = [];
  if (type === TcpPdu.ICREQ) {
    if (view.getUint16(TcpIcOffset.PFV, true) !== 0) {
      found.push(`${TcpFes.UNSUPPORTED_PARAMETER}:${TcpIcOffset.PFV}`);
    }
    if ((bytes[TcpIcOffset.PDA] as number) > 31) found.push(field(TcpIcOffset.PDA));
  }
  if (type === TcpPdu.CAPSULE_CMD) {
    const data = dataBytesOf(bytes, headerBytes);
    if (data > TCP_ADMIN_IN_CAPSULE_BYTES) found.push(field(TcpChOffset.PLEN));
  }
  return found;
}

/** Data bytes of a PDU whose common header is right. */
function dataBytesOf(pdu: Uint8Array, headerBytes: number): number {
  const plen = viewOf(pdu).getUint32(TcpChOffset.PLEN, true);
  const ddgst = ((pdu[TcpChOffset.FLAGS] as number) & TcpFlag.ddgst) !== 0 ? 4 : 0;
  return plen > headerBytes ? plen - (pdu[TcpChOffset.PDO] as number) - ddgst : 0;
}

function isIntact(pdu: Uint8Array, headerBytes: number, digests: number): boolean {
  if ((digests & 2) === 0 || pdu.length === headerBytes) return true;
  const pdo = pdu[TcpChOffset.PDO] as number;
  const end = pdu.length - 4;
  return viewOf(pdu).getUint32(end, true) === crc32c(pdu, pdo, end - pdo);
}
