/** P2P: who may reach whose memory and why not; providers, their pools, leases. */

export * from "./evaluate.ts";
export * from "./lease.hot.ts";
export * from "./lease.ts";
export * from "./live-pool.hot.ts";
export * from "./path-links.ts";
export * from "./pool.hot.ts";
export * from "./provider.ts";
export * from "./registry.ts";
export { CPU_RULE, type CpuFacts, cpuFacts } from "./rules/cpu.ts";
export { ACROSS_SINCE } from "./rules/host.ts";
export * from "./rules/host-bridge-list.ts";
export * from "./rules/index.ts";
export * from "./rules/reasons.ts";
export * from "./rules/rule-set.ts";
export * from "./rules/tlp.ts";
export * from "./rules/types.ts";
export * from "./rules/version.ts";
export * from "./rules-doc.ts";
export * from "./topology.ts";
