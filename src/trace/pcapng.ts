/**
 * Writes pcapng (draft-ietf-opsawg-pcapng): one section, one interface of raw IP packets, then a
 * packet per block, and what was counted at the end. Wireshark, tshark and tcpdump read it.
 *
 * Blocks are built in one buffer, which is handed on when it is full and on `flush`: memory is
 * bounded by it, and what is handed on ends with a whole block. Times are nanoseconds since 1970,
 * the wall clock at the beginning plus the monotonic time since, so that they never jump back.
 *
 * Leaves out: reading (testing/capture-reader.ts), several interfaces, name resolution, secrets.
 */

import { assert } from "../core/index.ts";

/** Block types, section 4. */
export const PcapngBlock = {
  section: 0x0a0d0d0a,
  interface: 1,
  statistics: 5,
  packet: 6,
} as const;

/** Option codes: the common ones (3.5), then those of each block (4.1, 4.2, 4.3, 4.6). */
const Option = {
  end: 0,
  comment: 1,
  userAppl: 4,
  ifName: 2,
  ifDescription: 3,
  ifTsresol: 9,
  epbFlags: 2,
  isbStarttime: 2,
  isbEndtime: 3,
  isbIfrecv: 4,
} as const;

export const PCAPNG_BYTE_ORDER = 0x1a2b3c4d;
/** Link type: the packet begins with its IPv4 or IPv6 header. */
export const LINKTYPE_RAW = 101;
/** Bytes of one packet, at most. */
export const CAPTURE_PACKET_BYTES_MAX = 65_535;
/** epb_flags, bits 0 and 1 (section 4.3.1). */
export const PcapngDirection = { inbound: 1, outbound: 2 } as const;

const MAJOR = 1;
/** if_tsresol: a unit of time is 10^-9 s. */
const NANOSECONDS = 9;
const BUFFER_BYTES = 256 * 1024;
const COMMENT_BYTES_MAX = 1024;
/** An EPB without packet and comment: header, trailer, flags, end of options. */
const PACKET_OVERHEAD = 28 + 4 + 8 + 4;
const TWO_32 = 2 ** 32;
const NS_PER_MS = 1_000_000n;

const padded = (bytes: number): number => Math.ceil(bytes / 4) * 4;

export interface PcapngOptions {
  /** Takes what was built; the bytes are used again when it returns. */
  readonly out: (bytes: Uint8Array) => void;
  /** Monotonic nanoseconds, on the scale of the times that packets are given, ... */
  readonly nowNs: number;
  /** ... and the wall clock then, in milliseconds since 1970. */
  readonly wallMs: number;
  /** Program that wrote it. */
  readonly application: string;
  readonly interfaceName: string;
  readonly interfaceDescription: string;
}

export class PcapngWriter {
  /** Blocks are built here; `view` is on the same bytes. */
  readonly bytes = new Uint8Array(BUFFER_BYTES);
  readonly view = new DataView(this.bytes.buffer);
  /** The same as 32-bit words: packets begin at a multiple of four. */
  readonly words = new Uint32Array(this.bytes.buffer);
  packets = 0;
  /** Bytes of whole blocks so far, those not handed on yet included. */
  size = 0;
  private readonly out: (bytes: Uint8Array) => void;
  private readonly baseLow: number;
  private readonly baseHigh: number;
  private readonly startNs: number;
  private at = 0;
  private blockAt = 0;

  constructor(options: PcapngOptions) {
    const { nowNs, wallMs } = options;
    this.out = options.out;
    this.startNs = nowNs;
    const base = BigInt(wallMs) * NS_PER_MS;
    this.baseLow = Number(base % BigInt(TWO_32));
    this.baseHigh = Number(base / BigInt(TWO_32));
    this.beginBlock(PcapngBlock.section);
    this.put32(PCAPNG_BYTE_ORDER);
    this.put16(MAJOR);
    this.put16(0);
    // Length of the section: not known.
    this.put32(0xffff_ffff);
    this.put32(0xffff_ffff);
    this.putText(Option.userAppl, options.application);
    this.endOptions();
    this.endBlock();
    this.beginBlock(PcapngBlock.interface);
    this.put16(LINKTYPE_RAW);
    this.put16(0);
    this.put32(CAPTURE_PACKET_BYTES_MAX);
    this.putText(Option.ifName, options.interfaceName);
    this.putText(Option.ifDescription, options.interfaceDescription);
    this.putOption(Option.ifTsresol, 1);
    this.bytes[this.at] = NANOSECONDS;
    this.at += 4;
    this.endOptions();
    this.endBlock();
  }

