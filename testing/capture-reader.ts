/**
 * Reads captures as `peerlane --capture` writes them (pcapng, raw IP, TCP), for tests: packets, and
 * the connections that they make up. Everything it relies on is checked, checksums and sequence
 * numbers as well, so that reading a capture is a test of it.
 *
 * Leaves out: big-endian files, other link types, retransmissions, fragments.
 */

import { viewOf } from "../src/core/index.ts";
import { formatGid } from "../src/spec/rdma/index.ts";
import { LINKTYPE_RAW, PCAPNG_BYTE_ORDER, PcapngBlock } from "../src/trace/index.ts";

export interface CapturedPacket {
  readonly timeNs: bigint;
  readonly isInbound: boolean;
  readonly comment: string;
  readonly from: string;
  readonly to: string;
  readonly flags: { readonly syn: boolean; readonly fin: boolean; readonly rst: boolean };
  readonly sequence: number;
  readonly acknowledged: number;
  readonly payload: Uint8Array;
}

export interface CaptureFile {
  readonly packets: readonly CapturedPacket[];
  /** Of the statistics block; null: the file was not finished. */
  readonly end: { readonly received: number; readonly comment: string } | null;
}

/** What one side sent, in the order of both, with who sent it. */
export interface CapturedPiece {
  readonly isInbound: boolean;
  readonly bytes: Uint8Array;
}

export interface CapturedConnection {
  readonly near: string;
  readonly far: string;
  readonly pieces: readonly CapturedPiece[];
  /** How it ended: `open`, `fin`, `rst`. */
  readonly ending: string;
}

function check(holds: boolean, what: string): void {
  if (!holds) throw new Error(`capture: ${what}`);
}

/** Blocks, options, packets. Throws an error that says what is wrong. */
export function readCapture(bytes: Uint8Array): CaptureFile {
  const view = viewOf(bytes);
  const packets: CapturedPacket[] = [];
  let end: CaptureFile["end"] = null;
  for (let at = 0; at < bytes.length; ) {
    const type = view.getUint32(at, true);
    const length = view.getUint32(at + 4, true);
    check(length % 4 === 0 && length >= 12 && at + length <= bytes.length, "a block is cut");
    check(view.getUint32(at + length - 4, true) === length, "a block has two lengths");
    const block = bytes.subarray(at, at + length);
    const isFirst = at === 0;
    check(isFirst === (type === PcapngBlock.section), "a file is one section");
    if (isFirst) check(view.getUint32(8, true) === PCAPNG_BYTE_ORDER, "the byte order");
    if (type === PcapngBlock.interface) {
      check(view.getUint16(at + 8, true) === LINKTYPE_RAW, "the link type");
      check(options(block, 16).get(9)?.[0] === 9, "times are nanoseconds");
    }
    if (type === PcapngBlock.packet) packets.push(packet(block));
    if (type === PcapngBlock.statistics) {
      const found = options(block, 20);
      end = { received: viewOf(found.get(4) ?? block).getUint32(0, true), comment: text(found) };
    }
    at += length;
  }
  return { packets, end };
}

function options(block: Uint8Array, from: number): Map<number, Uint8Array> {
  const view = viewOf(block);
  const found = new Map<number, Uint8Array>();
  for (let at = from; ; ) {
    check(at + 4 <= block.length - 4, "options end");
    const code = view.getUint16(at, true);
    const length = view.getUint16(at + 2, true);
    if (code === 0) {
      check(length === 0 && at + 4 === block.length - 4, "options end where the block does");
      return found;
    }
    found.set(code, block.subarray(at + 4, at + 4 + length));
    at += 4 + Math.ceil(length / 4) * 4;
  }
}

const text = (found: Map<number, Uint8Array>): string =>
  new TextDecoder("utf-8", { fatal: true }).decode(found.get(1));

function packet(block: Uint8Array): CapturedPacket {
  const view = viewOf(block);
  const length = view.getUint32(20, true);
  check(length === view.getUint32(24, true), "no packet is cut");
  const found = options(block, 28 + Math.ceil(length / 4) * 4);
  const direction = viewOf(found.get(2) ?? new Uint8Array(4)).getUint32(0, true);
  check(direction === 1 || direction === 2, "a packet has a direction");
  const seconds = (BigInt(view.getUint32(12, true)) << 32n) | BigInt(view.getUint32(16, true));
  return {
    timeNs: seconds,
    isInbound: direction === 1,
    comment: text(found),
    ...segment(block.subarray(28, 28 + length)),
  };
}

