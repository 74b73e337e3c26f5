/**
 * Capabilities as lspci -vv prints them: places and ids of all, registers of those that routing and
 * timing need. Extended ones are here even when the hex part of a dump ends at 256 bytes, so ACS of
 * such dumps comes from this file.
 *
 * Invariant: never throws on any text. Leaves out: registers that no room asks for.
 */

import {
  AcsBit,
  CapabilityId,
  CONFIG_PCI_BYTES,
  ExtendedId,
  PORT_TYPE_NAMES,
  PortType,
} from "../../spec/pcie/index.ts";
import { unknownField } from "../blank.ts";
import { withSizes } from "../config-facts.ts";
import type {
  AcsFacts,
  Bar,
  CapabilityRef,
  LinkFacts,
  MsixFacts,
  PcieFacts,
  PciFunction,
  ResizableBar,
  SriovFacts,
  Unknown,
} from "../snapshot.ts";
import { numberAfter, parseBarLine, parseSizeText } from "./lspci-values.ts";

/** What the first line of a capability says. */
interface CapabilityKind {
  readonly title: string;
  readonly ref: CapabilityRef;
}

/** The first lines of capabilities. They are few in a dump that has thousands of them. */
export class CapabilityKinds {
  private readonly known = new Map<string, CapabilityKind | null>();

  /** `text`: what follows {@link CAPABILITY}. Null where it is no capability of any table. */
  of(text: string): CapabilityKind | null {
    let kind = this.known.get(text);
    if (kind === undefined) {
      kind = kindFrom(text);
      this.known.set(text, kind);
    }
    return kind;
  }
}

function kindFrom(text: string): CapabilityKind | null {
  const match = /^([0-9a-f]{2,3})(?: v(\d{1,2}))?\] (.*)$/s.exec(text);
  if (match === null) return null;
  const [, place, version, title] = match;
  const offset = Number.parseInt(place, 16);
  const extended = offset >= CONFIG_PCI_BYTES;
  const id = idOf(title, extended);
  if (id === 0) return null;
  return { title, ref: { id, offset, extended, version: extended ? Number(version ?? 0) : 0 } };
}

/** One capability: its first line and what stands under it. */
class Block {
  readonly kind: CapabilityKind;
  private readonly lines: string;
  private readonly start: number;
  private under: string | null = null;

  /** `start`: the end of the capability's line in `lines`. */
  constructor(kind: CapabilityKind, lines: string, start: number) {
    this.kind = kind;
    this.lines = lines;
    this.start = start;
  }

  /** Lines with their tabs; empty, or begins with a line feed. Most capabilities never need it. */
  get text(): string {
    if (this.under === null) {
      TOP_LINE.lastIndex = this.start;
      const isLast = !TOP_LINE.test(this.lines);
      const end = isLast ? this.lines.length : TOP_LINE.lastIndex;
      this.under = this.lines.slice(this.start, end - 1);
    }
    return this.under;
  }
}

/** The line feed before a line that stands under no other. */
const TOP_LINE = /\n(?=\t(?!\t))/g;
/** How the first line of one begins. */
const CAPABILITY = "\n\tCapabilities: [";

function blocksOf(lines: string, kinds: CapabilityKinds): Block[] {
  const blocks: Block[] = [];
  let end = 0;
  for (let at = lines.indexOf(CAPABILITY); at >= 0; at = lines.indexOf(CAPABILITY, end)) {
    const start = at + CAPABILITY.length;
    end = lines.indexOf("\n", start);
    const kind = kinds.of(lines.slice(start, end));
    if (kind !== null) blocks.push(new Block(kind, lines, end));
  }
  return blocks;
}

/** The lines under a capability, without their first two tabs. */
const linesOf = ({ text }: Block): string[] =>
  text
    .split("\n")
    .slice(1)
    .map((line) => line.slice(2));

/** Beginnings of titles; the longest that fits decides. */
const TITLES: readonly (readonly [string, number])[] = [
  ["Power Management", CapabilityId.powerManagement],
  ["AGP", CapabilityId.agp],
  ["Vital Product Data", CapabilityId.vitalProductData],
  ["Slot ID", CapabilityId.slotId],
  ["MSI-X:", CapabilityId.msiX],
  ["MSI:", CapabilityId.msi],
  ["PCI-X", CapabilityId.pciX],
  ["HyperTransport", CapabilityId.hyperTransport],
  ["Vendor Specific Information", CapabilityId.vendorSpecific],
  ["VirtIO", CapabilityId.vendorSpecific],
  ["Debug port", CapabilityId.debugPort],
  ["Hot-plug capable", CapabilityId.hotPlug],
  ["Subsystem:", CapabilityId.subsystem],
  ["Secure device", CapabilityId.secureDevice],
  ["Express", CapabilityId.express],
  ["SATA HBA", CapabilityId.sataHba],
  ["PCI Advanced Features", CapabilityId.advancedFeatures],
  ["Enhanced Allocation", CapabilityId.enhancedAllocation],
];

