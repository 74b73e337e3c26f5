/**
 * A function of which nothing is known but its name, and the reasons why things stay unknown.
 * Importers start from it and fill in what their input tells.
 *
 * Invariant: a field that is null for want of input has an entry in `unknown`; one that is null
 * because the device has no such thing has none.
 */

import type { Bdf } from "../core/index.ts";
import type { PciFunction, Unknown } from "./snapshot.ts";

/** A function while an importer fills it. */
export type FunctionDraft = { -readonly [K in keyof PciFunction]: PciFunction[K] };

/** What follows from not knowing a field. `bars[n].sizeBytes` is under `sizeBytes`. */
const CONSEQUENCES: Readonly<Record<string, string>> = {
  vendorId: "vendor unknown: host bridge lists and device quirks cannot be applied",
  deviceId: "device id unknown: host bridge lists cannot be applied",
  classCode: "class unknown: the kind of device is not recognised",
  command: "command register unknown: taken as decoding memory and allowed to master the bus",
  bars: "BARs unknown: it cannot be a provider, and windows cannot be checked",
  bridge: "bus numbers and windows unknown: what is below this bridge cannot be told",
  pcie: "PCI Express capability unknown: port type, link and payload sizes cannot be told",
  acs: "ACS unknown, taken as absent: a redirect at this function would go unnoticed",
  sriov: "SR-IOV unknown, taken as absent: virtual functions are not matched to their owner",
  aerOffset: "AER unknown, taken as absent",
  ats: "ATS unknown, taken as absent",
  resizableBars: "resizable BARs unknown: whether a BAR could be enlarged cannot be told",
  msix: "MSI-X unknown, taken as absent",
  capabilities: "the list of capabilities is incomplete",
  numaNode: "NUMA node unknown: distances to CPUs and memory cannot be told",
  iommuGroup: "IOMMU group unknown: isolation cannot be told",
  driver: "driver unknown",
  parent: "no bridge to its bus in the input: its place is unknown, it is treated as on a root bus",
  sizeBytes: "BAR size unknown: its end is unknown and overlaps cannot be checked",
  address: "the BAR's address is at or above 2^52 and cannot be used",
};

/** Entries recur in every function of a dump; sharing them keeps big machines small. */
const shared = new Map<string, Unknown>();

/** An entry for `field`, with the reason first when one is given. */
export function unknownField(field: string, reason = ""): Unknown {
  const key = `${field}|${reason}`;
  let entry = shared.get(key);
  if (entry === undefined) {
    const plain = field.replace(/^(?:sriov\.)?bars\[\d\]\./, "");
    const consequence = CONSEQUENCES[plain] ?? `${field} unknown`;
    entry = { field, consequence: reason === "" ? consequence : `${reason}: ${consequence}` };
    // Reasons come from a small fixed set; this bound only guards against a mistake.
    if (shared.size < 4096) shared.set(key, entry);
  }
  return entry;
}

/** Value of {@link PciFunction.vendorId} and deviceId when unknown: no vendor has this id. */
export const UNKNOWN_ID = 0xffff;

/** What is nothing at all; copied, since the engine copies an object faster than it makes one. */
const NOTHING: PciFunction = {
  bdf: 0 as Bdf,
  vendorId: UNKNOWN_ID,
  deviceId: UNKNOWN_ID,
  subsystemVendorId: null,
  subsystemId: null,
  classCode: 0,
  revision: 0,
  headerType: 0,
  multiFunction: false,
  command: null,
  bars: [],
  bridge: null,
  pcie: null,
  acs: null,
  sriov: null,
  physicalFunction: null,
  resizableBars: [],
  msix: null,
  ats: null,
  aerOffset: null,
  capabilities: [],
  numaNode: null,
  iommuGroup: null,
  driver: null,
  vendorName: null,
  deviceName: null,
  className: null,
  physicalSlot: null,
  p2pmem: null,
  config: null,
  unknown: [],
};

/** Nothing known but the name; `unknown` is empty, the importer sets its own. */
export function blankFunction(bdf: Bdf): FunctionDraft {
  return { ...NOTHING, bdf };
}
