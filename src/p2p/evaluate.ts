/**
 * The one evaluator: finds the path between two functions and lets a rule set decide. For one pair
 * with evidence ({@link Rules.verdict}), and for all pairs in typed arrays ({@link Rules.matrix}).
 *
 * The matrix walks nodes parents first, once per provider: the common bridge of a node is the node
 * itself if it is above the provider, else its parent's. That is linear per provider, whatever the
 * depth of the hierarchy.
 *
 * Invariants: both forms agree (a property test compares them); verdicts are cached per pair.
 */

import { type Bdf, formatBdf, type Inspectable, type Tree } from "../core/index.ts";
import { ruleSetFor } from "./rules/index.ts";
import { MAP_TYPE_NAMES, MapType } from "./rules/map-type.ts";
import { MAP_TYPE_OF_REASON, REASONS, type Reason } from "./rules/reasons.ts";
import { Decision, PairPath, type PairRule, type RuleSet, ruleId } from "./rules/rule-set.ts";
import {
  TLP_CLASS_NAMES,
  TLP_OUTCOME_NAMES,
  type TlpClass,
  type TlpClassName,
  TlpDecision,
  TlpDirection,
  type TlpDirectionName,
} from "./rules/tlp.ts";
import type { Route, RouteRules, TlpVerdict, Verdict } from "./rules/types.ts";
import {
  formatVersion,
  isInForce,
  type KernelVersion,
  LATEST_KERNEL,
  parseKernelVersion,
} from "./rules/version.ts";
import type { Topology } from "./topology.ts";

/** All ordered pairs: the entry of (provider, client) is at provider * count + client. */
export class VerdictMatrix {
  readonly count: number;
  readonly mapType: Uint8Array;
  /** -1 when refused. */
  readonly distance: Int16Array;
  /** What the distance would be if it were not refused. */
  readonly rawDistance: Int16Array;
  readonly reason: Uint8Array;

  constructor(count: number) {
    this.count = count;
    this.mapType = new Uint8Array(count * count);
    this.distance = new Int16Array(count * count);
    this.rawDistance = new Int16Array(count * count);
    this.reason = new Uint8Array(count * count);
  }

  at(provider: number, client: number): number {
    return provider * this.count + client;
  }

  /** Ordered pairs by reason, for a summary. */
  countByReason(): Record<string, number> {
    const counts = new Float64Array(REASONS.length);
    for (const reason of this.reason) counts[reason]++;
    const named = REASONS.map(({ code }, i): [string, number] => [code, counts[i]]);
    return Object.fromEntries(named.filter(([, count]) => count > 0));
  }
}

/** A rule set over a topology, for one kernel version. */
export class Rules implements RouteRules, Inspectable {
  readonly topology: Topology;
  readonly ruleSet: RuleSet;
  readonly version: KernelVersion;
  private readonly rule: PairRule;
  private readonly path = new PairPath();
  private readonly decision = new Decision();
  private readonly tlp = new TlpDecision();
  private readonly cache = new Map<number, Verdict>();
  /** Assumption that every verdict carries; empty when the version is known. */
  private readonly versionAssumptions: readonly string[];

  /**
   * By default the rules of the kernel that the machine runs, or of the latest known where it does
   * not tell. Throws `no-rule-set` for kernels that have none.
   */
  constructor(topology: Topology, ruleSet?: RuleSet, version?: KernelVersion) {
    const own = parseKernelVersion(topology.machine.host.kernelVersion);
    const isGuessed = version === undefined && own === null;
    this.topology = topology;
    this.version = version ?? versionFor(ruleSet, own ?? LATEST_KERNEL);
    this.ruleSet = ruleSet ?? ruleSetFor(this.version);
    this.versionAssumptions = isGuessed
      ? [`the kernel version is not in the dump: rules of Linux ${formatVersion(this.version)}`]
      : [];
    this.rule = this.ruleSet.compile(topology, this.version);
  }

  /** The same rules over another machine. */
  over(topology: Topology): Rules {
    return new Rules(topology, this.ruleSet, this.version);
  }

  /**
   * May `client` reach the memory of `provider`, by which route, and why not? Throws
   * `no-such-function` when the provider is not in the machine; a client that is not is a verdict.
   */
  verdict(provider: Bdf, client: Bdf): Verdict {
    const { topology } = this;
    const from = topology.at(provider);
    const to = topology.find(client);
    if (to < 0) return this.noSuchClient(provider, client);
    const key = from * topology.count + to;
    let verdict = this.cache.get(key);
    if (verdict === undefined) {
      verdict = this.evaluate(from, to);
      this.cache.set(key, verdict);
    }
    return verdict;
  }

