/** The commands, in the order in which --help lists them. */

import type { CommandModule } from "../command.ts";
import { capture } from "./capture.ts";
import { compare } from "./compare.ts";
import { demo } from "./demo.ts";
import { diff } from "./diff.ts";
import { doctor } from "./doctor.ts";
import { explain } from "./explain.ts";
import { find } from "./find.ts";
import { matrix } from "./matrix.ts";
import { pages } from "./pages.ts";
import { run } from "./run.ts";
import { target } from "./target.ts";
import { topo } from "./topo.ts";

export const COMMANDS: readonly CommandModule[] = [
  demo,
  run,
  topo,
  matrix,
  explain,
  compare,
  find,
  doctor,
  pages,
  diff,
  capture,
  target,
];
