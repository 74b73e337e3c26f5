/**
 * The shipped scenarios, whole: what `npm start` shows must be so. Workloads are cut down to keep the
 * suite fast; everything else is as shipped.
 */
import { describe, expect, it } from "vitest";
import { importMachine } from "../src/machine/index.ts";
import { realClock, realFiles, realHost } from "../src/platform/index.ts";
import {
  parseScenario,
  type RunReport,
  renderScenario,
  runScenario,
  type Scenario,
  type ScenarioReport,
} from "../src/scenario/index.ts";

const FOLDER = new URL("../scenarios/", import.meta.url).pathname;
const LIMIT = 64 * 2 ** 20;

async function load(name: string): Promise<Scenario> {
  const scenario = parseScenario(await realFiles.readText(`${FOLDER}${name}`, LIMIT), name);
  if (scenario.kind !== "nvmet") throw new Error(`${name} is of another kind`);
  return scenario;
}

async function run(name: string, change: (scenario: Scenario) => Scenario = (s) => s) {
  const shipped = await load(name);
  const operations = [
    { count: 96, size: 4096 },
    { count: 4, size: 65_536 },
    { count: 2, size: 2 ** 20 },
  ];
  const scenario = change({ ...shipped, workload: { ...shipped.workload, operations } });
  const file = `${FOLDER}${scenario.machine.file}`;
  const machine = importMachine([{ name: file, bytes: await realFiles.readBytes(file, LIMIT) }]);
  return runScenario(machine, scenario, { clock: realClock, host: realHost(), warmUpIos: 0 });
}

const BYTES = 96 * 4096 + 4 * 65_536 + 2 * 2 ** 20;
const runOf = (report: ScenarioReport, description: string): RunReport =>
  report.runs.find((one) => one.description === description) as RunReport;

describe("nvmet-rdma.yaml", async () => {
  const report = await run("nvmet-rdma.yaml");

  it("runs on the whole machine, with the NIC, SSD and GPU that share a switch", () => {
    expect(report.machine.functions).toBe(517);
    expect(report.devices.map(({ bdf, kind }) => [kind, bdf])).toEqual([
      ["NIC", "0000:1a:00.0"],
      ["SSD", "0000:18:00.0"],
      ["provider", "0000:19:00.0"],
    ]);
    expect(report.ok).toBe(true);
  });

  it("moves each byte through host memory twice each way, or not at all", () => {
    const through = runOf(report, "host-memory").hostMemory;
    expect([through.payloadIn, through.payloadOut]).toEqual([2 * BYTES, 2 * BYTES]);
    for (const description of ["dma-address", "lease"]) {
      const { hostMemory, outcome, stagedIn } = runOf(report, description);
      expect([hostMemory.payloadIn, hostMemory.payloadOut]).toEqual([0, 0]);
      expect([outcome, stagedIn]).toEqual(["completed", "0000:19:00.0 BAR2"]);
    }
  });

  it("leaves on the medium what was sent, the same in every run", () => {
    const sent = new Set(report.runs.map(({ digest }) => digest?.sent));
    expect(sent.size).toBe(1);
    for (const { digest, io } of report.runs) {
      expect(digest?.equal).toBe(true);
      expect([io.errors, io.bytesWritten, io.bytesRead]).toEqual([0, BYTES, BYTES]);
    }
  });

  it("keeps payload off the switch's uplink on the peer runs", () => {
    const uplink = ({ links }: RunReport): number => {
      const link = links.find((one) => one.link.includes("0000:15:01.0"));
      return (link?.downBytes ?? 0) + (link?.upBytes ?? 0);
    };
    expect(uplink(runOf(report, "host-memory"))).toBeGreaterThan(4 * BYTES);
    expect(uplink(runOf(report, "lease"))).toBeLessThan(BYTES / 10);
  });

  it("says of both initiators what is allowed, and where their requests go", () => {
    const { permitted, routes } = runOf(report, "lease");
    expect(permitted.map(({ client, mapType, distance }) => [client, mapType, distance])).toEqual([
      ["0000:1a:00.0", "BUS_ADDR", 4],
      ["0000:18:00.0", "BUS_ADDR", 4],
    ]);
    for (const { outcome, viaRootComplex, hops } of routes) {
      expect([outcome, viaRootComplex, hops.at(-1)?.at]).toEqual([
        "success",
        false,
        "0000:19:00.0",
      ]);
    }
  });

  it("replays from its seed", async () => {
    const again = await run("nvmet-rdma.yaml", (s) => ({ ...s, runs: ["lease"] }));
    const { cpu: _cpu, ...first } = runOf(report, "lease");
    const { cpu: _again, ...second } = runOf(again, "lease");
    expect(second).toEqual(first);
  });

  it("prints as text of the report", () => {
    const text = renderScenario(report, { columns: 120 });
    expect(text).toContain("payload in 0 B, out 0 B");
    expect(text).toContain("sent = on the SSD = read back");
  });
});

