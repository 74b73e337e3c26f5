/** GPU: registers, ring descriptors and kernels of Peerlane's model GPU. */

export * from "./descriptors.ts";
export * from "./registers.ts";
