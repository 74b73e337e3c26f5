/**
 * Host bridges that are known to forward peer traffic, by kernel version: Linux
 * drivers/pci/p2pdma.c, table pci_p2pdma_whitelist, with the commits that changed it. Data;
 * classic.ts looks it up.
 *
 * An entry is matched against the representative of a host bridge: the first device on its root
 * bus, if that is device 00.0 or a PCIe root port.
 *
 * Consumer Intel CPUs are absent on purpose: their root complexes forward peer writes and not
 * reads. Left out: entries that are proposed and not merged.
 */

import { isInForce, type KernelVersion } from "./version.ts";

/** Matches every device id of its vendor. */
export const ANY_DEVICE = -1;

export interface HostBridgeEntry {
  readonly vendor: number;
  readonly device: number;
  /** Forwards only between devices below the same host bridge (REQ_SAME_HOST_BRIDGE). */
  readonly sameHostBridge: boolean;
  /** First kernel with it. */
  readonly since: KernelVersion;
  /** First kernel without it; null: it is still there. */
  readonly until: KernelVersion | null;
  readonly text: string;
}

const v = (major: number, minor: number): KernelVersion => ({ major, minor });

function entries(
  since: KernelVersion,
  vendor: number,
  devices: readonly number[],
  text: string,
  options: { readonly same?: boolean; readonly until?: KernelVersion } = {},
): HostBridgeEntry[] {
  const until = options.until ?? null;
  const sameHostBridge = options.same ?? false;
  return devices.map((device) => ({ vendor, device, sameHostBridge, since, until, text }));
}

const INTEL = 0x8086;
const AMD = 0x1022;

export const HOST_BRIDGE_LIST: readonly HostBridgeEntry[] = [
  // One AMD device in 5.2; from 5.9 on the CPU family decides (commit dea286bb71ba).
  ...entries(v(5, 2), AMD, [0x1450], "AMD Zen root complex", { until: v(5, 9) }),
  ...entries(v(5, 4), INTEL, [0x3c00, 0x3c01], "Xeon E5, Core i7 (Sandy Bridge-EP)", {
    same: true,
  }),
  ...entries(v(5, 4), INTEL, [0x2f00, 0x2f01], "Xeon E5 v3, E7 v3 (Haswell-EP)", { same: true }),
  ...entries(v(5, 4), INTEL, [0x2030, 0x2020], "Skylake-E root port A, DMI"),
  ...entries(v(5, 7), INTEL, [0x2031, 0x2032, 0x2033], "Skylake-E root ports B, C, D"),
  ...entries(v(5, 18), INTEL, [0x09a2], "Xeon from Ice Lake-SP on"),
  ...entries(v(7, 1), 0x1ae0, [ANY_DEVICE], "Google SoC"),
  ...entries(v(7, 2), INTEL, [0x0b25, 0x0cfe], "Sapphire Rapids DSA, IAX"),
  ...entries(v(7, 2), INTEL, [0x11fb, 0x1212, 0x1216], "Granite Rapids-D, Diamond Rapids DSA, IAA"),
  ...entries(v(7, 2), INTEL, [0x4940, 0x4942, 0x4944, 0x4946, 0x4948], "QuickAssist"),
  ...entries(v(7, 4), 0x1d17, [0x1003, 0x1005, 0x1006, 0x1007], "Zhaoxin", { same: true }),
  ...entries(v(7, 4), 0x1d17, [0x1008], "Zhaoxin KH-50000"),
];

const matches = (entry: HostBridgeEntry, vendor: number, device: number): boolean =>
  entry.vendor === vendor && (entry.device === device || entry.device === ANY_DEVICE);

/** The entry for a representative in this kernel; null when it is not listed. */
export function findHostBridge(
  vendor: number,
  device: number,
  version: KernelVersion,
): HostBridgeEntry | null {
  const inForce = HOST_BRIDGE_LIST.filter(({ since, until }) => isInForce(version, since, until));
  return inForce.find((entry) => matches(entry, vendor, device)) ?? null;
}

/** The first entry for a representative in a later kernel; null when none has it. */
export function findLaterHostBridge(
  vendor: number,
  device: number,
  version: KernelVersion,
): HostBridgeEntry | null {
  const later = HOST_BRIDGE_LIST.filter(
    (entry) => entry.until === null && !isInForce(version, entry.since, null),
  );
  return later.find((entry) => matches(entry, vendor, device)) ?? null;
}
