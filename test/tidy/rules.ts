/**
 * The repository's own rules for src/, one entry each: what it finds, what to do instead, and
 * samples it must and must not catch (tidy.test.ts runs those first: a rule that finds nothing is
 * worse than none). Layering is not here: see .dependency-cruiser.cjs.
 */
import ts from "typescript";
import { type Hit, hitsOf, isValueUse, type Source } from "./source.ts";

export interface Rule {
  readonly name: string;
  /** What to do instead. Printed under the hits. */
  readonly instead: string;
  readonly appliesTo: (path: string) => boolean;
  readonly find: (source: Source) => Hit[];
  readonly bad: readonly string[];
  readonly good: readonly string[];
}

export const LINES_MAX = 600;
export const COLUMNS_MAX = 100;
/** Shorter than this, a head comment repeats the file's name instead of saying what it is for. */
const HEAD_COMMENT_LETTERS_MIN = 40;

const everywhere = (): boolean => true;
const isTest = (path: string): boolean => path.endsWith(".test.ts");
const isHot = (path: string): boolean => path.endsWith(".hot.ts");
const mayTouchHost = (path: string): boolean => /^src\/(platform|cli)\//.test(path);

const ADDRESS_TYPES = new Set(["PhysAddr", "BusAddr", "DmaAddr", "Pfn", "Lba"]);
const TIMERS = new Set(["setTimeout", "setInterval", "setImmediate"]);
const HOST_MEMBERS = new Set(["Date.now", "performance.now", "Math.random"]);
const HOST_OBJECTS = new Set(["process", "crypto"]);

function hostIdiom(node: ts.Node): string | undefined {
  if (ts.isNewExpression(node) && node.expression.getText() === "Date") {
    return (node.arguments?.length ?? 0) === 0 ? "new Date() reads the clock" : undefined;
  }
  if (ts.isPropertyAccessExpression(node)) {
    const owner = node.expression.getText();
    const member = `${owner}.${node.name.text}`.replace(/^globalThis\./, "");
    if (HOST_MEMBERS.has(member) || HOST_OBJECTS.has(owner)) return member;
    if (owner === "globalThis") return TIMERS.has(member) ? member : undefined;
  }
  if (ts.isIdentifier(node) && TIMERS.has(node.text) && isValueUse(node)) return node.text;
  return undefined;
}

function hotIdiom(node: ts.Node): string | undefined {
  if (ts.isAwaitExpression(node)) return "await";
  if (node.kind === ts.SyntaxKind.AsyncKeyword) return "async";
  if (ts.isForOfStatement(node) && node.awaitModifier !== undefined) return "for await";
  if (ts.isThrowStatement(node)) return "throw";
  if (ts.isSpreadElement(node) || ts.isSpreadAssignment(node)) return "spread";
  if (ts.isBigIntLiteral(node) || node.kind === ts.SyntaxKind.BigIntKeyword) return "bigint";
  if (
    ts.isIdentifier(node) &&
    /^(BigInt|Big(Int|Uint)64Array|[gs]etBigU?[Ii]nt64)$/.test(node.text)
  ) {
    return node.text;
  }
  if (ts.isCallExpression(node) && /^(\w+\.)*assert/.test(node.expression.getText())) {
    return node.arguments.some((arg) => ts.isTemplateExpression(arg))
      ? "assertion message built at run time"
      : undefined;
  }
  return undefined;
}

function addressCast(node: ts.Node): string | undefined {
  if (!ts.isAsExpression(node) && !ts.isTypeAssertionExpression(node)) return undefined;
  const type = node.type.getText();
  return ADDRESS_TYPES.has(type) ? `as ${type}` : undefined;
}

