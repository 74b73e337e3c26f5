/**
 * The closed list of reasons: why a pair is allowed or refused. A number per reason for the matrix,
 * a stable code for programs, a sentence for people, and the map type that follows.
 *
 * Invariant: codes never change their meaning; new ones are added at the end.
 */

import { MapType } from "./map-type.ts";

export const Reason = {
  /** Not evaluated. */
  unknown: 0,
  sameFunction: 1,
  commonBridge: 2,
  redirectCpuForwards: 3,
  redirectBridgeListed: 4,
  noCommonBridgeCpuForwards: 5,
  noCommonBridgeListed: 6,
  redirectBridgeUnlisted: 7,
  noCommonBridgeUnlisted: 8,
  hostBridgesDiffer: 9,
  noSuchFunction: 10,
  redirectRefused: 11,
  noCommonBridgeRefused: 12,
  iommuPresent: 13,
  egressBlocked: 14,
  egressUnknown: 15,
  translationBlocked: 16,
  upstreamForwardingClear: 17,
  blockedCpuForwards: 18,
  blockedBridgeListed: 19,
  acsDirect: 20,
  directTranslated: 21,
} as const;
export type Reason = (typeof Reason)[keyof typeof Reason];

interface ReasonDef {
  readonly code: string;
  readonly text: string;
  readonly mapType: MapType;
}

const { busAddr, thruHostBridge, notSupported } = MapType;

/** Indexed by {@link Reason}. */
export const REASONS = [
  { code: "unknown", text: "not evaluated", mapType: MapType.unknown },
  {
    code: "same-function",
    text: "provider and client are the same function",
    mapType: busAddr,
  },
  {
    code: "common-bridge",
    text: "they share an upstream bridge, and no ACS redirect is set",
    mapType: busAddr,
  },
  {
    code: "acs-redirect-cpu-forwards",
    text: "ACS redirects peer traffic to the root complex, and this CPU forwards it",
    mapType: thruHostBridge,
  },
  {
    code: "acs-redirect-listed",
    text: "ACS redirects peer traffic to the root complex, which is known to forward it",
    mapType: thruHostBridge,
  },
  {
    code: "no-common-bridge-cpu-forwards",
    text: "they share no upstream bridge, and this CPU forwards between root ports",
    mapType: thruHostBridge,
  },
  {
    code: "no-common-bridge-listed",
    text: "they share no upstream bridge, and their host bridges are known to forward",
    mapType: thruHostBridge,
  },
  {
    code: "acs-redirect-unlisted",
    text: "ACS redirects peer traffic to the root complex, which is not known to forward it",
    mapType: notSupported,
  },
  {
    code: "no-common-bridge-unlisted",
    text: "they share no upstream bridge, and the root complex is not known to forward",
    mapType: notSupported,
  },
  {
    code: "host-bridges-differ",
    text: "their host bridges forward only below themselves, and these are two",
    mapType: notSupported,
  },
  {
    code: "no-such-function",
    text: "the client is not a PCI function of this machine",
    mapType: notSupported,
  },
  {
    code: "acs-redirect-refused",
    text: "ACS redirects peer traffic, which this kernel refuses whatever the root complex does",
    mapType: notSupported,
  },
  {
    code: "no-common-bridge-refused",
    text: "they share no upstream bridge, and this kernel knows no way through a root complex",
    mapType: notSupported,
  },
  {
    code: "iommu-present",
    text: "they share no upstream bridge, and this kernel maps no peer memory through an IOMMU",
    mapType: notSupported,
  },
  {
    code: "acs-egress-blocked",
    text: "ACS Egress Control blocks requests from the client's port to the provider's",
    mapType: notSupported,
  },
  {
    code: "acs-egress-unknown",
    text: "ACS Egress Control is on, and its vector's bit for the provider's port is not known",
    mapType: notSupported,
  },
  {
    code: "acs-translation-blocked",
    text: "ACS Translation Blocking rejects translated requests on the client's way",
    mapType: notSupported,
  },
  {
    code: "acs-upstream-forwarding-clear",
    text: "ACS redirects peer traffic, and a port above rejects what it would send back down",
    mapType: notSupported,
  },
  {
    code: "acs-blocked-cpu-forwards",
    text: "ACS blocks the direct way, and this CPU forwards what goes by the root complex instead",
    mapType: thruHostBridge,
  },
  {
    code: "acs-blocked-listed",
    text: "ACS blocks the direct way, and the root complex is known to forward what goes by it",
    mapType: thruHostBridge,
  },
  {
    code: "acs-direct",
    text: "they share an upstream bridge, and ACS lets the traffic pass where their ways part",
    mapType: busAddr,
  },
  {
    code: "acs-direct-translated",
    text: "ACS Direct Translated lets translated requests pass to the peer",
    mapType: busAddr,
  },
] as const satisfies readonly ReasonDef[];

export type ReasonCode = (typeof REASONS)[number]["code"];

/** The {@link Reason} with this code; -1: there is none. */
export const reasonOf = (code: string): number => REASONS.findIndex((one) => one.code === code);

/** A reason in words; null: no rule has this code. */
export const textOfReason = (code: string): string | null => REASONS[reasonOf(code)]?.text ?? null;

/** The map type that follows from a {@link Reason}, for the matrix. */
export const MAP_TYPE_OF_REASON: Uint8Array = Uint8Array.from(REASONS, ({ mapType }) => mapType);
