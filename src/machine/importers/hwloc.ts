/**
 * hwloc XML, formats 1.x, 2.x and 3.0 (`lstopo topology.xml`): the tree of bridges with bus
 * numbers, ids, classes, links as bytes per second, NUMA places, CPU and kernel.
 *
 * Invariants: what hwloc filters out (its default keeps "important" devices and drops bridges that
 * lead nowhere) is said in a warning, never guessed.
 * Leaves out: caches, cores, distances. hwloc never tells ACS, BARs or IOMMU groups.
 */

import {
  type Bdf,
  bdfBus,
  bdfDomain,
  formatBdf,
  makeBdf,
  PeerlaneError,
  tryParseBdf,
} from "../../core/index.ts";
import type { MachinePart } from "../assemble.ts";
import type { HostFacts } from "../host-facts.ts";
import { type LinkFacts, PortType } from "../snapshot.ts";
import { type ForestNode, type ForestRoot, partFromForest } from "./forest.ts";
import { isKernelName } from "./kernel-names.ts";
import { classOf } from "./sparse.ts";
import { parseXml, type XmlElement } from "./xml.ts";

const FORMAT = "hwloc-xml";
const BECAUSE = "hwloc does not tell it";

const LINK_PARTS = {
  field: "pcie.link.width",
  consequence:
    "hwloc tells the rate of a link, not its parts: generation and width are one reading",
};

interface Walk {
  readonly roots: ForestRoot[];
  readonly facts: { -readonly [K in keyof HostFacts]: HostFacts[K] };
  readonly warnings: string[];
  bridgesLeftOut: number;
  portsOnRootBus: number;
}

export function parseHwloc(text: string, file: string): MachinePart {
  const topology = parseXml(text, file);
  if (topology.name !== "topology") {
    throw new PeerlaneError("not-hwloc", `${file} is XML, but not of hwloc`, { place: file });
  }
  const walk: Walk = { roots: [], facts: {}, warnings: [], bridgesLeftOut: 0, portsOnRootBus: 0 };
  const machine = topology.children.find(
    (child) => child.name === "object" && child.attributes.get("type") === "Machine",
  );
  // hwloc 3.0 keeps what it knows of the whole machine beside the objects.
  const infos = [topology, ...(machine === undefined ? [] : [machine])];
  for (const element of infos) readHostInfos(element, walk);
  for (const child of topology.children) visit(child, null, walk);
  if (walk.roots.length === 0) {
    throw new PeerlaneError("no-pci-tree", `${file} has no PCI devices in it`, {
      place: file,
      remedy: "Write it again with `lstopo --whole-io topology.xml` (hwloc 2: --filter io:all).",
    });
  }
  if (walk.bridgesLeftOut > 0) {
    walk.warnings.push(
      `${file} leaves PCI bridges out (hwloc's filter): ${walk.bridgesLeftOut} buses got a port ` +
        "of their own, so that switches which devices share are not seen; use --filter io:all",
    );
  }
  return partFromForest(walk.roots, {
    source: { file, format: FORMAT },
    host: walk.facts,
    warnings: walk.warnings,
    because: BECAUSE,
    isComplete: false,
  });
}

function readHostInfos({ children }: XmlElement, { facts }: Walk): void {
  for (const child of children) {
    if (child.name !== "info") continue;
    const value = child.attributes.get("value") ?? "";
    switch (child.attributes.get("name")) {
      case "Architecture":
        facts.architecture ??= value;
        break;
      case "OSRelease":
        facts.kernelVersion ??= value;
        break;
      case "CPUVendor":
        facts.cpuVendor ??= value;
        break;
      case "CPUModel":
        facts.cpuModel ??= value;
        break;
      case "CPUFamilyNumber":
        if (/^\d+$/.test(value)) facts.cpuFamily ??= Number(value);
        break;
      default:
        break;
    }
  }
}

/** The only node in a nodeset such as `0x00000002`; null when there are several or none. */
function singleNode(nodeset: string | undefined): number | null {
  if (nodeset === undefined) return null;
  const words = nodeset.split(",").reverse();
  let node: number | null = null;
  for (let word = 0; word < words.length; word++) {
    const bits = Number.parseInt(words[word] || "0", 16);
    if (!Number.isSafeInteger(bits) || bits === 0) continue;
    if (node !== null || (bits & (bits - 1)) !== 0) return null;
    node = word * 32 + Math.log2(bits);
  }
  return node;
}

