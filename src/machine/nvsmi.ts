/**
 * `nvidia-smi topo -m`: a matrix of words for how far GPUs and NICs are apart. It has no addresses,
 * so it makes no machine; beside one it is a second opinion, and where both differ somebody is
 * wrong (a dump of another day, a card moved, a guest that sees another tree than its host).
 *
 * GPUs are matched by order, as nvidia-smi numbers them by bus address; NICs by the kernel's names,
 * where the machine tells them.
 * Leaves out: what NV# hides. A pair joined by NVLink has no word for its PCIe path.
 */

import { formatBdf, formatBus, NVSMI_DEVICES_MAX, PeerlaneError } from "../core/index.ts";
import { deviceKind } from "./classes.ts";
import { isUnknown, type Machine, type PciFunction, PortType } from "./snapshot.ts";
import { MachineIndex, NONE } from "./tree.ts";

/** From near to far. `NV` stands for NV1, NV18, ... */
export type NvsmiLabel = "X" | "NV" | "PIX" | "PXB" | "PHB" | "NODE" | "SYS";

export interface NvsmiTopo {
  readonly file: string;
  /** `GPU0`, `NIC0` or `mlx5_0`, in order of rows. */
  readonly devices: readonly string[];
  /** One row per device, one column per device. */
  readonly labels: readonly (readonly NvsmiLabel[])[];
  /** What `NIC0` is called by the kernel, from the legend. */
  readonly nicNames: ReadonlyMap<string, string>;
}

/** Words of old versions: SOC was renamed SYS. */
const LABELS: Readonly<Record<string, NvsmiLabel>> = {
  X: "X",
  PIX: "PIX",
  PSB: "PIX",
  PXB: "PXB",
  PHB: "PHB",
  NODE: "NODE",
  SYS: "SYS",
  SOC: "SYS",
};

const labelOf = (word: string): NvsmiLabel | null =>
  /^NV\d+$/.test(word) ? "NV" : (LABELS[word] ?? null);
const DEVICE = /^(?:GPU\d+|NIC\d+|[a-z]+\d*_\w+|\w+_\d+)$/;

/** True for the matrix, in the first part of a file. */
export function isNvsmiTopo(head: string): boolean {
  return /^\s*\S*GPU0\s/m.test(head) && /^GPU0\s+X\s/m.test(head);
}

/**
 * Reads the matrix; colours, affinity columns and the legend may be there or not.
 * @throws PeerlaneError `nvsmi-malformed` with file and line
 */
export function parseNvsmiTopo(text: string, file: string): NvsmiTopo {
  const devices: string[] = [];
  const rows: (readonly NvsmiLabel[])[] = [];
  const nicNames = new Map<string, string>();
  const lines = text.replaceAll(ESCAPES, "").split("\n");
  const header = lines.findIndex((line) => /^\s*GPU0(?:\s|$)/.test(line) && !/\sX\s/.test(line));
  if (header < 0) throw malformed(file, 1, "no line has the names of devices");
  const columns = lines[header].trim().split(/\s+/);
  const end = columns.findIndex((name) => !DEVICE.test(name));
  const names = end < 0 ? columns : columns.slice(0, end);
  if (names.length > NVSMI_DEVICES_MAX) throw malformed(file, header + 1, "there are too many");
  for (let at = header + 1; at < lines.length; at++) {
    const legend = /^\s+(NIC\d+): (\S+)\s*$/.exec(lines[at]);
    if (legend !== null) nicNames.set(legend[1], legend[2]);
    const [name, ...words] = lines[at].trim().split(/\s+/);
    if (!names.includes(name) || /^\s/.test(lines[at])) continue;
    const row = words.slice(0, names.length).map(labelOf);
    if (row.length < names.length || row.includes(null)) {
      throw malformed(file, at + 1, `the row of ${name} has a word that is no distance`);
    }
    devices.push(name);
    rows.push(row as NvsmiLabel[]);
  }
  if (devices.join() !== names.join()) {
    throw malformed(file, header + 1, "rows and columns name different devices");
  }
  return { file, devices, labels: rows, nicNames };
}

/** Sequences that underline and colour. */
const ESCAPES = new RegExp(`${String.fromCharCode(27)}\\[[0-9;]*m`, "g");

function malformed(file: string, line: number, reason: string): PeerlaneError {
  return new PeerlaneError("nvsmi-malformed", `the matrix cannot be read: ${reason}`, {
    place: `${file}:${line}`,
    remedy: "Take it again: nvidia-smi topo -m > topo.txt",
  });
}

/** A pair on which matrix and machine differ. */
export interface NvsmiDisagreement {
  readonly a: string;
  readonly b: string;
  readonly nvsmi: NvsmiLabel;
  readonly machine: NvsmiLabel;
  /** Both ends and the nearest common bridge, for the reader. */
  readonly explanation: string;
}

export interface NvsmiComparison {
  readonly disagreements: readonly NvsmiDisagreement[];
  /** Pairs of which both tell. */
  readonly compared: number;
  /** What could not be compared, and assumptions made. */
  readonly notes: readonly string[];
}

const VENDOR_NVIDIA = 0x10de;

