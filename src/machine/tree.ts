/**
 * The machine as a tree of bridges, indexed once: parent, children, path to the root, common
 * bridge. Functions are named by their index in `machine.functions`, so that rules over all pairs
 * run on typed arrays.
 *
 * Invariants: the machine is not changed while an index of it lives; every walk ends, since a
 * parent's bus number is below its child's and depth is bounded by BRIDGE_DEPTH_MAX.
 */

import {
  assert,
  type Bdf,
  BRIDGE_DEPTH_MAX,
  busKey,
  formatBdf,
  formatBus,
  type Inspectable,
  PeerlaneError,
  type Tree,
  type TreeValue,
} from "../core/index.ts";
import { buildHierarchy, type Hierarchy } from "./hierarchy.ts";
import type { HostBridge, Machine, PciFunction } from "./snapshot.ts";

/** No such function: on a root bus there is no parent. */
export const NONE = -1;

export class MachineIndex implements Inspectable {
  readonly machine: Machine;
  readonly functions: readonly PciFunction[];
  readonly count: number;
  private readonly hierarchy: Hierarchy;
  /** Position in `machine.hostBridges` by function; NONE when the machine lists none for it. */
  private readonly hostBridges: Int32Array;
  private readonly firstChild: Int32Array;
  private readonly nextSibling: Int32Array;

  /** @throws PeerlaneError `bridge-depth` when bridges nest deeper than any machine has. */
  constructor(machine: Machine) {
    this.machine = machine;
    this.functions = machine.functions;
    this.count = machine.functions.length;
    this.hierarchy = buildHierarchy(machine.functions);
    this.hostBridges = new Int32Array(this.count).fill(NONE);
    this.firstChild = new Int32Array(this.count).fill(NONE);
    this.nextSibling = new Int32Array(this.count).fill(NONE);
    const bridges = this.hierarchy.rootBuses.map((root) =>
      machine.hostBridges.findIndex(
        ({ domain, bus, busEnd }) =>
          domain === root.domain && bus <= root.bus && root.bus <= busEnd,
      ),
    );
    // Backwards, so that lists of children run in order of BDF.
    for (let i = this.count - 1; i >= 0; i--) {
      this.hostBridges[i] = bridges[this.hierarchy.rootOf[i] as number] as number;
      const above = this.hierarchy.parent[i] as number;
      if (above === NONE) continue;
      this.nextSibling[i] = this.firstChild[above] as number;
      this.firstChild[above] = i;
    }
  }

  /** The index of a function by its name; NONE when the machine has none. */
  indexOf(bdf: Bdf): number {
    const at = this.firstFrom(bdf);
    return this.functions[at]?.bdf === bdf ? at : NONE;
  }

  functionAt(bdf: Bdf): PciFunction | null {
    const index = this.indexOf(bdf);
    return index === NONE ? null : (this.functions[index] as PciFunction);
  }

  /** @throws PeerlaneError `no-such-function` with the names of near ones. */
  requireIndex(bdf: Bdf): number {
    const index = this.indexOf(bdf);
    if (index !== NONE) return index;
    const near = this.functions
      .map((fn) => fn.bdf)
      .sort((a, b) => Math.abs(a - bdf) - Math.abs(b - bdf))
      .slice(0, 3);
    throw new PeerlaneError("no-such-function", `${formatBdf(bdf)} is not in the machine`, {
      place: this.machine.name,
      remedy: `name one that is there, near ones are ${near.map(formatBdf).join(", ")}`,
    });
  }

  /** The bridge whose secondary bus function `i` is on; NONE on a root bus. */
  parentOf(i: number): number {
    return this.hierarchy.parent[i] as number;
  }

  /** Bridges above function `i`. */
  depthOf(i: number): number {
    return this.hierarchy.depth[i] as number;
  }

  /** Functions right below bridge `i`, in order of BDF. */
  childrenOf(i: number): number[] {
    const children: number[] = [];
    for (let child = this.firstChild[i] as number; child !== NONE; ) {
      children.push(child);
      child = this.nextSibling[child] as number;
    }
    return children;
  }

