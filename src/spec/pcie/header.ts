/**
 * The configuration header: offsets and registers of type 0 (endpoint), type 1 (PCI-to-PCI bridge)
 * and the few of type 2 (CardBus) that routing needs. PCIe Base 6.0 section 7.5.1.
 *
 * Base address registers and bridge windows are in bars.ts and windows.ts. Leaves out: BIST, cache
 * line size semantics, and everything of CardBus but its bus numbers.
 */

import { bit, defineRegisters, field } from "../../core/index.ts";

/** Configuration space of conventional PCI and of PCI Express, in bytes. */
export const CONFIG_HEADER_BYTES = 64;
export const CONFIG_PCI_BYTES = 256;
export const CONFIG_PCIE_BYTES = 4096;

/** Offsets common to all header types, and those of type 0. */
export const Header = {
  vendorId: 0x00,
  deviceId: 0x02,
  command: 0x04,
  status: 0x06,
  revision: 0x08,
  /** Programming interface, sub-class, base class: three bytes upwards. */
  classCode: 0x09,
  cacheLineSize: 0x0c,
  latencyTimer: 0x0d,
  headerType: 0x0e,
  bist: 0x0f,
  bar0: 0x10,
  cardBusCis: 0x28,
  subsystemVendorId: 0x2c,
  subsystemId: 0x2e,
  expansionRom: 0x30,
  capabilitiesPointer: 0x34,
  interruptLine: 0x3c,
  interruptPin: 0x3d,
} as const;

/** Offsets of the type 1 header where it differs from type 0. */
export const BridgeHeader = {
  primaryBus: 0x18,
  secondaryBus: 0x19,
  subordinateBus: 0x1a,
  secondaryLatency: 0x1b,
  ioBase: 0x1c,
  ioLimit: 0x1d,
  secondaryStatus: 0x1e,
  memoryBase: 0x20,
  memoryLimit: 0x22,
  prefetchableBase: 0x24,
  prefetchableLimit: 0x26,
  prefetchableBaseUpper: 0x28,
  prefetchableLimitUpper: 0x2c,
  ioBaseUpper: 0x30,
  ioLimitUpper: 0x32,
  expansionRom: 0x38,
  bridgeControl: 0x3e,
} as const;

/** Offsets of the type 2 (CardBus) header; its bus numbers are where type 1 has them. */
export const CardBusHeader = { capabilitiesPointer: 0x14 } as const;

export const HeaderType = { endpoint: 0, bridge: 1, cardBus: 2 } as const;
/** Low 7 bits of the header type register. */
export const HEADER_LAYOUT = field(0, 7);
export const HEADER_MULTI_FUNCTION = bit(7);

/** Command register, 7.5.1.1.3. */
export const Command = {
  ioSpaceEnable: bit(0),
  memorySpaceEnable: bit(1),
  busMasterEnable: bit(2),
  specialCycleEnable: bit(3),
  memoryWriteInvalidate: bit(4),
  vgaPaletteSnoop: bit(5),
  parityErrorResponse: bit(6),
  idselStepping: bit(7),
  serrEnable: bit(8),
  fastBackToBack: bit(9),
  interruptDisable: bit(10),
} as const;

/** Status register, 7.5.1.1.4. */
export const Status = {
  immediateReadiness: bit(0),
  interruptStatus: bit(3),
  capabilitiesList: bit(4),
  masterDataParityError: bit(8),
  signaledTargetAbort: bit(11),
  receivedTargetAbort: bit(12),
  receivedMasterAbort: bit(13),
  signaledSystemError: bit(14),
  detectedParityError: bit(15),
} as const;

/** Bridge Control register, 7.5.1.3.10. */
export const BridgeControl = {
  parityErrorResponse: bit(0),
  serrEnable: bit(1),
  isaEnable: bit(2),
  vgaEnable: bit(3),
  vga16Decode: bit(4),
  masterAbortMode: bit(5),
  secondaryBusReset: bit(6),
  fastBackToBack: bit(7),
} as const;

const COMMAND_FIELDS = [
  { name: "I/O", field: Command.ioSpaceEnable, text: "answers I/O accesses" },
  { name: "Mem", field: Command.memorySpaceEnable, text: "answers memory accesses" },
  { name: "BusMaster", field: Command.busMasterEnable, text: "may issue memory requests" },
  { name: "SpecCycle", field: Command.specialCycleEnable, text: "zero in PCI Express" },
  { name: "MemWINV", field: Command.memoryWriteInvalidate, text: "zero in PCI Express" },
  { name: "VGASnoop", field: Command.vgaPaletteSnoop, text: "zero in PCI Express" },
  { name: "ParErr", field: Command.parityErrorResponse, text: "reports poisoned TLPs" },
  { name: "Stepping", field: Command.idselStepping, text: "zero in PCI Express" },
  { name: "SERR", field: Command.serrEnable, text: "reports uncorrectable errors" },
  { name: "FastB2B", field: Command.fastBackToBack, text: "zero in PCI Express" },
  { name: "DisINTx", field: Command.interruptDisable, text: "sends no INTx" },
];

