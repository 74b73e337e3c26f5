/**
 * Small machines for tests, written as trees: host bridges, root ports, switches, endpoints. Bus
 * numbers, BAR addresses and bridge windows are given out the way firmware does; everything that a
 * test is about (ACS, command bits, links, apertures, BARs) can be said.
 *
 * Invariants: the result is a snapshot as an importer would make it, without raw bytes; addresses
 * are naturally aligned; every BAR lies in the windows of all bridges above it.
 */

import { type Bdf, makeBdf } from "../src/core/index.ts";
import {
  type AcsFacts,
  type Aperture,
  type Bar,
  type BridgeFacts,
  blankFunction,
  type Host,
  type HostBridge,
  type Machine,
  type MsixFacts,
  type PcieFacts,
  type PciFunction,
  PortType,
  UNKNOWN_HOST,
  type Window,
} from "../src/machine/index.ts";

/** ACS bits, as both words of the capability have them. */
export const ACS = {
  SV: 0x01,
  TB: 0x02,
  RR: 0x04,
  CR: 0x08,
  UF: 0x10,
  EC: 0x20,
  DT: 0x40,
  ALL: 0x7f,
  /** Unclaimed Request Redirect, an enhanced control. */
  URR: 0x1000,
} as const;

export interface LinkSpec {
  readonly generation?: number;
  readonly width?: number;
}

interface PartSpec {
  /** Given out in order when absent. */
  readonly device?: number;
  readonly fn?: number;
  /** Command register; memory space and bus master enabled when absent. */
  readonly command?: number;
  /** ACS Control; absent: no ACS capability. */
  readonly acs?: number;
  readonly egress?: readonly number[];
  readonly link?: LinkSpec;
  readonly maxPayload?: number;
  readonly maxReadRequest?: number;
}

export interface BarSpec {
  readonly index?: number;
  readonly sizeBytes: number;
  /** 64-bit prefetchable when absent. */
  readonly kind?: "memory32" | "memory64" | "prefetchable64";
}

export interface EndpointSpec extends PartSpec {
  readonly kind: "endpoint";
  readonly bars?: readonly BarSpec[];
  readonly classCode?: number;
  /** MSI-X vectors in a table in BAR `msixBar` (0) at `msixOffset` (end of the BAR). */
  readonly msixVectors?: number;
  readonly msixBar?: number;
  readonly vendorId?: number;
  readonly deviceId?: number;
  /** More functions of the same device, numbered from 1. */
  readonly functions?: readonly Omit<EndpointSpec, "functions" | "kind">[];
}

export interface PortSpec extends PartSpec {
  readonly children?: readonly EndpointOrSwitch[];
}

export interface SwitchSpec extends PartSpec {
  readonly kind: "switch";
  readonly ports: readonly PortSpec[];
}

export interface RootPortSpec extends PortSpec {
  readonly kind: "rootPort";
}

/** A conventional PCI bridge; its children share one bus. */
export interface PciBridgeSpec extends PartSpec {
  readonly kind: "pciBridge";
  readonly children: readonly EndpointSpec[];
}

export type EndpointOrSwitch = EndpointSpec | SwitchSpec | PciBridgeSpec;
export type RootSpec = RootPortSpec | EndpointSpec | PciBridgeSpec;

export interface HostBridgeSpec {
  readonly domain?: number;
  readonly bus?: number;
  readonly busEnd?: number;
  /** Bus address of an MMIO byte minus its CPU address. */
  readonly busOffset?: number;
  readonly roots: readonly RootSpec[];
}

export interface MachineSpec {
  readonly name?: string;
  readonly host?: Partial<Host>;
  readonly hostBridges: readonly HostBridgeSpec[];
}

export const MIB = 2 ** 20;
export const GIB = 2 ** 30;

const COMMAND = 0x0006;
/** CPU addresses of MMIO: each host bridge has a run of both kinds. */
const LOW_BASE = 0xc000_0000;
const LOW_BYTES = 64 * MIB;
const HIGH_BASE = 2 ** 42;
const HIGH_BYTES = 2 ** 40;
const PCIE_OFFSET = 0x70;
const MSIX_OFFSET = 0xb0;
const ACS_OFFSET = 0x140;

