/**
 * Host memory in the words of each description, for what the CPU has to do with it. Leases are for
 * peer memory; beside them host memory has a kind of its own, which stands in their column.
 */

import type { HostRegion } from "../../backing/interface.ts";
import type { DmaDevice } from "../../dma/index.ts";
import {
  Direction,
  DmaAddressMemory,
  FrameFlag,
  frameOf,
  type IoMemory,
  mapHostMemory,
  offsetOfFrame,
  PageMemory,
  PageTable,
  PfnMemory,
  PhysMap,
  PhysMemory,
} from "../../memory/index.ts";
import {
  type CompareDescription,
  type DescriptionSetup,
  type Handle,
  NoHold,
} from "./descriptions.ts";

/** Opens host memory for `device`; the region stays the caller's. */
export function openHostMemory(
  kind: CompareDescription,
  setup: DescriptionSetup,
  region: HostRegion,
  device: DmaDevice,
): Handle {
  switch (kind) {
    case "page":
      return handleOf(pagesOf(setup, region), region.phys);
    case "pfn": {
      const { phys } = region;
      const frame = frameOf(phys, FrameFlag.map);
      const memory = new PfnMemory(physOf(setup, region), pagesOf(setup, region));
      return handleOf(memory, offsetOfFrame(frame, 0));
    }
    case "phys":
      return handleOf(physOf(setup, region), region.phys);
    case "dma-address": {
      const address = mapHostMemory(region, [device]).map(device.id, 0, 1, Direction.both);
      return handleOf(new DmaAddressMemory(device.id), address);
    }
    default:
      return handleOf(mapHostMemory(region, [device]), 0);
  }
}

function pagesOf({ context, rules }: DescriptionSetup, region: HostRegion): PageMemory {
  const table = new PageTable(context, rules);
  return new PageMemory(table, table.registerRam(region));
}

function physOf({ context, rules }: DescriptionSetup, region: HostRegion): PhysMemory {
  const map = new PhysMap(context, rules);
  map.addRam(region.phys, region.bytes.length);
  return new PhysMemory(map);
}

function handleOf(memory: IoMemory, first: number): Handle {
  return {
    memory,
    first,
    registeredBytes: 0,
    routes: null,
    translatedAtOpening: 0,
    hold: new NoHold(),
    takeAway: () => Promise.resolve(),
  };
}
