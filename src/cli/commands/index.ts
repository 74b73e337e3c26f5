/**
 * The commands, in the order in which --help lists them. Each is loaded when it is asked for: a
 * command must not wait for the packages and rooms that only another one needs.
 */

import type { CommandEntry } from "../command.ts";
import { PLANNER_COMMANDS } from "./planner.ts";

const SIMULATED = "On a fabric simulated from a dump:";
const NETWORK = "On real networks, NVMe/TCP:";

export const COMMANDS: readonly CommandEntry[] = [
  ...PLANNER_COMMANDS,
  { name: "demo", group: SIMULATED, load: async () => (await import("./demo.ts")).demo },
  { name: "run", group: SIMULATED, load: async () => (await import("./run.ts")).run },
  { name: "compare", group: SIMULATED, load: async () => (await import("./compare.ts")).compare },
  { name: "target", group: NETWORK, load: async () => (await import("./target.ts")).target },
  {
    name: "targetctl",
    group: NETWORK,
    load: async () => (await import("./targetctl.ts")).targetctl,
  },
  { name: "connect", group: NETWORK, load: async () => (await import("./connect.ts")).connect },
  { name: "keygen", group: NETWORK, load: async () => (await import("./keygen.ts")).keygen },
];