  /**
   * The same for one direction and class of TLPs: writes and reads may differ, and so may
   * translated requests and relaxed-ordered completions. Not cached. Throws like {@link verdict}.
   */
  tlpVerdict(
    provider: Bdf,
    client: Bdf,
    direction: TlpDirectionName,
    tlpClass: TlpClassName = "strict",
  ): TlpVerdict {
    const { topology, rule, path, tlp } = this;
    const pair = this.verdict(provider, client);
    const to = topology.find(client);
    if (to < 0 || rule.decideTlp === undefined || rule.explainTlp === undefined) {
      return { ...pair, direction, tlpClass, outcome: null };
    }
    this.findPath(topology.at(provider), to);
    const way = TlpDirection[direction];
    const kind = TLP_CLASS_NAMES.indexOf(tlpClass) as TlpClass;
    rule.decideTlp(path, way, kind, tlp);
    const mapType = MAP_TYPE_OF_REASON[tlp.reason] as MapType;
    const { code } = REASONS[tlp.reason];
    const explanation = rule.explainTlp(path, way, kind, tlp);
    return {
      ...pair,
      ...explanation,
      assumptions: [...explanation.assumptions, ...this.versionAssumptions],
      direction,
      tlpClass,
      outcome: TLP_OUTCOME_NAMES[tlp.outcome],
      distance: mapType === MapType.notSupported ? -1 : pair.rawDistance,
      mapType: MAP_TYPE_NAMES[mapType],
      route: routeOf(mapType, path.provider === path.client),
      reason: code,
      rule: ruleId(this.ruleSet.id, code),
    };
  }

  /** {@link tlpVerdict} for writes and for reads, of one class. */
  directions(
    provider: Bdf,
    client: Bdf,
    tlpClass?: TlpClassName,
  ): Readonly<Record<TlpDirectionName, TlpVerdict>> {
    return {
      write: this.tlpVerdict(provider, client, "write", tlpClass),
      read: this.tlpVerdict(provider, client, "read", tlpClass),
    };
  }

  /** The distance alone: -1 when refused. Cheap: no evidence is gathered. */
  distance(provider: number, client: number): number {
    this.findPath(provider, client);
    this.rule.decide(this.path, this.decision);
    return this.decision.distance;
  }

  /** Map type of a pair of positions. Cheap. */
  mapType(provider: number, client: number): MapType {
    this.findPath(provider, client);
    this.rule.decide(this.path, this.decision);
    return this.decision.mapType;
  }

  /** All pairs, into `out` (made for this topology's count) or a new matrix. */
  matrix(out = new VerdictMatrix(this.topology.count)): VerdictMatrix {
    const { count } = this.topology;
    const common = new Int32Array(count);
    const port = new Int32Array(count);
    const above = new Int32Array(count);
    for (let provider = 0; provider < count; provider++) {
      this.fillRow(provider, out, common, port, above);
    }
    return out;
  }

  /**
   * One provider's row. `above[x]` is 0 unless x is the provider or above it, else the provider's
   * node just below x, plus 2 (1: none, x is the provider itself).
   */
  private fillRow(
    provider: number,
    out: VerdictMatrix,
    common: Int32Array,
    port: Int32Array,
    above: Int32Array,
  ): void {
    const { topology, rule, path, decision } = this;
    const { parent, chain, count } = topology;
    above.fill(0);
    const NO_PORT = -1;
    for (let at = provider, below = NO_PORT; at >= 0; below = at, at = parent[at]) {
      above[at] = below + 2;
    }
    path.provider = provider;
    const row = provider * count;
    for (let client = 0; client < count; client++) {
      const up = parent[client];
      if (above[client] !== 0) {
        common[client] = client;
        port[client] = NO_PORT;
      } else if (up < 0) {
        common[client] = NO_PORT;
        port[client] = NO_PORT;
      } else if (above[up] !== 0) {
        common[client] = up;
        port[client] = client;
      } else {
        common[client] = common[up];
        port[client] = port[up];
      }
      const shared = common[client];
      const depth = shared < 0 ? 0 : chain[shared];
      path.client = client;
      path.common = shared;
      path.providerHops = chain[provider] - depth;
      path.clientHops = chain[client] - depth;
      path.providerPort = shared < 0 ? NO_PORT : above[shared] - 2;
      path.clientPort = port[client];
      rule.decide(path, decision);
      out.mapType[row + client] = decision.mapType;
      out.distance[row + client] = decision.distance;
      out.rawDistance[row + client] = decision.rawDistance;
      out.reason[row + client] = decision.reason;
    }
  }

