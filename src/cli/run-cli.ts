/**
 * The whole command line: the program with every command there is. The planner's commands alone are
 * planner-main.ts.
 */

import { COMMANDS } from "./commands/index.ts";
import type { Context } from "./context.ts";
import { runProgram } from "./program.ts";

/** Runs the arguments of `context.host`; returns the exit status. */
export const runCli = (context: Context): Promise<number> => runProgram(context, COMMANDS);
