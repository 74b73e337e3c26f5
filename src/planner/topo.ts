/**
 * A machine as a tree for people: bridges and what is below them, with what decides peer-to-peer
 * traffic beside each: link, ACS, bus numbers, memory BARs.
 *
 * It shows what the snapshot says. Where the snapshot does not tell, it shows `?`.
 */

import {
  alignColumns,
  bdfBus,
  bdfDomain,
  cutTo,
  formatBdf,
  formatBus,
  formatBytes,
  hexDigits,
  type Paint,
  PLAIN,
  widthOf,
} from "../core/index.ts";
import {
  deviceKind,
  isUnknown,
  type LinkFacts,
  type Machine,
  MachineIndex,
  NONE,
  type PciFunction,
  PortType,
} from "../machine/index.ts";
import { formatAcsWord } from "./acs-text.ts";

export interface TopoOptions {
  /** Every function; left out: devices of interest and the bridges above them. */
  readonly all?: boolean;
  readonly paint?: Paint;
  /** Columns of the terminal: names are cut to it. Left out: none is cut. */
  readonly columns?: number | undefined;
}

/** Kinds that people look for. */
const INTERESTING = new Set(["nvme", "nic", "gpu", "accelerator", "storage"]);

const ROLE: Readonly<Record<number, string>> = {
  [PortType.endpoint]: "endpoint",
  [PortType.legacyEndpoint]: "legacy endpoint",
  [PortType.rootPort]: "root port",
  [PortType.switchUpstream]: "switch up",
  [PortType.switchDownstream]: "switch down",
  [PortType.pcieToPciBridge]: "PCIe-PCI bridge",
  [PortType.pciToPcieBridge]: "PCI-PCIe bridge",
  [PortType.rootComplexEndpoint]: "RC endpoint",
  [PortType.rootComplexEventCollector]: "RC event collector",
};

/** The machine's tree as text. */
export function renderTopo(machine: Machine, options: TopoOptions = {}): string {
  const paint = options.paint ?? PLAIN;
  const index = new MachineIndex(machine);
  const shown = chooseShown(index, options.all === true);
  const rows: string[][] = [];
  for (const root of rootsOf(index)) {
    const tops = index.functionsOnBus(root.domain, root.bus).filter((i) => shown[i] === 1);
    if (tops.length === 0) continue;
    rows.push([paint.bold(rootName(machine, root.domain, root.bus))]);
    addRows(index, tops, shown, paint, rows);
  }
  const hidden = index.count - shown.reduce((sum, value) => sum + value, 0);
  const lines = linesOf(rows, options.columns ?? Number.POSITIVE_INFINITY);
  if (hidden > 0) lines.push("", paint.dim(`${hidden} other functions are not shown (--all)`));
  return `${lines.join("\n")}\n`;
}

/**
 * Rows in columns where all but the names fit; else each row as short as it is, so that a narrow
 * terminal cuts names and not facts.
 */
function linesOf(rows: readonly (readonly string[])[], columns: number): string[] {
  const facts = alignColumns(rows.map((row) => row.slice(0, -1)));
  const fits = facts.every((line) => widthOf(line) <= columns);
  const lines = fits
    ? alignColumns(rows)
    : rows.map((row) => row.filter((cell) => cell !== "").join("  "));
  return lines.map((line) => cutTo(line, columns));
}

/** 1 for each function to show: the interesting ones and all bridges above them. */
function chooseShown(index: MachineIndex, all: boolean): Uint8Array {
  const shown = new Uint8Array(index.count);
  if (all) return shown.fill(1);
  index.functions.forEach((fn, i) => {
    if (!INTERESTING.has(deviceKind(fn)) || fn.physicalFunction !== null) return;
    for (let at = i; at !== NONE && shown[at] === 0; at = index.parentOf(at)) shown[at] = 1;
  });
  // Of a machine without any device of interest (a partial dump) everything is interesting.
  return shown.includes(1) ? shown : shown.fill(1);
}

function rootsOf(index: MachineIndex): { domain: number; bus: number }[] {
  const roots = new Map<number, { domain: number; bus: number }>();
  for (let i = 0; i < index.count; i++) {
    const root = index.rootBusOf(i);
    roots.set(root.domain * 256 + root.bus, root);
  }
  return [...roots.values()].sort((a, b) => a.domain - b.domain || a.bus - b.bus);
}

function rootName(machine: Machine, domain: number, bus: number): string {
  const bridge = machine.hostBridges.find((b) => b.domain === domain && b.bus === bus);
  const numa = bridge?.numaNode ?? null;
  const name = formatBus(domain, bus);
  return numa === null ? `${name} host bridge` : `${name} host bridge, NUMA node ${numa}`;
}

