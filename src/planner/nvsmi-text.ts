/**
 * A machine beside `nvidia-smi topo -m` of the same: where both differ one of them is of another
 * day, another host, or a guest.
 */

import { alignWithin, formatCount, type Paint, wrap } from "../core/index.ts";
import type { NvsmiComparison } from "../machine/index.ts";
import { pageOf } from "./page.ts";

const LINES_MAX = 40;

/** `columns`: those of the terminal; none for a pipe. */
export function renderNvsmi(comparison: NvsmiComparison, colors?: Paint, columns?: number): string {
  const paint = pageOf(colors, columns);
  const { disagreements, compared, notes } = comparison;
  const count = `${formatCount(compared)} pairs compared`;
  const head = paint.bold("nvidia-smi topo -m");
  const verdict = compared === 0 ? paint.warn("no pair can be compared") : paint.good("agrees");
  const lines =
    disagreements.length === 0
      ? [compared === 0 ? `${head}  ${verdict}` : `${head}  ${verdict}, ${count}`]
      : [`${head}  ${paint.bad(`${disagreements.length} differ`)}, ${count}`];
  const rows = disagreements
    .slice(0, LINES_MAX)
    .map(({ a, b, nvsmi, machine, explanation }) => [
      `${paint.name(a)} and ${paint.name(b)}`,
      `nvidia-smi ${nvsmi}`,
      `this machine ${paint.bold(machine)}`,
      paint.dim(explanation),
    ]);
  lines.push(...alignWithin(rows, paint.columns - 2).map((line) => `  ${line}`));
  if (disagreements.length > LINES_MAX) lines.push(paint.dim("  more with --json"));
  for (const note of notes) lines.push(...wrap(`${paint.warn("note")}  ${note}`, paint.prose));
  return `${lines.join("\n")}\n`;
}
