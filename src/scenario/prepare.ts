/**
 * The machine that a scenario runs on: the dump, with what the scenario says about its host, and
 * the edits that it asks for. Every difference to the dump becomes a sentence of the report.
 */

import { type Bdf, formatBdf, formatBytes, hex, PeerlaneError } from "../core/index.ts";
import type { RootComplexPolicy } from "../fabric/index.ts";
import {
  addBar,
  freeSlots,
  type Machine,
  MachineIndex,
  NONE,
  reassignWindows,
  setAcsControl,
  setHost,
} from "../machine/index.ts";
import { Rules, Topology } from "../p2p/index.ts";
import type { Scenario, ScenarioEdit } from "./schema.ts";
import { chooseDevices, type DeviceChoice, memoryOwners } from "./select.ts";

/** A CMB that the scenario gave to a function: where its model puts it. */
export interface AddedCmb {
  readonly bdf: Bdf;
  readonly bar: number;
  readonly sizeBytes: number;
}

export interface PreparedMachine {
  readonly machine: Machine;
  readonly devices: DeviceChoice;
  readonly cmbs: readonly AddedCmb[];
  readonly rootComplex: RootComplexPolicy;
  /** What differs from the dump, and what was taken for true, one sentence each. */
  readonly edits: readonly string[];
}

/** Applies a scenario to a dump. Throws what selection and the edits throw. */
export function prepareMachine(dump: Machine, scenario: Scenario): PreparedMachine {
  const edits: string[] = [];
  let machine = applyHost(dump, scenario, edits);
  const devices = chooseDevices(machine, scenario.target);
  if (devices.why !== null) {
    const names = `NIC ${formatBdf(devices.nic)} and SSD ${formatBdf(devices.ssd)}`;
    edits.push(`${names} were chosen: ${devices.why}`);
  }
  const cmbs: AddedCmb[] = [];
  for (const edit of scenario.machine.edits)
    machine = applyEdit(machine, edit, devices, cmbs, edits);
  const rootComplex = rootComplexOf(machine, scenario, devices, edits);
  return { machine, devices, cmbs, rootComplex, edits };
}

/**
 * Whether the root complex carries peer requests: what the scenario says, else what the kernel's
 * rules rely on for this NIC, this SSD and the memory that could be staged in.
 */
function rootComplexOf(
  machine: Machine,
  { rootComplex, target }: Scenario,
  { nic, ssd }: DeviceChoice,
  edits: string[],
): RootComplexPolicy {
  if (rootComplex !== "auto") return rootComplex;
  const rules = new Rules(new Topology(machine));
  const owners = memoryOwners(machine, target.providerBytes).map(({ bdf }) => bdf);
  const trusted = [nic, ssd].some((client) =>
    [ssd, ...owners].some((owner) => rules.verdict(owner, client).route === "host-bridge"),
  );
  const doing = trusted ? "forwards" : "drops";
  const why = trusted ? "rely on that" : "do not rely on it";
  edits.push(`the root complex is taken as one that ${doing} peer requests: the rules ${why}`);
  const policy = trusted ? "forward" : "drop";
  return { peerWrites: policy, peerReads: policy };
}

/** What the scenario says of the host that the dump does not. */
export function applyHost(
  dump: Machine,
  { machine }: { readonly machine: Pick<Scenario["machine"], "cpu" | "kernel"> },
  edits: string[],
): Machine {
  let edited = dump;
  if (machine.cpu !== undefined) {
    const { vendor, family } = machine.cpu;
    edited = setHost(edited, { cpuVendor: vendor, cpuFamily: family });
    edits.push(`the CPU is taken as ${vendor} family ${family}`);
  }
  if (machine.kernel !== undefined) {
    edited = setHost(edited, { kernelVersion: machine.kernel });
    edits.push(`the rules are those of Linux ${machine.kernel}`);
  }
  return edited;
}

function applyEdit(
  machine: Machine,
  edit: ScenarioEdit,
  devices: DeviceChoice,
  cmbs: AddedCmb[],
  edits: string[],
): Machine {
  if ("setAcs" in edit) {
    const { function: bdf, control } = edit.setAcs;
    edits.push(`ACS Control of ${formatBdf(bdf)} is set to ${hex(control, 4)}`);
    return setAcsControl(machine, bdf, control);
  }
  const { function: wanted, size } = edit.addCmb;
  const bdf = wanted === "auto" ? devices.ssd : wanted;
  const { machine: placed, bar } = giveCmb(machine, bdf, size, edits);
  cmbs.push({ bdf, bar, sizeBytes: size });
  return placed;
}

/**
 * A CMB in a BAR of its own, 64-bit and prefetchable as large device memory is; `edits` takes what
 * changed, in words. Throws `no-free-bar`, `no-root-port`, what placing the windows anew throws.
 */
export function giveCmb(
  machine: Machine,
  bdf: Bdf,
  sizeBytes: number,
  edits: string[],
): { machine: Machine; bar: number } {
  const index = new MachineIndex(machine);
  const position = index.requireIndex(bdf);
  const free = freeSlots(index.functions[position] as Machine["functions"][number]);
  const bar = free.find((slot) => slot >= 2 && slot % 2 === 0 && free.includes(slot + 1));
  if (bar === undefined) {
    throw new PeerlaneError("no-free-bar", `${formatBdf(bdf)} has no free pair of BAR registers`, {
      place: formatBdf(bdf),
      remedy: "give the CMB to another SSD",
    });
  }
  const root = index.rootPortOf(position);
  if (root === NONE) {
    throw new PeerlaneError("no-root-port", `${formatBdf(bdf)} sits on a root bus`, {
      place: formatBdf(bdf),
      remedy: "give the CMB to an SSD below a root port",
    });
  }
  const port = (index.functions[root] as Machine["functions"][number]).bdf;
  const { machine: placed, report } = reassignWindows(
    addBar(machine, bdf, { index: bar, sizeBytes, prefetchable: true }),
    port,
  );
  const moved = report.moved.length + report.windows.length;
  edits.push(
    `${formatBdf(bdf)} is given a CMB of ${formatBytes(sizeBytes)} in BAR${bar}, ` +
      "which the real one lacks",
    `BARs and bridge windows below ${formatBdf(port)} are placed anew to make room: ${moved} moved`,
  );
  edits.push(...summarize(report.assumed));
  return { machine: placed, bar };
}

/** Many VF BARs lose their addresses alike: one sentence says it. */
function summarize(assumed: readonly string[]): string[] {
  const vfBars = assumed.filter((text) => text.includes(" VF BAR "));
  const others = assumed.filter((text) => !vfBars.includes(text));
  if (vfBars.length < 2) return [...assumed];
  return [
    ...others,
    `${vfBars.length} VF BARs that are off, of unknown size, lose their addresses`,
  ];
}
