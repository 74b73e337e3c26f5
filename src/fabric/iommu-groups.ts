/**
 * Which functions an IOMMU can tell apart and isolate: groups as Linux forms them. Functions share
 * a group when the requests of one may carry another's requester id (below a conventional bridge),
 * or when they can reach each other without passing the IOMMU (a port on the way to the root
 * without ACS isolation, functions of one device without it).
 *
 * Simplifications: groups follow the ACS bits of the snapshot's moment (Linux forms them at boot),
 * and quirks of devices that isolate without saying so are not known here.
 *
 * Source: the rule as documented for iommu_group in Documentation/driver-api/vfio.rst, and PCI
 * Express Base 6.x, 6.12.
 */

import type { Bdf } from "../core/index.ts";
import { Acs, AcsBit, readLe16 } from "../spec/pcie/index.ts";
import type { FabricNode } from "./node.ts";

/** What isolates: no peer-to-peer and no forged requester id gets past such a port. */
const ISOLATION =
  AcsBit.sourceValidation |
  AcsBit.requestRedirect |
  AcsBit.completionRedirect |
  AcsBit.upstreamForwarding;

/** Group numbers by function: 0, 1, ... in order of the functions. */
export function iommuGroups(nodes: readonly FabricNode[]): Map<Bdf, number> {
  const numbers = new Map<FabricNode, number>();
  const groups = new Map<Bdf, number>();
  for (const node of nodes) {
    const lead = leadOf(node);
    let number = numbers.get(lead);
    if (number === undefined) {
      number = numbers.size;
      numbers.set(lead, number);
    }
    groups.set(node.bdf, number);
  }
  return groups;
}

/** The function that stands for the group of `node`. */
function leadOf(node: FabricNode): FabricNode {
  let lead = node;
  for (let at = node.parent; at !== null; at = at.parent) if (at.role === "bridge") lead = at;
  for (let at = lead.parent; at !== null && !isPathIsolated(at); at = at.parent) lead = at;
  if (isFunctionIsolated(lead)) return lead;
  const shared = lead.siblings.find(
    (other) => other.isSameDevice(lead) && !isFunctionIsolated(other),
  );
  return shared ?? lead;
}

/** Every port from `port` to the root isolates. */
function isPathIsolated(port: FabricNode): boolean {
  for (let at: FabricNode | null = port; at !== null; at = at.parent) {
    if (!isIsolated(at)) return false;
  }
  return true;
}

function isIsolated(node: FabricNode): boolean {
  switch (node.role) {
    case "root-port":
    case "switch-downstream":
      return hasIsolationBits(node);
    case "bridge":
      return false;
    default:
      return isFunctionIsolated(node);
  }
}

/** Functions of one device may reach each other inside it, unless ACS says not. */
function isFunctionIsolated(node: FabricNode): boolean {
  const isAlone = !node.siblings.some((other) => other !== node && other.isSameDevice(node));
  return isAlone || hasIsolationBits(node);
}

/** Controls that the function does not implement protect from nothing that it could do. */
function hasIsolationBits(node: FabricNode): boolean {
  if (node.acsOffset === 0) return false;
  const capability = readLe16(node.config.bytes, node.acsOffset + Acs.capabilities);
  const needed = ISOLATION & capability;
  return (node.acs & needed) === needed;
}
