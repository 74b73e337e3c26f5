/**
 * Faults on purpose: a seeded plan that makes some DMAs of some functions fail, to see whether the
 * stack above copes. The same seed fails the same transfers.
 */

import { type Bdf, DmaStatus, type Prng } from "../core/index.ts";
import type { DmaDirection } from "./route.ts";

export interface FaultRule {
  /** Whose transfers; null: everybody's. */
  readonly initiator: Bdf | null;
  /** Null: both directions. */
  readonly direction: DmaDirection | null;
  /** 0 to 1, per transfer. */
  readonly probability: number;
  /** What the transfer ends with; a `DmaStatus` other than ok. */
  readonly status: number;
}

export class FaultPlan {
  /** Transfers failed so far. */
  injected = 0;
  private readonly rules: readonly FaultRule[];
  private readonly prng: Prng;

  constructor(rules: readonly FaultRule[], prng: Prng) {
    this.rules = rules;
    this.prng = prng;
  }

  /** `DmaStatus.ok`, or what this transfer is to fail with. */
  statusFor(initiator: Bdf, direction: DmaDirection): number {
    for (const rule of this.rules) {
      if (rule.initiator !== null && rule.initiator !== initiator) continue;
      if (rule.direction !== null && rule.direction !== direction) continue;
      if (!this.prng.chance(rule.probability)) continue;
      this.injected++;
      return rule.status;
    }
    return DmaStatus.ok;
  }
}
