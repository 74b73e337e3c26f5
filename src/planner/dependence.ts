/**
 * What the dump does not tell, where it would change the verdict: each unknown is set to what would
 * matter, on a copy, and only those that change the answer are named. A verdict that one of them
 * changes is no certain one, and says so itself.
 */

import { type Bdf, formatBdf, formatDeviceId } from "../core/index.ts";
import {
  isUnknown,
  type Machine,
  type MachineIndex,
  type PciFunction,
  setHost,
} from "../machine/index.ts";
import {
  ACS_REDIRECT,
  findHostBridge,
  formatVersion,
  HOST_BRIDGE_LIST,
  LATEST_KERNEL,
  parseKernelVersion,
  type Rules,
  Topology,
  type Verdict,
  type VerdictMatrix,
} from "../p2p/index.ts";
import type { AcsOnPath } from "./acs-path.ts";
import { type HostBridgeIds, unknownHostBridges, withHostBridge } from "./host-bridge.ts";
import { type OtherKernel, otherKernels } from "./kernels.ts";
import { isQemu } from "./knowledge.ts";
import type { RemedyQuestion } from "./remedies.ts";

export interface Dependence {
  /** What is unknown, and what the verdict would be. */
  readonly text: string;
  /** How to find out. */
  readonly remedy: string;
}

/** A machine that the dump could be of as well. */
export interface Alternative {
  readonly machine: Machine;
  /** `the CPU is not in the dump; if it is AMD family 17h or later`. */
  readonly text: string;
  readonly remedy: string;
}

/** Zen: the kernel's CPU rule. */
const AMD = { cpuVendor: "AuthenticAMD", cpuFamily: 0x17 };
const AS_ROOT = "take the dump as root: lspci -vvv -xxxx";

/**
 * The machines that this one could be, as far as the rules would tell them from it. `redirecting`:
 * the functions whose ACS is not known and matters.
 */
export function alternativesOf(topology: Topology, redirecting: readonly PciFunction[]) {
  const found: Alternative[] = [];
  const { machine } = topology;
  const { cpuVendor, cpuFamily, architecture } = machine.host;
  const isUnknownCpu =
    (cpuVendor === null && !hasIntelChipset(machine)) ||
    (cpuVendor === AMD.cpuVendor && cpuFamily === null);
  if (isUnknownCpu && (architecture === null || /^(x86|i.86|amd64)/i.test(architecture))) {
    found.push({
      machine: setHost(machine, AMD),
      text: "the CPU is not in the dump; if it is AMD family 17h or later",
      remedy: "add /proc/cpuinfo beside the dump, or give --cpu AuthenticAMD:23",
    });
  }
  if (redirecting.length > 0) {
    const names = namesOf(redirecting.map(({ bdf }) => bdf));
    found.push({
      machine: withRedirect(machine, new Set(redirecting)),
      text: `ACS of ${names} is not in the dump; if RR is set there`,
      remedy: AS_ROOT,
    });
  }
  const bridges = unknownHostBridges(topology);
  const ids = listedIds(machine);
  if (bridges.length > 0 && ids !== null) {
    const [first] = bridges.map(formatBdf);
    const example = `${first}=${formatDeviceId(ids.vendorId, ids.deviceId)}`;
    found.push({
      machine: bridges.reduce((now, bdf) => withHostBridge(now, bdf, ids), machine),
      text: `which host bridge ${namesOf(bridges)} is, is not in the dump; if Linux lists it`,
      remedy: `add \`lspci -nn\` of the machine, or give --set-id, as ${example}`,
    });
  }
  return found;
}

const namesOf = (bdfs: readonly Bdf[]): string => {
  const more = bdfs.length - NAMES_MAX;
  const names = bdfs.slice(0, NAMES_MAX).map(formatBdf).join(", ");
  return more > 0 ? `${names} and ${more} more` : names;
};

/** A host bridge that the kernel of this machine lets pass everything; null when it has none. */
function listedIds({ host }: Machine): HostBridgeIds | null {
  const kernel = parseKernelVersion(host.kernelVersion) ?? LATEST_KERNEL;
  const found = HOST_BRIDGE_LIST.find(
    ({ vendor, device, sameHostBridge }) =>
      !sameHostBridge && findHostBridge(vendor, device, kernel) !== null,
  );
  return found === undefined ? null : { vendorId: found.vendor, deviceId: found.device };
}

const INTEL = 0x8086;

/** Then the CPU is Intel's too, unless the chipset is one that QEMU emulates. */
function hasIntelChipset(machine: Machine): boolean {
  return machine.functions[0]?.vendorId === INTEL && !isQemu(machine);
}

const NAMES_MAX = 8;

/** Bridges whose ACS the dump does not tell: those that stand between any two functions. */
export const bridgesWithUnknownAcs = ({ functions }: Machine): PciFunction[] =>
  functions.filter((fn) => fn.bridge !== null && fn.acs === null && isUnknown(fn, "acs"));

