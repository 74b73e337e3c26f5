/**
 * PCIe links and the roles that functions play for requests that pass them. A link knows its speed
 * and whether it is up; who sits at its ends is the topology's.
 */

import type { Bdf } from "../core/index.ts";
import type { LinkFacts } from "../machine/index.ts";

/** What a function is to the requests that pass it. */
export type NodeRole =
  | "endpoint"
  | "integrated-endpoint"
  | "root-port"
  | "switch-upstream"
  | "switch-downstream"
  | "bridge";

/** A PCIe link, named after the downstream port above it. */
export class Link {
  /** Directed links are `2 * index` (towards the root) and `2 * index + 1` (away from it). */
  readonly index: number;
  readonly upper: Bdf;
  readonly facts: LinkFacts;
  /** The snapshot did not tell the link's speed; `facts` is the assumption. */
  readonly isAssumed: boolean;
  /** False after a surprise link down. */
  isTrained = true;
  /** Link Disable in the upper port's Link Control. */
  isDisabled = false;

  constructor(index: number, upper: Bdf, facts: LinkFacts, isAssumed: boolean) {
    this.index = index;
    this.upper = upper;
    this.facts = facts;
    this.isAssumed = isAssumed;
  }

  get isUp(): boolean {
    return this.isTrained && !this.isDisabled;
  }

  get towardsRoot(): number {
    return 2 * this.index;
  }

  get awayFromRoot(): number {
    return 2 * this.index + 1;
  }
}
