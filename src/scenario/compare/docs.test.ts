/** docs/compare.md is what the program says today, times aside. */
import { expect, it } from "vitest";
import { readMachine } from "../../machine/index.ts";
import { ManualClock, realFiles } from "../../platform/index.ts";
import { compareDescriptions, compareMarkdown } from "./index.ts";
import { compareTables } from "./tables.ts";

const MIB = 2 ** 20;
const MACHINES = "scenarios/machines";
/** Titles from the workload on may differ in nothing. */
const HEADING = /^## /m;

/** Rows of the table below a heading, as cells. */
function rowsOf(page: string, title: string): string[][] {
  const section = page.split(HEADING).find((part) => part.startsWith(`${title}\n`));
  expect(section, `docs/compare.md has no table "${title}"`).toBeDefined();
  const lines = (section ?? "").split("\n").filter((line) => line.startsWith("| "));
  return lines.slice(2).map((line) => line.slice(2, -2).split(" | "));
}

const without = (row: readonly string[], columns: readonly number[]): string[] =>
  row.filter((_, i) => !columns.includes(i)).map((cell) => cell.trim());

it("docs/compare.md is in step with what runs, times aside", async () => {
  const page = await realFiles.readText("docs/compare.md", MIB);
  const load = (name: string) => readMachine(realFiles, [`${MACHINES}/${name}`]);
  const report = await compareDescriptions(await load("hgx-h100-gpud.vvv.txt"), {
    clock: new ManualClock(),
    sizes: [16 * MIB],
    rounds: 1,
    landingMachine: await load("three-host-bridges.json"),
  });
  for (const { title, rows, timing } of compareTables(report)) {
    const documented = rowsOf(page, title).map((row) => without(row, timing));
    const expected = rows.map((row) => without(row, timing));
    // Larger BARs take gigabytes: the page has them, this test does not register them.
    const isRegistration = title === "Registering a BAR";
    const seen = isRegistration ? documented.filter(([, bar]) => bar === "16 MiB") : documented;
    expect(seen, `regenerate docs/compare.md (docs/guide/compare.md says how): ${title}`).toEqual(
      expected,
    );
  }
  const prose = (text: string): string => text.slice(text.indexOf("## What the rows run"));
  expect(prose(page)).toBe(prose(compareMarkdown(report)));
}, 120_000);
