/**
 * What the text of an lspci record means: the header line and the lines under it that do not belong
 * to a capability (those are lspci-capabilities.ts). Understands -v, -vv, -vvv, -n, -nn, -D and
 * none of them, from lspci 3.1 (2010) to 3.13.
 *
 * Invariants: never throws on any text; a line that it does not understand is skipped. What a
 * verbosity does not print is unknown, not absent.
 */

import { BridgeControl, barCount, Command, ROM_BAR } from "../../spec/pcie/index.ts";
import { blankFunction, type FunctionDraft, UNKNOWN_ID, unknownField } from "../blank.ts";
import { classCodeOf, classNameOf } from "../classes.ts";
import type { Bar, BridgeFacts, PciFunction, Unknown } from "../snapshot.ts";
import { type CapabilityFacts, parseCapabilities } from "./lspci-capabilities.ts";
import type { LspciRecord } from "./lspci-records.ts";
import { parseAddress, parseBarLine, parseSizeText, parseWindow } from "./lspci-values.ts";
import { splitName } from "./names.ts";

/** How much lspci was asked to print, as far as its lines show. */
export type Verbosity = "plain" | "v" | "vv";

const SUBCLASS_PCI_BRIDGE = 0x0604;
const SUBCLASS_SEMI_TRANSPARENT = 0x0609;
const SUBCLASS_CARDBUS = 0x0607;
const SUBCLASS_NVM = 0x0108;
const NVME_INTERFACE = 0x02;
const TAB = 9;
const TAIL_START = "\tCapabilities:";

/** The lines of a record that belong to no capability. */
interface TopLines {
  /** Without their tab; those that name a capability are left out. */
  readonly lines: string[];
  /** What follows the first colon, by what is before it; the first line of a name counts. */
  readonly values: Map<string, string>;
}

function topLinesOf(body: string): TopLines {
  const lines: string[] = [];
  const values = new Map<string, string>();
  for (let start = 0; start < body.length; ) {
    const end = body.indexOf("\n", start);
    if (body.charCodeAt(start + 1) !== TAB) {
      const line = body.slice(start + 1, end);
      const colon = line.indexOf(":");
      const name = line.slice(0, Math.max(colon, 0));
      if (name !== "Capabilities") lines.push(line);
      if (colon > 0 && !values.has(name)) values.set(name, line.slice(colon + 1).trim());
    }
    start = end + 1;
  }
  return { lines, values };
}

/** From the first capability to the record's end. */
interface Tail {
  readonly top: TopLines;
  readonly facts: CapabilityFacts;
}

/**
 * What texts meant that came before in this dump. Functions of one kind print the same header and
 * the same capabilities: of the 517 of an HGX H100, 95 tails differ.
 */
export class TextMemo {
  readonly headers = new Map<string, HeaderFacts>();
  readonly plainHeaders = new Map<string, HeaderFacts>();
  readonly tails = new Map<string, Tail>();
  readonly commands = new Map<string, number>();
}

function remembered<T>(known: Map<string, T>, text: string, read: (text: string) => T): T {
  let meaning = known.get(text);
  if (meaning === undefined) {
    meaning = read(text);
    known.set(text, meaning);
  }
  return meaning;
}

const readTail = (text: string): Tail => ({
  top: topLinesOf(text),
  facts: parseCapabilities(text),
});

/** Adds the tail's lines; the first line of a name counts. */
function withTail(top: TopLines, tail: TopLines): void {
  top.lines.push(...tail.lines);
  for (const [name, value] of tail.values) if (!top.values.has(name)) top.values.set(name, value);
}

/** `I/O+ Mem- BusMaster+` into bits. */
function flagsToBits(text: string, names: Readonly<Record<string, number>>): number {
  let word = 0;
  for (const flag of text.split(/[\s,]+/)) {
    if (flag.endsWith("+")) word |= names[flag.slice(0, -1)] ?? 0;
  }
  return word;
}

const COMMAND_BITS: Readonly<Record<string, number>> = {
  "I/O": Command.ioSpaceEnable.bits,
  Mem: Command.memorySpaceEnable.bits,
  BusMaster: Command.busMasterEnable.bits,
  SpecCycle: Command.specialCycleEnable.bits,
  MemWINV: Command.memoryWriteInvalidate.bits,
  VGASnoop: Command.vgaPaletteSnoop.bits,
  ParErr: Command.parityErrorResponse.bits,
  Stepping: Command.idselStepping.bits,
  SERR: Command.serrEnable.bits,
  FastB2B: Command.fastBackToBack.bits,
  DisINTx: Command.interruptDisable.bits,
};

