/**
 * What a lease costs over a bare DMA address, per mapped vector: the price of knowing the
 * initiator, the end and the lifetime of the memory. One or two nanoseconds, which is what matters:
 * a 4 KiB I/O takes microseconds.
 */

import { Direction, DmaAddressMemory, type IoMemory, LeaseMemory } from "../src/memory/index.ts";
import { openLease } from "../src/p2p/index.ts";
import { peerSetup } from "../testing/peer-setup.ts";
import { type Bench, interleave } from "./lib.ts";

export const memoryMap: Bench = {
  name: "memory-map",
  claim: "time to map a vector of a lease, in times of one that carries a DMA address",
  run(clock) {
    const { provider, near, far, rules } = peerSetup("off");
    const lease = new LeaseMemory(openLease({ provider, rules, initiators: [near, far] }));
    const address = new DmaAddressMemory(near.id);
    const bus = provider.busAt(0);
    let sum = 0;
    // One call site for both, as in a driver.
    const map = (memory: IoMemory, base: number, calls: number): void => {
      for (let i = 0; i < calls; i++) {
        sum += memory.map(near.id, base + (i & 0xfff) * 4096, 4096, Direction.toMemory);
      }
    };
    const { ratio, subjectNs, referenceNs } = interleave(
      clock,
      (calls) => map(lease, 0, calls),
      (calls) => map(address, bus, calls),
      { calls: 2_000_000, rounds: 21 },
    );
    const figures = `lease ${subjectNs.toFixed(1)} ns, DMA address ${referenceNs.toFixed(1)} ns`;
    return {
      ratio: 1 / ratio,
      limit: 1.3,
      bound: "at-most",
      figures: sum > 0 ? figures : "nothing was mapped",
    };
  },
};
