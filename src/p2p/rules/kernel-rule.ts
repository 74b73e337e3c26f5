/**
 * The rule of every Linux kernel with peer-to-peer DMA (drivers/pci/p2pdma.c): peers below a common
 * upstream bridge use bus addresses unless some port on the way redirects by ACS; for everything
 * else host.ts says what the kernel lets pass through the root complex. What differs between
 * versions is in host.ts and in the data of linux.ts.
 *
 * A port counts as redirecting when any of RR, CR, EC is set in ACS Control; every node on the way
 * counts, the common bridge and the two functions included. Distance: nodes below the common bridge
 * on both sides, or of both whole chains.
 *
 * Leaves out: direction, ordering and translation (see expert.ts): the kernel does too.
 */

import { type Bdf, formatBdf } from "../../core/index.ts";
import type { Topology } from "../topology.ts";
import {
  explainHost,
  type HostFacts,
  hostAssumptions,
  hostFacts,
  reasonAtRoot,
  rootsOf,
} from "./host.ts";
import { hostRemedies } from "./host-remedies.ts";
import { MAP_TYPE_NAMES, MapType } from "./map-type.ts";
import { MAP_TYPE_OF_REASON, REASONS, Reason } from "./reasons.ts";
import { explainRedirects, redirectRemedies } from "./redirect.ts";
import type { Decision, Explanation, PairPath, PairRule } from "./rule-set.ts";
import type { Evidence, Remedy } from "./types.ts";
import { formatVersion, type KernelVersion } from "./version.ts";

/** 5.2 and 5.3 add this to the distance of ways through the root complex: they come last. */
const HOST_BRIDGE_DISTANCE = 0x1000;

export class KernelRule implements PairRule {
  private readonly topology: Topology;
  private readonly host: HostFacts;
  /** Added where there is no common bridge. */
  private readonly rootDistance: number;

  constructor(topology: Topology, version: KernelVersion) {
    this.topology = topology;
    this.host = hostFacts(topology, version);
    const { carriesAcross, carriesRedirected } = this.host;
    this.rootDistance = carriesAcross && !carriesRedirected ? HOST_BRIDGE_DISTANCE : 0;
  }

  decide(path: PairPath, out: Decision): void {
    const { provider, client, common } = path;
    let distance = path.providerHops + path.clientHops;
    let reason: Reason = provider === client ? Reason.sameFunction : Reason.commonBridge;
    if (common < 0 || this.topology.redirectsBetween(provider, client, common) > 0) {
      if (common < 0) distance += this.rootDistance;
      reason = reasonAtRoot(this.host, this.topology, path);
    }
    const mapType = MAP_TYPE_OF_REASON[reason] as MapType;
    out.set(mapType, reason, mapType === MapType.notSupported ? -1 : distance, distance);
  }

  explain(path: PairPath, decision: Decision): Explanation {
    const { topology, host } = this;
    const redirecting = redirectingNodes(topology, path);
    const evidence: Evidence[] = explainRedirects(topology, redirecting);
    const remedies: Remedy[] = [];
    const roots = rootsOf(topology, path);
    const assumptions = unknownAcs(topology, path);
    const { mapType, reason } = decision;
    if (mapType !== MapType.busAddr) {
      evidence.push(...explainHost(topology, host, roots, reason));
      assumptions.push(...hostAssumptions(topology, host, roots), ...orphans(topology, path));
    }
    if (mapType === MapType.notSupported) {
      if (path.common >= 0) remedies.push(...redirectRemedies(topology, redirecting));
      remedies.push(...hostRemedies(topology, host, path, reason));
    }
    if (mapType === MapType.thruHostBridge && !host.carriesRedirected) {
      assumptions.push(
        `Linux ${formatVersion(host.version)} gives the client the bus address on this way too: ` +
          "taken as equal to the physical address",
      );
    }
    const hop = redirecting[0] ?? (mapType === MapType.busAddr ? path.common : null);
    return {
      hop: hop === null ? rootHop(topology, roots, host) : topology.bdfOf(hop),
      evidence,
      remedies,
      assumptions,
      text: sentence(topology, path, decision, evidence),
    };
  }
}

/** Nodes on the way that redirect, provider's side first. Empty where there is no common bridge. */
function redirectingNodes(topology: Topology, path: PairPath): number[] {
  if (path.common < 0) return [];
  const provider = topology.chainOf(path.provider).slice(0, path.providerHops + 1);
  const client = topology.chainOf(path.client).slice(0, path.clientHops);
  return [...provider, ...client].filter((node) => topology.redirectsAt(node));
}

function unknownAcs(topology: Topology, path: PairPath): string[] {
  if (path.common < 0) return [];
  const provider = topology.chainOf(path.provider).slice(0, path.providerHops + 1);
  const client = topology.chainOf(path.client).slice(0, path.clientHops);
  return [...provider, ...client]
    .filter((node) => topology.acsUnknown(node))
    .map((node) => {
      const name = formatBdf(topology.bdfOf(node));
      return `ACS of ${name} is not in the dump: taken as absent, so nothing redirects there`;
    });
}

export function orphans(topology: Topology, path: PairPath): string[] {
  return [path.provider, path.client]
    .filter((node) => topology.isOrphan(node))
    .map((node) => {
      const name = formatBdf(topology.bdfOf(node));
      return `no bridge in the dump leads to ${name}: taken as below no bridge that others share`;
    });
}

/** The first device of the root bus that stands in the way. */
export function rootHop(
  topology: Topology,
  roots: readonly number[],
  { listed }: HostFacts,
): Bdf | null {
  const blocking = roots.find((root) => listed[root] !== 2) ?? roots[0];
  return topology.rootBuses[blocking]?.first?.bdf ?? null;
}

export function sentence(
  topology: Topology,
  path: PairPath,
  decision: Decision,
  evidence: readonly Evidence[],
): string {
  const provider = formatBdf(topology.bdfOf(path.provider));
  const client = formatBdf(topology.bdfOf(path.client));
  const way = `${client} to the memory of ${provider}`;
  const why = REASONS[decision.reason].text;
  const seen = evidence
    .map(({ bdf, register, decoded }) =>
      bdf === null ? `${register}: ${decoded}` : `${formatBdf(bdf)} ${register}: ${decoded}`,
    )
    .join("; ");
  const because = seen === "" ? "" : ` (${seen})`;
  if (decision.mapType === MapType.notSupported) return `No route from ${way}: ${why}${because}.`;
  const name = MAP_TYPE_NAMES[decision.mapType];
  return `From ${way}: ${name}, distance ${decision.distance}: ${why}${because}.`;
}
