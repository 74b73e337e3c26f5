/**
 * The model RNIC and the wires it can be put on. Its driver is in src/rdma; both know spec/rdma
 * alone of each other.
 */

export { DEFAULT_RNIC_LIMITS, type RnicLimits } from "./engine.hot.ts";
export { InProcessPort, InProcessWire, type WireConditions } from "./in-process-wire.ts";
export { RnicModel, type RnicModelOptions } from "./model.ts";
export * from "./wire.ts";
