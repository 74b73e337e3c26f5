/**
 * An explanation as text for a terminal: the answer and what fixes it first, then the three answers
 * side by side, then why, then how.
 */

import {
  alignColumns,
  alignWithin,
  formatBdf,
  formatBytes,
  hex,
  type Paint,
  widthOf,
  wrap,
} from "../core/index.ts";
import type { PciFunction } from "../machine/index.ts";
import { formatVersion, type Verdict } from "../p2p/index.ts";
import { type DirectionAnswer, reasonText } from "./answer.ts";
import { formatRate } from "./bandwidth.ts";
import type { PairExplanation } from "./explain.ts";
import { addressLines, remedyLines } from "./explain-text-advice.ts";
import { deviceName, kindName } from "./interest.ts";
import type { Outcome, Strength } from "./knowledge.ts";
import { type Page, pageOf } from "./page.ts";
import { comesBackTheSameWay, isSameWay, pathLines } from "./path-text.ts";

/** `columns`: those of the terminal; none for a pipe. */
export function renderExplanation(
  explanation: PairExplanation,
  colors?: Paint,
  columns?: number,
): string {
  const paint = pageOf(colors, columns);
  const sections = [
    answerLines(explanation, paint),
    headLines(explanation, paint),
    tableLines(explanation, paint),
    whyLines(explanation, paint),
    provenLines(explanation, paint),
    addressLines(explanation, paint),
    ...wayLines(explanation, paint),
    speedLines(explanation, paint),
    remedyLines(explanation, paint),
    noteLines(explanation, paint),
  ];
  const lines = sections
    .filter((section) => section.length > 0)
    .flatMap((section) => ["", ...section]);
  return `${lines.slice(1).join("\n")}\n`;
}

function headLines({ initiator, owner, bar, rules, iommu, machine }: PairExplanation, paint: Page) {
  const size = bar?.sizeBytes == null ? "" : `, ${formatBytes(bar.sizeBytes)}`;
  const memory = bar === null ? "memory" : `BAR${bar.index} (${hex(bar.address)}${size})`;
  const name = (fn: PciFunction): string =>
    `${paint.name(formatBdf(fn.bdf))} ${kindName(fn)} ${paint.dim(deviceName(fn))}`;
  const mode = `IOMMU ${iommu.mode}${iommu.grounds === null ? "" : ` (${iommu.grounds})`}`;
  return [
    ...wrap(name(initiator), paint.prose),
    ...indent(wrap(`to ${memory} of ${name(owner)}`, paint.prose - 2)),
    ...indent(
      wrap(`${machine.name}, Linux ${formatVersion(rules.version)}, ${mode}`, paint.prose - 2),
    ).map(paint.dim),
  ];
}

function tableLines({ directions, answer: whole }: PairExplanation, paint: Page): string[] {
  const titles = ["permitted", "routable", "proven"];
  const rows = directions.map((answer) => [
    paint.bold(answer.direction),
    permittedCell(answer.permitted, whole.certain, paint),
    routableCell(answer, whole, paint),
    provenCell(answer, paint),
  ]);
  const table = alignColumns([["", ...titles].map(paint.bold), ...rows]);
  const fits = table.every((line) => widthOf(line) <= paint.columns);
  const stacked = () =>
    rows.flatMap(([direction, ...cells]) =>
      cells.map((cell, i) => [i === 0 ? direction : "", paint.dim(titles[i]), cell]),
    );
  return fits ? table : alignWithin(stacked(), paint.columns);
}

const LABEL_COLUMNS = 9;

/** A labelled sentence, wrapped beside its label. */
function labelled(label: string, text: string, paint: Page, by = (line: string) => line): string[] {
  const room = paint.prose - LABEL_COLUMNS;
  return wrap(text, room).map((line, i) => {
    const head = i === 0 ? paint.bold(label.padEnd(LABEL_COLUMNS)) : " ".repeat(LABEL_COLUMNS);
    return head + by(line);
  });
}

