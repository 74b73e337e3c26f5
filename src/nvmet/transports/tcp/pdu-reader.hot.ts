/**
 * Cuts a byte stream into PDUs, whatever pieces it arrives in: header, header digest, padding,
 * data, data digest. Data is copied once, from the piece that the socket gave to where the handler
 * wants it: memory, or a device's BAR. TCP Transport Specification 1.0, sections 3.5 and 3.6.
 *
 * Checked here: everything a header says about itself (type, direction, HLEN, PDO and its
 * alignment, PLEN, digest flags, both digests). What the fields mean is the handler's to check. The
 * first violation is kept (`fes`, `fei`) and ends the stream: nothing behind it is looked at.
 *
 * Invariants: it holds one header (132 bytes) and no data, however long the PDU; no input makes it
 * read or write out of its bounds; where the pieces were cut changes nothing.
 */

import type { MappedRegion } from "../../../backing/interface.ts";
import { CRC32C_START, crc32c, crc32cFinish, crc32cUpdate } from "../../../core/index.ts";
import {
  COMMAND_BYTES,
  TCP_CAPSULE_AT,
  TCP_CH_BYTES,
  TCP_DIGEST_BYTES,
  TCP_HLEN,
  TCP_HLEN_MAX,
  TCP_PDU_TYPES,
  TCP_TERM_DATA_MAX,
  TcpChOffset,
  TcpFes,
  TcpFlag,
  TcpPdu,
} from "../../../spec/nvmf/index.ts";

/** What a reader's PDUs are for. */
export interface PduHandler {
  /**
   * A header is whole; `reader` has its fields. Before data comes, `reader.setTarget` says where
   * it goes; without it the data is dropped. Returns 0, or the result of `reader.fail`.
   */
  pduHeader(reader: PduReader): number;
  /** All of the PDU is here. False: its data does not match its digest. */
  pduDone(reader: PduReader, isIntact: boolean): void;
}

const Phase = { common: 0, header: 1, padding: 2, data: 3, dataDigest: 4 } as const;
type Phase = (typeof Phase)[keyof typeof Phase];

/** PDU types, one bit each. */
export const CONTROLLER_RECEIVES =
  (1 << TcpPdu.ICREQ) |
  (1 << TcpPdu.H2C_TERM_REQ) |
  (1 << TcpPdu.CAPSULE_CMD) |
  (1 << TcpPdu.H2C_DATA);
export const HOST_RECEIVES =
  (1 << TcpPdu.ICRESP) |
  (1 << TcpPdu.C2H_TERM_REQ) |
  (1 << TcpPdu.CAPSULE_RESP) |
  (1 << TcpPdu.C2H_DATA) |
  (1 << TcpPdu.R2T);
/** Types that carry data in some of their PDUs. */
const WITH_DATA =
  (1 << TcpPdu.CAPSULE_CMD) |
  (1 << TcpPdu.H2C_DATA) |
  (1 << TcpPdu.C2H_DATA) |
  (1 << TcpPdu.H2C_TERM_REQ) |
  (1 << TcpPdu.C2H_TERM_REQ);
/** Types without digests, flags and padding. */
const BARE =
  (1 << TcpPdu.ICREQ) |
  (1 << TcpPdu.ICRESP) |
  (1 << TcpPdu.H2C_TERM_REQ) |
  (1 << TcpPdu.C2H_TERM_REQ);
const TERM = (1 << TcpPdu.H2C_TERM_REQ) | (1 << TcpPdu.C2H_TERM_REQ);
const TYPES_MAX = 31;
const WORD_BYTES = 4;
const NO_BYTES = new Uint8Array(0);

