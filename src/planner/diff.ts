/**
 * Two machines compared, or one before and after a change: what became of functions, links, ACS,
 * command registers, BARs, bridge windows and the host, and which verdicts changed for it.
 *
 * Functions are the same when name and ids are; then those of the same ids are, in order, since the
 * same cards have other bus numbers in another machine; then those of the same name and kind, as a
 * card that was replaced. Leaves out: names of devices, capabilities without effect on peers.
 */

import { type Bdf, formatBdf, formatBytes, formatDeviceId, hex } from "../core/index.ts";
import { deviceKind, type Machine, type PciFunction, type Window } from "../machine/index.ts";
import type { Verdict } from "../p2p/index.ts";
import { formatAcsWord } from "./acs-text.ts";
import { interestOf, nameWithKind } from "./interest.ts";
import { rulesFor } from "./machine-rules.ts";
import { formatLink } from "./topo.ts";

/** A fact that differs. */
export interface Change {
  readonly field: string;
  readonly before: string;
  readonly after: string;
}

export interface FunctionDiff {
  readonly bdf: Bdf;
  readonly name: string;
  readonly changes: readonly Change[];
}

export interface MovedFunction {
  readonly from: Bdf;
  readonly to: Bdf;
  readonly name: string;
}

/** A pair whose verdict differs. */
export interface VerdictDiff {
  readonly provider: Bdf;
  readonly client: Bdf;
  readonly before: Pick<Verdict, "mapType" | "distance" | "reason">;
  readonly after: Pick<Verdict, "mapType" | "distance" | "reason">;
}

export interface MachineDiff {
  readonly before: Machine;
  readonly after: Machine;
  readonly host: readonly Change[];
  readonly removed: readonly PciFunction[];
  readonly added: readonly PciFunction[];
  readonly moved: readonly MovedFunction[];
  readonly changed: readonly FunctionDiff[];
  readonly verdicts: readonly VerdictDiff[];
  /** Pairs that were compared. */
  readonly pairs: number;
}

export interface DiffOptions {
  /** Verdicts of every function; left out: those of interest. */
  readonly all?: boolean | undefined;
  readonly rules?: string | undefined;
  /**
   * Names that functions of the first machine have in the second, which is the first one changed;
   * left out: it is another machine.
   */
  readonly nameOf?: ((bdf: Bdf) => Bdf) | undefined;
}

export function diffMachines(
  before: Machine,
  after: Machine,
  options: DiffOptions = {},
): MachineDiff {
  const names =
    options.nameOf === undefined
      ? sameFunctions(before, after)
      : namesAfter(before, after, options.nameOf);
  const now = new Map(after.functions.map((fn) => [fn.bdf, fn]));
  const targets = new Set(names.values());
  const moved: MovedFunction[] = [];
  const changed: FunctionDiff[] = [];
  for (const fn of before.functions) {
    const to = names.get(fn.bdf);
    const other = to === undefined ? undefined : now.get(to);
    if (to === undefined || other === undefined) continue;
    if (to !== fn.bdf) moved.push({ from: fn.bdf, to, name: nameWithKind(fn) });
    const changes = functionChanges(fn, other);
    if (changes.length > 0) changed.push({ bdf: fn.bdf, name: nameWithKind(fn), changes });
  }
  const verdicts = verdictChanges(before, after, names, options);
  return {
    before,
    after,
    host: hostChanges(before, after),
    removed: before.functions.filter(({ bdf }) => !names.has(bdf)),
    added: after.functions.filter(({ bdf }) => !targets.has(bdf)),
    moved,
    changed,
    ...verdicts,
  };
}

/** Every name before that a function has after, by the names that a what-if gave. */
function namesAfter(before: Machine, after: Machine, nameOf: (bdf: Bdf) => Bdf): Map<Bdf, Bdf> {
  const there = new Set(after.functions.map(({ bdf }) => bdf));
  return new Map(
    before.functions
      .map(({ bdf }) => [bdf, nameOf(bdf)] as const)
      .filter(([, to]) => there.has(to)),
  );
}

