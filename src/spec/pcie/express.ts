/**
 * The PCI Express capability: device, link and slot registers. PCIe Base 6.0 section 7.5.3.
 *
 * Decoding gives what routing, sizing of TLPs and timing need. Leaves out: ASPM and power, hot-plug
 * control beyond the slot number, root error control, equalisation, Device 3.
 */

import { bit, defineRegisters, field } from "../../core/index.ts";
import { readLe16, readLe32, writeLe16, writeLe32 } from "./config-bytes.ts";
import { CONFIG_PCI_BYTES } from "./header.ts";

/** Offsets in the capability. */
export const Express = {
  capabilities: 0x02,
  deviceCapabilities: 0x04,
  deviceControl: 0x08,
  deviceStatus: 0x0a,
  linkCapabilities: 0x0c,
  linkControl: 0x10,
  linkStatus: 0x12,
  slotCapabilities: 0x14,
  slotControl: 0x18,
  slotStatus: 0x1a,
  rootControl: 0x1c,
  rootCapabilities: 0x1e,
  rootStatus: 0x20,
  deviceCapabilities2: 0x24,
  deviceControl2: 0x28,
  deviceStatus2: 0x2a,
  linkCapabilities2: 0x2c,
  linkControl2: 0x30,
  linkStatus2: 0x32,
} as const;

/** Bytes of a version 2 capability, and of the part every version has up to the link status. */
export const EXPRESS_BYTES = 0x3c;
export const EXPRESS_V1_BYTES = 0x14;

/** Device/Port Type, section 7.5.3.2. */
export const PortType = {
  endpoint: 0x0,
  legacyEndpoint: 0x1,
  rootPort: 0x4,
  switchUpstream: 0x5,
  switchDownstream: 0x6,
  pcieToPciBridge: 0x7,
  pciToPcieBridge: 0x8,
  rootComplexEndpoint: 0x9,
  rootComplexEventCollector: 0xa,
} as const;
export type PortType = (typeof PortType)[keyof typeof PortType];

export const PORT_TYPE_NAMES: Readonly<Record<number, string>> = {
  0: "Endpoint",
  1: "Legacy Endpoint",
  4: "Root Port",
  5: "Upstream Port",
  6: "Downstream Port",
  7: "PCI-Express to PCI/PCI-X Bridge",
  8: "PCI/PCI-X to PCI-Express Bridge",
  9: "Root Complex Integrated Endpoint",
  10: "Root Complex Event Collector",
};

/** PCI Express Capabilities register, 7.5.3.2. */
export const ExpressCapabilities = {
  version: field(0, 4),
  portType: field(4, 4),
  slotImplemented: bit(8),
  interruptMessage: field(9, 5),
} as const;

/** Device Capabilities, 7.5.3.3. */
export const DeviceCapabilities = {
  maxPayloadSupported: field(0, 3),
  phantomFunctions: field(3, 2),
  extendedTagSupported: bit(5),
  roleBasedErrors: bit(15),
  functionLevelReset: bit(28),
} as const;

/** Device Control, 7.5.3.4. */
export const DeviceControl = {
  correctableErrors: bit(0),
  nonFatalErrors: bit(1),
  fatalErrors: bit(2),
  unsupportedRequests: bit(3),
  relaxedOrdering: bit(4),
  maxPayload: field(5, 3),
  extendedTag: bit(8),
  phantomFunctions: bit(9),
  noSnoop: bit(11),
  maxReadRequest: field(12, 3),
  /** Functions: Initiate Function Level Reset. PCIe-to-PCI bridges: configuration retry. */
  initiateFlr: bit(15),
} as const;

/** Link Capabilities, 7.5.3.6. */
export const LinkCapabilities = {
  maxSpeed: field(0, 4),
  maxWidth: field(4, 6),
  aspm: field(10, 2),
  dataLinkActiveReporting: bit(20),
  portNumber: field(24, 8),
} as const;

/** Link Control, 7.5.3.7. */
export const LinkControl = {
  aspm: field(0, 2),
  /** 0 is 64 bytes, 1 is 128. */
  readCompletionBoundary: bit(3),
  linkDisable: bit(4),
  retrain: bit(5),
  commonClock: bit(6),
} as const;