export class PduReader {
  readonly header = new Uint8Array(TCP_HLEN_MAX + TCP_DIGEST_BYTES);
  readonly view = new DataView(this.header.buffer);
  /** The command or response of the capsule at hand. */
  readonly entry = this.header.subarray(TCP_CAPSULE_AT, TCP_CAPSULE_AT + COMMAND_BYTES);
  /** Types that may come on this side at all, and those that may come now: bits. */
  readonly legal: number;
  allowed: number;
  /** As negotiated. */
  headerDigest = false;
  dataDigest = false;
  /** CPDA or HPDA of the data that is received. */
  pda = 0;
  /** Of the PDU at hand. */
  type = 0;
  flags = 0;
  plen = 0;
  /** Bytes of data, digest and padding aside. */
  dataBytes = 0;
  /** Why the stream cannot go on; 0: it can. */
  fes = 0;
  fei = 0;
  /** Whole PDUs so far, and by type. */
  pdus = 0;
  readonly counts = new Float64Array(TCP_PDU_TYPES);
  /** Data bytes that were copied from what the socket gave to where they belong. */
  copiedBytes = 0;
  private readonly handler: PduHandler;
  private phase: Phase = Phase.common;
  /** Bytes of the header (or data digest) that are here, and how many there will be. */
  private have = 0;
  private need = TCP_CH_BYTES;
  private paddingLeft = 0;
  private dataLeft = 0;
  private target: Uint8Array = NO_BYTES;
  private targetAt = 0;
  /** Not null: the data goes through this BAR, at `targetAt`. */
  private window: MappedRegion | null = null;
  private hasTarget = false;
  private crc = 0;
  /** The piece that is being read, as words: headers are copied four bytes at a time. */
  private piece: DataView | null = null;

  constructor(legal: number, allowed: number, handler: PduHandler) {
    this.legal = legal;
    this.allowed = allowed;
    this.handler = handler;
  }

  /** Bytes of the header at hand that have arrived: what a TermReq quotes. */
  get headerBytes(): number {
    return Math.min(this.have, TCP_TERM_DATA_MAX);
  }

  /** In the middle of a PDU. */
  get isInside(): boolean {
    return this.phase !== Phase.common || this.have > 0;
  }

  /** The data of the PDU at hand goes to `bytes` at `offset`, which has room for all of it. */
  setTarget(bytes: Uint8Array, offset: number): void {
    this.target = bytes;
    this.targetAt = offset;
    this.hasTarget = true;
    this.window = null;
  }

  /** The same into a device's memory. */
  setWindow(window: MappedRegion, offset: number): void {
    this.window = window;
    this.targetAt = offset;
    this.hasTarget = true;
  }

  /** The stream cannot go on. For handlers: return its result. */
  fail(fes: number, fei: number): number {
    this.fes = fes;
    this.fei = fei;
    return fes;
  }

  /**
   * Takes in bytes from `offset` until they are used up, `pdusMax` PDUs are done, or the stream
   * is broken. Returns the offset behind the last byte it took.
   */
  consume(bytes: Uint8Array, offset: number, pdusMax: number): number {
    let at = offset;
    const stopAt = this.pdus + pdusMax;
    while (this.fes === 0 && this.pdus < stopAt && at < bytes.length) {
      switch (this.phase) {
        case Phase.common:
          at = this.collect(bytes, at);
          if (this.have === this.need) this.commonDone();
          break;
        case Phase.header:
          at = this.collect(bytes, at);
          if (this.have === this.need) this.headerDone();
          break;
        case Phase.padding: {
          const step = Math.min(this.paddingLeft, bytes.length - at);
          at += step;
          this.paddingLeft -= step;
          if (this.paddingLeft === 0) this.phase = Phase.data;
          break;
        }
        case Phase.data:
          at = this.takeData(bytes, at);
          break;
        default:
          at = this.collect(bytes, at);
          if (this.have === this.need) this.digestDone();
      }
    }
    this.piece = null;
    return at;
  }

  private collect(bytes: Uint8Array, at: number): number {
    const { header, view, have } = this;
    const step = Math.min(this.need - have, bytes.length - at);
    let i = 0;
    if (step >= WORD_BYTES) {
      if (this.piece === null) {
        this.piece = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
      }
      const { piece } = this;
      for (const whole = step - WORD_BYTES; i <= whole; i += WORD_BYTES) {
        view.setUint32(have + i, piece.getUint32(at + i, true), true);
      }
    }
    for (; i < step; i++) header[have + i] = bytes[at + i];
    this.have = have + step;
    return at + step;
  }

