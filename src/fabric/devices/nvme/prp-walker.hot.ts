/**
 * Follows PRP entries and lists (NVM Express Base 2.0, section 4.1.1) and yields the runs of a data
 * buffer. All of a list page's entries are parsed before anything else is fetched.
 *
 * Rules enforced, each with PRP Offset Invalid: PRP1 is dword aligned; the second page, every list
 * entry and every pointer to a further list page start a page; the first list is 8-byte aligned.
 * A list in the CMB without CMBSZ.LISTS is Invalid Use of Controller Memory Buffer.
 */

import { Span } from "../../../core/index.ts";
import { NvmeStatus, PRP_BYTES } from "../../../spec/nvme/index.ts";
import { type ControllerMemory, MemoryKind } from "./controller-memory.hot.ts";
import type { SegmentList } from "./segment-list.hot.ts";
import { ViewCache } from "./view-cache.hot.ts";

/** Largest page (CC.MPS) is 4 KiB << 15; a list never crosses its page. */
const SCRATCH_AT_FIRST = 4096;
const TWO_32 = 2 ** 32;

export class PrpWalker {
  private readonly memory: ControllerMemory;
  private readonly span = new Span();
  private readonly views = new ViewCache();
  private scratch = new Uint8Array(SCRATCH_AT_FIRST);

  constructor(memory: ControllerMemory) {
    this.memory = memory;
  }

  /** Adds `length` bytes from PRP1 and PRP2 to `list`. Returns an NVMe status. */
  walk(list: SegmentList, prp1: number, prp2: number, length: number, pageBytes: number): number {
    const pageMask = pageBytes - 1;
    if ((prp1 & 3) !== 0) return NvmeStatus.prpOffsetInvalid;
    const first = pageBytes - (prp1 & pageMask);
    if (length <= first) return list.addAddress(prp1, length);
    const status = list.addAddress(prp1, first);
    if (status !== NvmeStatus.success) return status;
    const rest = length - first;
    if (rest <= pageBytes) {
      if ((prp2 & pageMask) !== 0) return NvmeStatus.prpOffsetInvalid;
      return list.addAddress(prp2, rest);
    }
    return this.walkList(list, prp2, rest, pageBytes);
  }

  private walkList(list: SegmentList, pointer: number, length: number, pageBytes: number): number {
    const pageMask = pageBytes - 1;
    let at = pointer;
    let rest = length;
    if ((at & (PRP_BYTES - 1)) !== 0) return NvmeStatus.prpOffsetInvalid;
    while (rest > 0) {
      const wanted = Math.ceil(rest / pageBytes);
      const slots = (pageBytes - (at & pageMask)) / PRP_BYTES;
      const chained = wanted > slots;
      const count = chained ? slots : wanted;
      const fetched = this.fetch(at, count * PRP_BYTES);
      if (fetched !== NvmeStatus.success) return fetched;
      const view = this.views.view(this.span.bytes);
      const dataEntries = chained ? count - 1 : count;
      let from = this.span.offset;
      for (let i = 0; i < dataEntries; i++) {
        const lo = view.getUint32(from, true);
        if ((lo & pageMask) !== 0) return NvmeStatus.prpOffsetInvalid;
        const run = Math.min(rest, pageBytes);
        const status = list.addAddress(view.getUint32(from + 4, true) * TWO_32 + lo, run);
        if (status !== NvmeStatus.success) return status;
        rest -= run;
        from += PRP_BYTES;
      }
      if (!chained) break;
      at = view.getUint32(from + 4, true) * TWO_32 + view.getUint32(from, true);
      if ((at & pageMask) !== 0) return NvmeStatus.prpOffsetInvalid;
    }
    return NvmeStatus.success;
  }

  /** Points the span at `bytes` bytes of list, contiguous. */
  private fetch(address: number, bytes: number): number {
    const kind = this.memory.kindOf(address, bytes);
    if (kind > MemoryKind.bus && !this.memory.windowOf(kind).lists) {
      return NvmeStatus.invalidUseOfCmb;
    }
    const status = this.memory.borrow(address, bytes, this.span);
    if (status !== NvmeStatus.success || this.span.length >= bytes) return status;
    if (this.scratch.length < bytes) this.scratch = new Uint8Array(bytes);
    this.span.set(this.scratch, 0, bytes);
    return this.memory.read(address, this.scratch, 0, bytes);
  }
}
