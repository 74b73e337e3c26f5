/**
 * Makes host memory usable for given initiators: the control-plane half of host-memory.hot.ts.
 * Leaves out: allocation (the backing machine's).
 */

import type { HostRegion } from "../../backing/interface.ts";
import { assert, formatBdf, PeerlaneError } from "../../core/index.ts";
import { Direction, type DmaDevice, MAP_STATUS_NAMES } from "../../dma/index.ts";
import { HostMemory } from "./host-memory.hot.ts";

export { HostMemory } from "./host-memory.hot.ts";

/** Host memory that only the CPU uses: no device has an address for it. */
export function cpuMemory(region: HostRegion): HostMemory {
  return new HostMemory(region, [], new Float64Array(0));
}

/**
 * Maps `region` for each of `devices`, in both directions. Throws `dma-map` when one of them has no
 * address for it; then it is mapped for none. Unmap with {@link HostMemory.close}.
 */
export function mapHostMemory(region: HostRegion, devices: readonly DmaDevice[]): HostMemory {
  assert(devices.length > 0, "host memory is mapped for somebody");
  const bases = new Float64Array(Math.max(...devices.map(({ id }) => id)) + 1).fill(-1);
  const done: DmaDevice[] = [];
  for (const device of devices) {
    const base = device.mapPhys(region.phys, region.bytes.length, Direction.both, false);
    if (base < 0) {
      for (const other of done) other.unmap(bases[other.id], region.bytes.length);
      throw new PeerlaneError("dma-map", `no DMA address: ${MAP_STATUS_NAMES[-base]}`, {
        place: formatBdf(device.bdf),
        remedy: "look at the inbound ranges of its host bridge, or at leaked mappings (inspect)",
      });
    }
    bases[device.id] = base;
    done.push(device);
  }
  return new HostMemory(region, devices, bases);
}
