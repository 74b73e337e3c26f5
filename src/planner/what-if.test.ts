import { describe, expect, it } from "vitest";
import { plannerMachine } from "../../testing/planner-machine.ts";
import { shippedMachine } from "../../testing/recorded.ts";
import { type Bdf, formatBdf, PeerlaneError, PLAIN, parseBdf, UsageError } from "../core/index.ts";
import { MachineIndex } from "../machine/index.ts";
import {
  applyWhatIf,
  matrixJson,
  matrixOf,
  parseWhatIf,
  renderMatrix,
  type WhatIfTexts,
} from "./index.ts";

const refuse = (texts: WhatIfTexts): PeerlaneError => {
  try {
    parseWhatIf(texts);
  } catch (error) {
    if (error instanceof PeerlaneError) return error;
  }
  throw new Error("was accepted");
};

describe("options", () => {
  it("are read as they are written", () => {
    const whatIf = parseWhatIf({
      setAcs: ["0000:02:00.0=0x0c", "2:1.0=29"],
      setId: ["00:00.0=8086:2030"],
      move: ["5:0.0=2:1.0"],
      kernel: "5.15.0-91-generic",
      iommu: "pt",
      cpu: "AuthenticAMD:23",
    });
    expect(whatIf.acs.map(({ control }) => control)).toEqual([0x0c, 0x1d]);
    expect(whatIf.ids[0]).toMatchObject({ vendorId: 0x8086, deviceId: 0x2030 });
    expect(formatBdf(whatIf.moves[0].port)).toBe("0000:02:01.0");
    expect(whatIf.kernel).toEqual({ major: 5, minor: 15 });
    expect(whatIf.iommu).toBe("passthrough");
    expect(whatIf.cpu).toEqual({ vendor: "AuthenticAMD", family: 0x17 });
    expect(parseWhatIf({ cpu: "amd:0x19" }).cpu).toEqual({ vendor: "AuthenticAMD", family: 0x19 });
    expect(parseWhatIf({ cpu: "ARM" }).cpu).toEqual({ vendor: "ARM", family: null });
  });

  it.each([
    [{ setAcs: ["02:00.0"] }, "bad-set-acs", /0000:02:00\.0=0x0c/],
    [{ setAcs: ["02:00.0=0x10000"] }, "bad-set-acs", /RR 0x04/],
    [{ setAcs: ["nvme0=4"] }, "bad-bdf", /18:00\.0/],
    [{ setId: ["00:00.0=808620300"] }, "bad-set-id", /8086:2030/],
    [{ move: ["05:00.0=port3"] }, "bad-bdf", /bus:device/],
    [{ kernel: "new" }, "bad-kernel", /6\.12/],
    [{ kernel: "3.10" }, "bad-kernel", /7\.3/],
    [{ iommu: "on" }, "bad-iommu", /strict/],
    [{ cpu: "AuthenticAMD" }, "bad-cpu", /AuthenticAMD:23/],
    [{ cpu: "SomeCpu:6" }, "bad-cpu", /GenuineIntel/],
  ])("%j is a usage error that says what is right", (texts, code, remedy) => {
    const error = refuse(texts);
    expect(error).toBeInstanceOf(UsageError);
    expect(error.code).toBe(code);
    expect(error.remedy).toMatch(remedy);
  });
});

