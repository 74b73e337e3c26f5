/**
 * The tables of a comparison, laid out once for text, Markdown and HTML. `timing` marks columns
 * whose figures differ from run to run; what is left must not. Judges nothing.
 */

import { formatBytes } from "../../core/index.ts";
import type { CompareReport, IoRow } from "./compare.ts";
import type { IommuCounts, IommuLifeRow } from "./iommu-life.ts";
import type { RegistrationRow } from "./registration.ts";
import type { CompareWorkload } from "./workload.ts";

export interface Table {
  readonly title: string;
  readonly head: readonly string[];
  readonly rows: readonly (readonly string[])[];
  /** Indices of columns with times. */
  readonly timing: readonly number[];
}

export function formatTime(ns: number): string {
  if (ns < 1e3) return `${ns.toFixed(0)} ns`;
  if (ns < 1e6) return `${(ns / 1e3).toFixed(1)} us`;
  return ns < 1e9 ? `${(ns / 1e6).toFixed(1)} ms` : `${(ns / 1e9).toFixed(2)} s`;
}

export function workloadText({ blockBytes, depth, pattern, readPercent }: CompareWorkload): string {
  const mix =
    readPercent === 0 ? "writes" : readPercent === 100 ? "reads" : `${readPercent} % reads`;
  return `${formatBytes(blockBytes)}, depth ${depth}, ${pattern}, ${mix}`;
}

export function compareTables(report: CompareReport): Table[] {
  return [registration(report), io(report), iommu(report), works(report), landing(report)].filter(
    ({ rows }) => rows.length > 0,
  );
}

function registration({ registration: rows }: CompareReport): Table {
  const row = (entry: RegistrationRow): string[] => {
    const mark = entry.extrapolated ? "~" : "";
    return [
      entry.description,
      formatBytes(entry.sizeBytes),
      `${mark}${formatBytes(entry.allocatedBytes)}`,
      formatBytes(entry.kernelBytes),
      `${mark}${formatTime(entry.nanoseconds)}`,
    ];
  };
  return {
    title: "Registering a BAR",
    head: ["description", "BAR", "allocated", "Linux, by formula", "time"],
    rows: rows.map(row),
    timing: [4],
  };
}

const counts = (values: readonly number[]): string =>
  values.map((value) => Number(value.toFixed(2))).join("/");

function io({ io: rows, workload }: CompareReport): Table {
  const row = (entry: IoRow): string[] => {
    const { description, route, iommu: mode, cost, refusal, translatedAtOpening } = entry;
    const start = [description, route, mode];
    if (cost === null) return [...start, `refused: ${refusal}`, "", "", "", "", "", "", ""];
    const { buildNs, splitNs, mapNs, unmapNs, totalNs } = cost;
    return [
      ...start,
      ...[buildNs, splitNs, mapNs, unmapNs, totalNs].map((ns) => ns.toFixed(1)),
      counts([cost.requests]),
      `${translatedAtOpening} + ${cost.translated}`,
      counts([cost.iommuMaps, cost.iommuUnmaps, cost.iommuFlushes]),
    ];
  };
  return {
    title: `CPU per peer I/O (${workloadText(workload)}), nanoseconds`,
    head: [
      "description",
      "route",
      "IOMMU",
      "build",
      "split/merge",
      "map",
      "unmap",
      "total",
      "requests",
      "translated",
      "IOMMU maps/unmaps/flushes",
    ],
    rows: rows.map(row),
    timing: [3, 4, 5, 6, 7],
  };
}

function iommu({ iommuLife }: CompareReport): Table {
  const cell = (value: IommuCounts | null): string => (value === null ? "" : counts(value));
  const row = (entry: IommuLifeRow): string[] => [
    entry.description,
    entry.route,
    `${entry.group}`,
    entry.opening === null ? `refused: ${entry.refusal}` : cell(entry.opening),
    cell(entry.perIo),
    cell(entry.closing),
    entry.opening === null ? "" : formatBytes(entry.idleIovaBytes),
  ];
  return {
    title: "Strict IOMMU, by group: maps/unmaps/flushes",
    head: ["description", "route", "group", "opening", "per I/O", "taking away", "IOVA while idle"],
    rows: iommuLife.map(row),
    timing: [],
  };
}

function works({ works: rows, descriptions }: CompareReport): Table {
  return {
    title: "Works with",
    head: ["", ...descriptions],
    rows: rows.map(({ name, cells }) => [name, ...descriptions.map((kind) => cells[kind].outcome)]),
    timing: [],
  };
}

function landing({ landings }: CompareReport): Table {
  return {
    title: "dma-address without the re-check: where raid0's second leg writes",
    head: ["machine", "IOMMU", "made for", "used by", "address", "the bio ends", "bytes", "landed"],
    rows: landings.map((row) => [
      row.machine.split("/").at(-1) ?? row.machine,
      row.iommu,
      row.madeFor,
      row.usedBy,
      row.address,
      row.status,
      row.outcome,
      row.landed,
    ]),
    timing: [],
  };
}

/** How the cells that are not a plain yes came about. */
export function failures(report: CompareReport): string[] {
  return report.works.flatMap(({ name, cells }) =>
    report.descriptions
      .filter((kind) => cells[kind].outcome !== "yes")
      .map((kind) => `${name}, ${kind}: ${cells[kind].detail}`),
  );
}

export function subjectLine({ machine, owner, bar, near, far, legs }: CompareReport): string {
  const other =
    far === null ? "no function comes through the host bridge" : `${far} through the host bridge`;
  const names = legs.map((leg) => (leg.standIn ? `${leg.function} (stands in)` : leg.function));
  const under = names.length === 0 ? "none" : names.join(" and ");
  return `${machine}: memory of ${owner} BAR${bar}; ${near} by bus, ${other}; NVMe legs: ${under}`;
}