describe("nvmet-rdma-cmb.yaml", async () => {
  const report = await run("nvmet-rdma-cmb.yaml");

  it("says that the CMB is added, and stages payload in it", () => {
    expect(report.machine.edits.join("\n")).toMatch(
      /given a CMB of 64 MiB in BAR2, which the real/,
    );
    for (const description of ["dma-address", "lease"]) {
      const { stagedIn, hostMemory, digest } = runOf(report, description);
      expect(stagedIn).toBe("0000:18:00.0 BAR2");
      expect([hostMemory.payloadIn, hostMemory.payloadOut, digest?.equal]).toEqual([0, 0, true]);
    }
  });

  it("has the controller copy from its own memory: payload passes its link once each way", () => {
    const link = runOf(report, "lease").links.find((one) => one.link.includes("0000:17:00.0"));
    expect(link?.downBytes).toBeGreaterThanOrEqual(BYTES);
    expect(link?.downBytes).toBeLessThan(BYTES * 1.1);
  });
});

describe("nvmet-rdma-apart.yaml", () => {
  it("refuses, names the reason, and falls back visibly", async () => {
    const report = await run("nvmet-rdma-apart.yaml");
    const { outcome, permitted, hostMemory, digest, counters } = runOf(report, "lease");
    expect(outcome).toBe("fell-back");
    expect(permitted.some(({ mapType }) => mapType === "NOT_SUPPORTED")).toBe(true);
    expect(permitted.flatMap(({ remedies }) => remedies).join()).toContain("Linux 5.18");
    expect(hostMemory.payloadIn).toBe(2 * BYTES);
    expect(digest?.equal).toBe(true);
    expect(JSON.stringify(counters)).toMatch(/"no-provider":[1-9]/);
  });

  it("with policy fail, answers the host with a status and moves nothing", async () => {
    const report = await run("nvmet-rdma-apart.yaml", (scenario) => ({
      ...scenario,
      runs: ["lease"],
      target: { ...scenario.target, policy: "fail" },
    }));
    const { outcome, io, hostMemory, digest } = runOf(report, "lease");
    expect(outcome).toBe("refused");
    expect([io.bytesWritten, io.reads, digest]).toEqual([0, 0, null]);
    expect(io.firstError).not.toBeNull();
    expect([hostMemory.payloadIn, hostMemory.payloadOut]).toEqual([0, 0]);
  });
});

describe("under an IOMMU", () => {
  it.each(["passthrough", "strict"] as const)(
    "%s: the peer runs still bypass the host",
    async (iommu) => {
      const report = await run("nvmet-rdma.yaml", (scenario) => ({ ...scenario, iommu }));
      expect(report.ok).toBe(true);
      for (const description of ["dma-address", "lease"]) {
        const { payloadIn, payloadOut } = runOf(report, description).hostMemory;
        expect([payloadIn, payloadOut]).toEqual([0, 0]);
      }
    },
  );
});

/** The GPU scenarios, with less payload. */
async function runGpu(name: string, change: (text: string) => string = (text) => text) {
  const text = change(await realFiles.readText(`${FOLDER}${name}`, LIMIT));
  const scenario = parseScenario(text, name);
  const file = `${FOLDER}${scenario.machine.file}`;
  const machine = importMachine([{ name: file, bytes: await realFiles.readBytes(file, LIMIT) }]);
  return runScenario(machine, scenario, { clock: realClock, host: realHost(), warmUpIos: 0 });
}

