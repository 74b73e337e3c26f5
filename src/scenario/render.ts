/**
 * A report as text for a terminal. It states what the report holds and computes nothing of its own.
 */

import {
  alignColumns,
  formatBytes,
  formatCount,
  type Paint,
  PLAIN,
  padEnd,
  wrap,
} from "../core/index.ts";
import type {
  DigestReport,
  GpuCheckReport,
  HopReport,
  LinkReport,
  PermittedReport,
  RouteLegReport,
  RunReport,
  ScenarioReport,
} from "./report.ts";

const LABEL_WIDTH = 13;
/** Links shown per run; the rest is summed up in one line. `--json` has them all. */
const LINKS_SHOWN = 8;

export interface RenderOptions {
  readonly paint?: Paint;
  readonly columns?: number;
}

export function renderScenario(report: ScenarioReport, options: RenderOptions = {}): string {
  const paint = options.paint ?? PLAIN;
  const columns = Math.max(60, Math.min(options.columns ?? 100, 140));
  const lines = [paint.bold(report.name), ...wrap(report.about, columns - 2).map((l) => `  ${l}`)];
  lines.push("", ...head(report, paint), "");
  for (const run of report.runs) lines.push(...renderRun(run, paint, columns), "");
  lines.push(...summaryTable(report, paint));
  return `${lines.join("\n")}\n`;
}

function head(report: ScenarioReport, paint: Paint): string[] {
  const { machine, devices } = report;
  const rows: [string, string][] = [
    ["machine", machineLine(report)],
    ...machine.edits.map((text): [string, string] => ["note", paint.warn(text)]),
    ...devices.map(({ bdf, kind, name, model }): [string, string] => [
      kind,
      `${paint.name(bdf)}  ${name}  ${paint.dim(model)}`,
    ]),
    ["seed", String(report.seed)],
  ];
  return rows.map(([label, text]) => `  ${paint.dim(padEnd(label, LABEL_WIDTH))}${text}`);
}

function machineLine({ machine }: ScenarioReport): string {
  const { name, functions, hostBridges, cpu, source } = machine;
  const size = `${formatCount(functions)} functions, ${hostBridges} host bridges`;
  return `${name} (${source}): ${size}${cpu === null ? "" : `, CPU ${cpu}`}`;
}

function renderRun(run: RunReport, paint: Paint, columns: number): string[] {
  const color = { completed: paint.good, refused: paint.bad, "fell-back": paint.warn }[run.outcome];
  const lines = [
    `  ${color(`● ${run.description}`)}  ${color(run.outcome)}`,
    ...wrap(run.summary, columns - 6).map((text) => `    ${text}`),
  ];
  const section = (label: string, body: readonly string[]): void => {
    body.forEach((text, i) => {
      lines.push(`    ${paint.dim(padEnd(i === 0 ? label : "", LABEL_WIDTH))}${text}`);
    });
  };
  section(
    "permitted",
    run.permitted.flatMap((verdict) => permittedLines(verdict, paint, columns)),
  );
  section(
    "routable",
    run.routes.map((leg) => routeLine(leg, paint)),
  );
  section("links", linkLines(run.links, paint));
  section("host memory", [hostMemoryLine(run, paint)]);
  if (run.digest !== null) section("digest", [digestLine(run.digest, paint)]);
  if (run.gpu !== null) section("GPU", gpuLines(run.gpu, paint));
  section("I/O", [ioLine(run, paint)]);
  section("CPU", cpuLines(run, paint));
  return lines;
}

function permittedLines(verdict: PermittedReport, paint: Paint, columns: number): string[] {
  const { client, provider, mapType, distance, reason } = verdict;
  const refused = distance < 0;
  const color = refused ? paint.bad : paint.good;
  const how = refused ? color(mapType) : `${color(mapType)}, distance ${distance}`;
  const lines = [`${paint.name(client)} → ${paint.name(provider)}  ${how}  ${paint.dim(reason)}`];
  if (!refused) return lines;
  const width = columns - LABEL_WIDTH - 8;
  for (const text of verdict.evidence) lines.push(`  ${paint.dim(`evidence  ${text}`)}`);
  for (const text of verdict.remedies) {
    lines.push(...wrap(`remedy: ${text}`, width).map((line) => `  ${line}`));
  }
  return lines;
}

function routeLine(leg: RouteLegReport, paint: Paint): string {
  const verb = `${leg.role} ${leg.direction === "read" ? "reads " : "writes"}`;
  const ok = leg.outcome === "success";
  const end = ok ? paint.good("✔") : paint.bad(`✘ ${leg.outcome}`);
  return `${verb}  ${hopChain(leg.hops, paint)}  ${end}`;
}

/**
 * `0000:1a:00.0 ═gen5 x16═▶ 0000:17:03.0 ─▶ ...`: a double line is a link, a single one is inside.
 */
