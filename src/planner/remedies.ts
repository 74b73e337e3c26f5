/**
 * What fixes a "no", or makes a detour direct: candidates, each with the line to paste, each
 * applied to a copy of the machine and judged again. Only those whose verdict changed are given,
 * ranked by how little they change: a register until the next reset, bits of a boot parameter, a
 * newer kernel, a slot, the whole IOMMU, firmware.
 *
 * Where no single change helps, two together are tried: a slot or a kernel, and with it ACS or a
 * kernel.
 *
 * Invariant: nothing is shown that was not verified. Leaves out: three changes at once.
 */

import { type Bdf, formatBdf, hex, hexDigits, PeerlaneError } from "../core/index.ts";
import { type Machine, type MachineIndex, setAcsControl, setHost } from "../machine/index.ts";
import {
  ACS_CONTROL_OFFSET,
  ACS_REDIRECT,
  compareVersions,
  formatVersion,
  type KernelVersion,
  LATEST_KERNEL,
  parseKernelVersion,
  type Remedy,
  Rules,
  ruleSetFor,
  Topology,
  type Verdict,
} from "../p2p/index.ts";
import { type AcsOnPath, acsOnPath } from "./acs-path.ts";
import { changesOfRules } from "./kernels.ts";
import { formatLinkCapability, type Move, movesOf } from "./remedy-moves.ts";

/** A remedy, and the verdict with it. */
export interface VerifiedRemedy extends Omit<Remedy, "kind"> {
  readonly kind: RemedyKind;
  /** What it costs, beside isolation; null when nothing. */
  readonly caution: string | null;
  readonly after: Pick<Verdict, "mapType" | "route" | "distance">;
}

/** In the order of how much they change. */
export const REMEDY_KINDS = [
  "register-write",
  "config-acs",
  "disable-acs-redir",
  "kernel-version",
  "move-slot",
  "iommu-off",
  "firmware",
  "two-changes",
] as const;
export type RemedyKind = (typeof REMEDY_KINDS)[number];

/** What is tried. */
interface Candidate {
  readonly kind: RemedyKind;
  readonly text: string;
  readonly command: string | null;
  readonly weakensIsolation: boolean;
  readonly caution: string | null;
  judge(): Verdict;
}

/** The pair, and how it is judged. */
export interface RemedyQuestion {
  readonly topology: Topology;
  readonly initiator: Bdf;
  readonly owner: Bdf;
  readonly verdict: Verdict;
  /** Id of a rule set that was asked for; else the kernel decides. */
  readonly rules?: string | undefined;
  judge(machine: Machine, initiator?: Bdf, owner?: Bdf): Verdict;
}

/** `config_acs` came with 6.11 (commit 47c8846a49ba). */
const CONFIG_ACS_SINCE: KernelVersion = { major: 6, minor: 11 };
/** Until then several devices in one ACS parameter were misread (commit 9cf8a952d57b). */
const ACS_LISTS_WORK_SINCE: KernelVersion = { major: 6, minor: 15 };

/**
 * Remedies for a refused pair; for a pair that is allowed through the host bridge, what makes it
 * direct. Empty for a direct one.
 */
export function remediesFor(question: RemedyQuestion): VerifiedRemedy[] {
  const { verdict } = question;
  if (verdict.route === "bus" || verdict.route === "self") return [];
  const isBetter = (after: Verdict): boolean =>
    verdict.route === "none" ? after.route !== "none" : after.route === "bus";
  const candidates = [
    ...acsCandidates(question, isBetter),
    ...kernelCandidates(question),
    ...moveCandidates(question),
    ...wholeMachine(question),
  ];
  const verified = verify(candidates, isBetter);
  if (verified.length > 0 || verdict.route !== "none") return verified;
  return verify(twoChanges(question, isBetter), isBetter);
}

