/**
 * The discovery log page (LID 70h): a header and one entry of the same size for each way to reach a
 * subsystem. NVM Express Base Specification 2.0, section 5.16.1.23.
 */

import {
  decodeLayout,
  defineLayout,
  encodeLayout,
  getU64LE,
  type LayoutValues,
  setU64LE,
  viewOf,
} from "../../core/index.ts";
import { NQN_FIELD_BYTES } from "./nqn.ts";
import {
  ADDRESS_FAMILY_NAMES,
  SUBSYSTEM_TYPE_NAMES,
  TRANSPORT_TYPE_NAMES,
  TransportType,
} from "./transport.ts";

/** Log Page Identifier. */
export const DISCOVERY_LOG_ID = 0x70;
export const DISCOVERY_HEADER_BYTES = 1024;
export const DISCOVERY_ENTRY_BYTES = 1024;

export const DiscoveryHeaderOffset = { GENCTR: 0, NUMREC: 8, RECFMT: 16 } as const;

const SOURCE = "NVM Express Base Specification 2.0, section 5.16.1.23";

export const DISCOVERY_HEADER = defineLayout({
  name: "Discovery Log Page header",
  source: SOURCE,
  sizeBytes: DISCOVERY_HEADER_BYTES,
  endian: "little",
  fields: [
    { name: "GENCTR", offset: 0, kind: "u64", text: "counts changes of the log" },
    { name: "NUMREC", offset: 8, kind: "u64", text: "entries that follow" },
    { name: "RECFMT", offset: 16, kind: "u16", text: "record format, 0" },
  ],
});

export const DISCOVERY_ENTRY = defineLayout({
  name: "Discovery Log Page Entry",
  source: SOURCE,
  sizeBytes: DISCOVERY_ENTRY_BYTES,
  endian: "little",
  fields: [
    { name: "TRTYPE", offset: 0, kind: "u8", text: "transport", values: TRANSPORT_TYPE_NAMES },
    { name: "ADRFAM", offset: 1, kind: "u8", text: "family", values: ADDRESS_FAMILY_NAMES },
    { name: "SUBTYPE", offset: 2, kind: "u8", text: "subsystem", values: SUBSYSTEM_TYPE_NAMES },
    { name: "TREQ", offset: 3, kind: "u8", text: "transport requirements" },
    { name: "PORTID", offset: 4, kind: "u16", text: "port of the subsystem" },
    { name: "CNTLID", offset: 6, kind: "u16", text: "FFFFh: dynamic controller model" },
    { name: "ASQSZ", offset: 8, kind: "u16", text: "largest Admin Submission Queue" },
    { name: "EFLAGS", offset: 10, kind: "u16", text: "DUPRETINFO, EPCSD, NCC" },
    { name: "TRSVCID", offset: 32, kind: "ascii", bytes: 32, pad: 0x20, text: "port, service" },
    { name: "SUBNQN", offset: 256, kind: "utf8", bytes: NQN_FIELD_BYTES, text: "subsystem" },
    { name: "TRADDR", offset: 512, kind: "ascii", bytes: 256, pad: 0x20, text: "address" },
    { name: "TSAS", offset: 768, kind: "bytes", bytes: 256, text: "transport specific" },
  ],
});

/** TSAS of RDMA. NVMe RDMA Transport Specification 1.0, figure 3. */
export const RDMA_TSAS = defineLayout({
  name: "Transport Specific Address Subtype, RDMA",
  source: "NVM Express RDMA Transport Specification 1.0, figure 3",
  sizeBytes: 256,
  endian: "little",
  fields: [
    { name: "RDMA_QPTYPE", offset: 0, kind: "u8", text: "1: reliable connected" },
    { name: "RDMA_PRTYPE", offset: 1, kind: "u8", text: "1 none, 2 IB, 3 RoCE, 4 RoCEv2, 5 iWARP" },
    { name: "RDMA_CMS", offset: 2, kind: "u8", text: "1: RDMA IP connection manager" },
    { name: "RDMA_PKEY", offset: 8, kind: "u16", text: "partition key, for AF_IB" },
  ],
});
/** TSAS of TCP has one field. NVM Express TCP Transport Specification 1.0, figure 9. */
const SECTYPE_AT = 0;
export const RdmaQpType = { RELIABLE_CONNECTED: 1, RELIABLE_DATAGRAM: 2 } as const;
export const RdmaProviderType = { NONE: 1, INFINIBAND: 2, ROCE: 3, ROCE_V2: 4, IWARP: 5 } as const;
export const RDMA_CMS_IP = 1;

