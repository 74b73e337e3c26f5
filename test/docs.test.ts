/**
 * The pages for users against the program: what a page shows is what the command prints, and every
 * command and option that it names is there. `npx vitest run test/docs.test.ts -u` writes what the
 * commands print now into the pages; read the change before you commit it.
 */
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { peerlane } from "../testing/cli.ts";
import { argsOf, commandsIn, examplesIn, type Printed, replay } from "./docs/replay.ts";
import { ROOT } from "./tidy/source.ts";

const PAGES = [
  "README.md",
  ...readdirSync(join(ROOT, "docs/guide")).map((name) => `docs/guide/${name}`),
].filter((name) => name.endsWith(".md"));

/** What the pages call the reader's own dump. */
const DUMPS: Readonly<Record<string, string>> = {
  "my.txt": "scenarios/machines/hgx-h100-gpud.vvv.txt",
  "lspci.txt": "scenarios/machines/hgx-h100-gpud.vvv.txt",
};
/** Further files of the reader's own: what names them is not run. */
const OTHERS = ["nn.txt", "tree.txt", "host.txt", "before.txt", "after.txt", "machine.json"];
/** Commands that read a machine and do nothing else: these are run, with output shown or without. */
const PLANNER = ["topo", "matrix", "explain", "find", "diff", "doctor", "pages"];

const read = (page: string): string => readFileSync(join(ROOT, page), "utf8");

const done = new Map<string, Promise<Printed>>();

/** Every command once, by whatever name it reads a dump; pages show parts of the same output. */
function run(shown: readonly string[]): Promise<Printed> {
  const args = shown.map((arg) => DUMPS[arg] ?? arg);
  const key = args.join(" ");
  const known = done.get(key);
  if (known !== undefined) return known;
  const printed = peerlane(...args).then((result) => ({
    status: result.status,
    text: result.stdout === "" ? result.stderr : result.stdout,
  }));
  done.set(key, printed);
  return printed;
}

/** Null for what serves, connects or writes: a page's block of those is left as it is. */
const runPlanner = async (args: readonly string[]): Promise<Printed | null> =>
  PLANNER.includes(args[0] ?? "") ? run(args) : null;

describe.each(PAGES)("%s", (page) => {
  it("shows what the commands print (else: npx vitest run test/docs.test.ts -u)", async () => {
    await expect(await replay(read(page), runPlanner)).toMatchFileSnapshot(join(ROOT, page));
  });

  it("names commands and options that there are", async () => {
    const missing: string[] = [];
    for (const { line, args } of commandsIn(read(page))) {
      const [command = "", ...rest] = args;
      if (command.startsWith("-") || command === command.toUpperCase()) continue;
      const help = await run([command, "--help"]);
      const options = rest.flatMap((arg) => /^--[a-z][a-z-]*/.exec(arg)?.[0] ?? []);
      const unknown = options.filter((option) => !help.text.includes(option));
      if (help.status !== 0) unknown.unshift("no such command");
      if (unknown.length > 0) missing.push(`${page}:${line}: ${args.join(" ")}: ${unknown}`);
    }
    expect(missing).toEqual([]);
  });

  it("names no command of the planner that ends with a mistake in usage", async () => {
    const wrong: string[] = [];
    for (const { line, args } of commandsIn(read(page))) {
      const isPlaceholder = args.some(
        (arg) => /^[A-Z]+(\.\.\.)?$/.test(arg) || OTHERS.includes(arg),
      );
      if (!PLANNER.includes(args[0] ?? "") || isPlaceholder || args.length === 1) continue;
      const { status, text } = await run(args);
      const isShownMistake = read(page).includes(text.trimEnd());
      if (text === "" || (status === 2 && !isShownMistake)) {
        wrong.push(`${page}:${line}: ${args.join(" ")} ended with ${status}\n${text}`);
      }
    }
    expect(wrong).toEqual([]);
  });
});

describe("--help", () => {
  it.each(PLANNER)("of %s has examples that run, and fits 80 columns", async (command) => {
    const { text } = await run([command, "--help"]);
    expect(text).toMatch(/^Exit status: 0 /m);
    const added = text.slice(text.indexOf("\nExamples:"));
    expect(added.split("\n").filter((line) => line.length > 80)).toEqual([]);
    const examples = examplesIn(text);
    expect(examples.length).toBeGreaterThan(1);
    for (const args of examples.filter((one) => one.every((arg) => !OTHERS.includes(arg)))) {
      const printed = await run(args);
      expect({ args, status: printed.status }).not.toMatchObject({ status: 2 });
      expect(printed.text).not.toMatch(/^peerlane: /);
    }
  });

  it("of all begins with what a newcomer types", async () => {
    const { text } = await run(["--help"]);
    const examples = examplesIn(text.slice(0, text.indexOf("Usage:")));
    expect(examples.map(([command]) => command)).toContain("explain");
    for (const args of examples.filter(([command]) => PLANNER.includes(command as string))) {
      expect((await run(args)).status).not.toBe(2);
    }
  });
});

describe("a page that is not true", () => {
  const print = async (): Promise<Printed> => ({ status: 0, text: "one 1\ntwo 2\nthree 3\n" });
  const now = (page: string): Promise<string> => replay(page, print);

  it("comes back with what is printed, whole or in parts", async () => {
    expect(await now("```\n$ peerlane topo x\nold\n```")).toBe(
      "```\n$ peerlane topo x\none 1\ntwo 2\nthree 3\n```",
    );
    const part = "    $ npx peerlane topo x\n    ...\n    two 2\n    ...\n\ntext";
    expect(await now(part)).toBe(part);
    expect(await now("| a | `peerlane topo x` | `three 3` |")).toBe(
      "| a | `peerlane topo x` | `three 3` |",
    );
    expect(await now("| a | `peerlane topo x` | `two 4` |")).toContain("| `two 2` |");
  });

  it("is refused where a part is in no output", async () => {
    const gone = now("```\n$ peerlane topo x\n...\nfour 4\n```");
    await expect(gone).rejects.toThrow(/line 2: topo x[\s\S]*four 4[\s\S]*three 3/);
  });

  it("has arguments without what a shell takes for itself", () => {
    expect(argsOf("topo my.txt   # the tree")).toEqual(["topo", "my.txt"]);
    expect(argsOf("compare --html > compare.html # look")).toEqual(["compare", "--html"]);
  });
});
