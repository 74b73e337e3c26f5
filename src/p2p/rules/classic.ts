/**
 * The rule of Linux 5.14 to 7.x (drivers/pci/p2pdma.c, calc_map_type_and_dist): peers below a
 * common upstream bridge use bus addresses unless some port on the way redirects by ACS; everything
 * else is allowed only where the CPU or the host bridge is known to forward.
 *
 * A port counts as redirecting when any of RR, CR, EC is set in ACS Control; every node on the way
 * counts, the common bridge and the two functions included. Distance: nodes below the common bridge
 * on both sides, or of both whole chains.
 *
 * Leaves out: direction, ordering and translation (see the expert rule set): the kernel does too.
 */

import { formatBdf } from "../../core/index.ts";
import type { Topology } from "../topology.ts";
import { explainHost, type HostFacts, hostAssumptions, hostFacts, hostRemedies } from "./host.ts";
import { REASONS, Reason } from "./reasons.ts";
import { explainRedirects, redirectRemedies } from "./redirect.ts";
import type { Decision, Explanation, PairPath, PairRule, RuleSet } from "./rule-set.ts";
import { type Evidence, MAP_TYPE_NAMES, MapType, type Remedy } from "./types.ts";
import type { KernelVersion } from "./version.ts";

class ClassicRule implements PairRule {
  private readonly topology: Topology;
  private readonly host: HostFacts;

  constructor(topology: Topology, version: KernelVersion) {
    this.topology = topology;
    this.host = hostFacts(topology, version);
  }

  decide(path: PairPath, out: Decision): void {
    const { provider, client, common } = path;
    const distance = path.providerHops + path.clientHops;
    const isRedirected = common < 0 || this.topology.redirectsBetween(provider, client, common) > 0;
    if (!isRedirected) {
      const reason = provider === client ? Reason.sameFunction : Reason.commonBridge;
      out.set(MapType.busAddr, reason, distance, distance);
      return;
    }
    const reason = this.decideHost(provider, client, common >= 0);
    const isAllowed = reason < Reason.redirectBridgeUnlisted;
    const mapType = isAllowed ? MapType.thruHostBridge : MapType.notSupported;
    out.set(mapType, reason, isAllowed ? distance : -1, distance);
  }

  /** Whether the root complex carries it. `redirected`: there is a common bridge, and ACS. */
  private decideHost(provider: number, client: number, redirected: boolean): Reason {
    const { cpu, listed } = this.host;
    if (cpu.forwards) {
      return redirected ? Reason.redirectCpuForwards : Reason.noCommonBridgeCpuForwards;
    }
    const a = this.topology.rootBus[provider];
    const b = this.topology.rootBus[client];
    if (listed[a] === 0 || listed[b] === 0) {
      return redirected ? Reason.redirectBridgeUnlisted : Reason.noCommonBridgeUnlisted;
    }
    if (a !== b && (listed[a] === 1 || listed[b] === 1)) return Reason.hostBridgesDiffer;
    return redirected ? Reason.redirectBridgeListed : Reason.noCommonBridgeListed;
  }

  explain(path: PairPath, decision: Decision): Explanation {
    const { topology, host } = this;
    const redirecting = redirectingNodes(topology, path);
    const evidence: Evidence[] = explainRedirects(topology, redirecting);
    const remedies: Remedy[] = [];
    const roots = [...new Set([topology.rootBus[path.provider], topology.rootBus[path.client]])];
    const assumptions = unknownAcs(topology, path);
    if (decision.mapType !== MapType.busAddr) {
      const isAllowed = decision.mapType === MapType.thruHostBridge;
      evidence.push(...explainHost(topology, host, roots, isAllowed));
      assumptions.push(...hostAssumptions(topology, host, roots), ...orphans(topology, path));
    }
    if (decision.mapType === MapType.notSupported) {
      if (path.common >= 0) remedies.push(...redirectRemedies(topology, redirecting));
      remedies.push(...hostRemedies(topology, host, path, decision.reason));
    }
    const hop = redirecting[0] ?? (decision.mapType === MapType.busAddr ? path.common : null);
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

function orphans(topology: Topology, path: PairPath): string[] {
  return [path.provider, path.client]
    .filter((node) => topology.isOrphan(node))
    .map((node) => {
      const name = formatBdf(topology.bdfOf(node));
      return `no bridge in the dump leads to ${name}: taken as below no bridge that others share`;
    });
}

/** The first device of the root bus that stands in the way. */
function rootHop(topology: Topology, roots: readonly number[], { listed }: HostFacts) {
  const blocking = roots.find((root) => listed[root] !== 2) ?? roots[0];
  return topology.rootBuses[blocking]?.first?.bdf ?? null;
}

function sentence(
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

export const CLASSIC: RuleSet = {
  id: "linux-5.14",
  title: "Linux 5.14 to 7.x",
  source: "Linux drivers/pci/p2pdma.c, calc_map_type_and_dist, 5.14 and later",
  since: { major: 5, minor: 14 },
  until: null,
  compile: (topology, version) => new ClassicRule(topology, version),
};
