/**
 * NVMe/TCP on the wire: the PDUs that carry capsules and data over a byte stream. Little-endian.
 * NVM Express TCP Transport Specification 1.0, section 3.6; 1.1 keeps these layouts.
 *
 *     CH (8 bytes) | PSH (to HLEN) | HDGST (4)? | PAD (to PDO)? | DATA? | DDGST (4)?
 *
 * Digests are CRC32C: HDGST over CH and PSH, DDGST over DATA without its padding. The PDUs that
 * make or end a connection (ICReq, ICResp, both TermReq) never have one.
 *
 * Leaves out: Kickstart PDUs of TLS (1.0, section 3.6.1, removed in 1.1).
 */

import { defineLayout, type LayoutField } from "../../core/index.ts";

/** Bytes of the common header. */
export const TCP_CH_BYTES = 8;
/** Bytes of a header or data digest. */
export const TCP_DIGEST_BYTES = 4;
/** Longest header: ICReq and ICResp. */
export const TCP_HLEN_MAX = 128;
/** Only protocol format version there is: PFV of ICReq and ICResp. */
export const TCP_PFV = 0;
/** Largest HPDA and CPDA; both count dwords, 0's based. */
export const TCP_PDA_MAX = 31;
/** MAXH2CDATA is never below this and a multiple of 4 (figure "ICResp"). */
export const TCP_MAXH2CDATA_MIN = 4096;
/** In-capsule data bytes of every Admin Queue and of every Fabrics command (section 3.3.2). */
export const TCP_ADMIN_IN_CAPSULE_BYTES = 8192;
/** A TermReq repeats the header it complains about: at most this much of it. */
export const TCP_TERM_DATA_MAX = 128;

export const TcpPdu = {
  ICREQ: 0x00,
  ICRESP: 0x01,
  H2C_TERM_REQ: 0x02,
  C2H_TERM_REQ: 0x03,
  CAPSULE_CMD: 0x04,
  CAPSULE_RESP: 0x05,
  H2C_DATA: 0x06,
  C2H_DATA: 0x07,
  R2T: 0x09,
} as const;
export type TcpPdu = (typeof TcpPdu)[keyof typeof TcpPdu];

export const TCP_PDU_NAMES: Readonly<Record<number, string>> = {
  0: "ICReq",
  1: "ICResp",
  2: "H2CTermReq",
  3: "C2HTermReq",
  4: "CapsuleCmd",
  5: "CapsuleResp",
  6: "H2CData",
  7: "C2HData",
  9: "R2T",
};

/** HLEN of each PDU type; 0: no such type. */
export const TCP_HLEN: readonly number[] = [128, 128, 24, 24, 72, 24, 24, 24, 0, 24];
/** PDU types are below this. */
export const TCP_PDU_TYPES = TCP_HLEN.length;

/** FLAGS of the common header. */
export const TcpFlag = {
  hdgst: 0x01,
  ddgst: 0x02,
  /** H2CData and C2HData: the last PDU of an R2T, or of a command. */
  last: 0x04,
  /** C2HData: the command succeeded and no CapsuleResp follows. With `last` only. */
  success: 0x08,
} as const;

/** DGST of ICReq (asks) and ICResp (grants). */
export const TcpDigest = { header: 0x01, data: 0x02 } as const;

/** Why a connection is ended, FES (figure "C2HTermReq"). FEI says more where noted. */
export const TcpFes = {
  /** FEI: byte offset of the field in the PDU header. */
  INVALID_HEADER_FIELD: 0x01,
  PDU_SEQUENCE_ERROR: 0x02,
  /** FEI: the digest as received. */
  HEADER_DIGEST_ERROR: 0x03,
  DATA_OUT_OF_RANGE: 0x04,
  /** For the controller's request: H2CData beyond MAXH2CDATA. */
  DATA_LIMIT_EXCEEDED: 0x05,
  /** FEI: byte offset of the parameter. */
  UNSUPPORTED_PARAMETER: 0x06,
} as const;
export type TcpFes = (typeof TcpFes)[keyof typeof TcpFes];

export const TCP_FES_NAMES: Readonly<Record<number, string>> = {
  1: "Invalid PDU Header Field",
  2: "PDU Sequence Error",
  3: "Header Digest Error",
  4: "Data Transfer Out of Range",
  5: "Data Transfer Limit Exceeded",
  6: "Unsupported Parameter",
};

/** Offsets in the common header. */
export const TcpChOffset = { TYPE: 0, FLAGS: 1, HLEN: 2, PDO: 3, PLEN: 4 } as const;
/** Offsets in ICReq and ICResp, which share their shape. */
export const TcpIcOffset = { PFV: 8, PDA: 10, DGST: 11, MAX: 12 } as const;
/** Offsets in a TermReq. */
export const TcpTermOffset = { FES: 8, FEI: 10 } as const;
/** Offsets in H2CData, C2HData and R2T, which share their shape. */
export const TcpDataOffset = { CCCID: 8, TTAG: 10, DATAO: 12, DATAL: 16 } as const;
/** The command of a CapsuleCmd, the response of a CapsuleResp. */
export const TCP_CAPSULE_AT = 8;

const SOURCE = "NVM Express TCP Transport Specification 1.0, section";

