/**
 * What host and controller tell each other while an RDMA connection is made: the private data of
 * request, accept and reject. Little-endian. NVM Express RDMA Transport Specification 1.0, figures
 * 5, 6, 7 and 11.
 *
 * Note the two countings of the specification: HRQSIZE and CRQSIZE count entries, HSQSIZE is 0's
 * based (it equals SQSIZE of the Connect command that follows).
 */

import { defineLayout } from "../../core/index.ts";

export const RDMA_PRIVATE_BYTES = 32;
/** A reject carries only this much. */
export const RDMA_REJECT_BYTES = 4;

const SOURCE = "NVM Express RDMA Transport Specification 1.0, figure";

export const RDMA_REQUEST_PRIVATE = defineLayout({
  name: "RDMA_CM_REQUEST private data",
  source: `${SOURCE} 5`,
  sizeBytes: RDMA_PRIVATE_BYTES,
  endian: "little",
  fields: [
    { name: "RECFMT", offset: 0, kind: "u16", text: "record format, 0" },
    { name: "QID", offset: 2, kind: "u16", text: "queue identifier" },
    { name: "HRQSIZE", offset: 4, kind: "u16", text: "host receive queue entries" },
    { name: "HSQSIZE", offset: 6, kind: "u16", text: "host send queue entries, 0's based" },
    { name: "CNTLID", offset: 8, kind: "u16", text: "controller, for I/O queues" },
  ],
});

export const RDMA_ACCEPT_PRIVATE = defineLayout({
  name: "RDMA_CM_ACCEPT private data",
  source: `${SOURCE} 6`,
  sizeBytes: RDMA_PRIVATE_BYTES,
  endian: "little",
  fields: [
    { name: "RECFMT", offset: 0, kind: "u16", text: "record format, 0" },
    { name: "CRQSIZE", offset: 2, kind: "u16", text: "controller receive queue entries" },
  ],
});

export const RDMA_REJECT_PRIVATE = defineLayout({
  name: "RDMA_CM_REJECT private data",
  source: `${SOURCE} 7`,
  sizeBytes: RDMA_REJECT_BYTES,
  endian: "little",
  fields: [
    { name: "RECFMT", offset: 0, kind: "u16", text: "record format, 0" },
    { name: "STS", offset: 2, kind: "u16", text: "why" },
  ],
});

/** Why a connection was refused, figure 11. */
export const RdmaRejectStatus = {
  INVALID_PRIVATE_DATA_LENGTH: 1,
  INVALID_RECFMT: 2,
  INVALID_QID: 3,
  INVALID_HSQSIZE: 4,
  INVALID_HRQSIZE: 5,
  NO_RESOURCES: 6,
  INVALID_IRD: 7,
  INVALID_ORD: 8,
  INVALID_CNTLID: 9,
} as const;
export type RdmaRejectStatus = (typeof RdmaRejectStatus)[keyof typeof RdmaRejectStatus];

export const RDMA_REJECT_NAMES: Readonly<Record<number, string>> = {
  1: "RDMA Invalid Private Data Length",
  2: "RDMA Invalid RECFMT",
  3: "RDMA Invalid QID",
  4: "RDMA Invalid HSQSIZE",
  5: "RDMA Invalid HRQSIZE",
  6: "RDMA No Resources",
  7: "RDMA Invalid IRD",
  8: "RDMA Invalid ORD",
  9: "RDMA Invalid CNTLID",
};
