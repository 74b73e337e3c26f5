/**
 * Puts back the ports that an NCCL topology leaves out. NCCL lists an endpoint, then the upstream
 * port of the switch above it, and so on to the CPU: downstream ports and root ports are missing,
 * but every link of PCI Express has one at its upper end, and rules count them.
 *
 * Invariants: functions of the file keep their names, except virtual switches (vendor ffff), whose
 * names stand for nothing; every added port is marked as inferred. Bus numbers nest: an added
 * internal bus is a number that no function of the file uses, between its neighbours.
 *
 * Leaves out: which root ports share a host bridge. Ports of one NUMA node with neighbouring bus
 * numbers are put under one.
 */

import { type Bdf, bdfBus, bdfDomain, formatBdf, makeBdf } from "../../core/index.ts";
import { PortType } from "../snapshot.ts";
import type { ForestNode, ForestRoot } from "./forest.ts";

/** A device right below a CPU in the file. */
export interface NcclTop {
  readonly node: ForestNode;
  readonly numaNode: number | null;
}

/** A device with everything below it, and the bus numbers it needs. */
interface Placed {
  readonly node: ForestNode;
  readonly numaNode: number | null;
  readonly first: number;
  readonly last: number;
}

interface Notes {
  downstream: number;
  rootPorts: number;
  readonly virtual: string[];
  readonly split: string[];
  /** Functions whose bus number is not beyond that of the switch they are said to be below. */
  readonly misplaced: ForestNode[];
  readonly contradictions: string[];
}

export function withPorts(tops: readonly NcclTop[]): {
  roots: ForestRoot[];
  notes: string[];
} {
  const counts: Notes = {
    downstream: 0,
    rootPorts: 0,
    virtual: [],
    split: [],
    misplaced: [],
    contradictions: [],
  };
  const domains = new Map<number, Placed[]>();
  const queue = tops.flatMap((top) => splitAcrossDomains(top, counts));
  for (let at = 0; at < queue.length; at++) {
    const top = queue[at] as NcclTop;
    const placed = place(top, counts);
    for (const node of counts.misplaced.splice(0)) {
      counts.contradictions.push(formatBdf(node.bdf));
      queue.push({ node, numaNode: top.numaNode });
    }
    const domain = bdfDomain(placed.node.bdf);
    const list = domains.get(domain) ?? [];
    list.push(placed);
    domains.set(domain, list);
  }
  const roots = [...domains].flatMap(([domain, list]) => rootsOf(domain, list, counts));
  return { roots, notes: notesOf(counts) };
}

function notesOf({ downstream, rootPorts, virtual, split, contradictions }: Notes): string[] {
  const notes: string[] = [];
  if (contradictions.length > 0) {
    notes.push(
      `${contradictions.join(", ")}: below a switch whose bus number is not lower, ` +
        "which cannot be; each got a root port of its own",
    );
  }
  if (downstream + rootPorts > 0) {
    notes.push(
      `NCCL leaves ports out: ${rootPorts} root ports and ${downstream} downstream ports were ` +
        "added where PCI Express has them; their names are made up, their ACS is unknown",
    );
  }
  if (virtual.length > 0) {
    notes.push(`virtual switches of the file got names that can exist: ${virtual.join(", ")}`);
  }
  if (split.length > 0) {
    notes.push(
      `${split.join(", ")} join functions of several domains, which no bridge does: these ` +
        "switches are virtual, and the functions are shown without them",
    );
  }
  return notes;
}

const isVirtual = (node: ForestNode): boolean => node.isInferred === true;

/** A switch over functions of several domains cannot be on a bus: what is below stands alone. */
function splitAcrossDomains(top: NcclTop, counts: Notes): NcclTop[] {
  const { node, numaNode } = top;
  const domains = new Set(node.children.map((child) => bdfDomain(child.bdf)));
  if (domains.size === 0) return [top];
  const below = [...domains][0] as number;
  const isJoinable = domains.size === 1 && (isVirtual(node) || below === bdfDomain(node.bdf));
  // A function on bus 0 sits on a root bus, so nothing is above it either.
  if (isJoinable && node.children.every((child) => bdfBus(child.bdf) > 0)) return [top];
  counts.split.push(formatBdf(node.bdf));
  return node.children.flatMap((child) => splitAcrossDomains({ node: child, numaNode }, counts));
}

function place({ node, numaNode }: NcclTop, counts: Notes): Placed {
  const full = node.isBridge === true ? expandSwitch(node, counts) : node;
  return { node: full, numaNode, first: bdfBus(full.bdf), last: lastBus(full) };
}

function lastBus(node: ForestNode): number {
  return Math.max(
    bdfBus(node.bdf),
    node.buses?.subordinate ?? 0,
    ...node.children.map((child) => lastBus(child)),
  );
}