/** Link Status, 7.5.3.8. */
export const LinkStatus = {
  speed: field(0, 4),
  width: field(4, 6),
  training: bit(11),
  slotClock: bit(12),
  dataLinkActive: bit(13),
} as const;

export const SlotCapabilities = { physicalSlot: field(19, 13) } as const;
export const DeviceCapabilities2 = { ariForwardingSupported: bit(5) } as const;
export const DeviceControl2 = { ariForwarding: bit(5) } as const;

export const EXPRESS_REGISTERS = defineRegisters({
  name: "PCI Express capability",
  source: "PCI Express Base 6.0, section 7.5.3",
  registers: [
    {
      name: "PciExpCap",
      offset: Express.capabilities,
      bits: 16,
      access: "RO",
      text: "version and kind of port",
      fields: [
        { name: "Version", field: ExpressCapabilities.version, text: "" },
        {
          name: "PortType",
          field: ExpressCapabilities.portType,
          text: "Device/Port Type",
          values: PORT_TYPE_NAMES,
        },
        { name: "Slot", field: ExpressCapabilities.slotImplemented, text: "has a slot" },
        { name: "IntMsg", field: ExpressCapabilities.interruptMessage, text: "MSI vector" },
      ],
    },
    {
      name: "DevCap",
      offset: Express.deviceCapabilities,
      bits: 32,
      access: "RO",
      text: "what the function supports",
      fields: [
        { name: "MPSS", field: DeviceCapabilities.maxPayloadSupported, text: "128 << n bytes" },
        { name: "PhantFunc", field: DeviceCapabilities.phantomFunctions, text: "" },
        { name: "ExtTag", field: DeviceCapabilities.extendedTagSupported, text: "8-bit tags" },
        { name: "RBE", field: DeviceCapabilities.roleBasedErrors, text: "" },
        { name: "FLReset", field: DeviceCapabilities.functionLevelReset, text: "" },
      ],
    },
    {
      name: "DevCtl",
      offset: Express.deviceControl,
      bits: 16,
      access: "RW",
      text: "what the function may use",
      fields: [
        { name: "CorrErr", field: DeviceControl.correctableErrors, text: "reports them" },
        { name: "NonFatalErr", field: DeviceControl.nonFatalErrors, text: "reports them" },
        { name: "FatalErr", field: DeviceControl.fatalErrors, text: "reports them" },
        { name: "UnsupReq", field: DeviceControl.unsupportedRequests, text: "reports them" },
        { name: "RlxdOrd", field: DeviceControl.relaxedOrdering, text: "may set RO" },
        { name: "MPS", field: DeviceControl.maxPayload, text: "128 << n bytes" },
        { name: "ExtTag", field: DeviceControl.extendedTag, text: "may use 8-bit tags" },
        { name: "PhantFunc", field: DeviceControl.phantomFunctions, text: "" },
        { name: "NoSnoop", field: DeviceControl.noSnoop, text: "may set No Snoop" },
        { name: "MRRS", field: DeviceControl.maxReadRequest, text: "128 << n bytes" },
        { name: "FLR", field: DeviceControl.initiateFlr, text: "starts a function level reset" },
      ],
    },
    {
      name: "LnkCap",
      offset: Express.linkCapabilities,
      bits: 32,
      access: "RO",
      text: "what the link could be",
      fields: [
        { name: "Speed", field: LinkCapabilities.maxSpeed, text: "generation" },
        { name: "Width", field: LinkCapabilities.maxWidth, text: "lanes" },
        { name: "ASPM", field: LinkCapabilities.aspm, text: "" },
        { name: "LLActRep", field: LinkCapabilities.dataLinkActiveReporting, text: "" },
        { name: "Port", field: LinkCapabilities.portNumber, text: "egress vector bit" },
      ],
    },
    {
      name: "LnkCtl",
      offset: Express.linkControl,
      bits: 16,
      access: "RW",
      text: "control of the link",
      fields: [
        { name: "ASPM", field: LinkControl.aspm, text: "" },
        { name: "RCB", field: LinkControl.readCompletionBoundary, text: "0 is 64 B, 1 is 128 B" },
        { name: "Disabled", field: LinkControl.linkDisable, text: "" },
        { name: "Retrain", field: LinkControl.retrain, text: "" },
        { name: "CommClk", field: LinkControl.commonClock, text: "" },
      ],
    },
    {
      name: "LnkSta",
      offset: Express.linkStatus,
      bits: 16,
      access: "mixed",
      text: "what the link is",
      fields: [
        { name: "Speed", field: LinkStatus.speed, text: "generation" },
        { name: "Width", field: LinkStatus.width, text: "lanes" },
        { name: "Train", field: LinkStatus.training, text: "" },
        { name: "SlotClk", field: LinkStatus.slotClock, text: "" },
        { name: "DLActive", field: LinkStatus.dataLinkActive, text: "" },
      ],
    },
  ],
});

