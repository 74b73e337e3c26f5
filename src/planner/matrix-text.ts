/**
 * The table of all pairs as a grid for a terminal: a row per provider, a column per client, then
 * what the letters mean and why, counted. Wide tables are cut into blocks of columns.
 */

import {
  alignColumns,
  formatBdf,
  formatCount,
  type Paint,
  PLAIN,
  widthOf,
  wrap,
} from "../core/index.ts";
import type { PciFunction } from "../machine/index.ts";
import { formatVersion, MapType, REASONS } from "../p2p/index.ts";
import { deviceName, kindName, sharesMemory } from "./interest.ts";
import type { MatrixReport } from "./matrix.ts";

export interface GridOptions {
  readonly paint?: Paint;
  /** Columns of the terminal. */
  readonly columns?: number;
}

const NAME_COLUMNS = 44;
const TEXT_COLUMNS = 100;
const REGISTERS = "registers only";

export function renderMatrix(report: MatrixReport, options: GridOptions = {}): string {
  const paint = options.paint ?? PLAIN;
  const lines = [headline(report, paint), ""];
  lines.push(...grid(report, paint, options.columns ?? 100));
  lines.push("", ...legend(report, paint));
  for (const note of report.notes) lines.push(paint.warn(`note: ${note}`));
  return `${lines.join("\n")}\n`;
}

function headline({ machine, rules, shown }: MatrixReport, paint: Paint): string {
  const count =
    `${formatCount(shown.length)} of ` + `${formatCount(machine.functions.length)} functions`;
  const by = `rules ${rules.ruleSet.id}, Linux ${formatVersion(rules.version)}`;
  return `${paint.bold(machine.name)}  ${count}, ${by}`;
}

/** Names without the domain where there is only one. */
function namer({ functions }: MatrixReport["machine"]): (fn: PciFunction) => string {
  const isPlain = functions.every((fn) => fn.bdf < 2 ** 16);
  return (fn) => (isPlain ? formatBdf(fn.bdf).slice(5) : formatBdf(fn.bdf));
}

/** Width of a cell: `B4`, `H12`, and a space; one more where there are question marks. */
const cellWidth = ({ uncertain }: MatrixReport): number => (uncertain.includes(1) ? 5 : 4);
const TITLE = "provider (row), client (column)";

function grid(report: MatrixReport, paint: Paint, columns: number): string[] {
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
    lines.push(padded(paint.dim(first === 0 ? TITLE : ""), width) + numbers);
    shown.forEach((provider, row) => {
      if (providers.includes(provider)) {
        const cells = block.map((client) => cell(report, provider, client, cellColumns, paint));
        lines.push(padded(heads[row], width) + cells.join(""));
      } else if (first === 0) {
        // Its number is a column's all the same.
        lines.push(`${padded(heads[row], width)}  ${paint.dim(REGISTERS)}`);
      }
    });
  }
  return lines;
}

const cut = (text: string, columns: number): string =>
  text.length > columns ? `${text.slice(0, columns - 1)}…` : text;

const padded = (text: string, width: number): string =>
  text + " ".repeat(Math.max(0, width - widthOf(text)));

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
function hiddenLines({ machine, shown, providers }: MatrixReport, paint: Paint): string[] {
  const hidden = shown.filter((at) => !providers.includes(at));
  if (hidden.length > 0) {
    const what = `${REGISTERS}: no memory to share shows in its BARs; --all judges all the same`;
    return [paint.dim(what)];
  }
  const hasMemory = providers.some((at) => sharesMemory(machine.functions[at]));
  return hasMemory ? [] : [paint.dim("none of them shows memory to share, only registers")];
}

/** What a question mark means here. */
function unknownLines({ uncertain, unknowns }: MatrixReport, paint: Paint): string[] {
  if (!uncertain.includes(1)) return [];
  const lines = unknowns.flatMap(({ text, remedy }) => [
    ...wrap(`${paint.warn("?")} ${text}, it would be otherwise; ${remedy}`, TEXT_COLUMNS),
  ]);
  return lines;
}

function legend(report: MatrixReport, paint: Paint): string[] {
  const { verdicts, shown, providers } = report;
  const byReason = new Map<number, number>();
  for (const provider of providers) {
    for (const client of shown) {
      if (provider === client) continue;
      const reason = verdicts.reason[verdicts.at(provider, client)];
      byReason.set(reason, (byReason.get(reason) ?? 0) + 1);
    }
  }
  const key =
    `${paint.good("B4")} by bus address, distance 4   ${paint.warn("H4")} through the ` +
    "host bridge   " +
    `${paint.bad("--")} refused   = the function itself`;
  const rows = [...byReason]
    .sort((a, b) => b[1] - a[1] || a[0] - b[0])
    .map(([reason, count]) => [
      formatCount(count),
      count === 1 ? "pair" : "pairs",
      paint.name(REASONS[reason].code),
      REASONS[reason].text,
    ]);
  const why = alignColumns(rows, [true]).map((line) => `  ${line}`);
  const ask = "why, and what fixes it: peerlane explain CLIENT PROVIDER -m FILE";
  return [
    key,
    ...unknownLines(report, paint),
    ...why,
    ...hiddenLines(report, paint),
    paint.dim(ask),
  ];
}