const EXTENDED_TITLES: readonly (readonly [string, number])[] = [
  ["Advanced Error Reporting", ExtendedId.aer],
  ["Virtual Channel", ExtendedId.virtualChannel],
  ["Device Serial Number", ExtendedId.deviceSerialNumber],
  ["Power Budgeting", ExtendedId.powerBudgeting],
  ["Root Complex Link", ExtendedId.rootComplexLink],
  ["Root Complex Event Collector", ExtendedId.eventCollector],
  ["Vendor Specific Information", ExtendedId.vendorSpecific],
  ["Access Control Services", ExtendedId.acs],
  ["Alternative Routing-ID Interpretation", ExtendedId.ari],
  ["Address Translation Service", ExtendedId.ats],
  ["Single Root I/O Virtualization", ExtendedId.sriov],
  ["Multicast", ExtendedId.multicast],
  ["Page Request Interface", ExtendedId.pageRequest],
  ["Physical Resizable BAR", ExtendedId.resizableBar],
  ["Resizable BAR", ExtendedId.resizableBar],
  ["Virtual Resizable BAR", ExtendedId.vfResizableBar],
  ["VF Resizable BAR", ExtendedId.vfResizableBar],
  ["Transaction Processing Hints", ExtendedId.tph],
  ["Latency Tolerance Reporting", ExtendedId.latencyTolerance],
  ["Secondary PCI Express", ExtendedId.secondaryExpress],
  ["Process Address Space ID", ExtendedId.pasid],
  ["Downstream Port Containment", ExtendedId.downstreamPortContainment],
  ["L1 PM Substates", ExtendedId.l1Substates],
  ["Precision Time Measurement", ExtendedId.precisionTime],
  ["Designated Vendor-Specific", ExtendedId.designatedVendor],
  ["Data Link Feature", ExtendedId.dataLinkFeature],
  ["Physical Layer 16.0 GT/s", ExtendedId.physicalLayer16],
  ["Lane Margining at the Receiver", ExtendedId.laneMargining],
  ["Native PCIe Enclosure Management", ExtendedId.nativeEnclosure],
  ["Physical Layer 32.0 GT/s", ExtendedId.physicalLayer32],
  ["Data Object Exchange", ExtendedId.dataObjectExchange],
  ["Device 3", ExtendedId.device3],
  ["Integrity & Data Encryption", ExtendedId.ide],
  ["Physical Layer 64.0 GT/s", ExtendedId.physicalLayer64],
];

