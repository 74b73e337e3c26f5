/** What pages cost, and where a BAR fits, as text for a terminal. */

import {
  alignColumns,
  formatBdf,
  formatBytes,
  hex,
  type Paint,
  PLAIN,
  wrap,
} from "../core/index.ts";
import { kindName } from "./interest.ts";
import type { FitAnswer, PagesReport, PagesRow } from "./pages.ts";

const TEXT_COLUMNS = 100;

export function renderPages(report: PagesReport, paint: Paint = PLAIN): string {
  const { title, architecture, isInferred, rows } = report;
  const known = isInferred ? `${architecture}, as its root complex tells` : architecture;
  const arch = known ?? "architecture not known: all are shown";
  const lines = [`${paint.bold(title)}  ${paint.dim(arch)}`, ""];
  if (rows.length === 0)
    lines.push("No NVMe, GPU or accelerator of it has a memory BAR of 1 MiB or more.");
  else lines.push(...costLines(rows, paint), "", ...fitLines(rows, paint));
  lines.push(
    "",
    ...wrap(
      "A page-less provider (lease, dma-buf) needs no struct page, no linear map and no 2 MiB " +
        "alignment: none of this applies to it.",
      TEXT_COLUMNS,
    ),
  );
  return `${lines.join("\n")}\n`;
}

function nameOf({ fn, barIndex }: PagesRow): string {
  return fn === null ? "BAR" : `${formatBdf(fn.bdf)} ${kindName(fn)} BAR${barIndex}`;
}

function costLines(rows: readonly PagesRow[], paint: Paint): string[] {
  const head = ["", "size", "address", "struct pages (4 KiB)", "(64 KiB)", "2 MiB alignment"];
  const cells = rows.map((row) => [
    paint.name(nameOf(row)),
    formatBytes(row.bar.sizeBytes),
    row.bar.phys === null ? "?" : hex(row.bar.phys),
    `${formatBytes(row.structBytes)} of RAM`,
    formatBytes(row.structBytes64k),
    row.isAligned
      ? paint.good("yes")
      : paint.bad("no: page-backed registration skips or refuses it"),
  ]);
  const total = rows.reduce((sum, { structBytes }) => sum + structBytes, 0);
  const lines = alignColumns([head.map((text) => paint.dim(text)), ...cells]);
  if (rows.length > 1) lines.push(`in sum ${paint.bold(formatBytes(total))} of RAM`);
  return lines;
}

function fitLines(rows: readonly PagesRow[], paint: Paint): string[] {
  const lines: string[] = [paint.bold("inside the kernel's linear map?")];
  const maps = rows[0]?.fits.map(({ map }) => map) ?? [];
  const cells = maps.map((map, i) => {
    const answers = rows.map((row) => ({ row, answer: row.fits[i] }));
    const bad = answers.filter(({ answer }) => answer.fit === "does-not-fit");
    const unknown = answers.filter(({ answer }) => answer.fit === "unknown");
    const size = map.sizeBytes;
    const head = [map.title, formatBytes(size)];
    if (bad.length > 0) return [...head, paint.bad("no"), reason(bad, rows.length)];
    if (unknown.length > 0) return [...head, paint.warn("?"), reason(unknown, rows.length)];
    return [...head, paint.good("yes"), rows.length === 1 ? answers[0].answer.text : "all of them"];
  });
  lines.push(...alignColumns(cells).map((line) => `  ${line}`));
  for (const row of rows) {
    if (row.kaslr === null) continue;
    lines.push(
      ...wrap(
        `${paint.bad("no")} with address randomisation on this kernel: ${nameOf(row)} ends above ` +
          `${hex(row.kaslr.limit)} (RAM and 10 TiB). Boot with nokaslr, or run Linux 6.15 or later`,
        TEXT_COLUMNS,
      ),
    );
  }
  return lines;
}

function reason(
  failing: readonly { readonly row: PagesRow; readonly answer: FitAnswer }[],
  count: number,
): string {
  const [{ row, answer }] = failing;
  if (count === 1) return answer.text;
  const more = failing.length > 1 ? ` (${failing.length} of ${count})` : "";
  return `${nameOf(row)} ${answer.text}${more}`;
}

/** Plain data for `--json`. */
export function pagesJson(report: PagesReport): Record<string, unknown> {
  return {
    machine: report.title,
    architecture: report.architecture,
    bars: report.rows.map((row) => ({
      function: row.fn === null ? null : formatBdf(row.fn.bdf),
      bar: row.barIndex,
      sizeBytes: row.bar.sizeBytes,
      physical: row.bar.phys === null ? null : hex(row.bar.phys),
      structPageBytes: row.structBytes,
      structPageBytes64k: row.structBytes64k,
      aligned: row.isAligned,
      kaslrLimit: row.kaslr === null ? null : hex(row.kaslr.limit),
      fits: row.fits.map(({ map, fit, text }) => ({ map: map.id, fit, text })),
    })),
  };
}