interface Pending {
  readonly index: number;
  readonly prefix: string;
  readonly last: boolean;
}

/** Depth first with an explicit stack; the tree's lines are made from the prefix of each node. */
function addRows(
  index: MachineIndex,
  tops: readonly number[],
  shown: Uint8Array,
  paint: Paint,
  rows: string[][],
): void {
  const stack: Pending[] = [];
  const push = (nodes: readonly number[], prefix: string): void => {
    nodes.forEach((_, k) => {
      const at = nodes.length - 1 - k;
      stack.push({ index: nodes[at] as number, prefix, last: k === 0 });
    });
  };
  push(tops, "");
  for (let next = stack.pop(); next !== undefined; next = stack.pop()) {
    const fn = index.functions[next.index] as PciFunction;
    const tree = paint.dim(`${next.prefix}${next.last ? "└─ " : "├─ "}`);
    rows.push(cellsOf(fn, tree, paint));
    const children = index.childrenOf(next.index).filter((i) => shown[i] === 1);
    push(children, `${next.prefix}${next.last ? "   " : "│  "}`);
  }
}

function cellsOf(fn: PciFunction, tree: string, paint: Paint): string[] {
  const short = bdfDomain(fn.bdf) === 0 ? formatBdf(fn.bdf).slice(5) : formatBdf(fn.bdf);
  const kind = deviceKind(fn);
  const named = INTERESTING.has(kind) ? paint.name(short) : short;
  return [
    tree + named,
    INTERESTING.has(kind) ? paint.bold(kindLabel(fn)) : kindLabel(fn),
    linkText(fn, paint),
    acsText(fn, paint),
    fn.bridge === null ? barText(fn) : paint.dim(busText(fn)),
    paint.dim(nameOf(fn)),
  ];
}

function kindLabel(fn: PciFunction): string {
  const kind = deviceKind(fn);
  const label = { nvme: "NVMe", nic: "NIC", gpu: "GPU" }[kind as "nvme"] ?? null;
  if (label !== null) return label;
  if (fn.pcie !== null && (fn.bridge !== null || kind === "other")) {
    return ROLE[fn.pcie.portType] ?? "PCIe";
  }
  if (fn.bridge !== null) return isUnknown(fn, "pcie") ? "bridge" : "PCI bridge";
  return kind === "other" ? (fn.className ?? "function") : kind;
}

/** `gen4 x4`, and what it could be where it runs below that. */
function linkText({ pcie }: PciFunction, paint: Paint): string {
  const link = pcie?.link ?? null;
  if (link === null) return "";
  if (link.generation === 0 || link.width === 0) return paint.dim("link down");
  const now = formatLink(link);
  const best = pcie?.linkCapability ?? null;
  const reduced = best !== null && (best.generation > link.generation || best.width > link.width);
  return reduced ? paint.warn(`${now} (of ${formatLink(best)})`) : now;
}

export const formatLink = ({ generation, width }: LinkFacts): string =>
  `gen${generation} x${width}`;

function busText({ bridge, bdf }: PciFunction): string {
  if (bridge === null) return "";
  if (bridge.secondary === 0 || bridge.secondary <= bdfBus(bdf)) return "no bus below";
  if (bridge.secondary === bridge.subordinate) return `bus ${hexDigits(bridge.secondary, 2)}`;
  return `bus ${hexDigits(bridge.secondary, 2)}-${hexDigits(bridge.subordinate, 2)}`;
}

/** Memory BARs of 1 MiB and more: the ones that can hold payload. */
function barText(fn: PciFunction): string {
  const large = fn.bars.filter(
    ({ kind, sizeBytes }) => kind !== "io" && (sizeBytes === null || sizeBytes >= 2 ** 20),
  );
  return large
    .map(
      ({ index, sizeBytes }) => `BAR${index} ${sizeBytes === null ? "?" : formatBytes(sizeBytes)}`,
    )
    .join(" ");
}

function acsText(fn: PciFunction, paint: Paint): string {
  if (fn.acs !== null) {
    const word = formatAcsWord(fn.acs.control);
    const redirects = (fn.acs.control & 0x2c) !== 0;
    return redirects ? paint.bad(`ACS ${word}`) : paint.dim(`ACS ${word}`);
  }
  return fn.bridge !== null && isUnknown(fn, "acs") ? paint.warn("ACS ?") : "";
}

function nameOf(fn: PciFunction): string {
  const name = fn.deviceName ?? "";
  const vendor = fn.vendorName ?? "";
  const driver = fn.driver === null ? "" : ` (${fn.driver})`;
  return `${vendor} ${name}${driver}`.trim();
}
