/**
 * Which rules to judge a machine by: those of its own kernel, of the kernel that was asked for, or
 * of a rule set by its id; and what to say where the machine's kernel has none.
 */

import { UsageError } from "../core/index.ts";
import type { Machine } from "../machine/index.ts";
import {
  compareVersions,
  formatVersion,
  type KernelVersion,
  LATEST_KERNEL,
  parseKernelVersion,
  RULE_SETS,
  type RuleSet,
  Rules,
  Topology,
} from "../p2p/index.ts";

/** Peer-to-peer DMA came with it (drivers/pci/p2pdma.c). */
export const FIRST_P2PDMA_KERNEL: KernelVersion = { major: 4, minor: 20 };

export interface MachineRules {
  readonly rules: Rules;
  /** What the reader must know of the choice; empty as a rule. */
  readonly notes: readonly string[];
}

/**
 * Makes the rules ready. `id` names a rule set; without it the kernel decides.
 * @throws UsageError `bad-rules` for an id that there is not
 */
export function rulesFor(
  machine: Machine,
  id?: string,
  topology = new Topology(machine),
): MachineRules {
  const own = parseKernelVersion(machine.host.kernelVersion);
  if (id !== undefined) {
    const rules = new Rules(topology, ruleSetById(id));
    const isAsked = own === null || compareVersions(own, rules.version) === 0;
    const judged = `Linux ${formatVersion(rules.version)}`;
    return {
      rules,
      notes: isAsked ? [] : [`rules ${id} are not those of the kernel: judged as ${judged}`],
    };
  }
  if (own === null || compareVersions(own, FIRST_P2PDMA_KERNEL) >= 0) {
    return { rules: new Rules(topology), notes: own === null ? [] : newerNotes(own) };
  }
  const latest = formatVersion(LATEST_KERNEL);
  return {
    rules: new Rules(topology, undefined, LATEST_KERNEL),
    notes: [
      `Linux ${formatVersion(own)} of this machine has no peer-to-peer DMA, which came with ` +
        `${formatVersion(FIRST_P2PDMA_KERNEL)}: judged by the rules of Linux ${latest}`,
    ],
  };
}

/** The rules of what is not written yet may be others. */
const newerNotes = (own: KernelVersion): string[] =>
  compareVersions(own, LATEST_KERNEL) <= 0
    ? []
    : [
        `Linux ${formatVersion(own)} is newer than ${formatVersion(LATEST_KERNEL)}, the latest ` +
          "whose rules are known here: its own may differ",
      ];

export function ruleSetById(id: string): RuleSet {
  const found = RULE_SETS.find((set) => set.id === id);
  if (found !== undefined) return found;
  throw new UsageError("bad-rules", `there is no rule set "${id}"`, {
    remedy: `name one of ${RULE_SETS.map((set) => set.id).join(", ")}`,
  });
}
