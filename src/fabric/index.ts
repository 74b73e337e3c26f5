/** Fabric: the simulated machine, and the contract that device models in it keep. */

export type { ModelFactory, ModelTools } from "./core.ts";
export * from "./device.ts";
export * from "./devices/gpu/index.ts";
export { DeviceMemory, type DeviceMemoryOptions } from "./devices/memory.ts";
export * from "./devices/nvme/index.ts";
export * from "./devices/rnic/index.ts";
export { buildFabric, Fabric, type FabricOptions } from "./fabric.ts";
export { FaultPlan, type FaultRule } from "./faults.ts";
export { FabricFunction } from "./function.ts";
export type { IommuFault } from "./iommu.hot.ts";
export { FabricIommu } from "./iommu-control.ts";
export type { PeerPolicy, RootComplexPolicy } from "./resolve.ts";
export {
  DmaDirection,
  dmaStatusName,
  formatRoute,
  type Hop,
  type HopDecision,
  type HopLink,
  type RouteReport,
  type RouteTarget,
} from "./route.ts";
export { type Runnable, Scheduler } from "./scheduler.ts";
export { ASSUMED_LATENCY, type LatencyOptions, type TimingOptions } from "./timing.ts";
export type { HostMemoryTraffic, LinkTraffic, PeerTraffic } from "./traffic.ts";
