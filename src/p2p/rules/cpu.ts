/**
 * The CPU rule: does this CPU's root complex carry peer traffic, whatever the host bridge list
 * says? (Linux drivers/pci/p2pdma.c, cpu_supports_p2pdma: AMD family 17h and later, on x86, since
 * 5.9.)
 *
 * Most dumps are lspci alone and name no CPU. Where the first function of a root bus is the root
 * complex of a Zen CPU, that tells the family; the verdict says that it was inferred, and from
 * what.
 */

import { type Bdf, formatBdf, hex } from "../../core/index.ts";
import type { Topology } from "../topology.ts";
import type { Evidence, Remedy } from "./types.ts";
import { compareVersions, type KernelVersion } from "./version.ts";

const AMD = "AuthenticAMD";
const AMD_VENDOR = 0x1022;
const AMD_FAMILY_MIN = 0x17;
/** The rule as data, for the documentation. Family 17h is Zen. */
export const CPU_RULE = {
  id: "linux-5.9-cpu",
  vendor: AMD,
  familyMin: AMD_FAMILY_MIN,
  since: { major: 5, minor: 9 } as KernelVersion,
  source: "Linux drivers/pci/p2pdma.c, cpu_supports_p2pdma, commit dea286bb71ba",
};

/** Root complexes of Zen CPUs by device id, and their family: Linux arch/x86/kernel/amd_nb.c. */
const ZEN_ROOT_COMPLEXES: ReadonlyMap<number, number> = new Map([
  [0x1450, 0x17],
  [0x15d0, 0x17],
  [0x1480, 0x17],
  [0x1630, 0x17],
  [0x14b5, 0x17],
  [0x14a4, 0x19],
  [0x14d8, 0x19],
  [0x14e8, 0x19],
  [0x153a, 0x1a],
  [0x1507, 0x1a],
  [0x1122, 0x1a],
]);

export interface CpuFacts {
  readonly vendor: string | null;
  readonly family: number | null;
  /** The function that told, where the dump does not name the CPU; null where it does. */
  readonly inferredFrom: Bdf | null;
  readonly forwards: boolean;
}

export function cpuFacts(topology: Topology, version: KernelVersion): CpuFacts {
  const { cpuVendor, cpuFamily, architecture } = topology.machine.host;
  // The test is compiled in on x86 alone; the vendor's name says so where nothing else does.
  const isX86 = architecture === null || /^(x86|i.86|amd64)/i.test(architecture);
  const told = { vendor: cpuVendor, family: cpuFamily, inferredFrom: null };
  const cpu = isX86 && cpuVendor === null ? (inferred(topology) ?? told) : told;
  const isZen = cpu.vendor === AMD && cpu.family !== null && cpu.family >= AMD_FAMILY_MIN;
  const forwards = isX86 && isZen && compareVersions(version, CPU_RULE.since) >= 0;
  return { ...cpu, forwards };
}

function inferred(topology: Topology): Omit<CpuFacts, "forwards"> | null {
  for (const { first } of topology.rootBuses) {
    if (first === null || first.vendorId !== AMD_VENDOR) continue;
    const family = ZEN_ROOT_COMPLEXES.get(first.deviceId);
    if (family !== undefined) return { vendor: AMD, family, inferredFrom: first.bdf };
  }
  return null;
}

/** True when nothing in the dump tells whether the CPU forwards. */
export function isCpuUnknown({ vendor, family }: CpuFacts): boolean {
  return vendor === null || (vendor === AMD && family === null);
}

export function cpuAssumptions(cpu: CpuFacts): string[] {
  if (cpu.inferredFrom !== null) {
    const name = formatBdf(cpu.inferredFrom);
    return [`the CPU is not in the dump: taken as AMD family 17h or later, as ${name} tells`];
  }
  return isCpuUnknown(cpu)
    ? ["the CPU is not in the dump: taken as one that is not AMD family 17h or later"]
    : [];
}

export function explainCpu(cpu: CpuFacts): Evidence {
  const verb = cpu.forwards ? "forwards" : "not known to forward";
  const family = cpu.family === null ? "unknown" : `${cpu.family} (${hex(cpu.family)})`;
  const known = cpu.vendor === null ? "not in the dump" : `${cpu.vendor} family ${family}`;
  return {
    bdf: cpu.inferredFrom,
    register: "CPU",
    offset: null,
    value: cpu.family,
    decoded: `${known}: ${verb}`,
  };
}

/** Asks for what would decide; null when it is known. */
export function tellCpu(cpu: CpuFacts): Remedy | null {
  if (!isCpuUnknown(cpu)) return null;
  return {
    kind: "complete-dump",
    text: "Add /proc/cpuinfo of the machine: AMD family 17h and later would be allowed.",
    command: null,
    weakensIsolation: false,
  };
}
