/**
 * The index over a machine that rules read: who is above whom, under which host bridge, with which
 * ACS controls. Built once per snapshot, in typed arrays, because a matrix of all pairs asks millions
 * of times.
 *
 * Nodes are the functions of the machine, by position. `parent` is what Linux calls the upstream
 * bridge: the bridge whose secondary bus the function is on, with a virtual function standing where
 * its physical function stands; -1 on a root bus.
 *
 * Invariants: `order` lists parents before children; chains are at most BRIDGE_DEPTH_MAX long.
 * Leaves out: live changes (make a new one).
 */

import {
  type Bdf,
  BRIDGE_DEPTH_MAX,
  bdfBus,
  bdfDevfn,
  bdfDomain,
  busKey,
  formatBdf,
  PeerlaneError,
  UsageError,
} from "../core/index.ts";
import { isUnknown, type Machine, type PciFunction, PortType } from "../machine/index.ts";
import { linkBytesPerSecond } from "./links.ts";

/** ACS Control bits, PCIe Base 6.x section 7.7.11.3. */
export const Acs = {
  SV: 0x01,
  TB: 0x02,
  RR: 0x04,
  CR: 0x08,
  UF: 0x10,
  EC: 0x20,
  DT: 0x40,
} as const;
/** Any of these makes Linux treat a port as one that redirects. */
export const ACS_REDIRECT = Acs.RR | Acs.CR | Acs.EC;
/** From the start of the ACS capability. */
export const ACS_CONTROL_OFFSET = 6;

/** A root bus and what represents it in the kernel's host bridge list. */
export interface RootBus {
  readonly domain: number;
  readonly bus: number;
  /** First function on the bus; null when the snapshot has none there. */
  readonly first: PciFunction | null;
  /** `first`, if it is 00.0 or a root port: only then is it looked up. */
  readonly representative: PciFunction | null;
}

export class Topology {
  readonly machine: Machine;
  readonly count: number;
  readonly functions: readonly PciFunction[];
  /** Position of the upstream bridge, or -1. */
  readonly parent: Int32Array;
  /** Nodes from this one to its root bus, itself included. */
  readonly chain: Uint8Array;
  /** Positions, parents before children. */
  readonly order: Int32Array;
  /** ACS Control, 0 where there is no ACS. */
  readonly acsControl: Uint16Array;
  /** Redirecting nodes (see {@link ACS_REDIRECT}) from this one to its root bus, itself included. */
  readonly redirects: Uint8Array;
  /** Index into {@link rootBuses}. */
  readonly rootBus: Int32Array;
  readonly rootBuses: readonly RootBus[];
  /** Payload rate of the link above the node, one direction; Infinity where there is none. */
  readonly linkAbove: Float64Array;
  private readonly positions = new Map<Bdf, number>();

  /** Throws `bridge-loop` when bus numbers make a bridge its own ancestor. */
  constructor(machine: Machine) {
    this.machine = machine;
    this.functions = machine.functions;
    const count = machine.functions.length;
    this.count = count;
    this.parent = new Int32Array(count).fill(-1);
    this.chain = new Uint8Array(count);
    this.order = new Int32Array(count);
    this.acsControl = new Uint16Array(count);
    this.redirects = new Uint8Array(count);
    this.rootBus = new Int32Array(count).fill(-1);
    this.linkAbove = new Float64Array(count).fill(Number.POSITIVE_INFINITY);
    machine.functions.forEach((fn, i) => {
      this.positions.set(fn.bdf, i);
    });
    this.findParents();
    this.measureChains();
    this.rootBuses = this.findRootBuses();
    machine.functions.forEach((fn, i) => {
      this.acsControl[i] = fn.acs?.control ?? 0;
      this.linkAbove[i] = linkBytesPerSecond(fn);
    });
    for (const node of this.order) {
      const above = this.parent[node] < 0 ? 0 : this.redirects[this.parent[node]];
      this.redirects[node] = above + (this.redirectsAt(node) ? 1 : 0);
    }
  }

  /** Position of a function; -1 when the machine has none of that name. */
  find(bdf: Bdf): number {
    return this.positions.get(bdf) ?? -1;
  }

  /** Position of a function. Throws {@link UsageError} `no-such-function`. */
  at(bdf: Bdf): number {
    const node = this.find(bdf);
    if (node >= 0) return node;
    throw new UsageError("no-such-function", `${this.machine.name} has no ${formatBdf(bdf)}`, {
      remedy: "list the functions of the machine and name one of them",
    });
  }

  bdfOf(node: number): Bdf {
    return this.functions[node].bdf;
  }

  redirectsAt(node: number): boolean {
    return (this.acsControl[node] & ACS_REDIRECT) !== 0;
  }

