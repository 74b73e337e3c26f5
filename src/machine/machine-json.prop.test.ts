import { describe, expect, test } from "vitest";
import { randomMachine } from "../../testing/random-machine.ts";
import { shippedMachine } from "../../testing/recorded.ts";
import { Prng } from "../core/index.ts";
import { parseMachineJson } from "./machine-json.ts";
import { serializeMachine } from "./machine-json-write.ts";
import type { Machine } from "./snapshot.ts";

describe("machine.json", () => {
  test("gives back the machine that was written, for random machines and recorded ones", () => {
    const prng = new Prng(41);
    const machines: Machine[] = Array.from({ length: 40 }, () =>
      randomMachine(prng, { functions: 40 }),
    );
    machines.push(shippedMachine("02-two-root-ports"), shippedMachine("08-pxb-two-host-bridges"));
    for (const machine of machines) {
      const text = serializeMachine(machine);
      const back = parseMachineJson(text, "machine.json");
      // A machine of tests may lack optional fields; what is there must come back.
      expect(back).toEqual(machine);
      expect(serializeMachine(back)).toBe(text);
    }
  });

  test("has one function per line, so that captures compare with diff", () => {
    const machine = shippedMachine("02-two-root-ports");
    const lines = serializeMachine(machine).split("\n");
    const rows = lines.filter((line) => line.startsWith('{"bdf":"0000:'));
    expect(rows).toHaveLength(machine.functions.length);
  });
});

describe("what is no machine is refused with the path of the field", () => {
  const good = (): Record<string, unknown> =>
    JSON.parse(serializeMachine(shippedMachine("02-two-root-ports")));
  const edited = (edit: (json: ReturnType<typeof good>) => void): string => {
    const json = good();
    edit(json);
    return JSON.stringify(json);
  };
  type Functions = Record<string, unknown>[];

  test.each<[string, string, string, RegExp]>([
    ["no JSON", "{", "machine-json-invalid", /^m.json$/],
    [
      "another version",
      edited((json) => {
        json["version"] = 99;
      }),
      "machine-json-version",
      /^m.json$/,
    ],
    [
      "a name that is none",
      edited((json) => {
        (json["functions"] as Functions)[1]["bdf"] = "zz:00.0";
      }),
      "machine-json-invalid",
      /^m.json: functions\[1\]\.bdf$/,
    ],
    [
      "an address that no machine has",
      edited((json) => {
        const hostBridge = (json["hostBridges"] as Functions)[0];
        hostBridge["apertures"] = [{ phys: 2 ** 60, bus: 0, sizeBytes: 1 }];
      }),
      "machine-json-invalid",
      /^m.json: hostBridges\[0\]\.apertures\[0\]\.phys$/,
    ],
    [
      "a function that is there twice",
      edited((json) => {
        const functions = json["functions"] as Functions;
        functions.push(functions[0]);
      }),
      "machine-json-invalid",
      /^m.json: functions\[\d+\]\.bdf$/,
    ],
    [
      "an unknown entry that is not in the table",
      edited((json) => {
        (json["functions"] as Functions)[0]["unknown"] = [9999];
      }),
      "machine-json-invalid",
      /^m.json: functions\[0\]\.unknown$/,
    ],
    [
      "configuration space that is no base64",
      edited((json) => {
        (json["functions"] as Functions)[0]["config"] = { bytes: 64, base64: "***" };
      }),
      "machine-json-invalid",
      /^m.json: functions\[0\]\.config$/,
    ],
  ])("%s", (_, text, code, place) => {
    expect(() => parseMachineJson(text, "m.json")).toThrow(
      expect.objectContaining({ code, place: expect.stringMatching(place) }),
    );
  });
});
