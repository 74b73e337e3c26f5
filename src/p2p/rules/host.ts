/**
 * Does the root complex carry peer traffic? The CPU rule and the host bridge list of one kernel,
 * made ready for one topology; evidence and remedies for the answer.
 *
 * Leaves out: what a root complex really does (data sheets rarely say; the list is what the
 * kernel's developers were told).
 */

import { type Bdf, formatBdf } from "../../core/index.ts";
import { isUnknown, PortType } from "../../machine/index.ts";
import type { Topology } from "../topology.ts";
import { type CpuFacts, cpuAssumptions, cpuFacts, explainCpu, tellCpu } from "./cpu.ts";
import { findHostBridge, findLaterHostBridge, type HostBridgeEntry } from "./host-bridge-list.ts";
import { Reason } from "./reasons.ts";
import type { PairPath } from "./rule-set.ts";
import type { Evidence, Remedy } from "./types.ts";
import { compareVersions, formatVersion, type KernelVersion } from "./version.ts";

export interface HostFacts {
  readonly version: KernelVersion;
  readonly cpu: CpuFacts;
  /** By root bus: 0 not listed, 1 listed for itself alone, 2 listed. */
  readonly listed: Uint8Array;
  readonly entries: readonly (HostBridgeEntry | null)[];
}

export function hostFacts(topology: Topology, version: KernelVersion): HostFacts {
  const entries = topology.rootBuses.map(({ representative }) =>
    representative === null
      ? null
      : findHostBridge(representative.vendorId, representative.deviceId, version),
  );
  const listed = Uint8Array.from(entries, (entry) => {
    if (entry === null) return 0;
    return entry.sameHostBridge ? 1 : 2;
  });
  return { version, cpu: cpuFacts(topology, version), listed, entries };
}

/** What was not known of the CPU and of these root buses. */
export function hostAssumptions(
  topology: Topology,
  { cpu }: HostFacts,
  roots: readonly number[],
): string[] {
  const assumptions = cpuAssumptions(cpu);
  if (cpu.forwards) return assumptions;
  for (const { first, representative } of roots.map((root) => topology.rootBuses[root])) {
    if (first === null || representative !== null || !isUnknown(first, "pcie")) continue;
    const name = formatBdf(first.bdf);
    assumptions.push(`the port type of ${name} is not in the dump: taken as no root port`);
  }
  return assumptions;
}

/** What decided: the CPU where it forwards, else what the list says of each root bus. */
export function explainHost(
  topology: Topology,
  host: HostFacts,
  roots: readonly number[],
  isAllowed: boolean,
): Evidence[] {
  const cpu = explainCpu(host.cpu);
  if (host.cpu.forwards) return [cpu];
  const listed = roots.map((root) => explainRoot(topology, host, root));
  return isAllowed ? listed : [...listed, cpu];
}

function explainRoot(topology: Topology, host: HostFacts, index: number): Evidence {
  const { domain, bus, first, representative } = topology.rootBuses[index];
  const register = "Vendor and Device ID";
  if (first === null) {
    const decoded = `root bus ${domain.toString(16)}:${bus.toString(16)} has no device in the dump`;
    return { bdf: null, register, offset: null, value: null, decoded };
  }
  const id = `${hex4(first.vendorId)}:${hex4(first.deviceId)}`;
  const value = first.deviceId * 65536 + first.vendorId;
  const list = `the host bridge list of Linux ${formatVersion(host.version)}`;
  const entry = host.entries[index];
  let decoded = `${id} is not in ${list}`;
  if (entry !== null) {
    const only = entry.sameHostBridge ? ", for devices below the same host bridge only" : "";
    decoded = `${id} (${entry.text}) is in ${list}${only}`;
  } else if (representative === null) {
    decoded = `${id} is neither device 00.0 nor a root port, so the kernel does not look it up`;
  }
  return { bdf: first.bdf, register, offset: 0, value, decoded };
}

/** What helps against a root complex that does not carry it. */
export function hostRemedies(
  topology: Topology,
  host: HostFacts,
  path: PairPath,
  reason: Reason,
): Remedy[] {
  const remedies: Remedy[] = [];
  const cpu = tellCpu(host.cpu);
  if (cpu !== null) remedies.push(cpu);
  const newer = newerKernel(topology, host, path, reason);
  if (newer !== null) remedies.push(newer);
  if (path.common < 0) remedies.push(moveRemedy(topology, path));
  remedies.push({
    kind: "host-memory",
    text: "Let this pair pass through host memory, if your policy allows it.",
    command: null,
    weakensIsolation: false,
  });
  return remedies;
}

/** A later kernel helps only if it lists every root bus that stands in the way. */
function newerKernel(
  topology: Topology,
  host: HostFacts,
  path: PairPath,
  reason: Reason,
): Remedy | null {
  if (reason === Reason.hostBridgesDiffer) return null;
  const roots = [...new Set([topology.rootBus[path.provider], topology.rootBus[path.client]])];
  let needed: KernelVersion | null = null;
  for (const root of roots) {
    if (host.listed[root] !== 0) continue;
    const { representative } = topology.rootBuses[root];
    if (representative === null) return null;
    const { vendorId, deviceId } = representative;
    const later = findLaterHostBridge(vendorId, deviceId, host.version);
    if (later === null || (later.sameHostBridge && roots.length > 1)) return null;
    if (needed === null || compareVersions(later.since, needed) > 0) needed = later.since;
  }
  if (needed === null) return null;
  return {
    kind: "kernel-version",
    text: `Run Linux ${formatVersion(needed)} or later, which lists this host bridge.`,
    command: null,
    weakensIsolation: false,
  };
}

/** Below one switch no root complex is asked. */
function moveRemedy(topology: Topology, path: PairPath): Remedy {
  const client = formatBdf(topology.bdfOf(path.client));
  const provider = formatBdf(topology.bdfOf(path.provider));
  const besideProvider = freePort(topology, path.provider);
  const besideClient = freePort(topology, path.client);
  let text = `Move ${client} and ${provider} below one PCIe switch (there is no free port now).`;
  if (besideProvider !== null) {
    const port = formatBdf(besideProvider);
    text = `Move ${client} to the free switch port ${port}, beside ${provider}.`;
  } else if (besideClient !== null) {
    const port = formatBdf(besideClient);
    text = `Move ${provider} to the free switch port ${port}, beside ${client}.`;
  }
  return { kind: "move-slot", text, command: null, weakensIsolation: false };
}

/** A downstream port with nothing below it, of a switch above `node`. */
function freePort(topology: Topology, node: number): Bdf | null {
  const chain = topology.chainOf(node);
  const isSwitchAbove = (at: number): boolean =>
    topology.functions[at].pcie?.portType === PortType.switchUpstream && chain.includes(at);
  for (let port = 0; port < topology.count; port++) {
    const isPort = topology.functions[port].pcie?.portType === PortType.switchDownstream;
    if (!isPort || topology.parent[port] < 0 || !isSwitchAbove(topology.parent[port])) continue;
    if (!topology.parent.includes(port)) return topology.bdfOf(port);
  }
  return null;
}

const hex4 = (value: number): string => value.toString(16).padStart(4, "0");
