/**
 * docs/guide/nvme-commands.md against a running target: every code that there can be is asked for.
 */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { viewOf } from "../src/core/index.ts";
import {
  AdminOpcode,
  EFFECTS_IO_OFFSET,
  FeatureSelect,
  formatStatus,
  LogPage,
  NvmeStatus,
  statusCode,
} from "../src/spec/nvme/index.ts";
import { tcpHarness } from "../testing/nvmet-tcp-harness.ts";
import { Bench } from "../testing/nvmet-transport-contract.ts";
import { ROOT } from "./tidy/source.ts";

const text = readFileSync(join(ROOT, "docs/guide/nvme-commands.md"), "utf8");

/** Codes in the table under a heading. */
function codesUnder(heading: string): number[] {
  const section = text.split(`\n## ${heading}\n`)[1]?.split("\n## ")[0] ?? "";
  return [...section.matchAll(/^\| ([0-9A-F]{2})h \|/gm)].map(([, hex]) =>
    Number.parseInt(hex as string, 16),
  );
}

const ALL = Array.from({ length: 256 }, (_, code) => code);

/** The codes that a target answers, asked one by one. */
async function answered(
  bench: Bench,
  request: (code: number) => Parameters<Bench["host"]["admin"]>[0],
  refusals: readonly number[],
): Promise<number[]> {
  const found: number[] = [];
  for (const code of ALL) {
    const status = await bench
      .settle(bench.host.admin(request(code)))
      .then(() => 0)
      .catch((error) => error.details.status as number);
    if (!refusals.includes(statusCode(status))) found.push(code);
    else expect(formatStatus(status)).toMatch(/do not retry/);
  }
  return found;
}

describe("docs/guide/nvme-commands.md", () => {
  it("lists the commands, as the effects log does", async () => {
    const bench = await Bench.open(await tcpHarness());
    const effects = viewOf(await bench.settle(bench.host.logPage(LogPage.commandEffects, 4096)));
    const supported = (base: number) =>
      ALL.filter((code) => (effects.getUint32(base + 4 * code, true) & 1) === 1);
    expect(codesUnder("Admin commands")).toEqual(supported(0));
    expect(codesUnder("I/O commands")).toEqual(supported(EFFECTS_IO_OFFSET));
  });

  it("lists the log pages, as the log of log pages does", async () => {
    const bench = await Bench.open(await tcpHarness());
    const page = { opcode: AdminOpcode.getLogPage, nsid: 1, dataBytes: 512 };
    const request = (lid: number) => ({ ...page, dwords: [lid | (127 << 16)] });
    const found = await answered(bench, request, [NvmeStatus.invalidLogPage]);
    expect(codesUnder("Log pages")).toEqual(found);
    const log = viewOf(await bench.settle(bench.host.logPage(LogPage.supportedLogPages, 1024)));
    expect(ALL.filter((lid) => log.getUint32(4 * lid, true) !== 0)).toEqual(found);
  });

  it("lists the features", async () => {
    const bench = await Bench.open(await tcpHarness());
    const select = FeatureSelect.supported << 8;
    const request = (fid: number) => ({
      opcode: AdminOpcode.getFeatures,
      nsid: 1,
      dwords: [fid | select],
    });
    const found = await answered(bench, request, [NvmeStatus.invalidField]);
    expect(codesUnder("Features")).toEqual(found);
  });

  it("lists the structures of Identify", async () => {
    const bench = await Bench.open(await tcpHarness());
    const request = (cns: number) => ({
      opcode: AdminOpcode.identify,
      nsid: 1,
      dwords: [cns],
      dataBytes: 4096,
    });
    const found = await answered(bench, request, [NvmeStatus.invalidField]);
    expect(codesUnder("Identify")).toEqual(found);
  });
});
