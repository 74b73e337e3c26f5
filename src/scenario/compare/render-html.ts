/**
 * The comparison as one HTML file that needs nothing else: no script, no font, no network. Light
 * and dark after the reader's system; bars for the costs, coloured cells for what works, with the
 * detail of each cell under the pointer and in a list below.
 */

import { formatBytes } from "../../core/index.ts";
import type { Outcome } from "./cell.ts";
import type { CompareReport, IoRow } from "./compare.ts";
import type { CompareDescription } from "./descriptions.ts";
import {
  compareTables,
  failures,
  formatTime,
  subjectLine,
  type Table,
  workloadText,
} from "./tables.ts";

const escapeHtml = (text: string): string =>
  text
    .replaceAll("&", "&amp;")
    .replaceAll("<", "&lt;")
    .replaceAll(">", "&gt;")
    .replaceAll('"', "&quot;");

const STYLE = `
:root { color-scheme: light dark; --ink: #16202a; --soft: #5b6875; --line: #dde3e9; --paper: #fff;
  --panel: #f6f8fa; --build: #3b6fb6; --map: #d97a2b; --unmap: #7d5ba6;
  --yes: #d9f0dd; --yes-ink: #14602a; --partly: #fdf0cd; --partly-ink: #7a5300;
  --no: #e7ebef; --no-ink: #47525d; --unsafe: #fbd9d6; --unsafe-ink: #94180f; }
@media (prefers-color-scheme: dark) { :root { --ink: #e4e9ee; --soft: #95a2ae; --line: #2c3640;
  --paper: #12181e; --panel: #1a222a; --build: #6d9fe0; --map: #f0a35c; --unmap: #ab8bd3;
  --yes: #173a22; --yes-ink: #8fdca3; --partly: #413414; --partly-ink: #f0cf7d;
  --no: #262f38; --no-ink: #aab6c1; --unsafe: #4a1d1a; --unsafe-ink: #ffaaa2; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 2.5rem 1.5rem 4rem; max-width: 74rem; color: var(--ink);
  background: var(--paper); font: 15px/1.5 system-ui, -apple-system, "Segoe UI", sans-serif; }
h1 { font-size: 1.7rem; line-height: 1.2; margin: 0 0 .4rem; letter-spacing: -.01em; }
h2 { font-size: 1.1rem; margin: 2.6rem 0 .7rem; }
p.subject { color: var(--soft); margin: 0 0 1.4rem; max-width: 60rem; }
.cards { display: grid; grid-template-columns: repeat(5, minmax(0, 1fr)); gap: .8rem; }
.card { background: var(--panel); border: 1px solid var(--line); border-radius: .6rem;
  padding: .9rem 1rem; }
.card h3 { font-size: .95rem; margin: 0 0 .5rem; font-family: ui-monospace, monospace; }
.card dl { margin: 0; font-size: .85rem; }
.card dt { color: var(--soft); }
.card dd { margin: 0 0 .4rem; font-variant-numeric: tabular-nums; font-weight: 600; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: .88rem; }
th, td { text-align: left; padding: .38rem .6rem; border-bottom: 1px solid var(--line);
  vertical-align: top; font-variant-numeric: tabular-nums; }
th { color: var(--soft); font-weight: 600; white-space: nowrap; }
td.number, th.number { text-align: right; }
.plain td { white-space: nowrap; }
.plain td.long { white-space: normal; min-width: 16rem; }
tbody tr:hover { background: var(--panel); }
.works td + td, .works th + th { text-align: center; }
.cell { display: inline-block; min-width: 4.6rem; padding: .08rem .6rem; border-radius: 1rem;
  font-weight: 600; font-size: .82rem; }
.yes { background: var(--yes); color: var(--yes-ink); }
.partly { background: var(--partly); color: var(--partly-ink); }
.no { background: var(--no); color: var(--no-ink); }
.unsafe { background: var(--unsafe); color: var(--unsafe-ink); }
.bars { display: grid; grid-template-columns: 7rem 1fr 5.5rem; gap: .3rem .8rem;
  margin: .5rem 0 1rem; align-items: center; font-size: .88rem; }
.bar { display: flex; height: 1rem; }
.bar i { display: block; height: 100%; }
.bar i:first-child { border-radius: .2rem 0 0 .2rem; }
.bar i:last-child { border-radius: 0 .2rem .2rem 0; }
.build { background: var(--build); } .map { background: var(--map); }
.unmap { background: var(--unmap); }
.key { color: var(--soft); font-size: .85rem; }
.key i { display: inline-block; width: .8rem; height: .8rem; border-radius: .2rem;
  margin: 0 .3rem 0 .9rem; vertical-align: -.1rem; }
h4 { margin: 1rem 0 .2rem; font-size: .9rem; }
ul { padding-left: 1.2rem; } li { margin: .2rem 0; max-width: 62rem; }
code, .mono { font-family: ui-monospace, monospace; }
@media (max-width: 60rem) { .cards { grid-template-columns: repeat(2, minmax(0, 1fr)); } }
`;

/** One page. */
export function compareHtml(report: CompareReport): string {
  const sections = compareTables(report).map((table) =>
    table.title === "Works with" ? worksSection(report, table) : plainSection(table),
  );
  const body = [
    "<h1>Five descriptions of I/O memory, side by side</h1>",
    `<p class="subject">${escapeHtml(subjectLine(report))}. Workload: ${escapeHtml(
      workloadText(report.workload),
    )}.</p>`,
    `<div class="cards">${report.descriptions.map((kind) => card(report, kind)).join("")}</div>`,
    barsSection(report),
    ...worksFirst(sections),
    list("How it failed", failures(report)),
    list(
      "What the rows run",
      report.works.map(({ name, what }) => `${name}: ${what}`),
    ),
    list("Method", report.method),
    list("Limits", report.limits),
  ];
  return [
    "<!doctype html>",
    '<html lang="en"><head><meta charset="utf-8">',
    '<meta name="viewport" content="width=device-width, initial-scale=1">',
    `<title>peerlane compare: ${escapeHtml(report.machine)}</title>`,
    `<style>${STYLE}</style></head><body>`,
    ...body,
    "</body></html>",
    "",
  ].join("\n");
}

