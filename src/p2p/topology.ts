/**
 * The index over a machine that rules read: who is above whom, under which host bridge, with which
 * ACS controls. Built once per snapshot, in typed arrays, because a matrix of all pairs asks
 * millions of times.
 *
 * Nodes are the functions of the machine, by position. `parent` is what Linux calls the upstream
 * bridge: the bridge whose secondary bus the function is on, with a virtual function standing where
 * its physical function stands; -1 on a root bus.
 *
 * Invariant: a parent comes before its children (functions are sorted, and bus numbers grow
 * downwards; MachineIndex sees to it). Leaves out: live changes (make a new one).
 */

import { assert, type Bdf, busKey } from "../core/index.ts";
import { isUnknown, type Machine, MachineIndex, type PciFunction } from "../machine/index.ts";
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

/** A root bus and what may represent it in the kernel's host bridge list. */
export interface RootBus {
  readonly domain: number;
  readonly bus: number;
  /** First function on the bus; null when the snapshot has none there. */
  readonly first: PciFunction | null;
}

export class Topology {
  readonly machine: Machine;
  readonly count: number;
  readonly functions: readonly PciFunction[];
  /** Position of the upstream bridge, or -1; always smaller than the function's own. */
  readonly parent: Int32Array;
  /** Nodes from this one to its root bus, itself included. */
  readonly chain: Uint8Array;
  /** ACS Control, 0 where there is no ACS. */
  readonly acsControl: Uint16Array;
  /**
   * Redirecting nodes (see {@link ACS_REDIRECT}) from this one to its root bus, itself included.
   */
  readonly redirects: Uint8Array;
  /** Index into {@link rootBuses}. */
  readonly rootBus: Int32Array;
  readonly rootBuses: readonly RootBus[];
  /** Payload rate of the link above the node, one direction; Infinity where there is none. */
  readonly linkAbove: Float64Array;
  readonly index: MachineIndex;

  /** Throws what {@link MachineIndex} throws on bus numbers that cannot be. */
  constructor(machine: Machine, index = new MachineIndex(machine)) {
    const { functions } = machine;
    const count = functions.length;
    this.machine = machine;
    this.index = index;
    this.functions = functions;
    this.count = count;
    this.parent = new Int32Array(functions.map((_, node) => upstreamBridge(index, node)));
    this.acsControl = new Uint16Array(functions.map(({ acs }) => acs?.control ?? 0));
    this.linkAbove = new Float64Array(functions.map(linkBytesPerSecond));
    this.chain = new Uint8Array(count);
    this.redirects = new Uint8Array(count);
    for (let node = 0; node < count; node++) {
      const above = this.parent[node];
      assert(above < node, "a bridge is named before what is below it");
      this.chain[node] = 1 + (above < 0 ? 0 : this.chain[above]);
      this.redirects[node] =
        (above < 0 ? 0 : this.redirects[above]) + (this.redirectsAt(node) ? 1 : 0);
    }
    const roots = findRootBuses(index);
    this.rootBus = roots.of;
    this.rootBuses = roots.buses;
  }

  /** Position of a function; -1 when the machine has none of that name. */
  find(bdf: Bdf): number {
    return this.index.indexOf(bdf);
  }

  /** Position of a function. Throws {@link PeerlaneError} `no-such-function`. */
  at(bdf: Bdf): number {
    return this.index.requireIndex(bdf);
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

  /** True when the bridges above are missing in the dump, so that the way up is cut. */
  isOrphan(node: number): boolean {
    const root = this.rootBuses[this.rootBus[node]];
    return this.index.rootBusOf(standsFor(this.index, node)).bus !== root.bus;
  }

  /** From `node` up to its root bus, itself first. */
  chainOf(node: number): number[] {
    const chain: number[] = [];
    for (let at = node; at >= 0; at = this.parent[at]) chain.push(at);
    return chain;
  }

  /**
   * Redirecting nodes on both sides of `common` (-1: none), which belongs to the provider's side.
   */
  redirectsBetween(provider: number, client: number, common: number): number {
    if (common < 0) return this.redirects[provider] + this.redirects[client];
    const above = this.parent[common] < 0 ? 0 : this.redirects[this.parent[common]];
    return this.redirects[provider] - above + this.redirects[client] - this.redirects[common];
  }
}

/** A virtual function stands where its physical function stands. */
function standsFor(index: MachineIndex, node: number): number {
  const { physicalFunction } = index.functions[node];
  const physical = physicalFunction === null ? -1 : index.indexOf(physicalFunction);
  return physical < 0 ? node : physical;
}

/**
 * Dumps can name a physical function that stands below its virtual one: then it is not followed.
 */
function upstreamBridge(index: MachineIndex, node: number): number {
  const above = index.parentOf(standsFor(index, node));
  return above < node ? above : index.parentOf(node);
}

/** The host bridge of every function: as the machine lists them, else by its root bus. */
function findRootBuses(index: MachineIndex): { of: Int32Array; buses: RootBus[] } {
  const buses: RootBus[] = [];
  const known = new Map<number, number>();
  const of = index.functions.map((_, node) => {
    const place = standsFor(index, node);
    const { domain, bus } = index.hostBridgeOf(place) ?? index.rootBusOf(place);
    const key = busKey(domain, bus);
    let at = known.get(key);
    if (at === undefined) {
      at = buses.push(describeRoot(index, domain, bus)) - 1;
      known.set(key, at);
    }
    return at;
  });
  return { of: new Int32Array(of), buses };
}

function describeRoot(index: MachineIndex, domain: number, bus: number): RootBus {
  const first = index.functions[index.functionsOnBus(domain, bus)[0]] ?? null;
  return { domain, bus, first };
}
