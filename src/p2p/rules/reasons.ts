/**
 * The closed list of reasons: why a pair is allowed or refused. A number per reason for the matrix,
 * a stable code for programs, a sentence for people.
 *
 * Invariant: codes never change their meaning; new ones are added at the end.
 */

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
} as const;
export type Reason = (typeof Reason)[keyof typeof Reason];

interface ReasonDef {
  readonly code: string;
  readonly text: string;
}

/** Indexed by {@link Reason}. */
export const REASONS = [
  { code: "unknown", text: "not evaluated" },
  { code: "same-function", text: "provider and client are the same function" },
  { code: "common-bridge", text: "they share an upstream bridge, and no ACS redirect is set" },
  {
    code: "acs-redirect-cpu-forwards",
    text: "ACS redirects peer traffic to the root complex, and this CPU forwards it",
  },
  {
    code: "acs-redirect-listed",
    text: "ACS redirects peer traffic to the root complex, which is known to forward it",
  },
  {
    code: "no-common-bridge-cpu-forwards",
    text: "they share no upstream bridge, and this CPU forwards between root ports",
  },
  {
    code: "no-common-bridge-listed",
    text: "they share no upstream bridge, and their host bridges are known to forward",
  },
  {
    code: "acs-redirect-unlisted",
    text: "ACS redirects peer traffic to the root complex, which is not known to forward it",
  },
  {
    code: "no-common-bridge-unlisted",
    text: "they share no upstream bridge, and the root complex is not known to forward",
  },
  {
    code: "host-bridges-differ",
    text: "their host bridges forward only below themselves, and these are two",
  },
  { code: "no-such-function", text: "the client is not a PCI function of this machine" },
] as const satisfies readonly ReasonDef[];

export type ReasonCode = (typeof REASONS)[number]["code"];
