import { beforeAll, describe, expect, it } from "vitest";
import { MachineBuilder } from "../../../testing/machine-builder.ts";
import { ManualClock } from "../../platform/index.ts";
import {
  type CompareDescription,
  type CompareReport,
  chooseSubject,
  compareCsv,
  compareDescriptions,
  compareMarkdown,
  renderCompare,
} from "./index.ts";

const MIB = 2 ** 20;

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
    });
  });

  const outcomes = (name: string): string[] => {
    const row = report.works.find((works) => works.name === name);
    if (row === undefined) throw new Error(`no row ${name}`);
    return report.descriptions.map((kind: CompareDescription) => row.cells[kind].outcome);
  };

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

  it("says the same as text, Markdown and CSV", () => {
    const text = renderCompare(report);
    expect(text).toContain("~");
    expect(text).toContain("revoke while busy, phys: does not wait");
    expect(compareMarkdown(report)).toContain("| keeps strangers out | unsafe |");
    const rows = compareCsv(report).split("\n");
    expect(rows).toContain("works,BAR of 512 KiB,page,no,refused: page-alignment");
  });
});