/** Objects that are not I/O: they carry the NUMA place for host bridges below them. */
function visit(element: XmlElement, numaNode: number | null, walk: Walk): void {
  if (element.name !== "object") return;
  const { attributes } = element;
  const type = attributes.get("type");
  if (type === "Bridge" && (attributes.get("bridge_type") ?? "").startsWith("0-")) {
    walk.roots.push(hostBridge(element, numaNode, walk));
    return;
  }
  if (type === "PCIDev" || type === "Bridge") {
    // Without host bridges (a filter) a device hangs from a package: its bus stands for the root.
    const node = device(element, numaNode, walk);
    if (node === null) return;
    walk.warnings.push(`the host bridge above ${formatBdf(node.bdf)} is left out of the file`);
    walk.roots.push({
      domain: bdfDomain(node.bdf),
      bus: bdfBus(node.bdf),
      numaNode,
      children: [node],
    });
    return;
  }
  if (type === "Package" || type === "Socket") readHostInfos(element, walk);
  const own = singleNode(attributes.get("nodeset"));
  const os = type === "NUMANode" ? Number(attributes.get("os_index") ?? Number.NaN) : Number.NaN;
  const here = Number.isInteger(os) ? os : (own ?? numaNode);
  for (const child of element.children) visit(child, here, walk);
}

/** `0000:[00-15]`: domain, first and last bus. */
function busRange(
  text: string | undefined,
): { domain: number; first: number; last: number } | null {
  const match = /^([0-9a-f]{1,8}):\[([0-9a-f]{1,2})-([0-9a-f]{1,2})\]$/i.exec(text ?? "");
  if (match === null) return null;
  const [domain, first, last] = match.slice(1).map((part) => Number.parseInt(part, 16));
  return { domain, first, last };
}

function hostBridge(element: XmlElement, numaNode: number | null, walk: Walk): ForestRoot {
  const range = busRange(element.attributes.get("bridge_pci"));
  const children = devices(element, numaNode, walk);
  const domain = range?.domain ?? (children.length > 0 ? bdfDomain(children[0].bdf) : 0);
  const bus = range?.first ?? Math.min(0, ...children.map((child) => bdfBus(child.bdf)));
  return {
    domain,
    bus,
    ...(range === null ? {} : { busEnd: range.last }),
    numaNode,
    children: withPorts(children, domain, bus, walk),
  };
}

/** Devices whose bus is not the root bus have a bridge above them that hwloc filtered out. */
function withPorts(
  children: readonly ForestNode[],
  domain: number,
  bus: number,
  walk: Walk,
): ForestNode[] {
  const placed = children.filter((child) => bdfBus(child.bdf) === bus);
  const lost = new Map<number, ForestNode[]>();
  for (const child of children) {
    if (bdfBus(child.bdf) === bus) continue;
    const group = lost.get(bdfBus(child.bdf)) ?? [];
    group.push(child);
    lost.set(bdfBus(child.bdf), group);
  }
  const used = new Set(placed.map((child) => child.bdf));
  for (const [secondary, group] of lost) {
    const bdf = freeFunction(domain, bus, used);
    if (bdf === null) break;
    used.add(bdf);
    walk.bridgesLeftOut++;
    placed.push({
      bdf,
      isInferred: true,
      isBridge: true,
      portType: PortType.rootPort,
      buses: { secondary, subordinate: Math.max(secondary, ...group.map(lastBusOf)) },
      deviceName: "port that the file leaves out",
      children: group,
    });
  }
  return placed;
}

const lastBusOf = (node: ForestNode): number =>
  Math.max(bdfBus(node.bdf), node.buses?.subordinate ?? 0);

/** A name on the root bus that nothing has, from the highest device number down. */
function freeFunction(domain: number, bus: number, used: ReadonlySet<Bdf>): Bdf | null {
  for (let devfn = 255; devfn >= 8; devfn--) {
    const bdf = makeBdf(domain, bus, devfn >> 3, devfn & 7);
    if (!used.has(bdf)) return bdf;
  }
  return null;
}

function devices(element: XmlElement, numaNode: number | null, walk: Walk): ForestNode[] {
  return element.children.flatMap((child) => {
    const type = child.name === "object" ? child.attributes.get("type") : undefined;
    if (type !== "PCIDev" && type !== "Bridge") return [];
    const node = device(child, numaNode, walk);
    return node === null ? [] : [node];
  });
}

