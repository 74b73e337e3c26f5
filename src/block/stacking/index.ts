/** Queues over other queues: linear, raid0, multipath. */

export * from "./linear.hot.ts";
export * from "./multipath.hot.ts";
export * from "./raid0.hot.ts";
export type { FeatureInheritance, StackOptions } from "./stack-options.ts";
export { StackedQueue } from "./stacked-queue.hot.ts";
