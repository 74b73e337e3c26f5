import { defineConfig } from "vitest/config";

const EVERYWHERE = ["src/**/*.test.ts", "testing/**/*.test.ts", "test/**/*.test.ts"];

/**
 * Tests that count bytes on the heap. What the engine inlines, and so what it boxes, depends on all
 * code that ran before in the process: these get a process each.
 */
const HEAP_TESTS = [
  "src/block/block.test.ts",
  "src/block/stacking/heap.test.ts",
  "src/dma/dma.test.ts",
  "src/fabric/allocation.test.ts",
  "src/fabric/devices/nvme/hot-path.test.ts",
  "src/memory/late.test.ts",
  "src/memory/memory.test.ts",
  "src/nvme/nvme.test.ts",
  "src/p2p/pool.prop.test.ts",
  "src/rdma/memory.test.ts",
  "src/gpu/hot-path.test.ts",
  "test/heap-growth.test.ts",
];

export default defineConfig({
  test: {
    // Two processes for the two cores of CI. Processes, not threads: a test of the FFI door may take
    // its worker down, and must not take the run down with it.
    pool: "forks",
    maxWorkers: 2,
    testTimeout: 20_000,
    reporters: ["default", "./scripts/closing-line.ts"],
    projects: [
      {
        extends: true,
        // Rooms hold no global state (time, randomness and I/O are injected), so a fresh worker per
        // file buys nothing.
        test: { name: "shared", include: EVERYWHERE, exclude: HEAP_TESTS, isolate: false },
      },
      { extends: true, test: { name: "heap", include: HEAP_TESTS, isolate: true } },
    ],
    coverage: {
      provider: "v8",
      include: ["src/**/*.ts"],
      exclude: ["src/**/*.test.ts"],
      reporter: ["text-summary", "html"],
    },
  },
});
