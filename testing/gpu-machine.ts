/**
 * A machine with a GPU model and our driver on it, and initiators around it whose ports a test
 * uses as it likes.
 *
 *     root (bus = phys - 0x1000_0000)
 *       root port 1 - switch - GPU (registers; aperture in BAR 2, resizable), near
 *       root port 2 - far: reaches the GPU through the host bridge, if the CPU is one that forwards
 *       root port 3 - stranger
 */

import type { Bdf } from "../src/core/index.ts";
import { DmaContext, type DmaDevice } from "../src/dma/index.ts";
import {
  buildFabric,
  DeviceMemory,
  type DevicePort,
  type Fabric,
  type GpuModel,
  gpuModelFor,
} from "../src/fabric/index.ts";
import { GpuDevice } from "../src/gpu/index.ts";
import { editFunction, type IommuMode, type Machine } from "../src/machine/index.ts";
import { Rules, Topology } from "../src/p2p/index.ts";
import { ExtendedId } from "../src/spec/pcie/index.ts";
import { MachineBuilder } from "./machine-builder.ts";
import type { DmaPlane } from "./memory-contract.ts";
import { portPlane } from "./peer-setup.ts";
import { drive } from "./rdma-pair.ts";

export const GPU_APERTURE_BAR = 2;
const MIB = 2 ** 20;
const REGISTER_BYTES = 64 * 1024;

export interface GpuMachineOptions {
  readonly iommu?: IommuMode;
  readonly mode?: "functional" | "timed";
  readonly vramBytes?: number;
  readonly apertureBytes?: number;
  readonly channels?: number;
  readonly vramBytesPerNs?: number;
  /** The CPU carries traffic between root ports. Default true. */
  readonly cpuForwards?: boolean;
  /** ACS Control of all ports. */
  readonly acs?: number;
}

export interface GpuMachine {
  readonly snapshot: Machine;
  readonly fabric: Fabric;
  readonly context: DmaContext;
  readonly rules: Rules;
  readonly model: GpuModel;
  readonly gpu: GpuDevice;
  readonly near: DmaDevice;
  readonly far: DmaDevice;
  readonly stranger: DmaDevice;
  readonly plane: DmaPlane;
  /** Polls fabric and driver until the promise settles. */
  drive<T>(promise: Promise<T>): Promise<T>;
  /** VRAM as the GPU has it, whatever the window shows. */
  peekVram(offset: number, length: number): Uint8Array;
}

class PortKeeper extends DeviceMemory {
  port: DevicePort | null = null;
  override attach(port: DevicePort): void {
    this.port = port;
  }
}

/** Sizes from 2 MiB to the aperture's own. */
const sizesUpTo = (bytes: number): number[] => {
  const sizes: number[] = [];
  for (let size = 2 * MIB; size <= bytes; size *= 2) sizes.push(size);
  return sizes;
};

function withResizableBar(machine: Machine, bdf: Bdf, bytes: number): Machine {
  return editFunction(machine, bdf, (fn) => ({
    ...fn,
    resizableBars: [
      { index: GPU_APERTURE_BAR, currentBytes: bytes, supportedBytes: sizesUpTo(bytes) },
    ],
    capabilities: [
      ...fn.capabilities,
      { id: ExtendedId.resizableBar, offset: 0x200, extended: true, version: 1 },
    ],
  }));
}

export function gpuMachine(options: GpuMachineOptions = {}): GpuMachine {
  const { apertureBytes = 16 * MIB, iommu = "off", acs } = options;
  const cpuFamily = (options.cpuForwards ?? true) ? 0x19 : 0x15;
  const host = { cpuVendor: "AuthenticAMD", cpuFamily, kernelVersion: "7.3.4" };
  const builder = new MachineBuilder("gpu", host);
  const root = builder.root({ busOffset: -0x1000_0000, apertureBytes: 2 ** 41 });
  const port = acs === undefined ? {} : { acs };
  const { ports } = builder.switch(builder.rootPort(root, port), 2, port);
  const gpu = builder.endpoint(ports[0], {
    bars: [REGISTER_BYTES, apertureBytes],
    classCode: 0x030200,
  });
  const near = builder.endpoint(ports[1], { bars: [0x4000] });
  const far = builder.endpoint(builder.rootPort(root, port), { bars: [0x4000] });
  const stranger = builder.endpoint(builder.rootPort(root, port), { bars: [0x4000] });
  const snapshot = withResizableBar(builder.build(), gpu.bdf, apertureBytes);
  const keepers = new Map<Bdf, PortKeeper>();
  const models: GpuModel[] = [];
  const fabric = buildFabric(snapshot, {
    iommu,
    mode: options.mode,
    model: (fn, tools) => {
      if (fn.bdf === gpu.bdf) {
        const model = gpuModelFor(tools, {
          vramBytes: options.vramBytes ?? 64 * MIB,
          channels: options.channels ?? 4,
          vramBytesPerNs: options.vramBytesPerNs ?? 0,
        });
        if (model !== null) models.push(model);
        return model;
      }
      const keeper = new PortKeeper({ copier: tools.copier, barSizes: tools.barSizes });
      keepers.set(fn.bdf, keeper);
      return keeper;
    },
  });
  const context = new DmaContext(fabric, { iommu, snapshot });
  const device = GpuDevice.attach(context.device(gpu.bdf));
  const [model] = models as [GpuModel];
  const plane = portPlane((bdf) => {
    const found = keepers.get(bdf)?.port;
    if (found == null) throw new Error("not an initiator of this machine");
    return found;
  });
  return {
    snapshot,
    fabric,
    context,
    rules: new Rules(new Topology(snapshot)),
    model,
    gpu: device,
    near: context.device(near.bdf),
    far: context.device(far.bdf),
    stranger: context.device(stranger.bdf),
    plane,
    drive: (promise) => drive(promise, () => fabric.poll() + device.poll()),
    peekVram: (offset, length) => {
      const target = new Uint8Array(length);
      model.vram.read(offset, target, 0, length);
      return target;
    },
  };
}
