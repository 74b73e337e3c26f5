/** GPU: device memory as a provider, copies and reductions, dma-buf export and import. */

export type { GpuBuffer } from "./buffer.ts";
export { type GpuAttachOptions, GpuDevice } from "./device.ts";
export type { GpuJob, GpuJobOwner } from "./queue.hot.ts";
export type { VramPlacement } from "./vram.ts";
