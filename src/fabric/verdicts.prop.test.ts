/**
 * What the kernel's rules promise, the simulated hardware keeps: two rooms that share no code agree
 * on random machines. `BUS_ADDR` must go straight across. `THRU_HOST_BRIDGE` must arrive through
 * the root complex, or be stopped by one of the ACS controls that the kernel's rule does not look
 * at.
 */
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { portedFabric } from "../../testing/ported-fabric.ts";
import { randomMachine } from "../../testing/random-machine.ts";
import { type Bdf, DmaStatus, Prng } from "../core/index.ts";
import { Rules, Topology } from "../p2p/index.ts";
import { type Fabric, formatRoute } from "./index.ts";

/** Refusals that the classic rule of Linux does not foresee: it reads RR, CR and EC as one. */
const UNSEEN_BY_THE_RULE = /ACS UF is clear|ACS EC: vector bit/;

interface Tally {
  bus: number;
  thru: number;
  unseen: number;
}

function checkMachine(seed: number, tally: Tally): void {
  const prng = new Prng(seed);
  const machine = randomMachine(prng, { functions: 10 + prng.below(25) });
  const { fabric } = portedFabric(machine);
  const rules = new Rules(new Topology(machine));
  const owners = machine.functions.filter(({ bridge, bars }) => bridge === null && bars.length > 0);
  for (const provider of owners) {
    for (const client of owners) {
      if (provider === client) continue;
      const { mapType } = rules.verdict(provider.bdf, client.bdf);
      const bar = fabric.open(provider.bdf).barAddress(0);
      if (bar === null) continue;
      if (mapType === "BUS_ADDR") {
        checkDirect(fabric, client.bdf, provider.bdf, bar.bus);
        tally.bus++;
      }
      // With an offset, a physical address may be another device's bus address on the way.
      if (mapType === "THRU_HOST_BRIDGE" && bar.bus === Number(bar.phys)) {
        checkThrough(fabric, client.bdf, provider.bdf, bar.phys, tally);
      }
    }
  }
}

function checkDirect(fabric: Fabric, client: Bdf, provider: Bdf, address: number): void {
  for (const direction of ["write", "read"] as const) {
    const report = fabric.route(client, address, direction);
    const text = formatRoute(report);
    expect(report.status, text).toBe(DmaStatus.ok);
    expect(report.target?.bdf, text).toBe(provider);
    expect(report.viaRootComplex, text).toBe(false);
  }
}

function checkThrough(
  fabric: Fabric,
  client: Bdf,
  provider: Bdf,
  address: number,
  tally: Tally,
): void {
  for (const direction of ["write", "read"] as const) {
    const report = fabric.route(client, address, direction);
    const all = [...report.hops, ...report.completionHops];
    const refusal = all.find(({ decision }) => decision === "refuses");
    if (refusal !== undefined) {
      expect(refusal.reason, formatRoute(report)).toMatch(UNSEEN_BY_THE_RULE);
      tally.unseen++;
      continue;
    }
    expect(report.status, formatRoute(report)).toBe(DmaStatus.ok);
    expect(report.target?.bdf, formatRoute(report)).toBe(provider);
    tally.thru++;
  }
}

describe("verdicts of the kernel's rules", () => {
  it("hold on the simulated hardware", () => {
    const tally: Tally = { bus: 0, thru: 0, unseen: 0 };
    fc.assert(
      fc.property(fc.nat(2 ** 31), (seed) => checkMachine(seed, tally)),
      { seed: 7, numRuns: 12, endOnFailure: true },
    );
    for (const count of Object.values(tally)) expect(count).toBeGreaterThan(10);
  });
});
