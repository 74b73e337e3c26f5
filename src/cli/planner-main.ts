/**
 * The planner's commands alone, as a script that bin/peerlane.cjs runs first: it is small, and its
 * compiled form lies beside it, so that `explain` answers while one still looks at the key. It says
 * no to every other command; then the whole command line is loaded.
 */

import { realClock, realFilesInto, realHost } from "../platform/index.ts";
import { PLANNER_COMMANDS } from "./commands/planner.ts";
import { makeContext } from "./context.ts";
import { runProgram } from "./program.ts";

/**
 * Runs the arguments of this process; false when the command is none of these. `spare` is memory
 * that the first dump may be read into.
 */
export async function runPlanner(shipped: string, spare: Uint8Array): Promise<boolean> {
  const host = realHost();
  if (!PLANNER_COMMANDS.some(({ name }) => name === host.args[0])) return false;
  const context = makeContext(host, realFilesInto(spare), realClock, shipped);
  host.end(await runProgram(context, PLANNER_COMMANDS));
  return true;
}
