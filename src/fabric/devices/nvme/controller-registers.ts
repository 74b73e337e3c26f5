/**
 * The controller's register file (NVM Express Base 2.0, section 3.1.3): what the host reads and
 * writes at the start of the BAR, and the transitions of CC and CSTS. Doorbells are passed on.
 *
 * Reset: a Controller Reset (CC.EN 1 to 0) keeps AQA, ASQ, ACQ, CMBMSC and the PMR's registers; a
 * function level reset resets them all (Base 2.0, section 3.7.2).
 *
 * Left out: boot partitions, NVM Subsystem Shutdown, pin and MSI masking (INTMS and INTMC read
 * zero: with MSI-X they are undefined), CC.CRIME.
 */

import { ADDRESS_LIMIT, decodeRegister, joinHalves, type Tree } from "../../../core/index.ts";
import {
  AQA_ACQS,
  AQA_ASQS,
  CAP_CMBS,
  CAP_CQR,
  CAP_CRMS,
  CAP_CSS,
  CAP_DSTRD,
  CAP_MPSMAX,
  CAP_MPSMIN,
  CAP_MQES,
  CAP_NSSRS,
  CAP_PMRS,
  CAP_TO,
  CC_AMS,
  CC_CSS,
  CC_EN,
  CC_IOCQES,
  CC_IOSQES,
  CC_MPS,
  CC_SHN,
  CMBLOC_BIR,
  CMBLOC_CDMMMS,
  CMBLOC_CDPCILS,
  CMBLOC_CDPMLS,
  CMBLOC_CQDA,
  CMBLOC_CQMMS,
  CMBLOC_CQPDS,
  CMBLOC_OFST,
  CMBMSC_CMSE,
  CMBMSC_CRE,
  CMBSTS_CBAI,
  CMBSZ_CQS,
  CMBSZ_LISTS,
  CMBSZ_RDS,
  CMBSZ_SQS,
  CMBSZ_SZ,
  CMBSZ_SZU,
  CMBSZ_WDS,
  CQE_SHIFT,
  CRTO_CRWMT,
  CSTS_CFS,
  CSTS_NSSRO,
  CSTS_RDY,
  CSTS_SHST,
  Css,
  NSSR_RESET,
  NVME_REGISTERS,
  PMRCAP_BIR,
  PMRCAP_CMSS,
  PMRCAP_PMRTO,
  PMRCAP_PMRWBM,
  PMRCAP_RDS,
  PMRCAP_WDS,
  PMRCTL_EN,
  PMRMSCL_CMSE,
  PMRSTS_CBAI,
  PMRSTS_NRDY,
  Reg,
  Shn,
  Shst,
  SQE_SHIFT,
  sizeUnitBytes,
  VERSION_1_3,
  VERSION_2_0,
} from "../../../spec/nvme/index.ts";
import type { RegisterHandler } from "../../device.ts";
import type { ControllerMemory } from "./controller-memory.hot.ts";
import type { Engine } from "./engine.hot.ts";
import type { NvmeConfig } from "./options.ts";

/** CAP.TO and CRTO: 500 ms units. */
const READY_TIMEOUT = 20;
/** Host pages up to 4 KiB << 4. */
const MPSMAX = 4;
const CSS_SUPPORTED = (1 << Css.nvm) | (1 << Css.allSupported) | (1 << Css.adminOnly);
const CMSC_ADDRESS_MASK = 0xffff_f000;

/** What the registers ask of the controller. */
export interface RegistersClient {
  /** CC.EN 0 to 1 with settings that make sense. Sets ready, now or later. */
  enable(): void;
  /** CC.EN 1 to 0: queues and commands are gone. */
  disable(): void;
  /** CC.SHN, normal or abrupt: everything written becomes durable. */
  shutdown(): void;
}

export class ControllerRegisters implements RegisterHandler {
  aqa = 0;
  asq = 0;
  acq = 0;
  cc = 0;
  csts = 0;
  private readonly config: NvmeConfig;
  private readonly memory: ControllerMemory;
  private readonly engine: Engine;
  private readonly client: RegistersClient;
  private readonly capLo: number;
  private readonly capHi: number;
  private readonly cmbloc: number;
  private readonly cmbsz: number;
  private readonly pmrcap: number;
  private asqHi = 0;
  private asqLo = 0;
  private acqHi = 0;
  private acqLo = 0;
  private cmbmscLo = 0;
  private cmbmscHi = 0;
  private cmbsts = 0;
  private pmrctl = 0;
  private pmrmscl = 0;
  private pmrmscu = 0;
  private pmrCbai = 0;

