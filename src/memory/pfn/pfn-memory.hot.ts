/**
 * Frames as I/O memory: the flags in the offset say whether there is a page, and mapping goes on as
 * `page` or as `phys` does. What the type adds is at compile time (frame.ts): it costs a
 * division to take apart, and nothing else changes.
 *
 * Invariant: an offset is flags * 2^48 + physical address, as `offsetOfFrame` makes it. Leaves out,
 * as the proposal did: who may use it, for how long, and references on memory without pages.
 */

import type { Span, Tree } from "../../core/index.ts";
import {
  type Direction,
  type InitiatorId,
  type IoMemory,
  MapStatus,
  MemoryKind,
} from "../contract.ts";
import type { PageMemory } from "../page/page-memory.hot.ts";
import type { PhysMemory } from "../phys/phys-memory.hot.ts";
import { FRAME_ADDRESS_LIMIT, FrameFlag } from "./frame.ts";

export class PfnMemory implements IoMemory {
  readonly kind = MemoryKind.pfn;
  /** True where its pages are host memory; then it has no frames without pages. */
  readonly cpuAccessible: boolean;
  readonly needsUnmap: boolean;
  private readonly phys: PhysMemory;
  private readonly pages: PageMemory | null;

  /**
   * `pages`: for frames that have pages; without, such a frame is out of range. Pages of host
   * memory make a memory of their own: one answer to whether the CPU may touch it.
   */
  constructor(phys: PhysMemory, pages: PageMemory | null) {
    this.phys = phys;
    this.pages = pages;
    this.cpuAccessible = pages?.cpuAccessible ?? false;
    this.needsUnmap = phys.needsUnmap;
  }

  map(initiator: InitiatorId, offset: number, length: number, direction: Direction): number {
    if (offset < 0) return -MapStatus.outOfRange;
    const flags = Math.floor(offset / FRAME_ADDRESS_LIMIT);
    const address = offset - flags * FRAME_ADDRESS_LIMIT;
    if ((flags & FrameFlag.map) === 0) {
      if (this.cpuAccessible) return -MapStatus.outOfRange;
      return this.phys.map(initiator, address, length, direction);
    }
    if (this.pages === null) return -MapStatus.outOfRange;
    return this.pages.map(initiator, address, length, direction);
  }

  unmap(initiator: InitiatorId, dmaAddress: number, length: number): void {
    // Both ways give back the same: an IOVA where one was taken.
    this.phys.unmap(initiator, dmaAddress, length);
  }

  limitAddress(offset: number): number {
    return offset % FRAME_ADDRESS_LIMIT;
  }

  bytes(offset: number, length: number, span: Span): boolean {
    if (this.pages === null || offset < 0) return false;
    const flags = Math.floor(offset / FRAME_ADDRESS_LIMIT);
    // From a frame to bytes there is one way, through its page.
    if ((flags & FrameFlag.map) === 0) return false;
    return this.pages.bytes(offset - flags * FRAME_ADDRESS_LIMIT, length, span);
  }

  inspect(): Tree {
    return { kind: "pfn", phys: this.phys.inspect(), hasPages: this.pages !== null };
  }
}
