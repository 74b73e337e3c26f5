import { describe, expect, it } from "vitest";
import { shippedMachine } from "../../testing/recorded.ts";
import { PLAIN, widthOf } from "../core/index.ts";
import { renderTopo } from "./index.ts";

describe("a tree", () => {
  const machine = shippedMachine("hgx-h100-gpud.vvv.txt");
  const lineOf = (text: string, name: string): string =>
    text.split("\n").find((line) => line.includes(name)) ?? "";

  it("has columns where they fit", () => {
    const text = renderTopo(machine);
    expect(lineOf(text, "17:00.0")).toMatch(/switch down {2,}gen4 x4 \(of gen5 x4\) {2,}ACS clear/);
    expect(lineOf(text, "19:00.0").indexOf("gen5")).toBe(lineOf(text, "18:00.0").indexOf("gen4"));
  });

  it("loses names on a narrow terminal, and no fact", () => {
    const text = renderTopo(machine, { paint: PLAIN, columns: 80 });
    expect(text.split("\n").filter((line) => widthOf(line) > 80)).toEqual([]);
    const port = "├─ 17:00.0  switch down  gen4 x4 (of gen5 x4)  ACS clear  bus 18  ";
    expect(lineOf(text, "17:00.0")).toContain(port);
    expect(lineOf(text, "19:00.0")).toContain(
      "GPU  gen5 x16  BAR0 16 MiB BAR2 128 GiB BAR4 32 MiB",
    );
  });
});