/** Id of the capability with this title; 0 where it is in no table. */
function idOf(title: string, isExtended: boolean): number {
  const number = /^(?:#|(?:Extended )?Capability ID 0x)([0-9a-f]{2,4})\b/.exec(title);
  if (number !== null) return Number.parseInt(number[1] as string, 16);
  const table = isExtended ? EXTENDED_TITLES : TITLES;
  return table.find((entry) => title.startsWith(entry[0]))?.[1] ?? 0;
}

/** Speeds in GT/s as printed, to generations. */
const GENERATIONS: Readonly<Record<string, number>> = {
  "2.5": 1,
  "5": 2,
  "8": 3,
  "16": 4,
  "32": 5,
  "64": 6,
};

/** Widest link that the specification knows is 32. */
const WIDTH_MAX = 99;

function linkFrom(text: string): LinkFacts {
  const speed = /Speed (\d+(?:\.\d+)?)GT\/s/.exec(text)?.[1];
  const width = numberAfter(text, "Width x") ?? 0;
  const generation = speed === undefined ? 0 : (GENERATIONS[speed.replace(/\.0$/, "")] ?? 0);
  return { generation, width: width > WIDTH_MAX ? 0 : width };
}

/** The line feed before the line of another register. */
const NEXT_REGISTER = /\n(?=\t\t[A-Za-z]\w*:)/g;

/** What a register's line says, and those that continue it: up to the next register's. */
function registerOf({ text }: Block, name: string): string | null {
  const line = `\n\t\t${name}:`;
  const at = text.indexOf(line);
  if (at < 0) return null;
  const start = at + line.length;
  NEXT_REGISTER.lastIndex = start;
  return NEXT_REGISTER.test(text)
    ? text.slice(start, NEXT_REGISTER.lastIndex - 1)
    : text.slice(start);
}

const PORT_TYPES = Object.entries(PORT_TYPE_NAMES)
  .map(([code, name]) => [name, Number(code)] as const)
  .sort(([a], [b]) => b.length - a.length);

function portTypeFrom(title: string): PortType | null {
  // `Express (v2) Root Port (Slot+), MSI 00`; before 2006 without the version.
  const text = title.replace(/^Express (?:\(v\d+\) )?/, "");
  const found = PORT_TYPES.find((type) => text.startsWith(type[0]));
  return found === undefined ? null : (found[1] as PortType);
}

function expressFrom(block: Block): PcieFacts | null {
  const portType = portTypeFrom(block.kind.title);
  if (portType === null) return null;
  const text = (name: string): string => registerOf(block, name) ?? "";
  const capability = text("DevCap");
  const control = text("DevCtl");
  const isLinked =
    portType !== PortType.rootComplexEndpoint && portType !== PortType.rootComplexEventCollector;
  return {
    portType,
    offset: block.kind.ref.offset,
    link: isLinked ? linkFrom(text("LnkSta")) : null,
    linkCapability: isLinked ? linkFrom(text("LnkCap")) : null,
    maxPayloadSupported: payload(numberAfter(capability, "MaxPayload ", " bytes")),
    maxPayload: payload(numberAfter(control, "MaxPayload ", " bytes")),
    maxReadRequest: payload(numberAfter(control, "MaxReadReq ", " bytes")),
    readCompletionBoundary: numberAfter(text("LnkCtl"), "RCB ", " bytes") === 128 ? 128 : 64,
    relaxedOrdering: control.includes("RlxdOrd+"),
    extendedTags: control.includes("ExtTag+"),
    functionLevelReset: capability.includes("FLReset+"),
    ariForwarding: text("DevCtl2").includes("ARIFwd+"),
    slot: block.kind.title.includes("(Slot+)") ? slotFrom(text("SltCap")) : null,
  };
}

/** Old versions pad the number. */
const slotFrom = (text: string): number => Number(/Slot #\s*(\d+)/.exec(text)?.[1] ?? 0);

/** Sizes that the registers can encode; anything else is a misprint and becomes the default. */
const PAYLOADS: readonly (number | null)[] = [128, 256, 512, 1024, 2048, 4096];

function payload(bytes: number | null): number {
  return PAYLOADS.includes(bytes) ? (bytes as number) : 128;
}

const ACS_FLAGS: readonly (readonly [string, number])[] = [
  ["SrcValid+", AcsBit.sourceValidation],
  ["TransBlk+", AcsBit.translationBlocking],
  ["ReqRedir+", AcsBit.requestRedirect],
  ["CmpltRedir+", AcsBit.completionRedirect],
  ["UpstreamFwd+", AcsBit.upstreamForwarding],
  ["EgressCtrl+", AcsBit.egressControl],
  ["DirectTrans+", AcsBit.directTranslated],
];

/** By index: an iterator for each flag of each port would be garbage (docs/rooms/planner.md). */
function acsWord(text: string): number {
  let word = 0;
  for (let i = 0; i < ACS_FLAGS.length; i++) {
    if (text.includes(ACS_FLAGS[i][0])) word |= ACS_FLAGS[i][1];
  }
  return word;
}

function acsFrom(block: Block, unknown: Unknown[]): AcsFacts | null {
  const capability = registerOf(block, "ACSCap");
  const control = registerOf(block, "ACSCtl");
  if (capability === null || control === null) return null;
  const capabilities = acsWord(capability);
  if ((capabilities & AcsBit.egressControl) !== 0) {
    unknown.push(unknownField("acs.egressVector", "lspci does not print it"));
  }
  return {
    offset: block.kind.ref.offset,
    capabilities,
    control: acsWord(control),
    egressVector: null,
  };
}

function sriovFrom(block: Block, unknown: Unknown[]): SriovFacts {
  const { text } = block;
  const bars: Bar[] = [];
  for (const line of linesOf(block)) {
    const match = /^Region ([0-5]): (.*)$/.exec(line);
    if (match === null) continue;
    const bar = parseBarLine(match[2] as string, Number(match[1]));
    if (bar === null) continue;
    bars.push(bar);
    if (bar.sizeBytes === null) {
      unknown.push(unknownField(`sriov.bars[${bar.index}].sizeBytes`));
    }
  }
  const vfEnable = /IOVCtl:\s*Enable\+/.test(text);
  return {
    offset: block.kind.ref.offset,
    totalVfs: numberAfter(text, "Total VFs: ") ?? 0,
    numVfs: numberAfter(text, "Number of VFs: ") ?? 0,
    firstVfOffset: numberAfter(text, "VF offset: ") ?? 0,
    vfStride: numberAfter(text, "stride: ") ?? 0,
    vfDeviceId: Number.parseInt(/Device ID: ([0-9a-f]{4})/.exec(text)?.[1] ?? "ffff", 16),
    vfEnable,
    bars: bars.map((bar) => ({ ...bar, enabled: vfEnable && bar.address !== 0 })),
  };
}

function resizableFrom(block: Block): ResizableBar[] {
  const bars: ResizableBar[] = [];
  for (const line of linesOf(block)) {
    const match = /^BAR ([0-5]): current size: (\w+), supported: (.*)$/.exec(line);
    if (match === null) continue;
    const currentBytes = parseSizeText(match[2] as string);
    if (currentBytes === null) continue;
    const supportedBytes = (match[3] as string)
      .split(" ")
      .map(parseSizeText)
      .filter((size) => size !== null);
    bars.push({ index: Number(match[1]), currentBytes, supportedBytes });
  }
  return bars;
}

function msixFrom(block: Block): MsixFacts {
  const { text } = block;
  const table = /Vector table: BAR=(\d) offset=([0-9a-f]+)/.exec(text);
  const pba = /PBA: BAR=(\d) offset=([0-9a-f]+)/.exec(text);
  const { title } = block.kind;
  const vectors = numberAfter(title, "Count=") ?? numberAfter(title, "TabSize=") ?? 1;
  return {
    offset: block.kind.ref.offset,
    vectors: Math.min(Math.max(vectors, 1), 2048),
    enabled: title.includes("Enable+"),
    tableBar: table === null ? 0 : Number(table[1]) & 7,
    tableOffset: table === null ? 0 : Number.parseInt(table[2] as string, 16),
    pbaBar: pba === null ? 0 : Number(pba[1]) & 7,
    pbaOffset: pba === null ? 0 : Number.parseInt(pba[2] as string, 16),
  };
}

/** What the capabilities of one record tell. Shared by functions that print the same text. */
export interface CapabilityFacts {
  pcie: PcieFacts | null;
  msix: MsixFacts | null;
  acs: AcsFacts | null;
  aerOffset: number | null;
  sriov: SriovFacts | null;
  ats: PciFunction["ats"];
  resizableBars: readonly ResizableBar[];
  capabilities: readonly CapabilityRef[];
  readonly unknown: Unknown[];
}

/**
 * Reads all capabilities among lines of a record, each between two line feeds. `kinds` is one for
 * the whole dump.
 */
export function parseCapabilities(lines: string, kinds: CapabilityKinds): CapabilityFacts {
  const blocks = blocksOf(lines, kinds);
  const capabilities = blocks.map(({ kind }) => kind.ref);
  const facts: CapabilityFacts = {
    pcie: null,
    msix: null,
    acs: null,
    aerOffset: null,
    sriov: null,
    ats: null,
    resizableBars: [],
    capabilities,
    unknown: [],
  };
  let vfBars: ResizableBar[] = [];
  for (const block of blocks) {
    const { id, extended } = block.kind.ref;
    if (extended && id === ExtendedId.vfResizableBar) vfBars = resizableFrom(block);
    else if (extended) readExtended(facts, block, id);
    else if (id === CapabilityId.express) facts.pcie ??= expressFrom(block);
    else if (id === CapabilityId.msiX) facts.msix ??= msixFrom(block);
  }
  const { sriov, unknown } = facts;
  if (sriov !== null && vfBars.length > 0) {
    facts.sriov = { ...sriov, bars: withSizes(sriov.bars, vfBars, "sriov.", unknown) };
  }
  if (facts.pcie !== null && !capabilities.some(({ extended }) => extended)) markExtended(unknown);
  return facts;
}

/**
 * A PCI Express function without one extended capability: either it has none, or lspci could not
 * read beyond 256 bytes, which it does not say. Ports and endpoints since 2006 have at least AER or
 * a serial number, so nothing is taken for known.
 */
function markExtended(unknown: Unknown[]): void {
  const reason = "no extended capability is printed";
  for (const field of ["acs", "sriov", "ats", "resizableBars", "aerOffset"]) {
    unknown.push(unknownField(field, reason));
  }
}

function readExtended(facts: CapabilityFacts, block: Block, id: number): void {
  switch (id) {
    case ExtendedId.acs:
      facts.acs ??= acsFrom(block, facts.unknown);
      return;
    case ExtendedId.aer:
      facts.aerOffset ??= block.kind.ref.offset;
      return;
    case ExtendedId.sriov:
      facts.sriov ??= sriovFrom(block, facts.unknown);
      return;
    case ExtendedId.ats:
      facts.ats ??= { enabled: /ATSCtl:\s*Enable\+/.test(block.text) };
      return;
    case ExtendedId.resizableBar:
      if (facts.resizableBars.length === 0) facts.resizableBars = resizableFrom(block);
      return;
    default:
  }
}
