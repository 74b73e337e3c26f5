/**
 * What `inspect()` answers: a tree of plain values that the command line, the page and snapshot
 * tests all print. Building one may allocate; nothing on a data path calls it.
 */

export type TreeValue = string | number | boolean | null | Tree | readonly TreeValue[];

export interface Tree {
  readonly [name: string]: TreeValue;
}

/** Every component that holds state answers this. */
export interface Inspectable {
  inspect(): Tree;
}

/** The tree as indented text, for people. Iterative, since a machine's tree can be deep. */
export function formatTree(tree: Tree): string {
  const lines: string[] = [];
  const stack: { name: string; value: TreeValue; depth: number }[] = [];
  const push = (entries: [string, TreeValue][], depth: number): void => {
    for (const [name, value] of entries.reverse()) stack.push({ name, value, depth });
  };
  push(Object.entries(tree), 0);
  while (stack.length > 0) {
    const { name, value, depth } = stack.pop() as { name: string; value: TreeValue; depth: number };
    const indent = "  ".repeat(depth);
    if (value === null || typeof value !== "object") {
      lines.push(`${indent}${name}: ${String(value)}`);
      continue;
    }
    lines.push(`${indent}${name}:`);
    const isList = Array.isArray(value);
    const entries = Object.entries(value as Tree);
    push(isList ? entries.map(([i, v]) => [`[${i}]`, v]) : entries, depth + 1);
  }
  return lines.join("\n");
}
