/** A preflight as text for a terminal, and as plain data. */

import { type Paint, wrap } from "../core/index.ts";
import type { DoctorReport, UseReport } from "./doctor/doctor.ts";
import { type CheckResult, type CheckState, USE_TITLES } from "./doctor/subject.ts";
import { type Page, pageOf } from "./page.ts";

/** Room for the state and the title. */
const TITLE_COLUMNS = 34;

/** `columns`: those of the terminal; none for a pipe. */
export function renderDoctor(report: DoctorReport, colors?: Paint, columns?: number): string {
  const paint = pageOf(colors, columns);
  const lines = [
    ...report.uses.flatMap((use) => answerLines(use, paint)),
    ...wrap(report.machine.name, paint.prose).map(paint.dim),
  ];
  for (const use of report.uses) lines.push("", ...useLines(use, paint));
  return `${lines.join("\n")}\n`;
}

/** `gds: not ready: kernel version, IOMMU mode`, the first to be fixed first. */
function answerLines({ use, state, results }: UseReport, paint: Page): string[] {
  const open = results.filter((one) => one.state === state && state !== "ok");
  const titles = [...new Set(open.map(({ title }) => title))].join(", ");
  const why = { ok: "", fail: `: ${titles}`, unknown: `, not known: ${titles}` }[state];
  const lines = wrap(`${use}: ${WORDS[state]}${why}`, paint.prose);
  return lines.map(painter(state, paint));
}

const WORDS: Readonly<Record<CheckState, string>> = {
  ok: "ready",
  fail: "not ready",
  unknown: "may be ready",
};

const painter = (state: CheckState, paint: Paint): Paint["good"] =>
  ({ ok: paint.good, fail: paint.bad, unknown: paint.warn })[state];

const mark = (state: CheckState, paint: Paint): string => {
  if (state === "ok") return paint.good("ok  ");
  return state === "fail" ? paint.bad("FAIL") : paint.warn("?   ");
};

function useLines({ use, state, results }: UseReport, paint: Page): string[] {
  const count = (wanted: CheckState): number =>
    results.filter((one) => one.state === wanted).length;
  const counts = `${count("fail")} fail, ${count("unknown")} not known, ${count("ok")} ok`;
  const word = painter(state, paint)(WORDS[state]);
  const lines = wrap(`${paint.bold(USE_TITLES[use])}: ${word}; ${counts}`, paint.prose);
  for (const result of results) lines.push(...resultLines(result, paint));
  return lines;
}

function resultLines(
  { state, title, evidence, remedy, command }: CheckResult,
  paint: Page,
): string[] {
  const head = `  ${mark(state, paint)} ${title.padEnd(TITLE_COLUMNS - 6)}`;
  const text = wrap(evidence, paint.prose - TITLE_COLUMNS - 1);
  const hang = " ".repeat(TITLE_COLUMNS + 1);
  const lines = text.map((line, i) => (i === 0 ? `${head}${line}` : `${hang}${line}`));
  if (state === "ok" || remedy === null) return lines;
  const what = wrap(remedy, paint.prose - TITLE_COLUMNS - 3);
  lines.push(...what.map((line, i) => `${hang}${i === 0 ? "→ " : "  "}${paint.bold(line)}`));
  if (command !== null) lines.push(`${hang}  ${paint.name(command)}`);
  return lines;
}

/** Plain data for `--json`. */
export function doctorJson(report: DoctorReport): Record<string, unknown> {
  return {
    machine: report.machine.name,
    uses: report.uses.map(({ use, state, results }) => ({ use, state, checks: results })),
  };
}
