/**
 * The controller properties that Fabrics has in place of registers: CAP, VS, CC, CSTS. NVM Express
 * Base Specification 2.0, section 3.1.3; access by Property Get and Set, section 6.
 *
 * A reset (CC.EN cleared) is over when the owner says so, because I/O queues drain first, and so is
 * a shutdown, because caches are flushed first.
 *
 * Leaves out: NSSR (no subsystem reset).
 */

import type { Inspectable, Tree } from "../core/index.ts";
import {
  CAP_CQR,
  CAP_CRMS,
  CAP_CSS,
  CAP_MQES,
  CAP_TO,
  CC_AMS,
  CC_CSS,
  CC_EN,
  CC_IOCQES,
  CC_IOSQES,
  CC_MPS,
  CC_SHN,
  CQE_SHIFT,
  CRTO_CRWMT,
  CSTS_CFS,
  CSTS_RDY,
  CSTS_SHST,
  NvmeStatus,
  Reg,
  Shn,
  Shst,
  SQE_SHIFT,
  STATUS_DNR,
  VERSION_2_0,
} from "../spec/nvme/index.ts";
import { PropertySize } from "../spec/nvmf/index.ts";

/** What a write of CC asks the controller to do. */
export type PropertyEffect = "none" | "enabled" | "disabled" | "shutdown";

/** Answer of Property Get: status, and the value as two halves. */
export interface PropertyValue {
  readonly status: number;
  readonly lo: number;
  readonly hi: number;
}

const INVALID = NvmeStatus.invalidField | STATUS_DNR;

/** CAP.TO, in units of 500 ms. */
const READY_TIMEOUT = 15;

export class Properties implements Inspectable {
  private cc = 0;
  private csts = 0;
  /** CC.EN was cleared, and I/O queues are not gone yet. */
  private isResetting = false;
  private readonly capLo: number;
  private readonly capHi: number;

  /** `queueEntries`: largest I/O queue. */
  constructor(queueEntries: number) {
    const withQueues = CAP_MQES.set(CAP_CQR.set(0, 1), queueEntries - 1);
    this.capLo = CAP_TO.set(withQueues, READY_TIMEOUT);
    // Bit 0 of CSS: the NVM command set. Pages of 4 KiB only: MPSMIN and MPSMAX are 0.
    // Ready means ready with media (CRMS bit 0), as 2.0 asks.
    this.capHi = CAP_CRMS.set(CAP_CSS.set(0, 1), 1);
  }

  get isReady(): boolean {
    return CSTS_RDY.get(this.csts) === 1 && !this.isResetting;
  }

  /** I/O queues are gone: ends a reset, and enables again if the host asked for it meanwhile. */
  resetDone(): PropertyEffect {
    if (!this.isResetting) return "none";
    this.isResetting = false;
    this.csts = 0;
    return CC_EN.get(this.cc) === 1 ? this.enable(this.cc) : "none";
  }

  /** What was cached is on the medium. */
  shutdownDone(): void {
    if (CSTS_SHST.get(this.csts) === Shst.occurring) {
      this.csts = CSTS_SHST.set(this.csts, Shst.complete);
    }
  }

  get isFailed(): boolean {
    return CSTS_CFS.get(this.csts) === 1;
  }

  /** Controller Fatal Status: the host has to reset. */
  fail(): void {
    this.csts = CSTS_CFS.set(CSTS_RDY.set(this.csts, 0), 1);
  }

  get(offset: number, size: number): PropertyValue {
    const ok = (lo: number, hi = 0): PropertyValue => ({ status: NvmeStatus.success, lo, hi });
    if (size === PropertySize.eight) {
      return offset === Reg.capLo ? ok(this.capLo, this.capHi) : { status: INVALID, lo: 0, hi: 0 };
    }
    if (size !== PropertySize.four) return { status: INVALID, lo: 0, hi: 0 };
    switch (offset) {
      case Reg.vs:
        return ok(VERSION_2_0);
      case Reg.cc:
        return ok(this.cc);
      case Reg.csts:
        return ok(this.csts);
      case Reg.crto:
        return ok(CRTO_CRWMT.set(0, READY_TIMEOUT));
      default:
        return { status: INVALID, lo: 0, hi: 0 };
    }
  }

  /** CC alone can be written. */
  set(offset: number, size: number, value: number): { status: number; effect: PropertyEffect } {
    if (offset !== Reg.cc || size !== PropertySize.four) return { status: INVALID, effect: "none" };
    const before = this.cc;
    this.cc = value;
    let effect: PropertyEffect = "none";
    if (CC_EN.get(before) === 0 && CC_EN.get(value) === 1) {
      if (!this.isResetting) effect = this.enable(value);
    } else if (CC_EN.get(before) === 1 && CC_EN.get(value) === 0) {
      this.isResetting = true;
      effect = "disabled";
    }
    const wasShutDown = CC_SHN.get(before) !== Shn.none;
    if (CC_SHN.get(value) !== Shn.none && !wasShutDown) {
      this.csts = CSTS_SHST.set(this.csts, Shst.occurring);
      if (effect === "none") effect = "shutdown";
    } else if (CC_SHN.get(value) === Shn.none && wasShutDown) {
      this.csts = CSTS_SHST.set(this.csts, Shst.normal);
    }
    return { status: NvmeStatus.success, effect };
  }

  private enable(cc: number): PropertyEffect {
    const fits =
      CC_IOSQES.get(cc) === SQE_SHIFT &&
      CC_IOCQES.get(cc) === CQE_SHIFT &&
      CC_MPS.get(cc) === 0 &&
      CC_AMS.get(cc) === 0 &&
      CC_CSS.get(cc) === 0;
    if (!fits) {
      this.csts = CSTS_CFS.set(0, 1);
      return "none";
    }
    this.csts = CSTS_RDY.set(0, 1);
    return "enabled";
  }

  inspect(): Tree {
    return { cc: this.cc, csts: this.csts, ready: this.isReady, failed: this.isFailed };
  }
}
