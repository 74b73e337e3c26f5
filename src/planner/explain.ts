/**
 * One pair, explained: may `initiator` reach the memory of `owner`, by which route, why not, what would
 * fix it. Permitted (the kernel's rules) and routable (what the hardware would do with a request) are
 * answered apart; they differ in both directions, and the difference is what people trip over.
 *
 * Leaves out, for now: what is proven of root complexes, remedies verified on a copy of the machine.
 */

import { type Bdf, formatBdf, hex } from "../core/index.ts";
import { buildFabric, type RouteReport } from "../fabric/index.ts";
import type { IommuMode, Machine } from "../machine/index.ts";
import { type KernelVersion, Rules, ruleSetFor, Topology, type Verdict } from "../p2p/index.ts";

export interface ExplainOptions {
  readonly kernel?: KernelVersion | undefined;
  readonly iommu?: IommuMode | undefined;
}

/** What the hardware would do; `route` is null where there is nothing to send a request to. */
export interface Routable {
  readonly direction: "read" | "write";
  readonly route: RouteReport | null;
  /** Why there is no route to report. */
  readonly unknown: string | null;
}

export interface PairExplanation {
  readonly initiator: Bdf;
  readonly owner: Bdf;
  readonly permitted: Verdict;
  readonly routable: readonly Routable[];
  /** BAR that the requests were sent to; null when the owner has none with an address. */
  readonly bar: { readonly index: number; readonly address: number } | null;
}

/** Throws `no-such-function` for names that the machine does not have. */
export function explainPair(
  machine: Machine,
  initiator: Bdf,
  owner: Bdf,
  options: ExplainOptions = {},
): PairExplanation {
  const topology = new Topology(machine);
  topology.index.requireIndex(initiator);
  const position = topology.index.requireIndex(owner);
  const { kernel } = options;
  const rules = new Rules(topology, kernel === undefined ? undefined : ruleSetFor(kernel), kernel);
  const bar = memoryBar(machine.functions[position]?.bars ?? []);
  const directions = ["write", "read"] as const;
  if (bar === null) {
    const unknown = `${formatBdf(owner)} has no memory BAR with an address in the dump`;
    return {
      initiator,
      owner,
      permitted: rules.verdict(owner, initiator),
      routable: directions.map((direction) => ({ direction, route: null, unknown })),
      bar,
    };
  }
  const fabric = buildFabric(machine, { iommu: options.iommu ?? "off" });
  return {
    initiator,
    owner,
    permitted: rules.verdict(owner, initiator),
    routable: directions.map((direction) => ({
      direction,
      route: fabric.route(initiator, bar.address, direction),
      unknown: null,
    })),
    bar,
  };
}

type Bars = Machine["functions"][number]["bars"];

/** The largest memory BAR with an address: the one that would be shared. */
function memoryBar(bars: Bars): { index: number; address: number } | null {
  const usable = bars.filter(
    ({ kind, address, index }) => kind !== "io" && address !== 0 && index < 6,
  );
  const size = (bar: Bars[number]): number => bar.sizeBytes ?? 0;
  const best = [...usable].sort((a, b) => size(b) - size(a) || a.index - b.index)[0];
  return best === undefined ? null : { index: best.index, address: best.address };
}

/** Plain data for `--json`. */
export function explanationJson(explanation: PairExplanation): Record<string, unknown> {
  const { permitted, routable, bar } = explanation;
  const name = (bdf: Bdf | null): string | null => (bdf === null ? null : formatBdf(bdf));
  return {
    initiator: name(explanation.initiator),
    owner: name(explanation.owner),
    permitted: {
      ...permitted,
      provider: name(permitted.provider),
      client: name(permitted.client),
      hop: name(permitted.hop),
      evidence: permitted.evidence.map((entry) => ({ ...entry, bdf: name(entry.bdf) })),
    },
    bar: bar === null ? null : { index: bar.index, address: hex(bar.address) },
    routable: routable.map(({ direction, route, unknown }) => ({
      direction,
      unknown,
      outcome: route?.statusName ?? null,
      viaRootComplex: route?.viaRootComplex ?? null,
      hops: (route?.hops ?? []).map((hop) => ({
        ...hop,
        bdf: name(hop.bdf),
        address: hex(hop.address),
        link: hop.link === null ? null : { ...hop.link, upper: name(hop.link.upper) },
      })),
    })),
  };
}
