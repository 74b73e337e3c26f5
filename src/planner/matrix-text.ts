/**
 * The table of all pairs as a grid for a terminal: a row per provider, a column per client, then
 * what the letters mean and why, counted. Wide tables are cut into blocks of columns.
 */

import {
  alignColumns,
  alignWithin,
  formatBdf,
  formatCount,
  type Paint,
  padEnd,
  padStart,
  widthOf,
  wrap,
} from "../core/index.ts";
import type { PciFunction } from "../machine/index.ts";
import { formatVersion, MapType, REASONS } from "../p2p/index.ts";
import { deviceName, kindName, sharesMemory } from "./interest.ts";
import type { MatrixReport } from "./matrix.ts";
import { type Page, pageOf } from "./page.ts";
import { countRoute, type RouteCounts, routeSummary } from "./route-counts.ts";

const NAME_COLUMNS = 44;
/** Of a grid in a pipe: wide tables are cut into blocks there too. */
const PIPE_COLUMNS = 100;
const REGISTERS = "registers only";

/** `columns`: those of the terminal; none for a pipe. */
export function renderMatrix(report: MatrixReport, colors?: Paint, columns?: number): string {
  const paint = pageOf(colors, columns);
  const lines = [
    ...summary(report, paint),
    "",
    ...grid(report, paint, columns ?? PIPE_COLUMNS),
    "",
    ...legend(report, paint),
  ];
  for (const note of report.notes)
    lines.push(...wrap(`${paint.warn("note")}  ${note}`, paint.prose));
  return `${lines.join("\n")}\n`;
}

/** How many pairs there are of each kind, then of what. */
function summary(report: MatrixReport, paint: Page): string[] {
  const { machine, rules, shown } = report;
  const counts = countPairs(report);
  const answer = routeSummary(counts, paint);
  const doubtful = hasDoubt(report) ? " (?: the dump does not tell enough)" : "";
  const all = formatCount(machine.functions.length);
  const count = `${formatCount(shown.length)} of ${all} functions`;
  const by = `rules ${rules.ruleSet.id}, Linux ${formatVersion(rules.version)}`;
  const total = counts.direct + counts.through + counts.refused;
  const pairs = `${formatCount(total)} ${total === 1 ? "pair" : "pairs"}`;
  return [
    ...wrap(total === 0 ? "no pair to judge" : `${pairs}: ${answer}${doubtful}`, paint.prose),
    ...wrap(`${machine.name}, ${count}, ${by}`, paint.prose).map(paint.dim),
  ];
}

interface PairCounts extends RouteCounts {
  /** By reason. */
  readonly reasons: Map<number, number>;
}

/** Pairs of the rows that have verdicts, a function with itself left out. */
function countPairs({ verdicts, shown, providers }: MatrixReport): PairCounts {
  const counts: PairCounts = { direct: 0, through: 0, refused: 0, reasons: new Map() };
  for (const provider of providers) {
    for (const client of shown) {
      if (provider === client) continue;
      const at = verdicts.at(provider, client);
      countRoute(counts, verdicts.mapType[at] as MapType);
      const reason = verdicts.reason[at];
      counts.reasons.set(reason, (counts.reasons.get(reason) ?? 0) + 1);
    }
  }
  return counts;
}

/** Names without the domain where there is only one. */
function namer({ functions }: MatrixReport["machine"]): (fn: PciFunction) => string {
  const isPlain = functions.every((fn) => fn.bdf < 2 ** 16);
  return (fn) => (isPlain ? formatBdf(fn.bdf).slice(5) : formatBdf(fn.bdf));
}

/** Width of a cell: `B4`, `H12`, and a space; one more where there are question marks. */
const cellWidth = (report: MatrixReport): number => (hasDoubt(report) ? 5 : 4);

/** True where a pair of the grid has a question mark. */
const hasDoubt = ({ verdicts, uncertain, shown, providers }: MatrixReport): boolean =>
  providers.some((provider) => shown.some((at) => uncertain[verdicts.at(provider, at)] === 1));
const TITLE = "provider (row), client (column)";

