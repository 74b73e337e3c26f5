/**
 * From what importers read to one machine: the same function of several files joined, virtual
 * functions given their physical ones, host bridges derived from root buses, gaps of the host
 * named.
 *
 * Invariants: functions come out sorted and unique; every root bus has exactly one host bridge;
 * nothing that an input told is replaced by something derived.
 */

import {
  type Bdf,
  bdfBus,
  bdfDomain,
  busKey,
  IMPORT_WARNINGS_MAX,
  MACHINE_FUNCTIONS_MAX,
  PeerlaneError,
} from "../core/index.ts";
import { aperturesOf, IDENTITY_APERTURE } from "./apertures.ts";
import { unknownField } from "./blank.ts";
import { completeFunction } from "./complete.ts";
import { signsOfCut } from "./cut.ts";
import { Disagreements, hostDisagreements } from "./disagreements.ts";
import { buildHierarchy, type Hierarchy } from "./hierarchy.ts";
import {
  type HostFacts,
  hostFrom,
  iommuFromCommandLine,
  mergeHostFacts,
  type RootBusRange,
} from "./host-facts.ts";
import {
  type HostBridge,
  isUnknown,
  type Machine,
  type PciFunction,
  PortType,
  type Source,
} from "./snapshot.ts";
import { attachVirtualFunctions } from "./virtual-functions.ts";

/** What one input file told. */
export interface MachinePart {
  readonly source: Source;
  readonly functions: readonly PciFunction[];
  /** Host bridges that the input names itself; null when they are to be derived. */
  readonly hostBridges: readonly HostBridge[] | null;
  readonly host: HostFacts;
  /** Address ranges of root buses, from iomem or a boot log. */
  readonly rootBuses: readonly RootBusRange[];
  readonly warnings: readonly string[];
}

/** What a dump does not tell and the user does. Told values win over the inputs'. */
export interface ImportOptions {
  readonly name?: string;
  readonly cpu?: { readonly vendor: string; readonly family: number };
  readonly host?: HostFacts;
}

/** More configuration space decides, then fewer unknown fields; the first file at a tie. */
function isMorePrecise(a: PciFunction, b: PciFunction): boolean {
  const bytes = (a.config?.length ?? 0) - (b.config?.length ?? 0);
  return bytes !== 0 ? bytes > 0 : a.unknown.length < b.unknown.length;
}

/** One replaced card is a warning; beyond this share of functions it is another machine. */
const OTHER_DEVICES_SHARE = 0.1;

function joinFunctions(parts: readonly MachinePart[], warnings: string[]): PciFunction[] {
  const [only] = parts;
  const functions =
    parts.length === 1 && isSorted(only.functions)
      ? [...only.functions]
      : mergeFunctions(parts, warnings);
  if (functions.length > MACHINE_FUNCTIONS_MAX) {
    throw new PeerlaneError("too-large", `more than ${MACHINE_FUNCTIONS_MAX} functions`, {
      remedy: "give the dump of one machine",
    });
  }
  return functions;
}

/** As one whole dump is: each function once, in order. */
function isSorted(functions: readonly PciFunction[]): boolean {
  for (let i = 1; i < functions.length; i++) {
    if (functions[i].bdf <= functions[i - 1].bdf) return false;
  }
  return true;
}

