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
  const lines = [paint.bold(report.machine.name)];
  for (const use of report.uses) lines.push("", ...useLines(use, paint));
  return `${lines.join("\n")}\n`;
}

const mark = (state: CheckState, paint: Paint): string => {
  if (state === "ok") return paint.good("ok  ");
  return state === "fail" ? paint.bad("FAIL") : paint.warn("?   ");
};

function useLines({ use, state, results }: UseReport, paint: Page): string[] {
  const count = (wanted: CheckState): number =>
    results.filter((one) => one.state === wanted).length;
  const counts = `${count("fail")} fail, ${count("unknown")} not known, ${count("ok")} ok`;
  const word = {
    ok: paint.good("ready"),
    fail: paint.bad("not ready"),
    unknown: paint.warn("may be ready"),
  };
  const lines = [`${paint.bold(USE_TITLES[use])}: ${word[state]}  ${paint.dim(counts)}`];
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
  const what = wrap(remedy, paint.prose - TITLE_COLUMNS - 1);
  lines.push(...what.map((line) => `${hang}${paint.bold(line)}`));
  if (command !== null) lines.push(`${hang}${paint.name(command)}`);
  return lines;
}

/** Plain data for `--json`. */
export function doctorJson(report: DoctorReport): Record<string, unknown> {
  return {
    machine: report.machine.name,
    uses: report.uses.map(({ use, state, results }) => ({ use, state, checks: results })),
  };
}
