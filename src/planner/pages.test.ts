import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { plannerMachine } from "../../testing/planner-machine.ts";
import { shippedMachine } from "../../testing/recorded.ts";
import { PLAIN, widthOf } from "../core/index.ts";
import { setHost } from "../machine/index.ts";
import {
  pagesJson,
  pagesOfMachine,
  pagesOfSize,
  parseAddress,
  renderPages,
  sizeOf,
} from "./index.ts";
import { fitOf, kaslrLimit, LINEAR_MAPS, structPageBytes } from "./pages.ts";

const GIB = 2 ** 30;
const TIB = 2 ** 40;
const mapOf = (id: string) => LINEAR_MAPS.find((map) => map.id === id)!;

describe("the cost of struct page", () => {
  // facts.md, section 5: BAR -> host RAM.
  it.each([
    ["256MiB", 4 * 2 ** 20],
    ["1GiB", 16 * 2 ** 20],
    ["16GiB", 256 * 2 ** 20],
    ["80GiB", 1.25 * GIB],
    ["128GiB", 2 * GIB],
    ["256GiB", 4 * GIB],
  ])("of %s is %d bytes", (size, bytes) => {
    expect(structPageBytes(sizeOf(size))).toBe(bytes);
    expect(structPageBytes(sizeOf(size), 65_536)).toBe(bytes / 16);
  });
});

describe("the linear map", () => {
  it("of arm64 begins at RAM: a BAR below it fails, whatever its size", () => {
    const bar = { sizeBytes: 65_536, phys: 0x5850_0000 };
    const answer = fitOf(bar, mapOf("arm64-48"), 0x8000_0000);
    expect(answer).toMatchObject({ fit: "does-not-fit" });
    expect(answer.text).toMatch(/below RAM at 0x80000000/);
    expect(fitOf(bar, mapOf("arm64-48"), null).fit).toBe("unknown");
    expect(fitOf(bar, mapOf("arm64-48"), 0x4000_0000).fit).toBe("fits");
  });

  it("of Sv39 holds 128 GiB, which high BARs leave at once", () => {
    const bar = { sizeBytes: GIB, phys: 200 * GIB };
    expect(fitOf(bar, mapOf("riscv-39"), 0x8000_0000).fit).toBe("does-not-fit");
    expect(fitOf(bar, mapOf("riscv-48"), 0x8000_0000).fit).toBe("fits");
  });

  it("of powerpc with 46 bits did not reach POWER9's windows", () => {
    const bar = { sizeBytes: GIB, phys: 2 ** 50 };
    expect(fitOf(bar, mapOf("powerpc-46"), null).fit).toBe("does-not-fit");
    expect(fitOf(bar, mapOf("powerpc-51"), null).fit).toBe("fits");
  });

  it("was shrunk by address randomisation before 6.15", () => {
    const host = {
      ...plannerMachine().machine.host,
      kernelVersion: "6.8.0",
      ram: [{ base: 0, limit: 2 * TIB - 1 }],
    };
    const bar = { sizeBytes: 128 * GIB, phys: 33 * TIB };
    expect(kaslrLimit(host, bar)).toEqual({ limit: 12 * TIB });
    expect(kaslrLimit({ ...host, kernelVersion: "6.15.0" }, bar)).toBeNull();
    expect(kaslrLimit({ ...host, kernelCommandLine: "quiet nokaslr" }, bar)).toBeNull();
    expect(kaslrLimit({ ...host, architecture: "aarch64" }, bar)).toBeNull();
  });

  it("fits exactly what is inside it", () => {
    fc.assert(
      fc.property(
        fc.nat(2 ** 20),
        fc.integer({ min: 1, max: 2 ** 16 }),
        fc.nat(2 ** 10),
        fc.constantFrom(...LINEAR_MAPS),
        (start, length, ram, map) => {
          const [phys, sizeBytes, first] = [start, length, ram].map((n) => n * map.alignment);
          const base = map.from === "zero" ? 0 : first;
          const isInside = phys >= base && phys + sizeBytes <= base + map.sizeBytes;
          expect(fitOf({ phys, sizeBytes }, map, first).fit === "fits").toBe(isInside);
        },
      ),
      { seed: 5, numRuns: 300 },
    );
  });
});

describe("a report", () => {
  it("of a server shows the largest BAR of each that has memory", () => {
    const report = pagesOfMachine(shippedMachine("hgx-h100-gpud.vvv.txt"));
    expect(report).toMatchObject({ architecture: "x86_64", isInferred: true });
    expect(report.rows.filter(({ bar }) => bar.sizeBytes === 128 * GIB)).toHaveLength(8);
    expect(renderPages(report)).toMatch(/^9 BARs: 16\.0 GiB of RAM for struct pages; inside/);
    const all = pagesOfMachine(shippedMachine("hgx-h100-gpud.vvv.txt"), true);
    expect(all.rows.length).toBeGreaterThan(report.rows.length);
  });

  it("says where alignment is missing: small CMBs are dropped", () => {
    const text = renderPages(pagesOfSize(512 * 1024, 0x1000_0000));
    expect(text).toMatch(/^1 BAR: [\s\S]*?not\s+aligned\s+to\s+2\s+MiB\.$/m);
    expect(text).toMatch(/aligned: .* else\s+registration with pages skips or refuses the BAR/);
  });

  it("fits the terminal", () => {
    const report = pagesOfMachine(shippedMachine("hgx-h100-gpud.vvv.txt"));
    const lines = renderPages(report, PLAIN, 80).split("\n");
    expect(lines.filter((line) => widthOf(line) > 80)).toEqual([]);
  });

  it("is JSON as well", () => {
    const { machine } = plannerMachine();
    const arm = setHost(machine, { architecture: "aarch64" });
    const json = JSON.parse(JSON.stringify(pagesJson(pagesOfMachine(arm))));
    expect(json.bars[0].fits.map(({ map }: { map: string }) => map)).toContain("arm64-48");
  });
});

describe("sizes and addresses", () => {
  it("are read as people write them", () => {
    expect(sizeOf("512K")).toBe(524_288);
    expect(sizeOf("1.5 GiB")).toBe(1.5 * GIB);
    expect(sizeOf("4096")).toBe(4096);
    expect(parseAddress("0x58500000")).toBe(0x5850_0000);
    for (const text of ["", "GiB", "-1", "1 EiB", "0"]) expect(() => sizeOf(text)).toThrow(/size/);
    for (const text of ["", "5850g", "0x1ffffffffffffff"]) {
      expect(() => parseAddress(text)).toThrow(/address/);
    }
  });
});
