import { describe, expect, test } from "vitest";
import { MachineBuilder } from "../../testing/machine-builder.ts";
import { compareWithNvsmi, isNvsmiTopo, parseNvsmiTopo } from "./nvsmi.ts";
import type { Machine, PciFunction } from "./snapshot.ts";

const ESCAPE = String.fromCharCode(27);
const matrix = (rows: readonly (readonly string[])[], names: readonly string[]): string =>
  [
    `\t${ESCAPE}[4m${names.join("\t")}\tCPU Affinity\tNUMA Affinity${ESCAPE}[0m`,
    ...rows.map((row, i) => `${names[i]}\t${row.join("\t")}\t0-31\t0`),
    "",
    "Legend:",
    "",
    "  X    = Self",
    "",
    "NIC Legend:",
    "",
    "  NIC0: mlx5_0",
    "",
  ].join("\n");

const GPU = { vendor: 0x10de, device: 0x20b0, classCode: 0x030200 };
const NIC = { vendor: 0x15b3, device: 0x101b, classCode: 0x020700 };

/** Two GPUs and a NIC below one switch, a third GPU on another root bus. */
function machine(): Machine {
  const builder = new MachineBuilder("gpus", {});
  const first = builder.root();
  const above = builder.rootPort(first);
  const { ports } = builder.switch(above, 3);
  builder.endpoint(ports[0], GPU);
  builder.endpoint(ports[1], GPU);
  builder.endpoint(ports[2], NIC);
  const second = builder.root({ bus: 0x80 });
  builder.endpoint(builder.rootPort(second), GPU);
  const built = builder.build();
  const named = (fn: PciFunction): PciFunction => ({
    ...fn,
    numaNode: Math.floor(fn.bdf / 256) >= 0x80 ? 1 : 0,
    kernelNames: fn.vendorId === NIC.vendor ? ["mlx5_0"] : [],
  });
  return { ...built, functions: built.functions.map(named) };
}

const NAMES = ["GPU0", "GPU1", "GPU2", "NIC0"];
const TRUE_ROWS = [
  [" X ", "PIX", "SYS", "PIX"],
  ["PIX", " X ", "SYS", "PIX"],
  ["SYS", "SYS", " X ", "SYS"],
  ["PIX", "PIX", "SYS", " X "],
];

describe("nvidia-smi topo -m", () => {
  test("is read with colours, affinities and legend", () => {
    const topo = parseNvsmiTopo(matrix(TRUE_ROWS, NAMES), "topo.txt");
    expect(topo.devices).toEqual(NAMES);
    expect(topo.labels[0]).toEqual(["X", "PIX", "SYS", "PIX"]);
    expect(topo.nicNames).toEqual(new Map([["NIC0", "mlx5_0"]]));
    expect(isNvsmiTopo(matrix(TRUE_ROWS, NAMES))).toBe(true);
  });

  test("old versions say SOC for SYS, and NVLink has a count", () => {
    const rows = [
      ["X", "NV18"],
      ["NV18", "X"],
    ];
    expect(parseNvsmiTopo(matrix(rows, ["GPU0", "GPU1"]), "t").labels[0]).toEqual(["X", "NV"]);
    const old = "\tGPU0\tmlx5_0\nGPU0\t X \tSOC\nmlx5_0\tSOC\t X \n";
    expect(parseNvsmiTopo(old, "t").labels[0]).toEqual(["X", "SYS"]);
  });

  test.each([
    ["no header", "hello", "topo.txt:1"],
    ["a word that is none", matrix([["X", "FAR"]], ["GPU0", "GPU1"]), "topo.txt:2"],
    ["a missing row", matrix([["X", "PIX"]], ["GPU0", "GPU1"]), "topo.txt:1"],
  ])("%s is refused with its line", (_, text, place) => {
    expect(() => parseNvsmiTopo(text, "topo.txt")).toThrow(
      expect.objectContaining({ code: "nvsmi-malformed", place }),
    );
  });
});

describe("compared with a machine", () => {
  const compare = (rows: readonly (readonly string[])[], against = machine()) =>
    compareWithNvsmi(against, parseNvsmiTopo(matrix(rows, NAMES), "topo.txt"));

  test("a true matrix agrees", () => {
    expect(compare(TRUE_ROWS)).toEqual({ disagreements: [], compared: 6, notes: [] });
  });

  test("each pair that differs is told, with what the machine has", () => {
    const rows = TRUE_ROWS.map((row) => [...row]);
    rows[0][1] = "PHB";
    rows[1][0] = "PHB";
    expect(compare(rows).disagreements).toEqual([
      {
        a: "GPU0 (0000:03:00.0)",
        b: "GPU1 (0000:04:00.0)",
        nvsmi: "PHB",
        machine: "PIX",
        explanation: "1 switches between them, 0000:01:00.0 is common",
      },
    ]);
  });

  test("without NUMA nodes, NODE and SYS are not told apart", () => {
    const blind = machine();
    const functions = blind.functions.map((fn) => ({ ...fn, numaNode: null }));
    expect(compare(TRUE_ROWS, { ...blind, functions }).disagreements).toEqual([]);
  });

  test("NICs without names, other numbers of GPUs and NVLink are notes", () => {
    const blind = machine();
    const functions = blind.functions.map((fn) => ({ ...fn, kernelNames: [] }));
    const result = compare(TRUE_ROWS, { ...blind, functions });
    expect(result.compared).toBe(3);
    expect(result.notes.join()).toMatch(/NICs are matched by the kernel's names/);
    const two = parseNvsmiTopo("\tGPU0\tGPU1\nGPU0\tX\tNV4\nGPU1\tNV4\tX\n", "t");
    const other = compareWithNvsmi(machine(), two);
    expect(other.compared).toBe(0);
    expect(other.notes).toEqual([
      "the matrix has 2 GPUs, the machine 3 of NVIDIA: not compared",
      "1 pairs are joined by NVLink, which hides their PCIe path",
    ]);
  });
});
