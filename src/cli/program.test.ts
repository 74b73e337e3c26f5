import { describe, expect, it } from "vitest";
import { widthOf } from "../core/index.ts";
import { MemoryFiles, MemoryHost, realClock, realFiles } from "../platform/index.ts";
import { makeContext } from "./context.ts";
import { runCli } from "./run-cli.ts";

const ROOT = new URL("../..", import.meta.url).pathname.replace(/\/$/, "");
const HGX = `${ROOT}/scenarios/machines/hgx-h100-gpud.vvv.txt`;

/** Two devices on buses that no listed bridge leads to. */
const THIN = `00:00.0 Host bridge: Intel Corporation Device 09a2
00:01.0 PCI bridge: Intel Corporation Device 352a
18:00.0 Non-Volatile memory controller: Micron Technology Inc Device 51c3
19:00.0 3D controller: NVIDIA Corporation Device 2330
`;

async function cli(...args: string[]) {
  const host = new MemoryHost({ args });
  const status = await runCli(makeContext(host, realFiles, realClock, ROOT));
  return { status, out: host.stdout.text, err: host.stderr.text };
}

describe("usage", () => {
  it("teaches with --help, and ends with 0", async () => {
    const { status, out } = await cli("--help");
    expect(status).toBe(0);
    expect(out).toMatch(/Start here:[\s\S]*peerlane explain[\s\S]*Exit status/);
    expect((await cli("explain", "--help")).out).toContain("the function that issues the DMA");
  });

  it.each([
    [[]],
    [["nonsense"]],
    [["topo"]],
    [["explain", "18:00.0"]],
    [["topo", "--nonsense", "x"]],
  ])("ends with 2 on %j, and says how it is used", async (args) => {
    const { status, out, err } = await cli(...args);
    expect(status).toBe(2);
    expect(out + err).toMatch(/Usage:|--help/);
  });

  it("refuses a mistyped BDF with the right form", async () => {
    const { status, err } = await cli("explain", "18.00.0", "1a:00.0", "-m", HGX);
    expect(status).toBe(2);
    expect(err).toMatch(/"18.00.0" is not.*\n {2}try: .*0000:18:00\.0/);
  });
});

describe("failures", () => {
  it("name the file and a remedy", async () => {
    const { status, err } = await cli("topo", "/nonexistent/dump.txt");
    expect(status).toBe(1);
    expect(err).toMatch(/\/nonexistent\/dump\.txt[\s\S]*try: /);
  });

  it("are one JSON document with --json", async () => {
    const { status, out } = await cli("topo", "/nonexistent/dump.txt", "--json");
    expect(status).toBe(1);
    expect(JSON.parse(out)).toMatchObject({ error: { code: "file-not-found" } });
  });

  it("refuse what is no dump", async () => {
    const { status, err } = await cli("topo", `${ROOT}/package.json`);
    expect(status).not.toBe(0);
    expect(err).toContain("package.json");
  });
});

describe("thin dumps", () => {
  it("are answered with what is missing on standard error", async () => {
    const host = new MemoryHost({ args: ["matrix", "tree.txt"] });
    const files = new MemoryFiles();
    await files.write("tree.txt", THIN);
    await runCli(makeContext(host, files, realClock, ROOT));
    expect(host.stderr.text).toMatch(/note: /);
  });

  it("give usage errors as JSON too", async () => {
    const { status, out } = await cli("explain", "1a:00.0", "--json");
    expect(status).toBe(2);
    expect(JSON.parse(out)).toMatchObject({ error: { code: "usage" } });
  });
});

describe("topo", () => {
  it("draws what shares a switch below one upstream port", async () => {
    const { status, out } = await cli("topo", HGX);
    expect(status).toBe(0);
    const at = (text: string): number => out.indexOf(text);
    expect(at("16:00.0")).toBeLessThan(at("18:00.0"));
    expect(at("18:00.0")).toBeLessThan(at("19:00.0"));
    expect(out).toMatch(/19:00\.0 +GPU +gen5 x16 +BAR0 16 MiB BAR2 128 GiB/);
    expect(out).not.toContain("\u001b[");
  });
});

describe("explain", () => {
  it("allows a pair below one switch, with the route below the root complex", async () => {
    const { status, out } = await cli("explain", "1a:00.0", "19:00.0", "-m", HGX);
    expect(status).toBe(0);
    expect(out).toContain("BUS_ADDR");
    expect(out).not.toContain("root-complex");
  });

  it("refuses a pair of root ports with evidence and a remedy, and ends with 1", async () => {
    const pair = ["1a:00.0", "3a:00.0", "-m", HGX, "--kernel", "5.15"];
    const { status, out } = await cli("explain", ...pair, "--json");
    expect(status).toBe(1);
    const answer = JSON.parse(out);
    expect(answer.permitted.mapType).toBe("NOT_SUPPORTED");
    expect(answer.permitted.evidence.length).toBeGreaterThan(0);
    expect(answer.remedies.length).toBeGreaterThan(0);
  });
});

describe("on a terminal of 80 columns", () => {
  const SWITCH = `${ROOT}/scenarios/machines/01-same-switch`;
  const ACS = ["--set-acs", "02:00.0=0x1d"];
  /** Lines to paste are whole; so is the line below them that names the machine. */
  const TO_PASTE = /(setpci|peerlane explain|grep -E|cat \/sys|options nvidia|pci=\w+=)/;

  it.each([
    ["topo", HGX],
    ["matrix", SWITCH, ...ACS],
    ["matrix", HGX],
    ["explain", "04:00.0", "03:00.0", "-m", SWITCH, ...ACS],
    ["explain", "3c:00.0", "19:00.0", "-m", HGX, "--iommu", "strict"],
    ["find", "--clients", "1a:00.0,18:00.0", "-m", HGX],
    ["doctor", HGX, "--kernel", "5.15", "--iommu", "strict"],
    ["pages", HGX],
    ["diff", HGX, "--set-acs", "17:00.0=0x1d"],
    ["diff", SWITCH, `${ROOT}/scenarios/machines/02-two-root-ports`],
  ])("%s %s fits, coloured", async (...args) => {
    const host = new MemoryHost({ args, isTTY: true, columns: 80, env: { FORCE_COLOR: "1" } });
    await runCli(makeContext(host, realFiles, realClock, ROOT));
    expect(host.stdout.text).toContain("\u001b[");
    const wide = host.stdout.text.split("\n").filter((line) => widthOf(line) > 80);
    expect(wide.filter((line) => !TO_PASTE.test(line) && !line.includes(ROOT))).toEqual([]);
  });
});

describe("run", () => {
  it("names line and column of a mistake in a scenario", async () => {
    const { status, err } = await cli("run", `${ROOT}/biome.json`);
    expect(status).toBe(2);
    expect(err).toMatch(/biome\.json:\d+:\d+: /);
  });
});