/** `0604 [8086:3c03] [0000:0000] 07 00`: class, ids, subsystem, revision, programming interface. */
const TYPE = new RegExp(
  "^([0-9a-f]{4})(?:\\([^)]*\\))? \\[([0-9a-f]{4}):([0-9a-f]{4})\\]" +
    "(?: \\[([0-9a-f]{4}):([0-9a-f]{4})\\])?(?: ([0-9a-f]{2}))?(?: ([0-9a-f]{2}))?",
  "i",
);

function device(element: XmlElement, numaNode: number | null, walk: Walk): ForestNode | null {
  const { attributes } = element;
  const bdf = tryParseBdf(attributes.get("pci_busid") ?? "");
  if (bdf === null) {
    walk.warnings.push(`a PCI device without a place (${attributes.get("pci_busid")}) is left out`);
    return null;
  }
  const range = busRange(attributes.get("bridge_pci"));
  const type = TYPE.exec(attributes.get("pci_type") ?? "");
  const hex = (index: number): number => Number.parseInt(type?.[index] ?? "", 16);
  const known = <T extends object>(when: boolean, facts: () => T): Partial<T> =>
    when ? facts() : {};
  const link = linkOf(attributes.get("pci_link_speed"), hex(1) === 0x0108);
  return {
    bdf,
    ...known(type !== null, () => ({
      classCode: type?.[7] === undefined ? classOf(hex(1)) : hex(1) * 256 + hex(7),
      vendorId: hex(2),
      deviceId: hex(3),
    })),
    ...known(type?.[4] !== undefined, () => ({
      subsystemVendorId: hex(4),
      subsystemId: hex(5),
    })),
    ...known(type?.[6] !== undefined, () => ({ revision: hex(6) })),
    ...known(range !== null, () => ({
      buses: { secondary: range?.first ?? 0, subordinate: range?.last ?? 0 },
    })),
    ...known(link !== null, () => ({ link: link as LinkFacts, unknown: [LINK_PARTS] })),
    ...known(numaNode !== null, () => ({ numaNode })),
    ...namesOf(element),
    isBridge: attributes.get("type") === "Bridge",
    children: devices(element, numaNode, walk),
  };
}

function namesOf({ children }: XmlElement): Partial<ForestNode> {
  const names: { -readonly [K in keyof ForestNode]?: ForestNode[K] } = {};
  const kernelNames: string[] = [];
  for (const child of children) {
    const value = child.attributes.get("value") ?? null;
    const name = child.attributes.get("name");
    if (child.name === "object" && child.attributes.get("type") === "OSDev") {
      if (name !== undefined && isKernelName(name)) kernelNames.push(name);
    } else if (child.name === "info" && name === "PCIVendor") names.vendorName = value;
    else if (child.name === "info" && name === "PCIDevice") names.deviceName = value;
    else if (child.name === "info" && name === "PCISlot") names.physicalSlot = value;
  }
  return { ...names, kernelNames };
}

/**
 * hwloc tells a link as one number, its payload rate in GB/s (GT/s times lanes times encoding:
 * 8/10, 128/130, 242/256). That x16 of one generation and x8 of the next have the same rate does
 * not matter to who compares rates; one reading is taken, and `unknown` says so. Old versions
 * round.
 */
const RATES: readonly { readonly rate: number; readonly link: LinkFacts }[] = [
  16, 8, 4, 2, 1, 12, 32,
].flatMap((width) =>
  [
    { generation: 1, lane: 0.25 },
    { generation: 2, lane: 0.5 },
    { generation: 3, lane: (8 * 128) / 130 / 8 },
    { generation: 4, lane: (16 * 128) / 130 / 8 },
    { generation: 5, lane: (32 * 128) / 130 / 8 },
    { generation: 6, lane: (64 * 242) / 256 / 8 },
  ].map(({ generation, lane }) => ({ rate: lane * width, link: { generation, width } })),
);
const ROUNDING = 0.02;
const SAME_RATE = 0.001;
/** SSDs have four lanes; everything else that matters here has up to 16. */
const LANES_OF_NVME = 4;
const LANES = 16;

/** The reading with the nearest rate; of several, the widest that the device is likely to have. */
function linkOf(text: string | undefined, isNvme: boolean): LinkFacts | null {
  const rate = Number(text);
  if (!(rate > 0)) return null;
  const distance = (entry: { rate: number }): number => Math.abs(entry.rate - rate) / rate;
  const least = Math.min(...RATES.map(distance));
  if (least > ROUNDING) return null;
  const readings = RATES.filter((entry) => distance(entry) <= least + SAME_RATE);
  const lanes = isNvme ? LANES_OF_NVME : LANES;
  const likely = readings.find(({ link }) => link.width <= lanes) ?? readings[0];
  return likely.link;
}
