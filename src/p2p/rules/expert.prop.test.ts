/**
 * What the expert rule set says of a TLP is what the simulated hardware does with it: two rooms
 * that share no code, on random machines with random access controls and egress control vectors.
 */
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { portedFabric } from "../../../testing/ported-fabric.ts";
import { randomMachine } from "../../../testing/random-machine.ts";
import { type Bdf, DmaStatus, Prng } from "../../core/index.ts";
import { formatRoute, type RouteReport } from "../../fabric/index.ts";
import type { AcsFacts, Machine, PciFunction } from "../../machine/index.ts";
import {
  Acs,
  REASONS,
  RULE_SETS,
  Rules,
  ruleSetById,
  type TlpVerdict,
  Topology,
} from "../index.ts";

/** Which bits, and how often: often enough that a way of six ports has every outcome. */
const ODDS: readonly (readonly [number, number])[] = [
  [Acs.SV, 0.5],
  [Acs.TB, 0.1],
  [Acs.RR, 0.3],
  [Acs.CR, 0.3],
  [Acs.UF, 0.8],
  [Acs.EC, 0.3],
  [Acs.DT, 0.4],
];

function randomAcs(prng: Prng): AcsFacts {
  const control = ODDS.reduce((word, [bit, odds]) => (prng.chance(odds) ? word | bit : word), 0);
  const egressVector = Array.from({ length: 8 }, () => prng.u32() & prng.u32() & 0xffffffff);
  return {
    offset: 0x150,
    capabilities: 0x7f,
    control,
    egressVector: egressVector.map((w) => w >>> 0),
  };
}

function withRandomAcs(machine: Machine, prng: Prng): Machine {
  const functions = machine.functions.map((fn): PciFunction => {
    const hasAcs = fn.pcie !== null && prng.chance(0.6);
    return { ...fn, acs: hasAcs ? randomAcs(prng) : null };
  });
  return { ...machine, functions };
}

const ACS_REFUSAL = /ACS UF is clear|ACS EC: vector bit|ACS TB: a translated request/;

/** What the fabric did, in the words of the rules. */
function outcomeOf(report: RouteReport): string {
  const hops = [...report.hops, ...report.completionHops];
  const refusal = hops.find(({ decision }) => decision === "refuses");
  if (refusal !== undefined) {
    expect(refusal.reason, formatRoute(report)).toMatch(ACS_REFUSAL);
    return "blocked";
  }
  expect(report.status, formatRoute(report)).toBe(DmaStatus.ok);
  const isAtRoot = hops.some(({ role }) => role === "root-complex");
  return isAtRoot ? "redirected" : "direct";
}

type Tally = Map<string, number>;

function checkMachine(seed: number, tally: Tally): void {
  const prng = new Prng(seed);
  const machine = withRandomAcs(randomMachine(prng, { functions: 10 + prng.below(25) }), prng);
  const { fabric } = portedFabric(machine);
  const rules = new Rules(new Topology(machine), ruleSetById("expert-pcie-7.0"));
  const owners = machine.functions.filter(({ bridge, bars }) => bridge === null && bars.length > 0);
  for (const { bdf: provider } of owners) {
    const bar = fabric.open(provider).barAddress(0);
    // With an offset, what the root complex decodes is not the peer's bus address.
    if (bar === null || bar.bus !== Number(bar.phys)) continue;
    for (const { bdf: client } of owners) {
      for (const direction of ["write", "read"] as const) {
        for (const tlpClass of ["strict", "translated"] as const) {
          const verdict = rules.tlpVerdict(provider, client, direction, tlpClass);
          const isTranslated = tlpClass === "translated";
          const report = fabric.route(client, bar.bus, direction, isTranslated);
          const did = outcomeOf(report);
          if (did !== verdict.outcome) {
            expect.fail(`${seed}: ${verdict.text}\nfabric: ${did}\n${formatRoute(report)}`);
          }
          const name = `${direction} ${tlpClass} ${did}`;
          tally.set(name, (tally.get(name) ?? 0) + 1);
        }
      }
    }
  }
}

