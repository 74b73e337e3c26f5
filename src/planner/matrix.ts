/**
 * Verdicts for all ordered pairs of a machine, as data: for programs (JSON, kept stable; CSV), and
 * for the grid in matrix-text.ts.
 *
 * The table of all pairs can be large (1,024 functions: a million pairs), so both forms are written
 * in pieces, a provider at a time, and the few different endings of a line are made once.
 *
 * A pair whose route depends on what the dump does not tell (a CPU, the kernel, ACS of a port) says
 * so: it has `"uncertain":true` besides. Of a dump that tells all, no pair has.
 *
 * Invariant: `{"pairs":[{"provider","client","mapType","distance","reason"}]}`, map types by the
 * kernel's names, -1 for a refused distance; every ordered pair, a function with itself included,
 * since the kernel answers for that one too.
 */

import { formatBdf } from "../core/index.ts";
import type { Machine, NvsmiComparison } from "../machine/index.ts";
import { MAP_TYPE_NAMES, REASONS, type Rules, type VerdictMatrix } from "../p2p/index.ts";
import { type Doubt, uncertainPairs } from "./dependence.ts";
import { interestOf, sharesMemory } from "./interest.ts";
import { rulesFor } from "./machine-rules.ts";
import { FILE_TO_BE_NAMED } from "./page.ts";

export interface MatrixOptions {
  /** Every function; left out: those of interest. */
  readonly all?: boolean | undefined;
  /** Id of a rule set. */
  readonly rules?: string | undefined;
  /** How `explain` is given this machine: `-m lspci.txt --kernel 5.15`. */
  readonly given?: string | undefined;
}

export interface MatrixReport {
  readonly machine: Machine;
  readonly rules: Rules;
  readonly verdicts: VerdictMatrix;
  /** Positions of the functions shown. */
  readonly shown: readonly number[];
  /** Those of `shown` that a grid has rows for: what has memory to share. */
  readonly providers: readonly number[];
  /** By position as in `verdicts`: 1 where what the dump does not tell would change the route. */
  readonly uncertain: Uint8Array;
  /** What that is. */
  readonly unknowns: readonly Doubt[];
  readonly notes: readonly string[];
  readonly given: string;
}

/** Judges all pairs. */
export function matrixOf(machine: Machine, options: MatrixOptions = {}): MatrixReport {
  const { rules, notes } = rulesFor(machine, options.rules);
  const all = options.all === true;
  const shown = all ? machine.functions.map((_, i) => i) : interestOf(machine);
  const verdicts = rules.matrix();
  const { pairs, why } = uncertainPairs(rules, verdicts, shown, options.rules);
  const sharing = shown.filter((at) => sharesMemory(machine.functions[at]));
  const providers = all || sharing.length === 0 ? shown : sharing;
  const given = options.given ?? FILE_TO_BE_NAMED;
  const doubts = { uncertain: pairs, unknowns: why };
  return { machine, rules, verdicts, shown, providers, ...doubts, notes, given };
}

type Ending = (mapType: string, distance: number, reason: string, uncertain: boolean) => string;

/** One piece per provider: each ordered pair as `begin(provider) + client + ending`. */
function* rows(
  { machine, verdicts, shown, uncertain }: MatrixReport,
  begin: (provider: string) => string,
  ending: Ending,
  between: string,
): Generator<string> {
  const names = machine.functions.map((fn) => formatBdf(fn.bdf));
  const endings = new Map<number, string>();
  for (const provider of shown) {
    const start = begin(names[provider]);
    const lines: string[] = [];
    for (const client of shown) {
      const at = verdicts.at(provider, client);
      const mapType = verdicts.mapType[at];
      const distance = verdicts.distance[at];
      const reason = verdicts.reason[at];
      const key = ((distance + 1) * 4096 + mapType * 256 + reason) * 2 + uncertain[at];
      let end = endings.get(key);
      if (end === undefined) {
        end = ending(MAP_TYPE_NAMES[mapType], distance, REASONS[reason].code, uncertain[at] === 1);
        endings.set(key, end);
      }
      lines.push(start + names[client] + end);
    }
    yield lines.join(between);
  }
}

/** JSON in pieces, one pair per line; what nvidia-smi says differently behind them, where given. */
export function* matrixJson(
  report: MatrixReport,
  nvsmi: NvsmiComparison | null = null,
): Generator<string> {
  const begin = (provider: string): string => `{"provider":"${provider}","client":"`;
  const ending: Ending = (mapType, distance, reason, uncertain) => {
    const mark = uncertain ? ',"uncertain":true' : "";
    return `","mapType":"${mapType}","distance":${distance},"reason":"${reason}"${mark}}`;
  };
  yield '{"pairs":[\n';
  let isFirst = true;
  for (const row of rows(report, begin, ending, ",\n")) {
    yield isFirst ? row : `,\n${row}`;
    isFirst = false;
  }
  yield nvsmi === null ? "\n]}\n" : `\n],"nvsmi":${JSON.stringify(nvsmi)}}\n`;
}

/** CSV in pieces (RFC 4180), with a header. */
export function* matrixCsv(report: MatrixReport): Generator<string> {
  const ending: Ending = (mapType, distance, reason, uncertain) =>
    `,${mapType},${distance},${reason},${uncertain ? "yes" : "no"}`;
  yield "provider,client,mapType,distance,reason,uncertain\r\n";
  for (const row of rows(report, (provider) => `${provider},`, ending, "\r\n")) yield `${row}\r\n`;
}