function grid(report: MatrixReport, paint: Page, columns: number): string[] {
  const { machine, shown, providers } = report;
  const cellColumns = cellWidth(report);
  const nameOf = namer(machine);
  const headsWith = (nameColumns: number): string[] =>
    alignColumns(
      shown.map((at, i) => {
        const fn = machine.functions[at];
        const cells = [paint.dim(String(i)), paint.name(nameOf(fn)), kindName(fn)];
        return nameColumns === 0 ? cells : [...cells, paint.dim(cut(deviceName(fn), nameColumns))];
      }),
    );
  const full = headsWith(NAME_COLUMNS);
  const fits = Math.max(...full.map(widthOf)) + shown.length * cellColumns <= columns;
  const heads = fits ? full : headsWith(0);
  const width = Math.max(TITLE.length, ...heads.map(widthOf));
  const perBlock = Math.max(1, Math.floor((columns - width) / cellColumns));
  const lines: string[] = [];
  for (let first = 0; first < shown.length; first += perBlock) {
    const block = shown.slice(first, first + perBlock);
    if (first > 0) lines.push("");
    const numbers = block
      .map((_, i) => paint.dim(String(first + i).padStart(cellColumns)))
      .join("");
    lines.push(padEnd(paint.dim(first === 0 ? TITLE : ""), width) + numbers);
    shown.forEach((provider, row) => {
      if (providers.includes(provider)) {
        const cells = block.map((client) => cell(report, provider, client, cellColumns, paint));
        lines.push(padEnd(heads[row], width) + cells.join(""));
      } else if (first === 0) {
        // Its number is a column's all the same.
        lines.push(`${padEnd(heads[row], width)}  ${paint.dim(REGISTERS)}`);
      }
    });
  }
  return lines;
}

const cut = (text: string, columns: number): string =>
  text.length > columns ? `${text.slice(0, columns - 1)}…` : text;

function cell(
  { verdicts, uncertain }: MatrixReport,
  provider: number,
  client: number,
  columns: number,
  paint: Paint,
): string {
  const at = verdicts.at(provider, client);
  if (provider === client) return paint.dim("=".padStart(columns));
  const distance = verdicts.distance[at];
  const type = verdicts.mapType[at];
  const word =
    type === MapType.busAddr
      ? `B${distance}`
      : type === MapType.thruHostBridge
        ? `H${distance}`
        : "--";
  if (uncertain[at] === 1) return paint.warn(`${word}?`.padStart(columns));
  const by = { B: paint.good, H: paint.warn, "-": paint.bad }[word[0] as "B"];
  return by(word.padStart(columns));
}

/** What has a row without verdicts, and why. */
function hiddenLines({ machine, shown, providers }: MatrixReport): string[] {
  const hidden = shown.filter((at) => !providers.includes(at));
  if (hidden.length > 0) {
    return [`${REGISTERS}: no memory to share shows in its BARs; --all judges all the same`];
  }
  const hasMemory = providers.some((at) => sharesMemory(machine.functions[at]));
  return hasMemory ? [] : ["none of them shows memory to share, only registers"];
}

/** What a question mark means here. */
const unknownLines = (report: MatrixReport, paint: Page): string[] =>
  (hasDoubt(report) ? report.unknowns : []).flatMap(({ text, remedy }) =>
    wrap(`${paint.warn("?")} ${text}; ${remedy}`, paint.prose),
  );

/** The letters that occur in the grid. */
function keyLine({ direct, through, refused }: PairCounts, paint: Page): string {
  const parts = [
    direct === 0 ? "" : `${paint.good("B4")} by bus address, distance 4`,
    through === 0 ? "" : `${paint.warn("H4")} through the host bridge, distance 4`,
    refused === 0 ? "" : `${paint.bad("--")} refused`,
  ];
  return parts.filter((part) => part !== "").join("; ");
}

function legend(report: MatrixReport, paint: Page): string[] {
  const counts = countPairs(report);
  const widest = Math.max(0, ...[...counts.reasons.values()].map((n) => formatCount(n).length));
  const rows = [...counts.reasons]
    .sort((a, b) => b[1] - a[1] || a[0] - b[0])
    .map(([reason, count]) => [
      `${padStart(formatCount(count), widest)} ${count === 1 ? "pair" : "pairs"}`,
      paint.name(REASONS[reason].code),
      REASONS[reason].text,
    ]);
  const why = alignWithin(rows, paint.columns - 2).map((line) => `  ${line}`);
  // A line to paste is not wrapped.
  const ask = ["why, and what fixes it:", `  peerlane explain CLIENT PROVIDER ${report.given}`];
  const key = keyLine(counts, paint);
  return [
    ...(key === "" ? [] : wrap(key, paint.prose)),
    ...unknownLines(report, paint),
    ...why,
    ...hiddenLines(report)
      .flatMap((line) => wrap(line, paint.prose))
      .map(paint.dim),
    ...ask.map(paint.dim),
  ];
}
