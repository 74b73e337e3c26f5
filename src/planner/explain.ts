/**
 * One pair, explained: may A reach the memory of B, by which route, why not, what fixes it.
 *
 * Three questions stay apart in every answer: permitted (the rules of a kernel), routable (what PCI
 * Express does with the request, from the fabric), proven (what is known of the root complex). The
 * kernel may refuse what would route, and permit what a root complex corrupts.
 */

import { type Bdf, formatBdf, UsageError } from "../core/index.ts";
import type { RouteReport } from "../fabric/index.ts";
import { type IommuMode, type Machine, MachineIndex, type PciFunction } from "../machine/index.ts";
import {
  cpuFacts,
  LATEST_KERNEL,
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
import { type Answer, answerOf, type DirectionAnswer, lackOf } from "./answer.ts";
import { bandwidthOf } from "./bandwidth.ts";
import { type Dependence, dependencesOf } from "./dependence.ts";
import { namedFunction } from "./interest.ts";
import { type IommuState, iommuOf } from "./iommu.ts";
import { type DeviceFact, deviceFacts, isQemu, provenOf, type RootComplex } from "./knowledge.ts";
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

export interface PairExplanation {
  readonly answer: Answer;
  readonly machine: Machine;
  readonly initiator: PciFunction;
  readonly owner: PciFunction;
  readonly rules: Rules;
  readonly iommu: IommuState;
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
  const iommu = iommuOf(machine);
  const { mode } = iommu;
  const bar = sharedBar(to, options.bar);
  if (bar === null && options.bar !== undefined) throw noSuchBar(to, options.bar);
  const probe = bar === null ? null : new PathProbe(index, initiator, owner, bar);
  const asked = directionsOf(options.direction);
  const verdicts = asked.map((direction) => rules.tlpVerdict(owner, initiator, direction));
  const permitted = worstOf(verdicts);
  const complexes = complexesOf(rules, permitted, mode);
  const acs = acsOnPath(index, initiator, owner);
  const judge = (now: Machine, client = initiator, provider = owner): Verdict => {
    // Other facts of the host leave the tree, and so its index, as they were.
    const isSameTree =
      now.functions === machine.functions && now.hostBridges === machine.hostBridges;
    const changed = new Topology(now, isSameTree ? index : undefined);
    const other = rulesFor(now, options.rules, changed).rules;
    return worstOf(asked.map((direction) => other.tlpVerdict(provider, client, direction)));
  };
  const { topology } = rules;
  const question = { topology, initiator, owner, verdict: permitted, rules: options.rules, judge };
  const directions = verdicts.map((one) => answer(one, { index, probe, complexes, mode }));
  const depends = dependencesOf(question, acs);
  return {
    answer: answerOf({
      verdict: permitted,
      directions,
      certain: depends.length === 0,
      lack: lackOf(to, bar),
      form: formFor(permitted, mode),
    }),
    machine,
    initiator: from,
    owner: to,
    rules,
    iommu,
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
