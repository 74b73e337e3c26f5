/**
 * Paths of Linux's device tree, `/devices/pci0000:00/0000:00:01.1/0000:01:00.0/nvme/nvme0`: they
 * name the root bus and every bridge above a function, so places are known without any register.
 */

import { type Bdf, tryParseBdf } from "../../core/index.ts";
import type { ForestNode, ForestRoot } from "./forest.ts";
import type { SparseFunction } from "./sparse.ts";

export interface DevicePath {
  readonly domain: number;
  /** Root bus number. */
  readonly bus: number;
  /** From the root bus down; the last one is the function itself or the one that owns the rest. */
  readonly chain: readonly Bdf[];
  /** Parts after the last function: `nvme`, `nvme0`. */
  readonly rest: readonly string[];
}

const ROOT = /^pci([0-9a-f]{4,8}):([0-9a-f]{2})$/;

/**
 * Null for a path that leads to no PCI function or root bus. A root bus below a function (Intel VMD
 * makes one) starts a new tree.
 */
export function parseDevicePath(path: string): DevicePath | null {
  let place: { domain: number; bus: number } | null = null;
  let chain: Bdf[] = [];
  let rest: string[] = [];
  for (const part of path.split("/")) {
    const root = ROOT.exec(part);
    if (root !== null) {
      place = { domain: Number.parseInt(root[1], 16), bus: Number.parseInt(root[2], 16) };
      chain = [];
      rest = [];
      continue;
    }
    const bdf = rest.length === 0 && part.length >= 12 ? tryParseBdf(part) : null;
    if (place !== null && bdf !== null) chain.push(bdf);
    else if (part !== "") rest.push(part);
  }
  return place === null ? null : { ...place, chain, rest };
}

/** Puts functions with paths into a forest. Bridges that are in paths only are kept, bare. */
export class PathForest {
  private readonly roots = new Map<
    string,
    { domain: number; bus: number; nodes: Map<Bdf, Draft> }
  >();
  private readonly drafts = new Map<Bdf, Draft>();
  private readonly numaNodes = new Map<string, number>();

  add(path: DevicePath, facts: SparseFunction): void {
    this.at(path).facts = facts;
  }

  /** The bus behind a bridge, known from a `pci_bus` entry even when nothing is on it. */
  addBus(path: DevicePath, bus: number): void {
    if (path.chain.length > 0) this.at(path).secondary = bus;
  }

  setNumaNode(path: DevicePath, node: number): void {
    this.numaNodes.set(`${path.domain}:${path.bus}`, node);
  }

  private at({ domain, bus, chain }: DevicePath): Draft {
    const key = `${domain}:${bus}`;
    let root = this.roots.get(key);
    if (root === undefined) {
      root = { domain, bus, nodes: new Map() };
      this.roots.set(key, root);
    }
    let level = root.nodes;
    let draft: Draft | undefined;
    for (const bdf of chain) {
      draft = this.drafts.get(bdf);
      if (draft === undefined) {
        draft = { facts: { bdf }, secondary: null, below: new Map() };
        this.drafts.set(bdf, draft);
        level.set(bdf, draft);
      }
      level = draft.below;
    }
    return draft ?? { facts: { bdf: 0 as Bdf }, secondary: null, below: new Map() };
  }

  get functionCount(): number {
    return this.drafts.size;
  }

  /** Depth is bounded by the paths' lengths, which the caller bounds. */
  toRoots(): ForestRoot[] {
    return [...this.roots].map(([key, { domain, bus, nodes }]) => ({
      domain,
      bus,
      numaNode: this.numaNodes.get(key) ?? null,
      children: [...nodes.values()].map(toNode),
    }));
  }
}

interface Draft {
  facts: SparseFunction;
  secondary: number | null;
  readonly below: Map<Bdf, Draft>;
}

const CLASS_PCI_BRIDGE = 0x0604;

function toNode({ facts, secondary, below }: Draft): ForestNode {
  const children = [...below.values()].map(toNode);
  const isBridge =
    children.length > 0 ||
    (facts.classCode ?? 0) >>> 8 === CLASS_PCI_BRIDGE ||
    (facts.isBridge ?? false);
  if (secondary === null) return { ...facts, isBridge, children };
  const last = lastBus(children, secondary);
  return { ...facts, isBridge, buses: { secondary, subordinate: last }, children };
}

function lastBus(nodes: readonly ForestNode[], least: number): number {
  return nodes.reduce(
    (last, node) =>
      Math.max(last, Math.floor((node.bdf % 65536) / 256), node.buses?.subordinate ?? 0),
    least,
  );
}
