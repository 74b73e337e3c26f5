/**
 * The rule sets of Linux, as data over one rule (kernel-rule.ts): which kernels each is for, which
 * reasons it gives, where they are written. Upstream kernels only: distributions carry entries of
 * the host bridge list back.
 */

import { KernelRule } from "./kernel-rule.ts";
import { Reason } from "./reasons.ts";
import type { Rule, RuleSet } from "./rule-set.ts";
import type { KernelVersion } from "./version.ts";

const v = (major: number, minor: number): KernelVersion => ({ major, minor });

const FILE = "Linux drivers/pci/p2pdma.c";
const CPU_SOURCE = `${FILE}, cpu_supports_p2pdma (dea286bb71ba, 5.9)`;
const NO_FUNCTION: Rule = {
  reason: Reason.noSuchFunction,
  source: `${FILE}, pci_p2pdma_distance_many: a client that is no PCI device`,
};

/** The rules from 5.4 on: the same reasons, in functions of other names. */
function rulesSince54(walk: string, list: string): Rule[] {
  return [
    { reason: Reason.sameFunction, source: `${FILE}, ${walk}` },
    { reason: Reason.commonBridge, source: `${FILE}, ${walk}` },
    { reason: Reason.redirectCpuForwards, source: CPU_SOURCE },
    { reason: Reason.redirectBridgeListed, source: `${FILE}, ${list}` },
    { reason: Reason.redirectBridgeUnlisted, source: `${FILE}, ${list}` },
    { reason: Reason.noCommonBridgeCpuForwards, source: CPU_SOURCE },
    { reason: Reason.noCommonBridgeListed, source: `${FILE}, ${list}` },
    { reason: Reason.noCommonBridgeUnlisted, source: `${FILE}, ${list}` },
    { reason: Reason.hostBridgesDiffer, source: `${FILE}, ${list}, REQ_SAME_HOST_BRIDGE` },
    NO_FUNCTION,
  ];
}

const DISTANCE = `${FILE}, upstream_bridge_distance`;
const ROOT_COMPLEX = `${FILE}, root_complex_whitelist (0f97da831026, 5.2)`;

export const LINUX_4_20: RuleSet = {
  id: "linux-4.20",
  title: "Linux 4.20 to 5.3",
  source: `${DISTANCE}, 4.20 to 5.3`,
  since: v(4, 20),
  until: v(5, 4),
  rules: [
    { reason: Reason.sameFunction, source: DISTANCE },
    { reason: Reason.commonBridge, source: DISTANCE },
    { reason: Reason.redirectRefused, source: `${DISTANCE}, result -2` },
    { reason: Reason.noCommonBridgeRefused, source: `${DISTANCE}, result -1, 4.20 to 5.1` },
    { reason: Reason.noCommonBridgeListed, source: ROOT_COMPLEX },
    { reason: Reason.noCommonBridgeUnlisted, source: ROOT_COMPLEX },
    {
      reason: Reason.iommuPresent,
      source:
        `${ROOT_COMPLEX}, iommu_present ` +
        "(linux-pci 20190619185626.15806-1-logang@deltatee.com)",
    },
    NO_FUNCTION,
  ],
  notes: [
    "A redirect by ACS anywhere on the way refuses the pair, whatever the root complex does.",
    "Until 5.1 only peers below a common upstream bridge are allowed.",
    "5.2 and 5.3 allow the rest below AMD root complex 1022:1450, at a distance 0x1000 larger, " +
      "and only where no IOMMU is present.",
    "There are no map types: clients always get bus addresses, through a root complex too.",
  ],
  compile: (topology, version) => new KernelRule(topology, version),
};

export const LINUX_5_4: RuleSet = {
  id: "linux-5.4",
  title: "Linux 5.4 to 5.13",
  source: `${DISTANCE} and __upstream_bridge_distance, 5.4 to 5.13`,
  since: v(5, 4),
  until: v(5, 14),
  rules: rulesSince54("__upstream_bridge_distance", "host_bridge_whitelist (494d63b0d5d0, 5.4)"),
  notes: [
    "Map types: what passes a root complex is mapped as host memory at that address would be, so " +
      "an IOMMU does not matter any more.",
    "What ACS redirects is allowed where the root complex is.",
    "The distance does not tell a root complex from a switch.",
    "Map types and distances are those of 5.14. What differs is when they are worked out: here " +
      "only when somebody asks for the distance, so a pair that nobody asked about does not map.",
  ],
  compile: (topology, version) => new KernelRule(topology, version),
};

export const LINUX_5_14: RuleSet = {
  id: "linux-5.14",
  title: "Linux 5.14 to 7.x",
  source: `${FILE}, calc_map_type_and_dist, 5.14 and later`,
  since: v(5, 14),
  until: null,
  rules: rulesSince54("calc_map_type_and_dist", "host_bridge_whitelist"),
  notes: [
    "The kernel works out the map type when memory is mapped, if nobody asked for it before.",
    "It logs a host bridge that is not listed only for ways that ACS redirects.",
  ],
  compile: (topology, version) => new KernelRule(topology, version),
};
