/**
 * Controller registers (NVM Express Base 2.0, section 3.1.3 "Controller Properties") and doorbells
 * (NVMe over PCIe Transport 1.0, section 3.1.2). 64-bit registers are two of 32 bits: `CAP.lo` at
 * 0h, `CAP.hi` at 4h. On PCIe they are at the start of BAR0; Fabrics reaches some as properties.
 */

import type { RegisterAccess, RegisterDef } from "../../core/index.ts";
import { bit, defineRegisters, type Field, type FieldDef, field } from "../../core/index.ts";

/** Byte offsets. */
export const Reg = {
  capLo: 0x00,
  capHi: 0x04,
  vs: 0x08,
  intms: 0x0c,
  intmc: 0x10,
  cc: 0x14,
  csts: 0x1c,
  nssr: 0x20,
  aqa: 0x24,
  asqLo: 0x28,
  asqHi: 0x2c,
  acqLo: 0x30,
  acqHi: 0x34,
  cmbloc: 0x38,
  cmbsz: 0x3c,
  bpinfo: 0x40,
  bprsel: 0x44,
  bpmblLo: 0x48,
  bpmblHi: 0x4c,
  cmbmscLo: 0x50,
  cmbmscHi: 0x54,
  cmbsts: 0x58,
  cmbebs: 0x5c,
  cmbswtp: 0x60,
  nssd: 0x64,
  crto: 0x68,
  pmrcap: 0xe00,
  pmrctl: 0xe04,
  pmrsts: 0xe08,
  pmrebs: 0xe0c,
  pmrswtp: 0xe10,
  pmrmscl: 0xe14,
  pmrmscu: 0xe18,
  /** First doorbell; everything below belongs to the registers. */
  doorbells: 0x1000,
} as const;

/** CAP, low half. */
export const CAP_MQES = field(0, 16);
export const CAP_CQR = bit(16);
export const CAP_AMS = field(17, 2);
export const CAP_TO = field(24, 8);
/** CAP, high half (bit numbers less 32). */
export const CAP_DSTRD = field(0, 4);
export const CAP_NSSRS = bit(4);
export const CAP_CSS = field(5, 8);
export const CAP_BPS = bit(13);
export const CAP_CPS = field(14, 2);
export const CAP_MPSMIN = field(16, 4);
export const CAP_MPSMAX = field(20, 4);
export const CAP_PMRS = bit(24);
export const CAP_CMBS = bit(25);
export const CAP_NSSS = bit(26);
export const CAP_CRMS = field(27, 2);

export const VS_TER = field(0, 8);
export const VS_MNR = field(8, 8);
export const VS_MJR = field(16, 16);
/** VS of NVM Express 1.3.0, 1.4.0 and 2.0.0. */
export const VERSION_1_3 = 0x0001_0300;
export const VERSION_1_4 = 0x0001_0400;
export const VERSION_2_0 = 0x0002_0000;

export const CC_EN = bit(0);
export const CC_CSS = field(4, 3);
export const CC_MPS = field(7, 4);
export const CC_AMS = field(11, 3);
export const CC_SHN = field(14, 2);
export const CC_IOSQES = field(16, 4);
export const CC_IOCQES = field(20, 4);
export const CC_CRIME = bit(24);

export const CSTS_RDY = bit(0);
export const CSTS_CFS = bit(1);
export const CSTS_SHST = field(2, 2);
export const CSTS_NSSRO = bit(4);
export const CSTS_PP = bit(5);
export const CSTS_ST = bit(6);

/** CC.SHN and CSTS.SHST values. */
export const Shn = { none: 0, normal: 1, abrupt: 2 } as const;
export const Shst = { normal: 0, occurring: 1, complete: 2 } as const;
/** CC.CSS and the bits of CAP.CSS. */
export const Css = { nvm: 0, allSupported: 6, adminOnly: 7 } as const;

/** Written to NSSR: "NVMe". */
export const NSSR_RESET = 0x4e56_4d65;

