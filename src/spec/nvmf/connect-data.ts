/**
 * The 1024 bytes of data that a Connect command carries: who connects to what. NVM Express Base
 * Specification 2.0, section 6.3, figure "Connect Data".
 */

import {
  decodeLayout,
  defineLayout,
  encodeLayout,
  type LayoutValues,
  viewOf,
} from "../../core/index.ts";
import { NQN_FIELD_BYTES } from "./nqn.ts";

export const CONNECT_DATA_BYTES = 1024;

/** Offsets, also what IPO names when IATTR says "data". */
export const ConnectDataOffset = { HOSTID: 0, CNTLID: 16, SUBNQN: 256, HOSTNQN: 512 } as const;

/** CNTLID of a Connect to the Admin Queue: any controller of the dynamic controller model. */
export const CNTLID_DYNAMIC = 0xffff;
/** CNTLID of a Connect to the Admin Queue: any controller of the static controller model. */
export const CNTLID_STATIC_ANY = 0xfffe;
/** Highest controller identifier; FFF0h and above are reserved. */
export const CNTLID_MAX = 0xffef;

export const CONNECT_DATA = defineLayout({
  name: "Connect data",
  source: "NVM Express Base Specification 2.0, section 6.3",
  sizeBytes: CONNECT_DATA_BYTES,
  endian: "little",
  fields: [
    { name: "HOSTID", offset: 0, kind: "bytes", bytes: 16, text: "Host Identifier" },
    { name: "CNTLID", offset: 16, kind: "u16", text: "controller to connect to" },
    { name: "SUBNQN", offset: 256, kind: "utf8", bytes: NQN_FIELD_BYTES, text: "subsystem" },
    { name: "HOSTNQN", offset: 512, kind: "utf8", bytes: NQN_FIELD_BYTES, text: "host" },
  ],
});

export interface ConnectData {
  readonly hostId: Uint8Array;
  readonly cntlid: number;
  readonly subsystemNqn: string;
  readonly hostNqn: string;
}

export function encodeConnectData(data: ConnectData, bytes: Uint8Array, offset = 0): void {
  const values: LayoutValues = {
    HOSTID: data.hostId,
    CNTLID: data.cntlid,
    SUBNQN: data.subsystemNqn,
    HOSTNQN: data.hostNqn,
  };
  encodeLayout(CONNECT_DATA, values, bytes, offset);
}

export function decodeConnectData(bytes: Uint8Array, offset = 0): ConnectData {
  const values = decodeLayout(CONNECT_DATA, bytes, offset);
  return {
    hostId: values["HOSTID"] as Uint8Array,
    cntlid: viewOf(bytes).getUint16(offset + ConnectDataOffset.CNTLID, true),
    subsystemNqn: values["SUBNQN"] as string,
    hostNqn: values["HOSTNQN"] as string,
  };
}