/** A link's speed and width in lanes. Generation 1 is 2.5 GT/s, 2 is 5, 3 is 8, up to 6, 64. */
export interface LinkRegister {
  /** 0 when the link is down or the register reads so. */
  readonly generation: number;
  readonly width: number;
}

/** What the capability says. Sizes in bytes. */
export interface ExpressFacts {
  readonly portType: PortType;
  /** Offset of the capability in configuration space. */
  readonly offset: number;
  readonly link: LinkRegister | null;
  readonly linkCapability: LinkRegister | null;
  readonly maxPayloadSupported: number;
  readonly maxPayload: number;
  readonly maxReadRequest: number;
  /** Read completion boundary in bytes, 64 or 128. */
  readonly readCompletionBoundary: number;
  readonly relaxedOrdering: boolean;
  readonly extendedTags: boolean;
  readonly functionLevelReset: boolean;
  readonly ariForwarding: boolean;
  readonly slot: number | null;
}

/** Max_Payload_Size and Max_Read_Request_Size: 0 is 128 bytes. Encodings 6 and 7 are reserved. */
export const payloadFromCode = (code: number): number => 128 << Math.min(code, 5);
/** The code of a size in bytes; sizes are powers of two from 128 to 4096. */
export const codeFromPayload = (bytes: number): number =>
  Math.max(0, Math.min(5, Math.round(Math.log2(bytes / 128))));

/** Event collectors and integrated endpoints have no link; their link registers read zero. */
function hasLink(portType: number): boolean {
  return (
    portType !== PortType.rootComplexEndpoint && portType !== PortType.rootComplexEventCollector
  );
}

/** Decodes the capability at `offset`; null when the dump ends before its link status. */
export function decodeExpress(config: Uint8Array, offset: number): ExpressFacts | null {
  if (offset + EXPRESS_V1_BYTES > config.length) return null;
  const word = readLe16(config, offset + Express.capabilities);
  const portType = ExpressCapabilities.portType.get(word) as PortType;
  const deviceCap = readLe32(config, offset + Express.deviceCapabilities);
  const control = readLe16(config, offset + Express.deviceControl);
  const linkCap = readLe32(config, offset + Express.linkCapabilities);
  const linkControl = readLe16(config, offset + Express.linkControl);
  const status = readLe16(config, offset + Express.linkStatus);
  const hasVersion2 = ExpressCapabilities.version.get(word) >= 2;
  const control2 = hasVersion2 ? readLe16(config, offset + Express.deviceControl2) : 0;
  const slotCap = readLe32(config, offset + Express.slotCapabilities);
  const linked = hasLink(portType);
  return {
    portType,
    offset,
    link: linked
      ? { generation: LinkStatus.speed.get(status), width: LinkStatus.width.get(status) }
      : null,
    linkCapability: linked
      ? {
          generation: LinkCapabilities.maxSpeed.get(linkCap),
          width: LinkCapabilities.maxWidth.get(linkCap),
        }
      : null,
    maxPayloadSupported: payloadFromCode(DeviceCapabilities.maxPayloadSupported.get(deviceCap)),
    maxPayload: payloadFromCode(DeviceControl.maxPayload.get(control)),
    maxReadRequest: payloadFromCode(DeviceControl.maxReadRequest.get(control)),
    readCompletionBoundary: LinkControl.readCompletionBoundary.get(linkControl) === 1 ? 128 : 64,
    relaxedOrdering: DeviceControl.relaxedOrdering.get(control) === 1,
    extendedTags: DeviceControl.extendedTag.get(control) === 1,
    functionLevelReset: DeviceCapabilities.functionLevelReset.get(deviceCap) === 1,
    ariForwarding: DeviceControl2.ariForwarding.get(control2) === 1,
    slot:
      ExpressCapabilities.slotImplemented.get(word) === 1
        ? SlotCapabilities.physicalSlot.get(slotCap)
        : null,
  };
}

