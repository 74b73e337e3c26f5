/**
 * Small DMAs, as controllers do them by the million: a 64-byte fetch that is lent, a 4 KiB write.
 * The fabric's share of the time of an I/O is this, so it is measured per call against the bare
 * copy.
 */

import { Span } from "../src/core/index.ts";
import { MIB } from "../testing/machines.ts";
import { peerPair } from "./fabric-dma.ts";
import { type Bench, formatNs, interleave } from "./lib.ts";

const BAR = 16 * MIB;

export const fabricWrite4k: Bench = {
  name: "fabric-write-4k",
  claim: "4 KiB peer write through the fabric, as a share of the rate of one Uint8Array.set",
  run(clock) {
    const { port, peerBus } = peerPair(BAR);
    const source = new Uint8Array(BAR);
    const target = new Uint8Array(BAR);
    const dma = (calls: number): void => {
      for (let i = 0; i < calls; i++) {
        const at = (i % 256) * 4096;
        port.write(peerBus + at, source, at, 4096);
      }
    };
    const set = (calls: number): void => {
      for (let i = 0; i < calls; i++) {
        const at = (i % 256) * 4096;
        target.set(source.subarray(at, at + 4096), at);
      }
    };
    const { ratio, subjectNs, referenceNs } = interleave(clock, dma, set, { calls: 50_000 });
    return {
      ratio,
      limit: 0.8,
      bound: "at-least",
      figures: `DMA ${formatNs(subjectNs)}, set ${formatNs(referenceNs)}`,
    };
  },
};

export const fabricBorrow64: Bench = {
  name: "fabric-borrow-64",
  claim: "time of a lent 64-byte fetch from a peer, in times of a copied one",
  run(clock) {
    const { port, peerBus } = peerPair(BAR);
    const span = new Span();
    const target = new Uint8Array(64);
    const lend = (calls: number): void => {
      for (let i = 0; i < calls; i++) port.borrow(peerBus + (i % 1024) * 64, 64, span);
    };
    const copy = (calls: number): void => {
      for (let i = 0; i < calls; i++) port.read(peerBus + (i % 1024) * 64, target, 0, 64);
    };
    const { ratio, subjectNs, referenceNs } = interleave(clock, lend, copy, { calls: 200_000 });
    return {
      ratio: 1 / ratio,
      limit: 1,
      bound: "at-most",
      figures: `lent ${formatNs(subjectNs)}, copied ${formatNs(referenceNs)}`,
    };
  },
};
