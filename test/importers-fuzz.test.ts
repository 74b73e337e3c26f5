/**
 * Damaged and hostile dumps, made from dumps of real machines with a fixed seed: each becomes a
 * machine that the rest of the program can use, or an error that says which file and place, within
 * bounded time. Nothing crashes, hangs or grows without bound.
 *
 * Bombs are in src/platform/archive.test.ts. PEERLANE_FUZZ_ROUNDS=500 runs longer (rounds per dump); PEERLANE_FUZZ_SEED varies it.
 */

import { readFileSync } from "node:fs";
import { gzipSync } from "node:zlib";
import { pack } from "tar-stream";
import { describe, expect, test } from "vitest";
import { PeerlaneError, Prng } from "../src/core/index.ts";
import {
  importInputs,
  type Machine,
  MachineIndex,
  parseMachineJson,
  parseNvsmiTopo,
  serializeMachine,
} from "../src/machine/index.ts";
import { damage } from "../testing/dump-mutator.ts";
import { COLLECTION, collected, NO_COLLECTION, shippedPath } from "../testing/recorded.ts";

const ROUNDS = Number(process.env["PEERLANE_FUZZ_ROUNDS"] ?? 3);
const SEED = Number(process.env["PEERLANE_FUZZ_SEED"] ?? 20_261_124);
/** A run takes milliseconds, some 300 of them for an archive; the rest is for a box under load. */
const MILLISECONDS_MAX = 15_000;
/** Big dumps are slow to damage and teach nothing that small ones do not. */
const DUMP_BYTES_MAX = 140_000;

/** For runs with many rounds. */
const LONG = { timeout: 3_600_000 };

const FOLDERS = ["lspci-hex", "lspci-text", "hwloc-xml", "hwloc-tar", "nccl-topo", "other"];

interface Dump {
  readonly name: string;
  readonly bytes: Uint8Array;
}

/** One of each kind: the smallest few of every folder, beside what the project ships. */
function dumps(): Dump[] {
  const found: Dump[] = [];
  for (const folder of FOLDERS) {
    const inFolder = collected(`corpus/${folder}`)
      .map(({ name, path }) => ({ name, bytes: new Uint8Array(readFileSync(path)) }))
      .filter(({ bytes }) => bytes.length <= DUMP_BYTES_MAX);
    found.push(...inFolder.sort((a, b) => a.bytes.length - b.bytes.length).slice(0, 6));
  }
  const shipped = new Uint8Array(readFileSync(shippedPath("02-two-root-ports/lspci.txt")));
  found.push({ name: "shipped/lspci.txt", bytes: shipped });
  return found;
}

/** A machine is only good if what reads machines can read it. */
function checkMachine(machine: Machine): void {
  const index = new MachineIndex(machine);
  expect(index.count).toBe(machine.functions.length);
  for (let i = 1; i < index.count; i++) {
    expect(machine.functions[i - 1].bdf).toBeLessThan(machine.functions[i].bdf);
  }
  const text = serializeMachine(machine);
  expect(serializeMachine(parseMachineJson(text, "again"))).toBe(text);
}

async function tryOne(name: string, bytes: Uint8Array): Promise<"machine" | "refused"> {
  const start = performance.now();
  let outcome: "machine" | "refused" = "refused";
  try {
    checkMachine(await importInputs([{ name, bytes }]));
    outcome = "machine";
  } catch (error) {
    if (!(error instanceof PeerlaneError)) throw error;
    expect(error.code).toMatch(/^[a-z][a-z-]+$/);
    expect(error.place, error.message).toContain(name.slice(0, 6));
    expect(error.remedy, error.message).toBeTruthy();
  }
  expect(performance.now() - start).toBeLessThan(MILLISECONDS_MAX);
  return outcome;
}

async function tarOf(files: Readonly<Record<string, string>>): Promise<Uint8Array> {
  const tar = pack();
  for (const [name, content] of Object.entries(files)) tar.entry({ name }, content);
  tar.finalize();
  const chunks: Buffer[] = [];
  for await (const chunk of tar) chunks.push(chunk as Buffer);
  return Buffer.concat(chunks);
}

