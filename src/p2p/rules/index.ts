/**
 * The rule sets there are, those of kernels first, oldest first, and which one a kernel version
 * has. A new one is a file in this folder and a line here.
 */

import { PeerlaneError } from "../../core/index.ts";
import { EXPERT, EXPERT_FALLBACK } from "./expert.ts";
import { LINUX_4_20, LINUX_5_4, LINUX_5_14 } from "./linux.ts";
import type { RuleSet } from "./rule-set.ts";
import { formatVersion, isInForce, type KernelVersion } from "./version.ts";

export const RULE_SETS: readonly RuleSet[] = [
  LINUX_4_20,
  LINUX_5_4,
  LINUX_5_14,
  EXPERT,
  EXPERT_FALLBACK,
];

/** The rule set that this kernel has. Throws `no-rule-set` for kernels without peer-to-peer DMA. */
export function ruleSetFor(version: KernelVersion): RuleSet {
  const found = RULE_SETS.find(
    ({ since, until }) => since !== null && isInForce(version, since, until),
  );
  if (found !== undefined) return found;
  throw new PeerlaneError("no-rule-set", `no rules known for Linux ${formatVersion(version)}`, {
    remedy:
      "name Linux 4.20, with which peer-to-peer DMA came, or later; or one of the rule sets " +
      RULE_SETS.map(({ id }) => id).join(", "),
  });
}

/** Throws `no-rule-set` for an id that there is not. */
export function ruleSetById(id: string): RuleSet {
  const found = RULE_SETS.find((set) => set.id === id);
  if (found !== undefined) return found;
  throw new PeerlaneError("no-rule-set", `there is no rule set "${id}"`, {
    remedy: `name one of: ${RULE_SETS.map((set) => set.id).join(", ")}`,
  });
}
