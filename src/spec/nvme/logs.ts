/**
 * Log pages (NVM Express Base 2.0, section 5.16) and asynchronous events (section 5.2):
 * identifiers, the dwords of Get Log Page, and the pages' layouts. The discovery log is in
 * spec/nvmf.
 */

import { bit, field } from "../../core/index.ts";
import { defineStruct, raw, u8, u16, u32, u64, u128 } from "./layout.ts";

export const LogPage = {
  supportedLogPages: 0x00,
  errorInformation: 0x01,
  smart: 0x02,
  firmwareSlot: 0x03,
  changedNamespaces: 0x04,
  commandEffects: 0x05,
  deviceSelfTest: 0x06,
  telemetryHost: 0x07,
  telemetryController: 0x08,
  enduranceGroup: 0x09,
  ana: 0x0c,
  persistentEvent: 0x0d,
  discovery: 0x70,
  reservationNotification: 0x80,
  sanitizeStatus: 0x81,
} as const;
export type LogPage = (typeof LogPage)[keyof typeof LogPage];

/** Get Log Page, CDW10. */
export const LOG_LID = field(0, 8);
export const LOG_LSP = field(8, 7);
/** Retain Asynchronous Event: reading does not clear it. */
export const LOG_RAE = bit(15);
export const LOG_NUMDL = field(16, 16);
/** CDW11. */
export const LOG_NUMDU = field(0, 16);
/** Largest page of any kind that is read in one piece: offsets are in CDW12 and CDW13. */
export const LOG_DWORD_BYTES = 4;

/** Bytes that CDW10 and CDW11 of a Get Log Page ask for (NUMD is 0's based, in dwords). */
export function logBytes(cdw10: number, cdw11: number): number {
  return (LOG_NUMDU.get(cdw11) * 65_536 + LOG_NUMDL.get(cdw10) + 1) * LOG_DWORD_BYTES;
}

/** Packs CDW10 for `sizeBytes`, a multiple of 4; CDW11 is {@link packLogCdw11}. */
export function packLogCdw10(lid: number, sizeBytes: number, rae = 0, lsp = 0): number {
  const numd = sizeBytes / LOG_DWORD_BYTES - 1;
  return (lid | (lsp << 8) | (rae << 15) | ((numd & 0xffff) << 16)) >>> 0;
}

export function packLogCdw11(sizeBytes: number): number {
  return Math.floor((sizeBytes / LOG_DWORD_BYTES - 1) / 65_536);
}

export const ERROR_LOG_ENTRY = defineStruct(
  "Error Information Log Entry",
  "NVM Express Base 2.0, section 5.16.1.2",
  64,
  {
    ERROR_COUNT: u64(0, "Number of this error since the controller was made"),
    SQID: u16(8, "Submission Queue ID; FFFFh when not about a command"),
    CID: u16(10, "Command ID; FFFFh when not about a command"),
    STATUS: u16(12, "Status Field in 15:1, phase tag in 0"),
    LOCATION: u16(14, "Parameter Error Location: byte 7:0, bit 10:8; FFFFh none"),
    LBA: u64(16, "First LBA with the error"),
    NSID: u32(24, "Namespace"),
    VENDOR_LOG: u8(28, "Vendor specific log page with more; 0 none"),
    TRTYPE: u8(29, "Transport Type; 0 for PCIe"),
    CSI: u8(30, "Command Set Indicator"),
    OPC: u8(31, "Opcode"),
    COMMAND_SPECIFIC: u64(32, "Command Specific Information"),
    TRTYPE_SPECIFIC: u16(40, "Transport Type Specific Information"),
    VERSION: u8(63, "Log Page Version"),
  },
);
export const ErrorLog = ERROR_LOG_ENTRY.fields;
/** PEL when the error is about no field. */
export const LOCATION_NONE = 0xffff;
/** SQID and CID when the error is about no command. */
export const ERROR_NO_COMMAND = 0xffff;

