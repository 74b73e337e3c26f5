/**
 * Physical address in, DMA address of one initiator out: the hot half of a DMA device.
 *
 * - off: what the function puts on the bus reaches the CPU's bus as it is, or shifted by the
 *   inbound ranges of its host bridge (`dma-ranges` of a device tree; none on x86).
 * - passthrough: an identity domain; the address is the physical one.
 * - strict: pages of the function's own domain, mapped for this I/O and flushed at unmap, so that a
 *   device cannot touch a buffer a moment longer than it may.
 *
 * Invariants: the low 12 bits of an address survive; an unmap names the address and the length of
 * one live mapping. Leaves out: lazy (deferred) flushing, 64 KiB and huge IOMMU pages.
 */

import type { IommuControl, IommuDomainId, IommuProtection } from "../backing/interface.ts";
import {
  assert,
  PAGE_MASK,
  PAGE_SIZE,
  type PhysAddr,
  physAddr,
  type RangeAllocator,
} from "../core/index.ts";
import type { IommuMode } from "../machine/index.ts";
import { type Direction, MapStatus } from "./mapping.ts";

/** The domain of one IOMMU group, and its address space. */
export class IovaDomain {
  readonly iommu: IommuControl;
  readonly domain: IommuDomainId;
  /** Pages of IOVA space, taken top down. */
  readonly space: RangeAllocator;
  /** Live mappings, for `inspect()` and leak checks. */
  mappings = 0;
  /** Mappings made and taken back so far. */
  maps = 0;
  unmaps = 0;
  /** IOTLB invalidations asked for. */
  flushes = 0;

  constructor(iommu: IommuControl, domain: IommuDomainId, space: RangeAllocator) {
    this.iommu = iommu;
    this.domain = domain;
    this.space = space;
  }
}

/** Inbound ranges of a host bridge, flat: physical base, bus base, size, ... */
export type InboundRanges = Float64Array;

/** Indexed by direction, plus 4 for device memory. Made once: a map call must not allocate. */
const PROTECTIONS: readonly IommuProtection[] = [0, 1, 2, 3, 4, 5, 6, 7].map((bits) => ({
  read: (bits & 1) !== 0,
  write: (bits & 2) !== 0,
  mmio: (bits & 4) !== 0,
}));

export class AddressMapper {
  readonly mode: IommuMode;
  private readonly inbound: InboundRanges;
  private readonly iova: IovaDomain | null;

  constructor(mode: IommuMode, inbound: InboundRanges, iova: IovaDomain | null) {
    assert((mode === "strict") === (iova !== null), "a strict device has a domain of its own");
    this.mode = mode;
    this.inbound = inbound;
    this.iova = iova;
  }

  /**
   * DMA address of `length` bytes of host memory (or of device memory behind the host bridge:
   * `mmio`), or a negated {@link MapStatus}. In strict mode it must be given back with
   * {@link unmap}; in the other modes unmap is free.
   */
  mapPhys(phys: PhysAddr, length: number, direction: Direction, mmio: boolean): number {
    assert(length > 0, "a mapping is not empty");
    const iova = this.iova;
    if (iova === null) {
      return this.inbound.length === 0 ? phys : this.inboundAddress(phys, length);
    }
    const offset = phys & PAGE_MASK;
    const pages = Math.ceil((offset + length) / PAGE_SIZE);
    const page = iova.space.alloc(pages);
    if (page < 0) return -MapStatus.noResources;
    const protection = PROTECTIONS[direction | (mmio ? 4 : 0)];
    const base = page * PAGE_SIZE;
    iova.iommu.map(iova.domain, base, physAddr(phys - offset), pages * PAGE_SIZE, protection);
    iova.mappings++;
    iova.maps++;
    return base + offset;
  }

  /** Takes back what {@link mapPhys} gave for the same length. */
  unmap(dmaAddress: number, length: number): void {
    const iova = this.iova;
    if (iova === null) return;
    const offset = dmaAddress & PAGE_MASK;
    const page = (dmaAddress - offset) / PAGE_SIZE;
    const pages = Math.ceil((offset + length) / PAGE_SIZE);
    // The page tables first, then the IOTLB, and only then may the IOVA be used again.
    assert(iova.space.isAllocation(page, pages), "an unmap names one live mapping");
    iova.iommu.unmap(iova.domain, page * PAGE_SIZE, pages * PAGE_SIZE);
    iova.iommu.flush(iova.domain);
    iova.flushes++;
    iova.space.release(page, pages);
    iova.mappings--;
    iova.unmaps++;
  }

  private inboundAddress(phys: number, length: number): number {
    const ranges = this.inbound;
    for (let i = 0; i < ranges.length; i += 3) {
      const within = phys - ranges[i];
      if (within >= 0 && within + length <= ranges[i + 2]) return ranges[i + 1] + within;
    }
    return -MapStatus.noRoute;
  }
}