function hopChain(hops: readonly HopReport[], paint: Paint): string {
  return hops
    .map(({ at, link }, i) => {
      if (i === hops.length - 1) return paint.name(at);
      return `${paint.name(at)} ${link === null ? "─▶" : paint.dim(`═${link}═▶`)} `;
    })
    .join("");
}

function linkLines(links: readonly LinkReport[], paint: Paint): string[] {
  if (links.length === 0) return [paint.dim("none carried payload")];
  const shown = links.slice(0, LINKS_SHOWN);
  const rows = shown.map(({ link, generation, width, downBytes, upBytes }) => [
    paint.name(link),
    paint.dim(`gen${generation} x${width}`),
    `↓ ${formatBytes(downBytes)}`,
    `↑ ${formatBytes(upBytes)}`,
  ]);
  const lines = alignColumns(rows);
  const rest = links.length - shown.length;
  if (rest > 0) lines.push(paint.dim(`and ${rest} more links (--json lists all)`));
  return lines;
}

function hostMemoryLine({ hostMemory }: RunReport, paint: Paint): string {
  const { payloadIn, payloadOut, controlIn, controlOut } = hostMemory;
  const color = payloadIn + payloadOut === 0 ? paint.good : paint.warn;
  const payload = color(`payload in ${formatBytes(payloadIn)}, out ${formatBytes(payloadOut)}`);
  const control = `control in ${formatBytes(controlIn)}, out ${formatBytes(controlOut)}`;
  return `${payload}  ${paint.dim(control)}`;
}

function digestLine({ sent, onSsd, readBack, equal }: DigestReport, paint: Paint): string {
  if (equal) return `${paint.good("sent = on the SSD = read back")}  sha256 ${sent.slice(0, 16)}…`;
  const parts = [`sent ${sent.slice(0, 16)}`, `SSD ${onSsd.slice(0, 16)}`];
  return paint.bad(`DIFFERENT: ${parts.join(", ")}, read back ${readBack.slice(0, 16)}`);
}

function gpuLines(check: GpuCheckReport, paint: Paint): string[] {
  const { gpu, bytes, sent, computed, sum64, vramEqual, equal } = check;
  const over = `crc32c ${computed} over ${formatBytes(bytes)} of its own memory`;
  const lines = [
    equal
      ? `${paint.name(gpu)} computed ${over}: ${paint.good("what was sent")}`
      : `${paint.name(gpu)} computed ${over}: ${paint.bad(`DIFFERENT from ${sent}`)}`,
    paint.dim(`sum of its words ${sum64}`),
  ];
  if (!vramEqual) lines.push(paint.bad("VRAM does not hold what was sent"));
  return lines;
}

function ioLine({ io }: RunReport, paint: Paint): string {
  const { writes, reads, bytesWritten, bytesRead, errors, firstError } = io;
  const done =
    `${formatCount(writes)} writes (${formatBytes(bytesWritten)}), ` +
    `${formatCount(reads)} reads (${formatBytes(bytesRead)})`;
  if (errors === 0) return `${done}, no errors`;
  return `${done}, ${paint.bad(`${formatCount(errors)} errors, the first: ${firstError}`)}`;
}

/** `4 KiB   write 3.81 µs   read 3.40 µs`, a line per size. */
function cpuLines({ cpu }: RunReport, paint: Paint): string[] {
  const rows = cpu.groups.map(({ sizeBytes, writeUs, readUs }) => [
    formatBytes(sizeBytes),
    writeUs === null ? "" : `write ${micros(writeUs)}`,
    readUs === null ? "" : `read ${micros(readUs)}`,
  ]);
  const note = `per I/O, all hosts with drivers and models; ${cpu.wallMs.toFixed(0)} ms in all`;
  return [...alignColumns(rows, [true, true, true]), paint.dim(note)];
}

const micros = (us: number): string => `${us.toFixed(2)} µs`;

function summaryTable(report: ScenarioReport, paint: Paint): string[] {
  const header = ["", "staged in", "host payload", firstSize(report), "digest", "outcome"].map(
    paint.dim,
  );
  const rows = report.runs.map((run) => {
    const { hostMemory, cpu, digest, gpu } = run;
    const first = cpu.groups[0];
    return [
      run.description,
      run.stagedIn,
      formatBytes(hostMemory.payloadIn + hostMemory.payloadOut),
      first === undefined ? "-" : micros(first.writeUs ?? first.readUs ?? 0),
      equality((digest ?? gpu)?.equal, paint),
      run.outcome,
    ];
  });
  return alignColumns([header, ...rows], [false, false, true, true]).map((line) => `  ${line}`);
}

function equality(equal: boolean | undefined, paint: Paint): string {
  if (equal === undefined) return "-";
  return equal ? paint.good("equal") : paint.bad("DIFFERENT");
}

/** Heading of the CPU column: what its figures are per. */
function firstSize({ runs }: ScenarioReport): string {
  const group = runs[0]?.cpu.groups[0];
  if (group === undefined) return "CPU";
  const what = group.writeUs === null ? "read" : "write";
  return `CPU per ${formatBytes(group.sizeBytes)} ${what}`;
}
