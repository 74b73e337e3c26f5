/** The commands, in the order in which --help lists them. */

import type { CommandModule } from "../program.ts";
import { explain } from "./explain.ts";
import { topo } from "./topo.ts";

export const COMMANDS: readonly CommandModule[] = [topo, explain];
