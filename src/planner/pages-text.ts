/** What pages cost, and where a BAR fits, as text for a terminal. */

import { alignWithin, formatBdf, formatBytes, hex, type Paint, wrap } from "../core/index.ts";
import { kindName } from "./interest.ts";
import { type Page, pageOf } from "./page.ts";
import type { FitAnswer, PagesReport, PagesRow } from "./pages.ts";

/** `columns`: those of the terminal; none for a pipe. */
export function renderPages(report: PagesReport, colors?: Paint, columns?: number): string {
  const paint = pageOf(colors, columns);
  const { title, architecture, isInferred, rows } = report;
  const known = isInferred ? `${architecture}, as its root complex tells` : architecture;
  const arch = known ?? "architecture not known: all are shown";
  const lines = [
    ...wrap(summary(rows), paint.prose).map(paint.bold),
    ...wrap(`${title}, ${arch}`, paint.prose).map(paint.dim),
    "",
  ];
  if (rows.length > 0) lines.push(...costLines(rows, paint), "", ...fitLines(rows, paint), "");
  const without =
    "Memory that is shared without pages (a lease, a dma-buf) needs no struct page, no linear " +
    "map and no 2 MiB alignment: none of this applies to it.";
  lines.push(...wrap(without, paint.prose));
  return `${lines.join("\n")}\n`;
}

/** What it comes to: RAM, the linear map, alignment. */
function summary(rows: readonly PagesRow[]): string {
  if (rows.length === 0) return "No NVMe, GPU or accelerator has a memory BAR of 1 MiB or more.";
  const total = rows.reduce((sum, { structBytes }) => sum + structBytes, 0);
  const inside = rows.map(({ fits, kaslr }) => {
    const isOut = kaslr !== null || fits.every(({ fit }) => fit === "does-not-fit");
    return isOut ? "no" : fits.every(({ fit }) => fit === "fits") ? "yes" : "?";
  });
  const count = (word: string): number => inside.filter((one) => one === word).length;
  const map =
    count("no") > 0
      ? `${count("no")} of ${rows.length} outside the linear map`
      : count("?") > 0
        ? "the linear map depends (below)"
        : "inside the linear map";
  const skew = rows.filter(({ isAligned }) => !isAligned).length;
  const aligned = skew === 0 ? "aligned to 2 MiB" : `${skew} not aligned to 2 MiB`;
  const bars = rows.length === 1 ? "1 BAR" : `${rows.length} BARs`;
  return `${bars}: ${formatBytes(total)} of RAM for struct pages; ${map}; ${aligned}.`;
}

function nameOf({ fn, barIndex }: PagesRow): string {
  return fn === null ? "BAR" : `${formatBdf(fn.bdf)} ${kindName(fn)} BAR${barIndex}`;
}

function costLines(rows: readonly PagesRow[], paint: Page): string[] {
  const head = ["", "size", "address", "struct page", "(64 KiB)", "aligned"];
  const cells = rows.map((row) => [
    paint.name(nameOf(row)),
    formatBytes(row.bar.sizeBytes),
    row.bar.phys === null ? "?" : hex(row.bar.phys),
    formatBytes(row.structBytes),
    formatBytes(row.structBytes64k),
    row.isAligned ? paint.good("yes") : paint.bad("no"),
  ]);
  const lines = alignWithin([head.map((text) => paint.dim(text)), ...cells], paint.columns);
  const key =
    "struct page: RAM for pages of 4 KiB, and of 64 KiB; aligned: to 2 MiB at both ends, else " +
    "registration with pages skips or refuses the BAR";
  return [...lines, ...wrap(key, paint.prose).map(paint.dim)];
}

function fitLines(rows: readonly PagesRow[], paint: Page): string[] {
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
  lines.push(...alignWithin(cells, paint.columns - 2).map((line) => `  ${line}`));
  for (const row of rows) {
    if (row.kaslr === null) continue;
    lines.push(
      ...wrap(
        `${paint.bad("no")} with address randomisation on this kernel: ${nameOf(row)} ends above ` +
          `${hex(row.kaslr.limit)} (RAM and 10 TiB). Boot with nokaslr, or run Linux 6.15 or later`,
        paint.prose,
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
