/**
 * Connection management messages: management datagrams (MADs) of 256 bytes on queue pair 1. IBA
 * Volume 1 section 13.4.3 (MAD header), chapter 12 tables 106 to 113 (messages), Annex A11 (RDMA IP
 * CM service: service ids and the header that IP addressing puts before a consumer's private data).
 * Big-endian.
 *
 * Leaves out: MRA, LAP and APR (alternate paths), SIDR, LIDs and rates (RoCE has none).
 */

import {
  decodeLayout,
  defineLayout,
  encodeLayout,
  field,
  type Layout,
  type LayoutField,
  type LayoutValue,
} from "../../core/index.ts";
import { GID_BYTES } from "./gid.ts";

export const MAD_BYTES = 256;
export const MAD_HEADER_BYTES = 24;

/** Management class, its version, and method of all CM messages. IBA 12.6, 16.7.1. */
export const CM_CLASS = 0x07;
export const CM_CLASS_VERSION = 2;
export const CM_METHOD_SEND = 0x03;

export const CmAttribute = {
  req: 0x0010,
  mra: 0x0011,
  rej: 0x0012,
  rep: 0x0013,
  rtu: 0x0014,
  dreq: 0x0015,
  drep: 0x0016,
} as const;
export type CmAttribute = (typeof CmAttribute)[keyof typeof CmAttribute];

export const CM_ATTRIBUTE_NAMES: Readonly<Record<number, string>> = {
  16: "REQ",
  17: "MRA",
  18: "REJ",
  19: "REP",
  20: "RTU",
  21: "DREQ",
  22: "DREP",
};

/** Why a connection was rejected. IBA table 109, those used here. */
export const CmRejectReason = {
  noQp: 1,
  noResources: 3,
  timeout: 4,
  unsupported: 5,
  invalidCommId: 6,
  invalidServiceId: 8,
  invalidTransport: 9,
  staleConnection: 10,
  invalidMtu: 26,
  consumer: 28,
} as const;

/** What a REJ rejects. */
export const CmRejected = { req: 0, rep: 1, none: 2 } as const;

/** Service id of TCP port space, plus the port. Annex A11.3. */
export const CM_TCP_SERVICE_ID = 0x0106_0000;

const u8 = (name: string, offset: number, text: string): LayoutField => ({
  name,
  offset,
  kind: "u8",
  text,
});
const u16 = (name: string, offset: number, text: string): LayoutField => ({
  name,
  offset,
  kind: "u16",
  text,
});
const u24 = (name: string, offset: number, text: string): LayoutField => ({
  name,
  offset,
  kind: "u24",
  text,
});
const u32 = (name: string, offset: number, text: string): LayoutField => ({
  name,
  offset,
  kind: "u32",
  text,
});
const u64 = (name: string, offset: number, text: string): LayoutField => ({
  name,
  offset,
  kind: "u64",
  text,
});
const bytes = (name: string, offset: number, length: number, text: string): LayoutField => ({
  name,
  offset,
  kind: "bytes",
  bytes: length,
  text,
});

export const MAD_HEADER: Layout = defineLayout({
  name: "MAD header",
  source: "IBA Volume 1, section 13.4.3",
  sizeBytes: MAD_HEADER_BYTES,
  endian: "big",
  fields: [
    u8("baseVersion", 0, "1"),
    u8("mgmtClass", 1, "7: communication management"),
    u8("classVersion", 2, "2"),
    u8("method", 3, "3: Send"),
    u16("status", 4, "0"),
    u16("classSpecific", 6, "0"),
    u64("transactionId", 8, "pairs messages"),
    u16("attributeId", 16, "which message"),
    u32("attributeModifier", 20, "0"),
  ],
});

const message = (name: string, table: number, fields: readonly LayoutField[]): Layout =>
  defineLayout({
    name,
    source: `IBA Volume 1, table ${table}`,
    sizeBytes: MAD_BYTES - MAD_HEADER_BYTES,
    endian: "big",
    fields,
  });