export const endpoint = (spec: Omit<EndpointSpec, "kind"> = {}): EndpointSpec => ({
  kind: "endpoint",
  ...spec,
});

export const rootPort = (
  children: readonly EndpointOrSwitch[],
  spec: PartSpec = {},
): RootPortSpec => ({ kind: "rootPort", children, ...spec });

export const pcieSwitch = (ports: readonly PortSpec[], spec: PartSpec = {}): SwitchSpec => ({
  kind: "switch",
  ports,
  ...spec,
});

/** Lays out a machine from its tree. */
export function makeMachine(spec: MachineSpec): Machine {
  const functions: PciFunction[] = [];
  const hostBridges = spec.hostBridges.map((bridge, index) => layOut(bridge, index, functions));
  functions.sort((a, b) => a.bdf - b.bdf);
  return {
    name: spec.name ?? "test machine",
    sources: [],
    host: { ...UNKNOWN_HOST, ...spec.host },
    hostBridges,
    functions,
    warnings: [],
  };
}

/** Two endpoints with a BAR each below one switch: the machine of most tests. */
export function sameSwitch(
  ports: readonly [Omit<PortSpec, "children">, Omit<PortSpec, "children">] = [{}, {}],
  options: {
    readonly root?: PartSpec;
    readonly upstream?: PartSpec;
    readonly endpoints?: readonly Omit<EndpointSpec, "kind">[];
  } = {},
): Machine {
  const bars = [{ sizeBytes: 16 * MIB }];
  const devices = ports.map((port, i) => ({
    ...port,
    children: [endpoint({ bars, msixVectors: 8, ...options.endpoints?.[i] })],
  }));
  const roots = [rootPort([pcieSwitch(devices, options.upstream)], options.root)];
  return makeMachine({ name: "same switch", hostBridges: [{ roots }] });
}

/** Two endpoints with a BAR each below root ports of one host bridge. */
export function twoRootPorts(
  ports: readonly [PartSpec, PartSpec] = [{}, {}],
  busOffset = 0,
): Machine {
  const bars = [{ sizeBytes: 16 * MIB }];
  const roots = ports.map((port) => rootPort([endpoint({ bars, msixVectors: 8 })], port));
  return makeMachine({ name: "two root ports", hostBridges: [{ busOffset, roots }] });
}

/** The endpoints of a machine, in order. */
export const endpointsOf = (machine: Machine): Bdf[] =>
  machine.functions.filter(({ bridge }) => bridge === null).map(({ bdf }) => bdf);

/** The address of a function's first memory BAR on its bus. */
export function barOf(machine: Machine, bdf: Bdf, index = 0): Bar {
  const fn = machine.functions.find((candidate) => candidate.bdf === bdf);
  const bar = fn?.bars.find((candidate) => candidate.index === index);
  if (bar === undefined) throw new Error(`no BAR${index}`);
  return bar;
}

/** Hands out addresses of one kind; a bridge's window is what was handed out below it. */
class Addresses {
  next: number;
  constructor(base: number) {
    this.next = base;
  }
  take(sizeBytes: number): number {
    this.align(sizeBytes);
    const at = this.next;
    this.next += sizeBytes;
    return at;
  }
  align(alignment: number): void {
    this.next = Math.ceil(this.next / alignment) * alignment;
  }
}

interface Bus {
  readonly domain: number;
  readonly low: Addresses;
  readonly high: Addresses;
  lastBus: number;
  readonly out: PciFunction[];
}

