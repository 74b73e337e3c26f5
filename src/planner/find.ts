/**
 * Which memory a set of clients should use: every candidate provider ranked as the registry of p2p
 * ranks them (direct first, then the narrowest link, then distance, then name), with why each other
 * lost; or chosen as Linux does, by distance alone, ties drawn by a seed.
 *
 * Candidates: what the caller names; else what the kernel publishes (p2pmem); else functions that
 * could be one: NVMe with a memory BAR beside its registers, GPUs, accelerators with at least 1
 * MiB.
 */

import { type Bdf, busAddr, PAGE_SIZE, Prng, physAddr } from "../core/index.ts";
import { deviceKind, type Machine, type PciFunction } from "../machine/index.ts";
import { Provider, ProviderRegistry, type Rules, type Verdict } from "../p2p/index.ts";
import { uncertainPairs } from "./dependence.ts";
import { namedFunction } from "./interest.ts";
import { rulesFor } from "./machine-rules.ts";
import { sharedBar } from "./probe.ts";

export interface FindOptions {
  /** Candidates; chosen from the machine when not given. */
  readonly providers?: readonly Bdf[] | undefined;
  readonly rules?: string | undefined;
  /** Chooses as Linux does, with ties drawn from this seed. */
  readonly likeLinuxSeed?: number | undefined;
}

export interface FoundCandidate {
  readonly fn: PciFunction;
  /** Bytes that it can offer; null when the dump does not tell. */
  readonly memoryBytes: number | null;
  readonly direct: boolean;
  /** Sum over the clients; -1 when one is refused. */
  readonly distance: number;
  /** Bytes per second; Infinity where no link limits that is known. */
  readonly bandwidth: number;
  /** Null for the chosen one. */
  readonly lost: string | null;
  readonly verdicts: readonly Verdict[];
}

export interface FindReport {
  readonly machine: Machine;
  readonly rules: Rules;
  readonly clients: readonly PciFunction[];
  readonly candidates: readonly FoundCandidate[];
  readonly chosen: Bdf | null;
  /** How the candidates were found. */
  readonly source: "given" | "published" | "has-memory";
  /** Chosen as Linux does: those that it draws from. */
  readonly ties: readonly Bdf[] | null;
  readonly notes: readonly string[];
}

/** Throws `no-such-function` for names that the machine does not have. */
export function findProvider(
  machine: Machine,
  clients: readonly Bdf[],
  options: FindOptions = {},
): FindReport {
  const { rules, notes } = rulesFor(machine, options.rules);
  const { topology } = rules;
  const functionAt = (bdf: Bdf): PciFunction => namedFunction(topology.index, bdf);
  const clientFunctions = clients.map(functionAt);
  const { source, functions } = candidatesOf(machine, options.providers?.map(functionAt));
  const registry = new ProviderRegistry(rules);
  for (const fn of functions) registry.publish(planned(fn));
  const { provider, candidates } = registry.find(clients);
  const linux =
    options.likeLinuxSeed === undefined
      ? null
      : asLinux(registry, clients, new Prng(options.likeLinuxSeed));
  const chosen = linux === null ? (provider?.owner ?? null) : linux.chosen;
  return {
    machine,
    rules,
    clients: clientFunctions,
    candidates: candidates.map(({ provider: one, direct, distance, bandwidth, lost }) => ({
      fn: functionAt(one.owner),
      memoryBytes: memoryOf(functionAt(one.owner)),
      direct,
      distance,
      bandwidth,
      lost: linux === null || distance < 0 ? lost : linux.lost(one.owner, distance),
      verdicts: clients.map((client) => rules.verdict(one.owner, client)),
    })),
    chosen,
    source,
    ties: linux?.ties ?? null,
    notes: [
      ...notes,
      ...doubtNotes(rules, clientFunctions, functions, options.rules),
      ...sourceNotes(source, linux !== null),
    ],
  };
}

