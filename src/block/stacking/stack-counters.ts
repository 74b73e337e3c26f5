/**
 * Counters of a stacked queue: what went to which leg, and every cut, wait, refusal and failover.
 */

import type { Tree } from "../../core/index.ts";

export class StackCounters {
  bios = 0;
  /** Bios refused before anything went to a leg. */
  rejected = 0;
  /** Cuts: a bio in n parts counts n - 1. */
  splits = 0;
  /** Times that parts had run out. */
  busy = 0;
  /** Parts refused since the address of a vector was another device's. */
  wrongInitiator = 0;
  /** Parts by leg. */
  readonly parts: number[];
  /** Parts that the re-check kept from a leg. */
  readonly refused: number[];

  constructor(legs: number) {
    this.parts = new Array<number>(legs).fill(0);
    this.refused = new Array<number>(legs).fill(0);
  }

  inspect(): Tree {
    return Object.fromEntries(Object.entries(this));
  }
}
