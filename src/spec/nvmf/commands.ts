/**
 * Fabrics commands: layout of the submission queue entries of Connect, Property Get and Set,
 * Disconnect and Authentication, and of their responses. Little-endian. NVM Express Base
 * Specification 2.0, section 6 (Fabrics Command Set).
 *
 * Data planes use the offset constants; tables beside them drive decoding and tests.
 */

import { bit, defineLayout, type Layout, type LayoutField } from "../../core/index.ts";

/** Opcode of every Fabrics command. */
export const FABRICS_OPCODE = 0x7f;

/** A command capsule without data: one submission queue entry. */
export const COMMAND_BYTES = 64;
/** A response capsule: one completion queue entry, never with data. */
export const RESPONSE_BYTES = 16;

export const FabricsType = {
  PROPERTY_SET: 0x00,
  CONNECT: 0x01,
  PROPERTY_GET: 0x04,
  AUTHENTICATION_SEND: 0x05,
  AUTHENTICATION_RECEIVE: 0x06,
  DISCONNECT: 0x08,
} as const;
export type FabricsType = (typeof FabricsType)[keyof typeof FabricsType];

export const FABRICS_TYPE_NAMES: Readonly<Record<number, string>> = {
  0: "Property Set",
  1: "Connect",
  4: "Property Get",
  5: "Authentication Send",
  6: "Authentication Receive",
  8: "Disconnect",
};

/** Offsets inside the 64-byte entry. Names are the specification's. */
export const FabricsSqe = {
  OPC: 0,
  /** PSDT in bits 7:6; Fabrics commands always use SGLs. */
  FLAGS: 1,
  CID: 2,
  FCTYPE: 4,
  /** Connect and Authentication. */
  SGL1: 24,
  /** Connect and Disconnect. */
  RECFMT: 40,
  CONNECT_QID: 42,
  /** 0's based. */
  CONNECT_SQSIZE: 44,
  CONNECT_CATTR: 46,
  /** Milliseconds; 0 disables the timer. */
  CONNECT_KATO: 48,
  /** Bits 2:0: size of the property, 0 is 4 bytes, 1 is 8 bytes. */
  PROPERTY_ATTRIB: 40,
  PROPERTY_OFST: 44,
  PROPERTY_VALUE: 48,
  AUTH_SPSP0: 41,
  AUTH_SPSP1: 42,
  AUTH_SECP: 43,
  /** Transfer length (send) or allocation length (receive) in bytes. */
  AUTH_LENGTH: 44,
} as const;

/** CATTR bits. */
export const ConnectAttribute = {
  /** Submission Queue flow control is off: SQHD is not maintained. */
  disableSqFlowControl: bit(2),
  individualQueueDeletion: bit(3),
} as const;

export const PropertySize = { four: 0, eight: 1 } as const;

/** Offsets inside the 16-byte response. */
export const FabricsCqe = {
  /** Connect, success: CNTLID. */
  CNTLID: 0,
  /** Connect, success: AUTHREQ. Bit 1 ATR, bit 2 ASCR. */
  AUTHREQ: 2,
  /** Connect Invalid Parameters: offset of the bad field. */
  IPO: 0,
  /** Connect Invalid Parameters: bit 0 set when IPO counts in the data, clear in the command. */
  IATTR: 2,
  /** Property Get. */
  VALUE: 0,
  SQHD: 8,
  CID: 12,
  /** Status Field, with the bit that is the phase tag on PCIe clear. */
  STS: 14,
} as const;

const SOURCE = "NVM Express Base Specification 2.0, section 6";

const common: readonly LayoutField[] = [
  { name: "OPC", offset: 0, kind: "u8", text: "opcode, 7Fh" },
  { name: "FLAGS", offset: 1, kind: "u8", text: "PSDT in bits 7:6" },
  { name: "CID", offset: 2, kind: "u16", text: "command identifier" },
  { name: "FCTYPE", offset: 4, kind: "u8", text: "type", values: FABRICS_TYPE_NAMES },
];

