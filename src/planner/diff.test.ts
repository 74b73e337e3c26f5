import { describe, expect, it } from "vitest";
import { plannerMachine } from "../../testing/planner-machine.ts";
import { shippedMachine } from "../../testing/recorded.ts";
import { formatBdf } from "../core/index.ts";
import { setHost, setIds } from "../machine/index.ts";
import { applyWhatIf, diffJson, diffMachines, isSame, parseWhatIf, renderDiff } from "./index.ts";

describe("diff", () => {
  const { machine, gpu, disk, diskPort, farFreePort, nic } = plannerMachine();

  it("says that there is none", () => {
    const diff = diffMachines(machine, { ...machine });
    expect(isSame(diff)).toBe(true);
    expect(renderDiff(diff)).toMatch(/no difference; 12 pairs have the same verdict/);
  });

  it("of one ACS word: the word, and the pairs that it redirects", () => {
    const option = parseWhatIf({ setAcs: [`${formatBdf(diskPort)}=0x04`] });
    const diff = diffMachines(machine, applyWhatIf(machine, option).machine);
    expect(diff.changed).toHaveLength(1);
    expect(diff.changed[0].changes).toEqual([
      { field: "ACS Control", before: "0x0000 (clear)", after: "0x0004 (RR)" },
    ]);
    expect(diff.verdicts.map(({ provider, client }) => [provider, client])).toEqual([
      [disk, gpu],
      [gpu, disk],
    ]);
    expect(renderDiff(diff)).toMatch(
      /2 of 12 pairs changed their verdict: 2 BUS_ADDR to NOT_SUPPORTED/,
    );
  });

  it("of a moved card: the move, not a loss and a gain", () => {
    const option = parseWhatIf({ move: [`${formatBdf(nic)}=${formatBdf(farFreePort)}`] });
    const changed = applyWhatIf(machine, option);
    const diff = diffMachines(machine, changed.machine, { nameOf: changed.nameOf });
    expect(diff.moved.map(({ from, to }) => [from, to])).toEqual([[nic, changed.nameOf(nic)]]);
    expect(diff.removed).toEqual([]);
    expect(diff.added).toEqual([]);
    // The same without being told: exactly one went, and one of its ids came.
    expect(diffMachines(machine, changed.machine).moved).toEqual(diff.moved);
    expect(diff.verdicts.some(({ client, after }) => client === nic && after.distance === 4)).toBe(
      true,
    );
  });

  it("of the host: CPU, kernel, modules, configuration", () => {
    const before = setHost(machine, { modules: ["nvme", "raid0"], kernelConfig: { A: "y" } });
    const after = setHost(before, {
      cpuVendor: "AuthenticAMD",
      cpuFamily: 25,
      modules: ["nvme"],
      kernelConfig: { A: "y", PCI_P2PDMA: "y" },
    });
    const diff = diffMachines(before, after);
    expect(diff.host.map(({ field }) => field)).toEqual([
      "cpuVendor",
      "cpuFamily",
      "modules",
      "CONFIG_PCI_P2PDMA",
    ]);
    expect(diff.verdicts.length).toBeGreaterThan(0);
    expect(JSON.parse(JSON.stringify(diffJson(diff))).verdicts[0].after.mapType).toBe(
      "THRU_HOST_BRIDGE",
    );
  });

  it("names what went and what came", () => {
    const functions = machine.functions.filter(({ bdf }) => bdf !== disk);
    const diff = diffMachines(machine, { ...machine, functions });
    expect(diff.removed.map(({ bdf }) => bdf)).toEqual([disk]);
    expect(diffMachines({ ...machine, functions }, machine).added.map(({ bdf }) => bdf)).toEqual([
      disk,
    ]);
    expect(renderDiff(diff)).toMatch(/gone\n {2}- 0000:03:00\.0 \(NVMe\)/);
  });

  it("finds the same cards in a machine that has them elsewhere", () => {
    const apart = shippedMachine("02-two-root-ports");
    const together = shippedMachine("01-same-switch");
    const { verdicts, moved, pairs } = diffMachines(apart, together);
    expect(moved.map(({ from, to }) => [formatBdf(from), formatBdf(to)])).toEqual([
      ["0000:01:00.0", "0000:03:00.0"],
      ["0000:02:00.0", "0000:04:00.0"],
    ]);
    expect(pairs).toBe(2);
    expect(verdicts.map(({ after }) => after.mapType)).toEqual(["BUS_ADDR", "BUS_ADDR"]);
    // A card that was replaced by one of its kind is the same end of a pair.
    const replaced = setIds(apart, moved[0].from, { vendorId: 0x144d, deviceId: 0xa808 });
    const diff = diffMachines(apart, replaced);
    expect([diff.removed, diff.added, diff.moved]).toEqual([[], [], []]);
    expect(diff.changed[0].changes[0]).toMatchObject({ field: "ids", after: "144d:a808" });
  });
});
