/**
 * What stands behind a decision of the expert rule set: the registers that decided, and remedies
 * that change as little as they can: single bits at single ports.
 */

import { type Bdf, formatBdf, hex } from "../../core/index.ts";
import { isUnknown } from "../../machine/index.ts";
import { AcsBit, acsBitNames } from "../../spec/pcie/index.ts";
import { ACS_CONTROL_OFFSET, Acs, type Topology } from "../topology.ts";
import { type AcsTrip, type AcsWalk, dumpedPortNumber } from "./acs-walk.ts";
import { explainHost, type HostFacts, hostAssumptions, rootsOf } from "./host.ts";
import { hostRemedies } from "./host-remedies.ts";
import { rootHop } from "./kernel-rule.ts";
import { MAP_TYPE_NAMES, MapType } from "./map-type.ts";
import { MAP_TYPE_OF_REASON, REASONS, Reason } from "./reasons.ts";
import { explainRedirects } from "./redirect.ts";
import type { Explanation, PairPath } from "./rule-set.ts";
import {
  TLP_CLASS_NAMES,
  TLP_OUTCOME_NAMES,
  TlpClass,
  type TlpDecision,
  TlpDirection,
  TlpOutcome,
} from "./tlp.ts";
import type { Evidence, Remedy } from "./types.ts";
import { compareVersions, type KernelVersion } from "./version.ts";

export interface TripStory {
  readonly topology: Topology;
  readonly host: HostFacts;
  readonly walk: AcsWalk;
  readonly path: PairPath;
  readonly direction: TlpDirection;
  readonly tlpClass: TlpClass;
  readonly decision: TlpDecision;
  /** Of the requests and, for a read, of the completions. */
  readonly trips: readonly AcsTrip[];
}

/** Offset of the egress control vector in the ACS capability. */
const VECTOR_OFFSET = 8;
/** `pci=config_acs=` came with it. */
const CONFIG_ACS_SINCE: KernelVersion = { major: 6, minor: 11 };

export function explainTrip(story: TripStory): Explanation {
  const { topology, host, path, decision } = story;
  const deciding = decidingNodes(story);
  const evidence: Evidence[] = [
    ...explainRedirects(topology, deciding),
    ...egressEvidence(story, deciding),
  ];
  const mapType = MAP_TYPE_OF_REASON[decision.reason] as MapType;
  const remedies: Remedy[] = [];
  const assumptions = tripAssumptions(story, deciding);
  const roots = rootsOf(topology, path);
  const isDirect = mapType === MapType.busAddr;
  const isAtRoot = decision.outcome === TlpOutcome.redirected || mapType === MapType.thruHostBridge;
  if (isAtRoot) {
    evidence.push(...explainHost(topology, host, roots, listedReason(decision.reason)));
    assumptions.push(...hostAssumptions(topology, host, roots));
  }
  if (mapType === MapType.notSupported) {
    remedies.push(...acsRemedies(story));
    if (isAtRoot) remedies.push(...hostRemedies(topology, host, path, decision.reason));
    else remedies.push(HOST_MEMORY);
  }
  return {
    hop: hopOf(story, deciding, isDirect),
    evidence,
    remedies,
    assumptions,
    text: sentence(story, mapType, evidence),
  };
}

const HOST_MEMORY: Remedy = {
  kind: "host-memory",
  text: "Let this pair pass through host memory, if your policy allows it.",
  command: null,
  weakensIsolation: false,
};

/** The evidence of the host is the same whether it was asked because of a redirect or a block. */
function listedReason(reason: Reason): Reason {
  return reason === Reason.blockedBridgeListed ? Reason.redirectBridgeListed : reason;
}

/** Ports whose controls made the decision, requests' first. */
function decidingNodes({ trips, decision }: TripStory): number[] {
  const nodes = new Set<number>();
  for (const { outcome, reason, node, redirectedAt } of trips) {
    // A read that fails or detours does so by its worse half; the other half is no evidence.
    const isDecisive = outcome === decision.outcome || outcome === TlpOutcome.redirected;
    if (!isDecisive) continue;
    if (outcome === TlpOutcome.direct && reason !== Reason.directTranslated) continue;
    if (redirectedAt >= 0) nodes.add(redirectedAt);
    if (node >= 0) nodes.add(node);
  }
  return [...nodes];
}