  constructor(
    config: NvmeConfig,
    memory: ControllerMemory,
    engine: Engine,
    client: RegistersClient,
  ) {
    this.config = config;
    this.memory = memory;
    this.engine = engine;
    this.client = client;
    this.capLo = CAP_TO.set(CAP_CQR.set(CAP_MQES.set(0, config.maxEntries - 1), 1), READY_TIMEOUT);
    this.capHi = this.makeCapHi();
    const cmb = config.cmb;
    this.cmbsz = cmb === null ? 0 : makeCmbsz(cmb);
    this.cmbloc = cmb === null ? 0 : makeCmbloc(cmb);
    this.pmrcap = config.pmr === null ? 0 : makePmrcap(config.pmr);
  }

  /** CMBLOC and CMBSZ show without CMBMSC (NVM Express 1.2 and 1.3). */
  private get legacyCmb(): boolean {
    return this.config.cmb?.legacy ?? false;
  }

  get enabled(): boolean {
    return CC_EN.get(this.cc) === 1;
  }

  get pageBytes(): number {
    return 4096 << CC_MPS.get(this.cc);
  }

  setReady(): void {
    this.csts = CSTS_RDY.set(this.csts, 1);
  }

  setFatal(): void {
    this.csts = CSTS_CFS.set(this.csts, 1);
  }

  setShutdownComplete(): void {
    this.csts = CSTS_SHST.set(this.csts, Shst.complete);
  }

  /** Function level reset or power-on. */
  reset(): void {
    this.cc = 0;
    this.csts = 0;
    this.aqa = 0;
    this.asqLo = 0;
    this.asqHi = 0;
    this.acqLo = 0;
    this.acqHi = 0;
    this.pmrctl = 0;
    this.pmrmscl = 0;
    this.pmrmscu = 0;
    this.placePmr();
    this.cmbmscLo = 0;
    this.cmbmscHi = 0;
    this.placeCmb();
  }

  /** Legacy CMBs are known by the addresses of their BAR; -1 while it does not decode. */
  barMoved(bar: number, address: number): void {
    const cmb = this.config.cmb;
    if (cmb === null || !cmb.legacy || cmb.bar !== bar) return;
    if (address < 0) this.memory.cmb.disable();
    else this.memory.cmb.enable(address + cmb.offset);
  }

  read32(offset: number): number {
    switch (offset) {
      case Reg.capLo:
        return this.capLo;
      case Reg.capHi:
        return this.capHi;
      case Reg.vs:
        return this.legacyCmb ? VERSION_1_3 : VERSION_2_0;
      case Reg.cc:
        return this.cc;
      case Reg.csts:
        return this.csts;
      case Reg.aqa:
        return this.aqa;
      case Reg.asqLo:
        return this.asqLo;
      case Reg.asqHi:
        return this.asqHi;
      case Reg.acqLo:
        return this.acqLo;
      case Reg.acqHi:
        return this.acqHi;
      case Reg.cmbloc:
        return this.cmbVisible ? this.cmbloc : 0;
      case Reg.cmbsz:
        return this.cmbVisible ? this.cmbsz : 0;
      case Reg.cmbmscLo:
        return this.cmbmscLo;
      case Reg.cmbmscHi:
        return this.cmbmscHi;
      case Reg.cmbsts:
        return this.cmbsts;
      case Reg.crto:
        return CRTO_CRWMT.set(0, READY_TIMEOUT);
      default:
        return this.readPmr(offset);
    }
  }

  write32(offset: number, value: number): void {
    if (offset >= Reg.doorbells) {
      this.engine.doorbell(offset - Reg.doorbells, value);
      return;
    }
    switch (offset) {
      case Reg.cc:
        this.writeCc(value);
        return;
      case Reg.csts:
        // The only bit that a write changes: 1 clears it.
        if (CSTS_NSSRO.get(value) === 1) this.csts = CSTS_NSSRO.set(this.csts, 0);
        return;
      case Reg.nssr:
        if (value === NSSR_RESET) this.subsystemReset();
        return;
      case Reg.aqa:
        this.aqa = AQA_ACQS.set(AQA_ASQS.get(value), AQA_ACQS.get(value));
        return;
      case Reg.asqLo:
        this.asqLo = (value & CMSC_ADDRESS_MASK) >>> 0;
        return;
      case Reg.asqHi:
        this.asqHi = value >>> 0;
        return;
      case Reg.acqLo:
        this.acqLo = (value & CMSC_ADDRESS_MASK) >>> 0;
        return;
      case Reg.acqHi:
        this.acqHi = value >>> 0;
        return;
      case Reg.cmbmscLo:
      case Reg.cmbmscHi:
        this.writeCmbmsc(offset, value);
        return;
      default:
        this.writePmr(offset, value);
    }
  }

