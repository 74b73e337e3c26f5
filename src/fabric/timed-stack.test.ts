/**
 * The same driver and controller model in timed mode: a sequential write at the speed of the link.
 */
import { describe, expect, it } from "vitest";
import { nvmeMachine } from "../../testing/nvme-machine.ts";
import { type Bio, BioOp, BioPool, BioResult, BlockStatus } from "../block/index.ts";
import { linkModel, readPayloadBytesPerSecond } from "../spec/pcie/index.ts";

const BYTES = 128 * 1024;
const DEPTH = 16;
const IOS = 64;

async function writeAll(mode: "functional" | "timed") {
  const machine = nvmeMachine({ mode });
  const controller = await machine.attach({ queueDepth: 32 });
  const { queue } = controller.namespaces[0];
  const memory = machine.hostMemory(DEPTH * BYTES);
  memory.region.bytes.fill(0x5a);
  const pool = new BioPool(DEPTH, 64);
  const start = machine.fabric.clock.nowNs();
  const results: BioResult[] = [];
  let submitted = 0;
  for (let i = 0; i < 1_000_000; i++) {
    while (submitted < IOS && submitted - results.filter(({ done }) => done > 0).length < DEPTH) {
      const bio = pool.acquire() as Bio | null;
      if (bio === null) break;
      const result = new BioResult();
      bio.op = BioOp.write;
      bio.sector = (submitted * BYTES) / 512;
      const bioDone = (one: Bio): void => {
        result.bioDone(one);
        pool.release(one);
      };
      bio.owner = { bioDone };
      bio.addMemory(memory, (submitted % DEPTH) * BYTES, BYTES);
      queue.submit(bio);
      results.push(result);
      submitted++;
    }
    queue.kick();
    const done = machine.fabric.poll() + controller.poll();
    if (results.length === IOS && results.every((one) => one.done === 1)) break;
    if (done === 0 && submitted === IOS) break;
  }
  return { machine, results, elapsedNs: machine.fabric.clock.nowNs() - start };
}

describe("driver and controller model", () => {
  it("in timed mode, a deep sequential write reads host memory at the link's rate", async () => {
    const { results, elapsedNs } = await writeAll("timed");
    expect(results.map(({ status }) => status)).toEqual(Array(IOS).fill(BlockStatus.ok));
    const rate = (IOS * BYTES) / (elapsedNs / 1e9);
    // Generation and width of the test machine's links; the controller reads the payload.
    const ceiling = readPayloadBytesPerSecond(linkModel(4, 4), BYTES);
    expect(rate).toBeLessThan(ceiling * 1.01);
    expect(rate).toBeGreaterThan(ceiling * 0.95);
  });

  it("in functional mode takes no time", async () => {
    const { results, elapsedNs } = await writeAll("functional");
    expect(results.every(({ status }) => status === BlockStatus.ok)).toBe(true);
    expect(elapsedNs).toBe(0);
  });
});
