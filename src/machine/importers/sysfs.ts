/**
 * A machine from a tree of /sys: of this machine, of a copied folder, or of a tar as
 * hwloc-gather-topology, ghw or sosreport make it. Configuration space decides where it is there;
 * the kernel's own files tell the rest: sizes of BARs, CPU addresses, links, NUMA, IOMMU, names.
 *
 * CPU address minus bus address of the same BAR is the offset of its host bridge; that is how a
 * machine with shifted apertures shows.
 *
 * Leaves out: what needs a write (sizing BARs), and files with serial numbers or MAC addresses.
 */

import {
  ADDRESS_LIMIT,
  type Bdf,
  bdfBus,
  bdfDomain,
  formatBdf,
  formatBus,
  isAddress,
  MACHINE_FUNCTIONS_MAX,
  PeerlaneError,
  SYSFS_READS_AT_ONCE,
  tryParseBdf,
} from "../../core/index.ts";
import type { Files } from "../../platform/index.ts";
import type { MachinePart } from "../assemble.ts";
import { UNKNOWN_ID } from "../blank.ts";
import { isBarEnabled } from "../complete.ts";
import { factsFromConfig } from "../config-facts.ts";
import type { HostFacts, RootBusRange } from "../host-facts.ts";
import { type Bar, isUnknown, type PciFunction, type Source } from "../snapshot.ts";
import { PathForest, parseDevicePath } from "./device-path.ts";
import { partFromForest } from "./forest.ts";
import { parseLink } from "./link-text.ts";
import type { SparseFunction } from "./sparse.ts";
import { readSysfsFunction, type SysfsFunction, SysfsReader } from "./sysfs-function.ts";

const BECAUSE = "the files of sysfs do not tell it";

export interface SysfsTree {
  readonly part: MachinePart;
  /** Files that exist and may not be read. */
  readonly denied: readonly string[];
  /** Sizes of the configuration spaces read, and how many functions have each; 0 for none. */
  readonly configSizes: ReadonlyMap<number, number>;
}

/**
 * Reads the tree below `sys` (the folder that has `bus` and `devices`).
 * @throws PeerlaneError `no-pci-tree` when there is no PCI device in it
 */
export async function readSysfs(files: Files, sys: string, source: Source): Promise<SysfsTree> {
  const reader = new SysfsReader(files);
  const found = await findFunctions(reader, sys);
  if (found.length === 0) {
    throw new PeerlaneError("no-pci-tree", `${source.file} has no PCI devices below ${sys}`, {
      place: source.file,
      remedy:
        "A copy of sysfs needs bus/pci/devices and devices/pci*: hwloc-gather-topology has both.",
    });
  }
  if (found.length > MACHINE_FUNCTIONS_MAX) {
    throw new PeerlaneError("too-large", `more than ${MACHINE_FUNCTIONS_MAX} functions`, {
      place: source.file,
      remedy: "Give the tree of one machine.",
    });
  }
  const raw: SysfsFunction[] = [];
  for (let at = 0; at < found.length; at += SYSFS_READS_AT_ONCE) {
    const some = found.slice(at, at + SYSFS_READS_AT_ONCE);
    raw.push(
      ...(await Promise.all(
        some.map(({ bdf, folder, target }) => readSysfsFunction(reader, bdf, folder, target)),
      )),
    );
  }
  const slots = await readSlots(reader, sys);
  const part = assemblePart(raw, slots, source, await iommuFacts(reader, sys, raw));
  const configSizes = new Map<number, number>();
  for (const { config } of raw) {
    const size = config?.length ?? 0;
    configSizes.set(size, (configSizes.get(size) ?? 0) + 1);
  }
  return { part, denied: reader.denied, configSizes };
}

interface Found {
  readonly bdf: Bdf;
  readonly folder: string;
  readonly target: string | null;
}