function segment(ip: Uint8Array) {
  const view = viewOf(ip);
  const isIpv4 = ip[0] === 0x45;
  check(isIpv4 || (ip[0] as number) >> 4 === 6, "IPv4 without options, or IPv6");
  const header = isIpv4 ? 20 : 40;
  const size = isIpv4 ? 4 : 16;
  const at = isIpv4 ? 12 : 8;
  check(ip[isIpv4 ? 9 : 6] === 6, "TCP");
  const total = isIpv4 ? view.getUint16(2) : view.getUint16(4) + 40;
  check(total === ip.length, "the length of the IP packet");
  if (isIpv4) check(sum(ip.subarray(0, 20)) === 0xffff, "the checksum of the IPv4 header");
  const tcp = ip.subarray(header);
  const pseudo = new Uint8Array(2 * size + 4 + tcp.length);
  pseudo.set(ip.subarray(at, at + 2 * size));
  viewOf(pseudo).setUint16(2 * size, 6);
  viewOf(pseudo).setUint16(2 * size + 2, tcp.length);
  pseudo.set(tcp, 2 * size + 4);
  check(sum(pseudo) === 0xffff, "the checksum of the TCP segment");
  const flags = tcp[13] as number;
  const name = (from: number, port: number): string => {
    const gid = new Uint8Array(16);
    if (isIpv4) gid.set([0xff, 0xff], 10);
    gid.set(ip.subarray(from, from + size), 16 - size);
    return `${isIpv4 ? formatGid(gid) : `[${formatGid(gid)}]`}:${port}`;
  };
  return {
    from: name(at, view.getUint16(header)),
    to: name(at + size, view.getUint16(header + 2)),
    flags: { fin: (flags & 1) !== 0, syn: (flags & 2) !== 0, rst: (flags & 4) !== 0 },
    sequence: view.getUint32(header + 4),
    acknowledged: view.getUint32(header + 8),
    payload: tcp.slice(((tcp[12] as number) >> 4) * 4),
  };
}

/** One's complement sum of big-endian words, padded with a zero (RFC 1071). */
function sum(bytes: Uint8Array): number {
  let total = 0;
  for (let i = 0; i < bytes.length; i++) {
    const byte = bytes[i] as number;
    total += i % 2 === 0 ? byte << 8 : byte;
  }
  while (total > 0xffff) total = (total % 0x10000) + Math.floor(total / 0x10000);
  return total;
}

interface Followed {
  readonly near: string;
  readonly far: string;
  readonly pieces: CapturedPiece[];
  ending: string;
  /** Sequence number that comes next, from the peer and from here. */
  readonly next: [number, number];
}

/** The connections of a capture, in the order of their beginnings. */
export function connectionsOf({ packets }: CaptureFile): CapturedConnection[] {
  const all: Followed[] = [];
  const open = new Map<string, Followed>();
  for (const one of packets) {
    const { isInbound, from, to, flags, payload, sequence, acknowledged } = one;
    const [near, far] = isInbound ? [to, from] : [from, to];
    const key = `${near} ${far}`;
    const side = isInbound ? 0 : 1;
    let connection = open.get(key);
    if (flags.syn && acknowledged === 0) {
      connection = { near, far, pieces: [], ending: "open", next: [sequence, sequence] };
      all.push(connection);
      open.set(key, connection);
    }
    if (connection === undefined) throw new Error(`capture: ${key} has no beginning`);
    check(sequence === connection.next[side], `sequence numbers of ${key}`);
    if (!(flags.syn && acknowledged === 0)) {
      check(acknowledged === connection.next[1 - side], `acknowledgements of ${key}`);
    }
    const takes = flags.syn || flags.fin ? 1 : payload.length;
    connection.next[side] = (sequence + takes) >>> 0;
    if (payload.length > 0) connection.pieces.push({ isInbound, bytes: payload });
    if (flags.fin && connection.ending === "open") connection.ending = "fin";
    if (flags.rst) connection.ending = "rst";
  }
  return all;
}

/** All that one side of a connection sent. */
export function sentBy({ pieces }: CapturedConnection, isInbound: boolean): Uint8Array {
  return Buffer.concat(pieces.filter((one) => one.isInbound === isInbound).map((p) => p.bytes));
}
