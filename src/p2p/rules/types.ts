/**
 * What a rule says about one ordered pair (provider, client), and the words it says it in.
 *
 * Two forms of the same answer: {@link Verdict} for people and programs, with evidence and
 * remedies; a map type, a distance and a reason as small integers for the matrix of all pairs. Both
 * come from the same decision, so they cannot disagree about what, only about how much is said.
 */

import type { Bdf } from "../../core/index.ts";
import type { MapTypeName } from "./map-type.ts";
import type { ReasonCode } from "./reasons.ts";
import type { TlpClassName, TlpDirectionName, TlpOutcomeName } from "./tlp.ts";

export { MAP_TYPE_NAMES, MapType, type MapTypeName } from "./map-type.ts";

/** The way a transfer takes. */
export type Route = "self" | "bus" | "host-bridge" | "none";

/** One register (or fact of the host) that the decision rests on. */
export interface Evidence {
  /** Null for facts of the host. */
  readonly bdf: Bdf | null;
  /** `ACS Control`, `Vendor and Device ID`, `CPU`. */
  readonly register: string;
  /** In configuration space; null for facts of the host. */
  readonly offset: number | null;
  readonly value: number | string | null;
  /** `RR+ CR+ EC-`, `8086:29c0: not in the host bridge list of 7.3`. */
  readonly decoded: string;
}

export type RemedyKind =
  | "kernel-parameter"
  | "register-write"
  | "move-slot"
  | "kernel-version"
  | "other-provider"
  | "complete-dump"
  | "host-memory";

/** Something the reader can do about a "no". */
export interface Remedy {
  readonly kind: RemedyKind;
  /** One imperative sentence. */
  readonly text: string;
  /** What to type or to add, ready to paste; null when there is no such line. */
  readonly command: string | null;
  /** True when functions lose their isolation from each other (IOMMU groups merge). */
  readonly weakensIsolation: boolean;
}

export interface Verdict {
  readonly provider: Bdf;
  readonly client: Bdf;
  /** Id of the rule set, and the kernel version it was asked for. */
  readonly ruleSet: string;
  readonly mapType: MapTypeName;
  readonly route: Route;
  /** -1 when refused. */
  readonly distance: number;
  /** What the distance would be if it were not refused. */
  readonly rawDistance: number;
  readonly reason: ReasonCode;
  /** Id of the rule that gave it, as docs/rules.md lists it. */
  readonly rule: string;
  /** Where it was decided: the port that redirects, the root bus's first device. */
  readonly hop: Bdf | null;
  readonly evidence: readonly Evidence[];
  readonly remedies: readonly Remedy[];
  /** What was not known, and what was taken for true instead. */
  readonly assumptions: readonly string[];
  /** All of it in one or two sentences. */
  readonly text: string;
}

/** A verdict for one direction and one class of TLPs. */
export interface TlpVerdict extends Verdict {
  /** `write`: the client writes to the provider's memory. */
  readonly direction: TlpDirectionName;
  readonly tlpClass: TlpClassName;
  /**
   * What becomes of a TLP with the peer's bus address; null where the rule set does not tell
   * directions and classes apart: then the rest is the pair's verdict.
   */
  readonly outcome: TlpOutcomeName | null;
}

/** Whoever answers for a pair: a rule set over a topology, with a cache. */
export interface RouteRules {
  verdict(provider: Bdf, client: Bdf): Verdict;
}
