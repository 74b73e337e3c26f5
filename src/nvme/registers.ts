/**
 * The controller's registers as the driver uses them: capabilities decoded once, enable and disable
 * as steps with the controller's own timeouts, and "is it still there".
 *
 * A register that reads as all ones means that the function does not answer: removed, link down, or
 * Memory Space Enable clear.
 */

import type { DriverClock, MappedRegion } from "../backing/interface.ts";
import { hex, PeerlaneError, type Tree } from "../core/index.ts";
import {
  CAP_CMBS,
  CAP_CSS,
  CAP_DSTRD,
  CAP_MPSMAX,
  CAP_MPSMIN,
  CAP_MQES,
  CAP_TO,
  CC_EN,
  CC_IOCQES,
  CC_IOSQES,
  CC_MPS,
  CC_SHN,
  CQE_SHIFT,
  CSTS_CFS,
  CSTS_RDY,
  CSTS_SHST,
  Reg,
  Shn,
  Shst,
  SQE_SHIFT,
} from "../spec/nvme/index.ts";
import { type Steps, waitUntil } from "./steps.ts";

const ALL_ONES = 0xffffffff;
/** Unit of CAP.TO. */
const TIMEOUT_UNIT_NS = 500e6;
/** For a shutdown when the controller does not say how long it takes (RTD3E is 0). Linux: 5 s. */
const SHUTDOWN_NS = 5e9;

/** CAP, decoded. */
export interface Capabilities {
  /** Largest I/O queue in entries. */
  readonly entriesMax: number;
  /** Worst time until CSTS.RDY follows CC.EN. */
  readonly readyNs: number;
  readonly dstrd: number;
  readonly pageMinBytes: number;
  readonly pageMaxBytes: number;
  readonly hasNvmCommandSet: boolean;
  /** The CMB must be enabled through CMBMSC. */
  readonly hasCmbms: boolean;
}

export class ControllerRegisters {
  readonly region: MappedRegion;
  readonly capabilities: Capabilities;
  private readonly clock: DriverClock;
  private readonly place: string;

  /** Reads CAP. Throws `nvme-gone` when nothing answers. */
  constructor(region: MappedRegion, clock: DriverClock, place: string) {
    this.region = region;
    this.clock = clock;
    this.place = place;
    const lo = region.read32(Reg.capLo);
    const hi = region.read32(Reg.capHi);
    if (lo === ALL_ONES && hi === ALL_ONES) throw this.gone("CAP");
    this.capabilities = {
      entriesMax: CAP_MQES.get(lo) + 1,
      readyNs: Math.max(1, CAP_TO.get(lo)) * TIMEOUT_UNIT_NS,
      dstrd: CAP_DSTRD.get(hi),
      pageMinBytes: 4096 * 2 ** CAP_MPSMIN.get(hi),
      pageMaxBytes: 4096 * 2 ** CAP_MPSMAX.get(hi),
      hasNvmCommandSet: (CAP_CSS.get(hi) & 1) !== 0,
      hasCmbms: CAP_CMBS.get(hi) === 1,
    };
  }

  get csts(): number {
    return this.region.read32(Reg.csts);
  }

  /** The function does not answer any more. */
  get isGone(): boolean {
    return this.csts === ALL_ONES;
  }

  /** The controller says that it cannot go on (CSTS.CFS). */
  get hasFailed(): boolean {
    return CSTS_CFS.get(this.csts) === 1;
  }

  /** Clears CC.EN and waits for CSTS.RDY to clear. Throws `nvme-timeout` or `nvme-gone`. */
  *disable(): Steps<void> {
    const cc = this.region.read32(Reg.cc);
    if (cc === ALL_ONES) throw this.gone("CC");
    if (CC_EN.get(cc) === 1) {
      // EN may only be cleared once an enable that is under way has ended (Base 2.0, 3.1.3.5).
      yield* this.waitReady(1, "before disabling it", true);
      this.region.write32(Reg.cc, CC_EN.set(CC_SHN.set(cc, Shn.none), 0));
    }
    yield* this.waitReady(0, "after CC.EN was cleared", false);
  }

  /**
   * Sets the admin queues and CC.EN, and waits for CSTS.RDY. Throws `nvme-timeout`, `nvme-gone` or
   * `nvme-fatal`.
   */
  *enable(aqa: number, asq: number, acq: number, pageBytes: number): Steps<void> {
    const { region } = this;
    region.write32(Reg.aqa, aqa);
    region.write64(Reg.asqLo, asq >>> 0, Math.floor(asq / 2 ** 32));
    region.write64(Reg.acqLo, acq >>> 0, Math.floor(acq / 2 ** 32));
    let cc = CC_MPS.set(0, Math.log2(pageBytes / 4096));
    cc = CC_IOSQES.set(cc, SQE_SHIFT);
    cc = CC_IOCQES.set(cc, CQE_SHIFT);
    region.write32(Reg.cc, cc);
    region.write32(Reg.cc, CC_EN.set(cc, 1));
    yield* this.waitReady(1, "after CC.EN was set", false);
  }

  /** `mayFail`: a fatal status or a timeout ends the wait instead of throwing. */
  private *waitReady(value: number, when: string, mayFail: boolean): Steps<void> {
    let csts = 0;
    const isReady = yield* waitUntil(this.clock, this.capabilities.readyNs, () => {
      csts = this.csts;
      return csts === ALL_ONES || CSTS_RDY.get(csts) === value || CSTS_CFS.get(csts) === 1;
    });
    if (csts === ALL_ONES) throw this.gone("CSTS");
    if (isReady && CSTS_RDY.get(csts) === value) return;
    if (mayFail) return;
    const details = { csts: hex(csts, 8), cc: hex(this.region.read32(Reg.cc), 8) };
    if (CSTS_CFS.get(csts) === 1) {
      throw new PeerlaneError("nvme-fatal", `CSTS.CFS is set ${when}`, {
        place: this.place,
        remedy: "reset the function; if CFS comes back, the controller is broken",
        details,
      });
    }
    throw new PeerlaneError("nvme-timeout", `CSTS.RDY did not become ${value} ${when}`, {
      place: this.place,
      remedy: `the controller promised it within ${this.capabilities.readyNs / 1e9} s (CAP.TO)`,
      details,
    });
  }

  /** Normal shutdown: CC.SHN, then CSTS.SHST. False when it did not finish in time. */
  *shutdown(promisedNs: number): Steps<boolean> {
    const cc = this.region.read32(Reg.cc);
    if (cc === ALL_ONES) return false;
    this.region.write32(Reg.cc, CC_SHN.set(cc, Shn.normal));
    const timeoutNs = promisedNs > 0 ? promisedNs : SHUTDOWN_NS;
    return yield* waitUntil(this.clock, timeoutNs, () => {
      const { csts } = this;
      return csts === ALL_ONES || CSTS_SHST.get(csts) === Shst.complete;
    });
  }

  private gone(register: string): PeerlaneError {
    return new PeerlaneError("nvme-gone", `${register} reads as all ones: nothing answers`, {
      place: this.place,
      remedy: "check that the device is present, its link is up and Memory Space Enable is set",
    });
  }

  inspect(): Tree {
    const { region } = this;
    return {
      cc: hex(region.read32(Reg.cc), 8),
      csts: hex(this.csts, 8),
      entriesMax: this.capabilities.entriesMax,
      readyTimeoutMs: this.capabilities.readyNs / 1e6,
    };
  }
}