describe("a changed machine", () => {
  const machine = shippedMachine("01-same-switch");
  const provider = parseBdf("03:00.0");
  const client = parseBdf("04:00.0");

  it("answers differently, and the given one does not", () => {
    const { machine: now, changes } = applyWhatIf(
      machine,
      parseWhatIf({ setAcs: ["00:04.0=0x1d"], setId: ["00:00.0=8086:3c00"], cpu: "intel:6" }),
    );
    expect(changes).toHaveLength(3);
    expect(changes[1]).toBe("0000:00:04.0 ACS Control is 0x001d (SV RR CR UF)");
    const verdict = matrixOf(now).rules.verdict(provider, client);
    // The redirecting port is above the switch, where the way does not pass.
    expect(verdict).toMatchObject({ mapType: "BUS_ADDR", distance: 4 });
    expect(now.functions[0].deviceId).toBe(0x3c00);
    expect(machine.functions[0].deviceId).toBe(0x29c0);
  });

  it("gives a port without ACS the word all the same, and says so", () => {
    const { machine: now, notes } = applyWhatIf(machine, parseWhatIf({ setAcs: ["02:00.0=0x04"] }));
    expect(notes[0]).toMatch(/^0000:02:00\.0 has no ACS capability in the dump/);
    expect(matrixOf(now).rules.verdict(provider, client).mapType).toBe("NOT_SUPPORTED");
    const moreWords = parseWhatIf({ setAcs: ["02:00.0=0x04", "02:00.0=0"] });
    const last = applyWhatIf(machine, moreWords).machine;
    expect(matrixOf(last).rules.verdict(provider, client).mapType).toBe("BUS_ADDR");
  });

  it("has another CPU, kernel and IOMMU, and nothing left of the old CPU", () => {
    const { machine: now } = applyWhatIf(
      machine,
      parseWhatIf({ cpu: "AuthenticAMD:25", kernel: "6.12", iommu: "strict" }),
    );
    expect(now.host).toMatchObject({
      cpuVendor: "AuthenticAMD",
      cpuFamily: 25,
      cpuModel: null,
      kernelVersion: "6.12.0",
      iommu: "strict",
      architecture: "x86_64",
    });
  });

  it("says which functions and ports there are", () => {
    const apply = (texts: WhatIfTexts) => () => applyWhatIf(machine, parseWhatIf(texts));
    expect(apply({ setAcs: ["77:00.0=4"] })).toThrow(UsageError);
    expect(apply({ move: ["04:00.0=02:00.0"] })).toThrow(/0000:03:00\.0 is below/);
    expect(apply({ move: ["04:00.0=02:01.0"] })).toThrow(/already/);
    expect(apply({ move: ["04:00.0=03:00.0"] })).toThrow(/no port/);
  });
});

describe("moves", () => {
  const { machine, gpu, audio, gpuPort, disk, farFreePort } = plannerMachine();
  const move = (from: Bdf, to: Bdf) =>
    applyWhatIf(machine, parseWhatIf({ move: [`${formatBdf(from)}=${formatBdf(to)}`] }));

  it("take the whole card, give it new names and addresses inside the windows", () => {
    const changed = move(gpu, farFreePort);
    expect(changed.notes.join()).toMatch(/^RAM ranges are unknown/);
    expect(changed.nameOf(disk)).toBe(disk);
    const after = new MachineIndex(changed.machine);
    const port = after.requireIndex(farFreePort);
    for (const old of [gpu, audio]) {
      const moved = after.requireIndex(changed.nameOf(old));
      expect(after.parentOf(moved)).toBe(port);
      const { bars } = after.functions[moved];
      const { prefetchable } = after.functions[port].bridge!;
      for (const { address, sizeBytes } of bars) {
        expect(address % sizeBytes!).toBe(0);
        expect(address).toBeGreaterThanOrEqual(prefetchable!.base);
        expect(address + sizeBytes! - 1).toBeLessThanOrEqual(prefetchable!.limit);
      }
    }
    expect(after.childrenOf(after.requireIndex(gpuPort))).toEqual([]);
  });

  it("stand without addresses where sizes are not known, and say so", () => {
    const functions = machine.functions.map((fn) =>
      fn.bdf === gpu ? { ...fn, bars: fn.bars.map((bar) => ({ ...bar, sizeBytes: null })) } : fn,
    );
    const option = parseWhatIf({ move: [`${formatBdf(gpu)}=${formatBdf(farFreePort)}`] });
    const { notes, machine: now, nameOf } = applyWhatIf({ ...machine, functions }, option);
    expect(notes[0]).toMatch(/no address and no known size/);
    expect(new MachineIndex(now).functionAt(nameOf(gpu))!.bars[0].address).toBe(0);
  });
});

