/**
 * One pair, explained: may A reach the memory of B, by which route, why not, what fixes it.
 *
 * Three questions stay apart in every answer: permitted (the rules of a kernel), routable (what PCI
 * Express does with the request, from the fabric), proven (what is known of the root complex). The
 * kernel may refuse what would route, and permit what a root complex corrupts.
 */

import { type Bdf, formatBdf, UsageError } from "../core/index.ts";
import type { RouteReport } from "../fabric/index.ts";
import {
  type IommuMode,
  isUnknown,
  type Machine,
  MachineIndex,
  type PciFunction,
} from "../machine/index.ts";
import {
  cpuFacts,
  LATEST_KERNEL,
  REASONS,
  type Rules,
  type TlpVerdict,
  Topology,
  type Verdict,
} from "../p2p/index.ts";
import { type AcsOnPath, acsOnPath, harmlessText } from "./acs-path.ts";
import {
  type AddressAdvice,
  adviseAddress,
  formFor,
  type ModeEffect,
  modeEffects,
} from "./address.ts";
import { type Bandwidth, bandwidthOf } from "./bandwidth.ts";
import { type Dependence, dependencesOf } from "./dependence.ts";
import { namedFunction } from "./interest.ts";
import {
  type DeviceFact,
  deviceFacts,
  isQemu,
  type Outcome,
  type Proven,
  provenOf,
  type RootComplex,
} from "./knowledge.ts";
import { rulesFor } from "./machine-rules.ts";
import { type Direction, PathProbe, type SharedBar, sharedBar } from "./probe.ts";
import { remediesFor, type VerifiedRemedy } from "./remedies.ts";
import { type GateRemedy, gateRemedies } from "./remedy-gates.ts";

export interface ExplainOptions {
  /** Both when not given. */
  readonly direction?: Direction | "both" | undefined;
  /** Id of a rule set. */
  readonly rules?: string | undefined;
  /** Which BAR of the owner; the largest when not given. */
  readonly bar?: number | undefined;
}

/** One direction: permitted, routable, proven, and how fast it can be. */
export interface DirectionAnswer {
  readonly direction: Direction;
  readonly permitted: TlpVerdict;
  /** Null where there is no address to send a request to. */
  readonly route: RouteReport | null;
  /** Requests or completions pass the root complex. */
  readonly reachesRoot: boolean;
  readonly proven: Proven;
  readonly bandwidth: Bandwidth | null;
}

/** The three questions answered at once, for whoever wants one word. */
export interface Answer {
  /** The kernel's rules allow it. */
  readonly permitted: boolean;
  /** False where something that the dump does not tell would change that. */
  readonly certain: boolean;
  /** Requests and their completions arrive at the memory; null where no address is known. */
  readonly routable: boolean | null;
  /** The worst of the directions. */
  readonly proven: Outcome;
  /** Permitted, not known not to arrive, not known to fail: exit status 0 of the command. */
  readonly usable: boolean;
  /** One sentence. */
  readonly text: string;
}

export interface PairExplanation {
  readonly answer: Answer;
  readonly machine: Machine;
  readonly initiator: PciFunction;
  readonly owner: PciFunction;
  readonly rules: Rules;
  readonly iommu: { readonly mode: IommuMode; readonly isKnown: boolean };
  readonly bar: SharedBar | null;
  /** The worst of the directions asked for. */
  readonly permitted: Verdict;
  readonly directions: readonly DirectionAnswer[];
  /** Null where there is no BAR with an address. */
  readonly address: AddressAdvice | null;
  readonly modes: readonly ModeEffect[];
  readonly acs: readonly AcsOnPath[];
  readonly devices: readonly DeviceFact[];
  readonly remedies: readonly VerifiedRemedy[];
  /** What opens a closed gate on the way: Bus Master Enable, Memory Space Enable. */
  readonly gates: readonly GateRemedy[];
  /** What the dump does not tell and would change the verdict. */
  readonly depends: readonly Dependence[];
  readonly notes: readonly string[];
}