/** Those that help, in order of how much they change. */
function verify(
  candidates: readonly Candidate[],
  isBetter: (after: Verdict) => boolean,
): VerifiedRemedy[] {
  const verified: VerifiedRemedy[] = [];
  for (const { judge, ...candidate } of candidates) {
    const after = attempt(judge);
    if (after === null || !isBetter(after)) continue;
    const { mapType, route, distance } = after;
    verified.push({ ...candidate, after: { mapType, route, distance } });
  }
  return verified.sort((a, b) => REMEDY_KINDS.indexOf(a.kind) - REMEDY_KINDS.indexOf(b.kind));
}

/** A candidate that cannot be applied is none. */
function attempt<T>(judge: () => T): T | null {
  try {
    return judge();
  } catch (error) {
    if (error instanceof PeerlaneError) return null;
    throw error;
  }
}

/** A port and the bits to be cleared there. */
interface Clearing {
  readonly bdf: Bdf;
  readonly bits: number;
}

function cleared(machine: Machine, clearings: readonly Clearing[]): Machine {
  return clearings.reduce((now, { bdf, bits }) => {
    const control = now.functions.find((fn) => fn.bdf === bdf)?.acs?.control ?? 0;
    return setAcsControl(now, bdf, control & ~bits);
  }, machine);
}

/**
 * The fewest bits on the fewest ports whose clearing helps: from all that redirect on the path,
 * each port and then each bit is left out that the rule does not ask for.
 */
function fewestBits(
  question: RemedyQuestion,
  isBetter: (after: Verdict) => boolean,
): readonly Clearing[] {
  const { initiator, owner } = question;
  const { index } = question.topology;
  const helps = (clearings: readonly Clearing[]): boolean =>
    isBetter(question.judge(cleared(index.machine, clearings)));
  let chosen: Clearing[] = acsOnPath(index, initiator, owner)
    .filter(({ control }) => ((control ?? 0) & ACS_REDIRECT) !== 0)
    .map(({ bdf, control }: AcsOnPath) => ({ bdf, bits: (control as number) & ACS_REDIRECT }));
  if (chosen.length === 0 || !helps(chosen)) return [];
  for (const { bdf } of chosen) {
    const fewer = chosen.filter((one) => one.bdf !== bdf);
    if (fewer.length > 0 && helps(fewer)) chosen = fewer;
  }
  for (const { bdf, bits } of chosen) {
    for (let bit = 1; bit <= ACS_REDIRECT; bit *= 2) {
      if ((bits & bit) === 0) continue;
      const fewer = chosen.map((one) => (one.bdf === bdf ? { bdf, bits: one.bits & ~bit } : one));
      if (fewer.every((one) => one.bits !== 0) && helps(fewer)) chosen = fewer;
    }
  }
  return chosen;
}

/** `setpci -s 02:00.0 ECAP_ACS+0x6.w=0000:000c`: value and mask, so that other bits stay. */
export function setpciAcs(bdf: Bdf, bits: number): string {
  const mask = hexDigits(bits, 4);
  return `setpci -s ${formatBdf(bdf)} ECAP_ACS+${hex(ACS_CONTROL_OFFSET)}.w=0000:${mask}`;
}

/** `xxx00xx@0000:02:00.0`: bit 6 first; Documentation/admin-guide/kernel-parameters.txt. */
export function configAcsEntry(bdf: Bdf, bits: number): string {
  let flags = "";
  for (let bit = 6; bit >= 0; bit--) flags += (bits & (1 << bit)) === 0 ? "x" : "0";
  return `${flags}@${formatBdf(bdf)}`;
}