describe("an IOMMU that was not there", () => {
  it("brings the ACS that Linux sets with it, and --set-acs has the last word", () => {
    const { machine, gpuPort, diskPort } = plannerMachine();
    const controlOf = (texts: WhatIfTexts, bdf: Bdf): number => {
      const changed = applyWhatIf(machine, parseWhatIf(texts));
      const at = new MachineIndex(changed.machine).requireIndex(bdf);
      return changed.machine.functions[at].acs?.control ?? -1;
    };
    expect(controlOf({ iommu: "strict" }, gpuPort)).toBe(0x1d);
    expect(controlOf({ iommu: "off" }, gpuPort)).toBe(0);
    const texts = { iommu: "pt", setAcs: [`${formatBdf(gpuPort)}=0`] };
    expect(controlOf(texts, gpuPort)).toBe(0);
    expect(controlOf(texts, diskPort)).toBe(0x1d);
    const { notes } = applyWhatIf(machine, parseWhatIf({ iommu: "strict" }));
    expect(notes.join()).toMatch(/Linux sets SV, RR, CR and UF at boot/);
  });

  it("was there: ACS stays as Linux set it; a note says what booting without it would do", () => {
    const { machine } = plannerMachine({ acs: 0x1d, host: { iommu: "strict" } });
    const { machine: off, notes } = applyWhatIf(machine, parseWhatIf({ iommu: "off" }));
    expect(off.functions.map(({ acs }) => acs)).toEqual(machine.functions.map(({ acs }) => acs));
    expect(notes.join()).toMatch(/leaves what firmware set/);
  });
});

describe("a matrix of a dump that hides ACS", () => {
  const { machine, gpuPort } = plannerMachine();
  const hidden = {
    ...machine,
    functions: machine.functions.map((fn) =>
      fn.bdf === gpuPort
        ? { ...fn, acs: null, unknown: [...fn.unknown, { field: "acs", consequence: "" }] }
        : fn,
    ),
  };
  const parse = (of: typeof machine) => JSON.parse([...matrixJson(matrixOf(of))].join(""));

  it("marks the pairs that it decides, and no others", () => {
    const keys = new Set(parse(machine).pairs.flatMap((pair: object) => Object.keys(pair)));
    expect([...keys]).toEqual(["provider", "client", "mapType", "distance", "reason"]);
    const marked = parse(hidden).pairs.filter((pair: { uncertain?: true }) => pair.uncertain);
    expect(marked.length).toBeGreaterThan(0);
    expect(marked.length).toBeLessThan(parse(hidden).pairs.length);
    for (const { mapType } of marked) expect(mapType).toBe("BUS_ADDR");
    expect(renderMatrix(matrixOf(hidden))).toMatch(/B4\?/);
    expect(renderMatrix(matrixOf(hidden))).toMatch(/\? ACS of .* is not in the dump/);
  });

  it("marks pairs that an older kernel refuses, where the kernel is not known", () => {
    const {
      machine: listed,
      nic,
      gpu,
      disk,
    } = plannerMachine({
      rootIds: [0x8086, 0x09a2],
      host: { kernelVersion: null },
    });
    const { pairs } = parse(listed);
    const isMarked = (provider: Bdf, client: Bdf): boolean =>
      pairs.find(
        (pair: { provider: string; client: string }) =>
          pair.provider === formatBdf(provider) && pair.client === formatBdf(client),
      ).uncertain === true;
    expect(isMarked(gpu, nic)).toBe(true);
    expect(isMarked(gpu, disk)).toBe(false);
    expect(renderMatrix(matrixOf(listed))).toMatch(/\? the kernel .*; before Linux 5\.18/);
    expect(renderMatrix(matrixOf(listed, { rules: "linux-5.14" }))).not.toContain("?");
  });

  it("marks what no bridge leads to: it may be below one switch with the other", () => {
    const place = { field: "parent", consequence: "" };
    const functions = machine.functions
      .filter((fn) => fn.bridge === null)
      .map((fn) => ({ ...fn, unknown: [...fn.unknown, place] }));
    const { uncertain, unknowns, shown } = matrixOf({ ...machine, functions });
    const marked = uncertain.reduce((sum, mark) => sum + mark, 0);
    expect(marked).toBe(shown.length * (shown.length - 1));
    expect(unknowns.map(({ text }) => text).join()).toMatch(/no bridge in the dump leads to/);
  });

  it("has a legend of what occurs, within the terminal", () => {
    const text = renderMatrix(matrixOf(machine), PLAIN, 60);
    expect(text).toMatch(/^\d+ pairs: \d+ direct, \d+ refused$/m);
    expect(text).toContain("B4 by bus address");
    expect(text).not.toContain("H4");
    expect(text.split("\n").filter((line) => line.length > 60)).toEqual([]);
  });
});
