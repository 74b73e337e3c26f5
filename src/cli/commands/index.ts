/** The commands, in the order in which --help lists them. */

import type { CommandModule } from "../program.ts";

export const COMMANDS: readonly CommandModule[] = [];
