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

import { type Bdf, formatBdf } from "../core/index.ts";
import {
  barSizeBound,
  IDENTITY_APERTURE,
  type LinkFacts,
  type Machine,
  MachineIndex,
  NONE,
  PortType,
} from "../machine/index.ts";
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

/** Lays out the machine's functions. What the snapshot does not tell is assumed and noted. */
export function buildTopology(machine: Machine): FabricTopology {
  const index = new MachineIndex(machine);
  const notes: string[] = [...index.problems];
  const roots = machine.hostBridges.map((bridge, at) => new RootBus(at, bridge));
  const nodes = index.functions.map(
    (fn, i) => new FabricNode(fn, rootOf(index, i, roots, notes), barSizesOf(index, i, notes)),
  );
  for (const [i, node] of nodes.entries()) {
    const above = index.parentOf(i);
    if (above === NONE) node.root.children.push(node);
    else node.attachTo(nodes[above]);
  }
  const byBdf = new Map(nodes.map((node) => [node.bdf, node]));
  for (const node of nodes) {
    const { physicalFunction } = node.fn;
    if (physicalFunction !== null) node.physicalFunction = byBdf.get(physicalFunction) ?? null;
  }
  for (const node of nodesFromTheTop(roots)) node.role = roleOf(node, notes);
  const links = makeLinks(nodes, notes);
  return { roots, nodes, byBdf, links, notes };
}

/** The root bus of a function; one that the snapshot does not list is made up. */
function rootOf(index: MachineIndex, i: number, roots: RootBus[], notes: string[]): RootBus {
  const listed = index.hostBridgeIndexOf(i);
  if (listed !== NONE) return roots[listed];
  const { domain, bus } = index.rootBusOf(i);
  const made = roots.find(({ bridge }) => bridge.domain === domain && bridge.bus === bus);
  if (made !== undefined) return made;
  notes.push(`${formatBdf(index.functions[i].bdf)} is below no known host bridge: one is assumed`);
  const bridge = { domain, bus, busEnd: 255, apertures: [IDENTITY_APERTURE], numaNode: null };
  const root = new RootBus(roots.length, bridge);
  roots.push(root);
  return root;
}

/** Sizes of BARs by index, with the bound where the source does not tell; 0 for none. */
function barSizesOf(index: MachineIndex, i: number, notes: string[]): number[] {
  const sizes = [0, 0, 0, 0, 0, 0];
  const fn = index.functions[i];
  for (const bar of fn.bars) {
    if (bar.index >= sizes.length) continue;
    const size = bar.sizeBytes ?? barSizeBound(index, i, bar) ?? 0;
    sizes[bar.index] = size;
    if (bar.sizeBytes !== null || size === 0) continue;
    const name = `${formatBdf(fn.bdf)} BAR${bar.index}`;
    notes.push(`${name}: size unknown; ${size} bytes have room and are assumed`);
  }
  return sizes;
}

function* nodesFromTheTop(roots: readonly RootBus[]): Generator<FabricNode> {
  const waiting = roots.flatMap(({ children }) => children);
  for (let at = 0; at < waiting.length; at++) {
    const node = waiting[at];
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