/** The one word, how sure it is, and the smallest change that makes it a yes. */
function answerLines(explanation: PairExplanation, paint: Page): string[] {
  const { answer, depends, remedies, gates } = explanation;
  const { usable, certain, text } = answer;
  const by = !certain ? paint.warn : usable ? paint.good : paint.bad;
  const lines = labelled("answer", `${certain ? "" : "? "}${text}.`, paint, by);
  for (const { text: unknown, remedy } of depends) {
    lines.push(...labelled("depends", `${unknown}; ${remedy}`, paint));
  }
  if (usable) return lines;
  const ways = remedies.length === 1 ? "" : ` (least of ${remedies.length} ways, below)`;
  const steps = gates.length === 1 ? "" : ` (1 of ${gates.length} steps, below)`;
  // What is permitted needs its gates alone; what is refused needs a remedy first.
  const isByGates = gates.length > 0 && (answer.permitted || remedies.length === 0);
  const fix = isByGates ? gates[0] : remedies[0];
  if (fix === undefined) return lines;
  lines.push(...labelled("fix", `${fix.text}${isByGates ? steps : ways}`, paint));
  if (fix.command !== null) lines.push(" ".repeat(LABEL_COLUMNS) + paint.name(fix.command));
  return lines;
}

function permittedCell(verdict: Verdict, certain: boolean, paint: Paint): string {
  const isRefused = verdict.route === "none";
  const word = isRefused ? "no" : "yes";
  const by = isRefused ? paint.bad : paint.good;
  const shown = certain ? by(word) : paint.warn(`${word}?`);
  const gap = " ".repeat(5 - word.length - (certain ? 0 : 1));
  const distance = isRefused ? "" : `, distance ${verdict.distance}`;
  return `${shown}${gap}${verdict.mapType}${distance}`;
}

function routableCell(
  { route, reachesRoot }: DirectionAnswer,
  whole: PairExplanation["answer"],
  paint: Paint,
): string {
  if (route === null)
    return whole.routable === false
      ? `${paint.bad("no")}   no memory BAR with an address`
      : `${paint.warn("?")}    no BAR with an address in the dump`;
  if (route.status !== 0) return `${paint.bad("no")}   ${route.statusName}`;
  if (route.target?.kind !== "bar") return `${paint.bad("no")}   lands in ${route.target?.kind}`;
  return reachesRoot
    ? `${paint.warn("yes")}  if the root complex forwards it`
    : `${paint.good("yes")}  below the root complex`;
}

const OUTCOMES: Readonly<Record<Outcome, string>> = {
  works: "yes",
  fails: "no   reports an error",
  drops: "no   vanishes silently",
  corrupts: "no   reports success, data is WRONG",
  unknown: "?    nothing is known",
};

function provenCell({ proven, reachesRoot }: DirectionAnswer, paint: Paint): string {
  const text = OUTCOMES[proven.outcome];
  if (proven.outcome === "unknown") return paint.warn(text);
  if (proven.outcome !== "works") return paint.bad(text);
  const by = proven.fact?.title ?? (reachesRoot ? "" : "no root complex on the way");
  return `${paint.good(text)}  ${by}`.trimEnd();
}

function whyLines({ permitted, acs }: PairExplanation, paint: Page): string[] {
  const lines = [`${paint.bold("why")}  rule ${paint.name(permitted.rule)}`];
  // Of a refused pair the answer has said it.
  if (permitted.route !== "none") {
    lines.push(...indent(wrap(`${sentence(reasonText(permitted))}.`, paint.prose - 2)));
  }
  const evidence = permitted.evidence.map(({ bdf, register, offset, value, decoded }) => [
    bdf === null ? "host" : formatBdf(bdf),
    offset === null ? register : `${register} (${hex(offset)})`,
    valueText(value, offset),
    decoded,
  ]);
  lines.push(...indent(alignWithin(evidence, paint.columns - 2)));
  if (acs.length > 0) lines.push(...indent(acsLines(acs, paint)));
  return lines;
}

/** A register's value as wide as it is: 16 bits, or 32. */
function valueText(value: number | string | null, offset: number | null): string {
  if (typeof value !== "number") return value ?? "";
  return offset === null ? String(value) : hex(value, value > 0xffff ? 8 : 4);
}

function acsLines(acs: PairExplanation["acs"], paint: Page): string[] {
  const rows = acs.map(({ bdf, side, control, offset, redirecting, harmless }) => [
    formatBdf(bdf),
    control === null || offset === null
      ? "ACS ?"
      : `ACS Control (${hex(offset)}) ${hex(control, 4)}`,
    control === null ? paint.warn("not in the dump") : bitsText(redirecting, harmless, paint),
    paint.dim(side === "common" ? "common bridge" : `${side}'s side`),
  ]);
  return ["", paint.dim("ACS on the way"), ...alignWithin(rows, paint.columns - 2)];
}

