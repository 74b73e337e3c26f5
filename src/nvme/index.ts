/** NVMe: the host driver of controllers on PCIe, its queues, and the CMB as a provider. */

export * from "./admin-queue.ts";
export * from "./cmb.ts";
export * from "./controller.ts";
export * from "./events.ts";
export * from "./identify.ts";
export * from "./io-engine.hot.ts";
export * from "./io-queue.hot.ts";
export * from "./list-pages.ts";
export * from "./namespace.ts";
export * from "./options.ts";
export * from "./prp.hot.ts";
export * from "./queue-pair.hot.ts";
export * from "./registers.ts";
export * from "./sgl.hot.ts";
export * from "./status.ts";
export * from "./steps.ts";