const idsOf = (fn: PciFunction): string =>
  [fn.vendorId, fn.deviceId, fn.subsystemVendorId, fn.subsystemId, fn.classCode].join();

/** What two functions must have in common to be the same one, strictest first. */
const SAME_BY: readonly ((fn: PciFunction) => string)[] = [
  (fn) => `${fn.bdf} ${idsOf(fn)}`,
  (fn) => `${fn.bdf % 8} ${idsOf(fn)}`,
  (fn) => `${fn.bdf} ${deviceKind(fn)}`,
];

/** By {@link SAME_BY}: the first of a kind before is the first of it after, and so on. */
function sameFunctions(before: Machine, after: Machine): Map<Bdf, Bdf> {
  const names = new Map<Bdf, Bdf>();
  const taken = new Set<Bdf>();
  for (const keyOf of SAME_BY) {
    const free = new Map<string, Bdf[]>();
    for (const fn of after.functions) {
      if (taken.has(fn.bdf)) continue;
      const key = keyOf(fn);
      const list = free.get(key);
      if (list === undefined) free.set(key, [fn.bdf]);
      else list.push(fn.bdf);
    }
    for (const fn of before.functions) {
      const to = names.has(fn.bdf) ? undefined : free.get(keyOf(fn))?.shift();
      if (to === undefined) continue;
      names.set(fn.bdf, to);
      taken.add(to);
    }
  }
  return names;
}

const HOST_FIELDS = [
  "cpuVendor",
  "cpuFamily",
  "cpuModel",
  "architecture",
  "kernelVersion",
  "kernelCommandLine",
  "iommu",
] as const;

function hostChanges(before: Machine, after: Machine): Change[] {
  const changes: Change[] = [];
  for (const field of HOST_FIELDS) {
    const [a, b] = [before.host[field], after.host[field]].map((value) => String(value ?? "?"));
    if (a !== b) changes.push({ field, before: a, after: b });
  }
  const [a, b] = [before.host.modules, after.host.modules];
  if (a !== null && b !== null) {
    const went = a.filter((name) => !b.includes(name));
    const arrived = b.filter((name) => !a.includes(name));
    if (went.length + arrived.length > 0) {
      changes.push({ field: "modules", before: listOf(went), after: listOf(arrived) });
    }
  }
  return [...changes, ...configChanges(before, after)];
}

const listOf = (names: readonly string[]): string => (names.length === 0 ? "-" : names.join(" "));

function configChanges(before: Machine, after: Machine): Change[] {
  const [a, b] = [before.host.kernelConfig, after.host.kernelConfig];
  if (a === null || b === null) return [];
  return [...new Set([...Object.keys(a), ...Object.keys(b)])]
    .sort()
    .filter((symbol) => (a[symbol] ?? "n") !== (b[symbol] ?? "n"))
    .map((symbol) => ({
      field: `CONFIG_${symbol}`,
      before: a[symbol] ?? "n",
      after: b[symbol] ?? "n",
    }));
}

/**
 * Every fact as text, by name: what is in one and not in the other, or not the same, is a change.
 */
function functionChanges(before: PciFunction, after: PciFunction): Change[] {
  const [a, b] = [factsOf(before), factsOf(after)];
  const changes: Change[] = [];
  for (const field of new Set([...a.keys(), ...b.keys()])) {
    const [old, now] = [a.get(field) ?? "-", b.get(field) ?? "-"];
    if (old !== now) changes.push({ field, before: old, after: now });
  }
  return changes;
}

