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
