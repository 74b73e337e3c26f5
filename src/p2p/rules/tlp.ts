/**
 * Kinds of TLPs that ACS treats differently, for rule sets that tell them apart: writes and reads
 * (whose completions travel too), reads whose completions carry the Relaxed Ordering attribute, and
 * requests with translated addresses (ATS). PCI Express Base 7.0, section 6.12.
 */

import type { Reason } from "./reasons.ts";

export const TlpDirection = { write: 0, read: 1 } as const;
export type TlpDirection = (typeof TlpDirection)[keyof typeof TlpDirection];
export type TlpDirectionName = keyof typeof TlpDirection;

/** Two bits: completions with Relaxed Ordering, translated requests. */
export const TlpClass = { strict: 0, relaxedCompletion: 1, translated: 2, both: 3 } as const;
export type TlpClass = (typeof TlpClass)[keyof typeof TlpClass];
export type TlpClassName = "strict" | "relaxed-completion" | "translated" | "both";

/** Indexed by {@link TlpClass}. */
export const TLP_CLASS_NAMES: readonly TlpClassName[] = [
  "strict",
  "relaxed-completion",
  "translated",
  "both",
];

/**
 * What becomes of TLPs to the peer's bus address; of a read, the worse of the request and its
 * completions.
 */
export const TlpOutcome = {
  /** A register that decides is not known. */
  unknown: 0,
  /** It turns to the peer below the root complex. */
  direct: 1,
  /** It goes by the root complex. */
  redirected: 2,
  /** A port rejects it: ACS Violation, or Unsupported Request. */
  blocked: 3,
} as const;
export type TlpOutcome = (typeof TlpOutcome)[keyof typeof TlpOutcome];
export type TlpOutcomeName = keyof typeof TlpOutcome;

/** Indexed by {@link TlpOutcome}. */
export const TLP_OUTCOME_NAMES: readonly TlpOutcomeName[] = [
  "unknown",
  "direct",
  "redirected",
  "blocked",
];

/** What was decided for one direction and class. Reused. */
export class TlpDecision {
  outcome: TlpOutcome = 0;
  /** Its map type is the decision's. */
  reason: Reason = 0;
  /** Position of the port that decided; -1: none did. */
  node = -1;
  /** True when it was decided for the completions of a read. */
  isCompletion = false;

  set(outcome: TlpOutcome, reason: Reason, node: number, isCompletion: boolean): void {
    this.outcome = outcome;
    this.reason = reason;
    this.node = node;
    this.isCompletion = isCompletion;
  }
}
