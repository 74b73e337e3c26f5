/**
 * The commands that answer about a machine without running anything on it. They are a bundle of
 * their own (scripts/build.mjs), so that they start fast.
 */

import type { CommandEntry } from "../command.ts";

/** They read a machine and change nothing. */
const group = "About a machine, from its dump:";

export const PLANNER_COMMANDS: readonly CommandEntry[] = [
  { name: "topo", group, load: async () => (await import("./topo.ts")).topo },
  { name: "matrix", group, load: async () => (await import("./matrix.ts")).matrix },
  { name: "explain", group, load: async () => (await import("./explain.ts")).explain },
  { name: "find", group, load: async () => (await import("./find.ts")).find },
  { name: "doctor", group, load: async () => (await import("./doctor.ts")).doctor },
  { name: "pages", group, load: async () => (await import("./pages.ts")).pages },
  { name: "diff", group, load: async () => (await import("./diff.ts")).diff },
  { name: "capture", group, load: async () => (await import("./capture.ts")).capture },
];