function mergeFunctions(parts: readonly MachinePart[], warnings: string[]): PciFunction[] {
  const joined = new Map<Bdf, { fn: PciFunction; file: string }>();
  const disagreements = new Disagreements();
  for (const { functions, source } of parts) {
    let common = 0;
    let others = 0;
    let firstError: PeerlaneError | null = null;
    for (const fn of functions) {
      const before = joined.get(fn.bdf);
      if (before === undefined) {
        joined.set(fn.bdf, { fn, file: source.file });
        continue;
      }
      common++;
      const takesOver = isMorePrecise(fn, before.fn);
      const [base, other] = takesOver ? [fn, before.fn] : [before.fn, fn];
      const files = takesOver ? [source.file, before.file] : [before.file, source.file];
      const places = { base: files[0] as string, other: files[1] as string };
      try {
        joined.set(fn.bdf, { fn: completeFunction(base, other, places), file: places.base });
        disagreements.compare(base, other, places);
      } catch (error) {
        if (!(error instanceof PeerlaneError) || error.code !== "sources-disagree") throw error;
        firstError ??= error;
        if (++others > 1 + common * OTHER_DEVICES_SHARE) throw firstError;
        disagreements.otherDevice(error.message, places);
        joined.set(fn.bdf, { fn: base, file: places.base });
      }
    }
    // Few in common prove nothing; all of them other devices is another machine.
    if (firstError !== null && others === common) throw firstError;
  }
  warnings.push(...disagreements.toWarnings());
  return [...joined.values()].map(({ fn }) => fn).sort((a, b) => a.bdf - b.bdf);
}

/**
 * True where a function's place cannot be known: its bus has no bridge in the input although it
 * cannot be a root bus.
 */
function isMisplaced(
  fn: PciFunction,
  above: number,
  holes: ReadonlySet<number>,
  rootBuses: ReadonlySet<number>,
): boolean {
  if (above >= 0 || bdfBus(fn.bdf) === 0 || fn.physicalFunction !== null) return false;
  if (rootBuses.has(busKey(bdfDomain(fn.bdf), bdfBus(fn.bdf)))) return false;
  const portType = fn.pcie?.portType;
  const needsBridge =
    portType === PortType.endpoint ||
    portType === PortType.legacyEndpoint ||
    portType === PortType.switchUpstream ||
    portType === PortType.switchDownstream;
  return needsBridge || holes.has(bdfDomain(fn.bdf));
}

const NONE: ReadonlySet<number> = new Set();

/** Marks functions whose place in the tree the input does not tell. */
function markMisplaced(
  functions: PciFunction[],
  { parent }: Hierarchy,
  parts: readonly MachinePart[],
  warnings: string[],
): PciFunction[] {
  const told = parts.flatMap((part) => part.hostBridges ?? []);
  const rootBuses = new Set(told.map(({ domain, bus }) => busKey(domain, bus)));
  const holes = new Set<number>();
  const lowest = new Map<number, number>();
  for (const fn of functions) {
    const domain = bdfDomain(fn.bdf);
    if (isUnknown(fn, "bridge")) holes.add(domain);
    if (!lowest.has(domain)) lowest.set(domain, bdfBus(fn.bdf));
  }
  let count = 0;
  const marked = functions.map((fn, i) => {
    const isLowest = lowest.get(bdfDomain(fn.bdf)) === bdfBus(fn.bdf);
    if (!isMisplaced(fn, parent[i] as number, isLowest ? NONE : holes, rootBuses)) return fn;
    count++;
    return { ...fn, unknown: [...fn.unknown, unknownField("parent")] };
  });
  // A bridge of unknown bus numbers matters only when something could be below it.
  if (holes.size > 0 && count > 0) {
    warnings.push(
      "bus numbers of bridges are not in the input: give lspci -vvv or -x of all of it",
    );
  }
  if (count > 0) {
    warnings.push(
      `${count} functions are on buses that no bridge in the input leads to: each such bus is ` +
        "treated as a root bus of its own",
    );
  }
  return marked;
}

/** By bus, as its first function that tells has it. */
function numaNodesByBus(functions: readonly PciFunction[]): Map<number, number> {
  const nodes = new Map<number, number>();
  for (const { bdf, numaNode } of functions) {
    if (numaNode === null) continue;
    const key = busKey(bdfDomain(bdf), bdfBus(bdf));
    if (!nodes.has(key)) nodes.set(key, numaNode);
  }
  return nodes;
}