const sgl1: LayoutField = {
  name: "SGL1",
  offset: FabricsSqe.SGL1,
  kind: "bytes",
  bytes: 16,
  text: "data",
};

const sqe = (name: string, section: string, fields: readonly LayoutField[]): Layout =>
  defineLayout({
    name,
    source: `${SOURCE}.${section}`,
    sizeBytes: COMMAND_BYTES,
    endian: "little",
    fields: [...common, ...fields],
  });

export const CONNECT_SQE = sqe("Connect command", "3", [
  sgl1,
  { name: "RECFMT", offset: 40, kind: "u16", text: "record format, 0" },
  { name: "QID", offset: 42, kind: "u16", text: "queue identifier; 0 is the Admin Queue" },
  { name: "SQSIZE", offset: 44, kind: "u16", text: "entries of the queue, 0's based" },
  { name: "CATTR", offset: 46, kind: "u8", text: "connect attributes" },
  { name: "KATO", offset: 48, kind: "u32", text: "Keep Alive Timeout in milliseconds" },
]);

export const PROPERTY_GET_SQE = sqe("Property Get command", "4", [
  { name: "ATTRIB", offset: 40, kind: "u8", text: "size of the property" },
  { name: "OFST", offset: 44, kind: "u32", text: "offset of the property" },
]);

export const PROPERTY_SET_SQE = sqe("Property Set command", "5", [
  { name: "ATTRIB", offset: 40, kind: "u8", text: "size of the property" },
  { name: "OFST", offset: 44, kind: "u32", text: "offset of the property" },
  { name: "VALUE", offset: 48, kind: "u64", text: "value to write" },
]);

export const DISCONNECT_SQE = sqe("Disconnect command", "6", [
  { name: "RECFMT", offset: 40, kind: "u16", text: "record format, 0" },
]);

const authentication: readonly LayoutField[] = [
  sgl1,
  { name: "SPSP0", offset: 41, kind: "u8", text: "SP specific 0" },
  { name: "SPSP1", offset: 42, kind: "u8", text: "SP specific 1" },
  { name: "SECP", offset: 43, kind: "u8", text: "security protocol" },
];

export const AUTHENTICATION_SEND_SQE = sqe("Authentication Send command", "2", [
  ...authentication,
  { name: "TL", offset: 44, kind: "u32", text: "transfer length in bytes" },
]);

export const AUTHENTICATION_RECEIVE_SQE = sqe("Authentication Receive command", "1", [
  ...authentication,
  { name: "AL", offset: 44, kind: "u32", text: "allocation length in bytes" },
]);

/** Tables by FCTYPE, for decoders. */
export const FABRICS_SQES: Readonly<Record<number, Layout>> = {
  0: PROPERTY_SET_SQE,
  1: CONNECT_SQE,
  4: PROPERTY_GET_SQE,
  5: AUTHENTICATION_SEND_SQE,
  6: AUTHENTICATION_RECEIVE_SQE,
  8: DISCONNECT_SQE,
};

export const CONNECT_CQE = defineLayout({
  name: "Connect response, success",
  source: `${SOURCE}.3`,
  sizeBytes: RESPONSE_BYTES,
  endian: "little",
  fields: [
    { name: "CNTLID", offset: 0, kind: "u16", text: "controller identifier" },
    { name: "AUTHREQ", offset: 2, kind: "u16", text: "authentication requirements" },
    { name: "SQHD", offset: 8, kind: "u16", text: "submission queue head" },
    { name: "CID", offset: 12, kind: "u16", text: "command identifier" },
    { name: "STS", offset: 14, kind: "u16", text: "status" },
  ],
});

export const PROPERTY_GET_CQE = defineLayout({
  name: "Property Get response",
  source: `${SOURCE}.4`,
  sizeBytes: RESPONSE_BYTES,
  endian: "little",
  fields: [
    { name: "VALUE", offset: 0, kind: "u64", text: "value of the property" },
    { name: "SQHD", offset: 8, kind: "u16", text: "submission queue head" },
    { name: "CID", offset: 12, kind: "u16", text: "command identifier" },
    { name: "STS", offset: 14, kind: "u16", text: "status" },
  ],
});
