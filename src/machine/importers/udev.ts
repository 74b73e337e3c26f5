/**
 * `udevadm info --export-db`: places by device path, ids, classes, drivers, names, and what Linux
 * calls the devices of each function.
 *
 * Leaves out: serial numbers, MAC addresses and links by id, which that database is full of; they
 * are not even read. It tells no register, so no ACS, BAR or link.
 */

import { PeerlaneError } from "../../core/index.ts";
import type { MachinePart } from "../assemble.ts";
import { type DevicePath, PathForest, parseDevicePath } from "./device-path.ts";
import { partFromForest } from "./forest.ts";
import { isKernelName, KERNEL_NAMES_MAX } from "./kernel-names.ts";
import type { SparseFunction } from "./sparse.ts";

const FORMAT = "udev-db";
const BECAUSE = "the udev database does not tell it";
/** A path longer than this is no device of a machine. */
const PATH_CHARS_MAX = 1024;

/** True when the first bytes are a udev database dump. */
export function isUdevDb(head: string): boolean {
  return /^P: \/devices\//m.test(head) && /^E: DEVPATH=/m.test(head);
}

const WANTED = new Set([
  "DEVPATH",
  "SUBSYSTEM",
  "DEVTYPE",
  "DRIVER",
  "PCI_CLASS",
  "PCI_ID",
  "PCI_SUBSYS_ID",
  "ID_VENDOR_FROM_DATABASE",
  "ID_MODEL_FROM_DATABASE",
  "ID_PCI_SUBCLASS_FROM_DATABASE",
]);

/** Devices whose names people use for a function. */
const NAMED_SUBSYSTEMS = new Set(["net", "nvme", "infiniband", "block", "drm", "dax", "accel"]);

export function parseUdevDb(text: string, file: string): MachinePart {
  const forest = new PathForest();
  const names = new Map<number, string[]>();
  const facts: { path: DevicePath; sparse: SparseFunction }[] = [];
  for (const record of records(text)) {
    const devPath = record.get("DEVPATH");
    if (devPath === undefined || devPath.length > PATH_CHARS_MAX) continue;
    const path = parseDevicePath(devPath);
    const owner = path?.chain.at(-1);
    if (path === null || owner === undefined) continue;
    const subsystem = record.get("SUBSYSTEM") ?? "";
    if (subsystem === "pci" && path.rest.length === 0) {
      facts.push({ path, sparse: functionFacts(record, owner) });
    } else if (subsystem === "pci_bus") {
      const bus = /:([0-9a-f]{2})$/.exec(path.rest.at(-1) ?? "");
      if (bus !== null) forest.addBus(path, Number.parseInt(bus[1], 16));
    } else if (NAMED_SUBSYSTEMS.has(subsystem) && record.get("DEVTYPE") !== "partition") {
      const name = path.rest.at(-1) ?? "";
      const list = names.get(owner) ?? [];
      if (isKernelName(name) && list.length < KERNEL_NAMES_MAX) names.set(owner, [...list, name]);
    }
  }
  for (const { path, sparse } of facts) {
    const kernelNames = [...new Set(names.get(sparse.bdf) ?? [])].sort();
    forest.add(path, { ...sparse, kernelNames });
  }
  if (forest.functionCount === 0) {
    throw new PeerlaneError("no-pci-tree", `${file} has no PCI devices in it`, {
      place: file,
      remedy: "Take it on the machine itself, outside of containers: udevadm info --export-db.",
    });
  }
  return partFromForest(forest.toRoots(), {
    source: { file, format: FORMAT },
    host: {},
    warnings: [],
    because: BECAUSE,
    isComplete: true,
  });
}

/** Wanted properties of each record; records are separated by blank lines or the next `P:`. */
function* records(text: string): Generator<Map<string, string>> {
  let record = new Map<string, string>();
  for (const line of text.split("\n")) {
    if (line.startsWith("E: ")) {
      const equals = line.indexOf("=");
      const key = line.slice(3, equals);
      if (equals > 3 && WANTED.has(key)) record.set(key, line.slice(equals + 1).trim());
    } else if (line === "" || line === "\r" || line.startsWith("P: ")) {
      if (record.size > 0) yield record;
      record = new Map();
    }
  }
  if (record.size > 0) yield record;
}

function functionFacts(record: ReadonlyMap<string, string>, bdf: SparseFunction["bdf"]) {
  const facts: { -readonly [K in keyof SparseFunction]: SparseFunction[K] } = { bdf };
  const classCode = Number.parseInt(record.get("PCI_CLASS") ?? "", 16);
  if (classCode >= 0 && classCode <= 0xffffff) facts.classCode = classCode;
  const ids = pair(record.get("PCI_ID"));
  if (ids !== null) [facts.vendorId, facts.deviceId] = ids;
  const subsystem = pair(record.get("PCI_SUBSYS_ID"));
  if (subsystem !== null) [facts.subsystemVendorId, facts.subsystemId] = subsystem;
  facts.driver = record.get("DRIVER") ?? null;
  const vendor = record.get("ID_VENDOR_FROM_DATABASE");
  const model = record.get("ID_MODEL_FROM_DATABASE");
  const kind = record.get("ID_PCI_SUBCLASS_FROM_DATABASE");
  if (vendor !== undefined) facts.vendorName = vendor;
  if (model !== undefined) facts.deviceName = model;
  if (kind !== undefined) facts.className = kind;
  return facts;
}

function pair(text: string | undefined): [number, number] | null {
  const match = /^([0-9a-f]{1,4}):([0-9a-f]{1,4})$/i.exec(text ?? "");
  return match === null ? null : [Number.parseInt(match[1], 16), Number.parseInt(match[2], 16)];
}
