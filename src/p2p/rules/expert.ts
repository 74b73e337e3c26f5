/**
 * What PCI Express Base 7.0 section 6.12.3 (table 6-11) says of a pair, instead of the kernel's
 * reading of it: access controls count where the ways part and nowhere else; requests and
 * completions are judged apart, so writes and reads may differ; completions with Relaxed Ordering
 * are not subject to Completion Redirect, translated requests are to Translation Blocking and
 * Direct Translated; an egress control vector is consulted bit by bit.
 *
 * Two sets: in `expert-pcie-7.0` what a port rejects is not supported; in
 * `expert-pcie-7.0-fallback` the root complex is asked then too, as the proposal for Linux does,
 * which is right where an IOMMU gives the client another address than the one that is rejected.
 * Translation Blocking rejects a request whatever its address: no fallback.
 *
 * The pair's map type is that of strict reads, the most that a pair can ask for.
 */

import type { Topology } from "../topology.ts";
import { AcsTrip, AcsWalk, TlpKind } from "./acs-walk.ts";
import { explainTrip } from "./expert-text.ts";
import { type HostFacts, hostFacts, REDIRECTED_SINCE, reasonAtRoot } from "./host.ts";
import { MapType } from "./map-type.ts";
import { MAP_TYPE_OF_REASON, Reason } from "./reasons.ts";
import type { Decision, Explanation, PairPath, PairRule, Rule, RuleSet } from "./rule-set.ts";
import { TlpClass, TlpDecision, TlpDirection, TlpOutcome } from "./tlp.ts";
import { compareVersions, type KernelVersion } from "./version.ts";

/** How bad an outcome is, by {@link TlpOutcome}: unknown, direct, redirected, blocked. */
const SEVERITY = [2, 0, 1, 3] as const;

class ExpertRule implements PairRule {
  private readonly topology: Topology;
  private readonly host: HostFacts;
  private readonly walk: AcsWalk;
  private readonly fallsBack: boolean;
  private readonly requests = new AcsTrip();
  private readonly completions = new AcsTrip();
  private readonly tlp = new TlpDecision();

  constructor(topology: Topology, version: KernelVersion, fallsBack: boolean) {
    const isOld = compareVersions(version, REDIRECTED_SINCE) < 0;
    this.topology = topology;
    // Older kernels have no opinion on redirected traffic; the list of the first that has is taken.
    this.host = hostFacts(topology, isOld ? REDIRECTED_SINCE : version);
    this.walk = new AcsWalk(topology);
    this.fallsBack = fallsBack;
  }

  decide(path: PairPath, out: Decision): void {
    const distance = path.providerHops + path.clientHops;
    this.decideTlp(path, TlpDirection.read, TlpClass.strict, this.tlp);
    const { reason } = this.tlp;
    const mapType = MAP_TYPE_OF_REASON[reason] as MapType;
    out.set(mapType, reason, mapType === MapType.notSupported ? -1 : distance, distance);
  }

  decideTlp(path: PairPath, direction: TlpDirection, tlpClass: TlpClass, out: TlpDecision): void {
    const { requests, completions, walk } = this;
    const isTranslated = (tlpClass & TlpClass.translated) !== 0;
    walk.request(path, isTranslated ? TlpKind.translatedRequest : TlpKind.request, requests);
    let worse = requests;
    if (direction === TlpDirection.read) {
      const isRelaxed = (tlpClass & TlpClass.relaxedCompletion) !== 0;
      const kind = isRelaxed ? TlpKind.relaxedCompletion : TlpKind.completion;
      walk.completion(path, kind, completions);
      if (SEVERITY[completions.outcome] > SEVERITY[requests.outcome]) worse = completions;
    }
    const reason = this.reasonOf(path, worse);
    out.set(worse.outcome, reason, worse.node, worse === completions);
  }

  private reasonOf(path: PairPath, { outcome, reason }: AcsTrip): Reason {
    if (outcome === TlpOutcome.direct) return reason;
    if (outcome === TlpOutcome.redirected) return reasonAtRoot(this.host, this.topology, path);
    if (!this.fallsBack || reason === Reason.translationBlocked) return reason;
    const atRoot = reasonAtRoot(this.host, this.topology, path);
    if (MAP_TYPE_OF_REASON[atRoot] !== MapType.thruHostBridge) return reason;
    return this.host.cpu.forwards ? Reason.blockedCpuForwards : Reason.blockedBridgeListed;
  }

