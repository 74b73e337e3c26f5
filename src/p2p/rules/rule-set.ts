/**
 * What a rule set is: which kernels it is for, and how it decides a pair from the path between the
 * two. A new rule set is one file here that exports a {@link RuleSet}, and one line in index.ts.
 *
 * The path is found once by the evaluator, for all rule sets alike; a rule set reads it and the
 * topology, and fills a {@link Decision}. It is called once per pair of a matrix, so `decide`
 * allocates nothing; `explain` is called for one pair that somebody looks at.
 */

import type { Bdf } from "../../core/index.ts";
import type { Topology } from "../topology.ts";
import type { MapType } from "./map-type.ts";
import type { Reason, ReasonCode } from "./reasons.ts";
import type { TlpClass, TlpDecision, TlpDirection } from "./tlp.ts";
import type { Evidence, Remedy } from "./types.ts";
import type { KernelVersion } from "./version.ts";

/** The way from a provider to a client. Reused: read it, do not keep it. */
export class PairPath {
  /** Positions in the topology. */
  provider = 0;
  client = 0;
  /** The lowest node that is on both chains; -1 when there is none. May be one of the two. */
  common = -1;
  /** Nodes below `common` on either side, or on the whole chain where there is no common node. */
  providerHops = 0;
  clientHops = 0;
  /**
   * The child of `common` on either side: the ports where the two ways part; -1 where there is
   * none.
   */
  providerPort = -1;
  clientPort = -1;
}

/** What was decided. Reused. */
export class Decision {
  mapType: MapType = 0;
  reason: Reason = 0;
  distance = -1;
  rawDistance = 0;

  set(mapType: MapType, reason: Reason, distance: number, rawDistance: number): void {
    this.mapType = mapType;
    this.reason = reason;
    this.distance = distance;
    this.rawDistance = rawDistance;
  }
}

/** What stands behind a decision. */
export interface Explanation {
  readonly hop: Bdf | null;
  readonly evidence: readonly Evidence[];
  readonly remedies: readonly Remedy[];
  readonly assumptions: readonly string[];
  readonly text: string;
}

/** A rule set made ready for one topology and one kernel version. */
export interface PairRule {
  decide(path: PairPath, out: Decision): void;
  explain(path: PairPath, decision: Decision): Explanation;
  /**
   * Decides one class of TLPs in one direction. Absent where the rule set does not tell them apart:
   * then `decide` holds for all. Allocates nothing.
   */
  decideTlp?(path: PairPath, direction: TlpDirection, tlpClass: TlpClass, out: TlpDecision): void;
  /** What stands behind it. Present exactly where `decideTlp` is. */
  explainTlp?(
    path: PairPath,
    direction: TlpDirection,
    tlpClass: TlpClass,
    decision: TlpDecision,
  ): Explanation;
}

/** One rule of a set: when its reason is given, its map type follows. */
export interface Rule {
  readonly reason: Reason;
  /** Public source: kernel file and commits, or specification and section. */
  readonly source: string;
}

/** Stable: `linux-5.14/common-bridge`. */
export function ruleId(ruleSetId: string, code: ReasonCode): string {
  return `${ruleSetId}/${code}`;
}

export interface RuleSet {
  /** Stable: `linux-5.14`, `expert-pcie-7.0`. */
  readonly id: string;
  readonly title: string;
  /** Public source: kernel file and commits, or specification and section. */
  readonly source: string;
  /** Every reason that it gives. */
  readonly rules: readonly Rule[];
  /** What is different in it, one sentence each, for the documentation. */
  readonly notes: readonly string[];
  /** Kernels it is for: [since, until). Null where it is no kernel's. */
  readonly since: KernelVersion | null;
  readonly until: KernelVersion | null;
  compile(topology: Topology, version: KernelVersion): PairRule;
}
