/**
 * Which function Linux looks up in its list of host bridges, where the dump does not tell: tools
 * that list devices of interest alone leave the first device of a root bus out, and a plain tree
 * has no ids.
 *
 * Leaves out: a root bus of which the dump has nothing at all (a card without the bridges above
 * it): its place is not known either, and `explain` says that.
 */

import { type Bdf, bdfBus, bdfDevfn, bdfDomain, makeBdf } from "../core/index.ts";
import {
  blankFunction,
  isUnknown,
  type Machine,
  type PciFunction,
  setIds,
} from "../machine/index.ts";
import type { Topology } from "../p2p/index.ts";

/** Class of a host bridge, PCI Code and ID Assignment: base class 06h, sub-class 00h. */
const HOST_BRIDGE_CLASS = 0x060000;
/** What lists no function but those that its user may care for. */
const PARTIAL_FORMATS = new Set(["hwloc-xml", "nccl-xml"]);

export interface HostBridgeIds {
  readonly vendorId: number;
  readonly deviceId: number;
}

/** The first device of each root bus of which the dump does not tell which device it is. */
export function unknownHostBridges({ machine, rootBuses }: Topology): Bdf[] {
  const isPartial =
    machine.sources.length > 0 &&
    machine.sources.every(({ format }) => PARTIAL_FORMATS.has(format));
  return rootBuses.flatMap(({ domain, bus, first }) => {
    if (first === null || isUnknown(first, "parent")) return [];
    if (isPartial && bdfDevfn(first.bdf) !== 0) return [makeBdf(domain, bus, 0, 0)];
    const isNamed = !isUnknown(first, "vendorId") && !isUnknown(first, "deviceId");
    return isNamed ? [] : [first.bdf];
  });
}

/** True where a function of that name would be the first of a root bus that has others. */
export const isFirstOfRootBus = ({ hostBridges, functions }: Machine, bdf: Bdf): boolean =>
  bdfDevfn(bdf) === 0 &&
  hostBridges.some(({ domain, bus }) => domain === bdfDomain(bdf) && bus === bdfBus(bdf)) &&
  functions.every((fn) => fn.bdf !== bdf);

/** A copy whose function has these ids; a first device that the dump has not is added. */
export function withHostBridge(machine: Machine, bdf: Bdf, ids: HostBridgeIds): Machine {
  if (!isFirstOfRootBus(machine, bdf)) return setIds(machine, bdf, ids);
  const added: PciFunction = { ...blankFunction(bdf), classCode: HOST_BRIDGE_CLASS, ...ids };
  const functions = [...machine.functions, added].sort((a, b) => a.bdf - b.bdf);
  return { ...machine, functions };
}
