/**
 * From a forest of nested devices (hwloc, NCCL, udev and sysfs paths, `lspci -t`) to a machine: bus
 * numbers of bridges, port types by place, host bridges.
 *
 * Invariants: the result's bus numbers nest, so that every walk of it ends. A device whose place
 * contradicts its bus number is kept and the contradiction is a warning. Recursion is bounded by
 * BRIDGE_DEPTH_MAX, which {@link checkForest} enforces first.
 *
 * Leaves out: making up ports that the source leaves out; see nccl-ports.ts for that.
 */

import {
  type Bdf,
  BRIDGE_DEPTH_MAX,
  bdfBus,
  bdfDevice,
  bdfDomain,
  formatBdf,
  MACHINE_FUNCTIONS_MAX,
  makeBdf,
  PeerlaneError,
} from "../../core/index.ts";
import { IDENTITY_APERTURE } from "../apertures.ts";
import type { MachinePart } from "../assemble.ts";
import type { HostFacts } from "../host-facts.ts";
import { type HostBridge, PortType, type Source } from "../snapshot.ts";
import { type SparseFunction, sparseFunction } from "./sparse.ts";

export interface ForestNode extends SparseFunction {
  readonly children: readonly ForestNode[];
}

/** A root bus and what hangs below it. */
export interface ForestRoot {
  readonly domain: number;
  readonly bus: number;
  /** Last bus number below it, where the source tells; else it is derived. */
  readonly busEnd?: number;
  readonly numaNode?: number | null;
  readonly children: readonly ForestNode[];
}

/** Everything but the devices. */
export interface PartFrame {
  readonly source: Source;
  readonly host: HostFacts;
  readonly warnings: readonly string[];
  /** Why fields are unknown; see {@link sparseFunction}. */
  readonly because: string;
  /** False for tools that list only devices of interest. */
  readonly isComplete: boolean;
}

const isBridge = (node: ForestNode): boolean =>
  node.isBridge === true || node.children.length > 0 || node.buses != null;

export function partFromForest(roots: readonly ForestRoot[], frame: PartFrame): MachinePart {
  checkForest(roots, frame);
  const warnings = [...frame.warnings];
  const functions = new Map<Bdf, ReturnType<typeof sparseFunction>>();
  const hostBridges = new Map<string, HostBridge>();

  const kept = chooseOnce(roots, warnings);

  /** Adds a node and what is below it; answers the last bus number there. */
  const add = (node: ForestNode, bus: number, portType: PortType | undefined): number => {
    if (kept.get(node.bdf) !== node) return bus;
    const buses = isBridge(node) ? busesOf(node, warnings) : null;
    const { children, ...sparse } = node;
    const portTypeHere = node.portType ?? portType;
    functions.set(
      node.bdf,
      sparseFunction(
        {
          ...sparse,
          isBridge: isBridge(node),
          buses,
          ...(portTypeHere === undefined ? {} : { portType: portTypeHere }),
        },
        frame.because,
      ),
    );
    let last = Math.max(bus, buses?.subordinate ?? bus);
    for (const child of children) {
      last = Math.max(last, add(child, bdfBus(child.bdf), portBelow(portTypeHere, child)));
    }
    return last;
  };

  for (const root of roots) {
    let busEnd = root.busEnd ?? root.bus;
    for (const child of root.children) {
      busEnd = Math.max(busEnd, add(child, root.bus, portOnRootBus(child)));
    }
    const key = `${root.domain}:${root.bus}`;
    const before = hostBridges.get(key);
    hostBridges.set(key, {
      domain: root.domain,
      bus: root.bus,
      busEnd: Math.max(busEnd, before?.busEnd ?? 0),
      apertures: [IDENTITY_APERTURE],
      numaNode: before?.numaNode ?? root.numaNode ?? null,
    });
  }
  if (!frame.isComplete) warnAboutHostBridges(roots, functions, warnings);
  return {
    source: frame.source,
    host: frame.host,
    rootBuses: [],
    hostBridges: [...hostBridges.values()].sort((a, b) => a.domain - b.domain || a.bus - b.bus),
    functions: [...functions.values()].sort((a, b) => a.bdf - b.bdf),
    warnings,
  };
}

/** Of a function that is listed twice, the one with more below it; else the first. */
function chooseOnce(roots: readonly ForestRoot[], warnings: string[]): Map<Bdf, ForestNode> {
  const kept = new Map<Bdf, ForestNode>();
  const twice = new Set<Bdf>();
  let level: readonly ForestNode[] = roots.flatMap((root) => root.children);
  while (level.length > 0) {
    for (const node of level) {
      const before = kept.get(node.bdf);
      if (before !== undefined) twice.add(node.bdf);
      if (before === undefined || before.children.length < node.children.length) {
        kept.set(node.bdf, node);
      }
    }
    level = level.flatMap((node) => node.children);
  }
  for (const bdf of twice) warnings.push(`${formatBdf(bdf)} is listed twice: one is kept`);
  return kept;
}

