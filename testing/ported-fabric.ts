/**
 * A fabric whose functions are dumb memory with a handle on their ports, so that a test issues DMA
 * as any function it likes and looks at every memory afterwards.
 */

import type { Bdf } from "../src/core/index.ts";
import {
  buildFabric,
  DeviceMemory,
  type DevicePort,
  type Fabric,
  type FabricOptions,
} from "../src/fabric/index.ts";
import type { Machine } from "../src/machine/index.ts";

class PortKeeper extends DeviceMemory {
  port: DevicePort | null = null;
  override attach(port: DevicePort): void {
    this.port = port;
  }
}

export interface PortedFabric {
  readonly fabric: Fabric;
  readonly machine: Machine;
  /** The port of an endpoint. */
  port(bdf: Bdf): DevicePort;
}

export function portedFabric(machine: Machine, options: FabricOptions = {}): PortedFabric {
  const models = new Map<Bdf, PortKeeper>();
  const fabric = buildFabric(machine, {
    ...options,
    model: ({ bdf }, { copier, barSizes }) => {
      const model = new PortKeeper({ copier, barSizes });
      models.set(bdf, model);
      return model;
    },
  });
  const port = (bdf: Bdf): DevicePort => {
    const found = models.get(bdf)?.port;
    if (found == null) throw new Error("not an endpoint of this machine");
    return found;
  };
  return { fabric, machine, port };
}
