/**
 * What helps against a root complex that does not carry peer traffic, or a kernel that does not let
 * it: a complete dump, a newer kernel, another slot, host memory.
 */

import { type Bdf, formatBdf } from "../../core/index.ts";
import { PortType } from "../../machine/index.ts";
import type { Topology } from "../topology.ts";
import { CPU_RULE, tellCpu } from "./cpu.ts";
import {
  ACROSS_SINCE,
  type HostFacts,
  hostFacts,
  REDIRECTED_SINCE,
  reasonAtRoot,
  rootsOf,
} from "./host.ts";
import { HOST_BRIDGE_LIST, ROOT_PORT_AT_ANY_SLOT } from "./host-bridge-list.ts";
import { MapType } from "./map-type.ts";
import { MAP_TYPE_OF_REASON, Reason } from "./reasons.ts";
import type { PairPath } from "./rule-set.ts";
import type { Remedy } from "./types.ts";
import { compareVersions, formatVersion, type KernelVersion } from "./version.ts";

export function hostRemedies(
  topology: Topology,
  host: HostFacts,
  path: PairPath,
  reason: Reason,
): Remedy[] {
  const remedies: Remedy[] = [];
  const cpu = tellCpu(host.cpu);
  if (cpu !== null) remedies.push(cpu);
  const newer = newerKernel(topology, host, path);
  if (newer !== null) remedies.push(newer);
  if (reason === Reason.iommuPresent) remedies.push(NO_IOMMU);
  if (path.common < 0) remedies.push(moveRemedy(topology, path));
  remedies.push({
    kind: "host-memory",
    text: "Let this pair pass through host memory, if your policy allows it.",
    command: null,
    weakensIsolation: false,
  });
  return remedies;
}

/** Only AMD's root complex was listed in the kernels that care. */
const NO_IOMMU: Remedy = {
  kind: "kernel-parameter",
  text: "Boot with the IOMMU off.",
  command: "amd_iommu=off",
  weakensIsolation: true,
};

/** Every version with which something began or ended, oldest first. */
const TURNING_POINTS: readonly KernelVersion[] = [
  ACROSS_SINCE,
  REDIRECTED_SINCE,
  CPU_RULE.since,
  ROOT_PORT_AT_ANY_SLOT.since,
  ...HOST_BRIDGE_LIST.map(({ since }) => since),
].sort(compareVersions);

/** The first kernel that lets the pair pass, if all later ones do. */
function newerKernel(topology: Topology, host: HostFacts, path: PairPath): Remedy | null {
  let first: HostFacts | null = null;
  for (const version of TURNING_POINTS) {
    if (compareVersions(version, host.version) <= 0) continue;
    const then = hostFacts(topology, version);
    const isAllowed =
      MAP_TYPE_OF_REASON[reasonAtRoot(then, topology, path)] === MapType.thruHostBridge;
    if (!isAllowed) first = null;
    else first ??= then;
  }
  if (first === null) return null;
  const wasListed = rootsOf(topology, path).every((root) => host.listed[root] !== 0);
  let why = "which lists this host bridge";
  if (first.cpu.forwards) why = "which lets every AMD CPU from family 17h on forward";
  else if (wasListed) why = "which lets such traffic pass this root complex";
  return {
    kind: "kernel-version",
    text: `Run Linux ${formatVersion(first.version)} or later, ${why}.`,
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
