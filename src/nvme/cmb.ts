/**
 * The Controller Memory Buffer: found, enabled and offered as a provider (NVM Express Base 2.0,
 * sections 3.1.3.11, 3.1.3.12, 3.1.3.16 and 8.5).
 *
 * The order matters: with CAP.CMBS the two describing registers read as zero until CMBMSC.CRE is
 * set, and addresses mean the CMB only from CMBMSC.CMSE on. CBA is the bus address of the buffer,
 * so that the controller recognises in a PRP what its peers use too. Controllers before 1.4 have
 * no CMBMSC and recognise their BAR.
 *
 * Leaves out: Linux's 2 MiB alignment rule (it is about struct pages), lists and completion queues
 * in the CMB, the PMR.
 */

import type { BackingFunction } from "../backing/interface.ts";
import { type BusAddr, busAddr, hex, type PhysAddr, physAddr, type Tree } from "../core/index.ts";
import { Provider } from "../p2p/index.ts";
import {
  CMBLOC_BIR,
  CMBMSC_CMSE,
  CMBMSC_CRE,
  CMBSTS_CBAI,
  CMBSZ_RDS,
  CMBSZ_SQS,
  CMBSZ_WDS,
  cmbOffsetBytes,
  cmbSizeBytes,
  Reg,
} from "../spec/nvme/index.ts";
import type { ControllerRegisters } from "./registers.ts";

export interface Cmb {
  readonly bar: number;
  /** Of the buffer in its BAR. */
  readonly offset: number;
  /** What lies inside the BAR; CMBSZ may claim more. */
  readonly sizeBytes: number;
  readonly phys: PhysAddr;
  /** What CBA is set to, and what a PRP carries. */
  readonly bus: BusAddr;
  /** Read commands may put their data here (CMBSZ.RDS). */
  readonly readable: boolean;
  /** Write commands may take their data from here (CMBSZ.WDS). */
  readonly writable: boolean;
  /** Submission queues may lie here (CMBSZ.SQS). */
  readonly holdsSqs: boolean;
  /** The buffer as memory for peers. Publish it only if it is readable and writable. */
  readonly provider: Provider;
}

/** Why there is no CMB, for people. */
export type CmbAbsence = string;

/**
 * Finds and enables the CMB. Answers why there is none when there is none; that is no error, since
 * most controllers have none.
 */
export function enableCmb(fn: BackingFunction, registers: ControllerRegisters): Cmb | CmbAbsence {
  const { region, capabilities } = registers;
  if (capabilities.hasCmbms) region.write64(Reg.cmbmscLo, CMBMSC_CRE.bits, 0);
  const cmbsz = region.read32(Reg.cmbsz);
  const announced = cmbSizeBytes(cmbsz);
  if (announced === 0) return "CMBSZ is 0: the controller has none";
  const cmbloc = region.read32(Reg.cmbloc);
  const bar = CMBLOC_BIR.get(cmbloc);
  const offset = cmbOffsetBytes(cmbloc, cmbsz);
  const address = fn.barAddress(bar);
  const off = (why: CmbAbsence): CmbAbsence => {
    disableCmb(registers);
    return why;
  };
  if (address === null) return off(`CMBLOC names BAR${bar}, which has no address`);
  if (offset >= address.sizeBytes) {
    return off(`CMBLOC offset ${hex(offset)} lies beyond BAR${bar} (${hex(address.sizeBytes)})`);
  }
  const sizeBytes = Math.min(announced, address.sizeBytes - offset);
  const phys = physAddr(address.phys + offset);
  const bus = busAddr(address.bus + offset);
  if (capabilities.hasCmbms) {
    setBase(registers, bus);
    if (CMBSTS_CBAI.get(region.read32(Reg.cmbsts)) === 1) {
      return off(`the controller refuses CBA ${hex(bus)} (CMBSTS.CBAI)`);
    }
  }
  const provider = Provider.fromBar(
    fn,
    bar,
    { offset, sizeBytes },
    { release: () => disableCmb(registers) },
  );
  return {
    bar,
    offset,
    sizeBytes,
    phys,
    bus,
    readable: CMBSZ_RDS.get(cmbsz) === 1,
    writable: CMBSZ_WDS.get(cmbsz) === 1,
    holdsSqs: CMBSZ_SQS.get(cmbsz) === 1,
    provider,
  };
}

/** Enables it again where a reset of the function forgot it. */
export function reenableCmb(registers: ControllerRegisters, cmb: Cmb): void {
  if (registers.capabilities.hasCmbms) setBase(registers, cmb.bus);
}

function setBase(registers: ControllerRegisters, bus: number): void {
  const lo = ((bus >>> 0) | CMBMSC_CRE.bits | CMBMSC_CMSE.bits) >>> 0;
  registers.region.write64(Reg.cmbmscLo, lo, Math.floor(bus / 2 ** 32));
}

/** Addresses no longer mean the CMB. */
export function disableCmb(registers: ControllerRegisters): void {
  if (registers.capabilities.hasCmbms) registers.region.write64(Reg.cmbmscLo, 0, 0);
}

export function inspectCmb(cmb: Cmb | CmbAbsence): Tree {
  if (typeof cmb === "string") return { none: cmb };
  const { provider, ...facts } = cmb;
  return { ...facts, phys: hex(cmb.phys), bus: hex(cmb.bus), provider: provider.inspect() };
}