/** From bus/pci/devices; trees without it are walked down from devices/pci*. */
async function findFunctions(reader: SysfsReader, sys: string): Promise<Found[]> {
  const list = `${sys}/bus/pci/devices`;
  const found: Found[] = [];
  for (const name of await reader.names(list)) {
    const bdf = tryParseBdf(name);
    if (bdf === null) continue;
    const folder = `${list}/${name}`;
    found.push({ bdf, folder, target: await reader.link(folder) });
  }
  if (found.length > 0) return found;
  const queue = (await reader.names(`${sys}/devices`))
    .filter((name) => name.startsWith("pci"))
    .map((name) => `${sys}/devices/${name}`);
  for (let at = 0; at < queue.length && found.length <= MACHINE_FUNCTIONS_MAX; at++) {
    const folder = queue[at] as string;
    for (const name of await reader.names(folder)) {
      const bdf = tryParseBdf(name);
      if (bdf === null || name.length < 12) continue;
      const path = `${folder}/${name}`;
      // A folder without ids is a leftover of a pruned copy, not a function.
      if ((await reader.number(`${path}/vendor`)) !== null) {
        found.push({ bdf, folder: path, target: path });
      }
      queue.push(path);
    }
  }
  return found;
}

/** Slot names by domain, bus and device: `0000:18:00`. */
async function readSlots(reader: SysfsReader, sys: string): Promise<Map<string, string>> {
  const slots = new Map<string, string>();
  for (const name of await reader.names(`${sys}/bus/pci/slots`)) {
    const address = await reader.text(`${sys}/bus/pci/slots/${name}/address`);
    if (address !== null) slots.set(address, name);
  }
  return slots;
}

/** The mode of the whole machine from the domain types of its groups. */
async function iommuFacts(
  reader: SysfsReader,
  sys: string,
  raw: readonly SysfsFunction[],
): Promise<HostFacts> {
  const types = new Set(raw.map(({ iommuDomain }) => iommuDomain).filter((type) => type !== null));
  if (types.size > 0) {
    return { iommu: [...types].every((type) => type === "identity") ? "passthrough" : "strict" };
  }
  if (raw.some(({ iommuGroup }) => iommuGroup !== null)) return {};
  // No group at all means that no IOMMU translates, if the tree would have shown groups.
  const kernel = await reader.names(`${sys}/kernel`);
  const groups = await reader.names(`${sys}/kernel/iommu_groups`);
  return kernel.includes("iommu_groups") && groups.length === 0 ? { iommu: "off" } : {};
}

function assemblePart(
  raw: readonly SysfsFunction[],
  slots: ReadonlyMap<string, string>,
  source: Source,
  host: HostFacts,
): MachinePart {
  const forest = new PathForest();
  const lost: string[] = [];
  for (const fn of raw) {
    // Copies may flatten links to folders; then only configuration space tells places.
    const path = fn.path ?? parseDevicePath(`/pci${rootNameOf(fn.bdf)}/${formatBdf(fn.bdf)}`);
    if (fn.path === null) lost.push(formatBdf(fn.bdf));
    if (path !== null) forest.add(path, sparseOf(fn, slots));
  }
  const part = partFromForest(forest.toRoots(), {
    source,
    host,
    warnings: [],
    because: BECAUSE,
    isComplete: true,
  });
  const byBdf = new Map(raw.map((fn) => [fn.bdf, fn]));
  const functions = part.functions.map((fn) => {
    const seen = byBdf.get(fn.bdf);
    return seen === undefined ? fn : withConfig(fn, seen);
  });
  const warnings = [...part.warnings];
  if (lost.length > 0) {
    warnings.push(
      `${source.file}: ${lost.length} functions have no device path (links became folders)`,
    );
  }
  return {
    ...part,
    functions,
    hostBridges: lost.length > 0 ? null : part.hostBridges,
    rootBuses: rootBusRanges(functions, byBdf, warnings),
    warnings,
  };
}

const rootNameOf = (bdf: Bdf): string => formatBus(bdfDomain(bdf), bdfBus(bdf));