  inspect(): Tree {
    const tree: Record<string, Tree | number> = {};
    for (const register of NVME_REGISTERS.registers) {
      const word = this.read32(register.offset);
      if (word === 0) continue;
      const fields = decodeRegister(register, word);
      tree[register.name] = Object.fromEntries(fields.map(({ name, value }) => [name, value]));
    }
    return tree;
  }

  private writeCc(value: number): void {
    const old = this.cc;
    const enables = CC_EN.get(old) === 0 && CC_EN.get(value) === 1;
    const disables = CC_EN.get(old) === 1 && CC_EN.get(value) === 0;
    this.cc = value >>> 0;
    if (enables) this.tryEnable();
    if (disables) {
      this.client.disable();
      this.csts = CSTS_NSSRO.set(0, CSTS_NSSRO.get(this.csts));
      return;
    }
    const shn = CC_SHN.get(value);
    if (shn !== Shn.none && CC_SHN.get(old) === Shn.none) {
      this.csts = CSTS_SHST.set(this.csts, Shst.occurring);
      this.client.shutdown();
    }
  }

  /** Settings that the controller cannot work with are fatal (section 3.5.1). */
  private tryEnable(): void {
    const { cc, aqa } = this;
    this.asq = joinHalves(this.asqLo, this.asqHi);
    this.acq = joinHalves(this.acqLo, this.acqHi);
    const pageMask = this.pageBytes - 1;
    const css = CC_CSS.get(cc);
    const sqes = CC_IOSQES.get(cc);
    const cqes = CC_IOCQES.get(cc);
    const possible =
      CC_MPS.get(cc) <= MPSMAX &&
      CC_AMS.get(cc) === 0 &&
      ((CSS_SUPPORTED >> css) & 1) === 1 &&
      (sqes === 0 || sqes === SQE_SHIFT) &&
      (cqes === 0 || cqes === CQE_SHIFT) &&
      AQA_ASQS.get(aqa) > 0 &&
      AQA_ACQS.get(aqa) > 0 &&
      (this.asq & pageMask) === 0 &&
      (this.acq & pageMask) === 0 &&
      this.asq < ADDRESS_LIMIT &&
      this.acq < ADDRESS_LIMIT;
    if (possible) this.client.enable();
    else this.setFatal();
  }

  private subsystemReset(): void {
    this.client.disable();
    this.cc = 0;
    this.csts = CSTS_NSSRO.set(0, 1);
    this.pmrctl = 0;
    this.placePmr();
  }

  private get cmbVisible(): boolean {
    return this.legacyCmb || CMBMSC_CRE.get(this.cmbmscLo) === 1;
  }

  private writeCmbmsc(offset: number, value: number): void {
    if (this.config.cmb === null || this.legacyCmb) return;
    if (offset === Reg.cmbmscHi) this.cmbmscHi = value >>> 0;
    else this.cmbmscLo = (value & (CMSC_ADDRESS_MASK | 3)) >>> 0;
    this.placeCmb();
  }

  /** Puts the CMB where CBA says. An address range that does not exist is reported by CBAI. */
  private placeCmb(): void {
    if (this.config.cmb === null || this.legacyCmb) return;
    this.cmbsts = 0;
    this.memory.cmb.disable();
    const asked = CMBMSC_CMSE.get(this.cmbmscLo) === 1 && this.cmbVisible;
    if (!asked) return;
    const base = joinHalves(this.cmbmscLo & CMSC_ADDRESS_MASK, this.cmbmscHi);
    if (base + this.memory.cmb.sizeBytes > ADDRESS_LIMIT) this.cmbsts = CMBSTS_CBAI.set(0, 1);
    else this.memory.cmb.enable(base);
  }