/** Compares every pair of the matrix with the machine's tree. */
export function compareWithNvsmi(machine: Machine, topo: NvsmiTopo): NvsmiComparison {
  const index = new MachineIndex(machine);
  const notes: string[] = [];
  const places = topo.devices.map((name) => placeOf(name, topo, index, notes));
  const disagreements: NvsmiDisagreement[] = [];
  let compared = 0;
  let hidden = 0;
  for (let i = 0; i < places.length; i++) {
    for (let j = i + 1; j < places.length; j++) {
      const theirs = topo.labels[i][j];
      if (theirs === "NV") hidden++;
      if (places[i] === NONE || places[j] === NONE || theirs === "NV") continue;
      compared++;
      const ours = labelBetween(index, places[i], places[j]);
      if (isSame(theirs, ours.label, ours.isUncertain)) continue;
      disagreements.push({
        a: labelled(topo.devices[i], index.functions[places[i]]),
        b: labelled(topo.devices[j], index.functions[places[j]]),
        nvsmi: theirs,
        machine: ours.label,
        explanation: ours.explanation,
      });
    }
  }
  if (hidden > 0) notes.push(`${hidden} pairs are joined by NVLink, which hides their PCIe path`);
  return { disagreements, compared, notes: [...new Set(notes)] };
}

const labelled = (name: string, fn: PciFunction): string => `${name} (${formatBdf(fn.bdf)})`;

/** Position of a device of the matrix in the machine; NONE, with a note, when it has none. */
function placeOf(name: string, topo: NvsmiTopo, index: MachineIndex, notes: string[]): number {
  const positions = index.functions.map((_, position) => position);
  const gpu = /^GPU(\d+)$/.exec(name);
  if (gpu !== null) {
    const gpus = positions.filter((at) => isNvidiaGpu(index.functions[at]));
    const count = topo.devices.filter((device) => device.startsWith("GPU")).length;
    if (gpus.length !== count) {
      notes.push(
        `the matrix has ${count} GPUs, the machine ${gpus.length} of NVIDIA: not compared`,
      );
      return NONE;
    }
    return gpus[Number(gpu[1])] ?? NONE;
  }
  const kernelName = topo.nicNames.get(name) ?? name;
  const byName = positions.find((at) => index.functions[at].kernelNames?.includes(kernelName));
  if (byName !== undefined) return byName;
  // Order is no help here: which ports count depends on the driver and on virtual functions.
  notes.push(
    "NICs are matched by the kernel's names, which this machine does not tell for all of them: " +
      "add udevadm info --export-db, or capture the machine",
  );
  return NONE;
}

const isNvidiaGpu = (fn: PciFunction): boolean =>
  fn.vendorId === VENDOR_NVIDIA && deviceKind(fn) === "gpu" && fn.physicalFunction === null;

interface OurLabel {
  readonly label: NvsmiLabel;
  /** The machine cannot tell this word from its neighbours. */
  readonly isUncertain: boolean;
  readonly explanation: string;
}

function labelBetween(index: MachineIndex, a: number, b: number): OurLabel {
  const common = index.commonOf(a, b);
  const nameOf = (at: number): string => formatBdf(index.functions[at].bdf);
  if (common !== NONE) {
    const switches = switchesBetween(index, a, common) + switchesBetween(index, b, common);
    const own = index.functions[common].pcie?.portType === PortType.switchUpstream ? 1 : 0;
    return {
      label: switches + own > 1 ? "PXB" : "PIX",
      isUncertain: false,
      explanation: `${switches + own} switches between them, ${nameOf(common)} is common`,
    };
  }
  const bridgeA = index.hostBridgeOf(a);
  const bridgeB = index.hostBridgeOf(b);
  const isInferred =
    isUnknown(index.functions[index.topOf(a)], "bdf") ||
    isUnknown(index.functions[index.topOf(b)], "bdf");
  if (index.hostBridgeIndexOf(a) === index.hostBridgeIndexOf(b)) {
    return { label: "PHB", isUncertain: isInferred, explanation: "no common bridge, one root bus" };
  }
  const numaA = index.functions[a].numaNode ?? bridgeA?.numaNode ?? null;
  const numaB = index.functions[b].numaNode ?? bridgeB?.numaNode ?? null;
  const buses = `root buses ${rootName(index, a)} and ${rootName(index, b)}`;
  return {
    label: numaA === null || numaB === null || numaA === numaB ? "NODE" : "SYS",
    isUncertain: isInferred || numaA === null || numaB === null,
    explanation: `${buses}, NUMA nodes ${numaA ?? "unknown"} and ${numaB ?? "unknown"}`,
  };
}

function rootName(index: MachineIndex, at: number): string {
  const { domain, bus } = index.rootBusOf(at);
  return formatBus(domain, bus);
}

/** Switches passed from a function up to a bridge, without that bridge. */
function switchesBetween(index: MachineIndex, from: number, to: number): number {
  let count = 0;
  for (let at = index.parentOf(from); at !== NONE && at !== to; at = index.parentOf(at)) {
    const fn = index.functions[at];
    const sitsOnRootBus = index.parentOf(at) === NONE;
    const isSwitch =
      fn.pcie === null ? !sitsOnRootBus : fn.pcie.portType === PortType.switchUpstream;
    if (isSwitch) count++;
  }
  return count;
}

/**
 * Words beyond the host bridge cannot be told apart when the machine misses what separates them.
 */
function isSame(theirs: NvsmiLabel, ours: NvsmiLabel, isUncertain: boolean): boolean {
  if (theirs === ours) return true;
  const beyond: readonly NvsmiLabel[] = ["PHB", "NODE", "SYS"];
  return isUncertain && beyond.includes(theirs) && beyond.includes(ours);
}
