/**
 * The commands that answer about a machine without running anything on it. They are a bundle of
 * their own (scripts/build.mjs), so that they start fast.
 */

import type { CommandEntry } from "../command.ts";

export const PLANNER_COMMANDS: readonly CommandEntry[] = [
  { name: "topo", load: async () => (await import("./topo.ts")).topo },
  { name: "matrix", load: async () => (await import("./matrix.ts")).matrix },
  { name: "explain", load: async () => (await import("./explain.ts")).explain },
  { name: "find", load: async () => (await import("./find.ts")).find },
  { name: "doctor", load: async () => (await import("./doctor.ts")).doctor },
  { name: "pages", load: async () => (await import("./pages.ts")).pages },
  { name: "diff", load: async () => (await import("./diff.ts")).diff },
  { name: "capture", load: async () => (await import("./capture.ts")).capture },
];
