/**
 * What a person waits for: `peerlane explain` from the shell on a dump that is in the page cache,
 * Node's own start included; and the table of all pairs of a big server as JSON, with reasons.
 *
 * What a person waits for is a time, so the first is one: 150 ms, beside a Node that does nothing,
 * whose start is most of it and differs several times between machines.
 */

import { spawnSync } from "node:child_process";
import { existsSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { Prng } from "../src/core/index.ts";
import { matrixJson, matrixOf } from "../src/planner/index.ts";
import type { Clock } from "../src/platform/index.ts";
import { largeMachine } from "../testing/random-machine.ts";
import { type Bench, formatNs, interleave, median } from "./lib.ts";

const ROOT = fileURLToPath(new URL("..", import.meta.url));
const HGX = `${ROOT}scenarios/machines/hgx-h100-gpud.vvv.txt`;
const TARGET_NS = 150e6;
const ROUNDS = 9;

const ms = (ns: number): string => `${(ns / 1e6).toFixed(0)} ms`;

/** Certificates that a shell has Node read at start are no part of either: see docs/rooms/planner.md. */
const { NODE_EXTRA_CA_CERTS: _certificates, ...ENV } = process.env;

function run(args: readonly string[]): void {
  const { status, error, stderr } = spawnSync(process.execPath, args, { cwd: ROOT, env: ENV });
  if (error !== undefined || status !== 0) throw new Error(`node ${args.join(" ")}: ${stderr}`);
}

export const explainStart: Bench = {
  name: "explain-start",
  claim: "wall time of explain on a 517-function dump, Node's start included, in times of 150 ms",
  run(clock: Clock) {
    if (!existsSync(`${ROOT}dist/planner.script.js`)) throw new Error("run `npm run build` first");
    const explain = ["bin/peerlane.cjs", "explain", "1a:00.0", "19:00.0", "-m", HGX];
    const time = (args: readonly string[]): number => {
      const start = clock.nowNs();
      run(args);
      return clock.nowNs() - start;
    };
    // The file is warm after the first.
    time(explain);
    const rounds = Array.from({ length: ROUNDS }, () => [time(explain), time(["-e", "0"])]);
    const [subjectNs, nodeNs] = [0, 1].map((at) => median(rounds.map((round) => round[at])));
    const times = median(rounds.map(([subject, node]) => subject / node));
    return {
      ratio: subjectNs / TARGET_NS,
      limit: 1,
      bound: "at-most",
      figures:
        `${ms(subjectNs)}, fastest ${ms(Math.min(...rounds.map((round) => round[0])))}; ` +
        `Node that does nothing ${ms(nodeNs)}, ${times.toFixed(2)} times that`,
    };
  },
};

const MATRIX_TARGET_NS = 500e6;

export const matrixJson1024: Bench = {
  name: "matrix-json-1024",
  claim: "all pairs of 1,024 functions with reasons, from the snapshot, in times of 500 ms",
  run(clock: Clock) {
    const machine = largeMachine(1024, new Prng(1));
    let written = 0;
    const judge = (calls: number): void => {
      for (let i = 0; i < calls; i++) matrixOf(machine, { all: true });
    };
    const write = (calls: number): void => {
      for (let i = 0; i < calls; i++) {
        for (const piece of matrixJson(matrixOf(machine, { all: true }))) written += piece.length;
      }
    };
    const { subjectNs, referenceNs } = interleave(clock, judge, write, { calls: 1, rounds: 5 });
    if (written === 0) throw new Error("nothing was written");
    return {
      ratio: subjectNs / MATRIX_TARGET_NS,
      limit: 1,
      bound: "at-most",
      figures: `${formatNs(subjectNs)}; with a million pairs written as JSON ${formatNs(referenceNs)}`,
    };
  },
};
