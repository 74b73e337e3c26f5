/**
 * The repository's own rules as tests. Rules about one file are in tidy/rules.ts; here are those
 * about the whole: limits that are used, events that are emitted, dependencies that are pinned.
 */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import ts from "typescript";
import { describe, expect, it, type TestContext } from "vitest";
import { RULES } from "./tidy/rules.ts";
import { loadSources, parse, ROOT, type Source, walkTree } from "./tidy/source.ts";

const sources = loadSources("src");

/** Fails with one line per hit, then what to do instead. */
function expectNone(hits: readonly string[], instead: string): void {
  if (hits.length > 0) expect.fail(`\n${hits.join("\n")}\n=> ${instead}\n`);
}

describe.each(RULES)("$name", (rule) => {
  it("catches what it should, and nothing else", () => {
    const found = (text: string) => rule.find(parse("src/sample.hot.ts", text)).length > 0;
    expect(rule.bad.filter((text) => !found(text))).toEqual([]);
    expect(rule.good.filter((text) => found(text))).toEqual([]);
  });

  it("holds in src/", () => {
    const hits = sources
      .filter(({ path }) => rule.appliesTo(path))
      .flatMap((source) =>
        rule.find(source).map((hit) => `${source.path}:${hit.line}: ${hit.what}`),
      );
    expectNone(hits, rule.instead);
  });
});

/** The file a rule is about, or a loud skip while nobody has written it. */
function needs(path: string, context: TestContext): Source {
  const source = sources.find((candidate) => candidate.path === path);
  if (source !== undefined) return source;
  console.warn(`tidy: WARNING: ${path} does not exist yet: "${context.task.name}" checks nothing`);
  return context.skip(`${path} does not exist yet`);
}

const production = sources.filter(({ path }) => !path.endsWith(".test.ts"));

/** Names used as values in these files: `NAME` and `Owner.name`, imports and exports aside. */
function namesUsed(files: readonly Source[]): Set<string> {
  const names = new Set<string>();
  for (const { tree } of files) {
    walkTree(tree, (node) => {
      if (ts.isPropertyAccessExpression(node)) names.add(node.getText());
      if (!ts.isIdentifier(node)) return;
      const { parent } = node;
      if (!ts.isImportSpecifier(parent) && !ts.isExportSpecifier(parent)) names.add(node.text);
    });
  }
  return names;
}

/** Exported constants of a file, with what they are set to. */
function exportedConstants({ tree }: Source): { name: string; value: ts.Expression | undefined }[] {
  return tree.statements.filter(ts.isVariableStatement).flatMap((statement) =>
    statement.modifiers?.some(({ kind }) => kind === ts.SyntaxKind.ExportKeyword)
      ? statement.declarationList.declarations.map(({ name, initializer }) => ({
          name: name.getText(),
          value: initializer,
        }))
      : [],
  );
}

describe("the whole of src/", () => {
  it("uses every limit", (context) => {
    const limits = needs("src/core/limits.ts", context);
    const constants = exportedConstants(limits);
    const used = namesUsed(production.filter((source) => source !== limits));
    // A limit that only sets another limit is used as well.
    for (const { value } of constants) {
      if (value !== undefined) {
        walkTree(value, (node) => {
          if (ts.isIdentifier(node)) used.add(node.text);
        });
      }
    }
    const unused = constants.filter(({ name }) => !used.has(name));
    expectNone(
      unused.map(({ name }) => `src/core/limits.ts: ${name} bounds nothing`),
      "Use the limit where the loop or queue is, or delete it.",
    );
  });

  it("emits every trace event", (context) => {
    const events = needs("src/trace/events.ts", context);
    const table = exportedConstants(events).find(({ name }) => name === "Event")?.value;
    const literal = table !== undefined && ts.isAsExpression(table) ? table.expression : table;
    if (literal === undefined || !ts.isObjectLiteralExpression(literal)) {
      return expect.fail(
        "src/trace/events.ts has no `export const Event = { ... } as const`: teach this test its shape",
      );
    }
    const used = namesUsed(production.filter((source) => source !== events));
    const silent = literal.properties
      .map((property) => property.name?.getText() ?? "")
      .filter((name) => !used.has(`Event.${name}`));
    expectNone(
      silent.map((name) => `src/trace/events.ts: Event.${name} is never emitted`),
      "Emit it where it happens (trace.emit(Event.name, ...)), or delete it.",
    );
  });
});

describe("packages", () => {
  const read = (name: string) => readFileSync(join(ROOT, name), "utf8");

  it("are pinned to exact versions", () => {
    const { dependencies, devDependencies, optionalDependencies } = JSON.parse(
      read("package.json"),
    );
    const all: [string, string][] = Object.entries({
      ...dependencies,
      ...devDependencies,
      ...optionalDependencies,
    });
    const loose = all.filter(([, version]) => !/^\d+\.\d+\.\d+(-[\w.]+)?$/.test(version));
    expectNone(
      loose.map(([name, version]) => `package.json: ${name} ${version}`),
      "Pin the exact version; the newest of several packages no longer runs on Node 20.",
    );
  });

  it("are locked without the address of a registry", () => {
    const resolved = read("package-lock.json").match(/"resolved": "http[^"]*"/g) ?? [];
    expectNone(resolved, "Run `npm install` with this repository's .npmrc, and commit the lock.");
  });

  it("are locked for every platform, or `npm ci` refuses the lock", () => {
    const locked: Record<string, { optionalDependencies?: object }> = JSON.parse(
      read("package-lock.json"),
    ).packages;
    const missing = Object.values(locked)
      .flatMap(({ optionalDependencies }) => Object.keys(optionalDependencies ?? {}))
      .filter((name) => locked[`node_modules/${name}`] === undefined);
    expectNone(missing, "Run `npm run lock` after `npm install`.");
  });
});