function hopOf({ topology, host, path, decision }: TripStory, nodes: number[], isDirect: boolean) {
  if (decision.node >= 0) return topology.bdfOf(decision.node);
  if (nodes.length > 0) return topology.bdfOf(nodes[0]);
  if (isDirect && path.common >= 0) return topology.bdfOf(path.common);
  return rootHop(topology, rootsOf(topology, path), host);
}

/** The vectors of ports with Egress Control, at the word that was consulted. */
function egressEvidence({ topology, walk, path }: TripStory, nodes: readonly number[]): Evidence[] {
  return nodes
    .filter((node) => node === path.clientPort && (topology.acsControl[node] & Acs.EC) !== 0)
    .filter(() => path.providerPort >= 0)
    .map((node) => {
      const { bdf, acs } = topology.functions[node];
      const number = walk.portNumber(path.providerPort);
      const bit = walk.egressBit(node, number);
      const word = number >>> 5;
      return {
        bdf,
        register: "ACS Egress Control Vector",
        offset: acs === null ? null : acs.offset + VECTOR_OFFSET + 4 * word,
        value: acs?.egressVector?.[word] ?? null,
        decoded: bit < 0 ? `bit ${number} is not in the dump` : `bit ${number} is ${bit}`,
      };
    });
}

function tripAssumptions(story: TripStory, deciding: readonly number[]): string[] {
  const { topology, path, tlpClass, direction } = story;
  const assumptions: string[] = [];
  const name = (node: number): string => formatBdf(topology.bdfOf(node));
  const ports = [path.clientPort, path.providerPort].filter((node) => node >= 0);
  for (const node of ports) {
    if (!topology.acsUnknown(node)) continue;
    assumptions.push(`ACS of ${name(node)} is not in the dump: taken as absent`);
  }
  const hasVector = deciding.some((node) => (topology.acsControl[node] & Acs.EC) !== 0);
  const { providerPort } = path;
  if (hasVector && providerPort >= 0) {
    const number = dumpedPortNumber(topology.functions[providerPort]);
    if (number === null && topology.functions[providerPort].bridge !== null) {
      assumptions.push(
        `the port number of ${name(providerPort)} is not in the dump: its device number is taken`,
      );
    }
  }
  const client = topology.functions[path.client];
  const isTranslated = (tlpClass & TlpClass.translated) !== 0;
  if (isTranslated && client.ats?.enabled !== true) {
    const state = isUnknown(client, "ats") ? "is not in the dump" : "is not enabled";
    assumptions.push(`ATS of ${name(path.client)} ${state}: taken as enabled`);
  }
  const isRelaxed = (tlpClass & TlpClass.relaxedCompletion) !== 0;
  const isOrdered = client.pcie !== null && !client.pcie.relaxedOrdering;
  if (direction === TlpDirection.read && isRelaxed && isOrdered) {
    assumptions.push(`Relaxed Ordering of ${name(path.client)} is off: taken as on`);
  }
  return assumptions;
}

/** A change of single bits in ACS Control of one port. */
interface BitChange {
  readonly node: number;
  readonly clear: number;
  readonly set: number;
}

/** The fewest bits that make every half of the trip direct, else acceptable to the ports above. */
function acsRemedies(story: TripStory): Remedy[] {
  const { topology, trips, decision, host } = story;
  const remedies: Remedy[] = [];
  if (trips.some(({ reason }) => reason === Reason.egressUnknown)) {
    remedies.push({
      kind: "complete-dump",
      text: "Add a dump with extended configuration space, taken as root (lspci -xxxx).",
      command: null,
      weakensIsolation: false,
    });
  }
  if (decision.reason === Reason.upstreamForwardingClear) {
    const forward = [{ node: decision.node, clear: 0, set: Acs.UF }];
    remedies.push(...changeRemedies(topology, forward, host.version));
  }
  const direct = trips
    .map((trip, i) => directChange(topology, trip, i === 1))
    .filter((change) => change !== null);
  if (direct.length > 0) remedies.push(...changeRemedies(topology, direct, host.version));
  return remedies;
}

