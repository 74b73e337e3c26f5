/**
 * What explain calls routable, against a DMA that is really sent on the whole machine: for random
 * topologies with random ACS, command registers and IOMMU modes, the request meets the predicted
 * status, lands in the predicted memory and nowhere else, and crosses exactly the predicted links.
 */
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { type PortedFabric, portedFabric } from "../../testing/ported-fabric.ts";
import { randomMachine } from "../../testing/random-machine.ts";
import { type Bdf, DmaStatus, formatBdf, PAGE_SIZE, Prng, physAddr } from "../core/index.ts";
import { type Fabric, formatRoute, type RouteReport } from "../fabric/index.ts";
import {
  type IommuMode,
  type Machine,
  MachineIndex,
  setCommand,
  setHost,
} from "../machine/index.ts";
import { formFor } from "./address.ts";
import { explainPair } from "./explain.ts";
import { type AddressForm, type Direction, PathProbe } from "./probe.ts";

const BYTES = 8;

function pickPair(machine: Machine, prng: Prng): [Bdf, Bdf] {
  const ends = machine.functions.filter(({ bridge }) => bridge === null).map(({ bdf }) => bdf);
  return [prng.pick(ends), prng.pick(ends)];
}

/** Closes gates here and there. */
function disturbed(machine: Machine, prng: Prng): Machine {
  let now = machine;
  for (const { bdf } of machine.functions) {
    if (prng.chance(0.04)) now = setCommand(now, bdf, prng.pick([0x2, 0x4, 0x0]));
  }
  return now;
}

/** Maps the page in the domain of the initiator, as its driver would. */
function mapIova(fabric: Fabric, initiator: Bdf, iova: number, physical: number): void {
  if (fabric.iommu === null) return;
  const domain = fabric.iommu.createDomain("translated");
  fabric.iommu.attach(domain, initiator);
  const page = physAddr(physical - (physical % PAGE_SIZE));
  fabric.iommu.map(domain, iova, page, PAGE_SIZE, { read: true, write: true, mmio: true });
}

const linkNames = (report: RouteReport): string[] => {
  const hops = report.direction === "write" ? report.hops : report.completionHops;
  return hops
    .filter(({ link }) => link !== null)
    .map(({ link }) => `${formatBdf(link!.upper)} ${link!.towardsRoot ? "up" : "down"}`)
    .sort();
};

const usedLinks = (fabric: Fabric): string[] =>
  fabric
    .linkTraffic()
    .filter(({ payloadBytes }) => payloadBytes > 0)
    .map(({ upper, towardsRoot }) => `${formatBdf(upper)} ${towardsRoot ? "up" : "down"}`)
    .sort();

interface Sent {
  readonly form: AddressForm;
  readonly direction: Direction;
  readonly report: RouteReport;
}

/** Sends it on the whole machine and compares. */
function sendAndCompare(whole: PortedFabric, probe: PathProbe, { form, direction, report }: Sent) {
  const { fabric } = whole;
  const text = `${form} ${formatRoute(report)}`;
  const address = probe.addressOf(form);
  const bytes = Uint8Array.from({ length: BYTES }, (_, i) => i + 1);
  fabric.resetTraffic();
  const device = whole.port(probe.initiator);
  const status =
    direction === "write"
      ? device.write(address, bytes, 0, BYTES)
      : device.read(address, new Uint8Array(BYTES), 0, BYTES);
  expect(status, text).toBe(report.status);
  const full = fabric.route(probe.initiator, address, direction);
  expect(full.hops.map(storyOf), text).toEqual(report.hops.map(storyOf));
  if (status !== DmaStatus.ok) return;
  expect(usedLinks(fabric), text).toEqual([...new Set(linkNames(report))]);
  if (direction === "write") checkLanding(fabric, report, bytes, text);
}

const storyOf = ({ bdf, decision, reason }: RouteReport["hops"][number]): string =>
  `${bdf} ${decision} ${reason}`;

function checkLanding(fabric: Fabric, { target }: RouteReport, bytes: Uint8Array, text: string) {
  if (target?.kind !== "bar" || target.bdf === null || target.bar === null) return;
  const seen = new Uint8Array(BYTES);
  fabric.peek(target.bdf, target.bar, target.offset, seen);
  expect(seen, text).toEqual(bytes);
}

const MODES: readonly IommuMode[] = ["off", "passthrough", "strict"];

function runPair(seed: number): void {
  const prng = new Prng(seed);
  const mode = prng.pick(MODES);
  const plain = randomMachine(prng, { functions: 4 + prng.below(12) });
  const machine = setHost(disturbed(plain, prng), { iommu: mode });
  const [initiator, owner] = pickPair(machine, prng);
  const { directions, bar, permitted } = explainPair(machine, initiator, owner);
  if (bar === null) return;
  const probe = new PathProbe(new MachineIndex(machine), initiator, owner, bar);
  const whole = portedFabric(machine, { iommu: mode, dramBytes: 2 ** 20 });
  if (mode === "strict") mapIova(whole.fabric, initiator, probe.addressOf("iova"), probe.physical);
  for (const { direction, route, permitted: verdict } of directions) {
    const form = formFor(verdict, mode);
    sendAndCompare(whole, probe, { form, direction, report: route! });
  }
  // The other form, which is what goes wrong in the field.
  const form: AddressForm = formFor(permitted, mode) === "bus" ? "physical" : "bus";
  sendAndCompare(whole, probe, {
    form,
    direction: "write",
    report: probe.route(mode, form, "write"),
  });
}

describe("what explain calls routable", () => {
  it("is the way that a real DMA takes, on 1,000 random topologies", () => {
    fc.assert(
      fc.property(fc.nat(2 ** 31), (seed) => runPair(seed)),
      { seed: 20261124, numRuns: 1000, endOnFailure: true },
    );
  }, 60_000);
});
