/**
 * Reading a dump of 4 MB to a machine, as a share of the half second that a person should wait at
 * most. Two kinds: hex and text of whole configuration space, and text alone. Beside it, for scale,
 * finding the lines of the same text.
 */

import { importMachine } from "../src/machine/index.ts";
import type { Clock } from "../src/platform/index.ts";
import { readText, shippedPath } from "../testing/recorded.ts";
import { type Bench, formatNs, interleave } from "./lib.ts";

const DUMP_BYTES = 4e6;
const TARGET_MS = 500;

/**
 * The dump again and again, each time in a domain and on a node of its own: a copy that is the same
 * text would not be read again (TextMemo).
 */
function repeated(text: string): string {
  const copies: string[] = [];
  let length = 0;
  for (let domain = 0; length < DUMP_BYTES; domain++) {
    const name = domain.toString(16).padStart(4, "0");
    const copy = text
      .replaceAll(/^(?=[0-9a-f]{2}:[0-9a-f]{2}\.[0-7] )/gm, `${name}:`)
      .replaceAll(/NUMA node: \d/g, `NUMA node: ${domain}`);
    copies.push(copy);
    length += copy.length;
  }
  return copies.join("");
}

function countLines(text: string): number {
  let lines = 0;
  for (let at = text.indexOf("\n"); at >= 0; at = text.indexOf("\n", at + 1)) lines++;
  return lines;
}

function bench(name: string, file: string): Bench {
  return {
    name: `parse-lspci-${name}`,
    claim: `4 MB of lspci ${name} to a machine, in times of ${TARGET_MS} ms`,
    run(clock: Clock) {
      const bytes = new TextEncoder().encode(repeated(readText(shippedPath(file))));
      let functions = 0;
      const parse = (calls: number): void => {
        for (let i = 0; i < calls; i++) {
          functions = importMachine([{ name: "dump.txt", bytes }]).functions.length;
        }
      };
      const lines = (calls: number): void => {
        for (let i = 0; i < calls; i++) countLines(new TextDecoder().decode(bytes));
      };
      const { subjectNs, referenceNs } = interleave(clock, parse, lines, { calls: 1, rounds: 7 });
      const rate = (bytes.length / subjectNs) * 1e3;
      return {
        ratio: subjectNs / (TARGET_MS * 1e6),
        limit: 1,
        bound: "at-most",
        figures:
          `${formatNs(subjectNs)} for ${functions} functions, ${rate.toFixed(0)} MB/s ` +
          `(finding its lines alone ${formatNs(referenceNs)})`,
      };
    },
  };
}

export const parseLspciHex = bench("hex", "01-same-switch/lspci.txt");
export const parseLspciText = bench("text", "hgx-h100-gpud.vvv.txt");