  /** The eight bytes that all PDUs have. */
  private commonDone(): void {
    const { view } = this;
    this.type = view.getUint8(TcpChOffset.TYPE);
    this.flags = view.getUint8(TcpChOffset.FLAGS);
    this.plen = view.getUint32(TcpChOffset.PLEN, true);
    const bit = this.type <= TYPES_MAX ? 1 << this.type : 0;
    if ((this.legal & bit) === 0) {
      this.fail(TcpFes.INVALID_HEADER_FIELD, TcpChOffset.TYPE);
    } else if ((this.allowed & bit) === 0) {
      this.fail(TcpFes.PDU_SEQUENCE_ERROR, 0);
    } else if (view.getUint8(TcpChOffset.HLEN) !== TCP_HLEN[this.type]) {
      this.fail(TcpFes.INVALID_HEADER_FIELD, TcpChOffset.HLEN);
    } else {
      const bad = (BARE & bit) !== 0 ? this.measureBare(bit) : this.measure(bit);
      if (bad >= 0) this.fail(TcpFes.INVALID_HEADER_FIELD, bad);
      else this.phase = Phase.header;
    }
  }

  /** Lengths of a PDU that makes or ends a connection. Returns the wrong field, or -1. */
  private measureBare(bit: number): number {
    const hlen = TCP_HLEN[this.type];
    const most = (TERM & bit) !== 0 ? hlen + TCP_TERM_DATA_MAX : hlen;
    if (this.plen < hlen || this.plen > most) return TcpChOffset.PLEN;
    this.need = hlen;
    this.paddingLeft = 0;
    this.dataBytes = this.plen - hlen;
    return -1;
  }

  private measure(bit: number): number {
    const hlen = TCP_HLEN[this.type];
    const headerBytes = this.headerDigest ? hlen + TCP_DIGEST_BYTES : hlen;
    const { plen, flags } = this;
    if (((flags & TcpFlag.hdgst) !== 0) !== this.headerDigest) return TcpChOffset.FLAGS;
    if (plen < headerBytes) return TcpChOffset.PLEN;
    this.need = headerBytes;
    this.paddingLeft = 0;
    this.dataBytes = 0;
    // PDO and DDGSTF mean nothing without data.
    if (plen === headerBytes) return -1;
    if ((WITH_DATA & bit) === 0) return TcpChOffset.PLEN;
    if (((flags & TcpFlag.ddgst) !== 0) !== this.dataDigest) return TcpChOffset.FLAGS;
    const pdo = this.view.getUint8(TcpChOffset.PDO);
    if (pdo < headerBytes || pdo % ((this.pda + 1) * 4) !== 0) return TcpChOffset.PDO;
    const dataBytes = plen - pdo - (this.dataDigest ? TCP_DIGEST_BYTES : 0);
    if (dataBytes <= 0) return TcpChOffset.PLEN;
    this.paddingLeft = pdo - headerBytes;
    this.dataBytes = dataBytes;
    return -1;
  }

  private headerDone(): void {
    const hlen = TCP_HLEN[this.type];
    if (this.need > hlen) {
      const received = this.view.getUint32(hlen, true);
      if (received !== crc32c(this.header, 0, hlen)) {
        this.fail(TcpFes.HEADER_DIGEST_ERROR, received);
        return;
      }
    }
    this.hasTarget = false;
    if (this.handler.pduHeader(this) !== 0) return;
    if (this.dataBytes === 0) {
      this.done(true);
      return;
    }
    this.dataLeft = this.dataBytes;
    this.crc = CRC32C_START;
    this.phase = this.paddingLeft > 0 ? Phase.padding : Phase.data;
  }

  private takeData(bytes: Uint8Array, at: number): number {
    const step = Math.min(this.dataLeft, bytes.length - at);
    if (this.hasTarget) {
      const { window } = this;
      if (window === null) this.target.set(bytes.subarray(at, at + step), this.targetAt);
      else window.copyIn(this.targetAt, bytes, at, step);
      this.targetAt += step;
      this.copiedBytes += step;
    }
    const isDigested = this.dataDigest && (BARE & (1 << this.type)) === 0;
    if (isDigested) this.crc = crc32cUpdate(this.crc, bytes, at, step);
    this.dataLeft -= step;
    if (this.dataLeft === 0) {
      if (isDigested) {
        // The header has been dealt with: its place takes the digest.
        this.have = 0;
        this.need = TCP_DIGEST_BYTES;
        this.phase = Phase.dataDigest;
      } else this.done(true);
    }
    return at + step;
  }

  private digestDone(): void {
    this.done(this.view.getUint32(0, true) === crc32cFinish(this.crc));
  }

  private done(isIntact: boolean): void {
    this.pdus++;
    this.counts[this.type]++;
    this.phase = Phase.common;
    this.have = 0;
    this.need = TCP_CH_BYTES;
    this.handler.pduDone(this, isIntact);
  }
}
