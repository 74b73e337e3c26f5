/** What a command's file exports: how it adds itself to the program. */

import type { Command } from "commander";
import type { Context } from "./context.ts";

export interface CommandModule {
  /**
   * Adds the command. Its action is run through `run`: it may throw, and returns the exit status.
   */
  register(
    program: Command,
    run: (action: () => Promise<number>) => Promise<void>,
    context: Context,
  ): void;
}

/** A command by its name, not loaded yet. */
export interface CommandEntry {
  readonly name: string;
  /** Heading under which --help lists it. */
  readonly group: string;
  load(): Promise<CommandModule>;
}

/** The command that the arguments name; all of them where they name none (help, a mistake). */
export function commandsFor(
  args: readonly string[],
  commands: readonly CommandEntry[],
): readonly CommandEntry[] {
  const named = commands.filter(({ name }) => name === args[0]);
  return named.length > 0 ? named : commands;
}
