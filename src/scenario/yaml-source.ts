/**
 * A YAML (or JSON) text that is checked against a schema; every complaint names file, line and
 * column of the value, or of the key that should not be there.
 */

import {
  type Document,
  isAlias,
  isMap,
  isScalar,
  LineCounter,
  type Node,
  parseDocument,
} from "yaml";
import type { z } from "zod";
import { UsageError } from "../core/index.ts";

/** How complaints of one kind of file look. */
export interface SourceKind {
  /** Code of its errors: `bad-scenario`. */
  readonly code: string;
  /** What it is, for people: `a scenario`. */
  readonly what: string;
  readonly remedy: string;
}

/** Aliases could expand a small file into a huge one; nothing here has use for more. */
const ALIASES_MAX = 16;
/** Unions inside unions that are looked into for the issue that was meant. */
const UNION_DEPTH_MAX = 8;

export class YamlSource {
  private readonly kind: SourceKind;
  private readonly fileName: string;
  private readonly lines = new LineCounter();
  private readonly document: Document.Parsed;

  /** Parses the text. Throws {@link UsageError} for wrong syntax. */
  constructor(text: string, fileName: string, kind: SourceKind) {
    this.kind = kind;
    this.fileName = fileName;
    this.document = parseDocument(text, { lineCounter: this.lines, prettyErrors: false });
    const { errors, contents } = this.document;
    const syntax = errors[0];
    if (syntax !== undefined) throw this.at(syntax.pos[0], syntax.message, errors.length - 1);
    if (isAlias(contents)) throw this.at(0, `${kind.what} is a mapping`, 0);
  }

  /** The content as plain values. */
  plain(): unknown {
    return this.document.toJS({ maxAliasCount: ALIASES_MAX });
  }

  /**
   * The content as the schema makes it, or `value` in its place, whose paths `original` turns into
   * paths of the text. Throws {@link UsageError}.
   */
  check<S extends z.ZodType>(
    schema: S,
    value: unknown = this.plain(),
    original = (path: readonly PropertyKey[]): readonly PropertyKey[] => path,
  ): z.output<S> {
    const result = schema.safeParse(value);
    if (result.success) return result.data;
    const issue = result.error.issues[0];
    if (issue === undefined) throw this.at(0, "not valid", 0);
    const { path, message } = deepest(issue);
    throw this.error(original(path), message, result.error.issues.length - 1);
  }

  /** A complaint about what is at `path`; a missing key is reported at its parent. */
  error(path: readonly PropertyKey[], message: string, more = 0, remedy?: string): UsageError {
    const where = path.length === 0 ? "" : `${formatPath(path)}: `;
    return this.at(this.offsetOf(path), `${where}${message}`, more, remedy);
  }

  private at(offset: number, message: string, more: number, remedy?: string): UsageError {
    const { line, col } = this.lines.linePos(offset);
    const others = more > 0 ? ` (and ${more} more)` : "";
    return new UsageError(this.kind.code, `${message}${others}`, {
      place: `${this.fileName}:${Math.max(1, line)}:${Math.max(1, col)}`,
      remedy: remedy ?? this.kind.remedy,
    });
  }

  private offsetOf(path: readonly PropertyKey[]): number {
    for (let depth = path.length; depth >= 0; depth--) {
      const upper: unknown = this.document.getIn(path.slice(0, Math.max(0, depth - 1)), true);
      const own = path[depth - 1];
      // The key itself, where there is one: the value of a mapping begins a line later.
      if (depth > 0 && isMap(upper)) {
        const pair = upper.items.find(({ key }) => String(key) === String(own));
        const offset = (pair?.key as Node | undefined)?.range?.[0];
        const isLong = depth < path.length || !isScalar(pair?.value) || pair?.value.value === null;
        if (offset !== undefined && isLong) return offset;
      }
      const node = this.document.getIn(path.slice(0, depth), true) as Node | null | undefined;
      const offset = node?.range?.[0];
      if (offset !== undefined) return offset;
    }
    return 0;
  }
}

/** `ports[0].addr_traddr`. */
function formatPath(path: readonly PropertyKey[]): string {
  let text = "";
  for (const part of path) {
    if (typeof part === "number") text += `[${part}]`;
    else text += text === "" ? String(part) : `.${String(part)}`;
  }
  return text;
}

/** Unions report one issue for all their members: the deepest one is what the writer meant. */
function deepest(issue: z.core.$ZodIssue): { path: PropertyKey[]; message: string } {
  let path = [...issue.path];
  let message = issue.message;
  let current: z.core.$ZodIssue = issue;
  for (let level = 0; level < UNION_DEPTH_MAX && current.code === "invalid_union"; level++) {
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
  // At the key that should not be there.
  if (current.code === "unrecognized_keys") path.push(current.keys[0] as string);
  return { path, message };
}
