/**
 * The InfiniBand transport on the wire: base and extended headers, packet opcodes, AETH syndromes,
 * PSN arithmetic, timers. IBA Volume 1 chapter 9; RoCEv2 (Annex A17) carries the same behind UDP.
 * Big-endian throughout.
 *
 * Leaves out: RD and XRC headers, congestion notification, ICRC (a packet wire computes it).
 */

import { defineLayout, field, type Layout } from "../../core/index.ts";

/** UDP destination port of RoCEv2. Annex A17.4. */
export const ROCE_V2_UDP_PORT = 4791;

/**
 * BTH opcodes used here: reliable connection and unreliable datagram. IBA table 38 "OpCode field".
 */
export const BthOpcode = {
  rcSendFirst: 0x00,
  rcSendMiddle: 0x01,
  rcSendLast: 0x02,
  rcSendLastWithImm: 0x03,
  rcSendOnly: 0x04,
  rcSendOnlyWithImm: 0x05,
  rcWriteFirst: 0x06,
  rcWriteMiddle: 0x07,
  rcWriteLast: 0x08,
  rcWriteLastWithImm: 0x09,
  rcWriteOnly: 0x0a,
  rcWriteOnlyWithImm: 0x0b,
  rcReadRequest: 0x0c,
  rcReadResponseFirst: 0x0d,
  rcReadResponseMiddle: 0x0e,
  rcReadResponseLast: 0x0f,
  rcReadResponseOnly: 0x10,
  rcAcknowledge: 0x11,
  rcAtomicAcknowledge: 0x12,
  rcCompareSwap: 0x13,
  rcFetchAdd: 0x14,
  rcSendLastWithInvalidate: 0x16,
  rcSendOnlyWithInvalidate: 0x17,
  udSendOnly: 0x64,
  udSendOnlyWithImm: 0x65,
} as const;
export type BthOpcode = (typeof BthOpcode)[keyof typeof BthOpcode];

export const BTH_OPCODE_NAMES: Readonly<Record<number, string>> = {
  0: "RC SEND First",
  1: "RC SEND Middle",
  2: "RC SEND Last",
  3: "RC SEND Last with Immediate",
  4: "RC SEND Only",
  5: "RC SEND Only with Immediate",
  6: "RC RDMA WRITE First",
  7: "RC RDMA WRITE Middle",
  8: "RC RDMA WRITE Last",
  9: "RC RDMA WRITE Last with Immediate",
  10: "RC RDMA WRITE Only",
  11: "RC RDMA WRITE Only with Immediate",
  12: "RC RDMA READ Request",
  13: "RC RDMA READ response First",
  14: "RC RDMA READ response Middle",
  15: "RC RDMA READ response Last",
  16: "RC RDMA READ response Only",
  17: "RC Acknowledge",
  18: "RC ATOMIC Acknowledge",
  19: "RC CmpSwap",
  20: "RC FetchAdd",
  22: "RC SEND Last with Invalidate",
  23: "RC SEND Only with Invalidate",
  100: "UD SEND Only",
  101: "UD SEND Only with Immediate",
};

/** Base transport header. IBA 9.2. */
export const Bth = {
  opcode: 0,
  /** SE(7) M(6) Pad(5:4) TVer(3:0). */
  flags: 1,
  pkey: 2,
  /** FECN, BECN and reserved bits (Annex A17). */
  congestion: 4,
  destQp: 5,
  /** A(7), reserved. */
  ackReq: 8,
  psn: 9,
  sizeBytes: 12,
} as const;
export const BthFlags = {
  solicited: field(7, 1),
  migration: field(6, 1),
  padCount: field(4, 2),
  version: field(0, 4),
} as const;

const IBA = "IBA Volume 1, ";

