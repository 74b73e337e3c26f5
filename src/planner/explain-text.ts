/** An explanation as text for a terminal. */

import { alignColumns, type Bdf, formatBdf, hex, type Paint, PLAIN, wrap } from "../core/index.ts";
import type { RouteReport } from "../fabric/index.ts";
import type { Verdict } from "../p2p/index.ts";
import type { PairExplanation, Routable } from "./explain.ts";

const TEXT_COLUMNS = 100;

export function renderExplanation(explanation: PairExplanation, paint: Paint = PLAIN): string {
  const { initiator, owner, permitted, routable, bar } = explanation;
  const target = bar === null ? "memory" : `BAR${bar.index} at ${hex(bar.address)}`;
  const lines = [
    `${paint.name(formatBdf(initiator))} to ${target} of ${paint.name(formatBdf(owner))}`,
    "",
    ...permittedLines(permitted, paint),
  ];
  for (const entry of routable) lines.push("", ...routableLines(entry, paint));
  return `${lines.join("\n")}\n`;
}

function permittedLines(verdict: Verdict, paint: Paint): string[] {
  const allowed = verdict.route !== "none";
  const word = allowed ? paint.good("yes") : paint.bad("no");
  const how = allowed ? `${verdict.mapType}, distance ${verdict.distance}` : verdict.mapType;
  const lines = [`${paint.bold("permitted")}  ${word}  ${how}  ${paint.dim(verdict.ruleSet)}`];
  lines.push(...indent(wrap(verdict.text, TEXT_COLUMNS)));
  const evidence = verdict.evidence.map(({ bdf, register, offset, value, decoded }) => [
    paint.dim("evidence"),
    bdf === null ? "host" : formatBdf(bdf),
    offset === null ? register : `${register} (${hex(offset)})`,
    typeof value === "number" ? hex(value) : (value ?? ""),
    decoded,
  ]);
  lines.push(...indent(alignColumns(evidence)));
  for (const text of verdict.assumptions) lines.push(...indent([paint.warn(`assumed: ${text}`)]));
  verdict.remedies.forEach(({ text, command, weakensIsolation }, i) => {
    const mark = weakensIsolation ? paint.warn(" (weakens isolation)") : "";
    lines.push(...indent([`${paint.bold(`remedy ${i + 1}`)}  ${text}${mark}`]));
    if (command !== null) lines.push(...indent([`          ${paint.name(command)}`]));
  });
  return lines;
}

function routableLines({ direction, route, unknown }: Routable, paint: Paint): string[] {
  const head = paint.bold(`routable, ${direction}`);
  if (route === null) return [`${head}  ${paint.warn("unknown")}  ${unknown ?? ""}`];
  const ok = route.status === 0;
  const word = ok ? paint.good("yes") : paint.bad("no");
  const via = route.viaRootComplex ? "through the root complex" : "below the root complex";
  return [`${head}  ${word}  ${route.statusName}, ${via}`, ...indent(hopLines(route, paint))];
}

function hopLines(route: RouteReport, paint: Paint): string[] {
  const rows = route.hops.map((hop) => [
    paint.name(hop.bdf === null ? hop.role : formatBdf(hop.bdf as Bdf)),
    hop.bdf === null ? "" : paint.dim(hop.role),
    hop.decision,
    hop.link === null ? "" : paint.dim(`gen${hop.link.generation} x${hop.link.width}`),
    hop.reason,
  ]);
  return alignColumns(rows);
}

const indent = (lines: readonly string[]): string[] => lines.map((line) => `  ${line}`);