export const SMART_LOG = defineStruct(
  "SMART / Health Information",
  "NVM Express Base 2.0, section 5.16.1.3",
  512,
  {
    CRITICAL_WARNING: u8(0, "Critical Warning"),
    TEMPERATURE: u16(1, "Composite Temperature, K"),
    AVAILABLE_SPARE: u8(3, "Available Spare, %"),
    SPARE_THRESHOLD: u8(4, "Available Spare Threshold, %"),
    PERCENTAGE_USED: u8(5, "Percentage Used"),
    ENDURANCE_WARNING: u8(6, "Endurance Group Critical Warning Summary"),
    DATA_UNITS_READ: u128(32, "Data Units Read: thousands of 512 bytes, rounded up"),
    DATA_UNITS_WRITTEN: u128(48, "Data Units Written: thousands of 512 bytes, rounded up"),
    HOST_READS: u128(64, "Host Read Commands (Read and Compare)"),
    HOST_WRITES: u128(80, "Host Write Commands"),
    BUSY_MINUTES: u128(96, "Controller Busy Time, minutes"),
    POWER_CYCLES: u128(112, "Power Cycles"),
    POWER_ON_HOURS: u128(128, "Power On Hours"),
    UNSAFE_SHUTDOWNS: u128(144, "Unsafe Shutdowns"),
    MEDIA_ERRORS: u128(160, "Media and Data Integrity Errors"),
    ERROR_ENTRIES: u128(176, "Number of Error Information Log Entries"),
    WARNING_MINUTES: u32(192, "Warning Composite Temperature Time"),
    CRITICAL_MINUTES: u32(196, "Critical Composite Temperature Time"),
    SENSORS: raw(200, 16, "Temperature Sensors 1 to 8, K"),
  },
);
export const Smart = SMART_LOG.fields;
/** Bits of CRITICAL_WARNING. */
export const SMART_WARNING_SPARE = 0x01;
export const SMART_WARNING_TEMPERATURE = 0x02;
export const SMART_WARNING_RELIABILITY = 0x04;
export const SMART_WARNING_READ_ONLY = 0x08;
export const SMART_WARNING_BACKUP = 0x10;
export const SMART_WARNING_PMR = 0x20;
/** Bytes of one SMART data unit. */
export const SMART_DATA_UNIT_BYTES = 512_000;

export const FIRMWARE_SLOT_LOG = defineStruct(
  "Firmware Slot Information",
  "NVM Express Base 2.0, section 5.16.1.4",
  512,
  {
    AFI: u8(0, "Active Firmware Info: active slot 2:0, next 6:4"),
    FRS: raw(8, 56, "Firmware Revision for Slots 1 to 7, 8 bytes each"),
  },
);
export const FirmwareSlot = FIRMWARE_SLOT_LOG.fields;

/** Changed Namespace List: up to 1024 NSIDs; FFFFFFFFh first when more changed (5.16.1.5). */
export const CHANGED_NAMESPACES_BYTES = 4096;
export const CHANGED_NAMESPACES_MAX = 1024;

/** Commands Supported and Effects: 256 dwords of admin, then of I/O commands (5.16.1.6). */
export const COMMAND_EFFECTS_BYTES = 4096;
export const EFFECTS_IO_OFFSET = 1024;
export const EFFECTS_CSUPP = bit(0);
/** The command changes data. */
export const EFFECTS_LBCC = bit(1);
/** The command changes capabilities of namespaces. */
export const EFFECTS_NCC = bit(2);
export const EFFECTS_NIC = bit(3);
export const EFFECTS_CCC = bit(4);
export const EFFECTS_CSE = field(16, 3);
/** CSE: no other command to the namespace may be outstanding. */
export const EFFECTS_CSE_NAMESPACE = 1;

/** ANA log (5.16.1.13): a header, then descriptors of 32 bytes, each with 4 bytes per NSID. */
export const ANA_HEADER = defineStruct(
  "ANA Log Header",
  "NVM Express Base 2.0, section 5.16.1.13",
  16,
  { CHGCNT: u64(0, "Change Count"), NGRPS: u16(8, "Number of ANA Group Descriptors") },
);
export const AnaHeader = ANA_HEADER.fields;
export const ANA_GROUP = defineStruct(
  "ANA Group Descriptor",
  "NVM Express Base 2.0, section 5.16.1.13",
  32,
  {
    AGID: u32(0, "ANA Group ID"),
    NNSV: u32(4, "Number of NSID Values"),
    CHGCNT: u64(8, "Change Count"),
    STATE: u8(16, "ANA State in 3:0"),
  },
);
export const AnaGroup = ANA_GROUP.fields;
export const AnaState = {
  optimized: 0x1,
  nonOptimized: 0x2,
  inaccessible: 0x3,
  persistentLoss: 0x4,
  change: 0xf,
} as const;

/** Dword 0 of an Asynchronous Event Request completion (section 5.2.1). */
export const EVENT_TYPE = field(0, 3);
export const EVENT_INFO = field(8, 8);
export const EVENT_LID = field(16, 8);
export const EventType = {
  error: 0,
  smart: 1,
  notice: 2,
  immediate: 3,
  ioCommandSet: 6,
  vendor: 7,
} as const;
export const ErrorEvent = {
  /** Write to Invalid Doorbell Register: of a queue that does not exist. */
  invalidDoorbellRegister: 0,
  /** Invalid Doorbell Write Value: outside the queue, or the same as before. */
  invalidDoorbellValue: 1,
  diagnosticFailure: 2,
  persistentInternalError: 3,
  transientInternalError: 4,
  firmwareImageLoad: 5,
} as const;
export const SmartEvent = { reliability: 0, temperature: 1, spare: 2 } as const;
/** Of type ioCommandSet. */
export const IoCommandSetEvent = { reservationLog: 0 } as const;
export const NoticeEvent = {
  namespaceAttribute: 0,
  firmwareActivation: 1,
  telemetry: 2,
  ana: 3,
  discoveryChange: 0xf0,
} as const;

/** Packs dword 0 of an Asynchronous Event Request completion. */
export function packEvent(type: number, info: number, lid: number): number {
  return (type | (info << 8) | (lid << 16)) >>> 0;
}
