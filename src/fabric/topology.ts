/**
 * The wiring of the simulated machine: which port each function sits behind, which links join them,
 * which host bridge is above. Wiring is fixed when the machine is built, as slots and traces are;
 * what registers say (bus numbers, windows, BARs, ACS) is live and belongs to {@link FabricNode}.
 *
 * Invariants: every function has one place in one tree; a tree is at most BRIDGE_DEPTH_MAX deep; a
 * PCIe link joins one downstream port to everything on its secondary bus.
 *
 * Where a snapshot does not tell what a bridge is, its place tells; each such guess is in `notes`.
 */

import {
  assert,
  type Bdf,
  BRIDGE_DEPTH_MAX,
  bdfBus,
  bdfDomain,
  busKey,
  formatBdf,
} from "../core/index.ts";
import { type LinkFacts, type Machine, type PciFunction, PortType } from "../machine/index.ts";
import { LINK_WIDTHS } from "../spec/pcie/index.ts";
import { Link, type NodeRole } from "./link.ts";
import { FabricNode, RootBus } from "./node.ts";

export interface FabricTopology {
  readonly roots: readonly RootBus[];
  /** In order of BDF. */
  readonly nodes: readonly FabricNode[];
  readonly byBdf: ReadonlyMap<Bdf, FabricNode>;
  readonly links: readonly Link[];
  /** Guesses that were made because the snapshot is silent. */
  readonly notes: readonly string[];
}

/** What a link is taken for when neither end tells: the slowest that runs NVMe in the field. */
const ASSUMED_LINK: LinkFacts = { generation: 3, width: 4 };

/** Lays out the machine's functions. Never fails: what does not fit is put on a root bus, noted. */
export function buildTopology(machine: Machine): FabricTopology {
  const notes: string[] = [];
  const roots = machine.hostBridges.map((bridge, index) => new RootBus(index, bridge));
  const places = new Places(machine, roots, notes);
  const nodes: FabricNode[] = [];
  const byBdf = new Map<Bdf, FabricNode>();
  for (const fn of machine.functions) {
    const node = new FabricNode(fn, places.rootOf(fn));
    nodes.push(node);
    byBdf.set(fn.bdf, node);
  }
  for (const node of nodes) {
    const parent = places.parentOf(node.fn);
    if (parent !== null) node.attachTo(byBdf.get(parent.bdf) as FabricNode);
  }
  for (const node of nodes) checkDepth(node);
  for (const node of nodes) {
    if (node.parent === null) node.root.children.push(node);
    if (node.fn.physicalFunction !== null) {
      node.physicalFunction = byBdf.get(node.fn.physicalFunction) ?? null;
    }
  }
  for (const node of nodesFromTheTop(roots)) node.role = roleOf(node, notes);
  const links = makeLinks(nodes, notes);
  return { roots, nodes, byBdf, links, notes };
}

/** Finds what is above a function from bus numbers, as enumeration left them. */
class Places {
  private readonly bySecondary = new Map<number, PciFunction>();
  private readonly byName = new Map<Bdf, PciFunction>();
  private readonly bridges: PciFunction[] = [];
  private readonly roots: RootBus[];
  private readonly notes: string[];

  constructor(machine: Machine, roots: RootBus[], notes: string[]) {
    this.roots = roots;
    this.notes = notes;
    for (const fn of machine.functions) {
      this.byName.set(fn.bdf, fn);
      if (fn.bridge === null || fn.bridge.secondary === 0) continue;
      this.bridges.push(fn);
      this.bySecondary.set(busKey(bdfDomain(fn.bdf), fn.bridge.secondary), fn);
    }
  }

  parentOf(fn: PciFunction): PciFunction | null {
    const domain = bdfDomain(fn.bdf);
    const bus = bdfBus(fn.bdf);
    const direct = this.bySecondary.get(busKey(domain, bus));
    if (direct !== undefined && direct !== fn) return direct;
    // A virtual function may have a bus number that no bridge names: it sits where its PF sits.
    const physical = fn.physicalFunction === null ? null : this.byName.get(fn.physicalFunction);
    if (physical !== null && physical !== undefined) return this.parentOf(physical);
    if (this.roots.some(({ bridge }) => bridge.domain === domain && bridge.bus === bus))
      return null;
    return this.innermostBridgeOver(domain, bus);
  }

