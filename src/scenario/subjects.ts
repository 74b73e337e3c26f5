/** The machine and the devices of a scenario, for the head of its report. */

import { type Bdf, formatBdf, tryParseBdf } from "../core/index.ts";
import type { Machine, PciFunction } from "../machine/index.ts";
import type { PreparedMachine } from "./prepare.ts";
import type { DeviceReport, MachineReport, RunReport } from "./report.ts";

const DUMB_MEMORY = "plain device memory";

export function describeMachine(
  { machine, edits }: Pick<PreparedMachine, "machine" | "edits">,
  dump: Machine,
): MachineReport {
  const { cpuVendor, cpuFamily } = machine.host;
  return {
    name: dump.name.split("/").at(-1) ?? dump.name,
    source: [...new Set(dump.sources.map(({ format }) => format))].join(", "),
    functions: dump.functions.length,
    hostBridges: dump.hostBridges.length,
    cpu: cpuVendor === null ? null : `${cpuVendor} family ${cpuFamily ?? "unknown"}`,
    edits,
    warnings: dump.warnings,
  };
}

/** NIC, SSD and the providers that runs used. */
export function describeDevices(
  { machine, devices }: PreparedMachine,
  runs: readonly RunReport[],
  models: ReadonlyMap<Bdf, string>,
): DeviceReport[] {
  const owners = new Set<Bdf>();
  for (const { stagedIn } of runs) {
    const owner = tryParseBdf(stagedIn.split(" ")[0] ?? "");
    if (owner !== null && owner !== devices.ssd) owners.add(owner);
  }
  const rows: [Bdf, string][] = [
    [devices.nic, "NIC"],
    [devices.ssd, "SSD"],
    ...[...owners].map((owner): [Bdf, string] => [owner, "provider"]),
  ];
  return rows.map(([bdf, kind]) => {
    const fn = machine.functions.find((one) => one.bdf === bdf);
    const name = fn === undefined ? "" : nameOf(fn);
    return { bdf: formatBdf(bdf), kind, name, model: models.get(bdf) ?? DUMB_MEMORY };
  });
}

/** Vendor and device, else the class. */
export const nameOf = ({ vendorName, deviceName, className }: PciFunction): string =>
  [vendorName, deviceName].filter((part) => part !== null).join(" ") || (className ?? "");
