import { describe, expect, it } from "vitest";
import { plannerMachine } from "../../testing/planner-machine.ts";
import { parseBdf } from "../core/index.ts";
import { findJson, findProvider, renderFind } from "./index.ts";

const amd = { host: { cpuVendor: "AuthenticAMD", cpuFamily: 0x19 } };

describe("find", () => {
  const { machine, gpu, disk, nic, farDisk } = plannerMachine(amd);

  it("takes the direct one, says why each other lost, and of what memory", () => {
    const report = findProvider(machine, [gpu]);
    expect(report.source).toBe("has-memory");
    expect(report.candidates.map(({ fn }) => fn.bdf)).toEqual([gpu, disk, farDisk]);
    expect(report.chosen).toBe(gpu);
    const others = findProvider(machine, [gpu], { providers: [farDisk, disk] });
    expect(others.chosen).toBe(disk);
    expect(others.candidates[1].lost).toMatch(/passes the host bridge/);
    expect(others.candidates[0].memoryBytes).toBe(16 * 2 ** 20);
  });

  it("says what the dump does not tell and would change a route", () => {
    const rootIds = [0x8086, 0x09a2] as const;
    const unknown = plannerMachine({ rootIds, host: { kernelVersion: null } });
    const notes = findProvider(unknown.machine, [unknown.nic]).notes.join();
    expect(notes).toMatch(/uncertain: the kernel version .*; before Linux 5\.18/);
    const direct = { providers: [unknown.disk] };
    expect(findProvider(unknown.machine, [unknown.gpu], direct).notes.join()).not.toMatch(/uncer/);
  });

  it("prefers what the kernel publishes", () => {
    const functions = machine.functions.map((fn) =>
      fn.bdf === farDisk ? { ...fn, p2pmem: { sizeBytes: 4096, published: true } } : fn,
    );
    const report = findProvider({ ...machine, functions }, [gpu]);
    expect(report).toMatchObject({ source: "published", chosen: farDisk });
    expect(report.notes).toEqual([]);
  });

  it("chooses as Linux does: distance alone, ties by the seed", () => {
    const providers = [disk, gpu];
    const draws = new Set(
      Array.from({ length: 20 }, (_, seed) => {
        const report = findProvider(machine, [nic], { providers, likeLinuxSeed: seed });
        expect(report.ties).toEqual([disk, gpu]);
        return report.chosen;
      }),
    );
    expect(draws).toEqual(new Set([disk, gpu]));
    const again = findProvider(machine, [nic], { providers, likeLinuxSeed: 3 });
    expect(findProvider(machine, [nic], { providers, likeLinuxSeed: 3 }).chosen).toBe(again.chosen);
    expect(renderFind(again)).toMatch(/draws at random among/);
  });

  it("finds none where all are refused, and names the reason", () => {
    const strict = plannerMachine();
    const report = findProvider(strict.machine, [strict.nic]);
    expect(report.chosen).toBeNull();
    const text = renderFind(report);
    expect(text).toMatch(/none: no candidate is reached by all/);
    expect(text).toMatch(/the root complex is not known to forward/);
    expect(findJson(report).chosen).toBeNull();
  });

  it("refuses clients that the machine does not have", () => {
    expect(() => findProvider(machine, [parseBdf("77:00.0")])).toThrow(/not in the machine/);
  });
});
