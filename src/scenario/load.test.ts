import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { PeerlaneError, UsageError } from "../core/index.ts";
import { parseScenario } from "./load.ts";

const GOOD = `name: example
machine:
  file: a.txt
target:
  nic: "0000:1a:00.0"
workload:
  operations:
    - { count: 10, size: 4K }
`;

function refusal(text: string): PeerlaneError {
  try {
    parseScenario(text, "x.yaml");
  } catch (error) {
    if (error instanceof UsageError) return error;
    throw error;
  }
  throw new Error("accepted");
}

describe("parseScenario", () => {
  it("fills in what is not said", () => {
    const scenario = parseScenario(GOOD, "x.yaml");
    if (scenario.kind !== "nvmet") throw new Error("of another kind");
    expect(scenario.target).toMatchObject({ nic: 0x1a00, ssd: "auto", policy: "fail" });
    expect(scenario.workload.operations).toEqual([{ count: 10, size: 4096 }]);
    expect(scenario.runs).toEqual(["host-memory", "dma-address", "lease"]);
  });

  it("names line and column of a bad value", () => {
    expect(refusal(GOOD.replace("4K", "4Q")).place).toBe("x.yaml:8:26");
    const bdf = refusal(GOOD.replace("0000:1a:00.0", "1a.00.0"));
    expect(bdf.place).toBe("x.yaml:5:8");
    expect(bdf.message).toContain("0000:18:00.0");
  });

  it("names the parent of a missing key, and unknown keys by name", () => {
    expect(refusal("name: x\n").message).toMatch(/machine/);
    expect(refusal(`${GOOD}polcy: fail\n`).message).toContain("polcy");
  });

  it("names the place of a syntax error", () => {
    expect(refusal("name: [a\nb: 1\n").place).toMatch(/^x\.yaml:\d+:\d+$/);
    expect(refusal("").code).toBe("bad-scenario");
  });

  it("never does anything with odd text but accept or refuse it", () => {
    fc.assert(
      fc.property(fc.string({ maxLength: 60 }), fc.nat({ max: GOOD.length }), (junk, at) => {
        try {
          parseScenario(GOOD.slice(0, at) + junk + GOOD.slice(at), "x.yaml");
        } catch (error) {
          if (!(error instanceof PeerlaneError)) throw error;
        }
      }),
      { seed: 12, numRuns: 300 },
    );
  });
});