function acsCandidates(
  question: RemedyQuestion,
  isBetter: (after: Verdict) => boolean,
): Candidate[] {
  const { machine } = question.topology;
  const clearings = fewestBits(question, isBetter);
  if (clearings.length === 0) return [];
  const names = clearings.map(({ bdf }) => formatBdf(bdf)).join(", ");
  const judge = (): Verdict => question.judge(cleared(machine, clearings));
  const known = parseKernelVersion(machine.host.kernelVersion);
  const version = known ?? LATEST_KERNEL;
  // What the dump does not tell, the reader must check.
  const since = known === null ? " (Linux 6.11 and later know this parameter)" : "";
  const listsWork =
    clearings.length === 1 ||
    compareVersions(version, CONFIG_ACS_SINCE) < 0 ||
    compareVersions(version, ACS_LISTS_WORK_SINCE) >= 0;
  const lists = listsWork
    ? ""
    : `; Linux 6.11 to 6.14 misread lists of several ports (fixed in 6.15 and stable releases)`;
  const atBoot = `devices below it share an IOMMU group from then on${lists}`;
  const candidates: Candidate[] = [
    {
      kind: "register-write",
      text: `Clear ${bitNames(clearings)} at ${names} now; it lasts until the next reset.`,
      command: clearings.map(({ bdf, bits }) => setpciAcs(bdf, bits)).join(" && "),
      weakensIsolation: true,
      caution: "IOMMU groups stay as they are, although what they promise no longer holds",
      judge,
    },
  ];
  if (compareVersions(version, CONFIG_ACS_SINCE) >= 0) {
    const entries = clearings.map(({ bdf, bits }) => configAcsEntry(bdf, bits)).join(";");
    candidates.push({
      kind: "config-acs",
      text: `Boot with ${bitNames(clearings)} off at ${names}, all other bits as they are${since}.`,
      command: `pci=config_acs=${entries}`,
      weakensIsolation: true,
      caution: atBoot,
      judge,
    });
  }
  candidates.push({
    kind: "disable-acs-redir",
    text: `Boot with RR, CR and EC off at ${names}.`,
    command: `pci=disable_acs_redir=${clearings.map(({ bdf }) => formatBdf(bdf)).join(";")}`,
    weakensIsolation: true,
    caution: atBoot,
    judge: () =>
      question.judge(
        cleared(
          machine,
          clearings.map(({ bdf }) => ({ bdf, bits: ACS_REDIRECT })),
        ),
      ),
  });
  return candidates;
}

function bitNames(clearings: readonly Clearing[]): string {
  const bits = clearings.reduce((all, one) => all | one.bits, 0);
  const names = [
    [0x04, "RR"],
    [0x08, "CR"],
    [0x20, "EC"],
  ] as const;
  return names
    .filter(([bit]) => (bits & bit) !== 0)
    .map(([, name]) => name)
    .join(", ");
}

/** The first later kernel whose rules allow it. */
function kernelCandidates({ topology, initiator, owner, rules }: RemedyQuestion): Candidate[] {
  const now = parseKernelVersion(topology.machine.host.kernelVersion);
  if (rules !== undefined || now === null) return [];
  const later = changesOfRules().filter((version) => compareVersions(version, now) > 0);
  const judge = (version: KernelVersion): Verdict =>
    new Rules(topology, ruleSetFor(version), version).verdict(owner, initiator);
  const first = later.find((version) => attempt(() => judge(version))?.route !== "none");
  if (first === undefined) return [];
  const isReleased = compareVersions(first, LATEST_KERNEL) <= 0;
  return [
    {
      kind: "kernel-version",
      text: `Run Linux ${formatVersion(first)} or later, whose rules allow this pair.`,
      command: null,
      weakensIsolation: false,
      caution: isReleased ? null : "it is not released yet",
      judge: () => judge(first),
    },
  ];
}

const moveText = (index: MachineIndex, { card, port, beside }: Move): string =>
  `Move ${formatBdf(card)} to the free port ${formatBdf(port)}` +
  `${formatLinkCapability(index, port)}, beside ${formatBdf(beside)}.`;

function moveCandidates(question: RemedyQuestion): Candidate[] {
  const { index } = question.topology;
  return movesOf(index, question.initiator, question.owner).map((move) => ({
    kind: "move-slot",
    text: moveText(index, move),
    command: null,
    weakensIsolation: false,
    caution: null,
    judge: () => {
      const { machine, nameOf } = move.apply();
      return question.judge(machine, nameOf(question.initiator), nameOf(question.owner));
    },
  }));
}

