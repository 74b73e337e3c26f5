/**
 * A TCP connection as packets of a capture, made from what a program sees of it: bytes that come
 * and go, and how it ends. Sockets show no packets, so headers, handshake and acknowledgements are
 * made up: consistent, with right sequence numbers and checksums, so that Wireshark follows the
 * stream; the payload, its order and its times are real. RFC 9293 (TCP), RFC 791, RFC 8200 (IP).
 *
 * Each packet acknowledges all that came before it from the other side. Loss, retransmission and
 * windows of the real connection are not visible to a program, and not here.
 */

import { PcapngDirection, PcapngWriter } from "./pcapng.ts";

/** An end of a connection. */
export interface TcpEndpoint {
  /** 16 bytes; IPv4 as ::ffff:0:0/96. */
  readonly address: Uint8Array;
  readonly port: number;
}

const IPV4_BYTES = 20;
const IPV6_BYTES = 40;
const TCP_BYTES = 20;
/** MSS, no-operation, window scale. */
const SYN_OPTIONS = [2, 4, 0xff, 0xd7, 1, 3, 3, 14];
/** Payload of one packet, at most: whole pages, and below what an IPv4 packet takes. */
const SEGMENT_BYTES_MAX = 60 * 1024;
const IPPROTO_TCP = 6;
const HOPS = 64;
const DONT_FRAGMENT = 0x4000;
const WINDOW = 0xffff;
const TcpFlag = { fin: 0x01, syn: 0x02, rst: 0x04, psh: 0x08, ack: 0x10 } as const;
/** Connections begin their sequence numbers apart: one that has old ports again is a new one. */
const ISN_STEP = 0x0010_0000;
const NO_BYTES = new Uint8Array(0);

const isMapped = (address: Uint8Array): boolean =>
  address.every((byte, i) => (i < 10 ? byte === 0 : i >= 12 || byte === 0xff));

/** One side: where it is, what it sends next. */
interface Side {
  readonly endpoint: TcpEndpoint;
  next: number;
  hasEnded: boolean;
}

export class TcpConversation {
  private readonly writer: PcapngWriter;
  /** This program's side, and the peer's. */
  private readonly near: Side;
  private readonly far: Side;
  private readonly isIpv4: boolean;
  private readonly headerBytes: number;
  /** Sum of the parts of the checksum that never change; the same for both directions. */
  private readonly addressSum: number;
  private ipId = 0;

  /** `index`: how many connections the capture has had before. */
  constructor(writer: PcapngWriter, near: TcpEndpoint, far: TcpEndpoint, index: number) {
    this.writer = writer;
    const isn = (index * ISN_STEP) >>> 0;
    this.near = { endpoint: near, next: isn, hasEnded: false };
    this.far = { endpoint: far, next: isn, hasEnded: false };
    this.isIpv4 = isMapped(near.address) && isMapped(far.address);
    this.headerBytes = (this.isIpv4 ? IPV4_BYTES : IPV6_BYTES) + TCP_BYTES;
    const from = this.isIpv4 ? 12 : 0;
    this.addressSum =
      sumBig(near.address.subarray(from)) + sumBig(far.address.subarray(from)) + IPPROTO_TCP;
  }

  /** The handshake. `isInbound`: the peer connected. */
  open(timeNs: number, isInbound: boolean, comment: string): void {
    this.packet(timeNs, isInbound, TcpFlag.syn, NO_BYTES, 0, 0, comment);
    this.packet(timeNs, !isInbound, TcpFlag.syn | TcpFlag.ack, NO_BYTES, 0, 0, "");
    this.packet(timeNs, isInbound, TcpFlag.ack, NO_BYTES, 0, 0, "");
  }

  /** Bytes of the file that {@link data} takes for so many bytes. */
  dataSize(bytes: number): number {
    const segments = Math.ceil(bytes / SEGMENT_BYTES_MAX);
    return bytes + segments * (PcapngWriter.packetBytes(this.headerBytes) + 3);
  }

  /** Bytes that came (`isInbound`) or went. */
  data(timeNs: number, isInbound: boolean, bytes: Uint8Array): void {
    for (let at = 0; at < bytes.length; at += SEGMENT_BYTES_MAX) {
      const length = Math.min(SEGMENT_BYTES_MAX, bytes.length - at);
      this.packet(timeNs, isInbound, TcpFlag.psh | TcpFlag.ack, bytes, at, length, "");
    }
  }

  /** One side sends no more. Nothing when it has said so before. */
  finish(timeNs: number, isInbound: boolean, comment: string): void {
    const { near, far } = this;
    const side = isInbound ? far : near;
    if (side.hasEnded) return;
    this.packet(timeNs, isInbound, TcpFlag.fin | TcpFlag.ack, NO_BYTES, 0, 0, comment);
    side.hasEnded = true;
    if (near.hasEnded && far.hasEnded) {
      this.packet(timeNs, !isInbound, TcpFlag.ack, NO_BYTES, 0, 0, "");
    }
  }