describe.each([
  [
    "gds.yaml",
    (text: string) => text.replace(/blocks: (\d)\d\d\d/g, "blocks: 1$1").replace("1M", "256K"),
  ],
  ["gpudirect-rdma.yaml", (text: string) => text.replace("size: 32M", "size: 4M")],
])("%s", async (name, change) => {
  const report = await runGpu(name, change);
  const bytes = report.runs[0]?.gpu?.bytes ?? 0;

  it("takes the GPU that shares a switch with its partner", () => {
    expect(report.devices.map(({ bdf, model }) => [bdf, model])).toEqual([
      ["0000:19:00.0", "GPU model"],
      name === "gds.yaml"
        ? ["0000:18:00.0", "NVMe controller model"]
        : ["0000:1a:00.0", "RNIC model"],
    ]);
    expect(report.ok).toBe(true);
  });

  it("moves nothing of the payload through host memory but in the run that is to", () => {
    for (const { description, hostMemory, links, io } of report.runs) {
      const each = description === "host-memory" ? bytes : 0;
      expect([hostMemory.payloadIn, hostMemory.payloadOut]).toEqual([each, each]);
      // Down the GPU's link once, and up its partner's once.
      const gpu = links.find(({ link }) => link === "below 0000:17:01.0");
      expect(gpu?.downBytes).toBeGreaterThanOrEqual(bytes);
      expect(gpu?.downBytes).toBeLessThan(bytes + 65_536);
      const uplink = links.find(({ link }) => link === "below 0000:15:01.0");
      expect((uplink?.upBytes ?? 0) >= bytes).toBe(description === "host-memory");
      expect([io.errors, io.bytesRead + io.bytesWritten]).toEqual([0, bytes]);
    }
  });

  it("has the GPU say that it has what was sent, the same in every run", () => {
    const checks = report.runs.map(({ gpu }) => gpu);
    expect(new Set(checks.map((check) => check?.computed)).size).toBe(1);
    for (const check of checks) {
      expect(check).toMatchObject({ equal: true, vramEqual: true, computed: check?.sent });
    }
  });

  it("renders, and is plain data", () => {
    const text = renderScenario(report, { columns: 120 });
    expect(text).toContain(`computed crc32c ${report.runs[0]?.gpu?.computed}`);
    expect(JSON.parse(JSON.stringify(report))).toEqual(report);
  });
});

describe("gds-apart.yaml", () => {
  const less = (text: string) => text.replaceAll("blocks: 1024", "blocks: 64");

  it("falls back, visibly, and the GPU has the file all the same", async () => {
    const report = await runGpu("gds-apart.yaml", less);
    expect(report.runs.map(({ outcome }) => outcome)).toEqual([
      "completed",
      "fell-back",
      "fell-back",
    ]);
    for (const { hostMemory, gpu } of report.runs) {
      expect(hostMemory.payloadIn).toBe(gpu?.bytes);
      expect(gpu?.equal).toBe(true);
    }
  });

  it("refuses where the policy says so, with the verdict, and is not ok", async () => {
    const strict = (text: string) => less(text).replace("policy: host-memory", "policy: fail");
    const report = await runGpu("gds-apart.yaml", strict);
    expect(report.runs.map(({ outcome }) => outcome)).toEqual(["completed", "refused", "refused"]);
    expect(report.runs[2]?.permitted[0]?.mapType).toBe("NOT_SUPPORTED");
    expect(report.ok).toBe(false);
    expect(renderScenario(report)).toContain("NOT_SUPPORTED");
  });

  it("goes through the host bridge by IOVA where the rules allow it", async () => {
    const newer = (text: string) =>
      less(text)
        .replace('kernel: "5.15"', 'kernel: "6.12"')
        .replace("apart: true", 'ssd: "0000:18:00.0"\niommu: strict')
        .replace("gpu:\n", 'gpu:\n  function: "0000:3b:00.0"\n')
        .replace("policy: host-memory", "policy: fail");
    const report = await runGpu("gds-apart.yaml", newer);
    expect(report.runs.map(({ outcome }) => outcome)).toEqual(Array(3).fill("completed"));
    expect(report.runs[1]?.permitted[0]?.mapType).toBe("THRU_HOST_BRIDGE");
    expect(report.runs[1]?.hostMemory.payloadIn).toBe(0);
    expect(report.ok).toBe(true);
  });
});