  explain(path: PairPath, _decision: Decision): Explanation {
    this.decideTlp(path, TlpDirection.read, TlpClass.strict, this.tlp);
    return this.explainTlp(path, TlpDirection.read, TlpClass.strict, this.tlp);
  }

  explainTlp(
    path: PairPath,
    direction: TlpDirection,
    tlpClass: TlpClass,
    decision: TlpDecision,
  ): Explanation {
    // The trips that the decision rests on; `decision` may have been decided long ago.
    this.decideTlp(path, direction, tlpClass, this.tlp);
    const { topology, host, walk, requests, completions } = this;
    const trips = direction === TlpDirection.read ? [requests, completions] : [requests];
    return explainTrip({ topology, host, walk, path, direction, tlpClass, decision, trips });
  }
}

const SECTION = "PCI Express Base 7.0, section 6.12.3, table 6-11";
const LIST = "Linux drivers/pci/p2pdma.c, host_bridge_whitelist";
const CPU = "Linux drivers/pci/p2pdma.c, cpu_supports_p2pdma (dea286bb71ba)";

const RULES: readonly Rule[] = [
  { reason: Reason.sameFunction, source: SECTION },
  { reason: Reason.acsDirect, source: SECTION },
  { reason: Reason.directTranslated, source: "PCI Express Base 7.0, sections 6.12.3, 7.7.12.5" },
  { reason: Reason.egressBlocked, source: SECTION },
  { reason: Reason.egressUnknown, source: "PCI Express Base 7.0, section 7.7.12.4" },
  { reason: Reason.translationBlocked, source: "PCI Express Base 7.0, section 6.12.1.1" },
  { reason: Reason.upstreamForwardingClear, source: "PCI Express Base 7.0, section 6.12.1.1" },
  { reason: Reason.redirectCpuForwards, source: CPU },
  { reason: Reason.redirectBridgeListed, source: LIST },
  { reason: Reason.redirectBridgeUnlisted, source: LIST },
  { reason: Reason.noCommonBridgeCpuForwards, source: CPU },
  { reason: Reason.noCommonBridgeListed, source: LIST },
  { reason: Reason.noCommonBridgeUnlisted, source: LIST },
  { reason: Reason.hostBridgesDiffer, source: `${LIST}, REQ_SAME_HOST_BRIDGE` },
  { reason: Reason.noSuchFunction, source: "Linux drivers/pci/p2pdma.c, pci_p2pdma_distance_many" },
];

const NOTES: readonly string[] = [
  "Only the ports where the two ways part are asked for Request Redirect, Egress Control, Direct " +
    "Translated (client's side) and Completion Redirect (provider's side).",
  "Translation Blocking counts at every port on the client's way, Upstream Forwarding at every " +
    "port that redirected traffic would come back down through.",
  "Writes and reads, strict and relaxed-ordered completions, untranslated and translated " +
    "requests are judged apart; the pair's map type is that of strict reads.",
];

export const EXPERT: RuleSet = {
  id: "expert-pcie-7.0",
  title: "PCI Express 7.0, to the letter",
  source: SECTION,
  since: null,
  until: null,
  rules: RULES,
  notes: [...NOTES, "What a port rejects is not supported."],
  compile: (topology, version) => new ExpertRule(topology, version, false),
};

export const EXPERT_FALLBACK: RuleSet = {
  ...EXPERT,
  id: "expert-pcie-7.0-fallback",
  title: "PCI Express 7.0, the root complex as a fallback",
  rules: [
    ...RULES,
    { reason: Reason.blockedCpuForwards, source: CPU },
    { reason: Reason.blockedBridgeListed, source: LIST },
  ],
  notes: [
    ...NOTES,
    "What a port rejects, and what is not known, goes by the root complex if that is allowed: " +
      "right where the client then uses another address (an IOVA). Blocked translated requests " +
      "do not.",
  ],
  compile: (topology, version) => new ExpertRule(topology, version, true),
};