  rootOf(fn: PciFunction): RootBus {
    const domain = bdfDomain(fn.bdf);
    const bus = bdfBus(fn.bdf);
    const found = this.roots.find(
      ({ bridge }) => bridge.domain === domain && bus >= bridge.bus && bus <= bridge.busEnd,
    );
    if (found !== undefined) return found;
    const apertures = [{ phys: 0, bus: 0, sizeBytes: 2 ** 52 }];
    const bridge = { domain, bus, busEnd: 255, apertures, numaNode: null };
    const made = new RootBus(this.roots.length, bridge);
    this.roots.push(made);
    this.notes.push(`${formatBdf(fn.bdf)} is below no known host bridge: one is assumed`);
    return made;
  }

  private innermostBridgeOver(domain: number, bus: number): PciFunction | null {
    let best: PciFunction | null = null;
    for (const fn of this.bridges) {
      if (bdfDomain(fn.bdf) !== domain || fn.bridge === null) continue;
      if (bus <= fn.bridge.secondary || bus > fn.bridge.subordinate) continue;
      if (best?.bridge == null || fn.bridge.secondary > best.bridge.secondary) best = fn;
    }
    return best;
  }
}

function checkDepth(node: FabricNode): void {
  let depth = 0;
  for (let at = node.parent; at !== null; at = at.parent) {
    assert(++depth <= BRIDGE_DEPTH_MAX, "bridges nest without a loop");
  }
}

function* nodesFromTheTop(roots: readonly RootBus[]): Generator<FabricNode> {
  const waiting = roots.flatMap(({ children }) => children);
  for (let at = 0; at < waiting.length; at++) {
    const node = waiting[at] as FabricNode;
    yield node;
    for (const child of node.children) waiting.push(child);
  }
}

const ROLE_OF_PORT: Readonly<Record<number, NodeRole>> = {
  [PortType.rootPort]: "root-port",
  [PortType.switchUpstream]: "switch-upstream",
  [PortType.switchDownstream]: "switch-downstream",
  [PortType.pcieToPciBridge]: "bridge",
  [PortType.pciToPcieBridge]: "bridge",
};

function roleOf(node: FabricNode, notes: string[]): NodeRole {
  const { fn, parent } = node;
  if (fn.bridge === null) return parent === null ? "integrated-endpoint" : "endpoint";
  const known = fn.pcie === null ? undefined : ROLE_OF_PORT[fn.pcie.portType];
  if (known !== undefined) return known;
  const guess = guessRole(node);
  if (guess !== "bridge") {
    notes.push(`${formatBdf(fn.bdf)}: no PCI Express capability known; taken for a ${guess}`);
  }
  return guess;
}

/** From the place alone: a bridge that has bridges below it and a port above it is a switch. */
function guessRole({ parent, children, fn }: FabricNode): NodeRole {
  // Configuration space of 256 bytes shows every capability there is: this is a PCI-to-PCI bridge.
  if (fn.config !== null && fn.config.length >= 256) return "bridge";
  if (parent === null) return "root-port";
  if (parent.role === "switch-upstream") return "switch-downstream";
  const hasBridges = children.some((child) => child.fn.bridge !== null);
  return hasBridges && parent.role !== "bridge" ? "switch-upstream" : "bridge";
}

function makeLinks(nodes: readonly FabricNode[], notes: string[]): Link[] {
  const links: Link[] = [];
  for (const node of nodes) {
    if (node.role !== "root-port" && node.role !== "switch-downstream") continue;
    const ends = [node, ...node.children].map(({ fn }) => fn.pcie);
    const isTrained = (facts: LinkFacts | null | undefined): facts is LinkFacts =>
      facts != null && facts.generation > 0 && facts.width > 0;
    const facts =
      ends.map((pcie) => pcie?.link).find(isTrained) ??
      ends.map((pcie) => pcie?.linkCapability).find(isTrained);
    if (facts === undefined && node.children.length > 0) {
      notes.push(
        `${formatBdf(node.bdf)}: link speed unknown; generation ${ASSUMED_LINK.generation} x` +
          `${ASSUMED_LINK.width} assumed`,
      );
    }
    const known = facts === undefined ? ASSUMED_LINK : withinModel(facts);
    const link = new Link(links.length, node.bdf, known, facts === undefined);
    links.push(link);
    node.attachLink(link);
    for (const child of node.children) child.linkAbove = link;
  }
  return links;
}

/** Generation 7 and odd widths are beyond the throughput model: the nearest that it knows. */
function withinModel({ generation, width }: LinkFacts): LinkFacts {
  const fitting = LINK_WIDTHS.filter((lanes) => lanes <= width);
  return { generation: Math.min(generation, 6), width: fitting.at(-1) ?? 1 };
}
