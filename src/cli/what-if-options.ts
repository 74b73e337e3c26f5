/**
 * The options that every command with a machine has: changes to a copy of it. One group, so that
 * they read the same everywhere.
 */

import type { Command } from "commander";
import type { Bdf } from "../core/index.ts";
import type { Machine } from "../machine/index.ts";
import { RULE_SETS } from "../p2p/index.ts";
import { applyWhatIf, parseWhatIf } from "../planner/index.ts";
import { type Context, printNotes } from "./context.ts";
import { loadMachine } from "./machine-input.ts";

export interface WhatIfOptions {
  readonly setAcs?: readonly string[];
  readonly setId?: readonly string[];
  readonly move?: readonly string[];
  readonly kernel?: string;
  readonly iommu?: string;
  readonly cpu?: string;
  readonly rules?: string;
}

const collect = (value: string, earlier: readonly string[] = []): string[] => [...earlier, value];

/** Adds the group to a command. */
export function addWhatIf(command: Command): Command {
  return command
    .optionsGroup("What if (on a copy; the first three repeat):")
    .option(
      "--set-acs <function=word>",
      "ACS Control, as 02:00.0=0x0c (RR 0x04, CR 0x08, EC 0x20)",
      collect,
    )
    .option("--set-id <function=id>", "vendor and device id, as 00:00.0=8086:2030", collect)
    .option(
      "--move <function=port>",
      "put the card below another port, as 05:00.0=02:01.0",
      collect,
    )
    .option("--kernel <version>", "rules of this Linux version, as 5.15, 6.12, or latest")
    .option("--iommu <mode>", "off, pt or strict")
    .option(
      "--rules <id>",
      `rules of this set, whatever the kernel: ${RULE_SETS.map(({ id }) => id).join(", ")}`,
    )
    .option("--cpu <vendor:family>", "as /proc/cpuinfo prints them, AuthenticAMD:23");
}

/**
 * How another command is given the same machine: `-m lspci.txt --kernel 5.15`, to be pasted. A file
 * that cannot be named again (standard input) is FILE.
 */
export function givenText(paths: readonly string[], options: WhatIfOptions): string {
  const repeated = (name: string, values: readonly string[] = []): string[] =>
    values.flatMap((value) => [name, value]);
  const words = [
    "-m",
    ...paths.map((path) => (path === "-" ? "FILE" : path)),
    ...repeated("--set-acs", options.setAcs),
    ...repeated("--set-id", options.setId),
    ...repeated("--move", options.move),
    ...WHAT_IF_ONCE.flatMap((name) => repeated(`--${name}`, [options[name] ?? []].flat())),
  ];
  return words.map((word) => (/^[\w./:=,@+-]+$/.test(word) ? word : `'${word}'`)).join(" ");
}

const WHAT_IF_ONCE = ["kernel", "iommu", "rules", "cpu"] as const;

/** A machine as a command works on it. */
export interface Subject {
  readonly machine: Machine;
  readonly changes: readonly string[];
  /** The name that a function of the dump has after the changes. */
  readonly nameOf: (bdf: Bdf) => Bdf;
}

/** Reads the machine and applies the changes; what they assumed goes to standard error. */
export async function loadSubject(
  context: Context,
  paths: readonly string[],
  options: WhatIfOptions,
): Promise<Subject> {
  const whatIf = parseWhatIf(options);
  const changed = applyWhatIf(await loadMachine(context, paths), whatIf);
  printNotes(context, changed.notes);
  return changed;
}
