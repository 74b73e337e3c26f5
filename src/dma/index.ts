/** DMA: mapping for a device through its IOMMU domain, and the segments drivers are given. */

export * from "./context.ts";
export * from "./device.ts";
export * from "./mapper.hot.ts";
export * from "./mapping.ts";
export * from "./segments.hot.ts";
