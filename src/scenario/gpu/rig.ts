/**
 * The machine of a GPU scenario: the dump's fabric with a GPU model behind every GPU, an NVMe model
 * behind every SSD, an RNIC behind the chosen NIC, and the drivers of the two that take part.
 */

import { type Bdf, formatBytes, type Poller, Reactor } from "../../core/index.ts";
import { DmaContext } from "../../dma/index.ts";
import {
  buildFabric,
  type DeviceModel,
  type Fabric,
  type GpuModel,
  gpuModelFor,
  InProcessWire,
  type ModelTools,
  NvmeModel,
  RnicModel,
  type RootComplexPolicy,
  Scheduler,
} from "../../fabric/index.ts";
import { GpuDevice } from "../../gpu/index.ts";
import { deviceKind, type Machine, type PciFunction } from "../../machine/index.ts";
import { Rules, Topology } from "../../p2p/index.ts";
import type { GpuScenario } from "./schema.ts";
import type { GpuChoice } from "./select.ts";
import { canBeGpuModel } from "./select.ts";

/** A scenario's machine, edited and chosen from. */
export interface PreparedGpuMachine {
  readonly machine: Machine;
  readonly choice: GpuChoice;
  readonly rootComplex: RootComplexPolicy;
  readonly edits: string[];
}

export interface GpuRig {
  readonly machine: Machine;
  readonly fabric: Fabric;
  readonly context: DmaContext;
  readonly rules: Rules;
  readonly gpu: GpuDevice;
  readonly gpuModel: GpuModel;
  readonly reactor: Reactor;
  readonly scheduler: Scheduler;
  readonly wire: InProcessWire;
  readonly models: ReadonlyMap<Bdf, DeviceModel>;
}

/** Address of the chosen NIC on the wire. */
export const LOCAL_ADDRESS = "10.0.0.1";

/** Builds it. Throws what the drivers throw. */
export async function buildGpuRig(
  prepared: PreparedGpuMachine,
  scenario: GpuScenario,
): Promise<GpuRig> {
  const { machine, choice } = prepared;
  const scheduler = new Scheduler();
  const wire = new InProcessWire();
  const models = new Map<Bdf, DeviceModel>();
  const fabric = buildFabric(machine, {
    scheduler,
    iommu: scenario.iommu,
    rootComplex: prepared.rootComplex,
    model: (fn, tools) => {
      const model = modelFor(fn, tools, scenario, choice, wire);
      if (model !== null) models.set(fn.bdf, model);
      return model;
    },
  });
  const context = new DmaContext(fabric, { iommu: scenario.iommu, snapshot: machine });
  const gpu = GpuDevice.attach(context.device(choice.gpu));
  const reactor = new Reactor();
  for (const poller of [fabric, gpu] as Poller[]) reactor.add(poller);
  const { aperture } = scenario.gpu;
  if (aperture !== undefined) await reactor.settle(gpu.resizeAperture(aperture), "the BAR");
  return {
    machine,
    fabric,
    context,
    rules: new Rules(new Topology(machine)),
    gpu,
    gpuModel: models.get(choice.gpu) as GpuModel,
    reactor,
    scheduler,
    wire,
    models,
  };
}

function modelFor(
  fn: PciFunction,
  tools: ModelTools,
  scenario: GpuScenario,
  choice: GpuChoice,
  wire: InProcessWire,
): DeviceModel | null {
  const registerBytes = tools.barSizes[0] ?? 0;
  if (canBeGpuModel(fn)) {
    const { vram } = scenario.gpu;
    return gpuModelFor(tools, vram === undefined ? {} : { vramBytes: vram });
  }
  if (scenario.kind === "gpudirect-rdma") {
    if (fn.bdf !== choice.partner) return null;
    const { copier } = tools;
    return new RnicModel({ barBytes: registerBytes, wire, address: LOCAL_ADDRESS, copier });
  }
  if (deviceKind(fn) !== "nvme" || registerBytes === 0) return null;
  const { size, blockBytes } = scenario.namespace;
  return new NvmeModel({
    copier: tools.copier,
    model: `${fn.vendorName ?? "NVMe"} ${fn.deviceName ?? ""}`.trim().slice(0, 40),
    namespaces: [{ sizeBytes: size, lbaBytes: blockBytes }],
  });
}

/** What the aperture is now, for the report. */
export function describeAperture({ gpu }: GpuRig): string {
  const { base, limit } = gpu.visible;
  const shown = formatBytes(limit - base);
  return `the window shows ${shown} of ${formatBytes(gpu.vramBytes)} VRAM`;
}
