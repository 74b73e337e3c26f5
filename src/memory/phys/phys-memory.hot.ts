/**
 * Physical vectors (`phys_vec`, Linux 6.16 to 6.19): the offset IS the physical address, and what
 * it is to the initiator is found at map time: RAM, the initiator's own BAR, a peer by its bus
 * address, a peer through the host bridge. There is no page.
 *
 * Every map asks the range index and the (provider, client) cache; through an IOMMU it takes an
 * IOVA per I/O, which unmap gives back with a flush.
 *
 * Leaves out, as Linux does: a lifetime. A provider that was removed is refused at the next map,
 * but what was mapped before goes on: nobody counts it. And any initiator with a route may use any
 * address: a vector does not say for whom it was made, nor where its memory ends.
 */

import { ADDRESS_LIMIT, assert, physAddr, type Span, type Tree } from "../../core/index.ts";
import type { DmaContext } from "../../dma/index.ts";
import { Direction, type InitiatorId, type IoMemory, MapStatus, MemoryKind } from "../contract.ts";
import type { PeerRoutes } from "../peer/peer-routes.hot.ts";
import type { PhysMap } from "./phys-map.ts";
import type { RangeIndex } from "./range-index.hot.ts";

export class PhysMemory implements IoMemory {
  readonly kind = MemoryKind.phys;
  readonly cpuAccessible = false;
  readonly needsUnmap: boolean;
  private readonly phys: PhysMap;
  private readonly context: DmaContext;
  private readonly byPhys: RangeIndex;
  private readonly byBus: RangeIndex;
  private readonly routes: readonly (PeerRoutes | null)[];
  private readonly live: readonly boolean[];

  constructor(phys: PhysMap) {
    this.phys = phys;
    this.context = phys.context;
    this.byPhys = phys.byPhys;
    this.byBus = phys.byBus;
    this.routes = phys.routes;
    this.live = phys.live;
    // Without page tables there is nothing to take back (dma_need_unmap of Linux 6.10).
    this.needsUnmap = phys.context.mode === "strict";
  }

  map(initiator: InitiatorId, offset: number, length: number, direction: Direction): number {
    assert(direction >= Direction.fromMemory, "a mapping has a direction");
    if (offset < 0 || length <= 0 || offset + length > ADDRESS_LIMIT) return -MapStatus.outOfRange;
    const slot = this.byPhys.find(offset, length);
    if (slot < 0) return -MapStatus.outOfRange;
    if (!this.live[slot]) return -MapStatus.revoked;
    const routes = this.routes[slot];
    if (routes !== null) return routes.map(initiator, offset, length, direction);
    if (initiator < 1 || initiator > this.context.initiatorCount) return -MapStatus.wrongInitiator;
    return this.context.byId(initiator).mapPhys(physAddr(offset), length, direction, false);
  }

  unmap(initiator: InitiatorId, dmaAddress: number, length: number): void {
    // IOVAs lie outside every BAR, so an address inside one was a bus address: nothing was taken.
    if (!this.needsUnmap || this.byBus.find(dmaAddress, length) >= 0) return;
    this.context.byId(initiator).unmap(dmaAddress, length);
  }

  limitAddress(offset: number): number {
    return offset;
  }

  bytes(_offset: number, _length: number, _span: Span): boolean {
    return false;
  }

  inspect(): Tree {
    return { kind: "phys", map: this.phys.inspect() };
  }
}