const STATUS_FIELDS = [
  { name: "ImmReady", field: Status.immediateReadiness, text: "ready right after reset" },
  { name: "INTx", field: Status.interruptStatus, text: "an INTx is pending" },
  { name: "Cap", field: Status.capabilitiesList, text: "has a list of capabilities" },
  { name: "MDPE", field: Status.masterDataParityError, text: "poisoned TLP as requester" },
  { name: ">TAbort", field: Status.signaledTargetAbort, text: "sent a Completer Abort" },
  { name: "<TAbort", field: Status.receivedTargetAbort, text: "received a Completer Abort" },
  { name: "<MAbort", field: Status.receivedMasterAbort, text: "received Unsupported Request" },
  { name: ">SERR", field: Status.signaledSystemError, text: "sent an error message" },
  { name: "<PERR", field: Status.detectedParityError, text: "received a poisoned TLP" },
];

const COMMON_REGISTERS = [
  { name: "VendorID", offset: Header.vendorId, bits: 16, access: "RO", text: "", fields: [] },
  { name: "DeviceID", offset: Header.deviceId, bits: 16, access: "RO", text: "", fields: [] },
  {
    name: "Command",
    offset: Header.command,
    bits: 16,
    access: "RW",
    text: "what the function may do and answer",
    fields: COMMAND_FIELDS,
  },
  {
    name: "Status",
    offset: Header.status,
    bits: 16,
    access: "mixed",
    text: "what happened; error bits are RW1C",
    fields: STATUS_FIELDS,
  },
  { name: "Revision", offset: Header.revision, bits: 8, access: "RO", text: "", fields: [] },
  {
    name: "HeaderType",
    offset: Header.headerType,
    bits: 8,
    access: "RO",
    text: "layout of the header, and whether there are more functions",
    fields: [
      { name: "Layout", field: HEADER_LAYOUT, text: "0 endpoint, 1 bridge, 2 CardBus" },
      { name: "MultiFunction", field: HEADER_MULTI_FUNCTION, text: "more functions may exist" },
    ],
  },
] as const;

export const TYPE0_HEADER = defineRegisters({
  name: "Type 0 header",
  source: "PCI Express Base 6.0, section 7.5.1.2",
  registers: [
    ...COMMON_REGISTERS,
    {
      name: "SubsystemVendorID",
      offset: Header.subsystemVendorId,
      bits: 16,
      access: "RO",
      text: "",
      fields: [],
    },
    {
      name: "SubsystemID",
      offset: Header.subsystemId,
      bits: 16,
      access: "RO",
      text: "",
      fields: [],
    },
  ],
});

export const TYPE1_HEADER = defineRegisters({
  name: "Type 1 header",
  source: "PCI Express Base 6.0, section 7.5.1.3",
  registers: [
    ...COMMON_REGISTERS,
    {
      name: "PrimaryBus",
      offset: BridgeHeader.primaryBus,
      bits: 8,
      access: "RW",
      text: "bus above the bridge",
      fields: [],
    },
    {
      name: "SecondaryBus",
      offset: BridgeHeader.secondaryBus,
      bits: 8,
      access: "RW",
      text: "bus right below the bridge",
      fields: [],
    },
    {
      name: "SubordinateBus",
      offset: BridgeHeader.subordinateBus,
      bits: 8,
      access: "RW",
      text: "last bus below the bridge",
      fields: [],
    },
    {
      name: "BridgeControl",
      offset: BridgeHeader.bridgeControl,
      bits: 16,
      access: "RW",
      text: "how the bridge forwards",
      fields: [
        { name: "Parity", field: BridgeControl.parityErrorResponse, text: "reports poison below" },
        { name: "SERR", field: BridgeControl.serrEnable, text: "forwards error messages" },
        { name: "NoISA", field: BridgeControl.isaEnable, text: "top 768 B of each 1 KiB stay up" },
        { name: "VGA", field: BridgeControl.vgaEnable, text: "claims legacy VGA ranges" },
        { name: "VGA16", field: BridgeControl.vga16Decode, text: "16-bit VGA I/O decode" },
        { name: "MAbort", field: BridgeControl.masterAbortMode, text: "zero in PCI Express" },
        { name: ">Reset", field: BridgeControl.secondaryBusReset, text: "resets what is below" },
        { name: "FastB2B", field: BridgeControl.fastBackToBack, text: "zero in PCI Express" },
      ],
    },
  ],
});
