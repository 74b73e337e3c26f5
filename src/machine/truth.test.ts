/**
 * Machines whose kernel told what it saw: paths in sysfs, BARs, NUMA nodes, groups (tree.txt). What
 * the importer derives from the dump must be the same.
 */
import { existsSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { collected, NO_COLLECTION, readText, recordedMachine } from "../../testing/recorded.ts";
import { formatBdf } from "../core/index.ts";
import { type Machine, MachineIndex, NONE } from "./index.ts";

interface Told {
  readonly bdf: string;
  readonly path: string;
  readonly fields: Map<string, string>;
  readonly resources: readonly [number, number][];
}

function parseTree(text: string): Told[] {
  return text
    .split(/^== /m)
    .slice(1)
    .map((block) => {
      const lines = block.split("\n");
      const [bdf, path] = (lines[0] ?? "").split(" path=") as [string, string];
      const fields = new Map<string, string>();
      const resources: [number, number][] = [];
      for (const line of lines.slice(1)) {
        const range = /^0x([0-9a-f]{16}) 0x([0-9a-f]{16}) 0x/.exec(line);
        const pair = /^(\w+)=(.*)$/.exec(line);
        if (range !== null) {
          resources.push([
            Number.parseInt(range[1] ?? "", 16),
            Number.parseInt(range[2] ?? "", 16),
          ]);
        } else if (pair !== null) fields.set(pair[1] ?? "", pair[2] ?? "");
      }
      return { bdf, path, fields, resources };
    });
}

const folders = collected("truth").filter(({ path }) => existsSync(join(path, "tree.txt")));

function sysfsPath(index: MachineIndex, i: number): string {
  const names: string[] = [];
  for (let at = i; at !== NONE; at = index.parentOf(at)) {
    const fn = index.functions[at];
    if (fn !== undefined) names.unshift(formatBdf(fn.bdf));
  }
  const { domain, bus } = index.rootBusOf(i);
  const hex = (value: number, digits: number) => value.toString(16).padStart(digits, "0");
  return ["/sys/devices", `pci${hex(domain, 4)}:${hex(bus, 2)}`, ...names].join("/");
}

function check(machine: Machine, told: readonly Told[]): void {
  const index = new MachineIndex(machine);
  expect(machine.functions.map((fn) => formatBdf(fn.bdf))).toEqual(told.map(({ bdf }) => bdf));
  told.forEach(({ bdf, path, fields, resources }, i) => {
    const fn = machine.functions[i];
    if (fn === undefined) return;
    expect(sysfsPath(index, i)).toBe(path);
    expect(fn.vendorId, bdf).toBe(Number(fields.get("vendor")));
    expect(fn.deviceId, bdf).toBe(Number(fields.get("device")));
    expect(fn.classCode, bdf).toBe(Number(fields.get("class")));
    expect(fn.driver ?? "", bdf).toBe(fields.get("driver"));
    // Legacy IDE has I/O ports that its registers do not hold.
    if (fn.classCode >>> 8 === 0x0101) return;
    for (const bar of fn.bars) {
      const [start, end] = resources[bar.index] ?? [0, 0];
      // A ROM that is off has the address the kernel keeps for it, not the register's.
      if (bar.index === 6 || bar.address === 0) continue;
      expect([bar.address, bar.sizeBytes], `${bdf} BAR ${bar.index}`).toEqual([
        start,
        end - start + 1,
      ]);
    }
    const told = resources.slice(0, 6).filter(([start]) => start !== 0).length;
    expect(fn.bars.filter((bar) => bar.index < 6 && bar.address !== 0).length, bdf).toBe(told);
    // Linux gives a bridge's windows as resources 13 (I/O), 14 (memory), 15 (prefetchable).
    if (fn.bridge !== null && resources.length > 16) {
      const window = ([start, end]: [number, number]) =>
        start === 0 ? null : { base: start, limit: end };
      expect(fn.bridge.memory, bdf).toEqual(window(resources[14] ?? [0, 0]));
      expect(fn.bridge.prefetchable, bdf).toEqual(window(resources[15] ?? [0, 0]));
    }
  });
}

describe("recorded machines", () => {
  if (folders.length === 0) it("need the collection", (context) => context.skip(NO_COLLECTION));

  it.each(folders)("$name is what its kernel saw", ({ path }) => {
    const machine = recordedMachine(path);
    check(machine, parseTree(readText(join(path, "tree.txt"))));
    expect(machine.warnings).toEqual([]);
    expect(machine.host.cpuVendor).toMatch(/^(GenuineIntel|AuthenticAMD)$/);
    expect(machine.host.cpuFamily).toBeGreaterThan(0);
    expect(machine.host.kernelVersion).toMatch(/^7\.3\.4/);
    expect(machine.host.architecture).toBe("x86_64");
    expect(machine.host.ram?.length).toBeGreaterThan(1);
    for (const { apertures } of machine.hostBridges) expect(apertures.length).toBeGreaterThan(0);
  });

  it.each(folders)("$name keeps virtual functions with their physical one", ({ path }) => {
    const machine = recordedMachine(path);
    for (const fn of machine.functions) {
      const isVirtual = fn.deviceName?.includes("Virtual Function") === true;
      expect(fn.physicalFunction !== null).toBe(isVirtual);
    }
  });
});
