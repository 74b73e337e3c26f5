/**
 * A 4 KiB write of a remote host, everything included: host queue, RNIC, wire, RNIC, target, block,
 * NVMe driver and controller, all simulated devices and two copies of the data (RNIC to CMB, CMB to
 * medium) on one thread. CPU time, since the claim is about work, not about who else uses the
 * machine.
 */

import { bytesPerCall, retainedBytes } from "../testing/heap.ts";
import { WriteLoad } from "../testing/write-load.ts";
import { type Bench, cpuClock, interleave, median } from "./lib.ts";

const DEPTH = 32;
const WARM_UP = 60_000;

/** Microseconds of CPU per I/O. */
function cpuMicros(load: WriteLoad, ios: number): number {
  const start = cpuClock.nowNs();
  load.run(ios);
  return (cpuClock.nowNs() - start) / 1000 / ios;
}

export const nvmetWrite: Bench = {
  name: "nvmet-write",
  claim: "microseconds of CPU for a 4 KiB write over RDMA, into the CMB and onto the disk",
  async run() {
    const load = await WriteLoad.open({ description: "dma-address", depth: DEPTH });
    load.run(WARM_UP);
    const times = Array.from({ length: 9 }, () => cpuMicros(load, 50_000));
    return {
      // The least disturbed rounds: others on the machine take caches, not instructions.
      ratio: Math.min(...times),
      limit: 4,
      bound: "at-most",
      figures: `median ${median(times).toFixed(2)} us, best ${Math.min(...times).toFixed(2)} us`,
    };
  },
};

export const nvmetLease: Bench = {
  name: "nvmet-lease",
  claim: "time of that write with a lease, in times of one with bare DMA addresses",
  async run() {
    const lease = await WriteLoad.open({ description: "lease", depth: DEPTH });
    const address = await WriteLoad.open({ description: "dma-address", depth: DEPTH });
    // Both through the same call sites before anything counts.
    lease.run(WARM_UP);
    address.run(WARM_UP);
    const { ratio, subjectNs, referenceNs } = interleave(
      cpuClock,
      (ios) => lease.run(ios),
      (ios) => address.run(ios),
      { calls: 10_000, rounds: 41 },
    );
    const figures = `lease ${us(subjectNs)}, DMA address ${us(referenceNs)}`;
    return { ratio: 1 / ratio, limit: 1.05, bound: "at-most", figures };
  },
};

export const nvmetHeap: Bench = {
  name: "nvmet-heap",
  claim: "bytes that a million writes leave on the heap, per write",
  async run() {
    const load = await WriteLoad.open({ description: "lease", depth: DEPTH });
    load.run(WARM_UP);
    const garbage = bytesPerCall(50_000, (ios) => load.run(ios));
    const retained = retainedBytes(() => load.run(1_000_000));
    return {
      ratio: Math.max(0, retained) / 1_000_000,
      limit: 0.05,
      bound: "at-most",
      figures: `${retained} bytes kept after 1,000,000; ${garbage.toFixed(1)} bytes of garbage each`,
    };
  },
};

const us = (ns: number): string => `${(ns / 1000).toFixed(2)} us`;