/** Throws `no-such-function` for names that the machine does not have, `no-such-bar`. */
export function explainPair(
  machine: Machine,
  initiator: Bdf,
  owner: Bdf,
  options: ExplainOptions = {},
): PairExplanation {
  const index = new MachineIndex(machine);
  const from = namedFunction(index, initiator);
  const to = namedFunction(index, owner);
  const { rules, notes } = rulesFor(machine, options.rules, new Topology(machine, index));
  const mode = machine.host.iommu ?? "off";
  const bar = sharedBar(to, options.bar);
  if (bar === null && options.bar !== undefined) throw noSuchBar(to, options.bar);
  const probe = bar === null ? null : new PathProbe(index, initiator, owner, bar);
  const asked = directionsOf(options.direction);
  const verdicts = asked.map((direction) => rules.tlpVerdict(owner, initiator, direction));
  const permitted = worstOf(verdicts);
  const complexes = complexesOf(rules, permitted, mode);
  const acs = acsOnPath(index, initiator, owner);
  const judge = (now: Machine, client = initiator, provider = owner): Verdict => {
    const changed = rulesFor(now, options.rules).rules;
    return worstOf(asked.map((direction) => changed.tlpVerdict(provider, client, direction)));
  };
  const question = { index, initiator, owner, verdict: permitted, rules: options.rules, judge };
  const directions = verdicts.map((one) => answer(one, { index, probe, complexes, mode }));
  const depends = dependencesOf(question, acs);
  return {
    answer: answerOf(permitted, directions, depends.length === 0, lackOf(to, bar)),
    machine,
    initiator: from,
    owner: to,
    rules,
    iommu: { mode, isKnown: machine.host.iommu !== null },
    bar,
    permitted,
    directions,
    address: probe === null ? null : adviseAddress(probe, permitted, mode),
    modes: probe === null ? [] : modeEffects(probe, permitted),
    acs,
    devices: [...new Set([...deviceFacts(from), ...deviceFacts(to)])],
    remedies: remediesFor(question),
    gates: probe === null ? [] : gateRemedies(index, probe, permitted, mode),
    depends,
    notes: [...notes, ...harmlessText(acs), ...bridgeNotes(from), ...machineNotes(machine)],
  };
}

const directionsOf = (wanted: ExplainOptions["direction"]): readonly Direction[] =>
  wanted === "write" || wanted === "read" ? [wanted] : ["write", "read"];

const BADNESS: Readonly<Record<Verdict["route"], number>> = {
  none: 3,
  "host-bridge": 2,
  bus: 1,
  self: 0,
};

/** The first of those that are worst. */
function worstOf<V extends Verdict>(verdicts: readonly V[]): V {
  return verdicts.reduce((worst, one) => (BADNESS[one.route] > BADNESS[worst.route] ? one : worst));
}

const WORST_FIRST: readonly Outcome[] = ["corrupts", "drops", "fails", "unknown", "works"];

/** True when what is routed ends in the memory that was meant. */
export const arrives = (route: RouteReport): boolean =>
  route.status === 0 && route.target?.kind === "bar";

function answerOf(
  verdict: Verdict,
  directions: readonly DirectionAnswer[],
  certain: boolean,
  lack: string | null,
): Answer {
  const permitted = verdict.route !== "none";
  const routes = directions.map(({ route }) => route);
  const lost = directions.find(({ route }) => route !== null && !arrives(route)) ?? null;
  const isOut = lost !== null || lack !== null;
  const routable = isOut ? false : routes.includes(null) ? null : true;
  const outcomes = directions.map(({ proven }) => proven.outcome);
  const proven = WORST_FIRST.find((outcome) => outcomes.includes(outcome)) ?? "unknown";
  const isKnownBad = proven !== "works" && proven !== "unknown";
  const usable = permitted && routable !== false && !isKnownBad;
  const facts = { permitted, certain, routable, proven, usable };
  return { ...facts, text: answerText(facts, verdict, lost, lack, directions) };
}

/** What is known to happen, of `writes`, `reads` or both. */
const KNOWN_BAD: Readonly<Record<Outcome, string>> = {
  corrupts: "report success while the data is WRONG",
  drops: "vanish and nobody is told",
  fails: "end in an error",
  unknown: "",
  works: "",
};

