/**
 * Every file of the collection of dumps loads, with as many functions as its index counted by other
 * means, or is refused for the true reason. The collection is not part of the project; without it
 * this is skipped loudly.
 */

import { readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { describe, expect, test } from "vitest";
import { PeerlaneError } from "../src/core/index.ts";
import {
  isUnknown,
  type Machine,
  MachineIndex,
  parseMachineJson,
  parseNvsmiTopo,
  readMachine,
  serializeMachine,
} from "../src/machine/index.ts";
import { realFiles } from "../src/platform/index.ts";
import { COLLECTION, collected, NO_COLLECTION } from "../testing/recorded.ts";

/** Refused, with the code of the error. Everything else must load. */
const REFUSED: Readonly<Record<string, string>> = {
  // A line of stderr in the middle of a hex row; lspci -F refuses it as well.
  "coreboot-huananzhi-x99-bd4.txt": "dump-malformed",
  // A part of sysfs without PCI functions.
  "libnvme-tree-pcie.tar.xz": "no-pci-tree",
};

/** Files that tell one function twice, or whose counts in the index mean something else. */
const COUNTED_OTHERWISE: Readonly<Record<string, number>> = {
  // 0000:04:00.0 is there twice; they are hand-made variants of one machine.
  "32em64t-2n8c2t-pci-normalio.xml": 15,
  "32em64t-2n8c2t-pci-wholeio.v2.xml": 16,
  "32em64t-2n8c2t-pci-wholeio.xml": 16,
  // Two folders with configuration space are not linked from bus/pci/devices: edited by hand.
  "fakepcilocalities.tar.bz2": 30,
  // The index counted words, not functions.
  "winlspci-switch-hierarchy.golden.txt": 7,
  "winlspci-tigerlake-laptop.golden.txt": 24,
};

/** Rows of INDEX.md: numbers such as `dev=14`, by file. */
function indexOf(collection: string): Map<string, ReadonlyMap<string, number>> {
  const rows = new Map<string, ReadonlyMap<string, number>>();
  for (const line of readFileSync(join(collection, "corpus", "INDEX.md"), "utf8").split("\n")) {
    const cells = line.split("|").map((cell) => cell.trim());
    if (cells.length < 6) continue;
    const numbers = [
      ...cells
        .slice(4)
        .join(" ")
        .matchAll(/([A-Za-z0-9]+)=(\d+)/g),
    ];
    rows.set(cells[1], new Map(numbers.map(([, name, value]) => [name, Number(value)])));
  }
  return rows;
}

/** How many functions a file must give, by what its index counted. */
function expectedCount(name: string, counts: ReadonlyMap<string, number> | undefined): number {
  const count = (key: string): number => counts?.get(key) ?? 0;
  if (COUNTED_OTHERWISE[name] !== undefined) return COUNTED_OTHERWISE[name];
  if (counts?.has("config")) return count("config");
  if (counts?.has("pcidev")) return count("pcidev") + count("pcibr");
  if (counts?.has("treeleaves") && count("treeleaves") > 0) return count("treeleaves");
  if (counts?.has("dev")) return count("dev");
  return count("pci");
}

/** Functions that the file itself names; ports that had to be inferred do not count. */
const named = (machine: Machine): number =>
  machine.functions.filter((fn) => !isUnknown(fn, "bdf")).length;

const FOLDERS = ["lspci-hex", "lspci-text", "hwloc-xml", "hwloc-tar", "nccl-topo", "other"];
const files = FOLDERS.flatMap((folder) => collected(`corpus/${folder}`)).filter(
  // Expected outputs of hwloc's own tests, not dumps.
  ({ name }) => !/\.(?:test|console)$/.test(name),
);
const index = COLLECTION === null ? new Map() : indexOf(COLLECTION);

describe("the collection of dumps", () => {
  test("is here", (context) => {
    if (COLLECTION === null) context.skip(NO_COLLECTION);
    expect(files.length).toBe(140);
  });

  const loading = files.filter(({ name }) => REFUSED[name] === undefined);

  test.each(loading)("$name loads", async ({ name, path }) => {
    const machine = await readMachine(realFiles, [path]);
    const tree = new MachineIndex(machine);
    const counts = index.get(name);
    if (name === "rccl-topo_8p1h_1.xml") {
      // 0000:a1:00.0 is a switch and a NIC there; the switch is kept.
      expect(machine.warnings.join()).toMatch(/0000:a1:00.0 is listed twice/);
    } else if (path.includes("nccl-topo")) {
      // Switches may be virtual there, endpoints are not.
      const endpoints = machine.functions.filter((fn) => fn.bridge === null).length;
      expect(endpoints).toBe((counts?.get("pci") ?? 0) - (counts?.get("bridges") ?? 0));
    } else if (!name.startsWith("ghw-")) {
      expect(named(machine)).toBe(expectedCount(name, counts));
    }
    for (let i = 0; i < tree.count; i++) expect(tree.hostBridgeOf(i)).not.toBeNull();
    // What is not told is said so: sources without registers know no ACS.
    if (/nccl-topo|hwloc|udevadm/.test(path)) {
      expect(machine.functions.every((fn) => isUnknown(fn, "acs") || fn.pcie === null)).toBe(true);
    }
    const text = serializeMachine(machine);
    expect(serializeMachine(parseMachineJson(text, name))).toBe(text);
  });

  test.each(Object.entries(REFUSED))("%s is refused: %s", async (name, code) => {
    const file = files.find((entry) => entry.name === name);
    if (file === undefined) return;
    const error = await readMachine(realFiles, [file.path]).catch((reason: unknown) => reason);
    expect(error).toBeInstanceOf(PeerlaneError);
    expect((error as PeerlaneError).code).toBe(code);
    expect((error as PeerlaneError).place).toContain(name);
    expect((error as PeerlaneError).remedy).toBeTruthy();
  });

  test.each(collected("corpus/nvsmi-topo"))("$name is a matrix, not a machine", async (file) => {
    const text = readFileSync(file.path, "utf8");
    const topo = parseNvsmiTopo(text, file.name);
    topo.labels.forEach((row, i) => {
      expect(row[i]).toBe("X");
      row.forEach((label, j) => {
        expect(label).toBe(topo.labels[j][i]);
      });
    });
    await expect(readMachine(realFiles, [file.path])).rejects.toMatchObject({
      code: "unknown-format",
      message: expect.stringContaining("nvidia-smi topo -m"),
    });
  });

  test.each(collected("corpus/p2p-issues"))("$name is no dump", async ({ path }) => {
    await expect(readMachine(realFiles, [path])).rejects.toMatchObject({ code: "unknown-format" });
  });

  test("formats of one hwloc topology agree", async () => {
    const pairs = files.filter(({ name }) => name.endsWith(".v2.xml"));
    for (const { path } of pairs) {
      const old = await readMachine(realFiles, [path]);
      const now = await readMachine(realFiles, [path.replace(".v2.xml", ".xml")]);
      const shape = (machine: Machine) =>
        machine.functions.map(({ bdf, bridge, vendorId, deviceId }) => ({
          bdf,
          bridge,
          vendorId,
          deviceId,
        }));
      expect(shape(now), path).toEqual(shape(old));
    }
  });

  test("a gathered sysfs and hwloc's XML of it agree", async () => {
    for (const name of ["40intel64-2g2n4c+pcilocality", "32em64t-2n8c+dax+nvme+mic+dimms"]) {
      const tar = files.find((file) => file.name === `${name}.tar.bz2`);
      if (tar === undefined) continue;
      const sysfs = await readMachine(realFiles, [tar.path]);
      const xml = await readMachine(realFiles, [join(dirname(tar.path), `${name}.xml`)]);
      const known = new Map(sysfs.functions.map((fn) => [fn.bdf, fn]));
      for (const fn of xml.functions) {
        const same = known.get(fn.bdf);
        expect([same?.vendorId, same?.deviceId], name).toEqual([fn.vendorId, fn.deviceId]);
        if (fn.bridge !== null) expect(same?.bridge?.secondary).toBe(fn.bridge.secondary);
      }
    }
  });
});