/** A change that does not help alone, and the question after it. */
interface FirstChange {
  readonly text: string;
  apply(): Pick<RemedyQuestion, "topology" | "initiator" | "owner">;
}

function firstChanges({ topology, initiator, owner, rules }: RemedyQuestion): FirstChange[] {
  const { machine, index } = topology;
  const now = parseKernelVersion(machine.host.kernelVersion);
  const later = changesOfRules().filter(
    (version) =>
      rules === undefined &&
      now !== null &&
      compareVersions(version, now) > 0 &&
      compareVersions(version, LATEST_KERNEL) <= 0,
  );
  const kernels = later.map((version) => ({
    text: `Run Linux ${formatVersion(version)} or later.`,
    apply: () => {
      const next = setHost(machine, { kernelVersion: `${formatVersion(version)}.0` });
      return { topology: new Topology(next), initiator, owner };
    },
  }));
  const moves = movesOf(index, initiator, owner).map((move) => ({
    text: moveText(index, move),
    apply: () => {
      const { machine: next, nameOf } = move.apply();
      return {
        topology: new Topology(next),
        initiator: nameOf(initiator),
        owner: nameOf(owner),
      };
    },
  }));
  return [...kernels, ...moves];
}

/** Remedies of two changes that are given at most. */
const TWO_CHANGES_MAX = 2;

/** The first second change that helps after each first one. */
function twoChanges(question: RemedyQuestion, isBetter: (after: Verdict) => boolean): Candidate[] {
  const found: Candidate[] = [];
  for (const first of firstChanges(question)) {
    if (found.length === TWO_CHANGES_MAX) break;
    const changed = attempt(first.apply);
    if (changed === null) continue;
    const after: RemedyQuestion = {
      ...question,
      ...changed,
      judge: (machine, initiator = changed.initiator, owner = changed.owner) =>
        question.judge(machine, initiator, owner),
    };
    // A register that is lost at the next reset is no company for a change that needs one.
    const [second] = [...acsCandidates(after, isBetter), ...kernelCandidates(after)].filter(
      ({ kind }) => kind !== "register-write",
    );
    if (second === undefined) continue;
    found.push({ ...second, kind: "two-changes", text: `Both: ${first.text} ${second.text}` });
  }
  return found;
}

/** Without an IOMMU Linux leaves ACS alone; where it is off already, firmware set the bits. */
function wholeMachine({ topology, initiator, owner, judge }: RemedyQuestion): Candidate[] {
  const { machine, index } = topology;
  const path = acsOnPath(index, initiator, owner);
  const hasRedirect = path.some(({ redirecting }) => redirecting !== "");
  if (!hasRedirect) return [];
  const without = (): Machine =>
    machine.functions.reduce(
      (now, fn) => (fn.acs === null || fn.acs.control === 0 ? now : setAcsControl(now, fn.bdf, 0)),
      machine,
    );
  const { iommu, cpuVendor } = machine.host;
  const parameters: Record<string, string> = {
    AuthenticAMD: "amd_iommu=off",
    GenuineIntel: "intel_iommu=off",
  };
  const candidates: Candidate[] = [];
  if (iommu !== "off") {
    candidates.push({
      kind: "iommu-off",
      text: "Boot without the IOMMU: Linux then leaves ACS as firmware set it, mostly off.",
      command: parameters[cpuVendor ?? ""] ?? null,
      weakensIsolation: true,
      caution: "every device can then write all memory; VFIO does not work",
      judge: () => judge(setHost(without(), { iommu: "off" })),
    });
  }
  if (iommu === "off" || iommu === null) {
    candidates.push({
      kind: "firmware",
      text: "Turn ACS off in firmware setup (often `ACS Control` or `PCIe ACS Support`).",
      command: null,
      weakensIsolation: true,
      caution: "with an IOMMU on, Linux turns it on again at boot",
      judge: () => judge(without()),
    });
  }
  return candidates;
}