export function dependencesOf(question: RemedyQuestion, acs: readonly AcsOnPath[]): Dependence[] {
  const { topology, initiator, owner, verdict, judge } = question;
  const { machine, index } = topology;
  const unknown = acs
    .filter(({ control }) => control === null)
    .map(({ bdf }) => machine.functions[index.requireIndex(bdf)]);
  const found = alternativesOf(topology, unknown).flatMap(({ machine: other, text, remedy }) => {
    const after = judge(other);
    return after.route === verdict.route ? [] : [{ text: `${text}: ${describe(after)}`, remedy }];
  });
  const kernel = kernelsUnlessKnown(topology, question.rules).find(
    ({ rules }) => rules.verdict(owner, initiator).route !== verdict.route,
  );
  if (kernel !== undefined) {
    const after = describe(kernel.rules.verdict(owner, initiator));
    found.push({ text: `${kernelText(kernel)}: ${after}`, remedy: NAME_KERNEL });
  }
  const misplaced = [initiator, owner].filter((bdf) => isMisplaced(index, bdf));
  if (misplaced.length > 0) {
    const names = namesOf(misplaced);
    found.push({ text: misplacedText(names), remedy: NAME_PLACE });
  }
  return found;
}

const NAME_KERNEL = "add `uname -a` beside the dump, or give --kernel";
const kernelText = ({ until }: OtherKernel): string =>
  `the kernel version is not in the dump; before Linux ${formatVersion(until)}`;

/** `id`: of a rule set that was asked for; then the kernel's number decides nothing. */
function kernelsUnlessKnown(topology: Topology, id: string | undefined): readonly OtherKernel[] {
  const isKnown = parseKernelVersion(topology.machine.host.kernelVersion) !== null;
  return isKnown || id !== undefined ? [] : otherKernels(topology);
}

const NAME_PLACE = "give a dump of the whole machine: lspci -vvv -xxxx";
const misplacedText = (names: string): string =>
  `no bridge in the dump leads to ${names}: their place in the tree is not known`;

function isMisplaced(index: MachineIndex, bdf: Bdf): boolean {
  const top = index.functions[index.topOf(index.requireIndex(bdf))];
  return isUnknown(top, "parent");
}

/** Why a mark stands in a matrix. */
export type Doubt = Omit<Alternative, "machine">;

/**
 * 1 for each ordered pair of those `shown` whose route another machine that the dump could be of
 * would change. `id`: of a rule set that was asked for.
 */
export function uncertainPairs(
  rules: Rules,
  matrix: VerdictMatrix,
  shown: readonly number[],
  id?: string,
): { readonly pairs: Uint8Array; readonly why: readonly Doubt[] } {
  const { topology } = rules;
  const { machine } = topology;
  const pairs = new Uint8Array(matrix.mapType.length);
  const why: Doubt[] = [];
  const isElsewhere = (other: Rules): boolean => markChanged(pairs, matrix, shown, rules, other);
  for (const { machine: other, ...doubt } of alternativesOf(
    topology,
    bridgesWithUnknownAcs(machine),
  )) {
    if (isElsewhere(rules.over(new Topology(other)))) why.push(otherwise(doubt));
  }
  // Every older kernel has its marks; the newest of them is the one to name.
  const kernels = kernelsUnlessKnown(topology, id).filter((other) => isElsewhere(other.rules));
  if (kernels.length > 0) {
    why.push(otherwise({ text: kernelText(kernels[0]), remedy: NAME_KERNEL }));
  }
  const { index, functions } = topology;
  const misplaced = shown.filter((at) => isMisplaced(index, functions[at].bdf));
  if (misplaced.length > 0) {
    why.push({
      text: misplacedText(namesOf(misplaced.map((at) => functions[at].bdf))),
      remedy: NAME_PLACE,
    });
  }
  for (const one of misplaced) {
    for (const other of shown) {
      if (one === other) continue;
      pairs[matrix.at(one, other)] = 1;
      pairs[matrix.at(other, one)] = 1;
    }
  }
  return { pairs, why };
}

const otherwise = ({ text, remedy }: Doubt): Doubt => ({
  text: `${text}, it would be otherwise`,
  remedy,
});

/** Marks the pairs that `other` judges otherwise; true when there is one. */
function markChanged(
  pairs: Uint8Array,
  matrix: VerdictMatrix,
  shown: readonly number[],
  { topology }: Rules,
  other: Rules,
): boolean {
  // The other machine may have a function more.
  const places = shown.map((at) => other.topology.at(topology.bdfOf(at)));
  const isAll = places.length === other.topology.count;
  const judged = isAll ? other.matrix() : null;
  let hasChanged = false;
  shown.forEach((provider, i) => {
    shown.forEach((client, j) => {
      const [a, b] = [places[i], places[j]];
      const now = judged === null ? other.mapType(a, b) : judged.mapType[judged.at(a, b)];
      const at = matrix.at(provider, client);
      if (now === matrix.mapType[at]) return;
      pairs[at] = 1;
      hasChanged = true;
    });
  });
  return hasChanged;
}

const describe = (verdict: Verdict): string =>
  verdict.route === "none" ? "NOT_SUPPORTED" : `${verdict.mapType}, distance ${verdict.distance}`;

/** As a port that has ACS and redirects, for the rules alone: no configuration space is made. */
function withRedirect(machine: Machine, ports: ReadonlySet<PciFunction>): Machine {
  const acs = { offset: 0x100, capabilities: 0x5f, control: ACS_REDIRECT, egressVector: null };
  const functions = machine.functions.map((fn) => (ports.has(fn) ? { ...fn, acs } : fn));
  return { ...machine, functions };
}
