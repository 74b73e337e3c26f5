import { defineConfig } from "vitest/config";

export default defineConfig({
  test: {
    include: ["src/**/*.test.ts", "testing/**/*.test.ts", "test/**/*.test.ts"],
    // Two processes for the two cores of CI. Processes, not threads: a test of the FFI door may take
    // its worker down, and must not take the run down with it. No isolation between files: rooms hold
    // no global state (time, randomness and I/O are injected), so a fresh worker per file buys nothing.
    pool: "forks",
    maxWorkers: 2,
    isolate: false,
    testTimeout: 20_000,
    reporters: ["default", "./scripts/closing-line.ts"],
    coverage: {
      provider: "v8",
      include: ["src/**/*.ts"],
      exclude: ["src/**/*.test.ts"],
      reporter: ["text-summary", "html"],
    },
  },
});
