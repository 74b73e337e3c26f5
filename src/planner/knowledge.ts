/**
 * What is proven: a knowledge base of root complexes and devices, each fact with where it comes
 * from. The kernel's rules say what is permitted, the fabric what PCI Express routes; neither says
 * what a root complex does with traffic from one of its ports to another, since no specification
 * does.
 *
 * Invariants: facts are data, matched by ids, most particular first; what no fact is about is
 * unknown, never assumed. Reads and writes are apart: a read needs a completion that finds its way
 * back. Leaves out: bandwidths of root complexes, except in words where a source measured them.
 */

import type { IommuMode, Machine, PciFunction } from "../machine/index.ts";

/**
 * `works`: data arrived, checked. `fails`: an error is reported. `drops`: nothing arrives and
 * nobody is told. `corrupts`: success is reported and the data is wrong.
 */
export type Outcome = "works" | "fails" | "drops" | "corrupts" | "unknown";

/** How sure a fact is. */
export type Strength =
  /** Somebody checked the data. */
  | "measured"
  /** Whoever makes the part, or builds on it, says so. */
  | "statement"
  /** The kernel's developers were told, and the kernel relies on it. */
  | "kernel-list";

export interface Fact {
  readonly id: string;
  readonly title: string;
  readonly write: Outcome;
  readonly read: Outcome;
  /** One sentence. */
  readonly text: string;
  readonly source: string;
  readonly strength: Strength;
}

/** What a machine is, as far as facts ask. */
export interface RootComplex {
  readonly machine: Machine;
  /** First function of the root bus; null when the dump has none. */
  readonly first: PciFunction | null;
  readonly iommu: IommuMode;
  readonly cpuVendor: string | null;
  readonly cpuFamily: number | null;
}

interface RootComplexFact extends Fact {
  matches(complex: RootComplex): boolean;
  /** True when it is also about transfers that never reach the root complex. */
  readonly belowSwitchToo?: boolean;
}

const INTEL = 0x8086;
const QEMU_SUBSYSTEM = [0x1af4, 0x1100] as const;

const idOf = (complex: RootComplex, vendor: number, ids: ReadonlySet<number>): boolean =>
  complex.first !== null && complex.first.vendorId === vendor && ids.has(complex.first.deviceId);

const firstFunction = ({ functions }: Machine): PciFunction | null => functions[0] ?? null;

/** QEMU puts its own subsystem id on the chipsets that it emulates. */
export function isQemu(machine: Machine): boolean {
  const first = firstFunction(machine);
  return (
    (first?.subsystemVendorId === QEMU_SUBSYSTEM[0] && first.subsystemId === QEMU_SUBSYSTEM[1]) ||
    machine.functions.some(({ vendorId }) => vendorId === 0x1b36)
  );
}

/** Host bridges of Rocket Lake-S, 11th generation Core. */
const ROCKET_LAKE = new Set([0x4c43, 0x4c53]);

/**
 * Host bridges of client CPUs, Sandy Bridge to Meteor and Arrow Lake, as the kernel's driver for
 * their memory controllers lists them (Linux arch/x86/events/intel/uncore_snb.c).
 */