/** Both sizes are 0's based. */
export const AQA_ASQS = field(0, 12);
export const AQA_ACQS = field(16, 12);

export const CMBLOC_BIR = field(0, 3);
export const CMBLOC_CQMMS = bit(3);
export const CMBLOC_CQPDS = bit(4);
export const CMBLOC_CDPMLS = bit(5);
export const CMBLOC_CDPCILS = bit(6);
export const CMBLOC_CDMMMS = bit(7);
export const CMBLOC_CQDA = bit(8);
export const CMBLOC_OFST = field(12, 20);
export const CMBSZ_SQS = bit(0);
export const CMBSZ_CQS = bit(1);
export const CMBSZ_LISTS = bit(2);
export const CMBSZ_RDS = bit(3);
export const CMBSZ_WDS = bit(4);
export const CMBSZ_SZU = field(8, 4);
export const CMBSZ_SZ = field(12, 20);
/** CMBMSC, low half; the high half is CBA bits 63:32. */
export const CMBMSC_CRE = bit(0);
export const CMBMSC_CMSE = bit(1);
export const CMBMSC_CBA_LO = field(12, 20);
export const CMBSTS_CBAI = bit(0);

export const PMRCAP_RDS = bit(3);
export const PMRCAP_WDS = bit(4);
export const PMRCAP_BIR = field(5, 3);
export const PMRCAP_PMRTU = field(8, 2);
export const PMRCAP_PMRWBM = field(10, 4);
export const PMRCAP_PMRTO = field(16, 8);
export const PMRCAP_CMSS = bit(24);
export const PMRCTL_EN = bit(0);
export const PMRSTS_ERR = field(0, 8);
export const PMRSTS_NRDY = bit(8);
export const PMRSTS_HSTS = field(9, 3);
export const PMRSTS_CBAI = bit(12);
export const PMRMSCL_CMSE = bit(1);
export const PMRMSCL_CBA = field(12, 20);

/** CRTO: 500 ms units. */
export const CRTO_CRWMT = field(0, 16);
export const CRTO_CRIMT = field(16, 16);

/** Bytes of one CMBLOC.OFST or CMBSZ.SZ unit, and elasticity buffer units: 4 KiB x 16^SZU. */
export const sizeUnitBytes = (szu: number): number => 2 ** (12 + 4 * szu);

/** Size in bytes of the CMB that a CMBSZ announces; 0 when there is none. */
export function cmbSizeBytes(cmbsz: number): number {
  return CMBSZ_SZ.get(cmbsz) * sizeUnitBytes(CMBSZ_SZU.get(cmbsz));
}

/** Offset in bytes in its BAR; the unit is that of CMBSZ. */
export function cmbOffsetBytes(cmbloc: number, cmbsz: number): number {
  return CMBLOC_OFST.get(cmbloc) * sizeUnitBytes(CMBSZ_SZU.get(cmbsz));
}

/** Submission Queue `qid` Tail Doorbell (PCIe Transport 1.0, section 3.1.2.1). */
export const sqTailDoorbell = (qid: number, dstrd: number): number =>
  Reg.doorbells + 2 * qid * (4 << dstrd);

/** Completion Queue `qid` Head Doorbell (PCIe Transport 1.0, section 3.1.2.2). */
export const cqHeadDoorbell = (qid: number, dstrd: number): number =>
  Reg.doorbells + (2 * qid + 1) * (4 << dstrd);

/** Bytes of BAR0 that doorbells of queues 0 to `qidMax` reach. */
export const doorbellsEnd = (qidMax: number, dstrd: number): number =>
  cqHeadDoorbell(qidMax, dstrd) + 4;

const f = (
  name: string,
  which: Field,
  text: string,
  values?: Readonly<Record<number, string>>,
): FieldDef =>
  values === undefined ? { name, field: which, text } : { name, field: which, text, values };

const reg = (
  name: string,
  offset: number,
  access: RegisterAccess,
  text: string,
  fields: readonly FieldDef[] = [],
): RegisterDef => ({ name, offset, bits: 32, access, text, fields });

