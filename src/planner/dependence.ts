/**
 * What the dump does not tell, where it would change the verdict: each unknown is set to what would
 * matter, on a copy, and only those that change the answer are named.
 */

import { formatBdf } from "../core/index.ts";
import { editFunction, type Machine, setHost } from "../machine/index.ts";
import { ACS_REDIRECT, type Verdict } from "../p2p/index.ts";
import type { AcsOnPath } from "./acs-path.ts";
import type { RemedyQuestion } from "./remedies.ts";

export interface Dependence {
  /** What is unknown, and what the verdict would be. */
  readonly text: string;
  /** How to find out. */
  readonly remedy: string;
}

/** Zen: the kernel's CPU rule. */
const AMD = { cpuVendor: "AuthenticAMD", cpuFamily: 0x17 };

export function dependencesOf(question: RemedyQuestion, acs: readonly AcsOnPath[]): Dependence[] {
  const { index, verdict, judge } = question;
  const { machine } = index;
  const found: Dependence[] = [];
  const { cpuVendor, cpuFamily, architecture } = machine.host;
  const isUnknownCpu = cpuVendor === null || (cpuVendor === AMD.cpuVendor && cpuFamily === null);
  if (isUnknownCpu && (architecture === null || /^(x86|i.86|amd64)/i.test(architecture))) {
    const after = judge(setHost(machine, AMD));
    if (differs(after, verdict)) {
      found.push({
        text: `the CPU is not in the dump; if it is AMD family 17h or later: ${describe(after)}`,
        remedy: "add /proc/cpuinfo beside the dump, or give --cpu AuthenticAMD:23",
      });
    }
  }
  const unknown = acs.filter(({ control }) => control === null);
  if (unknown.length === 0) return found;
  const after = judge(unknown.reduce(withRedirect, machine));
  if (differs(after, verdict)) {
    const names = unknown.map(({ bdf }) => formatBdf(bdf)).join(", ");
    found.push({
      text: `ACS of ${names} is not in the dump; if RR is set there: ${describe(after)}`,
      remedy: "take the dump as root: lspci -vvv -xxxx",
    });
  }
  return found;
}

const differs = (a: Verdict, b: Verdict): boolean => a.route !== b.route;

const describe = (verdict: Verdict): string =>
  verdict.route === "none" ? "NOT_SUPPORTED" : `${verdict.mapType}, distance ${verdict.distance}`;

const withRedirect = (machine: Machine, { bdf }: AcsOnPath): Machine =>
  editFunction(machine, bdf, (fn) => ({
    ...fn,
    acs: { offset: 0x100, capabilities: 0x5f, control: ACS_REDIRECT, egressVector: null },
  }));