function headComment(text: string): string | undefined {
  return /^(?:#![^\n]*\n)?\/\*\*([\s\S]*?)\*\//.exec(text)?.[1];
}

function isUrlOrTable(line: string): boolean {
  return line.includes("://") || /^\s*(\*|\/\/|\/\*\*?)\s*\|.*\|/.test(line);
}

export const RULES: readonly Rule[] = [
  {
    name: `a file has at most ${LINES_MAX} lines`,
    instead: "Split it by what changes together; 100 to 400 lines is the aim.",
    appliesTo: everywhere,
    find: ({ lines }) =>
      lines.length > LINES_MAX ? [{ line: LINES_MAX + 1, what: `${lines.length} lines` }] : [],
    bad: ["\n".repeat(LINES_MAX + 1)],
    good: ["\n".repeat(LINES_MAX)],
  },
  {
    name: `a line has at most ${COLUMNS_MAX} columns`,
    instead: "Wrap the comment or split the string; only URLs and comment tables may be longer.",
    appliesTo: everywhere,
    find: ({ lines }) =>
      lines.flatMap((text, index) => {
        const columns = [...text].length;
        return columns > COLUMNS_MAX && !isUrlOrTable(text)
          ? [{ line: index + 1, what: `${columns} columns` }]
          : [];
      }),
    bad: [`// ${"x".repeat(COLUMNS_MAX)}`],
    good: [
      `// ${"é".repeat(97)}`,
      `// https://x/${"x".repeat(99)}`,
      ` * | a | ${"x".repeat(99)} |`,
    ],
  },
  {
    name: "a file begins by saying what it is for",
    instead:
      "Begin with /** what it is for, its invariants, what it leaves out */, above the imports.",
    appliesTo: (path) => !isTest(path),
    find: ({ text }) => {
      const letters = headComment(text)?.replace(/[^\p{L}]/gu, "").length ?? 0;
      return letters < HEAD_COMMENT_LETTERS_MIN ? [{ line: 1, what: "no such comment" }] : [];
    },
    bad: ["export {};", "/** Files. */\nexport {};", 'import "./a.ts";\n/** Too late. */'],
    good: ["/**\n * Rings of fixed size for one producer and one consumer; no locks.\n */\n"],
  },
  {
    name: "time, randomness and the process come from src/platform",
    instead:
      "Take a Clock, Prng or Host as a parameter, so that one seed replays a run (src/platform).",
    appliesTo: (path) => !mayTouchHost(path),
    find: (source) => hitsOf(source, hostIdiom),
    bad: [
      "const t = Date.now();",
      "performance.now();",
      "const r = globalThis.Math.random();",
      "setTimeout(f, 1);",
      "later(setImmediate);",
      "globalThis.setInterval(f, 1);",
      "process.exit(1);",
      "const { argv } = process.env;",
      "crypto.randomUUID();",
      "new Date();",
    ],
    good: [
      "// Date.now() is not for us",
      'const text = "process.env, setTimeout(f)";',
      `const text = \`Math.random() \${x}\`;`,
      "clock.setTimeout(f, 1);",
      "interface Timers { setTimeout(f: () => void): void }",
      "class Queue { process(x: number) { return this.process(x); } }",
      "new Date(0);",
    ],
  },
  {
    name: "the data plane is synchronous, allocation-free and returns statuses",
    instead:
      "In *.hot.ts return an integer status (core/status.ts), keep to numbers, preallocate, and " +
      "give assertions a constant message. Move what must wait or fail loudly to the control plane.",
    appliesTo: isHot,
    find: (source) => hitsOf(source, hotIdiom),
    bad: [
      "async function f() {}",
      "const f = async () => 1;",
      "await x;",
      "const n = 1n;",
      "let n: bigint;",
      "BigInt(1);",
      "view.getBigUint64(0, true);",
      "throw new Error();",
      "f(...xs);",
      "const o = { ...p };",
      `assert(ok, \`bad \${x}\`);`,
    ],
    good: [
      "// never throw, await or 1n",
      'assert(ok, "throw ... 1n");',
      "function f(...xs: number[]) {}",
      "const name = `constant`;",
    ],
  },
  {
    name: "addresses are made in src/core/addr.ts",
    instead: "Call physAddr(), busAddr() and so on (src/core/addr.ts), which check the range.",
    appliesTo: (path) => path !== "src/core/addr.ts",
    find: (source) => hitsOf(source, addressCast),
    bad: ["x as PhysAddr;", "(1 + 2) as Lba;", "x as unknown as BusAddr;"],
    good: ["// x as PhysAddr", "const x: PhysAddr = physAddr(1);", "x as PhysAddrRange;"],
  },
  {
    name: "no any",
    instead: "Say what it is, or use unknown and narrow it.",
    appliesTo: everywhere,
    find: (source) =>
      hitsOf(source, (node) => (node.kind === ts.SyntaxKind.AnyKeyword ? "any" : undefined)),
    bad: ["let x: any;", "x as any;", "type F = (x: any[]) => void;"],
    good: ["// any", 'const x = "any";', "const any = 1; f(any);"],
  },
  {
    name: "no work left as a note",
    instead: "Do it, or open an issue and delete the note.",
    appliesTo: everywhere,
    find: ({ lines }) =>
      lines.flatMap((text, index) => {
        const note = /\b(TODO|FIXME)\b/.exec(text);
        return note === null ? [] : [{ line: index + 1, what: note[0] }];
      }),
    bad: ["// TODO: later", "/* FIXME */"],
    good: ["// to do", "const TODOS = 1;"],
  },
];
