import { describe, expect, test } from "vitest";
import { formatBdf, parseBdf } from "../../core/index.ts";
import { assembleMachine } from "../assemble.ts";
import { isUnknown, type Machine, PortType } from "../snapshot.ts";
import { MachineIndex, NONE } from "../tree.ts";
import { isLspciTree, parseLspciTree } from "./lspci-tree.ts";

const TREE = `-+-[0000:80]---01.0-[81]----00.0  NVIDIA Corporation Device [10de:26b1]
 \\-[0000:00]-+-00.0  Advanced Micro Devices, Inc. [AMD] Device [1022:14d8]
             +-02.1-[04-0a]----00.0-[05-0a]--+-00.0-[06]--
             |                               +-08.0-[07-09]--+-00.0  Intel [8086:1137]
             |                               |               \\-00.1  Intel [8086:1138]
             |                               \\-0c.0-[0a]----00.0  Samsung [144d:a80c]
             \\-18.7  Advanced Micro Devices, Inc. [AMD] Device [1022:14e7]
`;

const read = (text: string): Machine => assembleMachine([parseLspciTree(text, "tree.txt")]);

function parents(machine: Machine): Record<string, string> {
  const index = new MachineIndex(machine);
  return Object.fromEntries(
    machine.functions.map((fn, i) => {
      const above = index.parentOf(i);
      return [formatBdf(fn.bdf), above === NONE ? "-" : formatBdf(index.functions[above].bdf)];
    }),
  );
}

test("columns say which bus a function is on", () => {
  const machine = read(TREE);
  expect(parents(machine)).toEqual({
    "0000:00:00.0": "-",
    "0000:00:02.1": "-",
    "0000:00:18.7": "-",
    "0000:04:00.0": "0000:00:02.1",
    "0000:05:00.0": "0000:04:00.0",
    "0000:05:08.0": "0000:04:00.0",
    "0000:05:0c.0": "0000:04:00.0",
    "0000:07:00.0": "0000:05:08.0",
    "0000:07:00.1": "0000:05:08.0",
    "0000:0a:00.0": "0000:05:0c.0",
    "0000:80:01.0": "-",
    "0000:81:00.0": "0000:80:01.0",
  });
  expect(machine.hostBridges.map(({ bus }) => bus)).toEqual([0, 0x80]);
});

test("ids and names are read, everything else is unknown", () => {
  const { functions } = read(TREE);
  const gpu = functions.find((fn) => fn.bdf === parseBdf("81:00.0"));
  expect(gpu).toMatchObject({ vendorId: 0x10de, deviceId: 0x26b1, acs: null });
  expect(gpu?.vendorName).toBe("NVIDIA Corporation");
  for (const field of ["acs", "classCode", "bars", "numaNode"]) {
    expect(isUnknown(gpu as NonNullable<typeof gpu>, field), field).toBe(true);
  }
  const port = functions.find((fn) => fn.bdf === parseBdf("05:00.0"));
  expect(port?.bridge).toMatchObject({ secondary: 6, subordinate: 6 });
  expect(port?.pcie?.portType).toBe(PortType.switchDownstream);
});

test("winlspci draws what is below a bridge on lines of its own", () => {
  const machine = read(
    [
      "-[0000:00]-\\-00:1c.0-[01-03] [8086:a0bd]  [root port]",
      "                          \\-01:00.0-[02-03] [11f8:4052]  [upstream port]  (16GT/s x16)",
      "                                         \\-02:01.0-[03] [11f8:4052]  [downstream port]",
      "                                                     \\-03:00.0 [144d:a80a]  (16GT/s x4)",
      "",
    ].join("\n"),
  );
  expect(parents(machine)).toMatchObject({
    "0000:01:00.0": "0000:00:1c.0",
    "0000:03:00.0": "0000:02:01.0",
  });
  expect(machine.functions[3]?.deviceId).toBe(0xa80a);
});

test("a domain of five digits (Intel VMD)", () => {
  const machine = read("-[10000:e0]---06.0-[e1]----00.0  Intel Corporation [8086:0a54]\n");
  expect(formatBdf(machine.functions[1].bdf)).toBe("10000:e1:00.0");
});

describe("a drawing that does not fit is refused with its line", () => {
  test.each([
    ["a branch from no bus", TREE.replace("             +-02.1", "              +-02.1"), 3],
    ["no function after a branch", TREE.replace("\\-18.7", "\\-zz.7"), 7],
  ])("%s", (_, text, line) => {
    expect(() => read(text)).toThrow(
      expect.objectContaining({ code: "dump-malformed", place: `tree.txt:${line}` }),
    );
  });

  test("text that is no tree", () => {
    expect(isLspciTree("00:00.0 Host bridge: x\n")).toBe(false);
    expect(() => read("hello")).toThrow(expect.objectContaining({ code: "no-pci-tree" }));
  });
});