/** What works is what most readers came for. */
function worksFirst(sections: readonly string[]): string[] {
  const isWorks = (section: string): boolean => section.includes('class="works"');
  return [...sections.filter(isWorks), ...sections.filter((section) => !isWorks(section))];
}

/** The largest BAR that was registered, the CPU by bus, and a count of the cells. */
function card(report: CompareReport, kind: CompareDescription): string {
  const largest = report.registration.filter(({ description }) => description === kind).at(-1);
  const cost = report.io.find(
    ({ description, route }) => description === kind && route === "bus",
  )?.cost;
  const outcomes = report.works.map(({ cells }) => cells[kind].outcome);
  const count = (wanted: Outcome): number => outcomes.filter((one) => one === wanted).length;
  const mark = largest?.extrapolated === true ? "~" : "";
  const facts: [string, string][] = [
    [
      `to register ${formatBytes(largest?.sizeBytes ?? 0)}`,
      `${mark}${formatBytes(largest?.allocatedBytes ?? 0)}, ${mark}${formatTime(
        largest?.nanoseconds ?? 0,
      )}`,
    ],
    ["CPU per I/O by bus", cost == null ? "refused" : formatTime(cost.totalNs)],
    ["of what it was asked to do", `${count("yes")} of ${outcomes.length}`],
    ["unsafe", `${count("unsafe")}`],
  ];
  const items = facts.map(([term, value]) => `<dt>${term}</dt><dd>${value}</dd>`).join("");
  return `<div class="card"><h3>${kind}</h3><dl>${items}</dl></div>`;
}

/** Stacked bars of build, map and unmap, a chart per route and mode, each on its own scale. */
function barsSection(report: CompareReport): string {
  const groups = new Map<string, IoRow[]>();
  for (const row of report.io) {
    const route = row.route === "bus" ? "by bus" : "through the host bridge";
    const name = `${route}, IOMMU ${row.iommu}`;
    groups.set(name, [...(groups.get(name) ?? []), row]);
  }
  const charts = [...groups].map(([name, rows]) => `<h4>${name}</h4>${chart(rows)}`);
  const key =
    '<p class="key"><i class="build"></i>build<i class="map"></i>map<i class="unmap"></i>unmap</p>';
  return `<h2>CPU per peer I/O</h2>${key}${charts.join("")}`;
}

function chart(rows: readonly IoRow[]): string {
  const longest = Math.max(1, ...rows.map(({ cost }) => cost?.totalNs ?? 0));
  const part = (name: string, ns: number): string => {
    const width = ((ns / longest) * 100).toFixed(2);
    return `<i class="${name}" style="width:${width}%" title="${name} ${ns.toFixed(1)} ns"></i>`;
  };
  const lines = rows.map(({ description, cost, refusal }) => {
    const name = `<span class="mono">${description}</span>`;
    if (cost === null) {
      const why = escapeHtml(refusal ?? "");
      return `${name}<span class="key">refused: ${why}</span><span></span>`;
    }
    const bar = part("build", cost.buildNs) + part("map", cost.mapNs) + part("unmap", cost.unmapNs);
    return `${name}<span class="bar">${bar}</span><span>${formatTime(cost.totalNs)}</span>`;
  });
  return `<div class="bars">${lines.join("")}</div>`;
}

function worksSection(report: CompareReport, { title, head }: Table): string {
  const rows = report.works.map(({ name, what, cells }) => {
    const marks = report.descriptions.map((kind) => {
      const { outcome } = cells[kind];
      const detail = escapeHtml(cells[kind].detail);
      return `<td><span class="cell ${outcome}" title="${detail}">${outcome}</span></td>`;
    });
    return `<tr><td title="${escapeHtml(what)}">${escapeHtml(name)}</td>${marks.join("")}</tr>`;
  });
  return section(title, "works", head, rows);
}

const isNumber = (text: string): boolean => /^~?[\d.]+( [kKMGT]?i?B| [num]?s)?$/.test(text);

function plainSection({ title, head, rows }: Table): string {
  const cell = (text: string): string => {
    const name = isNumber(text) ? ' class="number"' : text.length > 40 ? ' class="long"' : "";
    return `<td${name}>${escapeHtml(text)}</td>`;
  };
  const numeric = head.map((_, column) => rows.some((row) => isNumber(row[column] ?? "")));
  const lines = rows.map((row) => `<tr>${row.map(cell).join("")}</tr>`);
  return section(title, "plain", head, lines, numeric);
}

function section(
  title: string,
  name: string,
  head: readonly string[],
  rows: readonly string[],
  numeric: readonly boolean[] = [],
): string {
  const titles = head.map((text, column) => {
    const mark = numeric[column] === true ? ' class="number"' : "";
    return `<th${mark}>${escapeHtml(text)}</th>`;
  });
  return (
    `<h2>${escapeHtml(title)}</h2><div class="scroll"><table class="${name}">` +
    `<thead><tr>${titles.join("")}</tr></thead><tbody>\n${rows.join("\n")}\n</tbody></table></div>`
  );
}

function list(title: string, lines: readonly string[]): string {
  const items = lines.map((line) => `<li>${escapeHtml(line)}</li>`).join("\n");
  return `<h2>${title}</h2><ul>\n${items}\n</ul>`;
}
