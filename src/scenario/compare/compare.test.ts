import { beforeAll, describe, expect, it } from "vitest";
import { MachineBuilder } from "../../../testing/machine-builder.ts";
import { threeBridges } from "../../../testing/three-bridges.ts";
import { UsageError } from "../../core/index.ts";
import { serializeMachine } from "../../machine/index.ts";
import { ManualClock, realFiles } from "../../platform/index.ts";
import {
  type CompareDescription,
  type CompareReport,
  chooseSubject,
  compareCsv,
  compareDescriptions,
  compareHtml,
  compareMarkdown,
  DEFAULT_WORKLOAD,
  DESCRIPTIONS,
  openDescription,
  parseWorkload,
  renderCompare,
  setUp,
} from "./index.ts";
import { measureIos } from "./io-cost.ts";

const MIB = 2 ** 20;
const SHIPPED = "scenarios/machines";

/** A switch with the owner and a near client; a far one under another root port of an AMD host. */
function machine() {
  const host = { cpuVendor: "AuthenticAMD", cpuFamily: 0x19, kernelVersion: "7.3.4" };
  const builder = new MachineBuilder("compared", host);
  const root = builder.root({ busOffset: -0x1000_0000 });
  const { ports } = builder.switch(builder.rootPort(root), 2);
  const owner = builder.endpoint(ports[0], { bars: [0x4000, 16 * MIB] });
  const near = builder.endpoint(ports[1], { bars: [0x4000] });
  const far = builder.endpoint(builder.rootPort(root), { bars: [0x4000] });
  return { snapshot: builder.build(), owner, near, far };
}

