/**
 * What differs between two machines, as text for a terminal: verdicts first, since they are asked
 * for.
 */

import { alignColumns, formatBdf, formatCount, type Paint, PLAIN } from "../core/index.ts";
import type { PciFunction } from "../machine/index.ts";
import { type Change, isSame, type MachineDiff, type VerdictDiff } from "./diff.ts";
import { nameWithKind } from "./interest.ts";

/** Lines of one section before it is cut. */
const LINES_MAX = 60;

export function renderDiff(diff: MachineDiff, paint: Paint = PLAIN): string {
  const head = `${paint.bold(diff.before.name)} and ${paint.bold(diff.after.name)}`;
  if (isSame(diff))
    return `${head}: no difference; ${formatCount(diff.pairs)} pairs have the same verdict\n`;
  const sections = [
    verdictLines(diff, paint),
    section("host", changeLines(diff.host, paint), paint),
    section("gone", functionLines(diff.removed, paint.bad("-")), paint),
    section("new", functionLines(diff.added, paint.good("+")), paint),
    section("moved", movedLines(diff, paint), paint),
    section("changed", changedLines(diff, paint), paint),
  ];
  return `${[head, ...sections.flat()].join("\n")}\n`;
}

function section(title: string, lines: readonly string[], paint: Paint): string[] {
  if (lines.length === 0) return [];
  const shown = lines.slice(0, LINES_MAX);
  const more = lines.length - shown.length;
  const rest = more === 0 ? [] : [paint.dim(`  ${formatCount(more)} more lines (--json has all)`)];
  return ["", paint.bold(title), ...shown.map((line) => `  ${line}`), ...rest];
}

function verdictLines({ verdicts, pairs }: MachineDiff, paint: Paint): string[] {
  const count = `${formatCount(verdicts.length)} of ${formatCount(pairs)}`;
  const head = `${count} pairs changed their verdict`;
  const counts = new Map<string, number>();
  for (const one of verdicts) {
    const key = `${one.before.mapType} to ${one.after.mapType}`;
    counts.set(key, (counts.get(key) ?? 0) + 1);
  }
  const summary = [...counts].map(([key, count]) => `${formatCount(count)}: ${key}`).join("; ");
  const rows = verdicts.map((one) => [
    `${paint.name(formatBdf(one.client))} to ${paint.name(formatBdf(one.provider))}`,
    verdictText(one.before, paint),
    paint.dim("→"),
    verdictText(one.after, paint),
    paint.dim(one.after.reason),
  ]);
  const lines = section("verdicts", alignColumns(rows), paint);
  if (lines.length === 0) return ["", head];
  lines[1] = `${paint.bold("verdicts")}  ${head} (${summary})`;
  return lines;
}

function verdictText({ mapType, distance }: VerdictDiff["before"], paint: Paint): string {
  if (mapType === "NOT_SUPPORTED") return paint.bad("refused");
  const text = `${mapType} ${distance}`;
  return mapType === "BUS_ADDR" ? paint.good(text) : paint.warn(text);
}

const changeLines = (changes: readonly Change[], paint: Paint): string[] =>
  alignColumns(
    changes.map(({ field, before, after }) => [field, before, paint.dim("→"), paint.bold(after)]),
  );

const functionLines = (functions: readonly PciFunction[], sign: string): string[] =>
  functions.map((fn) => `${sign} ${nameWithKind(fn)} ${fn.deviceName ?? ""}`.trimEnd());

const movedLines = ({ moved }: MachineDiff, paint: Paint): string[] =>
  moved.map(({ to, name }) => `${name} ${paint.dim("→")} ${paint.name(formatBdf(to))}`);

function changedLines({ changed }: MachineDiff, paint: Paint): string[] {
  const rows = changed.flatMap(({ name, changes }) =>
    changes.map(({ field, before, after }, i) => [
      i === 0 ? paint.name(name) : "",
      field,
      before,
      paint.dim("→"),
      paint.bold(after),
    ]),
  );
  return alignColumns(rows);
}
