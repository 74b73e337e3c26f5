import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { randomMachine } from "../../testing/random-machine.ts";
import { bdfBus, bdfDomain, PeerlaneError, Prng } from "../core/index.ts";
import type { Machine, PciFunction } from "../machine/index.ts";
import {
  findHostBridge,
  HOST_BRIDGE_LIST,
  LATEST_KERNEL,
  MAP_TYPE_NAMES,
  narrowestLink,
  REASONS,
  type RuleSet,
  Rules,
  ruleSetFor,
  Topology,
} from "./index.ts";

/** A Zen root complex comes first on a root bus; 1480 is the one that the generator makes. */
function hasZenRoot({ functions, hostBridges }: Machine): boolean {
  return hostBridges.some(({ domain, bus }) => {
    const first = functions.find(({ bdf }) => bdfDomain(bdf) === domain && bdfBus(bdf) === bus);
    return first?.vendorId === 0x1022 && first.deviceId === 0x1480;
  });
}

/** The classic rule said again, straight from the snapshot, list by list, with no index. */
function naive(machine: Machine, a: PciFunction, b: PciFunction) {
  const upstream = (fn: PciFunction): PciFunction | undefined => {
    const physical = machine.functions.find(({ bdf }) => bdf === fn.physicalFunction) ?? fn;
    return machine.functions.find(
      ({ bdf, bridge }) =>
        bridge?.secondary === bdfBus(physical.bdf) && bdfDomain(bdf) === bdfDomain(physical.bdf),
    );
  };
  const redirects = (fn: PciFunction) => fn.acs !== null && (fn.acs.control & 0x2c) !== 0;
  const top = (fn: PciFunction) => {
    let at = fn;
    for (let up = upstream(at); up !== undefined; up = upstream(at)) at = up;
    return machine.functions.find(({ bdf }) => bdf === at.physicalFunction) ?? at;
  };
  const allowedByHost = () => {
    const { cpuVendor, cpuFamily } = machine.host;
    if (cpuVendor === "AuthenticAMD" && cpuFamily !== null && cpuFamily >= 0x17) return true;
    if (cpuVendor === null && hasZenRoot(machine)) return true;
    const roots = [a, b].map((fn) => {
      const { bdf } = top(fn);
      const { hostBridges } = machine;
      return hostBridges.find((h) => h.domain === bdfDomain(bdf) && h.bus === bdfBus(bdf));
    });
    return roots.every((root) => {
      const first = machine.functions.find(
        ({ bdf }) => bdfDomain(bdf) === root?.domain && bdfBus(bdf) === root.bus,
      );
      if (first === undefined || (first.bdf % 256 !== 0 && first.pcie?.portType !== 4))
        return false;
      const entry = findHostBridge(first.vendorId, first.deviceId, LATEST_KERNEL);
      return entry !== null && (!entry.sameHostBridge || roots[0] === roots[1]);
    });
  };

  let found = 0;
  let distanceA = 0;
  let distanceB = 0;
  let shared = false;
  for (let x: PciFunction | undefined = a; x !== undefined && !shared; x = upstream(x)) {
    if (redirects(x)) found++;
    distanceB = 0;
    for (let y: PciFunction | undefined = b; y !== undefined; y = upstream(y)) {
      if (x === y) {
        shared = true;
        for (let z = b; z !== x; z = upstream(z) as PciFunction) if (redirects(z)) found++;
        break;
      }
      distanceB++;
    }
    if (!shared) distanceA++;
  }
  const rawDistance = distanceA + distanceB;
  if (shared && found === 0) return { mapType: "BUS_ADDR", distance: rawDistance, rawDistance };
  return allowedByHost()
    ? { mapType: "THRU_HOST_BRIDGE", distance: rawDistance, rawDistance }
    : { mapType: "NOT_SUPPORTED", distance: -1, rawDistance };
}