function answerText(
  { permitted, routable, proven, usable }: Omit<Answer, "text">,
  verdict: Verdict,
  lost: DirectionAnswer | null,
  lack: string | null,
  directions: readonly DirectionAnswer[],
): string {
  const bad = directions.filter((one) => one.proven.outcome === proven);
  const known = KNOWN_BAD[proven];
  const names = bad.map((one) => `${one.direction}s`).join(" and ");
  const fate = `on ${bad[0]?.proven.fact?.title ?? "this machine"} ${names} ${known}`;
  if (!permitted) {
    const refused = `no: the kernel refuses this pair: ${reasonText(verdict)}`;
    return known === "" ? refused : `${refused}; and ${fate}`;
  }
  if (lack !== null) return `no: the kernel permits it, but ${lack}`;
  if (lost?.route != null) {
    const end = endOf(lost.route);
    return `no: the kernel permits it, but a ${lost.direction} does not arrive (${end})`;
  }
  if (!usable) return `no: the kernel permits it, but ${fate}`;
  if (routable === null) return "permitted; whether it arrives cannot be told from this dump";
  if (proven === "works") return "yes: permitted, routable, proven";
  return (
    "permitted, and routed as far as the root complex, of which nothing is known: " +
    "check the data where it arrives"
  );
}

/** Why there is no memory to reach, where the dump tells so; null where there is, or may be. */
function lackOf(owner: PciFunction, bar: SharedBar | null): string | null {
  if (bar !== null || isUnknown(owner, "bars")) return null;
  const hasMemory = owner.bars.some(({ kind, index }) => kind !== "io" && index < 6);
  const what = hasMemory ? "its memory BARs have no address" : "it has no memory BAR";
  return `there is no memory to reach at ${formatBdf(owner.bdf)}: ${what}`;
}

/** The rule's reason in words, without what explains it. */
export const reasonText = ({ reason, text }: Verdict): string =>
  REASONS.find(({ code }) => code === reason)?.text ?? text;

/** Where a request ended that did not arrive: `unsupported-request at 0000:02:00.0`. */
function endOf({ status, statusName, target, hops }: RouteReport): string {
  if (status === 0) return `it lands in ${target?.kind ?? "nothing"}`;
  const at = hops.at(-1)?.bdf ?? null;
  return at === null ? statusName : `${statusName} at ${formatBdf(at)}`;
}

interface Asked {
  readonly index: MachineIndex;
  readonly probe: PathProbe | null;
  readonly complexes: readonly RootComplex[];
  readonly mode: IommuMode;
}

function answer(permitted: TlpVerdict, asked: Asked): DirectionAnswer {
  const { index, probe, complexes, mode } = asked;
  const { direction } = permitted;
  const route = probe === null ? null : probe.route(mode, formFor(permitted, mode), direction);
  const reachesRoot = route !== null && [...route.hops, ...route.completionHops].some(isAtRoot);
  // What the rules send up is asked of the root complex, even where it is stopped before.
  const isSentUp = permitted.route !== "bus" && permitted.route !== "self";
  return {
    direction,
    permitted,
    route,
    reachesRoot,
    proven: provenOf(complexes, direction, reachesRoot || isSentUp),
    bandwidth: route === null ? null : bandwidthOf(index, route),
  };
}

const isAtRoot = ({ role }: RouteReport["hops"][number]): boolean =>
  role === "root-complex" || role === "iommu";

/** The root complexes at both ends; one where they share it. */
export function complexesOf(rules: Rules, verdict: Verdict, iommu: IommuMode): RootComplex[] {
  const { topology } = rules;
  const ends = [verdict.provider, verdict.client].map((bdf) => topology.find(bdf));
  const roots = new Set(ends.filter((at) => at >= 0).map((at) => topology.rootBus[at]));
  const cpu = cpuFacts(topology, LATEST_KERNEL);
  return [...roots].map((root) => ({
    machine: topology.machine,
    first: topology.rootBuses[root].first,
    iommu,
    cpuVendor: cpu.vendor,
    cpuFamily: cpu.family,
  }));
}

const bridgeNotes = ({ bdf, bridge }: PciFunction): string[] =>
  bridge === null
    ? []
    : [`${formatBdf(bdf)} is a bridge: it issues no DMA of its own; name the device below it`];

function machineNotes(machine: Machine): string[] {
  if (!isQemu(machine)) return [];
  return [
    "this is a virtual machine: its tree is not the host's. Whether peers reach each " +
      "other is decided " +
      "by the host's switches, ACS and IOMMU; explain the host's dump too",
  ];
}

function noSuchBar(fn: PciFunction, wanted: number): UsageError {
  const there = fn.bars.filter(({ kind, address }) => kind !== "io" && address !== 0);
  return new UsageError("no-such-bar", `there is no memory BAR ${wanted} with an address`, {
    remedy: `name one of ${there.map(({ index }) => index).join(", ") || "none: it has no memory"}`,
  });
}
