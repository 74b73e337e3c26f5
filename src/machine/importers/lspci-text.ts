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
import { type CapabilityFacts, CapabilityKinds, parseCapabilities } from "./lspci-capabilities.ts";
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

/** How the lines that are looked for begin; what follows is their value. */
const Line = {
  capabilities: "\n\tCapabilities:",
  control: "\n\tControl:",
  flags: "\n\tFlags:",
  bus: "\n\tBus:",
  ioWindow: "\n\tI/O behind bridge:",
  memoryWindow: "\n\tMemory behind bridge:",
  prefetchableWindow: "\n\tPrefetchable memory behind bridge:",
  bridgeControl: "\n\tBridgeCtl:",
  numaNode: "\n\tNUMA node:",
  iommuGroup: "\n\tIOMMU group:",
  driver: "\n\tKernel driver in use:",
  slot: "\n\tPhysical Slot:",
  subsystem: "\n\tSubsystem:",
} as const;
type Line = (typeof Line)[keyof typeof Line];

/** The value of the first such line, whose beginning stands for it. */
function valueIn(text: string, line: Line): string | null {
  const at = text.indexOf(line);
  if (at < 0) return null;
  const start = at + line.length;
  return text.slice(start, text.indexOf("\n", start)).trim();
}

/** Lines of registers that hold an address, without their tab; no line of a capability. */
function addressLinesIn(text: string): string[] {
  const lines: string[] = [];
  let end = 0;
  for (let at = text.indexOf(" at "); at >= 0; at = text.indexOf(" at ", end)) {
    const start = text.lastIndexOf("\n", at) + 2;
    end = text.indexOf("\n", at);
    if (text.charCodeAt(start) === TAB || text.startsWith("Capabilities:", start)) continue;
    lines.push(text.slice(start, end));
  }
  return lines;
}

/** From the first capability to the record's end. Shared by functions that print the same. */
class Tail {
  readonly facts: CapabilityFacts;
  readonly addressLines: readonly string[];
  private readonly text: string;
  private readonly values = new Map<Line, string | null>();

  constructor(text: string, kinds: CapabilityKinds) {
    this.text = text;
    this.facts = parseCapabilities(text, kinds);
    this.addressLines = addressLinesIn(text);
  }

  value(line: Line): string | null {
    let value = this.values.get(line);
    if (value === undefined) {
      value = valueIn(this.text, line);
      this.values.set(line, value);
    }
    return value;
  }
}

/**
 * The lines of one record that belong to no capability. A line is found by its beginning when it is
 * asked for: most lines of most functions never are.
 */
class TopLines {
  private readonly head: string;
  private readonly tail: Tail;

  constructor(body: string, { tails, kinds }: TextMemo) {
    const at = body.indexOf(Line.capabilities);
    this.head = at < 0 ? body : body.slice(0, at + 1);
    const readTail = (text: string): Tail => new Tail(text, kinds);
    this.tail = remembered(tails, at < 0 ? "" : body.slice(at), readTail);
  }

  get facts(): CapabilityFacts {
    return this.tail.facts;
  }

  /** What follows the first colon of the first line that begins so; null without one. */
  value(line: Line): string | null {
    return valueIn(this.head, line) ?? this.tail.value(line);
  }

  addressLines(): readonly string[] {
    const lines = addressLinesIn(this.head);
    const more = this.tail.addressLines;
    return more.length === 0 ? lines : [...lines, ...more];
  }
}

/**
 * What texts meant that came before in this dump. Functions of one kind print the same: of the 517
 * of an HGX H100, 198 differ in more than their name, and 95 in their capabilities.
 */
export class TextMemo {
  /** By header, then by body. */
  readonly functions = new Map<string, Map<string, PciFunction>>();
  readonly headers = new Map<string, HeaderFacts>();
  readonly plainHeaders = new Map<string, HeaderFacts>();
  readonly tails = new Map<string, Tail>();
  readonly commands = new Map<string, number>();
  readonly bridgeControls = new Map<string, number>();
  readonly kinds = new CapabilityKinds();
}

