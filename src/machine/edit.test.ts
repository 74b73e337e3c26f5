import { describe, expect, it } from "vitest";
import { endpoint, makeMachine, rootPort } from "../../testing/machines.ts";
import { shippedMachine } from "../../testing/recorded.ts";
import { PeerlaneError, parseBdf, UsageError } from "../core/index.ts";
import { factsFromConfig } from "./config-facts.ts";
import {
  addAcs,
  addBar,
  freeSlots,
  type Machine,
  MachineIndex,
  moveFunction,
  type PciFunction,
  reassignWindows,
  setAcsControl,
  setCommand,
  setEgressVector,
  setHost,
  setIds,
} from "./index.ts";

const machine = shippedMachine("01-same-switch");
const port = parseBdf("00:04.0");
const nvme = parseBdf("04:00.0");
const at = (edited: Machine, name: string): PciFunction =>
  new MachineIndex(edited).functionAt(parseBdf(name)) ?? expect.fail(`no ${name}`);

describe("edits", () => {
  it("set ACS Control in facts and bytes, and leave the given machine alone", () => {
    const before = at(machine, "00:04.0");
    const edited = at(setAcsControl(machine, port, 0x0c), "00:04.0");
    expect(edited.acs?.control).toBe(0x0c);
    expect(factsFromConfig(port, edited.config as Uint8Array).acs?.control).toBe(0x0c);
    expect(at(machine, "00:04.0")).toBe(before);
    expect(before.acs?.control).toBe(0);
    expect(() => setAcsControl(machine, nvme, 4)).toThrow(UsageError);
  });

  it("give a port an egress control vector", () => {
    const edited = at(setEgressVector(machine, port, [0b10]), "00:04.0");
    expect(edited.acs?.egressVector).toEqual([2]);
    const back = factsFromConfig(port, edited.config as Uint8Array).acs;
    expect(back).toEqual(edited.acs);
  });

  it("give a switch port the ACS capability it lacks", () => {
    const down = parseBdf("02:00.0");
    const edited = at(setAcsControl(addAcs(machine, down), down, 0x04), "02:00.0");
    const back = factsFromConfig(down, edited.config as Uint8Array);
    expect(back.acs).toMatchObject({ capabilities: 0x5f, control: 0x04 });
    expect(back.capabilities).toEqual(edited.capabilities);
    expect(back.aerOffset).toBe(edited.aerOffset);
    expect(() => addAcs(machine, port)).toThrow(/has an ACS capability/);
  });

  it("set ids, command and host", () => {
    const ids = at(setIds(machine, nvme, { vendorId: 0x8086, deviceId: 0x2030 }), "04:00.0");
    expect(factsFromConfig(nvme, ids.config as Uint8Array)).toMatchObject({
      vendorId: 0x8086,
      deviceId: 0x2030,
    });
    const off = at(setCommand(machine, nvme, 0), "04:00.0");
    expect(off.bars.every(({ enabled }) => !enabled)).toBe(true);
    const host = setHost(machine, {
      cpuVendor: "GenuineIntel",
      cpuFamily: 6,
      iommu: "strict",
    }).host;
    expect(host).toMatchObject({ cpuVendor: "GenuineIntel", cpuFamily: 6, iommu: "strict" });
    expect(host.kernelVersion).toBe(machine.host.kernelVersion);
    expect(host.unknown.some(({ field }) => field === "iommu")).toBe(false);
  });

  it("refuse what no function can have", () => {
    const bar = { index: 2, sizeBytes: 2 ** 24, prefetchable: true };
    expect(() => addBar(machine, parseBdf("77:00.0"), bar)).toThrow(/77:00.0 is not in/);
    expect(() => addBar(machine, nvme, { ...bar, sizeBytes: 3 * 2 ** 20 })).toThrow(
      /powers|no BAR/,
    );
    expect(() => addBar(machine, nvme, { ...bar, index: 5 })).toThrow(UsageError);
    expect(() => addBar(machine, nvme, { ...bar, index: 0 })).toThrow(/BAR 0 is already there/);
    expect(freeSlots(at(machine, "04:00.0"))).toEqual([2, 3, 4, 5]);
  });
});

