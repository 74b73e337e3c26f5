/** Counters of a multipath queue: nothing moves to another path without one of these. */

import type { Tree } from "../../core/index.ts";

export class PathCounters {
  bios = 0;
  /** Bios refused before a path was chosen. */
  rejected = 0;
  /** Bios that found all parts in use and waited. */
  busy = 0;
  /** Tries that ended in a path error or a refusal by the memory, and went on with another path. */
  failovers = 0;
  /** Bios that ended in a path error, all paths tried. */
  exhausted = 0;
  /** By path: parts sent, under way, ended in a path error, kept away by the re-check. */
  readonly sent: number[];
  readonly inFlight: number[];
  readonly errors: number[];
  readonly refused: number[];

  constructor(paths: number) {
    const zeros = (): number[] => new Array<number>(paths).fill(0);
    this.sent = zeros();
    this.inFlight = zeros();
    this.errors = zeros();
    this.refused = zeros();
  }

  inspect(): Tree {
    return Object.fromEntries(Object.entries(this));
  }
}