function remembered<T>(known: Map<string, T>, text: string, read: (text: string) => T): T {
  let meaning = known.get(text);
  if (meaning === undefined) {
    meaning = read(text);
    known.set(text, meaning);
  }
  return meaning;
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

/** The later of two lines about one register counts. */
function putBar(bars: Bar[], bar: Bar): void {
  const at = bars.findIndex(({ index }) => index === bar.index);
  if (at < 0) bars.push(bar);
  else bars[at] = bar;
}

function parseBars(fn: FunctionDraft, top: TopLines, unknown: Unknown[]): void {
  const bars: Bar[] = [];
  const count = fn.bridge === null && fn.headerType === 0 ? barCount(0) : barCount(fn.headerType);
  let next = 0;
  for (const body of top.addressLines()) {
    const numbered = /^(?:\[virtual\] )?Region (\d): (.*)$/.exec(body);
    const isBare = /^(?:\[virtual\] )?(?:Memory|I\/O ports) at /.test(body);
    if (numbered !== null || isBare) {
      const index = numbered === null ? next : Number(numbered[1]);
      const bar = parseBarLine(numbered?.[2] ?? body, index);
      if (bar === null || index >= Math.max(count, 1)) continue;
      putBar(bars, bar);
      next = index + (bar.kind === "memory64" ? 2 : 1);
      if (isBare) {
        // At -v the registers are not numbered; holes between them do not show.
        unknown.push(unknownField(`bars[${index}].index`, "printed with -v only"));
      }
      continue;
    }
    const rom = body.includes("Expansion ROM at") ? parseRom(body) : null;
    if (rom !== null) putBar(bars, rom);
  }
  fn.bars = bars.sort((a, b) => a.index - b.index);
  for (const { index, sizeBytes } of fn.bars) {
    if (sizeBytes === null) unknown.push(unknownField(`bars[${index}].sizeBytes`));
  }
}

function parseBridge(top: TopLines, memo: TextMemo): BridgeFacts | null {
  const buses = top.value(Line.bus) ?? "";
  const match = /primary=([0-9a-f]{2}), secondary=([0-9a-f]{2}), subordinate=([0-9a-f]{2})/.exec(
    buses,
  );
  if (match === null) return null;
  const [primary, secondary, subordinate] = match
    .slice(1, 4)
    .map((bus) => Number.parseInt(bus, 16)) as [number, number, number];
  const prefetchable = top.value(Line.prefetchableWindow);
  // What a bridge without that window reads: zeros in both registers.
  const isAbsent = /^0+-0*fffff\b/.test(prefetchable ?? "");
  return {
    primary,
    secondary,
    subordinate,
    io: parseWindow(top.value(Line.ioWindow)),
    memory: parseWindow(top.value(Line.memoryWindow)),
    prefetchable: isAbsent ? null : parseWindow(prefetchable),
    // Its second line has discard timers, which PCI Express does not use.
    bridgeControl: remembered(
      memo.bridgeControls,
      top.value(Line.bridgeControl) ?? "",
      bridgeControlOf,
    ),
  };
}

const commandOf = (text: string): number => flagsToBits(text, COMMAND_BITS);
const bridgeControlOf = (text: string): number => flagsToBits(text, BRIDGE_CONTROL_BITS);

function parseCommand(
  fn: FunctionDraft,
  top: TopLines,
  verbosity: Verbosity,
  unknown: Unknown[],
  memo: TextMemo,
): void {
  if (verbosity === "vv") {
    fn.command = remembered(memo.commands, top.value(Line.control) ?? "", commandOf);
    return;
  }
  if (verbosity === "plain") {
    unknown.push(unknownField("command", "printed without -vv"));
    return;
  }
  const isMaster = /(?:^|, )bus master(?:,|$)/.test(top.value(Line.flags) ?? "");
  const isOpen = (kind: "io" | "memory"): boolean =>
    fn.bars.some((bar) => bar.enabled && (bar.kind === "io") === (kind === "io"));
  fn.command =
    (isMaster ? Command.busMasterEnable.bits : 0) |
    (isOpen("memory") ? Command.memorySpaceEnable.bits : 0) |
    (isOpen("io") ? Command.ioSpaceEnable.bits : 0);
  unknown.push(unknownField("command", "printed with -v only, derived from flags and BARs"));
}

function verbosityOf(top: TopLines): Verbosity {
  if (top.value(Line.control) !== null) return "vv";
  return top.value(Line.flags) === null ? "plain" : "v";
}

const NOT_PRINTED = "no such line in the dump";
const NO_NODE = unknownField("numaNode", NOT_PRINTED);
const NO_GROUP = unknownField("iommuGroup", NOT_PRINTED);

/** Lines that say where the function is and who drives it. */
function parsePlacement(fn: FunctionDraft, top: TopLines, unknown: Unknown[]): void {
  const flags = top.value(Line.flags) ?? "";
  const node = top.value(Line.numaNode) ?? /NUMA node (\d+)/.exec(flags)?.[1] ?? null;
  const group = top.value(Line.iommuGroup) ?? /IOMMU group (\d+)/.exec(flags)?.[1] ?? null;
  if (node !== null && /^\d{1,9}$/.test(node)) fn.numaNode = Number(node);
  else unknown.push(NO_NODE);
  if (group !== null && /^\d{1,9}$/.test(group)) fn.iommuGroup = Number(group);
  else unknown.push(NO_GROUP);
  fn.driver = top.value(Line.driver);
  fn.physicalSlot = top.value(Line.slot);
  const subsystem = top.value(Line.subsystem) ?? "";
  const ids = /\[?([0-9a-f]{4}):([0-9a-f]{4})\]?$/i.exec(subsystem);
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
export function functionFromText(record: LspciRecord, memo: TextMemo): PciFunction {
  const { bdf, header, body } = record;
  let alike = memo.functions.get(header);
  if (alike === undefined) {
    alike = new Map();
    memo.functions.set(header, alike);
  }
  let fn = alike.get(body);
  if (fn === undefined) {
    fn = readFunction(record, memo);
    alike.set(body, fn);
  }
  return { ...fn, bdf };
}

function readFunction({ bdf, header, body }: LspciRecord, memo: TextMemo): PciFunction {
  const top = new TopLines(body, memo);
  const verbosity = verbosityOf(top);
  const isPlain = verbosity === "plain";
  const fn = blankFunction(bdf);
  const unknown: Unknown[] = [];
  const read = (text: string): HeaderFacts => parseHeader(text, isPlain);
  putHeader(fn, remembered(isPlain ? memo.plainHeaders : memo.headers, header, read), unknown);
  fn.bridge = parseBridge(top, memo);
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
  } else if (top.value(Line.capabilities) === "<access denied>") {
    const reason = "printed without root";
    for (const field of ALL_CAPABILITIES) unknown.push(unknownField(field, reason));
  } else {
    putCapabilities(fn, top.facts, unknown);
  }
  fn.unknown = unknown;
  return fn;
}