describe("the evaluator on random machines", () => {
  it("gives the same from the matrix, from the verdict and from the rule said again", () => {
    const seen = new Set<string>();
    fc.assert(
      fc.property(fc.integer({ min: 0, max: 2 ** 31 }), (seed) => {
        const machine = randomMachine(new Prng(seed), { functions: 16 });
        const rules = new Rules(new Topology(machine));
        const matrix = rules.matrix();
        machine.functions.forEach((a, i) => {
          machine.functions.forEach((b, j) => {
            const expected = naive(machine, a, b);
            const at = matrix.at(i, j);
            const verdict = rules.verdict(a.bdf, b.bdf);
            const answers = [
              [expected.mapType, expected.distance, expected.rawDistance, verdict.reason],
              [
                MAP_TYPE_NAMES[matrix.mapType[at]],
                matrix.distance[at],
                matrix.rawDistance[at],
                REASONS[matrix.reason[at]].code,
              ],
              [verdict.mapType, verdict.distance, verdict.rawDistance, verdict.reason],
              [expected.mapType, rules.distance(i, j), expected.rawDistance, verdict.reason],
            ].map(String);
            if (new Set(answers).size > 1) expect.fail(`${seed} ${i} ${j}: ${answers.join("; ")}`);
            seen.add(verdict.reason);
          });
        });
      }),
      { seed: 91, numRuns: 40 },
    );
    // The generator reaches every reason that the classic rule has.
    const given = ruleSetFor(LATEST_KERNEL).rules.map(({ reason }) => REASONS[reason].code);
    const ofPairs = given.filter((code) => code !== "no-such-function");
    expect([...seen].sort()).toEqual(ofPairs.sort());
  });

  it("decides the same both ways, at the same distance, over the same links", () => {
    fc.assert(
      fc.property(fc.integer({ min: 0, max: 2 ** 31 }), (seed) => {
        const machine = randomMachine(new Prng(seed), { functions: 30 });
        const topology = new Topology(machine);
        const matrix = new Rules(topology).matrix();
        for (let i = 0; i < topology.count; i++) {
          for (let j = 0; j < i; j++) {
            const there = matrix.at(i, j);
            const back = matrix.at(j, i);
            const isEqual =
              matrix.mapType[there] === matrix.mapType[back] &&
              matrix.distance[there] === matrix.distance[back] &&
              narrowestLink(topology, i, j) === narrowestLink(topology, j, i);
            if (!isEqual) expect.fail(`${seed}: ${i} and ${j} differ by direction`);
          }
        }
      }),
      { seed: 7, numRuns: 15 },
    );
  });

  it("gives every refusal a place, evidence and something to do", () => {
    fc.assert(
      fc.property(fc.integer({ min: 0, max: 2 ** 31 }), (seed) => {
        const machine = randomMachine(new Prng(seed), { functions: 20 });
        const rules = new Rules(new Topology(machine));
        for (const a of machine.functions) {
          for (const b of machine.functions) {
            const verdict = rules.verdict(a.bdf, b.bdf);
            if (verdict.route !== "none") continue;
            expect(verdict.evidence.length).toBeGreaterThan(0);
            expect(verdict.remedies.length).toBeGreaterThan(0);
            expect(verdict.hop).not.toBeNull();
          }
        }
      }),
      { seed: 8, numRuns: 15 },
    );
  });

  it("finds the same parting ports for one pair and for the matrix", () => {
    const probe: RuleSet = {
      id: "probe",
      title: "where the ways part",
      source: "this test",
      rules: [],
      notes: [],
      since: null,
      until: null,
      compile: () => ({
        decide: ({ providerPort, clientPort }, out) => out.set(2, 1, providerPort, clientPort),
        explain: () => ({ hop: null, evidence: [], remedies: [], assumptions: [], text: "" }),
      }),
    };
    fc.assert(
      fc.property(fc.integer({ min: 0, max: 2 ** 31 }), (seed) => {
        const topology = new Topology(randomMachine(new Prng(seed), { functions: 30 }));
        const rules = new Rules(topology, probe);
        const matrix = rules.matrix();
        for (let i = 0; i < topology.count; i++) {
          for (let j = 0; j < topology.count; j++) {
            const at = matrix.at(i, j);
            const { distance, rawDistance } = rules.verdict(topology.bdfOf(i), topology.bdfOf(j));
            const [chainI, chainJ] = [topology.chainOf(i), topology.chainOf(j)];
            const common = chainI.find((node) => chainJ.includes(node)) ?? -1;
            const below = (chain: number[]): number =>
              common < 0 ? -1 : (chain[chain.indexOf(common) - 1] ?? -1);
            const expected = [below(chainI), below(chainJ)].join();
            const compact = [matrix.distance[at], matrix.rawDistance[at]].join();
            const single = [distance, rawDistance].join();
            if (compact !== expected || single !== expected) {
              expect.fail(`${seed} ${i} ${j}: ${expected}, matrix ${compact}, pair ${single}`);
            }
          }
        }
      }),
      { seed: 9, numRuns: 15 },
    );
  });

  it("answers or refuses with a typed error whatever the bus numbers say", () => {
    let answered = 0;
    fc.assert(
      fc.property(fc.integer({ min: 0, max: 2 ** 31 }), (seed) => {
        const prng = new Prng(seed);
        const machine = randomMachine(prng, { functions: 20 });
        const bdfs = machine.functions.map(({ bdf }) => bdf);
        const functions = machine.functions.map((fn) => ({
          ...fn,
          physicalFunction: prng.chance(0.2) ? prng.pick(bdfs) : fn.physicalFunction,
          bridge:
            fn.bridge === null || prng.chance(0.6)
              ? fn.bridge
              : { ...fn.bridge, secondary: prng.below(256), subordinate: prng.below(256) },
        }));
        try {
          const topology = new Topology({ ...machine, functions });
          const rules = new Rules(topology);
          const matrix = rules.matrix();
          for (let i = 0; i < topology.count; i++) {
            for (let j = 0; j < topology.count; j += 3) {
              const { distance } = rules.verdict(topology.bdfOf(i), topology.bdfOf(j));
              if (distance !== matrix.distance[matrix.at(i, j)]) expect.fail(`${seed} ${i} ${j}`);
            }
          }
          answered++;
        } catch (error) {
          if (!(error instanceof PeerlaneError)) throw error;
        }
      }),
      { seed: 10, numRuns: 60 },
    );
    expect(answered).toBeGreaterThan(30);
  });

  it("lists host bridges once per kernel", () => {
    for (const entry of HOST_BRIDGE_LIST) {
      const same = HOST_BRIDGE_LIST.filter(
        ({ vendor, device }) => vendor === entry.vendor && device === entry.device,
      );
      expect(same).toHaveLength(1);
    }
  });
});
