/** Block: bios over any description of I/O memory, limits, splitting, merging, request queues. */

export * from "./bio.hot.ts";
export * from "./check.hot.ts";
export * from "./counters.ts";
export * from "./cpu-operations.hot.ts";
export * from "./integrity.hot.ts";
export * from "./integrity.ts";
export * from "./limits.ts";
export { tryMerge } from "./merge.hot.ts";
export * from "./operation.ts";
export * from "./operation-class.ts";
export * from "./queue.hot.ts";
export * from "./remap.hot.ts";
export * from "./request.hot.ts";
export * from "./segments.hot.ts";
export * from "./split.hot.ts";
export * from "./stacking/index.ts";
export * from "./status.ts";
export * from "./wait-list.hot.ts";
export * from "./walk.hot.ts";
