import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { endpoint, makeMachine, pcieSwitch, rootPort } from "../../testing/machines.ts";
import { physOfBus } from "./address-map.ts";
import {
  addBar,
  freeSlots,
  type Machine,
  MachineIndex,
  NONE,
  type PciFunction,
  reassignWindows,
} from "./index.ts";

const sizes = fc.integer({ min: 12, max: 20 }).map((bits) => 2 ** bits);
/** Below 4 GiB the test machines have 64 MiB per host bridge; above there is room. */
const added = fc.oneof(
  fc.record({ sizeBytes: sizes, prefetchable: fc.constant(false) }),
  fc.record({
    sizeBytes: fc.integer({ min: 12, max: 34 }).map((bits) => 2 ** bits),
    prefetchable: fc.constant(true),
  }),
);
const device = fc
  .array(
    fc.record({
      sizeBytes: sizes,
      kind: fc.constantFrom("memory32" as const, "memory64" as const, "prefetchable64" as const),
    }),
    { minLength: 1, maxLength: 2 },
  )
  .map((bars) => endpoint({ bars: bars.map((bar, i) => ({ ...bar, index: 2 * i })) }));
const port = fc.array(device, { maxLength: 2 }).map((children) => ({ children }));
const root = fc.oneof(
  fc.array(device, { minLength: 1, maxLength: 3 }).map((children) => rootPort(children)),
  fc.array(port, { minLength: 1, maxLength: 4 }).map((ports) => rootPort([pcieSwitch(ports)])),
  device,
);
const machines = fc
  .record({
    roots: fc.array(root, { minLength: 1, maxLength: 4 }),
    busOffset: fc.constantFrom(0, 0, 2 ** 28),
  })
  .map(({ roots, busOffset }) => makeMachine({ hostBridges: [{ roots, busOffset }, { roots }] }));

/** Every BAR aligned, behind all bridges above it, and apart from every other. */
function checkAddresses(machine: Machine): void {
  const index = new MachineIndex(machine);
  const taken: [number, number, string][] = [];
  machine.functions.forEach((fn: PciFunction, i) => {
    const bridge = index.hostBridgeOf(i);
    for (const bar of fn.bars) {
      if (bar.sizeBytes === null || bar.kind === "io") continue;
      const end = bar.address + bar.sizeBytes;
      expect(bar.address).toBeGreaterThan(0);
      expect(bar.address % bar.sizeBytes).toBe(0);
      if (bar.kind === "memory32") expect(end).toBeLessThanOrEqual(2 ** 32);
      for (let at = index.parentOf(i); at !== NONE; at = index.parentOf(at)) {
        const above = index.functions[at]?.bridge;
        const isBehind = [above?.memory, above?.prefetchable].some(
          (window) => window != null && window.base <= bar.address && end <= window.limit + 1,
        );
        expect(isBehind).toBe(true);
      }
      const phys = physOfBus(bridge, bar.address);
      taken.push([phys, phys + bar.sizeBytes, `${fn.bdf} BAR ${bar.index}`]);
    }
  });
  taken.sort((a, b) => a[0] - b[0]);
  for (let i = 1; i < taken.length; i++) {
    expect(taken[i - 1]?.[1], taken[i]?.[2]).toBeLessThanOrEqual(taken[i]?.[0] ?? 0);
  }
}

describe("BARs and windows placed anew", () => {
  it("fit, aligned and apart, after a BAR was added anywhere", () => {
    fc.assert(
      fc.property(machines, fc.nat(), added, (machine, pick, wanted) => {
        const endpoints = machine.functions.filter((fn) => fn.bridge === null);
        const fn = endpoints[pick % Math.max(1, endpoints.length)];
        if (fn === undefined) return;
        const index = freeSlots(fn).find((slot, i, all) => all[i + 1] === slot + 1);
        if (index === undefined) return;
        const bar = { index, ...wanted };
        const { machine: made, report } = reassignWindows(addBar(machine, fn.bdf, bar), fn.bdf);
        checkAddresses(made);
        expect(report.moved.some(({ bdf, bar: at }) => bdf === fn.bdf && at === index)).toBe(true);
        // What is not below the same node of the root bus stays.
        const tree = new MachineIndex(made);
        const top = tree.topOf(tree.requireIndex(fn.bdf));
        for (const { bdf } of report.moved) {
          expect(tree.topOf(tree.requireIndex(bdf))).toBe(top);
        }
      }),
      { seed: 21, numRuns: 150 },
    );
  });

  it("stay where they are when nothing was asked for", () => {
    fc.assert(
      fc.property(machines, fc.nat(), (machine, pick) => {
        const fn = machine.functions[pick % Math.max(1, machine.functions.length)];
        if (fn === undefined) return;
        const { machine: made, report } = reassignWindows(machine, fn.bdf);
        expect(report).toMatchObject({ moved: [], windows: [] });
        expect(made.functions).toEqual(machine.functions);
      }),
      { seed: 22, numRuns: 60 },
    );
  });
});
