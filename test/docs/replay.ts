/**
 * Runs the commands that a page of documentation shows, and puts what they print now where the page
 * shows what they printed: a page that comes back unchanged is true.
 *
 * A block of output begins with `$ peerlane ...` (or `$ npx peerlane ...`). A line `...` stands for
 * lines that are left out; without one before it, a block begins where the output begins, and
 * likewise ends. In a table row of two code cells the second is one line of what the first prints,
 * with runs of spaces squeezed. Output is what a pipe gets; standard error only where that is empty.
 */

/** What a command printed. */
export interface Printed {
  readonly status: number;
  readonly text: string;
}

/** A command in a page, and where. */
export interface Shown {
  readonly line: number;
  readonly args: readonly string[];
}

const PROMPT = /^( *)\$ (?:npx )?peerlane (.*)$/;
const ROW = /^\|.*\| `peerlane ([^`]+)` \| `([^`]+)` \|$/;
const ELISION = /^\s*\.\.\.$/;

export const argsOf = (command: string): string[] =>
  command
    .replace(/(^|\s)[#>|].*$/, "")
    .trim()
    .split(/\s+/);

/** Every `peerlane ...` that the page names, in blocks and in the text, with or without output. */
export function commandsIn(page: string): Shown[] {
  return page.split("\n").flatMap((text, at) => {
    const inCode = [...text.matchAll(/`(?:sudo |npx )?peerlane ([^`]+)`/g)];
    const inBlock = /^(?: {4,}|\$ | *\$ |)(?:sudo |npx )?peerlane ([a-z].*)$/.exec(text);
    const found = inCode.length > 0 ? inCode : inBlock === null ? [] : [inBlock];
    return found.map(([, command]) => ({ line: at + 1, args: argsOf(command as string) }));
  });
}

/** Examples in the help of a command: each a line that begins with `peerlane`, two columns in. */
export const examplesIn = (help: string): string[][] =>
  [...help.matchAll(/^ {2}peerlane (.*?)(?: {2,}.*)?$/gm)].map(([, command]) =>
    argsOf(command as string),
  );

/**
 * The page with what its commands print now; as it is where `run` answers null. Throws where a part
 * of a block is in no output.
 */
export async function replay(
  page: string,
  run: (args: readonly string[]) => Promise<Printed | null>,
): Promise<string> {
  const lines = page.split("\n");
  const fresh: string[] = [];
  for (let at = 0; at < lines.length; at++) {
    const line = lines[at] as string;
    fresh.push(line);
    const row = ROW.exec(line);
    if (row !== null) {
      const [, command = "", said = ""] = row;
      const printed = await run(argsOf(command));
      const now = printed === null ? said : sayNow(said, printed.text);
      fresh[fresh.length - 1] = line.replace(`\`${said}\` |`, () => `\`${now}\` |`);
    }
    const prompt = PROMPT.exec(line);
    if (prompt === null) continue;
    const [, indent = "", command = ""] = prompt;
    const end = endOfBlock(lines, at + 1, indent);
    const shown = lines.slice(at + 1, end).map((text) => text.slice(indent.length));
    const printed = await run(argsOf(command));
    if (printed === null) continue;
    const output = printed.text.trimEnd().split("\n");
    const now = refresh(shown, output, `line ${at + 1}: ${command}`);
    fresh.push(...now.map((text) => (text === "" ? "" : indent + text)));
    at = end - 1;
  }
  return fresh.join("\n");
}

/** A fence ends a block, or, where the block is indented, a line that is not. */
function endOfBlock(lines: readonly string[], from: number, indent: string): number {
  let end = from;
  for (; end < lines.length; end++) {
    const line = lines[end] as string;
    const ends = indent === "" ? line.startsWith("```") : line !== "" && !line.startsWith(indent);
    if (ends) break;
  }
  // Empty lines between an indented block and the text after it are the page's.
  while (end > from && lines[end - 1] === "") end--;
  return end;
}

/** The shown parts of a block, each as it is in `output`. */
function refresh(shown: readonly string[], output: readonly string[], where: string): string[] {
  const fresh: string[] = [];
  let at = 0;
  let part: string[] = [];
  let isOpen = false;
  const close = (isLast: boolean): void => {
    if (part.length > 0) {
      const first = part[0] as string;
      const begin = isOpen ? find(first, output, at, where) : 0;
      const last = part[part.length - 1] as string;
      at = isLast ? output.length : find(last, output, begin, where) + 1;
      fresh.push(...output.slice(begin, at));
    }
    part = [];
  };
  for (const line of shown) {
    if (!ELISION.test(line)) {
      part.push(line);
      continue;
    }
    close(false);
    fresh.push(line);
    isOpen = true;
  }
  close(true);
  return fresh;
}

/** The line itself, else the first that begins with the same two words. */
function find(line: string, output: readonly string[], from: number, where: string): number {
  const exact = output.indexOf(line, from);
  if (exact >= 0) return exact;
  const head = headOf(line);
  const similar = output.findIndex((other, at) => at >= from && headOf(other) === head);
  if (similar >= 0) return similar;
  throw new Error(
    `${where}\nprints no line that begins as this one does; write the block anew:\n  ${line}\n` +
      `It prints:\n${output.join("\n")}`,
  );
}

const headOf = (line: string): string => line.trim().split(/\s+/).slice(0, 2).join(" ");

const squeeze = (text: string): string => text.replaceAll(/\s+/g, " ").trim();

/** The line of a table row, when it is still printed; else the one that shares most words with it. */
function sayNow(said: string, output: string): string {
  if (squeeze(output).includes(squeeze(said))) return said;
  const words = new Set(said.split(/\s+/));
  const likeness = (line: string): number =>
    line.split(/\s+/).filter((word) => words.has(word)).length;
  const lines = output.split("\n").map(squeeze);
  return lines.reduce((best, line) => (likeness(line) > likeness(best) ? line : best), "");
}