describe("damaged dumps", () => {
  const all = dumps();
  const originals = all.map(({ bytes }) => bytes);

  test("the collection is here", (context) => {
    if (COLLECTION === null) context.skip(NO_COLLECTION);
  });

  test.each(all)("$name", LONG, async ({ name, bytes }) => {
    const prng = new Prng(SEED + bytes.length);
    for (let round = 0; round < ROUNDS; round++) {
      const bad = damage(bytes, originals, prng);
      try {
        await tryOne(name, bad);
      } catch (cause) {
        throw new Error(`round ${round} of seed ${SEED}`, { cause });
      }
    }
  });

  test("a machine.json is read exactly or refused with the path of the field", LONG, async () => {
    const machine = await importInputs([all[all.length - 1] as Dump]);
    const bytes = new TextEncoder().encode(serializeMachine(machine));
    const prng = new Prng(SEED);
    for (let round = 0; round < 4 * ROUNDS; round++) {
      await tryOne("machine.json", damage(bytes, originals, prng));
    }
  });

  test("a matrix of nvidia-smi is read or refused", LONG, () => {
    const prng = new Prng(SEED);
    for (const { path } of collected("corpus/nvsmi-topo")) {
      const bytes = new Uint8Array(readFileSync(path));
      for (let round = 0; round < ROUNDS; round++) {
        const text = new TextDecoder().decode(damage(bytes, [bytes], prng));
        try {
          parseNvsmiTopo(text, "topo.txt");
        } catch (error) {
          expect(error).toBeInstanceOf(PeerlaneError);
        }
      }
    }
  });
});

describe("hostile files", () => {
  const text = (content: string): Uint8Array => new TextEncoder().encode(content);

  test("archives in archives end", async () => {
    let bytes: Uint8Array = text("00:00.0 Host bridge: Intel Corporation Device 0000\n");
    for (let n = 0; n < 20; n++) bytes = gzipSync(bytes);
    await expect(importInputs([{ name: "deep.gz", bytes }])).rejects.toMatchObject({
      code: "archive-too-deep",
    });
  });

  test("paths that leave an archive are dropped and told", async () => {
    const bytes = await tarOf({
      "../../../sys/bus/pci/devices/0000:00:00.0/vendor": "0x8086",
      "top/lspci.txt": "00:01.0 Host bridge [0600]: Intel Corporation Device [8086:1234]\n",
    });
    const machine = await importInputs([{ name: "evil.tar", bytes }]);
    expect(machine.functions).toHaveLength(1);
    expect(machine.warnings.join()).toMatch(/1 entries of the archive .* left out/);
  });

  test("entities are not expanded", async () => {
    const lol = '<!DOCTYPE topology [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;">]>';
    const xml =
      `<?xml version="1.0"?>${lol}<topology version="2.0"><object type="Machine">` +
      '<object type="Bridge" bridge_type="0-1" bridge_pci="0000:[00-00]"><object type="PCIDev" ' +
      'pci_busid="0000:00:01.0" pci_type="0200 [8086:1521] [0000:0000] 01">' +
      '<info name="PCIVendor" value="&b;"/></object></object></object></topology>';
    const machine = await importInputs([{ name: "lol.xml", bytes: text(xml) }]);
    expect(machine.functions[0]?.vendorName).toBe("&b;");
  });

  test("elements nested too deep are refused before they are parsed", async () => {
    const open = '<object type="Group">'.repeat(100_000);
    const xml = `<topology version="2.0">${open}`;
    await expect(importInputs([{ name: "deep.xml", bytes: text(xml) }])).rejects.toMatchObject({
      code: "xml-damaged",
      place: "deep.xml:1",
    });
  });

  test.each([
    ["one line of 4 MiB", "x".repeat(4 * 1024 * 1024)],
    ["4 MiB of line ends", "\n".repeat(4 * 1024 * 1024)],
    ["4 MiB of separators", `${"_".repeat(44)}\n`.repeat(90_000)],
    ["a tree of 70,000 branches", `-[0000:00]-+-00.0\n${"           +-01.0\n".repeat(70_000)}`],
    ["unclosed tags", `<topology><object type="x">${"<a b='".repeat(60_000)}`],
    ["a udev database of one path", `P: /devices/pci0000:00\nE: DEVPATH=${"/x".repeat(500_000)}\n`],
    ["json that nests", `{"format": "peerlane-machine", "a": ${"[".repeat(200_000)}`],
  ])("%s", { timeout: 60_000 }, async (_, content) => {
    expect(await tryOne("hostile.txt", text(content))).toBe("refused");
  });
});