/** Null in `told` means that the system says there is none; missing files are left out. */
function sparseOf(fn: SysfsFunction, slots: ReadonlyMap<string, string>): SparseFunction {
  const known = <K extends string, V>(name: K, value: V | null) =>
    value === null ? {} : ({ [name]: value } as Record<K, V>);
  const slot = formatBdf(fn.bdf).slice(0, -2);
  const isBridge = fn.secondaryBus !== null;
  return {
    bdf: fn.bdf,
    ...known("vendorId", fn.vendorId),
    ...known("deviceId", fn.deviceId),
    ...known("subsystemVendorId", fn.subsystemVendorId),
    ...known("subsystemId", fn.subsystemId),
    ...known("classCode", fn.classCode),
    ...known("revision", fn.revision),
    ...(isBridge
      ? { buses: { secondary: fn.secondaryBus ?? 0, subordinate: fn.subordinateBus ?? 0 } }
      : {}),
    ...(fn.numaNode === null ? {} : { numaNode: fn.numaNode < 0 ? null : fn.numaNode }),
    iommuGroup: fn.iommuGroup,
    iommuDomain: fn.iommuDomain,
    driver: fn.driver,
    physicalFunction: fn.physicalFunction,
    ...known("link", parseLink(fn.linkSpeed ?? "", fn.linkWidth ?? "")),
    ...known("linkCapability", parseLink(fn.linkSpeedMax ?? "", fn.linkWidthMax ?? "")),
    ...(fn.resources.length > 1 ? { bars: barsFromResources(fn, null) } : {}),
    p2pmem: fn.p2pmem,
    physicalSlot: slots.get(slot) ?? null,
    kernelNames: fn.kernelNames,
  };
}

/** Flags of struct resource, include/linux/ioport.h. */
const IORESOURCE_IO = 0x100;
const IORESOURCE_MEM = 0x200;
const IORESOURCE_PREFETCH = 0x2000;
const IORESOURCE_MEM_64 = 0x100000;
const IORESOURCE_ROM_ENABLE = 0x1;
const IORESOURCE_UNSET = 0x20000000;
const BAR_LINES = 6;
const ROM_LINE = 6;
/** With SR-IOV in the kernel, lines 7 to 12 are the BARs of all virtual functions together. */
const VF_LINE = 7;

const hasFlag = (flags: number, flag: number): boolean => (flags & flag) !== 0;

const sizeOf = ({ start, end }: { start: number; end: number }): number | null => {
  const size = end - start + 1;
  return isAddress(size) && Number.isInteger(Math.log2(size)) ? size : null;
};

/**
 * BARs as the kernel assigned them. Addresses are the CPU's, which most machines use on the bus.
 */
function barsFromResources(fn: SysfsFunction, command: number | null): Bar[] {
  const bars: Bar[] = [];
  for (let index = 0; index <= ROM_LINE; index++) {
    const resource = fn.resources[index] ?? null;
    if (resource === null || hasFlag(resource.flags, IORESOURCE_UNSET)) continue;
    const isMemory = hasFlag(resource.flags, IORESOURCE_MEM);
    if (!isMemory && !hasFlag(resource.flags, IORESOURCE_IO)) continue;
    const bar: Bar = {
      index: index < BAR_LINES ? index : 6,
      kind: !isMemory ? "io" : hasFlag(resource.flags, IORESOURCE_MEM_64) ? "memory64" : "memory32",
      prefetchable: hasFlag(resource.flags, IORESOURCE_PREFETCH),
      address: isAddress(resource.start) ? resource.start : 0,
      sizeBytes: sizeOf(resource),
      enabled: true,
    };
    const decodes = index !== ROM_LINE || hasFlag(resource.flags, IORESOURCE_ROM_ENABLE);
    bars.push({ ...bar, enabled: decodes && isBarEnabled(bar, command) });
  }
  return bars;
}

/** What configuration space tells, with what only the kernel knows added. */
function withConfig(sparse: PciFunction, raw: SysfsFunction): PciFunction {
  if (raw.config === null) return sparse;
  const base = factsFromConfig(raw.bdf, raw.config);
  // A function that is asleep or gone answers all ones; the kernel remembers what it is.
  if (isUnknown(base, "classCode")) return { ...sparse, config: raw.config };
  const told = barsFromResources(raw, base.command);
  const bars = base.bars.map((bar) => {
    const match = told.find(({ index }) => index === bar.index);
    return match === undefined ? bar : { ...bar, sizeBytes: bar.sizeBytes ?? match.sizeBytes };
  });
  // A virtual function's registers read zero; the kernel knows where they are.
  if (raw.physicalFunction !== null && bars.length === 0) bars.push(...told);
  const sriov =
    base.sriov === null ? null : { ...base.sriov, bars: vfBars(base.sriov, raw.resources) };
  const takesPcie = isUnknown(base, "pcie") && sparse.pcie !== null;
  const merged: PciFunction = {
    ...base,
    // Ids of virtual functions read all ones too (PCIe Base 6.0 section 9.3.4.1).
    vendorId: base.vendorId === UNKNOWN_ID ? sparse.vendorId : base.vendorId,
    deviceId: base.deviceId === UNKNOWN_ID ? sparse.deviceId : base.deviceId,
    bars,
    sriov,
    pcie: takesPcie ? sparse.pcie : base.pcie,
    physicalFunction: sparse.physicalFunction,
    numaNode: sparse.numaNode,
    iommuGroup: sparse.iommuGroup,
    iommuDomain: sparse.iommuDomain ?? null,
    driver: sparse.driver,
    physicalSlot: sparse.physicalSlot,
    kernelNames: sparse.kernelNames ?? [],
    p2pmem: sparse.p2pmem,
  };
  const stays = base.unknown.filter(({ field }) => !isToldNow(field, merged, sparse));
  const carried = sparse.unknown.filter(
    ({ field }) => field === "numaNode" || (takesPcie && field.startsWith("pcie.")),
  );
  return { ...merged, unknown: [...stays, ...carried] };
}