/** One host bridge per root bus, those that inputs name first. */
function hostBridgesOf(
  functions: readonly PciFunction[],
  hierarchy: Hierarchy,
  parts: readonly MachinePart[],
): HostBridge[] {
  const bridges: HostBridge[] = [];
  const ranges = parts.flatMap((part) => part.rootBuses);
  const nodes = numaNodesByBus(functions);
  for (const part of parts) {
    for (const bridge of part.hostBridges ?? []) {
      const { domain, bus, busEnd } = bridge;
      // Tools that filter name other ends of the same bus, or buses that lie inside one.
      const isKnown = bridges.some(
        (b) => b.domain === domain && b.bus <= busEnd && bus <= b.busEnd,
      );
      if (isKnown) continue;
      const isAssumed = bridge.apertures.every((aperture) => aperture === IDENTITY_APERTURE);
      bridges.push(isAssumed ? { ...bridge, apertures: aperturesOf(ranges, domain, bus) } : bridge);
    }
  }
  for (const { domain, bus, busEnd } of hierarchy.rootBuses) {
    if (bridges.some((b) => b.domain === domain && b.bus <= bus && bus <= b.busEnd)) continue;
    const apertures = aperturesOf(ranges, domain, bus);
    const numaNode = nodes.get(busKey(domain, bus)) ?? null;
    bridges.push({ domain, bus, busEnd, apertures, numaNode });
  }
  return bridges.sort((a, b) => a.domain - b.domain || a.bus - b.bus);
}

function hostFacts(parts: readonly MachinePart[], options: ImportOptions): HostFacts {
  const told: HostFacts = {
    ...options.host,
    ...(options.cpu === undefined
      ? {}
      : { cpuVendor: options.cpu.vendor, cpuFamily: options.cpu.family }),
  };
  const facts = mergeHostFacts(told, ...parts.map((part) => part.host));
  if (facts.iommu != null || facts.kernelCommandLine == null) return facts;
  const iommu = iommuFromCommandLine(facts.kernelCommandLine, facts.cpuVendor ?? null);
  return iommu === null ? facts : { ...facts, iommu };
}

/**
 * Joins parts to a machine.
 * @throws PeerlaneError `sources-disagree` when two inputs tell of different devices at one place,
 * `no-functions` when no input has a PCI function, `too-large`, `bridge-depth`
 */
export function assembleMachine(
  parts: readonly MachinePart[],
  options: ImportOptions = {},
): Machine {
  const warnings = parts.flatMap((part) => part.warnings);
  let functions = joinFunctions(parts, warnings);
  const files = parts.map(({ source }) => source.file);
  if (functions.length === 0) {
    throw new PeerlaneError("no-functions", "there is no PCI function in the input", {
      place: files.join(", "),
      remedy: "give the output of lspci -nnvvvxxxx, taken as root on the machine",
    });
  }
  warnings.push(
    ...hostDisagreements(parts.map(({ source, host }) => ({ file: source.file, host }))),
  );
  functions = attachVirtualFunctions(functions, warnings);
  const hierarchy = buildHierarchy(functions);
  warnings.push(...hierarchy.problems);
  functions = markMisplaced(functions, hierarchy, parts, warnings);
  warnings.push(...signsOfCut(functions, files.join(", ")));
  return {
    name: options.name ?? (files[0] as string),
    sources: parts.map(({ source }) => source),
    host: hostFrom(hostFacts(parts, options)),
    hostBridges: hostBridgesOf(functions, hierarchy, parts),
    functions,
    warnings: bounded(warnings),
  };
}

function bounded(warnings: readonly string[]): string[] {
  const unique = [...new Set(warnings)];
  if (unique.length <= IMPORT_WARNINGS_MAX) return unique;
  const left = unique.length - IMPORT_WARNINGS_MAX;
  return [...unique.slice(0, IMPORT_WARNINGS_MAX), `and ${left} more warnings`];
}