function factsOf(fn: PciFunction): Map<string, string> {
  const facts = new Map<string, string>();
  facts.set("ids", formatDeviceId(fn.vendorId, fn.deviceId));
  const link = fn.pcie?.link ?? null;
  if (link !== null) facts.set("link", formatLink(link));
  if (fn.pcie !== null) {
    facts.set("MPS", String(fn.pcie.maxPayload));
    facts.set("MRRS", String(fn.pcie.maxReadRequest));
  }
  if (fn.acs !== null) {
    facts.set("ACS Control", `${hex(fn.acs.control, 4)} (${formatAcsWord(fn.acs.control)})`);
  }
  if (fn.command !== null) facts.set("Command", hex(fn.command, 4));
  for (const { index, kind, address, sizeBytes } of fn.bars) {
    if (kind === "io" || index > 5) continue;
    const size = sizeBytes === null ? "?" : formatBytes(sizeBytes);
    facts.set(`BAR${index}`, `${size} at ${address === 0 ? "none" : hex(address)}`);
  }
  if (fn.bridge !== null) {
    const { secondary, subordinate, memory, prefetchable } = fn.bridge;
    facts.set("buses", `${hex(secondary, 2)} to ${hex(subordinate, 2)}`);
    facts.set("memory window", windowText(memory));
    facts.set("prefetchable window", windowText(prefetchable));
  }
  facts.set("driver", fn.driver ?? "-");
  facts.set("IOMMU group", String(fn.iommuGroup ?? "-"));
  facts.set("NUMA node", String(fn.numaNode ?? "-"));
  if (fn.p2pmem !== null) {
    const { sizeBytes, published } = fn.p2pmem;
    facts.set("p2pmem", `${formatBytes(sizeBytes)}, ${published ? "published" : "not published"}`);
  }
  return facts;
}

const windowText = (window: Window | null): string =>
  window === null ? "closed" : `${hex(window.base)} to ${hex(window.limit)}`;

function verdictChanges(
  before: Machine,
  after: Machine,
  names: ReadonlyMap<Bdf, Bdf>,
  options: DiffOptions,
): Pick<MachineDiff, "verdicts" | "pairs"> {
  const old = rulesFor(before, options.rules).rules;
  const now = rulesFor(after, options.rules).rules;
  const positions = options.all === true ? before.functions.map((_, i) => i) : interestOf(before);
  const both = positions.map((at) => before.functions[at].bdf).filter((bdf) => names.has(bdf));
  const verdicts: VerdictDiff[] = [];
  for (const provider of both) {
    for (const client of both) {
      if (provider === client) continue;
      const a = old.verdict(provider, client);
      const b = now.verdict(names.get(provider) as Bdf, names.get(client) as Bdf);
      if (a.mapType === b.mapType && a.distance === b.distance && a.reason === b.reason) continue;
      verdicts.push({ provider, client, before: short(a), after: short(b) });
    }
  }
  return { verdicts, pairs: both.length * Math.max(0, both.length - 1) };
}

const short = ({ mapType, distance, reason }: Verdict): VerdictDiff["before"] => ({
  mapType,
  distance,
  reason,
});

/** True when nothing differs. */
export const isSame = (diff: MachineDiff): boolean =>
  diff.host.length === 0 &&
  diff.removed.length === 0 &&
  diff.added.length === 0 &&
  diff.moved.length === 0 &&
  diff.changed.length === 0 &&
  diff.verdicts.length === 0;

/** Plain data for `--json`. */
export function diffJson(diff: MachineDiff): Record<string, unknown> {
  const name = (fn: PciFunction): string => formatBdf(fn.bdf);
  return {
    before: diff.before.name,
    after: diff.after.name,
    host: diff.host,
    removed: diff.removed.map(name),
    added: diff.added.map(name),
    moved: diff.moved.map(({ from, to }) => ({ from: formatBdf(from), to: formatBdf(to) })),
    changed: diff.changed.map(({ bdf, changes }) => ({ function: formatBdf(bdf), changes })),
    pairs: diff.pairs,
    verdicts: diff.verdicts.map(({ provider, client, before, after }) => ({
      provider: formatBdf(provider),
      client: formatBdf(client),
      before,
      after,
    })),
  };
}