/** Whether an entry that configuration space left unknown is answered by the kernel's files. */
function isToldNow(field: string, fn: PciFunction, sparse: PciFunction): boolean {
  const size = /^(sriov\.)?bars\[(\d)\]\.sizeBytes$/.exec(field);
  if (size !== null) {
    const bars = (size[1] === undefined ? fn.bars : fn.sriov?.bars) ?? [];
    return bars.some(({ index, sizeBytes }) => index === Number(size[2]) && sizeBytes !== null);
  }
  if (field === "vendorId" || field === "deviceId") return fn[field] !== UNKNOWN_ID;
  if (field === "pcie") return sparse.pcie !== null;
  return field === "numaNode" || field === "iommuGroup" || field === "driver";
}

function vfBars(
  sriov: { readonly totalVfs: number; readonly bars: readonly Bar[] },
  resources: SysfsFunction["resources"],
): Bar[] {
  return sriov.bars.map((bar) => {
    const resource = resources[VF_LINE + bar.index] ?? null;
    if (bar.sizeBytes !== null || resource === null || sriov.totalVfs === 0) return bar;
    const size = (resource.end - resource.start + 1) / sriov.totalVfs;
    return Number.isInteger(Math.log2(size)) ? { ...bar, sizeBytes: size } : bar;
  });
}

/** Where BARs prove that the CPU and the bus see different addresses: one range per root bus. */
function rootBusRanges(
  functions: readonly PciFunction[],
  raw: ReadonlyMap<Bdf, SysfsFunction>,
  warnings: string[],
): RootBusRange[] {
  const ranges = new Map<
    string,
    { path: { domain: number; bus: number }; offsets: Map<number, [number, number]> }
  >();
  for (const fn of functions) {
    const seen = raw.get(fn.bdf);
    if (seen?.path == null || seen.config === null) continue;
    for (const bar of fn.bars) {
      const resource = seen.resources[bar.index] ?? null;
      if (resource === null || bar.kind === "io" || !bar.enabled || bar.index > 5) continue;
      if (hasFlag(resource.flags, IORESOURCE_UNSET) || resource.end >= ADDRESS_LIMIT) continue;
      const key = `${seen.path.domain}:${seen.path.bus}`;
      const entry = ranges.get(key) ?? { path: seen.path, offsets: new Map() };
      ranges.set(key, entry);
      const offset = resource.start - bar.address;
      const [low, high] = entry.offsets.get(offset) ?? [resource.start, resource.end];
      entry.offsets.set(offset, [Math.min(low, resource.start), Math.max(high, resource.end)]);
    }
  }
  const result: RootBusRange[] = [];
  for (const { path, offsets } of ranges.values()) {
    // All zero is the identity that is assumed anyway.
    if (offsets.size === 1 && offsets.has(0)) continue;
    for (const [offset, [low, high]] of offsets) {
      result.push({
        domain: path.domain,
        rootBus: path.bus,
        phys: low,
        bus: low - offset,
        sizeBytes: high - low + 1,
      });
    }
    warnings.push(
      `addresses on root bus ${path.bus.toString(16)} of domain ${path.domain.toString(16)} ` +
        "differ from the CPU's: apertures are known only where BARs show them",
    );
  }
  return result;
}
