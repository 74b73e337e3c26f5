/**
 * `peerlane matrix` against what a real Linux 7.3 kernel said of every ordered pair of every
 * machine that was recorded (../shared/truth), through the command line as a program would use it:
 * the dump, what was changed after it, kernel and CPU by options or from the second file.
 */
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { afterAll, describe, expect, it } from "vitest";
import { peerlane } from "../testing/cli.ts";

const TRUTH = fileURLToPath(new URL("../../shared/truth", import.meta.url));

interface Pair {
  readonly provider: string;
  readonly client: string;
  readonly mapType: string;
  readonly distance: number;
}

type Recording = Readonly<{ phases: Readonly<Record<string, Readonly<{ matrix?: Pair[] }>>> }>;

/** What was changed between the dump and each phase (truth/README.md). */
const ACS_PHASES: Readonly<Record<string, readonly [string, string]>> = {
  "-none": ["0", "0"],
  "-rr_dn1": ["0x04", "0"],
  "-cr_dn1": ["0x08", "0"],
  "-ec_dn1": ["0x20", "0"],
  "-rr_dn2": ["0", "0x04"],
  "-both": ["0x0c", "0x0c"],
  "-sv_uf_dt_only": ["0x53", "0x53"],
};

function changesOf(phase: string): string[] {
  const ids = /^-([0-9a-f]{4})([0-9a-f]{4})$/.exec(phase);
  if (ids !== null) return ["--set-id", `0000:00:00.0=${ids[1]}:${ids[2]}`];
  const words = ACS_PHASES[phase];
  if (words === undefined) {
    expect(phase, "a phase that this test knows").toBe("base");
    return [];
  }
  return ["--set-acs", `0000:02:00.0=${words[0]}`, "--set-acs", `0000:02:01.0=${words[1]}`];
}

const keyOf = (pair: Pair): string => `${pair.provider} ${pair.client}`;
const answerOf = (pair: Pair): string => `${pair.mapType} ${pair.distance}`;

const names = existsSync(TRUTH)
  ? readdirSync(TRUTH).filter((name) => existsSync(`${TRUTH}/${name}/verdicts.json`))
  : [];
const total = { pairs: 0, phases: 0, agree: 0 };

async function compare(args: readonly string[], truth: readonly Pair[]): Promise<string[]> {
  const { status, stdout, stderr } = await peerlane("matrix", ...args, "--all", "--json");
  expect(stderr).toBe("");
  expect(status).toBe(0);
  const { pairs }: { pairs: Pair[] } = JSON.parse(stdout);
  const said = new Map(pairs.map((pair) => [keyOf(pair), answerOf(pair)]));
  expect(pairs.length).toBe(said.size);
  expect([...said.keys()].sort()).toEqual(truth.map(keyOf).sort());
  total.phases++;
  total.pairs += truth.length;
  const wrong = truth.filter((pair) => said.get(keyOf(pair)) !== answerOf(pair));
  total.agree += truth.length - wrong.length;
  return wrong.map((pair) => `${keyOf(pair)}: ${said.get(keyOf(pair))}, kernel ${answerOf(pair)}`);
}

/** `vendor_id : AuthenticAMD` and `cpu family : 15` of machine.txt, as --cpu takes them. */
function cpuOf(folder: string): string {
  const text = readFileSync(`${folder}/machine.txt`, "utf8");
  const vendor = /^vendor_id\s*: (\S+)/m.exec(text)?.[1];
  const family = /^cpu family\s*: (\d+)/m.exec(text)?.[1];
  return `${vendor}:${family}`;
}

describe("peerlane matrix --all --json against Linux 7.3", () => {
  it.each(names)("%s", async (name) => {
    const folder = `${TRUTH}/${name}`;
    const recording: Recording = JSON.parse(readFileSync(`${folder}/verdicts.json`, "utf8"));
    const lspci = `${folder}/lspci.txt`;
    for (const [phase, { matrix = [] }] of Object.entries(recording.phases)) {
      if (matrix.length === 0) continue;
      const changes = changesOf(phase);
      const byOptions = [lspci, "--kernel", "7.3", "--cpu", cpuOf(folder), ...changes];
      expect(await compare(byOptions, matrix), `${phase}, by options`).toEqual([]);
      const byFiles = [lspci, `${folder}/machine.txt`, ...changes];
      expect(await compare(byFiles, matrix), `${phase}, by files`).toEqual([]);
    }
  });

  it("has recordings to be checked against", (context) => {
    if (names.length === 0) context.skip(`${TRUTH} is absent: nothing was checked`);
    expect(names.length).toBeGreaterThan(0);
  });

  afterAll(() => {
    console.log(
      `planner: ${total.agree} of ${total.pairs} answers of peerlane matrix agree with Linux 7.3 ` +
        `(${names.length} machines, ${total.phases} runs)`,
    );
  });
});
