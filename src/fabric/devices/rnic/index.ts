/** The model RNIC and the wires it can be put on. */

export { DEFAULT_RNIC_LIMITS, type RnicLimits } from "./engine.hot.ts";
export { InProcessPort, InProcessWire, type WireConditions } from "./in-process-wire.ts";
export { RnicModel, type RnicModelOptions } from "./model.ts";
export * from "./wire.ts";
