/**
 * Dumps of real machines: each loads or is refused for the true reason, and where a dump has hex
 * and text of the same function, both readers agree.
 */
import { describe, expect, it } from "vitest";
import { collected, inputFile, NO_COLLECTION, readText } from "../../../testing/recorded.ts";
import { PeerlaneError } from "../../core/index.ts";
import { factsFromConfig } from "../config-facts.ts";
import { deviceKind, importMachine, isUnknown, MachineIndex, type PciFunction } from "../index.ts";
import { splitLspci } from "./lspci-records.ts";
import { functionFromText, TextMemo } from "./lspci-text.ts";

const dumps = [...collected("corpus/lspci-hex"), ...collected("corpus/lspci-text")];
const trees = dumps.filter(({ name }) => /\.(?:t|tv|nntv)\.txt$/.test(name));
/** Refused, and why. */
const BROKEN: Readonly<Record<string, { code: string; line: number; reason: RegExp }>> = {
  "coreboot-huananzhi-x99-bd4.txt": {
    code: "dump-malformed",
    line: 5123,
    reason: /16 bytes, but after 12 of them there is "pcilib: sysfs_read_vpd/,
  },
};
const whole = dumps.filter((dump) => BROKEN[dump.name] === undefined && !trees.includes(dump));

/**
 * Functions, upstream and downstream ports, ports with ACS, those that redirect (counted by awk).
 */
const COUNTED: Readonly<Record<string, readonly number[]>> = {
  "coreboot-huananzhi-x99-qd4.txt": [87, 1, 1, 7, 0],
  "nvbug-dell-precision5820.vvvxxxx.txt": [128, 0, 0, 4, 0],
  "nvbug-lambda-wrx80-2xA6000.vvvxxx.txt": [96, 1, 9, 32, 10],
  "nvbug-proart-x670e.vvvxxxx.txt": [62, 3, 15, 18, 0],
  "pciutils-tree-asus-p6t6.txt": [53, 1, 2, 4, 0],
  "pciutils-tree-fsl-p2020.txt": [6, 0, 0, 0, 0],
  "pciutils-tree-fujitsu-p8010.txt": [22, 0, 0, 0, 0],
  "hgx-h100-gpud.vvv.txt": [517, 9, 38, 55, 4],
  "lenovo-l490.txt": [22, 0, 0, 3, 0],
  "marcredhat-cmlgpu.txt": [201, 1, 1, 9, 0],
  "venkataanil-mlx.txt": [310, 0, 0, 14, 10],
  "clu6-supermicro-2xH100NVL.txt": [149, 0, 0, 0, 0],
  "delaunay-plx8747-2xvega20.txt": [143, 0, 0, 0, 0],
  "winlspci-switch-hierarchy.golden.txt": [7, 0, 0, 0, 0],
};
const REDIRECT = 0x2c;