function layOut(spec: HostBridgeSpec, index: number, out: PciFunction[]): HostBridge {
  const offset = spec.busOffset ?? 0;
  const lowPhys = LOW_BASE + index * LOW_BYTES;
  const highPhys = HIGH_BASE + index * HIGH_BYTES;
  const bus: Bus = {
    domain: spec.domain ?? 0,
    low: new Addresses(lowPhys + offset),
    high: new Addresses(highPhys + offset),
    lastBus: spec.bus ?? index * 0x40,
    out,
  };
  const first = bus.lastBus;
  let device = 1;
  for (const root of spec.roots) {
    device = root.device ?? device;
    placeRoot(bus, first, device++, root);
  }
  const apertures: Aperture[] = [
    { phys: lowPhys, bus: lowPhys + offset, sizeBytes: LOW_BYTES },
    { phys: highPhys, bus: highPhys + offset, sizeBytes: HIGH_BYTES },
  ];
  const busEnd = spec.busEnd ?? Math.max(bus.lastBus, first + 0x3f);
  return { domain: bus.domain, bus: first, busEnd, apertures, numaNode: index };
}

function placeRoot(bus: Bus, number: number, device: number, root: RootSpec): void {
  if (root.kind === "endpoint") placeEndpoint(bus, number, device, root, true);
  else placeBridge(bus, number, device, root, root.kind);
}

type BridgeKind = "rootPort" | "upstream" | "downstream" | "pciBridge";

const PORT_TYPES: Readonly<Record<BridgeKind, number | null>> = {
  rootPort: PortType.rootPort,
  upstream: PortType.switchUpstream,
  downstream: PortType.switchDownstream,
  pciBridge: null,
};

interface BridgeSpec extends PartSpec {
  readonly children?: readonly (EndpointOrSwitch | PortSpec)[];
}

function placeBridge(
  bus: Bus,
  primary: number,
  device: number,
  spec: BridgeSpec,
  kind: BridgeKind,
): void {
  const secondary = ++bus.lastBus;
  const placeholder = bus.out.push(plainFunction(makeBdf(bus.domain, primary, device, 0))) - 1;
  bus.low.align(MIB);
  bus.high.align(MIB);
  const from = { low: bus.low.next, high: bus.high.next };
  let below = 0;
  for (const child of spec.children ?? []) {
    below = child.device ?? below;
    if (kind === "upstream") placeBridge(bus, secondary, below, child as PortSpec, "downstream");
    else placeBelow(bus, secondary, below, child as EndpointOrSwitch);
    below++;
  }
  bus.low.align(MIB);
  bus.high.align(MIB);
  const bridge: BridgeFacts = {
    primary,
    secondary,
    subordinate: bus.lastBus,
    io: null,
    memory: windowOf(from.low, bus.low.next),
    prefetchable: windowOf(from.high, bus.high.next),
    bridgeControl: 0,
  };
  const portType = PORT_TYPES[kind];
  const blank = bus.out[placeholder] as PciFunction;
  bus.out[placeholder] = {
    ...blank,
    classCode: 0x060400,
    headerType: 1,
    command: spec.command ?? COMMAND,
    bridge,
    pcie: portType === null ? null : pcieFacts(portType as PcieFacts["portType"], spec),
    acs: acsFacts(spec),
    // A conventional bridge shows that it is one by a full dump without the capability.
    config: portType === null ? conventionalConfig(blank, bridge, spec.command ?? COMMAND) : null,
  };
}

function placeBelow(bus: Bus, number: number, device: number, child: EndpointOrSwitch): void {
  if (child.kind === "endpoint") placeEndpoint(bus, number, device, child, false);
  else if (child.kind === "pciBridge") placeBridge(bus, number, device, child, "pciBridge");
  else placeBridge(bus, number, device, { ...child, children: child.ports }, "upstream");
}

function placeEndpoint(
  bus: Bus,
  number: number,
  device: number,
  spec: Omit<EndpointSpec, "kind">,
  isIntegrated: boolean,
): void {
  const all = [spec, ...(spec.functions ?? [])];
  all.forEach((one, index) => {
    const fn = one.fn ?? index;
    const bars = (one.bars ?? []).map((bar, i) => placeBar(bus, bar, i));
    const type = isIntegrated ? PortType.rootComplexEndpoint : PortType.endpoint;
    bus.out.push({
      ...blankFunction(makeBdf(bus.domain, number, device, fn)),
      vendorId: one.vendorId ?? 0x1b36,
      deviceId: one.deviceId ?? 0x0010,
      classCode: one.classCode ?? 0x010802,
      multiFunction: all.length > 1,
      command: one.command ?? COMMAND,
      bars,
      pcie: pcieFacts(type, one),
      acs: acsFacts(one),
      msix: msixFacts(one, bars),
    });
  });
}