/** Parts of packed bytes; the specification numbers bits from the most significant. */
export const CmBits = {
  responseTimeout: field(3, 5),
  transportType: field(1, 2),
  retryCount: field(0, 3),
  pathMtu: field(4, 4),
  reqRnrRetry: field(0, 3),
  maxCmRetries: field(4, 4),
  ackTimeout: field(3, 5),
  repRnrRetry: field(5, 3),
  rejected: field(6, 2),
} as const;

export const CM_REQ: Layout = message("REQ", 106, [
  u32("localCommId", 0, "sender's id of the connection"),
  u64("serviceId", 8, "whom it is for"),
  bytes("localCaGuid", 16, 8, "sender's channel adapter"),
  u32("localQkey", 28, "0 for RC"),
  u24("localQpn", 32, "sender's QP number"),
  u8("responderResources", 35, "READs the sender answers at a time"),
  u24("localEecn", 36, "0"),
  u8("initiatorDepth", 39, "READs the sender wants outstanding"),
  u24("remoteEecn", 40, "0"),
  u8("remoteResponseTimeout", 43, "timeout(7:3), transport service type(2:1), flow control(0)"),
  u24("startingPsn", 44, "first PSN the sender uses"),
  u8("localResponseTimeout", 47, "timeout(7:3), retry count(2:0)"),
  u16("pkey", 48, "partition key"),
  u8("pathMtu", 50, "MTU code(7:4), RDC exists(3), RNR retry count(2:0)"),
  u8("maxCmRetries", 51, "CM retries(7:4), SRQ(3), extended transport(2:0)"),
  u16("primaryLocalLid", 52, "0xffff on RoCE"),
  u16("primaryRemoteLid", 54, "0xffff on RoCE"),
  bytes("primaryLocalGid", 56, 16, "sender's port"),
  bytes("primaryRemoteGid", 72, 16, "receiver's port"),
  u32("primaryFlow", 88, "flow label(31:12), packet rate(5:0)"),
  u8("primaryTrafficClass", 92, "traffic class"),
  u8("primaryHopLimit", 93, "hop limit"),
  u8("primarySl", 94, "service level(7:4), subnet local(3)"),
  u8("primaryAckTimeout", 95, "local ACK timeout(7:3)"),
  bytes("alternatePath", 96, 44, "0: none"),
  bytes("privateData", 140, 92, "of the consumer"),
]);

export const CM_REP: Layout = message("REP", 110, [
  u32("localCommId", 0, "sender's id of the connection"),
  u32("remoteCommId", 4, "receiver's id"),
  u32("localQkey", 8, "0 for RC"),
  u24("localQpn", 12, "sender's QP number"),
  u24("localEecn", 16, "0"),
  u24("startingPsn", 20, "first PSN the sender uses"),
  u8("responderResources", 24, "READs the sender answers at a time"),
  u8("initiatorDepth", 25, "READs the sender will have outstanding"),
  u8("targetAckDelay", 26, "delay(7:3), failover(2:1), flow control(0)"),
  u8("rnrRetry", 27, "RNR retry count(7:5), SRQ(4)"),
  bytes("localCaGuid", 28, 8, "sender's channel adapter"),
  bytes("privateData", 36, 196, "of the consumer"),
]);

export const CM_REJ: Layout = message("REJ", 108, [
  u32("localCommId", 0, "sender's id, 0 when it made none"),
  u32("remoteCommId", 4, "receiver's id"),
  u8("rejected", 8, "which message(7:6)"),
  u8("infoLength", 9, "length(7:1) of the additional information"),
  u16("reason", 10, "why"),
  bytes("info", 12, 72, "additional reject information"),
  bytes("privateData", 84, 148, "of the consumer"),
]);

export const CM_RTU: Layout = message("RTU", 111, [
  u32("localCommId", 0, "sender's id of the connection"),
  u32("remoteCommId", 4, "receiver's id"),
  bytes("privateData", 8, 224, "of the consumer"),
]);

export const CM_DREQ: Layout = message("DREQ", 112, [
  u32("localCommId", 0, "sender's id of the connection"),
  u32("remoteCommId", 4, "receiver's id"),
  u24("remoteQpn", 8, "receiver's QP number"),
  bytes("privateData", 12, 220, "of the consumer"),
]);

