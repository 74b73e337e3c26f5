import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { randomMachine } from "../../testing/random-machine.ts";
import { shippedMachine } from "../../testing/recorded.ts";
import { formatBdf, PeerlaneError, Prng, parseBdf } from "../core/index.ts";
import { type Machine, MachineIndex, NONE, PATH_MAX } from "./index.ts";

const index = new MachineIndex(shippedMachine("01-same-switch"));
const at = (name: string) => index.requireIndex(parseBdf(name));
const name = (i: number) =>
  i === NONE ? "none" : formatBdf(index.functions[i]?.bdf ?? (0 as never));

describe("the tree of a switch with two SSDs", () => {
  it("has parents, children and paths", () => {
    expect(name(index.parentOf(at("03:00.0")))).toBe("0000:02:00.0");
    expect(index.childrenOf(at("01:00.0")).map(name)).toEqual(["0000:02:00.0", "0000:02:01.0"]);
    expect(index.descendantsOf(at("00:04.0")).length).toBe(5);
    const path = new Int32Array(PATH_MAX);
    const length = index.pathToRoot(at("04:00.0"), path);
    expect([...path.subarray(0, length)].map(name)).toEqual([
      "0000:04:00.0",
      "0000:02:01.0",
      "0000:01:00.0",
      "0000:00:04.0",
    ]);
    expect(index.depthOf(at("04:00.0"))).toBe(3);
    expect(name(index.rootPortOf(at("04:00.0")))).toBe("0000:00:04.0");
    expect(name(index.rootPortOf(at("00:1f.2")))).toBe("none");
    expect(name(index.topOf(at("00:1f.2")))).toBe("0000:00:1f.2");
  });

  it("has the common bridge of two functions", () => {
    const common = (a: string, b: string) => name(index.commonOf(at(a), at(b)));
    expect(common("03:00.0", "04:00.0")).toBe("0000:01:00.0");
    expect(common("03:00.0", "02:00.0")).toBe("0000:02:00.0");
    expect(common("03:00.0", "03:00.0")).toBe("0000:03:00.0");
    expect(common("03:00.0", "00:1f.2")).toBe("none");
  });

  it("names what is near when a function is not there", () => {
    expect(index.functionAt(parseBdf("05:00.0"))).toBeNull();
    expect(() => at("04:00.1")).toThrow(PeerlaneError);
    expect(() => at("04:00.1")).toThrow(/0000:04:00.1 is not in the machine/);
  });

  it("prints itself", () => {
    const tree = index.inspect() as Record<string, Record<string, unknown>>;
    expect(Object.keys(tree)).toEqual(["0000:00"]);
    expect(tree["0000:00"]?.["0000:00:04.0"]).toEqual({
      "0000:01:00.0": {
        "0000:02:00.0": { "0000:03:00.0": "QEMU NVM Express Controller" },
        "0000:02:01.0": { "0000:04:00.0": "QEMU NVM Express Controller" },
      },
    });
  });
});

describe("any tree", () => {
  it("is walked in bounded steps and agrees with itself", () => {
    fc.assert(
      fc.property(fc.integer({ min: 0, max: 1e6 }), (seed) => {
        const machine = randomMachine(new Prng(seed), { functions: 40 });
        const tree = new MachineIndex(machine);
        const path = new Int32Array(PATH_MAX);
        for (let i = 0; i < tree.count; i++) {
          const length = tree.pathToRoot(i, path);
          expect(length).toBe(tree.depthOf(i) + 1);
          expect(path[length - 1]).toBe(tree.topOf(i));
          const above = tree.parentOf(i);
          if (above !== NONE) {
            expect(tree.childrenOf(above)).toContain(i);
            expect(tree.commonOf(i, above)).toBe(above);
          }
          expect(tree.hostBridgeIndexOf(i)).not.toBe(NONE);
        }
      }),
      { seed: 31, numRuns: 40 },
    );
  });

  it("has no loops, whatever bus numbers bridges claim", () => {
    const base = shippedMachine("01-same-switch");
    fc.assert(
      fc.property(
        fc.array(fc.tuple(fc.nat({ max: 255 }), fc.nat({ max: 255 })), { maxLength: 8 }),
        (claims) => {
          let next = 0;
          const functions = base.functions.map((fn) => {
            const claim = fn.bridge === null ? undefined : claims[next++];
            if (fn.bridge === null || claim === undefined) return fn;
            const [secondary, subordinate] = claim;
            return { ...fn, bridge: { ...fn.bridge, secondary, subordinate } };
          });
          const machine: Machine = { ...base, functions };
          const tree = new MachineIndex(machine);
          const path = new Int32Array(PATH_MAX);
          for (let i = 0; i < tree.count; i++) {
            expect(tree.pathToRoot(i, path)).toBeLessThanOrEqual(PATH_MAX);
          }
        },
      ),
      { seed: 32, numRuns: 200 },
    );
  });
});
