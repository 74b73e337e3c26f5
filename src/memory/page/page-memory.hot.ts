/**
 * The description of Linux 4.20 to today: a vector is page, offset and length, and one flag in the
 * page says "map me specially". The offset of a vector is page index * 4096 + offset in the page.
 *
 * Mapping reads the entry of the FIRST page of the vector and assumes its answer for the rest of
 * it, as the kernel does; then the (provider, client) cache; through an IOMMU an IOVA per I/O.
 *
 * Invariants: what leaves the registration is refused; once the entries are gone, so is everything.
 * While the provider is dying, mapping goes on: a pinned page is a promise. Leaves out: the
 * initiator. A page does not say for whom it is; any client with a route may use it.
 */

import { assert, physAddr, type Span, type Tree } from "../../core/index.ts";
import type { DmaContext } from "../../dma/index.ts";
import { Direction, type InitiatorId, type IoMemory, MapStatus, MemoryKind } from "../contract.ts";
import { PageFlag, PageWord, type SubsectionTable } from "./page-entries.hot.ts";
import type { PageRegistration, PageTable } from "./page-table.ts";

export class PageMemory implements IoMemory {
  readonly kind = MemoryKind.page;
  /** True for host memory alone: device memory is readX and writeX only, no copies. */
  readonly cpuAccessible: boolean;
  readonly needsUnmap: boolean;
  readonly pages: PageRegistration;
  private readonly context: DmaContext;
  private readonly table: SubsectionTable;

  constructor(pageTable: PageTable, pages: PageRegistration) {
    this.pages = pages;
    this.context = pageTable.context;
    this.table = pageTable.table;
    this.cpuAccessible = pages.region !== null;
    this.needsUnmap = this.context.mode === "strict";
  }

  map(initiator: InitiatorId, offset: number, length: number, direction: Direction): number {
    assert(direction >= Direction.fromMemory, "a mapping has a direction");
    if (offset < 0 || length <= 0) return -MapStatus.outOfRange;
    // From the page's number to its entry, as page_folio and page_pgmap do: not from the memory.
    const pages = this.table.find(offset);
    if (pages === null) return this.pages.gone ? -MapStatus.revoked : -MapStatus.outOfRange;
    if (offset + length > pages.phys + pages.sizeBytes) return -MapStatus.outOfRange;
    const flags = pages.words[pages.wordOf(offset) + PageWord.flags];
    if ((flags & PageFlag.peer) !== 0 && pages.routes !== null) {
      return pages.routes.map(initiator, offset, length, direction);
    }
    if (initiator < 1 || initiator > this.context.initiatorCount) return -MapStatus.wrongInitiator;
    return this.context.byId(initiator).mapPhys(physAddr(offset), length, direction, false);
  }

  unmap(initiator: InitiatorId, dmaAddress: number, length: number): void {
    if (!this.needsUnmap) return;
    const { routes } = this.pages;
    if (routes !== null) routes.unmap(initiator, dmaAddress, length);
    else this.context.byId(initiator).unmap(dmaAddress, length);
  }

  limitAddress(offset: number): number {
    return offset;
  }

  bytes(offset: number, length: number, span: Span): boolean {
    const { region, phys } = this.pages;
    if (region === null || this.pages.gone) return false;
    const at = offset - phys;
    if (at < 0 || length < 0 || at + length > region.bytes.length) return false;
    span.set(region.bytes, at, length);
    return true;
  }

  inspect(): Tree {
    return { kind: "page", pages: this.pages.inspect() };
  }
}