  /** The path of one pair: both chains are climbed to the same height, then together. */
  private findPath(provider: number, client: number): void {
    const { parent, chain } = this.topology;
    const { path } = this;
    let a = provider;
    let b = client;
    path.provider = provider;
    path.client = client;
    path.providerPort = -1;
    path.clientPort = -1;
    while (chain[a] > chain[b]) {
      path.providerPort = a;
      a = parent[a];
    }
    while (chain[b] > chain[a]) {
      path.clientPort = b;
      b = parent[b];
    }
    while (a !== b && a >= 0) {
      path.providerPort = a;
      path.clientPort = b;
      a = parent[a];
      b = parent[b];
    }
    path.common = a === b ? a : -1;
    const depth = path.common < 0 ? 0 : chain[path.common];
    path.providerHops = chain[provider] - depth;
    path.clientHops = chain[client] - depth;
    if (path.common < 0) {
      path.providerPort = -1;
      path.clientPort = -1;
    }
  }

  private evaluate(provider: number, client: number): Verdict {
    this.findPath(provider, client);
    const { path, decision, topology } = this;
    this.rule.decide(path, decision);
    const explanation = this.rule.explain(path, decision);
    const { code } = REASONS[decision.reason as Reason];
    return {
      provider: topology.bdfOf(provider),
      client: topology.bdfOf(client),
      ruleSet: this.ruleSet.id,
      mapType: MAP_TYPE_NAMES[decision.mapType],
      route: routeOf(decision.mapType, provider === client),
      distance: decision.distance,
      rawDistance: decision.rawDistance,
      reason: code,
      rule: ruleId(this.ruleSet.id, code),
      hop: explanation.hop,
      evidence: explanation.evidence,
      remedies: explanation.remedies,
      assumptions: [...explanation.assumptions, ...this.versionAssumptions],
      text: explanation.text,
    };
  }

  private noSuchClient(provider: Bdf, client: Bdf): Verdict {
    const name = formatBdf(client);
    return {
      provider,
      client,
      ruleSet: this.ruleSet.id,
      mapType: "NOT_SUPPORTED",
      route: "none",
      distance: -1,
      rawDistance: -1,
      reason: "no-such-function",
      rule: ruleId(this.ruleSet.id, "no-such-function"),
      hop: null,
      evidence: [],
      remedies: [
        {
          kind: "other-provider",
          text: "Name a client that is a PCI function: software devices cannot reach peer memory.",
          command: null,
          weakensIsolation: false,
        },
      ],
      assumptions: [],
      text: `${name} is not a PCI function of ${this.topology.machine.name}.`,
    };
  }

  inspect(): Tree {
    return {
      machine: this.topology.machine.name,
      functions: this.topology.count,
      ruleSet: this.ruleSet.id,
      kernel: formatVersion(this.version),
      cachedVerdicts: this.cache.size,
    };
  }
}

/** The machine's kernel where the rule set is for it, else the first kernel that the set is for. */
function versionFor(ruleSet: RuleSet | undefined, own: KernelVersion): KernelVersion {
  if (ruleSet === undefined || ruleSet.since === null) return own;
  return isInForce(own, ruleSet.since, ruleSet.until) ? own : ruleSet.since;
}

function routeOf(mapType: MapType, isSelf: boolean): Route {
  if (mapType === MapType.thruHostBridge) return "host-bridge";
  if (mapType !== MapType.busAddr) return "none";
  return isSelf ? "self" : "bus";
}

/** One pair, without keeping a {@link Rules}. */
export function evaluate(
  topology: Topology,
  ruleSet: RuleSet,
  provider: Bdf,
  client: Bdf,
): Verdict {
  return new Rules(topology, ruleSet).verdict(provider, client);
}

/** All pairs, without keeping a {@link Rules}. */
export function evaluateAll(
  topology: Topology,
  ruleSet: RuleSet,
  out = new VerdictMatrix(topology.count),
): VerdictMatrix {
  return new Rules(topology, ruleSet).matrix(out);
}
