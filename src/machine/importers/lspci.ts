/**
 * The lspci importer: text, hex, or both in one dump. Hex decides; text completes it with BAR
 * sizes, extended capabilities beyond a 256-byte dump, NUMA node, IOMMU group, driver and names.
 *
 * Leaves out: `lspci -t` (a tree of names, see the importer of trees), `lspci -mm`, `lspci -b`.
 */

import { type Bdf, formatBdf, PeerlaneError } from "../../core/index.ts";
import type { MachinePart } from "../assemble.ts";
import type { FunctionDraft } from "../blank.ts";
import { completeFunction } from "../complete.ts";
import { factsFromConfig } from "../config-facts.ts";
import type { PciFunction, Unknown } from "../snapshot.ts";
import { type LspciRecord, splitLspci } from "./lspci-records.ts";
import { functionFromText, TextMemo } from "./lspci-text.ts";

/** A header line of lspci, in the first part of a file. */
const HEADER_LINE =
  /^(?:[0-9a-f]{4,8}:)?[0-9a-f]{2}:[0-9a-f]{2}\.[0-7] (?:[A-Z][^:=\n]*|[0-9a-f]{4}):/m;

export function isLspci(head: string): boolean {
  return HEADER_LINE.test(head);
}

function functionFromRecord(record: LspciRecord, memo: TextMemo, file: string): PciFunction {
  const text = functionFromText(record, memo);
  if (record.config === null) return text;
  const place = `${file}:${record.line}`;
  const hex = factsFromConfig(record.bdf, record.config);
  return completeFunction(hex, text, { base: place, other: place });
}

/** Fields that lspci prints for every function that has them, once it prints them at all. */
const PRINTED_IF_ANY = ["numaNode", "iommuGroup"] as const;

/**
 * A function without the line has none of it, if any other function of the dump has the line.
 * Changes the functions, which nobody else has yet.
 */
function settlePrinted(functions: readonly FunctionDraft[]): void {
  const settled = new Set<string>(
    PRINTED_IF_ANY.filter((field) => functions.some((fn) => fn[field] !== null)),
  );
  if (settled.size === 0) return;
  const isOpen = ({ field }: Unknown): boolean => !settled.has(field);
  // Functions that print the same have one list.
  const open = new Map<FunctionDraft["unknown"], FunctionDraft["unknown"]>();
  for (const fn of functions) {
    const before = fn.unknown;
    let after = open.get(before);
    if (after === undefined) {
      after = before.filter(isOpen);
      open.set(before, after);
    }
    fn.unknown = after;
  }
}

function formatOf(records: readonly LspciRecord[]): string {
  const hasHex = records.some(({ config }) => config !== null);
  const hasText = records.some(({ body }) => body !== "");
  if (!hasHex) return "lspci-text";
  return hasText ? "lspci-hex+text" : "lspci-hex";
}

/** A function may come twice in a file when several lspci outputs were put one after another. */
function joinRepeated(records: readonly LspciRecord[], file: string): PciFunction[] {
  const memo = new TextMemo();
  const joined = new Map<Bdf, { fn: PciFunction; record: LspciRecord }>();
  for (const record of records) {
    const fn = functionFromRecord(record, memo, file);
    const before = joined.get(record.bdf);
    if (before === undefined) {
      joined.set(record.bdf, { fn, record });
      continue;
    }
    const { line } = before.record;
    if (before.fn.config !== null && fn.config !== null) refuseTwice(record, line, file);
    const hasMore = isFuller(fn, before.fn);
    const places = {
      base: `${file}:${hasMore ? record.line : line}`,
      other: `${file}:${hasMore ? line : record.line}`,
    };
    const [base, other] = hasMore ? [fn, before.fn] : [before.fn, fn];
    const whole = completeFunction(base, other, places);
    joined.set(record.bdf, { fn: whole, record: before.record });
  }
  return [...joined.values()].map(({ fn }) => fn);
}

function isFuller(a: PciFunction, b: PciFunction): boolean {
  if ((a.config === null) !== (b.config === null)) return a.config !== null;
  return a.unknown.length < b.unknown.length;
}

function refuseTwice(record: LspciRecord, line: number, file: string): never {
  throw new PeerlaneError(
    "dump-malformed",
    `configuration space of ${formatBdf(record.bdf)} is here twice, first in line ${line}`,
    {
      place: `${file}:${record.line}`,
      remedy: "give the dump of one machine, taken once",
      details: { line: record.line },
    },
  );
}

/**
 * Reads a dump.
 * @throws PeerlaneError `dump-truncated`, `dump-malformed`, `sources-disagree`, `too-large`, with
 * file and line; `not-lspci` when no function is in it
 */
export function parseLspciPart(text: string, file: string): MachinePart {
  const { records, noise } = splitLspci(text, file);
  if (records.length === 0) {
    throw new PeerlaneError("not-lspci", "no line names a PCI function as lspci does", {
      place: `${file}:1`,
      remedy: "give the output of lspci -nnvvvxxxx",
    });
  }
  const warnings: string[] = [];
  if (noise.count > 0) {
    warnings.push(
      `${file}: ${noise.count} lines belong to no function and were left out, ` +
        `first in line ${noise.line}: ${noise.text}`,
    );
  }
  const functions = joinRepeated(records, file);
  settlePrinted(functions);
  for (const fn of functions) {
    if (fn.config === null || fn.headerType <= 2) continue;
    warnings.push(`${formatBdf(fn.bdf)}: header type ${fn.headerType} is none that exists`);
  }
  return {
    source: { file, format: formatOf(records) },
    functions,
    hostBridges: null,
    host: {},
    rootBuses: [],
    warnings,
  };
}
