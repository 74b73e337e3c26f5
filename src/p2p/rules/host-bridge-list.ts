/**
 * Host bridges that are known to forward peer traffic, by kernel version: Linux
 * drivers/pci/p2pdma.c, root_complex_whitelist in 5.2 and 5.3, pci_p2pdma_whitelist from 5.4 on,
 * with the commits that changed them. Data; host.ts looks it up.
 *
 * An entry is matched against the representative of a host bridge: the first device on its root
 * bus, if that is device 00.0 or, from 5.19 on, a PCIe root port.
 *
 * Consumer Intel CPUs are absent on purpose: their root complexes forward peer writes and not
 * reads. Left out: entries that are proposed and not merged (Nvidia 10de:2f95 to 2f98), and what
 * distributions carry back.
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
  /** Commit that added it, and the one that took it out. */
  readonly source: string;
}

/** A root port that is not device 00.0 represents its host bridge from here on. */
export const ROOT_PORT_AT_ANY_SLOT = {
  since: { major: 5, minor: 19 } as KernelVersion,
  source: "commit 1af7c26c59eb",
};

const v = (major: number, minor: number): KernelVersion => ({ major, minor });

interface Options {
  readonly same?: boolean;
  readonly until?: KernelVersion;
}

function entries(
  since: KernelVersion,
  source: string,
  vendor: number,
  devices: readonly number[],
  text: string,
  options: Options = {},
): HostBridgeEntry[] {
  const { same: sameHostBridge = false, until = null } = options;
  return devices.map((device) => ({ vendor, device, sameHostBridge, since, until, text, source }));
}

const INTEL = 0x8086;
const AMD = 0x1022;
const ZHAOXIN = 0x1d17;
/** From here on the CPU's family decides for AMD, and its entries are gone (cpu.ts). */
const CPU_RULE = { until: v(5, 9) };
const SAME = { same: true };
const ZEN = "commit 0f97da831026; out by dea286bb71ba";
const RAVEN = "commit 7d5b10fcb81e; out by dea286bb71ba";
const XEON = "commit 494d63b0d5d0";
const ACCELERATORS = "commit 0ba76b19fd4c";
const ZHAOXIN_SOURCE = "PCI tree, branch p2pdma, after 7.3-rc1";

export const HOST_BRIDGE_LIST: readonly HostBridgeEntry[] = [
  ...entries(v(5, 2), ZEN, AMD, [0x1450], "AMD Zen root complex", CPU_RULE),
  ...entries(v(5, 4), XEON, INTEL, [0x3c00, 0x3c01], "Xeon E5, Core i7 (Sandy Bridge-EP)", SAME),
  ...entries(v(5, 4), XEON, INTEL, [0x2f00, 0x2f01], "Xeon E5 v3, E7 v3 (Haswell-EP)", SAME),
  ...entries(v(5, 6), "commit bc123a515cb7", INTEL, [0x2030, 0x2020], "Skylake-E root port A, DMI"),
  ...entries(
    v(5, 7),
    "commit 7b94b53db34f",
    INTEL,
    [0x2031, 0x2032, 0x2033],
    "Skylake-E root ports B, C, D",
  ),
  ...entries(v(5, 8), RAVEN, AMD, [0x15d0, 0x1630], "AMD Raven, Renoir root complex", CPU_RULE),
  ...entries(v(5, 18), "commit feaea1fe8b36", INTEL, [0x09a2], "Xeon from Ice Lake-SP on"),
  ...entries(v(7, 1), "Linux 7.1", 0x1ae0, [ANY_DEVICE], "Google SoC"),
  ...entries(v(7, 2), ACCELERATORS, INTEL, [0x0b25, 0x0cfe], "Sapphire Rapids DSA, IAX"),
  ...entries(
    v(7, 2),
    ACCELERATORS,
    INTEL,
    [0x11fb, 0x1212, 0x1216],
    "Granite Rapids-D, Diamond Rapids DSA, IAA",
  ),
  ...entries(v(7, 2), ACCELERATORS, INTEL, [0x4940, 0x4942, 0x4944, 0x4946, 0x4948], "QuickAssist"),
  ...entries(v(7, 4), ZHAOXIN_SOURCE, ZHAOXIN, [0x1003, 0x1005, 0x1006, 0x1007], "Zhaoxin", SAME),
  ...entries(v(7, 4), ZHAOXIN_SOURCE, ZHAOXIN, [0x1008], "Zhaoxin KH-50000"),
];

const matches = (entry: HostBridgeEntry, vendor: number, device: number): boolean =>
  entry.vendor === vendor && (entry.device === device || entry.device === ANY_DEVICE);

/** The entry for a representative in this kernel; null when it is not listed. */
export function findHostBridge(
  vendor: number,
  device: number,
  version: KernelVersion,
): HostBridgeEntry | null {
  const found = HOST_BRIDGE_LIST.find(
    (entry) => matches(entry, vendor, device) && isInForce(version, entry.since, entry.until),
  );
  return found ?? null;
}