  /** All functions below bridge `i`, in order of BDF. */
  descendantsOf(i: number): number[] {
    const found: number[] = [];
    for (let j = 0; j < this.count; j++) if (this.isBelow(j, i)) found.push(j);
    return found;
  }

  /** True when bridge `bridge` is on the way from `i` to its root bus. */
  isBelow(i: number, bridge: number): boolean {
    for (let at = this.parentOf(i); at !== NONE; at = this.parentOf(at)) {
      if (at === bridge) return true;
    }
    return false;
  }

  /**
   * Writes function `i` and the bridges above it, nearest first, and returns how many those are.
   * `out` must hold {@link PATH_MAX}.
   */
  pathToRoot(i: number, out: Int32Array): number {
    let length = 0;
    for (let at = i; at !== NONE; at = this.parentOf(at)) out[length++] = at;
    return length;
  }

  /** The bridge on the root bus above function `i`, or `i` itself if it sits there. */
  topOf(i: number): number {
    let at = i;
    for (let above = this.parentOf(at); above !== NONE; above = this.parentOf(at)) at = above;
    return at;
  }

  /** The root port above function `i` (itself if it is one); NONE for what sits on a root bus. */
  rootPortOf(i: number): number {
    const top = this.topOf(i);
    return this.functions[top]?.bridge === null ? NONE : top;
  }

  /** The nearest node that is above, or is, both functions; NONE when only the root bus is. */
  commonOf(a: number, b: number): number {
    let x = a;
    let y = b;
    for (let i = 0; i <= 2 * (BRIDGE_DEPTH_MAX + 1) && x !== y; i++) {
      if (x === NONE || y === NONE) return NONE;
      if (this.depthOf(x) >= this.depthOf(y)) x = this.parentOf(x);
      else y = this.parentOf(y);
    }
    assert(x === y, "two walks up the tree meet or end");
    return x;
  }

  /** Domain and number of the root bus above function `i`. */
  rootBusOf(i: number): { domain: number; bus: number } {
    const root = this.hierarchy.rootBuses[this.hierarchy.rootOf[i] as number];
    assert(root !== undefined, "every function is below a root bus");
    return root;
  }

  /** Position in `machine.hostBridges` of the host bridge above function `i`; NONE without one. */
  hostBridgeIndexOf(i: number): number {
    return this.hostBridges[i] as number;
  }

  hostBridgeOf(i: number): HostBridge | null {
    return this.machine.hostBridges[this.hostBridgeIndexOf(i)] ?? null;
  }

  /** Functions on one bus, in order; for a root bus these are what the host bridge sees. */
  functionsOnBus(domain: number, bus: number): number[] {
    const first = busKey(domain, bus) * 256;
    const found: number[] = [];
    for (let i = this.firstFrom(first); i < this.count; i++) {
      if (this.functions[i].bdf >= first + 256) break;
      found.push(i);
    }
    return found;
  }

  /** The index of the first function of this name or a higher one; `count` without one. */
  private firstFrom(bdf: number): number {
    const { functions } = this;
    let low = 0;
    for (let high = this.count; low < high; ) {
      const middle = (low + high) >>> 1;
      if (functions[middle].bdf < bdf) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  /** What is odd about the bus numbers. */
  get problems(): readonly string[] {
    return this.hierarchy.problems;
  }

  /** The whole tree, one node per bridge. */
  inspect(): Tree {
    const nodes: Record<string, TreeValue>[] = this.functions.map(() => ({}));
    const roots: Record<string, Record<string, TreeValue>> = {};
    for (let i = 0; i < this.count; i++) {
      const fn = this.functions[i] as PciFunction;
      const above = this.parentOf(i);
      const { domain, bus } = this.rootBusOf(i);
      const root = formatBus(domain, bus);
      const siblings = above === NONE ? (roots[root] ??= {}) : (nodes[above] as (typeof nodes)[0]);
      const name = fn.deviceName ?? fn.className ?? "";
      // A leaf is its name; a bridge is what is below it. Parents come first in BDF order.
      siblings[formatBdf(fn.bdf)] = fn.bridge === null ? name : (nodes[i] as Tree);
    }
    return roots;
  }
}

/** Longest path that {@link MachineIndex.pathToRoot} writes. */
export const PATH_MAX = BRIDGE_DEPTH_MAX + 1;
