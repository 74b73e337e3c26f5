/**
 * The rules against what a real Linux 7.3 kernel said of every ordered pair of every machine that
 * was recorded (../shared/truth). Where the recordings are absent the test says so and checks
 * nothing.
 */
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { describe, expect, it } from "vitest";
import { parseBdf } from "../src/core/index.ts";
import { importMachine, type Machine, type PciFunction } from "../src/machine/index.ts";
import { MAP_TYPE_NAMES, Rules, Topology } from "../src/p2p/index.ts";

const TRUTH = fileURLToPath(new URL("../../shared/truth", import.meta.url));

interface RecordedPair {
  readonly provider: string;
  readonly client: string;
  readonly distance: number;
  readonly rawDistance: number;
  readonly mapType: string;
}

interface RecordedAttempt {
  readonly kind: "io" | "nvmet";
  readonly provider: string;
  readonly client: string;
  readonly p2p_read?: string;
  readonly set_rc?: number;
  readonly enabled?: number;
  readonly dmesg: readonly string[];
}

interface Recording {
  readonly phases: Readonly<
    Record<string, { readonly matrix?: RecordedPair[]; readonly pairs: RecordedAttempt[] }>
  >;
}

const names = existsSync(TRUTH)
  ? readdirSync(TRUTH).filter((name) => existsSync(`${TRUTH}/${name}/verdicts.json`))
  : [];

function readMachine(name: string): Machine {
  const files = ["lspci.txt", "machine.txt"].map((file) => ({
    name: file,
    text: readFileSync(`${TRUTH}/${name}/${file}`, "utf8"),
  }));
  return importMachine(files, { name });
}

/** Words of ACS Control that were set on 02:00.0 and 02:01.0 after the dump, by phase. */
const ACS_PHASES: Readonly<Record<string, readonly [number, number]>> = {
  "-none": [0, 0],
  "-rr_dn1": [0x04, 0],
  "-cr_dn1": [0x08, 0],
  "-ec_dn1": [0x20, 0],
  "-rr_dn2": [0, 0x04],
  "-both": [0x0c, 0x0c],
  "-sv_uf_dt_only": [0x53, 0x53],
};

function edit(machine: Machine, bdf: string, change: Partial<PciFunction>): Machine {
  const name = parseBdf(bdf);
  const functions = machine.functions.map((fn) => (fn.bdf === name ? { ...fn, ...change } : fn));
  return { ...machine, functions };
}

/** What was changed between the dump and this phase (truth/README.md). */
function atPhase(machine: Machine, phase: string): Machine {
  const ids = /^-([0-9a-f]{4})([0-9a-f]{4})$/.exec(phase);
  if (ids !== null) {
    const [vendorId, deviceId] = [ids[1], ids[2]].map((id) => Number.parseInt(id, 16));
    return edit(machine, "00:00.0", { vendorId, deviceId });
  }
  const words = ACS_PHASES[phase];
  if (words === undefined) {
    expect(phase, "a phase that this test knows").toBe("base");
    return machine;
  }
  const acs = (control: number) => ({
    acs: { offset: 0x100, capabilities: 0x7f, control, egressVector: null },
  });
  return edit(edit(machine, "02:00.0", acs(words[0])), "02:01.0", acs(words[1]));
}

describe("the classic rule against Linux 7.3", () => {
  it("agrees on map type and both distances of every recorded pair", (context) => {
    if (names.length === 0) {
      console.warn(`p2p: WARNING: ${TRUTH} is absent: verdicts are not checked against a kernel`);
      return context.skip("no recordings");
    }
    let pairs = 0;
    let phases = 0;
    const disagreements: string[] = [];
    for (const name of names) {
      const recording: Recording = JSON.parse(
        readFileSync(`${TRUTH}/${name}/verdicts.json`, "utf8"),
      );
      const dumped = readMachine(name);
      for (const [phase, { matrix = [] }] of Object.entries(recording.phases)) {
        const topology = new Topology(atPhase(dumped, phase));
        const rules = new Rules(topology);
        const all = rules.matrix();
        phases++;
        for (const expected of matrix) {
          pairs++;
          const [provider, client] = [expected.provider, expected.client].map(parseBdf);
          const verdict = rules.verdict(provider, client);
          const at = all.at(topology.at(provider), topology.at(client));
          const said = [verdict.mapType, verdict.distance, verdict.rawDistance].join(" ");
          const compact = [
            MAP_TYPE_NAMES[all.mapType[at]],
            all.distance[at],
            all.rawDistance[at],
          ].join(" ");
          const truth = [expected.mapType, expected.distance, expected.rawDistance].join(" ");
          if (said === truth && compact === truth) continue;
          disagreements.push(
            `${name} ${phase} ${expected.provider} ${expected.client}: ${said}, kernel ${truth}`,
          );
        }
      }
    }
    console.log(
      `p2p: ${pairs - disagreements.length} of ${pairs} pairs agree with Linux 7.3 ` +
        `(${names.length} machines, ${phases} phases)`,
    );
    expect(disagreements).toEqual([]);
    expect(pairs).toBeGreaterThan(0);
  });

  it("agrees with what real transfers and the NVMe target met", (context) => {
    if (names.length === 0) return context.skip("no recordings");
    const disagreements: string[] = [];
    const checked = { io: 0, nvmet: 0 };
    for (const name of names) {
      const recording: Recording = JSON.parse(
        readFileSync(`${TRUTH}/${name}/verdicts.json`, "utf8"),
      );
      const dumped = readMachine(name);
      for (const [phase, { pairs }] of Object.entries(recording.phases)) {
        const rules = new Rules(new Topology(atPhase(dumped, phase)));
        for (const attempt of pairs) {
          const worked = outcome(name, attempt);
          if (worked === null) continue;
          checked[attempt.kind]++;
          const verdict = rules.verdict(parseBdf(attempt.provider), parseBdf(attempt.client));
          if ((verdict.route !== "none") === worked) continue;
          disagreements.push(`${name} ${phase} ${JSON.stringify(attempt)}: ${verdict.text}`);
        }
      }
    }
    console.log(`p2p: ${checked.io} transfers and ${checked.nvmet} namespaces as the rule says`);
    expect(disagreements).toEqual([]);
  });
});

/** Whether the attempt got through the rules; null where something else decided it. */
function outcome(name: string, attempt: RecordedAttempt): boolean | null {
  if (attempt.kind === "io") {
    const bytes = attempt.p2p_read ?? "";
    return bytes.startsWith("-1") ? false : bytes.startsWith("65536");
  }
  // The kernel chooses the provider; or there is no such provider; or multipath hides the device.
  if (!/^[0-9a-f]{4}:/.test(attempt.provider) || attempt.set_rc !== 0) return null;
  if (name.startsWith("21-")) return null;
  return attempt.enabled === 1;
}
