/**
 * The RFC's description: a vector carries a DMA address that somebody derived beforehand
 * ("Removing struct page from P2PDMA", linux-pci, June 2019). The offset IS that address.
 *
 * One thing is added that the RFC lacked: the initiator it was derived for. Another one is refused,
 * at map time, where the RFC's address would have reached a stranger (its patch 18 checked a queue
 * flag when a vector was added and never again, so a stacked queue could pass it on).
 *
 * Leaves out, as the RFC does: a range, a lifetime, a route, an IOMMU: whoever derived the address
 * answers for them.
 */

import { ADDRESS_LIMIT, assert, type Span, type Tree } from "../../core/index.ts";
import { Direction, type InitiatorId, type IoMemory, MapStatus, MemoryKind } from "../contract.ts";

export class DmaAddressMemory implements IoMemory {
  readonly kind = MemoryKind.dmaAddress;
  readonly cpuAccessible = false;
  readonly needsUnmap = false;
  readonly initiator: InitiatorId;

  /** `initiator`: whom the addresses are for. */
  constructor(initiator: InitiatorId) {
    assert(initiator > 0, "a DMA address is somebody's");
    this.initiator = initiator;
  }

  map(initiator: InitiatorId, offset: number, length: number, direction: Direction): number {
    assert(direction >= Direction.fromMemory, "a mapping has a direction");
    if (initiator !== this.initiator) return -MapStatus.wrongInitiator;
    if (offset < 0 || length <= 0 || offset + length > ADDRESS_LIMIT) return -MapStatus.outOfRange;
    return offset;
  }

  unmap(_initiator: InitiatorId, _dmaAddress: number, _length: number): void {
    // Whoever derived the address takes it back.
  }

  limitAddress(offset: number): number {
    return offset;
  }

  bytes(_offset: number, _length: number, _span: Span): boolean {
    return false;
  }

  inspect(): Tree {
    return { kind: "dma-address", initiator: this.initiator };
  }
}