/**
 * Linux looks a host bridge up by the first device of its root bus. Tools that list only devices of
 * interest leave that one out, and then nobody can look it up.
 */
function warnAboutHostBridges(
  roots: readonly ForestRoot[],
  functions: ReadonlyMap<Bdf, unknown>,
  warnings: string[],
): void {
  const without = roots.filter(({ domain, bus }) => !functions.has(makeBdf(domain, bus, 0, 0)));
  if (without.length === 0) return;
  const names = without.map(({ domain, bus }) => formatBdf(makeBdf(domain, bus, 0, 0)));
  warnings.push(
    `the first device of ${without.length} root buses is not in the file ` +
      `(${names.slice(0, 8).join(", ")}${names.length > 8 ? ", ..." : ""}): ` +
      "Linux's list of host bridges cannot be consulted there",
  );
}

/** Counts and measures before anything recurses. */
function checkForest(roots: readonly ForestRoot[], frame: PartFrame): void {
  let count = 0;
  let level: readonly ForestNode[] = roots.flatMap((root) => root.children);
  for (let depth = 0; level.length > 0; depth++) {
    count += level.length;
    if (depth > BRIDGE_DEPTH_MAX) {
      throw new PeerlaneError("bridge-depth", `more than ${BRIDGE_DEPTH_MAX} bridges are nested`, {
        place: `${frame.source.file}: ${formatBdf((level[0] as ForestNode).bdf)}`,
        remedy: "No machine nests that deep: check that the file is whole and unchanged.",
      });
    }
    if (count > MACHINE_FUNCTIONS_MAX) {
      throw new PeerlaneError(
        "too-many-functions",
        `more than ${MACHINE_FUNCTIONS_MAX} functions`,
        {
          place: frame.source.file,
          remedy: "Give the dump of one machine.",
        },
      );
    }
    level = level.flatMap((node) => node.children);
  }
}

/** Bus numbers of a bridge: told, or those of what is below it; null when nothing tells. */
function busesOf(
  node: ForestNode,
  warnings: string[],
): { secondary: number; subordinate: number } | null {
  const below = node.children.filter((child) => bdfDomain(child.bdf) === bdfDomain(node.bdf));
  const elsewhere = node.children.length - below.length;
  if (elsewhere > 0) {
    warnings.push(
      `${elsewhere} functions below ${formatBdf(node.bdf)} are in another domain: not linked`,
    );
  }
  if (node.buses != null) return node.buses;
  if (below.length === 0) return null;
  const secondary = Math.min(...below.map((child) => bdfBus(child.bdf)));
  const strays = below.filter((child) => bdfBus(child.bdf) !== secondary).length;
  if (strays > 0) {
    warnings.push(`functions right below ${formatBdf(node.bdf)} are on different buses`);
  }
  if (secondary <= bdfBus(node.bdf)) {
    warnings.push(
      `${formatBdf(node.bdf)} leads to bus ${secondary.toString(16)}, which is not beyond its own`,
    );
  }
  return { secondary, subordinate: lastBus(below, secondary) };
}

function lastBus(nodes: readonly ForestNode[], least: number): number {
  let last = least;
  for (const node of nodes) {
    last = Math.max(last, bdfBus(node.bdf), node.buses?.subordinate ?? 0);
    last = lastBus(node.children, last);
  }
  return last;
}

/**
 * What a function is by its place, PCIe Base section 1.3: a bridge on a root bus is a root port, if
 * what is below it fits a link (one device); bridges alternate then between upstream and downstream
 * ports of switches. Conventional bridges have devices beside each other, and get no port type.
 */
function portOnRootBus(node: ForestNode): PortType | undefined {
  if (!isBridge(node)) return undefined;
  return hasOneDevice(node) ? PortType.rootPort : undefined;
}

function portBelow(above: PortType | undefined, node: ForestNode): PortType | undefined {
  if (above === PortType.rootPort || above === PortType.switchDownstream) {
    if (!isBridge(node)) return PortType.endpoint;
    const leadsToPorts = node.children.every((child) => isBridge(child));
    return leadsToPorts ? PortType.switchUpstream : PortType.pcieToPciBridge;
  }
  if (above === PortType.switchUpstream && isBridge(node)) {
    return hasOneDevice(node) ? PortType.switchDownstream : undefined;
  }
  return undefined;
}

/**
 * Behind a link is one device, number 0, whose virtual functions may carry other numbers. Slots of
 * a conventional bus are numbered from 1 or higher on nearly every board.
 */
function hasOneDevice(node: ForestNode): boolean {
  return node.children.length === 0 || node.children.some((child) => bdfDevice(child.bdf) === 0);
}
