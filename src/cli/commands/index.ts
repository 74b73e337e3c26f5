/**
 * The commands, in the order in which --help lists them. Each is loaded when it is asked for: a
 * command must not wait for the packages and rooms that only another one needs.
 */

import type { CommandEntry } from "../command.ts";
import { PLANNER_COMMANDS } from "./planner.ts";

export const COMMANDS: readonly CommandEntry[] = [
  { name: "demo", load: async () => (await import("./demo.ts")).demo },
  { name: "run", load: async () => (await import("./run.ts")).run },
  { name: "compare", load: async () => (await import("./compare.ts")).compare },
  ...PLANNER_COMMANDS,
  { name: "target", load: async () => (await import("./target.ts")).target },
  { name: "targetctl", load: async () => (await import("./targetctl.ts")).targetctl },
  { name: "connect", load: async () => (await import("./connect.ts")).connect },
  { name: "keygen", load: async () => (await import("./keygen.ts")).keygen },
];