const COMMON: readonly LayoutField[] = [
  { name: "PDU-Type", offset: 0, kind: "u8", text: "type", values: TCP_PDU_NAMES },
  { name: "FLAGS", offset: 1, kind: "u8", text: "HDGSTF, DDGSTF, LAST_PDU, SUCCESS" },
  { name: "HLEN", offset: 2, kind: "u8", text: "bytes of the header, digest aside" },
  { name: "PDO", offset: 3, kind: "u8", text: "offset of the data in the PDU; 0: no data" },
  { name: "PLEN", offset: 4, kind: "u32", text: "bytes of the whole PDU" },
];

function pdu(type: TcpPdu, section: string, fields: readonly LayoutField[]) {
  return defineLayout({
    name: `${TCP_PDU_NAMES[type]} PDU`,
    source: `${SOURCE} ${section}`,
    sizeBytes: TCP_HLEN[type],
    endian: "little",
    fields: [...COMMON, ...fields],
  });
}

const DGST_TEXT = "bit 0: header digest, bit 1: data digest";

export const TCP_ICREQ = pdu(TcpPdu.ICREQ, "3.6.2.2", [
  { name: "PFV", offset: 8, kind: "u16", text: "PDU format version, 0" },
  { name: "HPDA", offset: 10, kind: "u8", text: "alignment of C2HData's data, dwords, 0's based" },
  { name: "DGST", offset: 11, kind: "u8", text: `asked for; ${DGST_TEXT}` },
  { name: "MAXR2T", offset: 12, kind: "u32", text: "R2Ts open per command, 0's based" },
]);

export const TCP_ICRESP = pdu(TcpPdu.ICRESP, "3.6.2.3", [
  { name: "PFV", offset: 8, kind: "u16", text: "PDU format version, 0" },
  {
    name: "CPDA",
    offset: 10,
    kind: "u8",
    text: "alignment of data from the host, dwords, 0's based",
  },
  { name: "DGST", offset: 11, kind: "u8", text: `in use; ${DGST_TEXT}` },
  { name: "MAXH2CDATA", offset: 12, kind: "u32", text: "data bytes of one H2CData" },
]);

const TERM_FIELDS: readonly LayoutField[] = [
  { name: "FES", offset: 8, kind: "u16", text: "fatal error status", values: TCP_FES_NAMES },
  { name: "FEI", offset: 10, kind: "u32", text: "fatal error information" },
];
export const TCP_H2C_TERM_REQ = pdu(TcpPdu.H2C_TERM_REQ, "3.6.2.4", TERM_FIELDS);
export const TCP_C2H_TERM_REQ = pdu(TcpPdu.C2H_TERM_REQ, "3.6.2.5", TERM_FIELDS);

export const TCP_CAPSULE_CMD = pdu(TcpPdu.CAPSULE_CMD, "3.6.2.6", [
  { name: "CCSQE", offset: 8, kind: "bytes", bytes: 64, text: "submission queue entry" },
]);
export const TCP_CAPSULE_RESP = pdu(TcpPdu.CAPSULE_RESP, "3.6.2.7", [
  { name: "RCCQE", offset: 8, kind: "bytes", bytes: 16, text: "completion queue entry" },
]);

export const TCP_H2C_DATA = pdu(TcpPdu.H2C_DATA, "3.6.2.8", [
  { name: "CCCID", offset: 8, kind: "u16", text: "identifier of the command" },
  { name: "TTAG", offset: 10, kind: "u16", text: "tag of the R2T" },
  { name: "DATAO", offset: 12, kind: "u32", text: "offset in the command's data" },
  { name: "DATAL", offset: 16, kind: "u32", text: "data bytes" },
]);
export const TCP_C2H_DATA = pdu(TcpPdu.C2H_DATA, "3.6.2.9", [
  { name: "CCCID", offset: 8, kind: "u16", text: "identifier of the command" },
  { name: "DATAO", offset: 12, kind: "u32", text: "offset in the command's data" },
  { name: "DATAL", offset: 16, kind: "u32", text: "data bytes" },
]);
export const TCP_R2T = pdu(TcpPdu.R2T, "3.6.2.10", [
  { name: "CCCID", offset: 8, kind: "u16", text: "identifier of the command" },
  { name: "TTAG", offset: 10, kind: "u16", text: "tag that H2CData repeats" },
  { name: "R2TO", offset: 12, kind: "u32", text: "offset in the command's data" },
  { name: "R2TL", offset: 16, kind: "u32", text: "data bytes asked for" },
]);

/** Layout of each PDU, by type. */
export const TCP_LAYOUTS: ReadonlyMap<number, ReturnType<typeof pdu>> = new Map([
  [TcpPdu.ICREQ, TCP_ICREQ],
  [TcpPdu.ICRESP, TCP_ICRESP],
  [TcpPdu.H2C_TERM_REQ, TCP_H2C_TERM_REQ],
  [TcpPdu.C2H_TERM_REQ, TCP_C2H_TERM_REQ],
  [TcpPdu.CAPSULE_CMD, TCP_CAPSULE_CMD],
  [TcpPdu.CAPSULE_RESP, TCP_CAPSULE_RESP],
  [TcpPdu.H2C_DATA, TCP_H2C_DATA],
  [TcpPdu.C2H_DATA, TCP_C2H_DATA],
  [TcpPdu.R2T, TCP_R2T],
]);

/** Where data begins behind `headerBytes` of header and digest: PDO for an HPDA or CPDA. */
export function tcpDataOffset(headerBytes: number, pda: number): number {
  const unit = (pda + 1) * 4;
  return Math.ceil(headerBytes / unit) * unit;
}
