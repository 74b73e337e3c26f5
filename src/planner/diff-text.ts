/**
 * What differs between two machines, as text for a terminal: verdicts first, since they are asked
 * for.
 */

import { alignWithin, formatBdf, formatCount, type Paint, wrap } from "../core/index.ts";
import type { PciFunction } from "../machine/index.ts";
import { textOfReason } from "../p2p/index.ts";
import { type Change, isSame, type MachineDiff, type VerdictDiff } from "./diff.ts";
import { nameWithKind } from "./interest.ts";
import { type Page, pageOf } from "./page.ts";

/** Lines of one section before it is cut. */
const LINES_MAX = 60;

/** `columns`: those of the terminal; none for a pipe. */
export function renderDiff(diff: MachineDiff, colors?: Paint, columns?: number): string {
  const paint = pageOf(colors, columns);
  const names =
    diff.before.name === diff.after.name
      ? `${diff.before.name}, before and after`
      : `${diff.before.name}, and ${diff.after.name}`;
  const [answer, ...verdicts] = verdictLines(diff, paint);
  const sections = [
    wrap(answer, paint.prose),
    wrap(names, paint.prose).map(paint.dim),
    verdicts,
    section("host", changeLines(diff.host, paint), paint),
    section("gone", functionLines(diff.removed, paint.bad("-")), paint),
    section("new", functionLines(diff.added, paint.good("+")), paint),
    section("moved", movedLines(diff, paint), paint),
    section("changed", changedLines(diff, paint), paint),
  ];
  return `${sections.flat().join("\n")}\n`;
}

function section(title: string, lines: readonly string[], paint: Paint): string[] {
  if (lines.length === 0) return [];
  const shown = lines.slice(0, LINES_MAX);
  const more = lines.length - shown.length;
  const rest = more === 0 ? [] : [paint.dim(`  ${formatCount(more)} more lines (--json has all)`)];
  return ["", paint.bold(title), ...shown.map((line) => `  ${line}`), ...rest];
}

/** What came of it in one line, then every pair. */
function verdictLines(diff: MachineDiff, paint: Page): string[] {
  const { verdicts, pairs } = diff;
  const all = formatCount(pairs);
  if (isSame(diff)) return [`${paint.bold("no difference")}; ${all} pairs have the same verdict`];
  if (pairs === 0) return ["no pair of devices is in both"];
  if (verdicts.length === 0) return [`no verdict changed, of ${all} pairs; what did, is below`];
  const counts = new Map<string, number>();
  for (const one of verdicts) {
    const key = `${one.before.mapType} to ${one.after.mapType}`;
    counts.set(key, (counts.get(key) ?? 0) + 1);
  }
  const summary = [...counts].map(([key, count]) => `${formatCount(count)} ${key}`).join(", ");
  const changed = paint.bold(`${formatCount(verdicts.length)} of ${all} pairs changed`);
  const rows = verdicts.map((one) => [
    `${paint.name(formatBdf(one.client))} to ${paint.name(formatBdf(one.provider))}`,
    verdictText(one.before, paint),
    paint.dim("→"),
    verdictText(one.after, paint),
  ]);
  return [
    `${changed} their verdict: ${summary}`,
    ...section("verdicts", alignWithin(rows, paint.columns - 2), paint),
    ...section("why they are now as they are", reasonLines(verdicts, paint), paint),
  ];
}

function reasonLines(verdicts: readonly VerdictDiff[], paint: Page): string[] {
  const counts = new Map<string, number>();
  for (const { after } of verdicts) counts.set(after.reason, (counts.get(after.reason) ?? 0) + 1);
  const rows = [...counts]
    .sort(([, a], [, b]) => b - a)
    .map(([code, count]) => [formatCount(count), paint.name(code), textOfReason(code) ?? ""]);
  return alignWithin(rows, paint.columns - 2);
}

function verdictText({ mapType, distance }: VerdictDiff["before"], paint: Paint): string {
  if (mapType === "NOT_SUPPORTED") return paint.bad("refused");
  const text = `${mapType} ${distance}`;
  return mapType === "BUS_ADDR" ? paint.good(text) : paint.warn(text);
}

const changeLines = (changes: readonly Change[], paint: Page): string[] =>
  alignWithin(
    changes.map(({ field, before, after }) => [field, before, paint.dim("→"), paint.bold(after)]),
    paint.columns - 4,
  );

const functionLines = (functions: readonly PciFunction[], sign: string): string[] =>
  functions.map((fn) => `${sign} ${nameWithKind(fn)} ${fn.deviceName ?? ""}`.trimEnd());

const movedLines = ({ moved }: MachineDiff, paint: Paint): string[] =>
  moved.map(({ to, name }) => `${name} ${paint.dim("→")} ${paint.name(formatBdf(to))}`);

/** Each function, and below it what changed. */
const changedLines = ({ changed }: MachineDiff, paint: Page): string[] =>
  changed.flatMap(({ name, changes }) => [
    paint.name(name),
    ...changeLines(changes, paint).map((line) => `  ${line}`),
  ]);
