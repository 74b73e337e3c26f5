/**
 * What a disabled trace point costs: the guard that every call site has, on work of about the size of
 * a queue entry, against the same work without it.
 */

import { Event, Tracer } from "../src/trace/index.ts";
import { type Bench, formatNs, interleave } from "./lib.ts";

const WORDS = 16;

export const traceOff: Bench = {
  name: "trace-off",
  claim: "rate of filling a 64-byte entry with a disabled trace point, as a share of without one",
  run(clock) {
    const tracer = new Tracer(() => 0);
    const ring = new Uint32Array(1024 * WORDS);
    const traced = (calls: number): void => {
      for (let i = 0; i < calls; i++) {
        const at = (i & 1023) * WORDS;
        for (let word = 0; word < WORDS; word++) ring[at + word] = i + word;
        if (tracer.on) tracer.emit(Event.dmaWrite, i, at, WORDS * 4);
      }
    };
    const plain = (calls: number): void => {
      for (let i = 0; i < calls; i++) {
        const at = (i & 1023) * WORDS;
        for (let word = 0; word < WORDS; word++) ring[at + word] = i + word;
      }
    };
    const { ratio, subjectNs, referenceNs } = interleave(clock, traced, plain, { calls: 500_000 });
    return {
      ratio,
      limit: 0.95,
      bound: "at-least",
      figures: `with ${formatNs(subjectNs)}, without ${formatNs(referenceNs)}`,
    };
  },
};
