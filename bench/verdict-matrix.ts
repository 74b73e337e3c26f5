/**
 * Verdicts for all ordered pairs of a machine: how long the table of a big server takes, from the
 * snapshot on, as a share of the time a person is asked to wait. Beside it, for scale, a bare loop
 * that writes the same table.
 */

import { Prng } from "../src/core/index.ts";
import { Rules, Topology, VerdictMatrix } from "../src/p2p/index.ts";
import type { Clock } from "../src/platform/index.ts";
import { largeMachine } from "../testing/random-machine.ts";
import { type Bench, formatNs, interleave } from "./lib.ts";

/** Writes all four columns, deciding nothing. */
function fill(matrix: VerdictMatrix): void {
  const { count } = matrix;
  for (let provider = 0; provider < count; provider++) {
    for (let client = 0; client < count; client++) {
      const at = matrix.at(provider, client);
      matrix.mapType[at] = provider & 3;
      matrix.distance[at] = client;
      matrix.rawDistance[at] = client;
      matrix.reason[at] = client & 7;
    }
  }
}

function bench(functions: number, targetMs: number): Bench {
  return {
    name: `verdict-matrix-${functions}`,
    claim: `all pairs of ${functions} functions from the snapshot, in times of ${targetMs} ms`,
    run(clock: Clock) {
      const machine = largeMachine(functions, new Prng(1));
      const out = new VerdictMatrix(functions);
      const evaluate = (calls: number): void => {
        for (let i = 0; i < calls; i++) new Rules(new Topology(machine)).matrix(out);
      };
      const bare = (calls: number): void => {
        for (let i = 0; i < calls; i++) fill(out);
      };
      const { subjectNs, referenceNs } = interleave(clock, evaluate, bare, { calls: 2, rounds: 7 });
      return {
        ratio: subjectNs / (targetMs * 1e6),
        limit: 1,
        bound: "at-most",
        figures: `${formatNs(subjectNs)} (writing the table alone ${formatNs(referenceNs)})`,
      };
    },
  };
}

export const verdictMatrix256 = bench(256, 50);
export const verdictMatrix1024 = bench(1024, 500);
