/**
 * Does the root complex carry peer traffic? What one kernel makes of the CPU, of the host bridge
 * list and of ways that lead through the root complex at all, made ready for one topology; and the
 * evidence for the answer.
 *
 * What kernels did over time (drivers/pci/p2pdma.c): before 5.2 nothing passes a root complex; 5.2
 * and 5.3 let pass what has no common bridge, below listed host bridges and where no IOMMU is
 * present; from 5.4 on what ACS redirects passes too, and an IOMMU does not matter; from 5.9 on the
 * CPU may decide.
 *
 * Leaves out: what a root complex really does (data sheets rarely say; the list is what the
 * kernel's developers were told).
 */

import { bdfDevfn, formatBdf, formatDeviceId } from "../../core/index.ts";
import { isUnknown, type Machine, type PciFunction, PortType } from "../../machine/index.ts";
import type { RootBus, Topology } from "../topology.ts";
import { type CpuFacts, cpuAssumptions, cpuFacts, explainCpu } from "./cpu.ts";
import { findHostBridge, type HostBridgeEntry, ROOT_PORT_AT_ANY_SLOT } from "./host-bridge-list.ts";
import { Reason } from "./reasons.ts";
import type { PairPath } from "./rule-set.ts";
import type { Evidence } from "./types.ts";
import { compareVersions, formatVersion, isInForce, type KernelVersion } from "./version.ts";

/** The first kernel that lets anything pass a root complex: commit 0f97da831026. */
export const ACROSS_SINCE: KernelVersion = { major: 5, minor: 2 };
/** The first kernel that lets redirected traffic pass, and maps peer memory through an IOMMU. */
export const REDIRECTED_SINCE: KernelVersion = { major: 5, minor: 4 };

export interface HostFacts {
  readonly version: KernelVersion;
  readonly cpu: CpuFacts;
  /** By root bus: 0 not listed, 1 listed for itself alone, 2 listed. */
  readonly listed: Uint8Array;
  readonly entries: readonly (HostBridgeEntry | null)[];
  /** This kernel lets pass what has no common bridge. */
  readonly carriesAcross: boolean;
  /** This kernel lets pass what ACS redirects. */
  readonly carriesRedirected: boolean;
  /** This kernel refuses the root complex because of an IOMMU. */
  readonly iommuRefuses: boolean;
}

export function hostFacts(topology: Topology, version: KernelVersion): HostFacts {
  const entries = topology.rootBuses.map((root) => {
    const fn = representativeOf(root, version);
    return fn === null ? null : findHostBridge(fn.vendorId, fn.deviceId, version);
  });
  const listed = Uint8Array.from(entries, (entry) => {
    if (entry === null) return 0;
    return entry.sameHostBridge ? 1 : 2;
  });
  const mapsNone = isInForce(version, ACROSS_SINCE, REDIRECTED_SINCE);
  return {
    version,
    cpu: cpuFacts(topology, version),
    listed,
    entries,
    carriesAcross: compareVersions(version, ACROSS_SINCE) >= 0,
    carriesRedirected: compareVersions(version, REDIRECTED_SINCE) >= 0,
    iommuRefuses: mapsNone && hasIommu(topology.machine) === true,
  };
}

/** The function that this kernel looks up for a root bus; null: it looks up none. */
function representativeOf({ first }: RootBus, version: KernelVersion): PciFunction | null {
  if (first === null || bdfDevfn(first.bdf) === 0) return first;
  const isRootPort = first.pcie?.portType === PortType.rootPort;
  return isRootPort && isInForce(version, ROOT_PORT_AT_ANY_SLOT.since, null) ? first : null;
}

/** Passthrough counts: the driver is there. Null: the dump does not tell. */
function hasIommu({ host, functions }: Machine): boolean | null {
  if (host.iommu !== null) return host.iommu !== "off";
  return functions.some(({ iommuGroup }) => iommuGroup !== null) ? true : null;
}

/** What this kernel makes of a pair whose way leads through the root complex. Allocates nothing. */
export function reasonAtRoot(host: HostFacts, topology: Topology, path: PairPath): Reason {
  const isRedirected = path.common >= 0;
  if (isRedirected && !host.carriesRedirected) return Reason.redirectRefused;
  if (!host.carriesAcross) return Reason.noCommonBridgeRefused;
  if (host.cpu.forwards) {
    return isRedirected ? Reason.redirectCpuForwards : Reason.noCommonBridgeCpuForwards;
  }
  const a = topology.rootBus[path.provider];
  const b = topology.rootBus[path.client];
  if (host.listed[a] === 0 || host.listed[b] === 0) {
    return isRedirected ? Reason.redirectBridgeUnlisted : Reason.noCommonBridgeUnlisted;
  }
  if (a !== b && (host.listed[a] === 1 || host.listed[b] === 1)) return Reason.hostBridgesDiffer;
  if (host.iommuRefuses) return Reason.iommuPresent;
  return isRedirected ? Reason.redirectBridgeListed : Reason.noCommonBridgeListed;
}

