/** P2P: rules, providers, pools, leases. */

export * from "./lease.hot.ts";
export * from "./lease.ts";
export * from "./live-pool.hot.ts";
export * from "./pool.hot.ts";
export * from "./provider.ts";
export * from "./rules/reasons.ts";
export * from "./rules/types.ts";