export const BTH: Layout = defineLayout({
  name: "BTH",
  source: `${IBA}section 9.2`,
  sizeBytes: Bth.sizeBytes,
  endian: "big",
  fields: [
    { name: "opcode", offset: Bth.opcode, kind: "u8", text: "opcode", values: BTH_OPCODE_NAMES },
    { name: "flags", offset: Bth.flags, kind: "u8", text: "SE, M, PadCnt, TVer" },
    { name: "pkey", offset: Bth.pkey, kind: "u16", text: "partition key" },
    { name: "congestion", offset: Bth.congestion, kind: "u8", text: "FECN, BECN, reserved" },
    { name: "destQp", offset: Bth.destQp, kind: "u24", text: "destination QP" },
    { name: "ackReq", offset: Bth.ackReq, kind: "u8", text: "bit 7: acknowledge request" },
    { name: "psn", offset: Bth.psn, kind: "u24", text: "packet sequence number" },
  ],
});

/** RDMA extended transport header. IBA 9.3.3. */
export const Reth = { address: 0, rkey: 8, length: 12, sizeBytes: 16 } as const;
export const RETH: Layout = defineLayout({
  name: "RETH",
  source: `${IBA}section 9.3.3`,
  sizeBytes: Reth.sizeBytes,
  endian: "big",
  fields: [
    { name: "address", offset: Reth.address, kind: "u64", text: "virtual address" },
    { name: "rkey", offset: Reth.rkey, kind: "u32", text: "R_Key" },
    { name: "length", offset: Reth.length, kind: "u32", text: "DMA length in bytes" },
  ],
});

/** Atomic extended transport header. IBA 9.3.4. */
export const ATOMIC_ETH: Layout = defineLayout({
  name: "AtomicETH",
  source: `${IBA}section 9.3.4`,
  sizeBytes: 28,
  endian: "big",
  fields: [
    { name: "address", offset: 0, kind: "u64", text: "virtual address" },
    { name: "rkey", offset: 8, kind: "u32", text: "R_Key" },
    { name: "swapAdd", offset: 12, kind: "bytes", bytes: 8, text: "swap or add data" },
    { name: "compare", offset: 20, kind: "bytes", bytes: 8, text: "compare data" },
  ],
});

/** ACK extended transport header. IBA 9.3.5. */
export const Aeth = { syndrome: 0, msn: 1, sizeBytes: 4 } as const;
export const AETH: Layout = defineLayout({
  name: "AETH",
  source: `${IBA}section 9.3.5`,
  sizeBytes: Aeth.sizeBytes,
  endian: "big",
  fields: [
    { name: "syndrome", offset: Aeth.syndrome, kind: "u8", text: "ACK, RNR NAK or NAK" },
    { name: "msn", offset: Aeth.msn, kind: "u24", text: "message sequence number" },
  ],
});

/** Datagram extended transport header. IBA 9.3.2. */
export const DETH: Layout = defineLayout({
  name: "DETH",
  source: `${IBA}section 9.3.2`,
  sizeBytes: 8,
  endian: "big",
  fields: [
    { name: "qkey", offset: 0, kind: "u32", text: "Q_Key" },
    { name: "sourceQp", offset: 5, kind: "u24", text: "source QP" },
  ],
});

/** Immediate data (ImmDt, 9.3.6) and invalidate (IETH, 9.3.7) headers: one u32. */
export const IMMDT: Layout = defineLayout({
  name: "ImmDt",
  source: `${IBA}section 9.3.6`,
  sizeBytes: 4,
  endian: "big",
  fields: [{ name: "immediate", offset: 0, kind: "u32", text: "immediate data" }],
});
export const IETH: Layout = defineLayout({
  name: "IETH",
  source: `${IBA}section 9.3.7`,
  sizeBytes: 4,
  endian: "big",
  fields: [{ name: "rkey", offset: 0, kind: "u32", text: "R_Key to invalidate" }],
});

