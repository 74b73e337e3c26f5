/**
 * One initiator: a function on the bus that a driver of ours opened, its number, and its memory.
 * Addresses it hands out are valid for this function and no other.
 *
 * Invariant: coherent buffers are freed through the device that allocated them.
 */

import type { BackingFunction, HostRegion } from "../backing/interface.ts";
import {
  alignUp,
  assert,
  type Bdf,
  type DmaAddr,
  dmaAddr,
  formatBdf,
  type Inspectable,
  isPowerOfTwo,
  PAGE_SIZE,
  PeerlaneError,
  type PhysAddr,
  type Tree,
} from "../core/index.ts";
import type { IommuMode } from "../machine/index.ts";
import { AddressMapper, type InboundRanges, type IovaDomain } from "./mapper.hot.ts";
import { Direction, type InitiatorId, MAP_STATUS_NAMES } from "./mapping.ts";

/** Host memory that one device and the CPU share: rings, PRP lists, Identify data. */
export interface DmaBuffer {
  readonly phys: PhysAddr;
  /** For the device that allocated it. */
  readonly dma: DmaAddr;
  readonly bytes: Uint8Array;
}

export class DmaDevice extends AddressMapper implements Inspectable {
  /** Small, from 1: what memories and bios know this initiator by. */
  readonly id: InitiatorId;
  readonly fn: BackingFunction;
  readonly bdf: Bdf;
  private readonly regions = new Map<
    DmaBuffer,
    { readonly region: HostRegion; readonly length: number }
  >();
  private readonly domain: IovaDomain | null;

  constructor(
    id: InitiatorId,
    fn: BackingFunction,
    mode: IommuMode,
    inbound: InboundRanges,
    domain: IovaDomain | null,
  ) {
    super(mode, inbound, domain);
    assert(id > 0, "initiators are numbered from 1");
    this.id = id;
    this.fn = fn;
    this.bdf = fn.bdf;
    this.domain = domain;
  }

  /**
   * Host memory mapped for this device in both directions, zeroed. `alignment`: a power of two, at
   * least 4096 (the default); it holds for the physical and for the DMA address. Throws `dma-map`
   * when the device has no address for it.
   */
  allocCoherent(sizeBytes: number, alignment = PAGE_SIZE): DmaBuffer {
    assert(isPowerOfTwo(alignment) && alignment >= PAGE_SIZE, "an alignment is whole pages");
    // IOVAs are aligned to their length, so a length of whole alignments aligns them.
    const length = alignUp(sizeBytes, alignment);
    const region = this.fn.machine.allocateHost(length, alignment);
    const address = this.mapPhys(region.phys, length, Direction.both, false);
    if (address < 0) {
      this.fn.machine.freeHost(region);
      throw new PeerlaneError("dma-map", `no DMA address for host memory: ${nameOf(address)}`, {
        place: formatBdf(this.bdf),
        remedy: "look at the inbound ranges of its host bridge, or at leaked mappings (inspect)",
      });
    }
    const bytes = region.bytes.subarray(0, sizeBytes);
    const buffer: DmaBuffer = { phys: region.phys, dma: dmaAddr(address), bytes };
    this.regions.set(buffer, { region, length });
    return buffer;
  }

  freeCoherent(buffer: DmaBuffer): void {
    const held = this.regions.get(buffer);
    assert(held !== undefined, "a coherent buffer is freed once, by the device that has it");
    this.regions.delete(buffer);
    this.unmap(buffer.dma, held.length);
    this.fn.machine.freeHost(held.region);
  }

  inspect(): Tree {
    return {
      id: this.id,
      function: formatBdf(this.bdf),
      mode: this.mode,
      coherentBuffers: this.regions.size,
      coherentBytes: [...this.regions.keys()].reduce((sum, { bytes }) => sum + bytes.length, 0),
      domain: this.domain === null ? null : this.domain.domain,
    };
  }
}

function nameOf(negated: number): string {
  return MAP_STATUS_NAMES[-negated] ?? "unknown status";
}
