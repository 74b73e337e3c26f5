/**
 * Names of transports, address families, subsystem types and transport requirements, as discovery
 * log entries carry them. NVM Express Base Specification 2.0, figure "Discovery Log Page Entry".
 */

import { bit, field } from "../../core/index.ts";

export const TransportType = { RDMA: 1, FC: 2, TCP: 3, INTRA_HOST: 254 } as const;
export type TransportType = (typeof TransportType)[keyof typeof TransportType];
export const TRANSPORT_TYPE_NAMES: Readonly<Record<number, string>> = {
  1: "rdma",
  2: "fc",
  3: "tcp",
  254: "loop",
};

export const AddressFamily = { PCI: 0, IPV4: 1, IPV6: 2, IB: 3, FC: 4, INTRA_HOST: 254 } as const;
export type AddressFamily = (typeof AddressFamily)[keyof typeof AddressFamily];
export const ADDRESS_FAMILY_NAMES: Readonly<Record<number, string>> = {
  0: "pci",
  1: "ipv4",
  2: "ipv6",
  3: "ib",
  4: "fc",
  254: "loop",
};

/** What an entry of the discovery log leads to. */
export const SubsystemType = {
  /** Another discovery subsystem. */
  REFERRAL: 1,
  NVM: 2,
  /** This discovery subsystem. */
  CURRENT_DISCOVERY: 3,
} as const;
export type SubsystemType = (typeof SubsystemType)[keyof typeof SubsystemType];
export const SUBSYSTEM_TYPE_NAMES: Readonly<Record<number, string>> = {
  1: "discovery subsystem referral",
  2: "NVM subsystem",
  3: "current discovery subsystem",
};

/** Fields of TREQ. */
export const TransportRequirement = {
  secureChannel: field(0, 2),
  /** The controller can work without Submission Queue flow control. */
  disableSqFlowControl: bit(2),
} as const;
export const SecureChannel = { NOT_SPECIFIED: 0, REQUIRED: 1, NOT_REQUIRED: 2 } as const;
export type SecureChannel = (typeof SecureChannel)[keyof typeof SecureChannel];

/** SECTYPE: security of a TCP entry. NVM Express TCP Transport Specification 1.0, figure 9. */
export const TcpSecurity = { none: 0, tls: 1, tls13: 2 } as const;
export type TcpSecurity = (typeof TcpSecurity)[keyof typeof TcpSecurity];

/** The port number that IANA assigned to NVMe over Fabrics. */
export const NVMF_PORT = 4420;
/** And to discovery (NVMe/TCP). */
export const DISCOVERY_PORT = 8009;