describe("verdicts of the expert rule set", () => {
  it("are what the simulated hardware does", () => {
    const tally: Tally = new Map();
    fc.assert(
      fc.property(fc.nat(2 ** 31), (seed) => checkMachine(seed, tally)),
      { seed: 11, numRuns: 10, endOnFailure: true },
    );
    for (const direction of ["write", "read"]) {
      for (const tlpClass of ["strict", "translated"]) {
        for (const outcome of ["direct", "redirected", "blocked"]) {
          const name = `${direction} ${tlpClass} ${outcome}`;
          expect(tally.get(name) ?? 0, name).toBeGreaterThan(20);
        }
      }
    }
  });

  /** Compares two machines that differ in their controls alone, for all pairs. */
  function compare(
    change: (acs: AcsFacts) => AcsFacts,
    ask: (rules: Rules, provider: Bdf, client: Bdf) => readonly [TlpVerdict, TlpVerdict],
  ): void {
    fc.assert(
      fc.property(fc.nat(2 ** 31), (seed) => {
        const prng = new Prng(seed);
        const machine = withRandomAcs(randomMachine(prng, { functions: 16 }), prng);
        const functions = machine.functions.map((fn) => ({
          ...fn,
          acs: fn.acs === null ? null : change(fn.acs),
        }));
        const set = ruleSetById("expert-pcie-7.0");
        const rules = new Rules(new Topology(machine), set);
        const changed = new Rules(new Topology({ ...machine, functions }), set);
        for (const { bdf: provider } of functions) {
          for (const { bdf: client } of functions) {
            const [given] = ask(rules, provider, client);
            const [, expected] = ask(changed, provider, client);
            if (given.outcome !== expected.outcome) expect.fail(`${seed}: ${given.text}`);
          }
        }
      }),
      { seed: 12, numRuns: 5, endOnFailure: true },
    );
  }

  it("with Relaxed Ordering are those of strict completions without Completion Redirect", () => {
    compare(
      (acs) => ({ ...acs, control: acs.control & ~Acs.CR }),
      (rules, provider, client) => [
        rules.tlpVerdict(provider, client, "read", "relaxed-completion"),
        rules.tlpVerdict(provider, client, "read", "strict"),
      ],
    );
  });

  it("of translated requests are those of untranslated ones where neither TB nor DT is set", () => {
    compare(
      (acs) => ({ ...acs, control: acs.control & ~(Acs.TB | Acs.DT) }),
      (rules, provider, client) => [
        rules.tlpVerdict(provider, client, "read", "strict"),
        rules.tlpVerdict(provider, client, "read", "translated"),
      ],
    );
  });

  it("are the same in the matrix, for a pair and for its strict reads", () => {
    const seen = new Set<string>();
    fc.assert(
      fc.property(fc.nat(2 ** 31), (seed) => {
        const prng = new Prng(seed);
        const machine = withRandomAcs(randomMachine(prng, { functions: 16 }), prng);
        for (const set of RULE_SETS.filter(({ id }) => id.startsWith("expert"))) {
          const topology = new Topology(machine);
          const rules = new Rules(topology, set);
          const matrix = rules.matrix();
          machine.functions.forEach(({ bdf: provider }, i) => {
            machine.functions.forEach(({ bdf: client }, j) => {
              const pair = rules.verdict(provider, client);
              const { read, write } = rules.directions(provider, client);
              const at = matrix.at(i, j);
              const compact = REASONS[matrix.reason[at]].code;
              const said = [pair.reason, read.reason, compact].join();
              if (new Set(said.split(",")).size > 1) expect.fail(`${seed} ${i} ${j}: ${said}`);
              expect([read.mapType, read.distance]).toEqual([pair.mapType, pair.distance]);
              expect(matrix.distance[at]).toBe(pair.distance);
              seen.add(read.reason);
              seen.add(write.reason);
              seen.add(rules.tlpVerdict(provider, client, "write", "translated").reason);
              for (const verdict of [read, write]) {
                if (verdict.route !== "none") continue;
                expect(verdict.hop, verdict.text).not.toBeNull();
                expect(verdict.evidence.length, verdict.text).toBeGreaterThan(0);
                expect(verdict.remedies.length, verdict.text).toBeGreaterThan(0);
              }
            });
          });
        }
      }),
      { seed: 13, numRuns: 6, endOnFailure: true },
    );
    const given = RULE_SETS.filter(({ id }) => id.startsWith("expert")).flatMap(({ rules }) =>
      rules.map(({ reason }): string => REASONS[reason].code),
    );
    for (const reason of seen) expect(given).toContain(reason);
    expect(seen.size).toBeGreaterThan(10);
  });
});