function placeBar(bus: Bus, spec: BarSpec, position: number): Bar {
  const kind = spec.kind ?? "prefetchable64";
  const space = kind === "prefetchable64" ? bus.high : bus.low;
  return {
    index: spec.index ?? position * 2,
    kind: kind === "memory32" ? "memory32" : "memory64",
    prefetchable: kind === "prefetchable64",
    address: space.take(spec.sizeBytes),
    sizeBytes: spec.sizeBytes,
    enabled: true,
  };
}

const windowOf = (base: number, next: number): Window | null =>
  next > base ? { base, limit: next - 1 } : null;

function pcieFacts(portType: PcieFacts["portType"], spec: PartSpec): PcieFacts {
  const link = { generation: spec.link?.generation ?? 4, width: spec.link?.width ?? 4 };
  return {
    portType,
    offset: PCIE_OFFSET,
    link,
    linkCapability: link,
    maxPayloadSupported: 512,
    maxPayload: spec.maxPayload ?? 256,
    maxReadRequest: spec.maxReadRequest ?? 512,
    readCompletionBoundary: 64,
    relaxedOrdering: true,
    extendedTags: true,
    functionLevelReset: true,
    ariForwarding: false,
    slot: null,
  };
}

function acsFacts(spec: PartSpec): AcsFacts | null {
  if (spec.acs === undefined) return null;
  const isEnhanced = (spec.acs & ~0x7f) !== 0;
  const capabilities = ACS.ALL | (isEnhanced ? 0x80 : 0) | (32 << 8);
  const egressVector = spec.egress ?? [0];
  return { offset: ACS_OFFSET, capabilities, control: spec.acs, egressVector };
}

function msixFacts(spec: Omit<EndpointSpec, "kind">, bars: readonly Bar[]): MsixFacts | null {
  const vectors = spec.msixVectors ?? 0;
  const table = bars.find(({ index }) => index === (spec.msixBar ?? 0));
  if (vectors === 0 || table?.sizeBytes == null) return null;
  return {
    offset: MSIX_OFFSET,
    vectors,
    enabled: false,
    tableBar: table.index,
    tableOffset: table.sizeBytes - 0x2000,
    pbaBar: table.index,
    pbaOffset: table.sizeBytes - 0x1000,
  };
}

function conventionalConfig(fn: PciFunction, bridge: BridgeFacts, command: number): Uint8Array {
  const bytes = new Uint8Array(256);
  const view = new DataView(bytes.buffer);
  view.setUint16(0, fn.vendorId, true);
  view.setUint16(2, fn.deviceId, true);
  view.setUint16(4, command, true);
  view.setUint32(8, 0x06040000, true);
  bytes[0x0e] = 1;
  bytes.set([bridge.primary, bridge.secondary, bridge.subordinate], 0x18);
  const put = (at: number, window: Window | null, flags: number): void => {
    view.setUint16(at, window === null ? 0xfff0 : (window.base / 2 ** 16) & 0xfff0, true);
    view.setUint16(at + 2, window === null ? 0 : (window.limit / 2 ** 16) & 0xfff0, true);
    bytes[at] = (bytes[at] as number) | flags;
    bytes[at + 2] = (bytes[at + 2] as number) | flags;
  };
  put(0x20, bridge.memory, 0);
  put(0x24, bridge.prefetchable, 1);
  view.setUint32(0x28, Math.floor((bridge.prefetchable?.base ?? 0) / 2 ** 32), true);
  view.setUint32(0x2c, Math.floor((bridge.prefetchable?.limit ?? 0) / 2 ** 32), true);
  return bytes;
}

/** A function that decodes memory and masters the bus, and has nothing else. */
function plainFunction(bdf: Bdf): PciFunction {
  return { ...blankFunction(bdf), vendorId: 0x8086, deviceId: 0x2030, command: COMMAND };
}
