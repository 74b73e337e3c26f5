import { defineConfig } from "vitest/config";

/** One process, one file, one test at a time: they share a guest and two cores. */
export default defineConfig({
  test: {
    include: ["test/kernel/suite.kernel.ts"],
    pool: "forks",
    maxWorkers: 1,
    reporters: ["verbose", "./scripts/closing-line.ts"],
  },
});