const whole = (name: string, text: string): FieldDef => f(name, field(0, 32), text);

const SIZE_UNITS = {
  0: "4 KiB",
  1: "64 KiB",
  2: "1 MiB",
  3: "16 MiB",
  4: "256 MiB",
  5: "4 GiB",
  6: "64 GiB",
} as const;

/** Every register below the doorbells. */
export const NVME_REGISTERS = defineRegisters({
  name: "NVMe controller properties",
  source: "NVM Express Base 2.0, section 3.1.3",
  registers: [
    reg("CAP.lo", Reg.capLo, "RO", "Controller Capabilities", [
      f("MQES", CAP_MQES, "largest I/O queue, 0's based"),
      f("CQR", CAP_CQR, "queues must be physically contiguous"),
      f("AMS", CAP_AMS, "arbitration mechanisms besides round robin"),
      f("TO", CAP_TO, "worst time to CSTS.RDY, 500 ms units"),
    ]),
    reg("CAP.hi", Reg.capHi, "RO", "Controller Capabilities", [
      f("DSTRD", CAP_DSTRD, "doorbell stride: 4 << DSTRD bytes"),
      f("NSSRS", CAP_NSSRS, "NVM Subsystem Reset supported"),
      f("CSS", CAP_CSS, "command sets supported"),
      f("BPS", CAP_BPS, "boot partitions"),
      f("CPS", CAP_CPS, "controller power scope"),
      f("MPSMIN", CAP_MPSMIN, "smallest host page: 4 KiB << MPSMIN"),
      f("MPSMAX", CAP_MPSMAX, "largest host page: 4 KiB << MPSMAX"),
      f("PMRS", CAP_PMRS, "Persistent Memory Region supported"),
      f("CMBS", CAP_CMBS, "Controller Memory Buffer supported, enabled by CMBMSC"),
      f("NSSS", CAP_NSSS, "NVM Subsystem Shutdown supported"),
      f("CRMS", CAP_CRMS, "controller ready modes"),
    ]),
    reg("VS", Reg.vs, "RO", "Version", [
      f("TER", VS_TER, "tertiary"),
      f("MNR", VS_MNR, "minor"),
      f("MJR", VS_MJR, "major"),
    ]),
    reg("INTMS", Reg.intms, "RW1S", "Interrupt Mask Set", [whole("IVMS", "vectors masked")]),
    reg("INTMC", Reg.intmc, "RW1C", "Interrupt Mask Clear", [whole("IVMC", "vectors masked")]),
    reg("CC", Reg.cc, "RW", "Controller Configuration", [
      f("EN", CC_EN, "enable"),
      f("CSS", CC_CSS, "command set selected", { 0: "NVM", 6: "all supported", 7: "admin only" }),
      f("MPS", CC_MPS, "host page: 4 KiB << MPS"),
      f("AMS", CC_AMS, "arbitration", { 0: "round robin", 1: "weighted round robin" }),
      f("SHN", CC_SHN, "shutdown notification", { 0: "none", 1: "normal", 2: "abrupt" }),
      f("IOSQES", CC_IOSQES, "I/O submission entry: 2^n bytes"),
      f("IOCQES", CC_IOCQES, "I/O completion entry: 2^n bytes"),
      f("CRIME", CC_CRIME, "ready independent of media"),
    ]),
    reg("CSTS", Reg.csts, "mixed", "Controller Status", [
      f("RDY", CSTS_RDY, "ready"),
      f("CFS", CSTS_CFS, "fatal status"),
      f("SHST", CSTS_SHST, "shutdown", { 0: "normal", 1: "occurring", 2: "complete" }),
      f("NSSRO", CSTS_NSSRO, "NVM Subsystem Reset occurred (write 1 to clear)"),
      f("PP", CSTS_PP, "processing paused"),
      f("ST", CSTS_ST, "shutdown is of the whole subsystem"),
    ]),
    reg("NSSR", Reg.nssr, "RW", "NVM Subsystem Reset", [whole("NSSRC", "4E564D65h resets")]),
    reg("AQA", Reg.aqa, "RW", "Admin Queue Attributes", [
      f("ASQS", AQA_ASQS, "submission queue entries, 0's based"),
      f("ACQS", AQA_ACQS, "completion queue entries, 0's based"),
    ]),
    reg("ASQ.lo", Reg.asqLo, "RW", "Admin Submission Queue Base Address", [
      f("ASQB", field(12, 20), "address bits 31:12"),
    ]),
    reg("ASQ.hi", Reg.asqHi, "RW", "Admin Submission Queue Base Address", [
      whole("ASQB", "address bits 63:32"),
    ]),
    reg("ACQ.lo", Reg.acqLo, "RW", "Admin Completion Queue Base Address", [
      f("ACQB", field(12, 20), "address bits 31:12"),
    ]),
    reg("ACQ.hi", Reg.acqHi, "RW", "Admin Completion Queue Base Address", [
      whole("ACQB", "address bits 63:32"),
    ]),
    reg("CMBLOC", Reg.cmbloc, "RO", "Controller Memory Buffer Location", [
      f("BIR", CMBLOC_BIR, "BAR that contains it"),
      f("CQMMS", CMBLOC_CQMMS, "queues may lie in several pieces of CMB"),
      f("CQPDS", CMBLOC_CQPDS, "PRP and SGL lists in CMB may describe data elsewhere"),
      f("CDPMLS", CMBLOC_CDPMLS, "lists may mix CMB and other memory"),
      f("CDPCILS", CMBLOC_CDPCILS, "lists elsewhere may describe CMB"),
      f("CDMMMS", CMBLOC_CDMMMS, "data and metadata may mix CMB and other memory"),
      f("CQDA", CMBLOC_CQDA, "CMB queues need dword alignment only"),
      f("OFST", CMBLOC_OFST, "offset in the BAR, in CMBSZ units"),
    ]),
    reg("CMBSZ", Reg.cmbsz, "RO", "Controller Memory Buffer Size", [
      f("SQS", CMBSZ_SQS, "submission queues"),
      f("CQS", CMBSZ_CQS, "completion queues"),
      f("LISTS", CMBSZ_LISTS, "PRP and SGL lists"),
      f("RDS", CMBSZ_RDS, "data that the controller writes (read commands)"),
      f("WDS", CMBSZ_WDS, "data that the controller reads (write commands)"),
      f("SZU", CMBSZ_SZU, "size unit", SIZE_UNITS),
      f("SZ", CMBSZ_SZ, "size in units"),
    ]),
    reg("BPINFO", Reg.bpinfo, "RO", "Boot Partition Information", [
      f("BPSZ", field(0, 15), "size, 128 KiB units"),
      f("BRS", field(24, 2), "read status"),
      f("ABPID", bit(31), "active partition"),
    ]),
    reg("BPRSEL", Reg.bprsel, "RW", "Boot Partition Read Select", [
      f("BPRSZ", field(0, 10), "read size, 4 KiB units"),
      f("BPROF", field(10, 20), "read offset, 4 KiB units"),
      f("BPID", bit(31), "partition"),
    ]),
    reg("BPMBL.lo", Reg.bpmblLo, "RW", "Boot Partition Memory Buffer Location", [
      f("BMBBA", field(12, 20), "address bits 31:12"),
    ]),
    reg("BPMBL.hi", Reg.bpmblHi, "RW", "Boot Partition Memory Buffer Location", [
      whole("BMBBA", "address bits 63:32"),
    ]),
    reg("CMBMSC.lo", Reg.cmbmscLo, "RW", "Controller Memory Buffer Memory Space Control", [
      f("CRE", CMBMSC_CRE, "CMBLOC and CMBSZ are visible"),
      f("CMSE", CMBMSC_CMSE, "addresses from CBA on mean the CMB"),
      f("CBA", CMBMSC_CBA_LO, "controller base address bits 31:12"),
    ]),
    reg("CMBMSC.hi", Reg.cmbmscHi, "RW", "Controller Memory Buffer Memory Space Control", [
      whole("CBA", "controller base address bits 63:32"),
    ]),
    reg("CMBSTS", Reg.cmbsts, "RO", "Controller Memory Buffer Status", [
      f("CBAI", CMBSTS_CBAI, "controller base address invalid"),
    ]),
    reg("CMBEBS", Reg.cmbebs, "RO", "Controller Memory Buffer Elasticity Buffer Size", [
      f("CMBSZU", field(0, 4), "unit", SIZE_UNITS),
      f("CMBRBB", bit(4), "reads do not pass it"),
      f("CMBWBZ", field(8, 24), "size in units"),
    ]),
    reg("CMBSWTP", Reg.cmbswtp, "RO", "Controller Memory Buffer Sustained Write Throughput", [
      f("CMBSWTU", field(0, 4), "unit"),
      f("CMBSWTV", field(8, 24), "throughput in units"),
    ]),
    reg("NSSD", Reg.nssd, "RW", "NVM Subsystem Shutdown", [whole("NSSC", "shutdown control")]),
    reg("CRTO", Reg.crto, "RO", "Controller Ready Timeouts", [
      f("CRWMT", CRTO_CRWMT, "ready with media, 500 ms units"),
      f("CRIMT", CRTO_CRIMT, "ready independent of media, 500 ms units"),
    ]),
    reg("PMRCAP", Reg.pmrcap, "RO", "Persistent Memory Region Capabilities", [
      f("RDS", PMRCAP_RDS, "data that the controller writes"),
      f("WDS", PMRCAP_WDS, "data that the controller reads"),
      f("BIR", PMRCAP_BIR, "BAR that contains it"),
      f("PMRTU", PMRCAP_PMRTU, "unit of PMRTO", { 0: "500 ms", 1: "minutes" }),
      f("PMRWBM", PMRCAP_PMRWBM, "ways to make writes persistent"),
      f("PMRTO", PMRCAP_PMRTO, "worst time to PMRSTS.NRDY"),
      f("CMSS", PMRCAP_CMSS, "controller memory space supported"),
    ]),
    reg("PMRCTL", Reg.pmrctl, "RW", "Persistent Memory Region Control", [
      f("EN", PMRCTL_EN, "enable"),
    ]),
    reg("PMRSTS", Reg.pmrsts, "RO", "Persistent Memory Region Status", [
      f("ERR", PMRSTS_ERR, "error since the last read of PMR"),
      f("NRDY", PMRSTS_NRDY, "not ready"),
      f("HSTS", PMRSTS_HSTS, "health", { 0: "normal", 1: "restore error", 2: "read only" }),
      f("CBAI", PMRSTS_CBAI, "controller base address invalid"),
    ]),
    reg("PMREBS", Reg.pmrebs, "RO", "Persistent Memory Region Elasticity Buffer Size", [
      f("PMRSZU", field(0, 4), "unit"),
      f("PMRRBB", bit(4), "reads do not pass it"),
      f("PMRWBZ", field(8, 24), "size in units"),
    ]),
    reg("PMRSWTP", Reg.pmrswtp, "RO", "Persistent Memory Region Sustained Write Throughput", [
      f("PMRSWTU", field(0, 4), "unit"),
      f("PMRSWTV", field(8, 24), "throughput in units"),
    ]),
    reg("PMRMSCL", Reg.pmrmscl, "RW", "Persistent Memory Region Memory Space Control Lower", [
      f("CMSE", PMRMSCL_CMSE, "addresses from CBA on mean the PMR"),
      f("CBA", PMRMSCL_CBA, "controller base address bits 31:12"),
    ]),
    reg("PMRMSCU", Reg.pmrmscu, "RW", "Persistent Memory Region Memory Space Control Upper", [
      whole("CBA", "controller base address bits 63:32"),
    ]),
  ],
});