  /** One side breaks the connection off. Nothing when it is over. */
  reset(timeNs: number, isInbound: boolean, comment: string): void {
    const { near, far } = this;
    if (near.hasEnded && far.hasEnded) return;
    this.packet(timeNs, isInbound, TcpFlag.rst | TcpFlag.ack, NO_BYTES, 0, 0, comment);
    near.hasEnded = true;
    far.hasEnded = true;
  }

  private packet(
    timeNs: number,
    isInbound: boolean,
    flags: number,
    payload: Uint8Array,
    offset: number,
    length: number,
    comment: string,
  ): void {
    const { writer } = this;
    const from = isInbound ? this.far : this.near;
    const to = isInbound ? this.near : this.far;
    const optionBytes = (flags & TcpFlag.syn) !== 0 ? SYN_OPTIONS.length : 0;
    const headers = this.headerBytes + optionBytes;
    const start = writer.beginPacket(timeNs, headers + length);
    const segmentBytes = TCP_BYTES + optionBytes + length;
    if (this.isIpv4) this.ipv4(start, from, to, segmentBytes);
    else this.ipv6(start, from, to, segmentBytes);
    const { bytes, view } = writer;
    const tcp = start + this.headerBytes - TCP_BYTES;
    view.setUint16(tcp, from.endpoint.port);
    view.setUint16(tcp + 2, to.endpoint.port);
    view.setUint32(tcp + 4, from.next);
    view.setUint32(tcp + 8, (flags & TcpFlag.ack) !== 0 ? to.next : 0);
    view.setUint8(tcp + 12, ((TCP_BYTES + optionBytes) / 4) << 4);
    view.setUint8(tcp + 13, flags);
    view.setUint16(tcp + 14, WINDOW);
    view.setUint16(tcp + 16, 0);
    view.setUint16(tcp + 18, 0);
    if (optionBytes > 0) bytes.set(SYN_OPTIONS, tcp + TCP_BYTES);
    if (length > 0) {
      bytes.set(payload.subarray(offset, offset + length), tcp + TCP_BYTES);
    }
    const sum = this.addressSum + segmentBytes + this.sumWords(tcp, segmentBytes);
    view.setUint16(tcp + 16, checksum(sum));
    writer.endPacket(isInbound ? PcapngDirection.inbound : PcapngDirection.outbound, comment);
    const takes = (flags & (TcpFlag.syn | TcpFlag.fin)) !== 0 ? 1 : length;
    from.next = (from.next + takes) >>> 0;
  }

  private ipv4(at: number, from: Side, to: Side, segmentBytes: number): void {
    const { bytes, view } = this.writer;
    view.setUint16(at, 0x4500);
    view.setUint16(at + 2, IPV4_BYTES + segmentBytes);
    view.setUint16(at + 4, this.ipId);
    view.setUint16(at + 6, DONT_FRAGMENT);
    view.setUint8(at + 8, HOPS);
    view.setUint8(at + 9, IPPROTO_TCP);
    view.setUint16(at + 10, 0);
    bytes.set(from.endpoint.address.subarray(12), at + 12);
    bytes.set(to.endpoint.address.subarray(12), at + 16);
    view.setUint16(at + 10, checksum(sumBig(bytes.subarray(at, at + IPV4_BYTES))));
    this.ipId = (this.ipId + 1) & 0xffff;
  }

  private ipv6(at: number, from: Side, to: Side, segmentBytes: number): void {
    const { bytes, view } = this.writer;
    view.setUint32(at, 0x6000_0000);
    view.setUint16(at + 4, segmentBytes);
    view.setUint8(at + 6, IPPROTO_TCP);
    view.setUint8(at + 7, HOPS);
    bytes.set(from.endpoint.address, at + 8);
    bytes.set(to.endpoint.address, at + 24);
  }

  /**
   * Sum of a segment's 16-bit big-endian words; `at` is a multiple of four, and padding behind the
   * packet is zero. Summed as the machine's own words, with the bytes swapped at the end: the
   * one's complement sum does not care (RFC 1071, section 2).
   */
  private sumWords(at: number, length: number): number {
    const { words } = this.writer;
    const first = at >>> 2;
    const last = first + Math.ceil(length / 4);
    let sum = 0;
    for (let i = first; i < last; i++) {
      const word = words[i] as number;
      sum += (word & 0xffff) + (word >>> 16);
    }
    const folded = fold(sum);
    return IS_LITTLE_ENDIAN ? ((folded & 0xff) << 8) | (folded >>> 8) : folded;
  }
}

const IS_LITTLE_ENDIAN = new Uint8Array(Uint16Array.of(1).buffer)[0] === 1;

function fold(sum: number): number {
  let left = sum;
  while (left > 0xffff) left = (left & 0xffff) + Math.floor(left / 0x1_0000);
  return left;
}

const checksum = (sum: number): number => ~fold(sum) & 0xffff;

/** Sum of 16-bit big-endian words; an even number of bytes. */
function sumBig(bytes: Uint8Array): number {
  let sum = 0;
  for (let i = 0; i < bytes.length; i += 2) {
    sum += ((bytes[i] as number) << 8) | (bytes[i + 1] as number);
  }
  return sum;
}