function bitsText(redirecting: string, harmless: string, paint: Paint): string {
  if (redirecting === "" && harmless === "") return "clear";
  const bad = redirecting === "" ? "" : paint.bad(`${redirecting}: redirect`);
  const good = harmless === "" ? "" : paint.dim(`${harmless}: do not`);
  return [bad, good].filter((text) => text !== "").join("  ");
}

const sentence = (text: string): string => text.charAt(0).toUpperCase() + text.slice(1);

const STRENGTHS: Readonly<Record<Strength, string>> = {
  measured: "measured",
  statement: "stated by a vendor",
  "kernel-list": "the kernel relies on it",
};

function provenLines({ directions, devices }: PairExplanation, paint: Page): string[] {
  const facts = new Map(
    directions.flatMap(({ proven: { fact } }) => (fact === null ? [] : [[fact.id, fact] as const])),
  );
  const lines: string[] = [];
  for (const { title, text, source, strength } of facts.values()) {
    lines.push(...indent(wrap(`${title}: ${text}.`, paint.prose - 2)));
    const grounds = wrap(`${STRENGTHS[strength]}; ${source}`, paint.prose - 2);
    lines.push(...indent(grounds).map(paint.dim));
  }
  if (directions.some(({ proven }) => proven.outcome === "unknown")) {
    const [unknown] = directions.filter(({ proven }) => proven.outcome === "unknown");
    lines.push(...indent(wrap(`${unknown.proven.text}.`, paint.prose - 2)));
  }
  for (const { text, source } of devices) {
    const sentence = `${paint.warn("device")}: ${text}.`;
    lines.push(...indent(wrap(sentence, paint.prose - 2)));
    lines.push(...indent(wrap(source, paint.prose - 2)).map(paint.dim));
  }
  return lines.length === 0 ? [] : [paint.bold("proven"), ...lines];
}

/** The way of a write and that of a read, once where they are the same. */
function wayLines({ rules, directions }: PairExplanation, paint: Page): string[][] {
  const { index } = rules.topology;
  const drawn: string[][] = [];
  const [first] = directions;
  for (const { direction, route, bandwidth } of directions) {
    if (route === null) continue;
    if (first.route !== null && first.route !== route && isSameWay(first.route, route)) {
      const hasFailed = route.status !== 0;
      if (hasFailed || comesBackTheSameWay(route)) {
        const end = hasFailed ? `it ends there: ${route.statusName}` : "its data comes back by it";
        drawn.push([`a read goes the same way, and ${end}`]);
        continue;
      }
    }
    const requestRates = direction === "write" ? bandwidth : null;
    const title = paint.bold(direction === "write" ? "a write goes" : "a read goes");
    drawn.push([title, ...indent(pathLines(index, route.hops, requestRates, paint))]);
    if (direction === "read" && route.completionHops.length > 0) {
      const back = pathLines(index, route.completionHops, bandwidth, paint);
      drawn.push([paint.bold("its data comes back"), ...indent(back)]);
    }
  }
  return drawn;
}

function speedLines({ directions, permitted }: PairExplanation, paint: Page): string[] {
  if (permitted.route === "none") {
    const none =
      "none between the two; through host memory every byte crosses both devices' links, and " +
      "DRAM twice";
    return alignWithin([[paint.bold("speed"), none]], paint.prose);
  }
  const lines = directions.map(({ direction, bandwidth, reachesRoot, route }) => {
    const link = bandwidth?.narrowest ?? null;
    if (route !== null && route.status !== 0) return `${direction}: none, it does not arrive`;
    if (route === null || link === null || link.bytesPerSecond === null) {
      return `${direction}: unknown, the dump does not tell the links`;
    }
    const kind = reachesRoot ? "through the root complex, at most" : "direct, switch speed,";
    const mps = `MPS ${bandwidth?.maxPayload}, MRRS ${bandwidth?.maxReadRequest}`;
    return `${direction}: ${kind} ${formatRate(link.bytesPerSecond)} ${paint.dim(
      `(gen${link.generation} x${link.width} below ${formatBdf(link.upper)}, ${mps})`,
    )}`;
  });
  const rows = lines.map((line, i) => [i === 0 ? paint.bold("speed") : "", line]);
  return alignWithin(rows, paint.columns);
}

const noteLines = ({ permitted, notes }: PairExplanation, paint: Page): string[] => [
  ...permitted.assumptions.flatMap((text) => labelled("assumed", text, paint)),
  ...notes.flatMap((text) => labelled("note", text, paint)),
];

const indent = (lines: readonly string[]): string[] =>
  lines.map((line) => (line === "" ? line : `  ${line}`));
