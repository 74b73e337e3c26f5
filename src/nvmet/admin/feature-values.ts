/**
 * Features of one controller that are a value to keep: what they are at first, and which values the
 * host may set. Each takes the value from CDW11 and is answered in dword 0. NVM Express Base
 * Specification 2.0, section 5.27.1; NVM Command Set 1.0, section 4.1.3.
 *
 * Leaves out: saved values. What arbitration, power and error recovery ask for is kept and has no
 * effect: queues are served in turn, there is one power state, and the disks recover as they do.
 */

import {
  ARBITRATION_AB,
  ARBITRATION_HPW,
  ARBITRATION_LPW,
  ARBITRATION_MPW,
  ATOMICITY_DN,
  ERROR_RECOVERY_TLER,
  Feature,
  NvmeStatus,
  POWER_WH,
  STATUS_DNR,
  TEMPERATURE_THSEL,
  TEMPERATURE_TMPSEL,
  TEMPERATURE_TMPTH,
} from "../../spec/nvme/index.ts";

/** Kelvins: the target has no sensor; 30 degrees Celsius, as in a quiet room. */
export const TEMPERATURE_K = 303;

const INVALID = NvmeStatus.invalidField | STATUS_DNR;
const OVER = 0;
const UNDER = 1;

interface Kept {
  readonly initial: number;
  /** Bits that may be set; any other makes the command invalid. */
  readonly bits: number;
  /** Each namespace has its own. */
  readonly perNamespace?: boolean;
}

const KEPT: ReadonlyMap<number, Kept> = new Map<number, Kept>([
  [
    Feature.arbitration,
    {
      initial: ARBITRATION_AB.set(0, 7),
      bits:
        ARBITRATION_AB.bits | ARBITRATION_LPW.bits | ARBITRATION_MPW.bits | ARBITRATION_HPW.bits,
    },
  ],
  // Power state 0 is the only one.
  [Feature.powerManagement, { initial: 0, bits: POWER_WH.bits }],
  // DULBE would need deallocated blocks that reads can tell (NSFEAT).
  [Feature.errorRecovery, { initial: 0, bits: ERROR_RECOVERY_TLER.bits, perNamespace: true }],
  [Feature.writeAtomicity, { initial: 0, bits: ATOMICITY_DN.bits }],
]);

export class FeatureValues {
  private readonly values = new Map<string, number>();
  private overThreshold = 0xffff;
  private underThreshold = 0;

  /** True for a feature that is kept here and that each namespace has its own of. */
  static isPerNamespace(fid: number): boolean {
    return KEPT.get(fid)?.perNamespace === true;
  }

  static has(fid: number): boolean {
    return KEPT.has(fid);
  }

  initial(fid: number): number {
    return KEPT.get(fid)?.initial ?? 0;
  }

  get(fid: number, nsid: number): number {
    return this.values.get(`${fid}/${nsid}`) ?? this.initial(fid);
  }

  /** Returns an NVMe status. */
  set(fid: number, nsid: number, value: number): number {
    const kept = KEPT.get(fid);
    if (kept === undefined || (value & ~kept.bits) !== 0) return INVALID;
    this.values.set(`${fid}/${nsid}`, value >>> 0);
    return NvmeStatus.success;
  }

  /** The threshold that `cdw11` selects; -1: there is no such sensor or threshold. */
  threshold(cdw11: number, isInitial: boolean): number {
    if (TEMPERATURE_TMPSEL.get(cdw11) !== 0) return -1;
    switch (TEMPERATURE_THSEL.get(cdw11)) {
      case OVER:
        return isInitial ? 0xffff : this.overThreshold;
      case UNDER:
        return isInitial ? 0 : this.underThreshold;
      default:
        return -1;
    }
  }

  /** Returns an NVMe status. Sensor Fh stands for all sensors; there is the composite one. */
  setThreshold(cdw11: number): number {
    const sensor = TEMPERATURE_TMPSEL.get(cdw11);
    if (sensor !== 0 && sensor !== 0xf) return INVALID;
    const value = TEMPERATURE_TMPTH.get(cdw11);
    const which = TEMPERATURE_THSEL.get(cdw11);
    if (which > UNDER) return INVALID;
    if (which === OVER) this.overThreshold = value;
    else this.underThreshold = value;
    return NvmeStatus.success;
  }

  /** The temperature is not between the thresholds. */
  get isTemperatureWarning(): boolean {
    return TEMPERATURE_K >= this.overThreshold || TEMPERATURE_K <= this.underThreshold;
  }
}