/** Global routing header: what a datagram RECV finds in its first 40 bytes. IBA 8.3. */
export const GRH: Layout = defineLayout({
  name: "GRH",
  source: `${IBA}section 8.3`,
  sizeBytes: 40,
  endian: "big",
  fields: [
    { name: "versionClassFlow", offset: 0, kind: "u32", text: "IPVer, TClass, FlowLabel" },
    { name: "payloadLength", offset: 4, kind: "u16", text: "bytes behind this header" },
    { name: "nextHeader", offset: 6, kind: "u8", text: "0x1b: IBA transport" },
    { name: "hopLimit", offset: 7, kind: "u8", text: "hop limit" },
    { name: "sourceGid", offset: 8, kind: "bytes", bytes: 16, text: "SGID" },
    { name: "destGid", offset: 24, kind: "bytes", bytes: 16, text: "DGID" },
  ],
});
export const GRH_BYTES = 40;
export const GRH_NEXT_HEADER_IBA = 0x1b;

/**
 * AETH syndromes. Bits 6:5 tell the kind; the rest is a credit count, a timer code or a NAK code.
 * IBA 9.7.5.1.1, tables 43 to 46.
 */
export const Syndrome = {
  /** ACK without credit count (credits are off: 0x1f). */
  ack: 0x1f,
  rnrNak: 0x20,
  nakSequence: 0x60,
  nakInvalidRequest: 0x61,
  nakRemoteAccess: 0x62,
  nakRemoteOperation: 0x63,
  nakInvalidRdRequest: 0x64,
} as const;
export const SYNDROME_KIND_MASK = 0x60;
export const SyndromeKind = { ack: 0x00, rnrNak: 0x20, nak: 0x60 } as const;
export const SYNDROME_VALUE_MASK = 0x1f;

export function syndromeName(syndrome: number): string {
  const value = syndrome & SYNDROME_VALUE_MASK;
  switch (syndrome & SYNDROME_KIND_MASK) {
    case SyndromeKind.ack:
      return "ACK";
    case SyndromeKind.rnrNak:
      return `RNR NAK, timer ${value}`;
    case SyndromeKind.nak:
      return `NAK ${NAK_NAMES[value] ?? value}`;
    default:
      return `reserved ${syndrome}`;
  }
}

const NAK_NAMES: readonly string[] = [
  "PSN sequence error",
  "invalid request",
  "remote access error",
  "remote operational error",
  "invalid RD request",
];

/** RNR NAK timer codes in nanoseconds, indexed by code. IBA table 45. */
export const RNR_TIMER_NS: readonly number[] = [
  655_360_000, 10_000, 20_000, 30_000, 40_000, 60_000, 80_000, 120_000, 160_000, 240_000, 320_000,
  480_000, 640_000, 960_000, 1_280_000, 1_920_000, 2_560_000, 3_840_000, 5_120_000, 7_680_000,
  10_240_000, 15_360_000, 20_480_000, 30_720_000, 40_960_000, 61_440_000, 81_920_000, 122_880_000,
  163_840_000, 245_760_000, 327_680_000, 491_520_000,
];

/** Local ACK timeout and CM response timeouts: 4.096 us * 2^code. IBA 9.7.6.1.3, 12.7.4. */
export const timeoutNs = (code: number): number => 4096 * 2 ** code;

/** Retry counts of 7 mean "for ever" for RNR. IBA 9.7.5.2.8. */
export const RNR_RETRY_FOREVER = 7;

/** Packet sequence numbers have 24 bits. */
export const PSN_MASK = 0xffffff;
/** Half of the PSN space: what is ahead by less is new, else it is old. IBA 9.7.1. */
export const PSN_HALF = 0x800000;

/** `a - b` modulo 2^24. Below {@link PSN_HALF}: a is at or after b. */
export const psnDistance = (a: number, b: number): number => (a - b) & PSN_MASK;

/** Packets of a message: at least one. */
export const packetsOf = (bytes: number, mtu: number): number =>
  bytes <= mtu ? 1 : Math.ceil(bytes / mtu);

/** Codes of MTUs in connection messages: 1 is 256 ... 5 is 4096. IBA 14.2.5.6. */
export const mtuBytes = (code: number): number => 128 << code;
export const mtuCode = (bytes: number): number => Math.log2(bytes) - 7;