/** What would let this half turn to the peer; null where nothing would, or it does already. */
function directChange(topology: Topology, trip: AcsTrip, isCompletion: boolean): BitChange | null {
  const { outcome, reason, node, redirectedAt } = trip;
  if (outcome === TlpOutcome.direct) return null;
  if (reason === Reason.translationBlocked) return { node, clear: Acs.TB, set: 0 };
  if (reason === Reason.egressBlocked) return { node, clear: Acs.EC, set: 0 };
  // Upstream Forwarding alone sent it up: it has no other way.
  const isOwnWay = redirectedAt < 0 || redirectedAt === node;
  const mask = isCompletion ? Acs.CR : Acs.RR | Acs.EC;
  const clear = redirectedAt < 0 ? 0 : topology.acsControl[redirectedAt] & mask;
  if (clear === 0 || (isOwnWay && reason === Reason.upstreamForwardingClear)) return null;
  return { node: redirectedAt, clear, set: 0 };
}

function changeRemedies(
  topology: Topology,
  changes: readonly BitChange[],
  version: KernelVersion,
): Remedy[] {
  const name = (node: number): string => formatBdf(topology.bdfOf(node));
  const weakensIsolation = changes.some(({ clear }) => clear !== 0);
  const what = changes
    .map(({ node, clear, set }) => {
      const verb = clear !== 0 ? `clear ${acsBitNames(clear)}` : `set ${acsBitNames(set)}`;
      return `${verb} at ${name(node)}`;
    })
    .join(", ");
  const parameter = changes.map(({ node, clear, set }) => `${flags(clear, set)}@${name(node)}`);
  const remedies: Remedy[] = [
    {
      kind: "register-write",
      text: `Until the next reset: ${what}.`,
      command: changes
        .map(({ node, clear, set }) => {
          const mask = hex(clear | set).slice(2);
          const value = hex(set).slice(2);
          return `setpci -s ${name(node)} ECAP_ACS+${ACS_CONTROL_OFFSET}.w=${value}:${mask}`;
        })
        .join(" && "),
      weakensIsolation,
    },
  ];
  if (compareVersions(version, CONFIG_ACS_SINCE) >= 0) {
    remedies.unshift({
      kind: "kernel-parameter",
      text: `At every boot: ${what}.`,
      command: `pci=config_acs=${parameter.join(";")}`,
      weakensIsolation,
    });
  }
  return remedies;
}

/** `0xx`: bits from the highest that changes down to SV, `x` for those that stay. */
function flags(clear: number, set: number): string {
  let text = "";
  for (let bit = AcsBit.directTranslated; bit > 0; bit >>= 1) {
    if ((set & bit) !== 0) text += "1";
    else if ((clear & bit) !== 0) text += "0";
    else if (text !== "") text += "x";
  }
  return text;
}

function sentence(
  { topology, path, direction, tlpClass, decision }: TripStory,
  mapType: MapType,
  evidence: readonly Evidence[],
): string {
  const provider = formatBdf(topology.bdfOf(path.provider));
  const client = formatBdf(topology.bdfOf(path.client));
  const kind = tlpClass === TlpClass.strict ? "" : ` (${TLP_CLASS_NAMES[tlpClass]})`;
  const way =
    direction === TlpDirection.write
      ? `Writes${kind} of ${client} to ${provider}`
      : `Reads${kind} of ${client} from ${provider}`;
  const half = decision.isCompletion ? ", for their completions" : "";
  const outcome = `${TLP_OUTCOME_NAMES[decision.outcome]}${half}`;
  const seen = evidence
    .map(({ bdf, register, decoded }) => `${where(bdf)}${register}: ${decoded}`)
    .join("; ");
  const because = seen === "" ? "" : ` (${seen})`;
  const why = REASONS[decision.reason].text;
  return `${way}: ${MAP_TYPE_NAMES[mapType]}, ${outcome}: ${why}${because}.`;
}

const where = (bdf: Bdf | null): string => (bdf === null ? "" : `${formatBdf(bdf)} `);