const INTEL_CLIENT = new Set([
  0x0100, 0x0154, 0x0150, 0x0c00, 0x0a04, 0x1604, 0x1904, 0x190c, 0x1900, 0x1910, 0x190f, 0x191f,
  0x1918, 0x590c, 0x5904, 0x5914, 0x590f, 0x591f, 0x5910, 0x5918, 0x3ecc, 0x3ed0, 0x3e10, 0x3ec4,
  0x3e0f, 0x3e1f, 0x3ec2, 0x3e30, 0x3e18, 0x3ec6, 0x3e31, 0x3e33, 0x3eca, 0x3e32, 0x590d, 0x3e34,
  0x3e35, 0x9b44, 0x9b54, 0x9b64, 0x9b51, 0x9b61, 0x9b71, 0x9b33, 0x9b43, 0x9b53, 0x9b63, 0x9b73,
  0x8a02, 0x8a12, 0x9a02, 0x9a04, 0x9a12, 0x9a14, 0x9a36, 0x4660, 0x4641, 0x4601, 0x4602, 0x4609,
  0x460a, 0x4621, 0x4623, 0x4629, 0x4637, 0x463b, 0x4648, 0x4649, 0x4650, 0x4668, 0x4670, 0x4614,
  0x4617, 0x4618, 0x461b, 0x461c, 0xa700, 0xa702, 0xa706, 0xa709, 0xa701, 0xa703, 0xa704, 0xa705,
  0xa707, 0xa708, 0xa70a, 0xa70b, 0xa715, 0xa716, 0xa717, 0xa718, 0xa719, 0xa71a, 0xa71b, 0xa71c,
  0xa728, 0xa729, 0xa72a, 0x7d00, 0x7d01, 0x7d02, 0x7d05, 0x7d10, 0x7d14, 0x7d15, 0x7d16, 0x7d21,
  0x7d22, 0x7d23, 0x7d24, 0x7d28,
]);

/** Servers before Skylake: below one host bridge only. */
const INTEL_OLD_SERVER = new Set([0x3c00, 0x3c01, 0x2f00, 0x2f01]);
const INTEL_SERVER = new Set([0x2030, 0x2031, 0x2032, 0x2033, 0x2020, 0x09a2]);

const isCoreUltra = ({ machine }: RootComplex): boolean =>
  /Intel\(R\) Core\(TM\) Ultra/.test(machine.host.cpuModel ?? "");

const ISSUE_RKL = "https://github.com/intel/compute-runtime/issues/935";
const ISSUE_ARL = "https://github.com/NVIDIA/open-gpu-kernel-modules/issues/1253";

/** Asked in order. */
const ROOT_COMPLEXES: readonly RootComplexFact[] = [
  {
    id: "qemu-viommu",
    title: "QEMU with a virtual IOMMU",
    matches: ({ machine, iommu }) => isQemu(machine) && iommu !== "off",
    belowSwitchToo: true,
    write: "corrupts",
    read: "corrupts",
    text:
      "QEMU gives every request to its IOMMU, also between ports of one switch, as no " +
      "real switch " +
      "would: the request faults, the device reports success, the data is wrong",
    source: "recorded: Linux 7.3.4 on QEMU 10, machines 16 and 17 of docs/rooms/planner.md",
    strength: "measured",
  },
  {
    id: "qemu",
    title: "QEMU without an IOMMU",
    matches: ({ machine, iommu }) => isQemu(machine) && iommu === "off",
    write: "works",
    read: "works",
    text: "all functions of a QEMU machine share one address space, so peers reach each other",
    source: "recorded: Linux 7.3.4 on QEMU 10, machines 03 and 19 of docs/rooms/planner.md",
    strength: "measured",
  },
  {
    id: "intel-rocket-lake",
    title: "Intel Rocket Lake-S",
    matches: (complex) => idOf(complex, INTEL, ROCKET_LAKE),
    write: "corrupts",
    read: "corrupts",
    text:
      "with its host bridge forced into the kernel's list, copies between two root " +
      "ports reported " +
      "success and every one of 4,194,304 elements was wrong: the list is a safety gate",
    source: ISSUE_RKL,
    strength: "measured",
  },
  {
    id: "intel-client",
    title: "Intel client CPU",
    matches: (complex) => idOf(complex, INTEL, INTEL_CLIENT) || isCoreUltra(complex),
    write: "works",
    read: "fails",
    text:
      "Intel client CPUs carry peer writes between root ports and no reads: on Arrow Lake " +
      "a NIC wrote " +
      "GPU memory at line rate, every read ended in a completion error, and no PCIe " +
      "error was logged",
    source: ISSUE_ARL,
    strength: "statement",
  },
  {
    id: "amd-zen",
    title: "AMD Zen",
    matches: ({ cpuVendor, cpuFamily }) =>
      cpuVendor === "AuthenticAMD" && cpuFamily !== null && cpuFamily >= 0x17,
    write: "works",
    read: "works",
    text:
      "AMD CPUs from family 17h on carry both, also between root ports; on a " +
      "Threadripper PRO a NIC " +
      "read GPU memory at 180 Gb/s",
    source: `Linux commit dea286bb71ba; ${ISSUE_ARL}`,
    strength: "measured",
  },
  {
    id: "intel-server",
    title: "Intel Skylake-SP to Diamond Rapids",
    matches: (complex) => idOf(complex, INTEL, INTEL_SERVER),
    write: "works",
    read: "works",
    text: "the kernel lists these host bridges as ones that carry both, also between each other",
    source: "Linux drivers/pci/p2pdma.c, pci_p2pdma_whitelist",
    strength: "kernel-list",
  },
  {
    id: "intel-old-server",
    title: "Intel Sandy Bridge-EP, Haswell-EP",
    matches: (complex) => idOf(complex, INTEL, INTEL_OLD_SERVER),
    write: "works",
    read: "works",
    text:
      "the kernel lists them for peers below the same host bridge; reads are slow: " +
      "NVIDIA's manual " +
      "calls peer read bandwidth through such CPUs severely limited",
    source: "Linux drivers/pci/p2pdma.c; https://docs.nvidia.com/cuda/gpudirect-rdma",
    strength: "kernel-list",
  },
];

