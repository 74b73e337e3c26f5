/** GPU: device memory as a provider, copies and reductions, dma-buf export and import. */

export type { GpuBuffer, GpuPlace, RelocationTarget } from "./buffer.ts";
export { type GpuAttachOptions, GpuDevice } from "./device.ts";
export type { GpuExport, GpuExportOptions } from "./export.ts";
export type { GpuResult } from "./jobs.ts";
export type { VisibleRange, VramPlacement } from "./vram.ts";
