/**
 * What the dump does not tell, where it would change the verdict: each unknown is set to what would
 * matter, on a copy, and only those that change the answer are named. A verdict that one of them
 * changes is no certain one, and says so itself.
 */

import { formatBdf } from "../core/index.ts";
import { isUnknown, type Machine, type PciFunction, setHost } from "../machine/index.ts";
import {
  ACS_REDIRECT,
  type Rules,
  Topology,
  type Verdict,
  type VerdictMatrix,
} from "../p2p/index.ts";
import type { AcsOnPath } from "./acs-path.ts";
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
 * The machines that `machine` could be, as far as the rules would tell them from it. `redirecting`:
 * the functions whose ACS is not known and matters.
 */
export function alternativesOf(machine: Machine, redirecting: readonly PciFunction[]) {
  const found: Alternative[] = [];
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
    const names = redirecting.slice(0, NAMES_MAX).map(({ bdf }) => formatBdf(bdf));
    const more = redirecting.length - names.length;
    const rest = more > 0 ? ` and ${more} more` : "";
    found.push({
      machine: withRedirect(machine, new Set(redirecting)),
      text: `ACS of ${names.join(", ")}${rest} is not in the dump; if RR is set there`,
      remedy: AS_ROOT,
    });
  }
  return found;
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
  const { index, initiator, owner, verdict, judge } = question;
  const { machine } = index;
  const unknown = acs
    .filter(({ control }) => control === null)
    .map(({ bdf }) => machine.functions[index.requireIndex(bdf)]);
  const found = alternativesOf(machine, unknown).flatMap(({ machine: other, text, remedy }) => {
    const after = judge(other);
    return after.route === verdict.route ? [] : [{ text: `${text}: ${describe(after)}`, remedy }];
  });
  const misplaced = [initiator, owner].filter((bdf) => isMisplaced(question, bdf));
  if (misplaced.length > 0) {
    const names = misplaced.map(formatBdf).join(", ");
    found.push({
      text: `no bridge in the dump leads to ${names}: the place in the tree is not known`,
      remedy: "give a dump of the whole machine: lspci -vvv -xxxx",
    });
  }
  return found;
}

function isMisplaced({ index }: RemedyQuestion, bdf: RemedyQuestion["owner"]): boolean {
  const top = index.functions[index.topOf(index.requireIndex(bdf))];
  return isUnknown(top, "parent");
}

/**
 * 1 for each ordered pair of those `shown` whose route another machine that the dump could be of
 * would change.
 */
export function uncertainPairs(
  machine: Machine,
  rules: Rules,
  matrix: VerdictMatrix,
  shown: readonly number[],
): { readonly pairs: Uint8Array; readonly why: readonly Alternative[] } {
  const pairs = new Uint8Array(matrix.mapType.length);
  const why: Alternative[] = [];
  for (const other of alternativesOf(machine, bridgesWithUnknownAcs(machine))) {
    const judged = rules.over(new Topology(other.machine)).matrix();
    let count = 0;
    for (const provider of shown) {
      for (const client of shown) {
        const at = matrix.at(provider, client);
        if (judged.mapType[at] === matrix.mapType[at]) continue;
        pairs[at] = 1;
        count++;
      }
    }
    if (count > 0) why.push(other);
  }
  return { pairs, why };
}

const describe = (verdict: Verdict): string =>
  verdict.route === "none" ? "NOT_SUPPORTED" : `${verdict.mapType}, distance ${verdict.distance}`;

/** As a port that has ACS and redirects, for the rules alone: no configuration space is made. */
function withRedirect(machine: Machine, ports: ReadonlySet<PciFunction>): Machine {
  const acs = { offset: 0x100, capabilities: 0x5f, control: ACS_REDIRECT, egressVector: null };
  const functions = machine.functions.map((fn) => (ports.has(fn) ? { ...fn, acs } : fn));
  return { ...machine, functions };
}
