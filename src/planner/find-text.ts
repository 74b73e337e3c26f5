/**
 * The choice of a provider as a table for a terminal: the chosen one first, then why others lost.
 */

import { alignWithin, formatBdf, formatBytes, type Paint, wrap } from "../core/index.ts";
import { formatVersion } from "../p2p/index.ts";
import { reasonText } from "./answer.ts";
import { formatRate } from "./bandwidth.ts";
import type { FindReport, FoundCandidate } from "./find.ts";
import { deviceName, kindName } from "./interest.ts";
import { pageOf } from "./page.ts";

/** `columns`: those of the terminal; none for a pipe. */
export function renderFind(report: FindReport, colors?: Paint, columns?: number): string {
  const paint = pageOf(colors, columns);
  const { clients, candidates, chosen, ties, rules } = report;
  const names = clients.map((fn) => `${paint.name(formatBdf(fn.bdf))} ${kindName(fn)}`).join(", ");
  const lines = [
    ...headLines(report, paint).flatMap((line) => wrap(line, paint.prose)),
    ...wrap(`for ${names}; rules of Linux ${formatVersion(rules.version)}`, paint.prose),
    "",
  ];
  const head = ["", "provider", "", "memory", "route", "distance", "narrowest link", "why it lost"];
  const rows = candidates.map((candidate, i) =>
    row(candidate, i, chosen === candidate.fn.bdf, paint),
  );
  lines.push(...alignWithin([head.map(paint.dim), ...rows], paint.columns));
  if (ties !== null && ties.length > 1) {
    const drawn = ties.map(formatBdf).join(", ");
    lines.push("", `Linux draws at random among ${drawn}; another seed may choose another.`);
  }
  for (const note of report.notes) {
    lines.push("", ...wrap(`${paint.warn("note")}  ${note}`, paint.prose));
  }
  return `${lines.join("\n")}\n`;
}

function headLines({ candidates, chosen }: FindReport, paint: Paint): string[] {
  const best = candidates.find(({ fn }) => fn.bdf === chosen);
  if (best === undefined) {
    return [paint.bad("none: no candidate is reached by all of them")];
  }
  const { fn, direct, distance } = best;
  const way = direct ? paint.good("by bus address") : paint.warn("through the host bridge");
  const what = `${paint.name(formatBdf(fn.bdf))} ${kindName(fn)} ${paint.dim(deviceName(fn))}`;
  return [`${paint.good("use")} ${what}`, `every client ${way}, distance ${distance} in sum`];
}

function row(candidate: FoundCandidate, i: number, isChosen: boolean, paint: Paint): string[] {
  const { fn, direct, distance, bandwidth, memoryBytes } = candidate;
  const route =
    distance < 0 ? paint.bad("refused") : direct ? paint.good("bus") : paint.warn("host");
  return [
    isChosen ? paint.good("→") : paint.dim(String(i + 1)),
    paint.name(formatBdf(fn.bdf)),
    kindName(fn),
    memoryBytes === null ? "?" : formatBytes(memoryBytes),
    route,
    distance < 0 ? "" : String(distance),
    distance < 0 || bandwidth === Number.POSITIVE_INFINITY ? "" : formatRate(bandwidth),
    isChosen ? "" : paint.dim(lossText(candidate)),
  ];
}

/** The reason alone where a client is refused: what stands behind it is explain's to tell. */
function lossText({ lost, verdicts }: FoundCandidate): string {
  const refused = verdicts.find(({ route }) => route === "none");
  if (refused === undefined) return lost ?? "";
  return `${formatBdf(refused.client)}: ${reasonText(refused)}`;
}

/** Plain data for `--json`. */
export function findJson(report: FindReport): Record<string, unknown> {
  return {
    clients: report.clients.map((fn) => formatBdf(fn.bdf)),
    chosen: report.chosen === null ? null : formatBdf(report.chosen),
    source: report.source,
    ties: report.ties?.map(formatBdf) ?? null,
    candidates: report.candidates.map((candidate) => ({
      provider: formatBdf(candidate.fn.bdf),
      memoryBytes: candidate.memoryBytes,
      direct: candidate.direct,
      distance: candidate.distance,
      bytesPerSecond: Number.isFinite(candidate.bandwidth) ? candidate.bandwidth : null,
      lost: candidate.lost,
      mapTypes: candidate.verdicts.map(({ mapType }) => mapType),
    })),
    notes: report.notes,
  };
}
