/**
 * Reads a scenario file: YAML, checked against the schema; every complaint names file, line and
 * column of the value it is about.
 */

import { type Document, isAlias, LineCounter, type Node, parseDocument } from "yaml";
import type { z } from "zod";
import { UsageError } from "../core/index.ts";
import { type Scenario, scenarioSchema } from "./schema.ts";

interface Place {
  readonly line: number;
  readonly column: number;
}

/** The place of the deepest existing node on `path`: a missing key is reported at its parent. */
function placeOf(document: Document.Parsed, lines: LineCounter, path: PropertyKey[]): Place {
  for (let depth = path.length; depth >= 0; depth--) {
    const node = document.getIn(path.slice(0, depth), true) as Node | undefined;
    const offset = node?.range?.[0];
    if (offset !== undefined) {
      const { line, col } = lines.linePos(offset);
      return { line, column: col };
    }
  }
  return { line: 1, column: 1 };
}

function complain(fileName: string, place: Place, message: string, more: number): UsageError {
  const others = more > 0 ? ` (and ${more} more)` : "";
  return new UsageError("bad-scenario", `${message}${others}`, {
    place: `${fileName}:${place.line}:${place.column}`,
    remedy: "docs/guide/scenarios.md lists every key with its values",
  });
}

/** Unions report one issue for all their members: the deepest one is what the writer meant. */
function deepest(issue: z.core.$ZodIssue): { path: PropertyKey[]; message: string } {
  let path = [...issue.path];
  let message = issue.message;
  let current: z.core.$ZodIssue = issue;
  for (let level = 0; level < 8 && current.code === "invalid_union"; level++) {
    const candidates: z.core.$ZodIssue[] = current.errors.flat();
    // At the same depth our own checks say more than "expected this literal".
    const weight = (one: z.core.$ZodIssue): number =>
      2 * one.path.length + (one.code === "custom" ? 1 : 0);
    const next = candidates.sort((a, b) => weight(b) - weight(a))[0];
    if (next === undefined) break;
    path = [...path, ...next.path];
    message = next.message;
    current = next;
  }
  return { path, message };
}

/** Parses and validates scenario text. Throws {@link UsageError} `bad-scenario`. */
export function parseScenario(text: string, fileName: string): Scenario {
  const lines = new LineCounter();
  const document = parseDocument(text, { lineCounter: lines, prettyErrors: false });
  const syntax = document.errors[0];
  if (syntax !== undefined) {
    const { line, col } = lines.linePos(syntax.pos[0]);
    throw complain(fileName, { line, column: col }, syntax.message, document.errors.length - 1);
  }
  if (isAlias(document.contents)) {
    throw complain(fileName, { line: 1, column: 1 }, "a scenario is a mapping", 0);
  }
  // Aliases could expand a small file into a huge one; a scenario has no use for more than a few.
  const plain: unknown = document.toJS({ maxAliasCount: 16 });
  const result = scenarioSchema.safeParse(plain);
  if (result.success) return result.data;
  const issue = result.error.issues[0];
  if (issue === undefined) throw complain(fileName, { line: 1, column: 1 }, "not valid", 0);
  const { path, message } = deepest(issue);
  const where = path.length === 0 ? "" : `${path.map(String).join(".")}: `;
  const place = placeOf(document, lines, path);
  throw complain(fileName, place, `${where}${message}`, result.error.issues.length - 1);
}
