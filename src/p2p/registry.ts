/**
 * Published providers, and which one a set of clients should use. Two ways to choose:
 *
 * - {@link ProviderRegistry.find}: deterministic. Direct routes first (every client by bus
 *   address), then the narrowest link on the way to any client, then the sum of distances, then the
 *   function's name. Says of every other why it lost.
 * - {@link ProviderRegistry.findLikeLinux}: what the kernel does: the sum of distances alone, ties
 *   drawn at random, so that a provider through the host bridge may win over a direct one.
 *
 * Invariant: only alive, published providers are chosen; a teardown unpublishes.
 */

import {
  assert,
  type Bdf,
  formatBdf,
  type Inspectable,
  type Prng,
  type Tree,
} from "../core/index.ts";
import type { Rules } from "./evaluate.ts";
import { narrowestLink } from "./path-links.ts";
import type { Provider, Publisher } from "./provider.ts";
import { MapType } from "./rules/types.ts";

/** A provider as it stands in the ranking for some clients. */
export interface Candidate {
  readonly provider: Provider;
  /** Sum over the clients; -1 when one of them is refused. */
  readonly distance: number;
  /** True when every client reaches it by bus address. */
  readonly direct: boolean;
  /** Bytes per second of the narrowest link on the way to any client, one direction. */
  readonly bandwidth: number;
  /** Why it was not chosen; null for the chosen one. */
  readonly lost: string | null;
}

export interface Choice {
  /** Null when no provider reaches all clients. */
  readonly provider: Provider | null;
  /** All published providers, best first. */
  readonly candidates: readonly Candidate[];
}

/** Ties that the kernel collects before it draws: a page of pointers. */
const TIES_MAX = 512;

export class ProviderRegistry implements Publisher, Inspectable {
  private readonly rules: Rules;
  private readonly published = new Set<Provider>();

  constructor(rules: Rules) {
    this.rules = rules;
  }

  /** Makes a provider eligible. It leaves by {@link unpublish} or by its teardown. */
  publish(provider: Provider): void {
    assert(provider.alive, "a provider is published while it is alive");
    this.rules.topology.at(provider.owner);
    this.published.add(provider);
    provider.publishedBy(this);
  }

  /** Nobody chooses it from now on; what was chosen stays valid. */
  unpublish(provider: Provider): void {
    this.published.delete(provider);
  }

  /** In the order of their names. */
  providers(): Provider[] {
    return [...this.published].sort((a, b) => a.owner - b.owner || a.phys - b.phys);
  }

  /**
   * Sum of the distances from the provider to the clients, as pci_p2pdma_distance_many: -1 without
   * clients, and -1 as soon as one is refused or is no PCI function.
   */
  distanceMany(provider: Provider, clients: readonly Bdf[]): number {
    if (clients.length === 0) return -1;
    const { topology } = this.rules;
    const from = topology.at(provider.owner);
    let sum = 0;
    for (const client of clients) {
      const to = topology.find(client);
      const distance = to < 0 ? -1 : this.rules.distance(from, to);
      if (distance < 0) return -1;
      sum += distance;
    }
    return sum;
  }

  /** The best provider for all of `clients`, and why the others lost. */
  find(clients: readonly Bdf[]): Choice {
    const ranked = this.providers()
      .map((provider) => this.candidate(provider, clients))
      .sort(compareCandidates);
    const best = ranked[0];
    if (best === undefined || best.distance < 0) {
      return { provider: null, candidates: ranked.map((c) => this.explainLoss(c, null, clients)) };
    }
    const candidates = ranked.map((c) => (c === best ? c : this.explainLoss(c, best, clients)));
    return { provider: best.provider, candidates };
  }

  /** The provider that the kernel would take, ties drawn from `prng`; null when there is none. */
  findLikeLinux(clients: readonly Bdf[], prng: Prng): Provider | null {
    let closest = Number.POSITIVE_INFINITY;
    let ties: Provider[] = [];
    for (const provider of this.providers()) {
      const distance = this.distanceMany(provider, clients);
      if (distance < 0 || distance > closest) continue;
      if (distance < closest) ties = [];
      closest = distance;
      if (ties.length < TIES_MAX) ties.push(provider);
    }
    return ties.length === 0 ? null : prng.pick(ties);
  }

  private candidate(provider: Provider, clients: readonly Bdf[]): Candidate {
    const { topology } = this.rules;
    const distance = this.distanceMany(provider, clients);
    if (distance < 0) return { provider, distance, direct: false, bandwidth: 0, lost: null };
    const from = topology.at(provider.owner);
    let direct = true;
    let bandwidth = Number.POSITIVE_INFINITY;
    for (const client of clients) {
      const to = topology.at(client);
      direct &&= this.rules.mapType(from, to) === MapType.busAddr;
      bandwidth = Math.min(bandwidth, narrowestLink(topology, from, to));
    }
    return { provider, distance, direct, bandwidth, lost: null };
  }

  private explainLoss(
    loser: Candidate,
    best: Candidate | null,
    clients: readonly Bdf[],
  ): Candidate {
    if (loser.distance >= 0 && best !== null) return { ...loser, lost: comparison(loser, best) };
    const refused = clients
      .map((client) => this.rules.verdict(loser.provider.owner, client))
      .find(({ route }) => route === "none");
    return { ...loser, lost: refused === undefined ? "no clients were named" : refused.text };
  }

  inspect(): Tree {
    return {
      rules: this.rules.inspect(),
      providers: this.providers().map((provider) => provider.inspect()),
    };
  }
}

function compareCandidates(a: Candidate, b: Candidate): number {
  const aOut = a.distance < 0;
  const bOut = b.distance < 0;
  if (aOut !== bOut) return aOut ? 1 : -1;
  if (a.direct !== b.direct) return a.direct ? -1 : 1;
  if (a.bandwidth !== b.bandwidth) return b.bandwidth - a.bandwidth;
  if (a.distance !== b.distance) return a.distance - b.distance;
  return a.provider.owner - b.provider.owner || a.provider.phys - b.provider.phys;
}

function comparison(loser: Candidate, best: Candidate): string {
  const name = formatBdf(best.provider.owner);
  if (loser.direct !== best.direct) {
    return `passes the host bridge; ${name} is reached by bus address`;
  }
  if (loser.bandwidth !== best.bandwidth) {
    return `narrowest link ${gigabytes(loser)} GB/s, against ${gigabytes(best)} GB/s to ${name}`;
  }
  if (loser.distance !== best.distance) {
    return `distance ${loser.distance}, against ${best.distance} to ${name}`;
  }
  return `equal in all, and ${name} comes first by name`;
}

/** Where no link is crossed, or the dump tells none, nothing limits that is known. */
const gigabytes = ({ bandwidth }: Candidate): string =>
  bandwidth === Number.POSITIVE_INFINITY ? "of unlimited" : (bandwidth / 1e9).toFixed(2);