  private readPmr(offset: number): number {
    if (this.config.pmr === null) return 0;
    switch (offset) {
      case Reg.pmrcap:
        return this.pmrcap;
      case Reg.pmrctl:
        return this.pmrctl;
      case Reg.pmrsts:
        return PMRSTS_CBAI.set(PMRSTS_NRDY.set(0, 1 - PMRCTL_EN.get(this.pmrctl)), this.pmrCbai);
      case Reg.pmrmscl:
        return this.pmrmscl;
      case Reg.pmrmscu:
        return this.pmrmscu;
      default:
        return 0;
    }
  }

  private writePmr(offset: number, value: number): void {
    if (this.config.pmr === null) return;
    if (offset === Reg.pmrctl) this.pmrctl = PMRCTL_EN.get(value);
    else if (offset === Reg.pmrmscl) this.pmrmscl = (value & (CMSC_ADDRESS_MASK | 2)) >>> 0;
    else if (offset === Reg.pmrmscu) this.pmrmscu = value >>> 0;
    else return;
    this.placePmr();
  }

  private placePmr(): void {
    if (this.config.pmr === null) return;
    this.pmrCbai = 0;
    this.memory.pmr.disable();
    if (PMRMSCL_CMSE.get(this.pmrmscl) === 0 || PMRCTL_EN.get(this.pmrctl) === 0) return;
    const base = joinHalves(this.pmrmscl & CMSC_ADDRESS_MASK, this.pmrmscu);
    if (base + this.memory.pmr.sizeBytes > ADDRESS_LIMIT) this.pmrCbai = 1;
    else this.memory.pmr.enable(base);
  }

  private makeCapHi(): number {
    const { config } = this;
    let word = CAP_DSTRD.set(0, config.dstrd);
    word = CAP_NSSRS.set(word, 1);
    word = CAP_CSS.set(word, CSS_SUPPORTED);
    word = CAP_MPSMIN.set(word, 0);
    word = CAP_MPSMAX.set(word, MPSMAX);
    word = CAP_PMRS.set(word, config.pmr === null ? 0 : 1);
    word = CAP_CMBS.set(word, config.cmb === null || config.cmb.legacy ? 0 : 1);
    return CAP_CRMS.set(word, 1);
  }
}

type CmbConfig = NonNullable<NvmeConfig["cmb"]>;

/** The smallest unit in which both offset and size are whole numbers that fit 20 bits. */
function cmbUnit(cmb: CmbConfig): number {
  for (let szu = 0; szu <= 6; szu++) {
    const unit = sizeUnitBytes(szu);
    const fits = cmb.sizeBytes / unit < 2 ** 20 && cmb.offset / unit < 2 ** 20;
    if (fits) return szu;
  }
  return 6;
}

function makeCmbsz(cmb: CmbConfig): number {
  const szu = cmbUnit(cmb);
  let word = CMBSZ_SZ.set(CMBSZ_SZU.set(0, szu), cmb.sizeBytes / sizeUnitBytes(szu));
  word = CMBSZ_SQS.set(word, cmb.submissionQueues ? 1 : 0);
  word = CMBSZ_CQS.set(word, cmb.completionQueues ? 1 : 0);
  word = CMBSZ_LISTS.set(word, cmb.lists ? 1 : 0);
  word = CMBSZ_RDS.set(word, cmb.readData ? 1 : 0);
  return CMBSZ_WDS.set(word, cmb.writeData ? 1 : 0);
}

function makeCmbloc(cmb: CmbConfig): number {
  const unit = sizeUnitBytes(cmbUnit(cmb));
  let word = CMBLOC_OFST.set(CMBLOC_BIR.set(0, cmb.bar), cmb.offset / unit);
  if (cmb.legacy) return word;
  // Nothing about mixing CMB and other memory is restricted.
  for (const allowed of [
    CMBLOC_CQMMS,
    CMBLOC_CQPDS,
    CMBLOC_CDPMLS,
    CMBLOC_CDPCILS,
    CMBLOC_CDMMMS,
    CMBLOC_CQDA,
  ]) {
    word = allowed.set(word, 1);
  }
  return word;
}

function makePmrcap(pmr: NonNullable<NvmeConfig["pmr"]>): number {
  let word = PMRCAP_BIR.set(0, pmr.bar);
  word = PMRCAP_RDS.set(word, pmr.readData ? 1 : 0);
  word = PMRCAP_WDS.set(word, pmr.writeData ? 1 : 0);
  // A read of PMR or of PMRSTS makes earlier writes persistent.
  word = PMRCAP_PMRWBM.set(word, 3);
  word = PMRCAP_PMRTO.set(word, 1);
  return PMRCAP_CMSS.set(word, 1);
}
