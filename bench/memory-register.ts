/**
 * Registering 80 GiB of device memory without pages: milliseconds (at most one) and bytes (at most
 * 64 KiB), for `lease`, `phys` and `dma-address`; `page` beside them, which takes 1.25 GiB.
 */

import { chooseSubject, measureRegistration, setUp } from "../src/scenario/index.ts";
import { peerMachineSnapshot } from "../testing/peer-setup.ts";
import type { Bench } from "./lib.ts";

const SIZE = 80 * 2 ** 30;
const LEAN = ["lease", "phys", "dma-address"];
const BYTES_MAX = 64 * 1024;

export const memoryRegister: Bench = {
  name: "memory-register",
  claim:
    "milliseconds to register 80 GiB as lease, phys or dma-address, the slowest, within 64 KiB",
  run(clock) {
    const machine = peerMachineSnapshot();
    const setup = setUp(machine, chooseSubject(machine), "off");
    const rows = measureRegistration(setup, clock, [SIZE]);
    const lean = rows.filter(({ description }) => LEAN.includes(description));
    const slowest = Math.max(...lean.map(({ nanoseconds }) => nanoseconds)) / 1e6;
    const isSmall = lean.every(({ allocatedBytes }) => allocatedBytes <= BYTES_MAX);
    const figures = rows.map(
      ({ description, allocatedBytes, nanoseconds }) =>
        `${description} ${(nanoseconds / 1e6).toFixed(3)} ms, ${allocatedBytes} B`,
    );
    return {
      // Over 64 KiB is a miss, however fast.
      ratio: isSmall ? slowest : Number.POSITIVE_INFINITY,
      limit: 1,
      bound: "at-most",
      figures: figures.join("; "),
    };
  },
};
