/**
 * A small machine with an NVMe controller model, and our driver on it: what the driver's tests and
 * benchmarks stand on.
 *
 *     root (bus = phys - 0x1000_0000)
 *       root port 1 - switch - ssd (registers, CMB in BAR 2), peer (dumb memory in BAR 2)
 */

import { DmaContext, type DmaDevice } from "../src/dma/index.ts";
import { buildFabric, type Fabric, NvmeModel, type NvmeModelOptions } from "../src/fabric/index.ts";
import type { IommuMode } from "../src/machine/index.ts";
import { type HostMemory, mapHostMemory } from "../src/memory/index.ts";
import { NvmeController, type NvmeOptions } from "../src/nvme/index.ts";
import type { Tracer } from "../src/trace/index.ts";
import { MachineBuilder } from "./machine-builder.ts";

export const SSD_CMB_BYTES = 4 * 1024 * 1024;
const REGISTERS_BYTES = 16 * 1024;
const NAMESPACE_BYTES = 64 * 1024 * 1024;

export interface NvmeMachineOptions {
  readonly model?: Partial<NvmeModelOptions>;
  readonly iommu?: IommuMode;
  readonly mode?: "functional" | "timed";
  readonly tracer?: Tracer;
}

export interface NvmeMachine {
  readonly fabric: Fabric;
  readonly context: DmaContext;
  readonly device: DmaDevice;
  readonly peer: DmaDevice;
  readonly model: NvmeModel;
  /** Host memory that the controller may reach. */
  hostMemory(sizeBytes: number): HostMemory;
  attach(options?: NvmeOptions): Promise<NvmeController>;
}

export function nvmeMachine(options: NvmeMachineOptions = {}): NvmeMachine {
  const builder = new MachineBuilder("nvme");
  const root = builder.root({ busOffset: -0x1000_0000 });
  const { ports } = builder.switch(builder.rootPort(root), 2);
  const ssd = builder.endpoint(ports[0], { bars: [REGISTERS_BYTES, SSD_CMB_BYTES] });
  const other = builder.endpoint(ports[1], { bars: [0x4000, SSD_CMB_BYTES] });
  const snapshot = builder.build();
  let model: NvmeModel | null = null;
  const iommu = options.iommu ?? "off";
  const fabric = buildFabric(snapshot, {
    iommu,
    mode: options.mode,
    tracer: options.tracer,
    model: (fn, { copier }) => {
      if (fn.bdf !== ssd.bdf) return null;
      model = new NvmeModel({
        copier,
        namespaces: [{ sizeBytes: NAMESPACE_BYTES }],
        cmb: { bar: 2, offset: 0, sizeBytes: SSD_CMB_BYTES },
        ...options.model,
      });
      return model;
    },
  });
  const context = new DmaContext(fabric, { iommu, snapshot });
  const device = context.device(ssd.bdf);
  if (model === null) throw new Error("the fabric asked for no model");
  return {
    fabric,
    context,
    device,
    peer: context.device(other.bdf),
    model,
    hostMemory: (sizeBytes) => mapHostMemory(fabric.allocateHost(sizeBytes), [device]),
    attach: (driverOptions) => NvmeController.attach(device, driverOptions),
  };
}