/**
 * Writes the facts into the capability at `facts.offset`, leaving every other bit as it was. An
 * empty capability becomes version 2 where that has room; the capability header is the caller's.
 */
export function encodeExpress(config: Uint8Array, facts: ExpressFacts): void {
  const at = facts.offset;
  let word = readLe16(config, at + Express.capabilities);
  // The registers of version 2 need room before the end of the first 256 bytes.
  const version = at + EXPRESS_BYTES <= CONFIG_PCI_BYTES ? 2 : 1;
  if (word === 0) word = ExpressCapabilities.version.set(0, version);
  word = ExpressCapabilities.portType.set(word, facts.portType);
  word = ExpressCapabilities.slotImplemented.set(word, facts.slot === null ? 0 : 1);
  writeLe16(config, at + Express.capabilities, word);

  let deviceCap = readLe32(config, at + Express.deviceCapabilities);
  const supported = codeFromPayload(facts.maxPayloadSupported);
  deviceCap = DeviceCapabilities.maxPayloadSupported.set(deviceCap, supported);
  const canReset = facts.functionLevelReset ? 1 : 0;
  deviceCap = DeviceCapabilities.functionLevelReset.set(deviceCap, canReset);
  if (facts.extendedTags) deviceCap = DeviceCapabilities.extendedTagSupported.set(deviceCap, 1);
  writeLe32(config, at + Express.deviceCapabilities, deviceCap);

  let control = readLe16(config, at + Express.deviceControl);
  control = DeviceControl.maxPayload.set(control, codeFromPayload(facts.maxPayload));
  control = DeviceControl.maxReadRequest.set(control, codeFromPayload(facts.maxReadRequest));
  control = DeviceControl.relaxedOrdering.set(control, facts.relaxedOrdering ? 1 : 0);
  control = DeviceControl.extendedTag.set(control, facts.extendedTags ? 1 : 0);
  writeLe16(config, at + Express.deviceControl, control);

  encodeLink(config, facts);
  if (facts.slot !== null) {
    const slotCap = readLe32(config, at + Express.slotCapabilities);
    const value = SlotCapabilities.physicalSlot.set(slotCap, facts.slot);
    writeLe32(config, at + Express.slotCapabilities, value);
  }
  if (ExpressCapabilities.version.get(word) < 2) return;
  const ari = facts.ariForwarding ? 1 : 0;
  const control2 = readLe16(config, at + Express.deviceControl2);
  writeLe16(config, at + Express.deviceControl2, DeviceControl2.ariForwarding.set(control2, ari));
  if (facts.ariForwarding) {
    const cap2 = readLe32(config, at + Express.deviceCapabilities2);
    const value = DeviceCapabilities2.ariForwardingSupported.set(cap2, 1);
    writeLe32(config, at + Express.deviceCapabilities2, value);
  }
}

function encodeLink(config: Uint8Array, facts: ExpressFacts): void {
  const at = facts.offset;
  if (facts.linkCapability !== null) {
    let word = readLe32(config, at + Express.linkCapabilities);
    word = LinkCapabilities.maxSpeed.set(word, facts.linkCapability.generation);
    word = LinkCapabilities.maxWidth.set(word, facts.linkCapability.width);
    writeLe32(config, at + Express.linkCapabilities, word);
  }
  if (facts.link !== null) {
    let word = readLe16(config, at + Express.linkStatus);
    word = LinkStatus.speed.set(word, facts.link.generation);
    word = LinkStatus.width.set(word, facts.link.width);
    writeLe16(config, at + Express.linkStatus, word);
  }
  const boundary = facts.readCompletionBoundary === 128 ? 1 : 0;
  const control = readLe16(config, at + Express.linkControl);
  const value = LinkControl.readCompletionBoundary.set(control, boundary);
  writeLe16(config, at + Express.linkControl, value);
}
