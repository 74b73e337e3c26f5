/**
 * Small extended capabilities: Advanced Error Reporting (PCIe Base 6.0 section 7.8.4), Address
 * Translation Services (10.5.1), Alternative Routing-ID Interpretation (7.8.8), Device Serial
 * Number (7.9.3).
 *
 * Leaves out: AER header log interpretation, Page Request and PASID registers.
 */

import { bit, defineRegisters, field } from "../../core/index.ts";
import { readLe16, readLe32, writeLe16, writeLe32 } from "./config-bytes.ts";

/** Offsets in the AER capability; the last three exist in root ports and event collectors. */
export const Aer = {
  uncorrectableStatus: 0x04,
  uncorrectableMask: 0x08,
  uncorrectableSeverity: 0x0c,
  correctableStatus: 0x10,
  correctableMask: 0x14,
  control: 0x18,
  headerLog: 0x1c,
  rootCommand: 0x2c,
  rootStatus: 0x30,
  errorSource: 0x34,
} as const;
/** Without, and with, the registers of root ports; TLP prefix logs come after either. */
export const AER_BYTES = 0x2c;
export const AER_ROOT_BYTES = 0x38;

/** Uncorrectable Error Status, Mask and Severity, 7.8.4.2. */
export const UncorrectableError = {
  dataLinkProtocol: bit(4),
  surpriseDown: bit(5),
  poisonedTlp: bit(12),
  flowControl: bit(13),
  completionTimeout: bit(14),
  completerAbort: bit(15),
  unexpectedCompletion: bit(16),
  receiverOverflow: bit(17),
  malformedTlp: bit(18),
  ecrc: bit(19),
  unsupportedRequest: bit(20),
  acsViolation: bit(21),
} as const;

/** Severity after reset: 1 is fatal (7.8.4.4). */
export const UNCORRECTABLE_SEVERITY_RESET = 0x00462030;

export const AER_REGISTERS = defineRegisters({
  name: "AER extended capability",
  source: "PCI Express Base 6.0, section 7.8.4",
  registers: [
    {
      name: "UESta",
      offset: Aer.uncorrectableStatus,
      bits: 32,
      access: "RW1C",
      text: "uncorrectable errors that happened",
      fields: [
        { name: "DLP", field: UncorrectableError.dataLinkProtocol, text: "" },
        { name: "SDES", field: UncorrectableError.surpriseDown, text: "" },
        { name: "TLP", field: UncorrectableError.poisonedTlp, text: "" },
        { name: "FCP", field: UncorrectableError.flowControl, text: "" },
        { name: "CmpltTO", field: UncorrectableError.completionTimeout, text: "" },
        { name: "CmpltAbrt", field: UncorrectableError.completerAbort, text: "" },
        { name: "UnxCmplt", field: UncorrectableError.unexpectedCompletion, text: "" },
        { name: "RxOF", field: UncorrectableError.receiverOverflow, text: "" },
        { name: "MalfTLP", field: UncorrectableError.malformedTlp, text: "" },
        { name: "ECRC", field: UncorrectableError.ecrc, text: "" },
        { name: "UnsupReq", field: UncorrectableError.unsupportedRequest, text: "" },
        { name: "ACSViol", field: UncorrectableError.acsViolation, text: "" },
      ],
    },
  ],
});

/** Offsets in the ATS capability. */
export const Ats = { capability: 0x04, control: 0x06 } as const;
export const ATS_BYTES = 8;
export const AtsCapability = { invalidateQueueDepth: field(0, 5), pageAligned: bit(5) } as const;
export const AtsControl = { smallestTranslationUnit: field(0, 5), enable: bit(15) } as const;

/** Whether translation requests are on; null when the dump ends inside the capability. */
export function decodeAts(config: Uint8Array, offset: number): { enabled: boolean } | null {
  if (offset + ATS_BYTES > config.length) return null;
  return { enabled: AtsControl.enable.get(readLe16(config, offset + Ats.control)) === 1 };
}

export function encodeAts(config: Uint8Array, offset: number, enabled: boolean): void {
  const control = readLe16(config, offset + Ats.control);
  writeLe16(config, offset + Ats.control, AtsControl.enable.set(control, enabled ? 1 : 0));
}

/** Offsets in the ARI capability. */
export const Ari = { capability: 0x04, control: 0x06 } as const;
export const ARI_BYTES = 8;
export const AriCapability = {
  mfvcFunctionGroups: bit(0),
  acsFunctionGroups: bit(1),
  nextFunction: field(8, 8),
} as const;

/** Offsets in the Device Serial Number capability. */
export const SerialNumber = { lower: 0x04, upper: 0x08 } as const;
export const SERIAL_NUMBER_BYTES = 12;

/** The EUI-64 as two halves; null when the dump ends inside the capability. */
export function decodeSerialNumber(
  config: Uint8Array,
  offset: number,
): { lo: number; hi: number } | null {
  if (offset + SERIAL_NUMBER_BYTES > config.length) return null;
  return {
    lo: readLe32(config, offset + SerialNumber.lower),
    hi: readLe32(config, offset + SerialNumber.upper),
  };
}

/** An AER capability as it is after reset: nothing logged, nothing masked. */
export function encodeAerReset(config: Uint8Array, offset: number): void {
  config.fill(0, offset + 4, offset + AER_BYTES);
  writeLe32(config, offset + Aer.uncorrectableSeverity, UNCORRECTABLE_SEVERITY_RESET);
}