/** A switch: its upstream port is in the file; each bus below it has a downstream port above it. */
function expandSwitch(node: ForestNode, counts: Notes): ForestNode {
  const fits = (child: ForestNode): boolean =>
    isVirtual(node) || bdfBus(child.bdf) > bdfBus(node.bdf);
  counts.misplaced.push(...node.children.filter((child) => !fits(child)));
  const children = node.children
    .filter(fits)
    .map((child) => (child.isBridge === true ? expandSwitch(child, counts) : child));
  if (children.length === 0) return { ...node, portType: PortType.switchUpstream };
  const lowest = Math.min(...children.map((child) => bdfBus(child.bdf)));
  const domain = bdfDomain((children[0] as ForestNode).bdf);
  const own = isVirtual(node) ? renamed(node, domain, lowest, counts) : node;
  const internal = bdfBus(own.bdf) + 1;
  if (internal >= lowest) {
    // No room for an internal bus, so this is a bridge, not a switch.
    return { ...own, portType: PortType.pcieToPciBridge, children };
  }
  const byBus = new Map<number, ForestNode[]>();
  for (const child of children) {
    const group = byBus.get(bdfBus(child.bdf)) ?? [];
    byBus.set(bdfBus(child.bdf), [...group, child]);
  }
  const ports = [...byBus].sort(([a], [b]) => a - b);
  const above = ports.map(([bus, group], index): ForestNode => {
    counts.downstream++;
    return {
      ...inferredPort(domain, internal, index, "switch downstream port"),
      portType: PortType.switchDownstream,
      buses: { secondary: bus, subordinate: Math.max(...group.map(lastBus)) },
      ...linkOf(group[0] as ForestNode),
      ...(node.numaNode === undefined ? {} : { numaNode: node.numaNode }),
      children: group,
    };
  });
  return {
    ...own,
    portType: PortType.switchUpstream,
    buses: { secondary: internal, subordinate: Math.max(...children.map(lastBus)) },
    children: above,
  };
}

/** Two bus numbers below the functions: one for the switch, one inside it. */
function renamed(node: ForestNode, domain: number, lowest: number, counts: Notes): ForestNode {
  const bus = lowest >= 3 ? lowest - 2 : Math.max(1, lowest - 1);
  const bdf = makeBdf(domain, bus, 0, 0);
  counts.virtual.push(`${formatBdf(node.bdf)} is ${formatBdf(bdf)}`);
  return { ...node, bdf, isInferred: true };
}

const linkOf = (node: ForestNode): Partial<ForestNode> => ({
  ...(node.link === undefined ? {} : { link: node.link }),
  ...(node.linkCapability === undefined ? {} : { linkCapability: node.linkCapability }),
});

function inferredPort(domain: number, bus: number, index: number, what: string) {
  // 32 devices of 8 functions: more ports than a bus has room for share the last name, and warn.
  const place = Math.min(index, 255);
  const bdf: Bdf = makeBdf(domain, bus, place % 32, Math.floor(place / 32));
  return { bdf, isBridge: true, isInferred: true, deviceName: `${what} (not in the file)` };
}

interface Root {
  readonly bus: number;
  readonly numaNode: number | null;
  readonly children: ForestNode[];
  /** What is behind the port that leads to a bus. */
  readonly behind: Map<number, Placed[]>;
}

/**
 * Root buses of one domain. Neighbours of one NUMA node share one, numbered right below the first;
 * where that number is taken by the neighbour before, they share the neighbour's. Functions of one
 * device share a port.
 */
function rootsOf(domain: number, list: readonly Placed[], counts: Notes): ForestRoot[] {
  const roots: Root[] = [];
  let last = -1;
  for (const placed of [...list].sort((a, b) => a.first - b.first)) {
    const { node, numaNode, first } = placed;
    let root = roots.at(-1);
    const wanted = Math.max(0, first - 1);
    if (root === undefined || (root.numaNode !== numaNode && wanted > last)) {
      root = { bus: wanted, numaNode, children: [], behind: new Map() };
      roots.push(root);
    }
    last = Math.max(last, placed.last);
    if (first <= root.bus) root.children.push(node);
    else root.behind.set(first, [...(root.behind.get(first) ?? []), placed]);
  }
  return roots.map(({ bus, numaNode, children, behind }) => {
    counts.rootPorts += behind.size;
    const ports = [...behind].map(([secondary, group], index): ForestNode => {
      const [{ node, numaNode: numa }] = group as [Placed];
      return {
        ...inferredPort(domain, bus, index + 1, "root port"),
        portType: PortType.rootPort,
        buses: { secondary, subordinate: Math.max(...group.map((placed) => placed.last)) },
        ...linkOf(node),
        ...(numa === null ? {} : { numaNode: numa }),
        children: group.map((placed) => placed.node),
      };
    });
    return { domain, bus, numaNode, children: [...children, ...ports] };
  });
}