describe("a BAR for a Controller Memory Buffer", () => {
  it("gets an address, and the bridges above it windows", () => {
    const wanted = { index: 2, sizeBytes: 2 ** 26, prefetchable: true };
    const edited = addBar(machine, nvme, wanted);
    expect(at(edited, "04:00.0").bars[1]).toMatchObject({ address: 0, enabled: false });
    const { machine: made, report } = reassignWindows(edited, nvme);
    const bar = at(made, "04:00.0").bars[1];
    // 64 MiB do not fit the 32 MiB below 4 GiB: all prefetchable space moves above 4 GiB.
    expect(bar).toMatchObject({ address: 0x100000000, sizeBytes: 2 ** 26, enabled: true });
    expect(at(made, "00:04.0").bridge?.prefetchable).toEqual({
      base: 0x100000000,
      limit: 0x100000000 + 80 * 2 ** 20 - 1,
    });
    // Registers stay where they were.
    expect(at(made, "04:00.0").bars[0]).toEqual(at(machine, "04:00.0").bars[0]);
    expect(report.moved.map(({ bar: moved, sizeBytes }) => [moved, sizeBytes])).toEqual([
      [2, 2 ** 24],
      [2, 2 ** 26],
    ]);
    expect(report.windows.every(({ kind }) => kind === "prefetchable")).toBe(true);
    expect(report.assumed).toEqual([]);
    const back = factsFromConfig(nvme, at(made, "04:00.0").config as Uint8Array);
    expect(back.bars[1]).toMatchObject({ address: 0x100000000, kind: "memory64" });
  });

  it("that no aperture can hold is refused with the sizes", () => {
    const edited = addBar(machine, nvme, { index: 2, sizeBytes: 2 ** 40, prefetchable: true });
    try {
      reassignWindows(edited, nvme);
      expect.fail("it fitted");
    } catch (error) {
      expect(error).toBeInstanceOf(PeerlaneError);
      expect(error).toMatchObject({
        code: "aperture-too-small",
        place: "0000:00:04.0",
        message:
          "1048592 MiB of prefetchable space aligned to 1048576 MiB are needed, " +
          "the largest hole has 32768 MiB",
      });
    }
  });

  it("fits the HGX machine, whose apertures nobody told, clear of everything in use", () => {
    const hgx = shippedMachine("hgx-h100-gpud.vvv.txt");
    const ssd =
      hgx.functions.find(({ classCode }) => classCode === 0x010802) ?? expect.fail("no SSD");
    const { bdf } = ssd;
    const free = freeSlots(ssd)[0] === 2 ? 2 : 4;
    const bar = { index: free, sizeBytes: 2 ** 30, prefetchable: true };
    const { machine: made, report } = reassignWindows(addBar(hgx, bdf, bar), bdf);
    const tree = new MachineIndex(made);
    const [top, before] = [tree, new MachineIndex(hgx)].map(
      (index) => index.functions[index.topOf(index.requireIndex(bdf))]?.bridge?.prefetchable,
    );
    const added = (moved: { bdf: number; bar: number | string }) =>
      moved.bdf === bdf && moved.bar === free;
    const to = report.moved.find(added)?.to ?? 0;
    // It fits where the port's window is, which only shrinks.
    expect(top?.base).toBe(before?.base);
    expect(top?.limit).toBeLessThanOrEqual(before?.limit ?? 0);
    expect(to).toBeGreaterThanOrEqual(top?.base ?? 0);
    expect(report.assumed.join()).not.toMatch(/RAM/);
    expect(report.assumed.join()).toMatch(/VF BAR 3 is off and its size is unknown/);

    const huge = { ...bar, sizeBytes: 2 ** 40 };
    const far = reassignWindows(addBar(hgx, bdf, huge), bdf).report;
    const taken = hgx.functions.flatMap((fn) => fn.bars.map(({ address }) => address));
    expect(far.moved.find(added)?.to).toBeGreaterThan(Math.max(...taken));
    expect(far.assumed.join()).toMatch(/RAM ranges are unknown/);
  });
});

describe("a function moved below another port", () => {
  it("has its new name, and addresses once they are given", () => {
    const bars = [{ sizeBytes: 2 ** 24 }];
    const roots = [rootPort([endpoint({ bars })]), rootPort([])];
    const two = makeMachine({ hostBridges: [{ roots }] });
    const [from, to] = [parseBdf("01:00.0"), parseBdf("00:02.0")];
    const { machine: moved, bdf } = moveFunction(two, from, to);
    expect(bdf).toBe(parseBdf("02:00.0"));
    expect(at(moved, "02:00.0").bars[0]).toMatchObject({ address: 0, enabled: false });
    const { machine: whole } = reassignWindows(moved, bdf);
    const bar = at(whole, "02:00.0").bars[0] ?? expect.fail("no BAR");
    expect(bar.enabled).toBe(true);
    expect(at(whole, "00:02.0").bridge?.prefetchable?.base).toBe(bar.address);
  });

  it("refuses what is no port, and a place that is taken", () => {
    const move = (from: string, to: string) => () =>
      moveFunction(machine, parseBdf(from), parseBdf(to));
    expect(move("03:00.0", "04:00.0")).toThrow(/no port/);
    expect(move("03:00.0", "02:01.0")).toThrow(/already there/);
    expect(move("02:00.0", "00:04.0")).toThrow(/cannot be moved alone/);
  });
});
