/**
 * Source files as the rules of tidy.test.ts see them: text, lines and syntax tree. Rules that look
 * for idioms walk the tree, so a word in a comment or a string is never a false hit.
 */
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join, relative } from "node:path";
import { fileURLToPath } from "node:url";
import ts from "typescript";

export const ROOT = fileURLToPath(new URL("../..", import.meta.url));

export interface Source {
  /** From the root of the repository, with forward slashes: `src/core/addr.ts`. */
  readonly path: string;
  readonly text: string;
  readonly lines: readonly string[];
  readonly tree: ts.SourceFile;
}

export interface Hit {
  readonly line: number;
  readonly what: string;
}

export function parse(path: string, text: string): Source {
  const tree = ts.createSourceFile(path, text, ts.ScriptTarget.ES2023, true, ts.ScriptKind.TS);
  const lines = text.split("\n");
  if (lines.at(-1) === "") lines.pop();
  return { path, text, lines, tree };
}

export function loadSources(folder: string): Source[] {
  const sources: Source[] = [];
  const walk = (at: string): void => {
    for (const entry of readdirSync(at, { withFileTypes: true })) {
      const path = join(at, entry.name);
      if (entry.isDirectory()) walk(path);
      else if (entry.name.endsWith(".ts")) {
        sources.push(parse(relative(ROOT, path), readFileSync(path, "utf8")));
      }
    }
  };
  if (existsSync(join(ROOT, folder))) walk(join(ROOT, folder));
  return sources.sort((a, b) => (a.path < b.path ? -1 : 1));
}

/** Calls `visit` on every node, parents first. */
export function walkTree(node: ts.Node, visit: (node: ts.Node) => void): void {
  visit(node);
  ts.forEachChild(node, (child) => walkTree(child, visit));
}

/** One hit for each node that `match` describes. */
export function hitsOf(source: Source, match: (node: ts.Node) => string | undefined): Hit[] {
  const hits: Hit[] = [];
  walkTree(source.tree, (node) => {
    const what = match(node);
    if (what === undefined) return;
    const { line } = source.tree.getLineAndCharacterOfPosition(node.getStart(source.tree));
    hits.push({ line: line + 1, what });
  });
  return hits;
}

/** True where a name is read as a value: not a member, a key, a parameter or a declaration. */
export function isValueUse(node: ts.Identifier): boolean {
  const { parent } = node;
  if (ts.isCallExpression(parent)) return true;
  if (ts.isPropertyAccessExpression(parent)) return parent.expression === node;
  if (ts.isVariableDeclaration(parent) || ts.isPropertyAssignment(parent)) {
    return parent.initializer === node;
  }
  return ts.isShorthandPropertyAssignment(parent) || ts.isBinaryExpression(parent);
}
