/**
 * Scenarios of GPU memory as data: `gds` reads a file from an SSD into VRAM (GPUDirect Storage's
 * job), `gpudirect-rdma` has a remote host write into VRAM (GPUDirect RDMA's job).
 */

import { z } from "zod";
import {
  aboutField,
  bdfOrAuto,
  iommuField,
  machineField,
  nameField,
  namespaceField,
  rootComplexField,
  size,
} from "../schema.ts";

export const GPU_KINDS = ["gds", "gpudirect-rdma"] as const;
/** `host-memory`: through a bounce buffer, as without GPUDirect. */
export const GPU_RUNS = ["host-memory", "lease", "dma-buf"] as const;
export type GpuRunName = (typeof GPU_RUNS)[number];

const extent = z.strictObject({
  /** First block on the namespace. */
  block: z.number().int().min(0),
  blocks: z.number().int().min(1),
});

const common = {
  name: nameField,
  about: aboutField,
  machine: machineField,
  iommu: iommuField,
  rootComplex: rootComplexField,
  gpu: z
    .strictObject({
      function: bdfOrAuto.default("auto"),
      /** Bytes of VRAM; left out: as much as the aperture BAR of the dump shows. */
      vram: size.optional(),
      /** Size that the driver gives the aperture BAR, if it is resizable. */
      aperture: size.optional(),
    })
    .prefault({}),
  /** Take a GPU and partner that the rules keep apart. */
  apart: z.boolean().default(false),
  /** When the rules refuse the peer: fail, or go through host memory, visibly. */
  policy: z.enum(["fail", "host-memory"]).default("fail"),
  runs: z.array(z.enum(GPU_RUNS)).min(1).default(["host-memory", "lease", "dma-buf"]),
};

const workload = {
  seed: z.number().int().min(0).max(0xffffffff).default(1),
  /** Bytes of one request. */
  requestSize: size.default(2 ** 20),
  queueDepth: z.number().int().min(1).max(256).default(16),
};

export const gdsSchema = z.strictObject({
  kind: z.literal("gds"),
  ...common,
  ssd: bdfOrAuto.default("auto"),
  namespace: namespaceField,
  file: z.strictObject({
    /** Where the file lies, in its order. */
    extents: z.array(extent).min(1).max(4096),
  }),
  workload: z.strictObject(workload).prefault({}),
});

export const gpuRdmaSchema = z.strictObject({
  kind: z.literal("gpudirect-rdma"),
  ...common,
  nic: bdfOrAuto.default("auto"),
  workload: z.strictObject({ ...workload, size: size.default(16 * 2 ** 20) }).prefault({}),
});

export type GdsScenario = z.output<typeof gdsSchema>;
export type GpuRdmaScenario = z.output<typeof gpuRdmaSchema>;
export type GpuScenario = GdsScenario | GpuRdmaScenario;
