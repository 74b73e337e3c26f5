/**
 * Access Control Services: where a port sends peer-to-peer requests. PCIe Base 6.0 section 7.7.11
 * (registers) and 6.12 (behaviour). The bits of both words are at the same places.
 *
 * Leaves out: ACS Enhanced Capability (memory target access, I/O blocking), which is decoded into
 * the words but has no field here.
 */

import { bit, defineRegisters, type Field, field } from "../../core/index.ts";
import { readLe16, readLe32, writeLe16, writeLe32 } from "./config-bytes.ts";

/** Offsets in the extended capability. */
export const Acs = { capabilities: 0x04, control: 0x06, egressVector: 0x08 } as const;

/** Bytes of the capability without an egress control vector. */
export const ACS_BYTES = 8;

/** Bits of the capability and of the control word. */
export const AcsBit = {
  /** SV: Source Validation. */
  sourceValidation: 0x01,
  /** TB: Translation Blocking. */
  translationBlocking: 0x02,
  /** RR: P2P Request Redirect. */
  requestRedirect: 0x04,
  /** CR: P2P Completion Redirect. */
  completionRedirect: 0x08,
  /** UF: Upstream Forwarding. */
  upstreamForwarding: 0x10,
  /** EC: P2P Egress Control. */
  egressControl: 0x20,
  /** DT: Direct Translated P2P. */
  directTranslated: 0x40,
} as const;

/** ACS Enhanced Capability, of Base 5.0 and later: a capability bit, and the controls it adds. */
export const AcsEnhanced = {
  capability: 0x80,
  controls: 0x1f80,
  /** Control: what a switch's window claims and none of its ports does goes up. */
  unclaimedRequestRedirect: 0x1000,
} as const;

const names: [string, number, string][] = [
  ["SrcValid", 0, "SV: checks the requester id against the bus numbers below"],
  ["TransBlk", 1, "TB: blocks translated requests"],
  ["ReqRedir", 2, "RR: sends peer requests up"],
  ["CmpltRedir", 3, "CR: sends peer completions up"],
  ["UpstreamFwd", 4, "UF: forwards up what would come back down"],
  ["EgressCtrl", 5, "EC: consults the egress control vector"],
  ["DirectTrans", 6, "DT: translated requests pass RR and EC"],
];
const fields = names.map(([name, low, text]) => ({ name, field: bit(low) as Field, text }));
/** Bits of the egress control vector; 0 stands for 256. */
export const ACS_VECTOR_SIZE = field(8, 8);

export const ACS_REGISTERS = defineRegisters({
  name: "ACS extended capability",
  source: "PCI Express Base 6.0, section 7.7.11",
  registers: [
    {
      name: "ACSCap",
      offset: Acs.capabilities,
      bits: 16,
      access: "RO",
      text: "which controls exist",
      fields: [
        ...fields,
        { name: "VectorSize", field: ACS_VECTOR_SIZE, text: "egress vector bits, 0 is 256" },
      ],
    },
    {
      name: "ACSCtl",
      offset: Acs.control,
      bits: 16,
      access: "RW",
      text: "which controls are on",
      fields,
    },
  ],
});

export interface AcsRegisters {
  readonly offset: number;
  readonly capabilities: number;
  readonly control: number;
  /** Words of the egress control vector, bit n for port n; null when EC is not implemented. */
  readonly egressVector: readonly number[] | null;
}

/** `RR CR`: the short names of the bits that are set, as the specification abbreviates them. */
export function acsBitNames(word: number): string {
  return ["SV", "TB", "RR", "CR", "UF", "EC", "DT"]
    .filter((_name, low) => (word & (1 << low)) !== 0)
    .join(" ");
}

/** Dwords of the egress control vector that a capability word announces; 0 without EC. */
export function egressVectorWords(capabilities: number): number {
  if ((capabilities & AcsBit.egressControl) === 0) return 0;
  return Math.ceil((ACS_VECTOR_SIZE.get(capabilities) || 256) / 32);
}

/** Decodes the capability at `offset`; null when the dump ends inside it. */
export function decodeAcs(config: Uint8Array, offset: number): AcsRegisters | null {
  if (offset + ACS_BYTES > config.length) return null;
  const capabilities = readLe16(config, offset + Acs.capabilities);
  const words = egressVectorWords(capabilities);
  if (offset + ACS_BYTES + 4 * words > config.length) return null;
  const vector: number[] = [];
  for (let i = 0; i < words; i++) vector.push(readLe32(config, offset + Acs.egressVector + 4 * i));
  return {
    offset,
    capabilities,
    control: readLe16(config, offset + Acs.control),
    egressVector: words === 0 ? null : vector,
  };
}

/** Writes both words and the vector; the capability header is the caller's. */
export function encodeAcs(config: Uint8Array, acs: AcsRegisters): void {
  writeLe16(config, acs.offset + Acs.capabilities, acs.capabilities);
  writeLe16(config, acs.offset + Acs.control, acs.control);
  const words = Math.min(acs.egressVector?.length ?? 0, egressVectorWords(acs.capabilities));
  for (let i = 0; i < words; i++) {
    writeLe32(config, acs.offset + Acs.egressVector + 4 * i, acs.egressVector?.[i] ?? 0);
  }
}