  /** Bytes in the file of a packet of so many bytes with so long a comment. */
  static packetBytes(packetBytes: number, commentBytes = 0): number {
    const comment = commentBytes === 0 ? 0 : 4 + padded(Math.min(commentBytes, COMMENT_BYTES_MAX));
    return PACKET_OVERHEAD + padded(packetBytes) + comment;
  }

  /**
   * Begins a packet of `length` bytes. Write them to `bytes` from the returned offset on, a
   * multiple of four, then call {@link endPacket}.
   */
  beginPacket(timeNs: number, length: number): number {
    assert(length > 0 && length <= CAPTURE_PACKET_BYTES_MAX, "a captured packet has a length");
    if (this.at + length + PACKET_OVERHEAD + COMMENT_BYTES_MAX + 8 > BUFFER_BYTES) this.flush();
    this.beginBlock(PcapngBlock.packet);
    this.put32(0);
    this.putTime(timeNs);
    this.put32(length);
    this.put32(length);
    const at = this.at;
    this.at += padded(length);
    this.words[(this.at >>> 2) - 1] = 0;
    return at;
  }

  /** `direction`: of {@link PcapngDirection}. An empty comment is none. */
  endPacket(direction: number, comment: string): void {
    this.putOption(Option.epbFlags, 4);
    this.put32(direction);
    if (comment !== "") this.putText(Option.comment, comment);
    this.endOptions();
    this.endBlock();
    this.packets++;
  }

  /** The last block: how many packets there were, from when to when, and why it ends. */
  finish(timeNs: number, comment: string): void {
    if (this.at + 2 * COMMENT_BYTES_MAX > BUFFER_BYTES) this.flush();
    this.beginBlock(PcapngBlock.statistics);
    this.put32(0);
    this.putTime(timeNs);
    this.putOption(Option.isbStarttime, 8);
    this.putTime(this.startNs);
    this.putOption(Option.isbEndtime, 8);
    this.putTime(timeNs);
    this.putOption(Option.isbIfrecv, 8);
    this.put32(this.packets >>> 0);
    this.put32(Math.floor(this.packets / TWO_32));
    this.putText(Option.comment, comment);
    this.endOptions();
    this.endBlock();
    this.flush();
  }

  /** Hands on what was built. */
  flush(): void {
    if (this.at === 0) return;
    const length = this.at;
    this.at = 0;
    this.out(this.bytes.subarray(0, length));
  }

  private beginBlock(type: number): void {
    this.blockAt = this.at;
    this.put32(type);
    this.put32(0);
  }

  private endBlock(): void {
    const length = this.at + 4 - this.blockAt;
    this.put32(length);
    this.view.setUint32(this.blockAt + 4, length, true);
    this.size += length;
  }

  private put16(value: number): void {
    this.view.setUint16(this.at, value, true);
    this.at += 2;
  }

  private put32(value: number): void {
    this.view.setUint32(this.at, value, true);
    this.at += 4;
  }

  /** High half first, whatever the byte order (section 4.3). */
  private putTime(timeNs: number): void {
    const since = Math.max(0, timeNs - this.startNs);
    const low = this.baseLow + (since % TWO_32);
    const carry = low >= TWO_32 ? 1 : 0;
    this.put32(this.baseHigh + Math.floor(since / TWO_32) + carry);
    this.put32(low % TWO_32);
  }

  /** The head of an option; what is in its last word is 0 until it is written. */
  private putOption(code: number, length: number): void {
    this.put16(code);
    this.put16(length);
    if (length > 0) this.words[((this.at + padded(length)) >>> 2) - 1] = 0;
  }

  private putText(code: number, text: string): void {
    const encoded = new TextEncoder().encode(text).subarray(0, COMMENT_BYTES_MAX);
    this.putOption(code, encoded.length);
    this.bytes.set(encoded, this.at);
    this.at += padded(encoded.length);
  }

  private endOptions(): void {
    this.put16(Option.end);
    this.put16(0);
  }
}