describe("dumps of real machines", () => {
  if (dumps.length === 0) it("need the collection", (context) => context.skip(NO_COLLECTION));

  it.each(whole)("$name loads", ({ name, path }) => {
    const machine = importMachine([inputFile(path)]);
    const index = new MachineIndex(machine);
    expect(index.count).toBeGreaterThan(0);
    expect(machine.hostBridges.length).toBeGreaterThan(0);
    for (let i = 0; i < index.count; i++) expect(index.hostBridgeOf(i)).not.toBeNull();
    const expected = COUNTED[name];
    if (expected === undefined) return;
    const count = (test: (fn: PciFunction) => boolean) => machine.functions.filter(test).length;
    expect([
      machine.functions.length,
      count(({ pcie }) => pcie?.portType === 5),
      count(({ pcie }) => pcie?.portType === 6),
      count(({ acs }) => acs !== null),
      count(({ acs }) => acs !== null && (acs.control & REDIRECT) !== 0),
    ]).toEqual(expected);
  });

  it.each(dumps.filter(({ name }) => name in BROKEN))("$name is refused", ({ name, path }) => {
    const expected = BROKEN[name];
    try {
      importMachine([inputFile(path)]);
    } catch (error) {
      expect(error).toBeInstanceOf(PeerlaneError);
      const { code, message, place, remedy } = error as PeerlaneError;
      expect(code).toBe(expected?.code);
      expect(message).toMatch(expected?.reason as RegExp);
      expect(place).toMatch(new RegExp(`${name}:${expected?.line}$`));
      expect(remedy).toMatch(/lspci/);
      return;
    }
    expect.fail("it loaded");
  });

  it.runIf(dumps.length > 0)("find what the machines are known for", () => {
    const load = (name: string) =>
      importMachine([inputFile(dumps.find((dump) => dump.name === name)?.path as string)]);
    const kinds = (name: string) => {
      const found: Record<string, number> = {};
      for (const fn of load(name).functions) {
        found[deviceKind(fn)] = (found[deviceKind(fn)] ?? 0) + 1;
      }
      return found;
    };
    expect(kinds("hgx-h100-gpud.vvv.txt")).toMatchObject({ nvme: 8, gpu: 9, nic: 14 });
    expect(kinds("delaunay-plx8747-2xvega20.txt")).toMatchObject({ nvme: 1, gpu: 9, nic: 3 });
    // NVMe behind Intel's VMD, in a domain of five digits with a root bus of its own.
    const dell = load("nvbug-dell-precision5820.vvvxxxx.txt");
    expect(dell.functions.at(-1)?.bdf).toBe(0x10000 * 65_536 + 0x0100);
    expect(dell.hostBridges.at(-1)).toMatchObject({ domain: 0x10000, bus: 0 });
    // Of a partial dump it says what follows.
    const partial = load("nvbug-sm7048gr-4xgpu.partial-vxxx.txt");
    expect(partial.functions.every((fn) => isUnknown(fn, "parent"))).toBe(true);
    expect(partial.warnings.join()).toMatch(/16 functions are on buses that no bridge/);
  });
});

/** Facts that both hex and text tell, in a form that compares. */
function comparable(fn: PciFunction, other: PciFunction): Record<string, unknown> {
  const facts: Record<string, unknown> = { class: fn.classCode, revision: fn.revision };
  for (const field of ["msix", "aerOffset", "ats", "resizableBars", "bridge", "command"] as const) {
    if (!isUnknown(fn, field) && !isUnknown(other, field)) facts[field] = fn[field];
  }
  if (!isUnknown(fn, "acs") && !isUnknown(other, "acs") && fn.acs !== null) {
    // Text has neither the vector nor its size.
    facts["acs"] = [fn.acs.offset, fn.acs.capabilities & 0x7f, fn.acs.control & 0x7f];
  }
  if (!isUnknown(fn, "pcie") && !isUnknown(other, "pcie") && fn.pcie !== null) {
    // Of ports lspci does not print FLR; older releases neither of integrated endpoints.
    facts["pcie"] = { ...fn.pcie, functionLevelReset: fn.pcie.portType === 0 };
  }
  if (!isUnknown(fn, "sriov") && !isUnknown(other, "sriov") && fn.sriov !== null) {
    facts["sriov"] = { ...fn.sriov, bars: [] };
  }
  if (!isUnknown(fn, "bars") && !isUnknown(other, "bars") && fn.classCode >>> 8 !== 0x0101) {
    // Registers that hold no address are printed by some releases and not by others; a region that
    // only the system knows is printed and not held; at -v regions have no numbers.
    facts["bars"] = fn.bars
      .filter(({ index, enabled }) => index < 6 && enabled)
      .map(({ kind, prefetchable, address }) => [kind, prefetchable, address]);
  }
  return facts;
}

describe("hex and text of one function", () => {
  const files = [
    ...collected("corpus/lspci-hex").filter(({ name }) => BROKEN[name] === undefined),
    ...collected("truth")
      .filter(({ name }) => /^\d/.test(name))
      .map(({ name, path }) => ({ name, path: `${path}/lspci.txt` })),
  ];
  if (files.length === 0) it("need the collection", (context) => context.skip(NO_COLLECTION));

  it.each(files)("agree in $name", ({ name, path }) => {
    for (const record of splitLspci(readText(path), name).records) {
      if (record.config === null || record.body === "") continue;
      const hex = factsFromConfig(record.bdf, record.config);
      const text = functionFromText(record, new TextMemo());
      expect(comparable(text, hex), `${name}:${record.line}`).toEqual(comparable(hex, text));
    }
  });
});