export const CM_DREP: Layout = message("DREP", 113, [
  u32("localCommId", 0, "sender's id of the connection"),
  u32("remoteCommId", 4, "receiver's id"),
  bytes("privateData", 8, 224, "of the consumer"),
]);

/** Before the consumer's private data in a REQ. Annex A11.4. */
export const IP_CM_HEADER_BYTES = 36;
export const IP_CM_HEADER: Layout = defineLayout({
  name: "IP CM header",
  source: "IBA Volume 1, Annex A11.4",
  sizeBytes: IP_CM_HEADER_BYTES,
  endian: "big",
  fields: [
    u8("version", 0, "0: major(7:4), minor(3:0)"),
    u8("ipVersion", 1, "4 or 6 in bits 7:4"),
    u16("sourcePort", 2, "sender's port"),
    bytes("sourceIp", 4, 16, "sender's address; IPv4 in the last 4 bytes"),
    bytes("destIp", 20, 16, "receiver's address"),
  ],
});

const CM_LAYOUTS: Readonly<Record<number, Layout>> = {
  [CmAttribute.req]: CM_REQ,
  [CmAttribute.rej]: CM_REJ,
  [CmAttribute.rep]: CM_REP,
  [CmAttribute.rtu]: CM_RTU,
  [CmAttribute.dreq]: CM_DREQ,
  [CmAttribute.drep]: CM_DREP,
};

export type CmFields = Readonly<Record<string, LayoutValue>>;

/** A decoded message. */
export interface CmMessage {
  readonly attribute: CmAttribute;
  readonly transactionId: number;
  readonly fields: CmFields;
}

/** Writes a message of {@link MAD_BYTES} bytes at `offset`. */
export function encodeCm(
  attribute: CmAttribute,
  transactionId: number,
  fields: CmFields,
  target: Uint8Array,
  offset = 0,
): void {
  const header = {
    baseVersion: 1,
    mgmtClass: CM_CLASS,
    classVersion: CM_CLASS_VERSION,
    method: CM_METHOD_SEND,
    transactionId,
    attributeId: attribute,
  };
  encodeLayout(MAD_HEADER, header, target, offset);
  encodeLayout(CM_LAYOUTS[attribute] as Layout, fields, target, offset + MAD_HEADER_BYTES);
}

/** Reads a message; null when it is none that this file knows, or too short. */
export function decodeCm(source: Uint8Array, offset = 0, length = MAD_BYTES): CmMessage | null {
  if (length < MAD_BYTES || offset + MAD_BYTES > source.length) return null;
  const header = decodeLayout(MAD_HEADER, source, offset);
  const attribute = header["attributeId"] as CmAttribute;
  const layout = CM_LAYOUTS[attribute];
  if (
    header["mgmtClass"] !== CM_CLASS ||
    header["classVersion"] !== CM_CLASS_VERSION ||
    layout === undefined
  ) {
    return null;
  }
  return {
    attribute,
    transactionId: header["transactionId"] as number,
    fields: decodeLayout(layout, source, offset + MAD_HEADER_BYTES),
  };
}

/** The IP form of a GID in an IP CM header: IPv4-mapped ones lose their prefix. */
export function ipOfGid(gid: Uint8Array): { readonly version: number; readonly ip: Uint8Array } {
  const mapped = gid[10] === 0xff && gid[11] === 0xff && gid.subarray(0, 10).every((b) => b === 0);
  const ip = new Uint8Array(GID_BYTES);
  ip.set(mapped ? gid.subarray(12) : gid, mapped ? 12 : 0);
  return { version: mapped ? 4 : 6, ip };
}

/** Writes the {@link IP_CM_HEADER} at the start of `target`. */
export function encodeIpCmHeader(
  source: Uint8Array,
  dest: Uint8Array,
  sourcePort: number,
  target: Uint8Array,
): void {
  const { version, ip } = ipOfGid(source);
  encodeLayout(
    IP_CM_HEADER,
    { ipVersion: version << 4, sourcePort, sourceIp: ip, destIp: ipOfGid(dest).ip },
    target,
  );
}