describe("the comparison", () => {
  let report: CompareReport;
  beforeAll(async () => {
    const sizes = [16 * MIB, 192 * 2 ** 30];
    report = await compareDescriptions(machine().snapshot, {
      clock: new ManualClock(),
      sizes,
      rounds: 2,
      landingMachine: threeBridges(),
    });
  }, 60_000);

  const outcomes = (name: string): string[] => {
    const row = report.works.find((works) => works.name === name);
    if (row === undefined) throw new Error(`no row ${name}`);
    return report.descriptions.map((kind: CompareDescription) => row.cells[kind].outcome);
  };

  const detail = (name: string, kind: CompareDescription): string =>
    report.works.find((works) => works.name === name)?.cells[kind].detail ?? "no such row";

  it("chooses an owner, a client by bus and one through the host bridge", () => {
    const { snapshot, owner, near, far } = machine();
    expect(chooseSubject(snapshot)).toMatchObject({
      owner: owner.bdf,
      near: near.bdf,
      far: far.bdf,
    });
  });

  it("finds what each can do by running it", () => {
    expect(report.descriptions).toEqual(["page", "pfn", "dma-address", "phys", "lease"]);
    for (const mode of ["off", "passthrough", "strict"]) {
      expect(outcomes(`by bus, IOMMU ${mode}`)).toEqual(["yes", "yes", "yes", "yes", "yes"]);
      expect(outcomes(`host bridge, IOMMU ${mode}`)).toEqual(["yes", "yes", "no", "yes", "yes"]);
    }
    expect(outcomes("two initiators")).toEqual(["yes", "yes", "no", "yes", "yes"]);
    expect(outcomes("keeps strangers out")).toEqual(["unsafe", "unsafe", "yes", "unsafe", "yes"]);
    expect(outcomes("BAR of 512 KiB")).toEqual(["no", "yes", "yes", "yes", "yes"]);
    expect(outcomes("BAR at 2^50")).toEqual(["no", "no", "yes", "yes", "yes"]);
    expect(outcomes("revoke while busy")).toEqual(["yes", "unsafe", "unsafe", "unsafe", "yes"]);
  });

  it("counts a map, an unmap and a flush per I/O where there is no lease", () => {
    const strict = report.io.filter(({ iommu }) => iommu === "strict");
    const operations = strict.map(({ cost }) =>
      cost === null ? null : [cost.iommuMaps, cost.iommuUnmaps, cost.iommuFlushes],
    );
    const perIo = [1, 1, 1];
    expect(operations).toEqual([perIo, perIo, null, perIo, [0, 0, 0]]);
  });

  it("counts bytes where they exist, and marks what it did not run", () => {
    const pages = report.registration.filter(({ description }) => description === "page");
    expect(pages.map(({ extrapolated }) => extrapolated)).toEqual([false, true]);
    expect(pages[0].kernelBytes).toBe(256 * 1024);
    expect(pages[0].allocatedBytes).toBeGreaterThanOrEqual(256 * 1024);
    expect(pages[1].kernelBytes).toBe(3 * 2 ** 30);
    const lean = report.registration.filter(({ description }) => description !== "page");
    expect(lean.every(({ allocatedBytes }) => allocatedBytes < 64 * 1024)).toBe(true);
  });

  it("finds what survives a stacked queue, and why the rest does not", () => {
    expect(report.legs.map(({ standIn }) => standIn)).toEqual([false, false]);
    for (const stack of ["raid0", "multipath"]) {
      const bare = stack === "raid0" ? "no" : "partly";
      expect(outcomes(stack)).toEqual(["no", "yes", bare, "yes", "yes"]);
      expect(outcomes(`${stack}, feature passed on`)).toEqual(["yes", "yes", bare, "yes", "yes"]);
    }
    expect(detail("raid0", "page")).toBe("refused: operation not supported");
    expect(detail("raid0", "dma-address")).toBe("refused: address of another initiator");
    expect(detail("multipath", "lease")).toBe("tries per path 2 and 2; failovers 1");
  });

  it("lets the GPU say what it saw", () => {
    expect(outcomes("GPU BAR")).toEqual(["yes", "yes", "yes", "yes", "yes"]);
    expect(detail("GPU BAR", "lease")).toBe("the GPU's checksum is that of the bytes sent");
  });

  it("finds who makes protection information", () => {
    for (const type of [1, 2, 3]) {
      expect(outcomes(`PI type ${type}`)).toEqual(Array(5).fill("yes"));
      expect(detail(`PI type ${type}`, "lease")).toContain("3 of 3 requests by the controller");
    }
    expect(outcomes("PI, no PRACT, peer memory")).toEqual(Array(5).fill("no"));
    const host = "PI, no PRACT, host memory";
    expect(outcomes(host)).toEqual(["yes", "yes", "no", "no", "yes"]);
    expect(detail(host, "page")).toContain("3 of 3 requests by the CPU");
  });

  it("keeps a lease's mapping for its life, and counts by group", () => {
    const far = report.iommuLife.filter(({ route }) => route === "host-bridge");
    const perIo = far.map((row) => row.perIo);
    expect(perIo).toEqual([[1, 1, 1], [1, 1, 1], null, [1, 1, 1], [0, 0, 0]]);
    expect(far.at(-1)).toMatchObject({
      opening: [1, 0, 0],
      closing: [0, 1, 1],
      idleIovaBytes: 16 * MIB,
    });
    const near = report.iommuLife.filter(({ route }) => route === "bus");
    expect(near.map((row) => row.perIo)).toEqual(Array(5).fill([0, 0, 0]));
    expect(near[0].group).not.toBe(far[0].group);
  });

  it("shows where the bytes land when nobody asks again", () => {
    const seen = report.landings
      .filter((row) => row.machine === "three-host-bridges")
      .map(({ iommu, outcome, landed }) => [iommu, outcome, landed.split(":")[0]]);
    const bystander = "0001";
    expect(seen).toEqual([
      ["off", "corrupts", bystander],
      ["passthrough", "corrupts", bystander],
      ["strict", "corrupts", bystander],
      ["off", "lost", "nowhere"],
      ["passthrough", "lost", "nowhere"],
      ["strict", "lost", "nowhere"],
    ]);
    const landed = report.landings.map((row) => row.landed).join("\n");
    expect(landed).toContain("0001:03:00.0 BAR2 + 0x10000: all 65536 bytes found there");
    expect(landed).toContain("Unsupported Request");
    expect(landed).toContain("IOMMU fault");
  });

  it("counts what is worked out per I/O", () => {
    const bus = report.io.filter(({ route }) => route === "bus");
    expect(bus.map(({ cost }) => cost?.translated)).toEqual([1, 1, 0, 1, 0]);
    expect(bus.map((row) => row.translatedAtOpening)).toEqual([0, 0, 1, 0, 1]);
  });

  it("says the same as text, Markdown and CSV", () => {
    const text = renderCompare(report);
    expect(text).toContain("~");
    expect(text).toContain("revoke while busy, phys: does not wait");
    expect(compareMarkdown(report)).toContain("| keeps strangers out | unsafe |");
    const rows = compareCsv(report).split("\n");
    expect(rows).toContain("works,BAR of 512 KiB,page,no,refused: page-alignment");
    const html = compareHtml(report);
    expect(html).toContain('title="refused: page-alignment">no</span>');
    // Nothing from elsewhere, and nothing that runs.
    expect(html).not.toMatch(/src=|href=|<script|url\(/);
    expect(html.match(/<td/g)?.length).toBe(html.match(/<\/td>/g)?.length);
  });
});

describe("the workload of a comparison", () => {
  it("has names, and fio's words", () => {
    expect(parseWorkload("random-4k")).toBe(DEFAULT_WORKLOAD);
    expect(parseWorkload("bs=64k, iodepth=8,rw=randrw,mix=70")).toMatchObject({
      blockBytes: 65_536,
      depth: 8,
      pattern: "random",
      readPercent: 70,
    });
    expect(parseWorkload("rw=read")).toMatchObject({ pattern: "sequential", readPercent: 100 });
  });

  it.each([
    "nothing",
    "",
    "bs=0",
    "bs=513",
    "bs=2M",
    "bs=-4k",
    "iodepth=0",
    "iodepth=1e3",
    "iodepth=5000",
    "mix=101",
    "rw=trim",
    "rw=constructor",
    "rw",
    "bs=4k=8k",
    "size=1G",
    "bs=4k,,rw=read",
  ])("refuses %j with what there is", (text) => {
    expect(() => parseWorkload(text)).toThrow(UsageError);
  });

  it("cuts, joins and maps what it says, each in its own way", () => {
    const { snapshot } = machine();
    const subject = chooseSubject(snapshot);
    const costs = (text: string) =>
      DESCRIPTIONS.filter((kind) => kind !== "dma-address").map((kind) => {
        const setup = setUp(snapshot, subject, "strict");
        const device = setup.far ?? setup.near;
        const handle = openDescription(kind, setup, setup.provider(), [device]);
        const measured = [{ setup, device, handle }];
        const [cost] = measureIos(measured, parseWorkload(text), new ManualClock(), 2);
        return [cost.requests, cost.translated, cost.iommuMaps];
      });
    // Sequential neighbours become requests of 128 KiB, and are still mapped one by one.
    expect(costs("bs=4k,iodepth=32,rw=write")).toEqual([
      [1 / 32, 1, 1],
      [1 / 32, 1, 1],
      [1 / 32, 1, 1],
      [1 / 32, 0, 0],
    ]);
    // A megabyte is cut in eight.
    const eight = [8, 8, 8];
    expect(costs("bs=1M,iodepth=2,rw=randread")).toEqual([eight, eight, eight, [8, 0, 0]]);
  });
});

describe("what ships with the comparison", () => {
  it("is the machine that the tests build", async () => {
    const text = await realFiles.readText(`${SHIPPED}/three-host-bridges.json`, MIB);
    expect(text).toBe(serializeMachine(threeBridges()));
  });
});