/** What the dump does not tell and would change the route of a client to a candidate. */
function doubtNotes(
  rules: Rules,
  clients: readonly PciFunction[],
  candidates: readonly PciFunction[],
  id: string | undefined,
): string[] {
  const { topology } = rules;
  const placesOf = (of: readonly PciFunction[]): number[] => of.map(({ bdf }) => topology.at(bdf));
  const [from, to] = [placesOf(clients), placesOf(candidates)];
  const matrix = rules.matrix();
  const { pairs, why } = uncertainPairs(rules, matrix, [...new Set([...from, ...to])], id);
  const isDoubtful = to.some((one) => from.some((other) => pairs[matrix.at(one, other)] === 1));
  return isDoubtful ? why.map(({ text, remedy }) => `uncertain: ${text}; ${remedy}`) : [];
}

interface LinuxChoice {
  readonly chosen: Bdf | null;
  readonly ties: readonly Bdf[];
  lost(owner: Bdf, distance: number): string | null;
}

/** The closest, and one of them drawn. */
function asLinux(registry: ProviderRegistry, clients: readonly Bdf[], prng: Prng): LinuxChoice {
  const chosen = registry.findLikeLinux(clients, prng)?.owner ?? null;
  const distances = registry
    .providers()
    .map((provider) => ({ provider, distance: registry.distanceMany(provider, clients) }))
    .filter(({ distance }) => distance >= 0);
  const closest = Math.min(...distances.map(({ distance }) => distance));
  const ties = distances
    .filter(({ distance }) => distance === closest)
    .map(({ provider }) => provider.owner);
  return {
    chosen,
    ties,
    lost: (owner, distance) => {
      if (owner === chosen) return null;
      return distance === closest
        ? `distance ${distance} as well: the kernel draws one of ${ties.length} at random`
        : `distance ${distance}, against ${closest}`;
    },
  };
}

function candidatesOf(
  machine: Machine,
  given: readonly PciFunction[] | undefined,
): Pick<FindReport, "source"> & { readonly functions: readonly PciFunction[] } {
  if (given !== undefined) return { source: "given", functions: given };
  const published = machine.functions.filter(({ p2pmem }) => p2pmem?.published === true);
  if (published.length > 0) return { source: "published", functions: published };
  return { source: "has-memory", functions: machine.functions.filter(couldProvide) };
}

const MEMORY_MIN_BYTES = 2 ** 20;

/** Memory that is not registers: of NICs a BAR is doorbells, of NVMe BAR 0 is the controller. */
function couldProvide(fn: PciFunction): boolean {
  const kind = deviceKind(fn);
  const isVirtual = fn.physicalFunction !== null;
  if (isVirtual || (kind !== "nvme" && kind !== "gpu" && kind !== "accelerator")) return false;
  return fn.bars.some(
    ({ index, kind: space, sizeBytes }) =>
      space !== "io" && index < 6 && (kind !== "nvme" || index > 1) && isLarge(sizeBytes),
  );
}

const isLarge = (bytes: number | null): boolean => bytes === null || bytes >= MEMORY_MIN_BYTES;

const memoryOf = (fn: PciFunction): number | null =>
  fn.p2pmem?.sizeBytes ?? sharedBar(fn)?.sizeBytes ?? null;

/** A provider for ranking: where it is matters, not how much it has. */
function planned(fn: PciFunction): Provider {
  const bar = sharedBar(fn);
  const address = (bar?.address ?? 0) - ((bar?.address ?? 0) % PAGE_SIZE);
  return new Provider({
    owner: fn.bdf,
    bar: bar?.index ?? 0,
    barOffset: 0,
    phys: physAddr(address),
    bus: busAddr(address),
    sizeBytes: PAGE_SIZE,
  });
}

function sourceNotes(source: FindReport["source"], likeLinux: boolean): string[] {
  if (source !== "has-memory") return [];
  const what =
    "the dump tells no published peer memory (p2pmem): candidates are functions with " +
    "a memory BAR " +
    "that could be one (NVMe beside BAR 0, GPU, accelerator)";
  return likeLinux ? [`${what}; Linux chooses among published ones only`] : [what];
}
