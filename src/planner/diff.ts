/**
 * Two machines compared, or one before and after a change: what became of functions, links, ACS,
 * command registers, BARs, bridge windows and the host, and which verdicts changed for it.
 *
 * Functions are the same when their names are. A function that went and one of the same ids that
 * came are told as a move where exactly one fits. Leaves out: names of devices, capabilities
 * without effect on peers.
 */

import { type Bdf, formatBdf, formatBytes, hex } from "../core/index.ts";
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
  /** Names that functions of the first machine have in the second; what is not in it stays. */
  readonly nameOf?: ((bdf: Bdf) => Bdf) | undefined;
}

export function diffMachines(
  before: Machine,
  after: Machine,
  options: DiffOptions = {},
): MachineDiff {
  const old = new Map(before.functions.map((fn) => [fn.bdf, fn]));
  const now = new Map(after.functions.map((fn) => [fn.bdf, fn]));
  const gone = before.functions.filter((fn) => !now.has(fn.bdf));
  const came = after.functions.filter((fn) => !old.has(fn.bdf));
  const moved = movesBetween(gone, came, options.nameOf);
  const sources = new Set(moved.map(({ from }) => from));
  const targets = new Set(moved.map(({ to }) => to));
  const names = new Map(moved.map(({ from, to }) => [from, to]));
  const changed: FunctionDiff[] = [];
  for (const fn of before.functions) {
    const other = now.get(names.get(fn.bdf) ?? fn.bdf);
    const changes = other === undefined ? [] : functionChanges(fn, other);
    if (changes.length > 0) changed.push({ bdf: fn.bdf, name: nameWithKind(fn), changes });
  }
  const verdicts = verdictChanges(before, after, names, options);
  return {
    before,
    after,
    host: hostChanges(before, after),
    removed: gone.filter(({ bdf }) => !sources.has(bdf)),
    added: came.filter(({ bdf }) => !targets.has(bdf)),
    moved,
    changed,
    ...verdicts,
  };
}

const idsOf = (fn: PciFunction): string =>
  [fn.vendorId, fn.deviceId, fn.subsystemVendorId, fn.subsystemId, fn.bdf % 8].join();

/** By the names that a what-if gave, else by ids where exactly one went and one came. */
function movesBetween(
  gone: readonly PciFunction[],
  came: readonly PciFunction[],
  nameOf: DiffOptions["nameOf"],
): MovedFunction[] {
  const moved: MovedFunction[] = [];
  for (const fn of gone) {
    const named = nameOf?.(fn.bdf);
    const twins = came.filter((other) => idsOf(other) === idsOf(fn));
    const isOnly =
      twins.length === 1 && gone.filter((one) => idsOf(one) === idsOf(fn)).length === 1;
    const to = came.find(({ bdf }) => bdf === named) ?? (isOnly ? twins[0] : undefined);
    if (to !== undefined) moved.push({ from: fn.bdf, to: to.bdf, name: nameWithKind(fn) });
  }
  return moved;
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
  const hex4 = (value: number): string => value.toString(16).padStart(4, "0");
  facts.set("ids", `${hex4(fn.vendorId)}:${hex4(fn.deviceId)}`);
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
  // A name that another kind of device has now is not the same end of a pair.
  const isThere = (fn: PciFunction): boolean => {
    const at = now.topology.find(names.get(fn.bdf) ?? fn.bdf);
    return at >= 0 && deviceKind(now.topology.functions[at]) === deviceKind(fn);
  };
  const both = positions
    .map((at) => before.functions[at])
    .filter(isThere)
    .map(({ bdf }) => bdf);
  const verdicts: VerdictDiff[] = [];
  for (const provider of both) {
    for (const client of both) {
      if (provider === client) continue;
      const a = old.verdict(provider, client);
      const b = now.verdict(names.get(provider) ?? provider, names.get(client) ?? client);
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
