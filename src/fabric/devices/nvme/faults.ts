/**
 * Faults on purpose, to test what a driver does about them: a rule picks commands and says what
 * happens to them instead of, or after, being executed. Draws come from one seeded generator, so a
 * run with faults replays. A controller without rules pays one comparison with null per command.
 */

import { Prng, type Tree, UsageError } from "../../../core/index.ts";
import type { Command } from "./command.hot.ts";

export interface NvmeFaultRule {
  /** Commands of the admin queue; else of I/O queues. Default: I/O. */
  readonly admin?: boolean;
  /** Only this opcode. Default: any. */
  readonly opcode?: number;
  /** Only this namespace. */
  readonly nsid?: number;
  /** Only I/O commands that start in [firstLba, lastLba]. */
  readonly firstLba?: number;
  readonly lastLba?: number;
  /** Chance that a matching command is hit, 0 to 1. Default: 1. */
  readonly probability?: number;
  /** How often the rule may hit. Default: no bound. */
  readonly count?: number;
  /** Completes with this NVMe status instead of executing. */
  readonly status?: number;
  /** Completes so many nanoseconds late. */
  readonly delayNs?: number;
  /** Never completes, unless aborted or reset. The command is not executed. */
  readonly drop?: boolean;
}

class ArmedRule {
  hits = 0;
  readonly admin: boolean;
  readonly opcode: number;
  readonly nsid: number;
  readonly firstLba: number;
  readonly lastLba: number;
  readonly probability: number;
  readonly count: number;
  readonly status: number;
  readonly delayNs: number;
  readonly drop: boolean;

  constructor(rule: NvmeFaultRule) {
    this.admin = rule.admin ?? false;
    this.opcode = rule.opcode ?? -1;
    this.nsid = rule.nsid ?? 0;
    this.firstLba = rule.firstLba ?? 0;
    this.lastLba = rule.lastLba ?? Number.POSITIVE_INFINITY;
    this.probability = rule.probability ?? 1;
    this.count = rule.count ?? Number.POSITIVE_INFINITY;
    this.status = rule.status ?? 0;
    this.delayNs = rule.delayNs ?? 0;
    this.drop = rule.drop ?? false;
    if (this.status === 0 && this.delayNs === 0 && !this.drop) {
      throw new UsageError("nvme-fault-rule", "a fault rule says what happens", {
        remedy: "give status, delayNs or drop",
      });
    }
  }

  matches(command: Command, admin: boolean): boolean {
    if (this.admin !== admin || this.hits >= this.count) return false;
    if (this.opcode >= 0 && this.opcode !== command.opcode) return false;
    if (this.nsid > 0 && this.nsid !== command.nsid) return false;
    if (admin) return true;
    const { slba } = command;
    return slba >= this.firstLba && slba <= this.lastLba;
  }
}

/** What a rule does to a command it hit. */
export type Fault = Pick<ArmedRule, "status" | "delayNs" | "drop">;

export class FaultInjector {
  private readonly rules: readonly ArmedRule[];
  private readonly prng: Prng;

  constructor(rules: readonly NvmeFaultRule[], seed: number) {
    this.rules = rules.map((rule) => new ArmedRule(rule));
    this.prng = new Prng(seed);
  }

  /** The first rule that hits the command, or null. */
  pick(command: Command, admin: boolean): Fault | null {
    for (const rule of this.rules) {
      if (!rule.matches(command, admin)) continue;
      if (rule.probability < 1 && !this.prng.chance(rule.probability)) continue;
      rule.hits++;
      return rule;
    }
    return null;
  }

  inspect(): Tree {
    return Object.fromEntries(this.rules.map((rule, i) => [`rule ${i}`, rule.hits]));
  }
}
