/**
 * Kernels whose peer-to-peer rules differ from those of the kernel before them: of all machines,
 * and of one whose host bridges are known.
 */

import {
  ACROSS_SINCE,
  ANY_DEVICE,
  CPU_RULE,
  compareVersions,
  formatVersion,
  HOST_BRIDGE_LIST,
  type HostBridgeEntry,
  type KernelVersion,
  LATEST_KERNEL,
  ROOT_PORT_AT_ANY_SLOT,
  RULE_SETS,
  Rules,
  ruleSetFor,
  type Topology,
} from "../p2p/index.ts";

/** Oldest first. `listed`: entries of the host bridge list that matter; all when not given. */
export function changesOfRules(
  listed: readonly HostBridgeEntry[] = HOST_BRIDGE_LIST,
): KernelVersion[] {
  const all = [
    ...RULE_SETS.map((set) => set.since),
    ...listed.flatMap(({ since, until }) => [since, until]),
    ACROSS_SINCE,
    CPU_RULE.since,
    ROOT_PORT_AT_ANY_SLOT.since,
  ].filter((version) => version !== null);
  const unique = new Map(all.map((version) => [formatVersion(version), version]));
  return [...unique.values()].sort(compareVersions);
}

/** Kernels that the machine may run, since its own is not known. */
export interface OtherKernel {
  /** The first kernel with other rules. */
  readonly until: KernelVersion;
  readonly rules: Rules;
}

/** Kernels older than the latest whose rules may judge this machine otherwise, newest first. */
export function otherKernels(topology: Topology): OtherKernel[] {
  const ids = topology.rootBuses.flatMap(({ first }) => (first === null ? [] : [first]));
  const listed = HOST_BRIDGE_LIST.filter(({ vendor, device }) =>
    ids.some((fn) => fn.vendorId === vendor && (fn.deviceId === device || device === ANY_DEVICE)),
  );
  const versions = changesOfRules(listed).filter(
    (version) => compareVersions(version, LATEST_KERNEL) <= 0,
  );
  return versions
    .slice(0, -1)
    .map((version, i) => ({
      until: versions[i + 1],
      rules: new Rules(topology, ruleSetFor(version), version),
    }))
    .reverse();
}