/** Root buses of the two, one if it is the same. */
export function rootsOf(topology: Topology, { provider, client }: PairPath): number[] {
  return [...new Set([topology.rootBus[provider], topology.rootBus[client]])];
}

/** What was not known of the host, where it mattered. */
export function hostAssumptions(
  topology: Topology,
  host: HostFacts,
  roots: readonly number[],
): string[] {
  const isCpuAsked = host.carriesRedirected;
  const assumptions = isCpuAsked ? cpuAssumptions(host.cpu) : [];
  if (host.cpu.forwards) return assumptions;
  for (const root of roots.map((at) => topology.rootBuses[at])) {
    const { first } = root;
    const isLookedUp = first === null || representativeOf(root, host.version) !== null;
    if (isLookedUp || !isUnknown(first, "pcie")) continue;
    const name = formatBdf(first.bdf);
    assumptions.push(`the port type of ${name} is not in the dump: taken as no root port`);
  }
  const mapsNone = host.carriesAcross && !host.carriesRedirected;
  if (mapsNone && hasIommu(topology.machine) === null) {
    assumptions.push("whether there is an IOMMU is not in the dump: taken as none");
  }
  return assumptions;
}

/** What decided: the kernel, the CPU, an IOMMU, or what the list says of each root bus. */
export function explainHost(
  topology: Topology,
  host: HostFacts,
  roots: readonly number[],
  reason: Reason,
): Evidence[] {
  switch (reason) {
    case Reason.redirectRefused:
      return [kernelEvidence(host, "refuses every way that ACS redirects")];
    case Reason.noCommonBridgeRefused:
      return [kernelEvidence(host, "knows no host bridge that forwards")];
    case Reason.iommuPresent:
      return [iommuEvidence(topology.machine)];
    default:
  }
  const cpu = explainCpu(host.cpu);
  if (host.cpu.forwards) return [cpu];
  const listed = roots.map((root) => explainRoot(topology, host, root));
  const isAllowed =
    reason === Reason.redirectBridgeListed || reason === Reason.noCommonBridgeListed;
  return isAllowed ? listed : [...listed, cpu];
}

function kernelEvidence({ version }: HostFacts, what: string): Evidence {
  const value = formatVersion(version);
  return { bdf: null, register: "kernel", offset: null, value, decoded: `Linux ${value} ${what}` };
}

function iommuEvidence({ host: { iommu } }: Machine): Evidence {
  const decoded =
    iommu === null ? "present: functions are in IOMMU groups" : `present, mode ${iommu}`;
  return { bdf: null, register: "IOMMU", offset: null, value: iommu, decoded };
}

function explainRoot(topology: Topology, host: HostFacts, index: number): Evidence {
  const root = topology.rootBuses[index];
  const { domain, bus, first } = root;
  const register = "Vendor and Device ID";
  if (first === null) {
    const decoded = `root bus ${domain.toString(16)}:${bus.toString(16)} has no device in the dump`;
    return { bdf: null, register, offset: null, value: null, decoded };
  }
  const kernel = `Linux ${formatVersion(host.version)}`;
  if (isUnknown(first, "vendorId") || isUnknown(first, "deviceId")) {
    const decoded = `not in the dump: taken as not in the host bridge list of ${kernel}`;
    return { bdf: first.bdf, register, offset: 0, value: null, decoded };
  }
  const id = formatDeviceId(first.vendorId, first.deviceId);
  const value = first.deviceId * 65536 + first.vendorId;
  const entry = host.entries[index];
  let decoded = `${id} is not in the host bridge list of ${kernel}`;
  if (entry !== null) {
    const only = entry.sameHostBridge ? ", for devices below the same host bridge only" : "";
    decoded = `${id} (${entry.text}) is in the host bridge list of ${kernel}${only}`;
  } else if (representativeOf(root, host.version) === null) {
    const isRootPort = first.pcie?.portType === PortType.rootPort;
    decoded = isRootPort
      ? `${id} is not device 00.0, so ${kernel} does not look it up`
      : `${id} is neither device 00.0 nor a root port, so the kernel does not look it up`;
  }
  return { bdf: first.bdf, register, offset: 0, value, decoded };
}
