/** The model GPU: VRAM behind an aperture, copy engines, kernels. */

export { GpuModel, type GpuModelOptions, gpuModelFor } from "./model.ts";