  /** True when the snapshot cannot tell whether this function has ACS. */
  acsUnknown(node: number): boolean {
    return isUnknown(this.functions[node], "acs");
  }

  /** From `node` up to its root bus, itself first. */
  chainOf(node: number): number[] {
    const chain: number[] = [];
    for (let at = node; at >= 0; at = this.parent[at]) chain.push(at);
    return chain;
  }

  /** Redirecting nodes on both sides of `common` (-1: none), which belongs to the provider's side. */
  redirectsBetween(provider: number, client: number, common: number): number {
    if (common < 0) return this.redirects[provider] + this.redirects[client];
    const above = this.parent[common] < 0 ? 0 : this.redirects[this.parent[common]];
    return this.redirects[provider] - above + this.redirects[client] - this.redirects[common];
  }

  private findParents(): void {
    const bySecondary = new Map<number, number>();
    this.functions.forEach(({ bdf, bridge }, i) => {
      // A bridge nobody configured has secondary 0, or its own bus: nothing is below it.
      if (bridge === null || bridge.secondary <= bdfBus(bdf)) return;
      bySecondary.set(busKey(bdfDomain(bdf), bridge.secondary), i);
    });
    this.functions.forEach((fn, i) => {
      const place = this.functions[this.standsFor(fn, i)].bdf;
      const direct = bySecondary.get(busKey(bdfDomain(place), bdfBus(place)));
      this.parent[i] = direct ?? this.innermostBridge(place);
    });
  }

  /**
   * For a function on a bus that no bridge leads to: a virtual function whose physical function the
   * dump does not name sits on such a bus, inside the range of the bridge above both.
   */
  private innermostBridge(bdf: Bdf): number {
    const domain = bdfDomain(bdf);
    const bus = bdfBus(bdf);
    if (this.machine.hostBridges.some((root) => root.domain === domain && root.bus === bus)) {
      return -1;
    }
    let innermost = -1;
    let secondary = -1;
    this.functions.forEach(({ bdf: own, bridge }, i) => {
      if (bridge === null || bdfDomain(own) !== domain || bridge.secondary <= bdfBus(own)) return;
      const inside = bridge.secondary < bus && bus <= bridge.subordinate;
      if (inside && bridge.secondary > secondary) {
        innermost = i;
        secondary = bridge.secondary;
      }
    });
    return innermost;
  }

  /** A virtual function stands where its physical function stands. */
  private standsFor(fn: PciFunction, position: number): number {
    if (fn.physicalFunction === null) return position;
    const physical = this.find(fn.physicalFunction);
    return physical < 0 ? position : physical;
  }

  private measureChains(): void {
    let filled = 0;
    const place = (node: number): void => {
      const path: number[] = [];
      for (let at = node; at >= 0 && this.chain[at] === 0; at = this.parent[at]) {
        path.push(at);
        if (path.length > BRIDGE_DEPTH_MAX + 1) throw bridgeLoop(this.functions[node]);
      }
      for (const at of path.reverse()) {
        this.chain[at] = 1 + (this.parent[at] < 0 ? 0 : this.chain[this.parent[at]]);
        this.order[filled++] = at;
      }
    };
    for (let node = 0; node < this.count; node++) place(node);
  }

  private findRootBuses(): RootBus[] {
    const roots: RootBus[] = [];
    const byBus = new Map<number, number>();
    const add = (domain: number, bus: number): number => {
      const key = busKey(domain, bus);
      let index = byBus.get(key);
      if (index === undefined) {
        index = roots.push(this.describeRoot(domain, bus)) - 1;
        byBus.set(key, index);
      }
      return index;
    };
    for (const node of this.order) {
      const parent = this.parent[node];
      const { bdf, physicalFunction } = this.functions[node];
      const place = physicalFunction ?? bdf;
      this.rootBus[node] = parent < 0 ? add(bdfDomain(place), bdfBus(place)) : this.rootBus[parent];
    }
    return roots;
  }

  private describeRoot(domain: number, bus: number): RootBus {
    // Functions are sorted, so the first found is the first on the bus.
    const first =
      this.functions.find(({ bdf }) => bdfDomain(bdf) === domain && bdfBus(bdf) === bus) ?? null;
    const isLookedUp =
      first !== null && (bdfDevfn(first.bdf) === 0 || first.pcie?.portType === PortType.rootPort);
    return { domain, bus, first, representative: isLookedUp ? first : null };
  }
}

function bridgeLoop(fn: PciFunction): PeerlaneError {
  return new PeerlaneError("bridge-loop", "bridges above this function never reach a root bus", {
    place: formatBdf(fn.bdf),
    remedy: "bus numbers in the dump contradict each other; take a new dump",
  });
}
