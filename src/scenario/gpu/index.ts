/** GPU scenarios: what moves into VRAM, past host memory or through it. */

export { runGpuScenario } from "./run.ts";
export { GPU_KINDS, type GpuScenario, gdsSchema, gpuRdmaSchema } from "./schema.ts";
