/**
 * Whatever is done to a dump, reading it ends with a machine or with a PeerlaneError that names a
 * place; and a machine that was read stands: an index of it, its configuration space.
 */
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { readText, shippedPath } from "../../../testing/recorded.ts";
import { PeerlaneError } from "../../core/index.ts";
import { MachineIndex, synthesizeConfig } from "../index.ts";
import { importMachine } from "./registry.ts";

const hex = readText(shippedPath("01-same-switch/lspci.txt"));
const host = readText(shippedPath("01-same-switch/machine.txt"));
const hgx = readText(shippedPath("hgx-h100-gpud.vvv.txt"));
// One root port's worth of lines of the big one: bridges, GPU, NIC, SR-IOV.
const text = hgx.slice(hgx.indexOf("15:00.0 "), hgx.indexOf("26:00.0 "));
// The same hex without extended space, which makes capabilities come from text.
const short = hex.replaceAll(/^[1-9a-f][0-9a-f]0: .*\n/gm, "");

type Edit = readonly [kind: string, at: number, other: number, piece: string];
const edit: fc.Arbitrary<Edit> = fc.tuple(
  fc.constantFrom("cut", "delete", "insert", "swap", "repeat"),
  fc.nat(),
  fc.nat({ max: 400 }),
  fc.oneof(fc.string({ unit: "binary", maxLength: 12 }), fc.constantFrom("\n", "\t", "ff", "00:")),
);

function apply(source: string, [kind, where, length, piece]: Edit): string {
  const at = where % (source.length + 1);
  const end = Math.min(source.length, at + length);
  if (kind === "cut") return source.slice(0, at);
  if (kind === "delete") return source.slice(0, at) + source.slice(end);
  if (kind === "insert") return source.slice(0, at) + piece + source.slice(at);
  if (kind === "repeat") return source.slice(0, end) + source.slice(at);
  return (
    source.slice(0, at) + source.slice(at, end).split("").reverse().join("") + source.slice(end)
  );
}

function stands(files: readonly { name: string; text: string }[]): void {
  let machine: ReturnType<typeof importMachine>;
  try {
    machine = importMachine(files);
  } catch (error) {
    expect(error).toBeInstanceOf(PeerlaneError);
    expect((error as PeerlaneError).place).toMatch(/\S/);
    expect((error as PeerlaneError).remedy).toMatch(/\S/);
    return;
  }
  const index = new MachineIndex(machine);
  expect(index.count).toBe(machine.functions.length);
  for (let i = 0; i < index.count; i++) expect(index.hostBridgeOf(i)).not.toBeNull();
  for (const fn of machine.functions) expect(synthesizeConfig(fn).length).toBe(4096);
  for (let i = 1; i < index.count; i++) {
    expect(machine.functions[i]?.bdf).toBeGreaterThan(machine.functions[i - 1]?.bdf ?? 0);
  }
}

describe("a dump that something happened to", () => {
  it.each([
    ["hex and text", hex],
    ["hex of 256 bytes and text", short],
    ["text", text],
  ])("%s: loads or is refused", (_what, source) => {
    fc.assert(
      fc.property(fc.array(edit, { minLength: 1, maxLength: 4 }), (edits) => {
        stands([
          { name: "dump.txt", text: edits.reduce(apply, source) },
          { name: "machine.txt", text: host },
        ]);
      }),
      { seed: 11, numRuns: 60 },
    );
  });

  it("registers with any content load", () => {
    // Every digit of every row may change; the rows stay rows.
    const lines = short.split("\n");
    fc.assert(
      fc.property(
        fc.array(fc.tuple(fc.nat(), fc.nat({ max: 15 }), fc.integer({ min: 0, max: 255 })), {
          minLength: 1,
          maxLength: 60,
        }),
        (changes) => {
          const changed = [...lines];
          for (const [where, column, value] of changes) {
            const at = where % changed.length;
            const line = changed[at] ?? "";
            if (!/^[0-9a-f]0: /.test(line)) continue;
            const byte = value.toString(16).padStart(2, "0");
            changed[at] = line.slice(0, 4 + 3 * column) + byte + line.slice(6 + 3 * column);
          }
          stands([{ name: "dump.txt", text: changed.join("\n") }]);
        },
      ),
      { seed: 12, numRuns: 80 },
    );
  });

  it("text that is no dump is refused", () => {
    fc.assert(
      fc.property(fc.string({ unit: "binary", maxLength: 2000 }), (anything) => {
        stands([{ name: "x", text: anything }]);
      }),
      { seed: 13, numRuns: 200 },
    );
  });
});