/** What is known of one transfer. */
export interface Proven {
  readonly outcome: Outcome;
  /** Null when no fact is about it. */
  readonly fact: Fact | null;
  readonly text: string;
}

const RANK: Readonly<Record<Outcome, number>> = {
  corrupts: 0,
  drops: 1,
  fails: 2,
  unknown: 3,
  works: 4,
};

/**
 * What is proven of a transfer in one direction. `complexes`: those at both ends, one or two;
 * `reachesRoot`: whether it passes them at all.
 */
export function provenOf(
  complexes: readonly RootComplex[],
  direction: "write" | "read",
  reachesRoot: boolean,
): Proven {
  const found = complexes.map(
    (complex) =>
      ROOT_COMPLEXES.find(
        (fact) => fact.matches(complex) && (reachesRoot || fact.belowSwitchToo),
      ) ?? null,
  );
  const known = found.filter((fact) => fact !== null);
  if (!reachesRoot && known.length === 0) {
    return {
      outcome: "works",
      fact: null,
      text: "no root complex is on the way: switches must route peers (PCIe Base 6.x, 6.12)",
    };
  }
  if (known.length < found.length || known.length === 0) {
    return {
      outcome: "unknown",
      fact: null,
      text: "nothing is known of this root complex: check the data where it arrives",
    };
  }
  const worst = [...known].sort((a, b) => RANK[a[direction]] - RANK[b[direction]])[0];
  return { outcome: worst[direction], fact: worst, text: worst.text };
}

/** A fact about a device, whatever the way to it. */
export interface DeviceFact {
  readonly id: string;
  readonly text: string;
  readonly source: string;
  matches(fn: PciFunction): boolean;
}

const NVIDIA = 0x10de;
/** RTX 4090, 4080, 4070 Ti, 4070. */
const GEFORCE_40 = new Set([0x2684, 0x2704, 0x2782, 0x2786]);

const DEVICES: readonly DeviceFact[] = [
  {
    id: "geforce-40",
    text:
      "NVIDIA's driver offers no peer access between GeForce RTX 40 cards, whatever " +
      "the topology: " +
      "programs that insist on it hang or compute wrong results",
    source: "https://github.com/NVIDIA/nccl-tests/issues/117",
    matches: (fn) =>
      fn.vendorId === NVIDIA &&
      (GEFORCE_40.has(fn.deviceId) || /GeForce RTX 40\d\d/.test(fn.deviceName ?? "")),
  },
];

/** What is known of a device itself. */
export const deviceFacts = (fn: PciFunction): readonly DeviceFact[] =>
  DEVICES.filter((fact) => fact.matches(fn));

/** Everything there is, for docs and tests. */
export const ALL_FACTS: readonly Fact[] = ROOT_COMPLEXES;