export interface DiscoveryEntry {
  readonly transport: number;
  readonly addressFamily: number;
  readonly subsystemType: number;
  readonly requirements: number;
  readonly portId: number;
  readonly cntlid: number;
  readonly adminQueueSize: number;
  readonly flags: number;
  readonly serviceId: string;
  readonly subsystemNqn: string;
  readonly address: string;
  /** SECTYPE, of TCP. Default none. */
  readonly tcpSecurity?: number;
}

/**
 * Writes one entry. For RDMA the transport specific part says reliable connected, RoCEv2, IP CM.
 */
export function encodeDiscoveryEntry(entry: DiscoveryEntry, bytes: Uint8Array, offset = 0): void {
  const tsas = new Uint8Array(RDMA_TSAS.sizeBytes);
  if (entry.transport === TransportType.TCP) tsas[SECTYPE_AT] = entry.tcpSecurity ?? 0;
  if (entry.transport === TransportType.RDMA) {
    const rdma: LayoutValues = {
      RDMA_QPTYPE: RdmaQpType.RELIABLE_CONNECTED,
      RDMA_PRTYPE: RdmaProviderType.ROCE_V2,
      RDMA_CMS: RDMA_CMS_IP,
    };
    encodeLayout(RDMA_TSAS, rdma, tsas);
  }
  const values: LayoutValues = {
    TRTYPE: entry.transport,
    ADRFAM: entry.addressFamily,
    SUBTYPE: entry.subsystemType,
    TREQ: entry.requirements,
    PORTID: entry.portId,
    CNTLID: entry.cntlid,
    ASQSZ: entry.adminQueueSize,
    EFLAGS: entry.flags,
    TRSVCID: entry.serviceId,
    SUBNQN: entry.subsystemNqn,
    TRADDR: entry.address,
    TSAS: tsas,
  };
  encodeLayout(DISCOVERY_ENTRY, values, bytes, offset);
}

export function decodeDiscoveryEntry(bytes: Uint8Array, offset = 0): DiscoveryEntry {
  const values = decodeLayout(DISCOVERY_ENTRY, bytes, offset);
  const number = (name: string): number => values[name] as number;
  const tsas = values["TSAS"] as Uint8Array;
  const isTcp = number("TRTYPE") === TransportType.TCP;
  return {
    ...(isTcp ? { tcpSecurity: tsas[SECTYPE_AT] ?? 0 } : {}),
    transport: number("TRTYPE"),
    addressFamily: number("ADRFAM"),
    subsystemType: number("SUBTYPE"),
    requirements: number("TREQ"),
    portId: number("PORTID"),
    cntlid: number("CNTLID"),
    adminQueueSize: number("ASQSZ"),
    flags: number("EFLAGS"),
    serviceId: values["TRSVCID"] as string,
    subsystemNqn: values["SUBNQN"] as string,
    address: values["TRADDR"] as string,
  };
}

/** The whole log. */
export function encodeDiscoveryLog(
  generation: number,
  entries: readonly DiscoveryEntry[],
): Uint8Array {
  const bytes = new Uint8Array(DISCOVERY_HEADER_BYTES + entries.length * DISCOVERY_ENTRY_BYTES);
  const view = viewOf(bytes);
  setU64LE(view, DiscoveryHeaderOffset.GENCTR, generation);
  setU64LE(view, DiscoveryHeaderOffset.NUMREC, entries.length);
  for (const [i, entry] of entries.entries()) {
    encodeDiscoveryEntry(entry, bytes, DISCOVERY_HEADER_BYTES + i * DISCOVERY_ENTRY_BYTES);
  }
  return bytes;
}

/** Header of a log of which at least the first 1024 bytes were read. */
export function decodeDiscoveryHeader(bytes: Uint8Array): { generation: number; records: number } {
  const view = viewOf(bytes);
  return {
    generation: getU64LE(view, DiscoveryHeaderOffset.GENCTR),
    records: getU64LE(view, DiscoveryHeaderOffset.NUMREC),
  };
}
