/**
 * The data plane keeps nothing per I/O: writes and reads through the whole stack, host to medium,
 * leave the heap as it was. A million of them are in bench/nvmet-write.ts.
 */
import { describe, expect, it } from "vitest";
import { NvmOpcode } from "../src/spec/nvme/index.ts";
import { leastOf, retainedBytes } from "../testing/heap.ts";
import { WriteLoad } from "../testing/write-load.ts";

const IOS = 5_000;
/**
 * Rounds at most, of which the best counts: others may meet the engine while it compiles, for this
 * test or one before it in the process. What is kept per I/O is kept in every round.
 */
const ROUNDS_MAX = 12;
/** The engine's own bookkeeping is some thousand; a double kept per I/O would be 80,000. */
const SLACK_BYTES = 20_000;

describe("heap growth", () => {
  it.each([
    ["writes, lease", { description: "lease", opcode: NvmOpcode.write }],
    ["reads, lease", { description: "lease", opcode: NvmOpcode.read }],
    ["writes, DMA address", { description: "dma-address", opcode: NvmOpcode.write }],
    ["writes, host memory", { description: "host-memory", opcode: NvmOpcode.write }],
  ] as const)("none over 5,000 %s", async (_, options) => {
    const load = await WriteLoad.open(options);
    load.run(2 * IOS);
    const kept = leastOf(ROUNDS_MAX, SLACK_BYTES, () => retainedBytes(() => load.run(IOS)));
    expect(kept).toBeLessThan(SLACK_BYTES);
    // And what was taken from pools is back.
    load.rig.reactor.runUntilIdle();
    const { orchestrator } = load.rig.assembly;
    expect(orchestrator.inspect()["bindings"]).toMatchObject([{ inFlight: 0 }]);
  });
});