const BRIDGE_CONTROL_BITS: Readonly<Record<string, number>> = {
  Parity: BridgeControl.parityErrorResponse.bits,
  SERR: BridgeControl.serrEnable.bits,
  NoISA: BridgeControl.isaEnable.bits,
  VGA: BridgeControl.vgaEnable.bits,
  VGA16: BridgeControl.vga16Decode.bits,
  MAbort: BridgeControl.masterAbortMode.bits,
  ">Reset": BridgeControl.secondaryBusReset.bits,
  FastB2B: BridgeControl.fastBackToBack.bits,
};

/** What a header line tells. */
type HeaderFacts = Pick<
  FunctionDraft,
  "revision" | "classCode" | "className" | "vendorId" | "deviceId" | "vendorName" | "deviceName"
> & { readonly unknown: Unknown[] };

/** Header line: class, names or ids, revision, programming interface. */
function parseHeader(header: string, isPlain: boolean): HeaderFacts {
  // Suffixes in any order: (rev 01), (prog-if 02 [NVM Express]).
  const revision = / \(rev ([0-9a-f]{2})\)/.exec(header);
  const interfaceMatch = / \(prog-if ([0-9a-f]{2})/.exec(header);
  const suffix = / \((?:rev|prog-if) [0-9a-f]{2}/.exec(header);
  const body = suffix === null ? header : header.slice(0, suffix.index);
  const facts: HeaderFacts = {
    revision: revision === null ? 0 : Number.parseInt(revision[1] as string, 16),
    classCode: 0,
    className: null,
    vendorId: UNKNOWN_ID,
    deviceId: UNKNOWN_ID,
    vendorName: null,
    deviceName: null,
    unknown: [],
  };
  const colon = body.indexOf(": ");
  const classText = colon < 0 ? body.replace(/:$/, "") : body.slice(0, colon);
  const nameText = colon < 0 ? "" : body.slice(colon + 2).trim();
  parseClass(facts, classText, interfaceMatch?.[1] ?? null, isPlain);
  parseName(facts, nameText);
  return facts;
}

function parseClass(fn: HeaderFacts, text: string, progIf: string | null, isPlain: boolean): void {
  const numeric = /(?:^| \[|^Class )\[?([0-9a-f]{4})\]?$/i.exec(text);
  const named = numeric === null ? classCodeOf(text) : null;
  if (numeric === null && named === null) {
    fn.unknown.push(unknownField("classCode", `class "${text.slice(0, 60)}" is in no table`));
    fn.className = text;
    return;
  }
  const base =
    numeric === null ? (named as number) : Number.parseInt(numeric[1] as string, 16) * 256;
  let low = progIf === null ? 0 : Number.parseInt(progIf, 16);
  // Without -v no programming interface is printed, and every controller of this class in use
  // speaks NVM Express.
  if (progIf === null && isPlain && base >>> 8 === SUBCLASS_NVM) low = NVME_INTERFACE;
  fn.classCode = base + low;
  const plainName = text.replace(/ \[[0-9a-f]{4}\]$/i, "");
  fn.className = /^(?:Class )?[0-9a-f]{4}$/i.test(plainName)
    ? classNameOf(fn.classCode)
    : plainName;
}

function parseName(fn: HeaderFacts, text: string): void {
  const ids = /(?:^|\[)([0-9a-f]{4}):([0-9a-f]{4})\]?$/i.exec(text);
  const name = splitName(ids === null ? text : text.slice(0, ids.index).trim());
  fn.vendorName = name.vendorName;
  fn.deviceName = name.deviceName;
  if (ids !== null) {
    fn.vendorId = Number.parseInt(ids[1] as string, 16);
    fn.deviceId = Number.parseInt(ids[2] as string, 16);
    // `Intel Corporation Device [8086:1bca]`: there is no name, only the word.
    if (fn.deviceName === "Device" || fn.deviceName === null) {
      fn.deviceName = `Device ${(ids[2] as string).toLowerCase()}`;
    }
    return;
  }
  fn.vendorId = name.vendorId ?? UNKNOWN_ID;
  fn.deviceId = name.deviceId ?? UNKNOWN_ID;
  const reason = "printed without -nn";
  if (name.vendorId === null) fn.unknown.push(unknownField("vendorId", reason));
  if (name.deviceId === null) fn.unknown.push(unknownField("deviceId", reason));
}

function parseRom(text: string): Bar | null {
  const match = /Expansion ROM at (\S+)/.exec(text);
  if (match === null) return null;
  const address = parseAddress(match[1] as string) ?? 0;
  const size = /\[size=(\d+[KMGTP]?)\]/.exec(text);
  const sizeBytes = size === null ? null : parseSizeText(size[1] as string);
  if (address === 0 && sizeBytes === null) return null;
  const enabled = address !== 0 && !/\[(?:disabled|virtual)/.test(text);
  return {
    index: ROM_BAR,
    kind: "memory32",
    prefetchable: false,
    address,
    sizeBytes,
    enabled,
  };
}

function parseBars(fn: FunctionDraft, top: TopLines, unknown: Unknown[]): void {
  const bars = new Map<number, Bar>();
  const count = fn.bridge === null && fn.headerType === 0 ? barCount(0) : barCount(fn.headerType);
  let next = 0;
  for (const body of top.lines) {
    // All of them name an address.
    if (!body.includes(" at ")) continue;
    const numbered = /^(?:\[virtual\] )?Region (\d): (.*)$/.exec(body);
    const isBare = /^(?:\[virtual\] )?(?:Memory|I\/O ports) at /.test(body);
    if (numbered !== null || isBare) {
      const index = numbered === null ? next : Number(numbered[1]);
      const bar = parseBarLine(numbered?.[2] ?? body, index);
      if (bar === null || index >= Math.max(count, 1)) continue;
      bars.set(index, bar);
      next = index + (bar.kind === "memory64" ? 2 : 1);
      if (isBare) {
        // At -v the registers are not numbered; holes between them do not show.
        unknown.push(unknownField(`bars[${index}].index`, "printed with -v only"));
      }
      continue;
    }
    const rom = body.includes("Expansion ROM at") ? parseRom(body) : null;
    if (rom !== null) bars.set(ROM_BAR, rom);
  }
  fn.bars = [...bars.values()].sort((a, b) => a.index - b.index);
  for (const { index, sizeBytes } of fn.bars) {
    if (sizeBytes === null) unknown.push(unknownField(`bars[${index}].sizeBytes`));
  }
}

function parseBridge(top: TopLines): BridgeFacts | null {
  const buses = top.values.get("Bus") ?? "";
  const match = /primary=([0-9a-f]{2}), secondary=([0-9a-f]{2}), subordinate=([0-9a-f]{2})/.exec(
    buses,
  );
  if (match === null) return null;
  const [primary, secondary, subordinate] = match
    .slice(1, 4)
    .map((bus) => Number.parseInt(bus, 16)) as [number, number, number];
  const prefetchable = top.values.get("Prefetchable memory behind bridge") ?? null;
  // What a bridge without that window reads: zeros in both registers.
  const isAbsent = /^0+-0*fffff\b/.test(prefetchable ?? "");
  return {
    primary,
    secondary,
    subordinate,
    io: parseWindow(top.values.get("I/O behind bridge") ?? null),
    memory: parseWindow(top.values.get("Memory behind bridge") ?? null),
    prefetchable: isAbsent ? null : parseWindow(prefetchable),
    // Its second line has discard timers, which PCI Express does not use.
    bridgeControl: flagsToBits(top.values.get("BridgeCtl") ?? "", BRIDGE_CONTROL_BITS),
  };
}

const commandOf = (text: string): number => flagsToBits(text, COMMAND_BITS);

function parseCommand(
  fn: FunctionDraft,
  top: TopLines,
  verbosity: Verbosity,
  unknown: Unknown[],
  memo: TextMemo,
): void {
  if (verbosity === "vv") {
    fn.command = remembered(memo.commands, top.values.get("Control") ?? "", commandOf);
    return;
  }
  if (verbosity === "plain") {
    unknown.push(unknownField("command", "printed without -vv"));
    return;
  }
  const isMaster = /(?:^|, )bus master(?:,|$)/.test(top.values.get("Flags") ?? "");
  const isOpen = (kind: "io" | "memory"): boolean =>
    fn.bars.some((bar) => bar.enabled && (bar.kind === "io") === (kind === "io"));
  fn.command =
    (isMaster ? Command.busMasterEnable.bits : 0) |
    (isOpen("memory") ? Command.memorySpaceEnable.bits : 0) |
    (isOpen("io") ? Command.ioSpaceEnable.bits : 0);
  unknown.push(unknownField("command", "printed with -v only, derived from flags and BARs"));
}

function verbosityOf({ values }: TopLines): Verbosity {
  if (values.has("Control")) return "vv";
  return values.has("Flags") ? "v" : "plain";
}

/** Lines that say where the function is and who drives it. */
function parsePlacement(fn: FunctionDraft, { values }: TopLines, unknown: Unknown[]): void {
  const flags = values.get("Flags") ?? "";
  const node = values.get("NUMA node") ?? /NUMA node (\d+)/.exec(flags)?.[1] ?? null;
  const group = values.get("IOMMU group") ?? /IOMMU group (\d+)/.exec(flags)?.[1] ?? null;
  const reason = "no such line in the dump";
  if (node !== null && /^\d{1,9}$/.test(node)) fn.numaNode = Number(node);
  else unknown.push(unknownField("numaNode", reason));
  if (group !== null && /^\d{1,9}$/.test(group)) fn.iommuGroup = Number(group);
  else unknown.push(unknownField("iommuGroup", reason));
  fn.driver = values.get("Kernel driver in use") ?? null;
  fn.physicalSlot = values.get("Physical Slot") ?? null;
  const subsystem = values.get("Subsystem") ?? null;
  const ids = /\[?([0-9a-f]{4}):([0-9a-f]{4})\]?$/i.exec(subsystem ?? "");
  if (ids !== null && fn.headerType === 0) {
    fn.subsystemVendorId = Number.parseInt(ids[1] as string, 16);
    fn.subsystemId = Number.parseInt(ids[2] as string, 16);
  }
}

function headerTypeOf(fn: FunctionDraft, hasBuses: boolean): number {
  const subClass = fn.classCode >>> 8;
  if (subClass === SUBCLASS_CARDBUS) return 2;
  const isBridge = subClass === SUBCLASS_PCI_BRIDGE || subClass === SUBCLASS_SEMI_TRANSPARENT;
  return isBridge || hasBuses ? 1 : 0;
}

const ALL_CAPABILITIES = [
  "pcie",
  "msix",
  "capabilities",
  "acs",
  "aerOffset",
  "sriov",
  "ats",
  "resizableBars",
];

function putHeader(fn: FunctionDraft, header: HeaderFacts, unknown: Unknown[]): void {
  fn.revision = header.revision;
  fn.classCode = header.classCode;
  fn.className = header.className;
  fn.vendorId = header.vendorId;
  fn.deviceId = header.deviceId;
  fn.vendorName = header.vendorName;
  fn.deviceName = header.deviceName;
  unknown.push(...header.unknown);
}

function putCapabilities(fn: FunctionDraft, facts: CapabilityFacts, unknown: Unknown[]): void {
  fn.pcie = facts.pcie;
  fn.msix = facts.msix;
  fn.acs = facts.acs;
  fn.aerOffset = facts.aerOffset;
  fn.sriov = facts.sriov;
  fn.ats = facts.ats;
  fn.resizableBars = facts.resizableBars;
  fn.capabilities = facts.capabilities;
  unknown.push(...facts.unknown);
}

/** A function from its record's text alone; `config` stays null. */
export function functionFromText({ bdf, header, body }: LspciRecord, memo: TextMemo): PciFunction {
  const tailAt = body.startsWith(TAIL_START) ? 0 : body.indexOf(`\n${TAIL_START}`) + 1;
  const hasTail = tailAt > 0 || body.startsWith(TAIL_START);
  const top = topLinesOf(hasTail ? body.slice(0, tailAt) : body);
  const tail = remembered(memo.tails, hasTail ? body.slice(tailAt) : "", readTail);
  withTail(top, tail.top);
  const verbosity = verbosityOf(top);
  const isPlain = verbosity === "plain";
  const fn = blankFunction(bdf);
  const unknown: Unknown[] = [];
  const read = (text: string): HeaderFacts => parseHeader(text, isPlain);
  putHeader(fn, remembered(isPlain ? memo.plainHeaders : memo.headers, header, read), unknown);
  fn.bridge = parseBridge(top);
  fn.headerType = headerTypeOf(fn, fn.bridge !== null);
  if (fn.headerType !== 0 && fn.bridge === null) {
    unknown.push(unknownField("bridge", "printed without -v"));
  }
  if (isPlain) unknown.push(unknownField("bars", "printed without -v"));
  else parseBars(fn, top, unknown);
  parseCommand(fn, top, verbosity, unknown, memo);
  parsePlacement(fn, top, unknown);
  if (isPlain) fn.driver = null;
  if (isPlain && body === "") unknown.push(unknownField("driver"));
  if (verbosity !== "vv") {
    // At -v capabilities are named without their registers; what has registers is unknown.
    const reason = "printed without -vv";
    for (const field of ALL_CAPABILITIES) unknown.push(unknownField(field, reason));
  } else if (top.values.get("Capabilities") === "<access denied>") {
    const reason = "printed without root";
    for (const field of ALL_CAPABILITIES) unknown.push(unknownField(field, reason));
  } else {
    putCapabilities(fn, tail.facts, unknown);
  }
  fn.unknown = unknown;
  return fn;
}
