import { describe, expect, it } from "vitest";
import { readText, shippedPath } from "../../testing/recorded.ts";
import { importMachine } from "./importers/registry.ts";

const text = readText(shippedPath("hgx-h100-gpud.vvv.txt"));
const warningsOf = (dump: string): readonly string[] =>
  importMachine([{ name: "dump.txt", text: dump }]).warnings;

describe("a dump that was cut between two functions", () => {
  it("is not taken for whole: file, place and remedy", () => {
    for (const name of ["18:00.0", "4a:00.0", "9b:00.0"]) {
      const cut = text.slice(0, text.indexOf(`\n${name} `) + 1);
      const [warning] = warningsOf(cut).filter((one) => one.includes("looks cut"));
      expect(warning, name).toMatch(/^dump\.txt: it looks cut after 0000:.*nothing is below 0000:/);
      expect(warning).toMatch(/Take the dump again/);
    }
  });

  it("whole dumps say nothing of the kind", () => {
    expect(warningsOf(text).filter((one) => one.includes("looks cut"))).toEqual([]);
    const small = readText(shippedPath("01-same-switch/lspci.txt"));
    expect(warningsOf(small).filter((one) => one.includes("looks cut"))).toEqual([]);
  });
});
