/**
 * CPU of one 4 KiB peer I/O in building, mapping and unmapping: a lease against a page, against a
 * bare DMA address, and under a strict IOMMU against a physical address that maps per I/O. On the
 * machine that `peerlane compare` shows by default in small: same code, fewer functions.
 */

import {
  type CompareDescription,
  chooseSubject,
  DEFAULT_WORKLOAD,
  IoLoop,
  openDescription,
  setUp,
} from "../src/scenario/index.ts";
import { peerMachineSnapshot } from "../testing/peer-setup.ts";
import { type Bench, cpuClock, interleave } from "./lib.ts";

type Route = "bus" | "host-bridge";

function loopOf(kind: CompareDescription, route: Route): IoLoop {
  const machine = peerMachineSnapshot();
  const setup = setUp(machine, chooseSubject(machine), route === "bus" ? "off" : "strict");
  const device = route === "bus" ? setup.near : (setup.far ?? setup.near);
  return new IoLoop(
    openDescription(kind, setup, setup.provider(), [device]),
    device.id,
    DEFAULT_WORKLOAD,
  );
}

function ioBench(reference: CompareDescription, route: Route, limit: number): Bench {
  return {
    name: `memory-io-${reference}`,
    claim: `CPU of 4 KiB build, map and unmap of a lease, in times of ${reference}, ${route}`,
    run() {
      const [lease, other] = [loopOf("lease", route), loopOf(reference, route)];
      const run = (loop: IoLoop) => (calls: number) => {
        for (let done = 0; done < calls; done += loop.batch) loop.runAll();
      };
      const { ratio, subjectNs, referenceNs } = interleave(cpuClock, run(lease), run(other), {
        calls: 102400,
        rounds: 21,
      });
      const times = `lease ${subjectNs.toFixed(1)} ns, ${reference} ${referenceNs.toFixed(1)} ns`;
      const isWhole = lease.refused + other.refused === 0;
      return {
        ratio: 1 / ratio,
        limit,
        bound: "at-most",
        figures: isWhole ? times : "some I/O was refused: the figures mean nothing",
      };
    },
  };
}

export const memoryIoPage = ioBench("page", "bus", 0.5);
export const memoryIoDmaAddress = ioBench("dma-address", "bus", 1.05);
export const memoryIoPhysStrict = ioBench("phys", "host-bridge", 0.3);
