/**
 * Memory for PRP lists, SGL arrays and Dataset Management ranges: some contiguous pages for every
 * command identifier, allocated when the queue is made. Allocation is in slabs, so that no single
 * contiguous buffer has to be large.
 *
 * Leaves out: lists in the CMB (CMBSZ.LISTS).
 */

import { assert } from "../core/index.ts";
import type { DmaBuffer, DmaDevice } from "../dma/index.ts";

/** Bytes of a slab, where one identifier's pages are not more than that. */
const SLAB_BYTES = 256 * 1024;

export class ListPages {
  /** Words of the slab that identifier `cid` has its pages in, by cid. */
  readonly words: Uint32Array[] = [];
  /** Dword index of its first page in those words. */
  readonly at: Uint32Array;
  /** DMA address of its first page. */
  readonly dma: Float64Array;
  readonly pagesPerCid: number;
  private readonly device: DmaDevice;
  private readonly slabs: DmaBuffer[] = [];

  constructor(device: DmaDevice, cidCount: number, pagesPerCid: number, pageBytes: number) {
    assert(cidCount > 0 && pagesPerCid > 0, "every command has list pages");
    this.device = device;
    this.pagesPerCid = pagesPerCid;
    this.at = new Uint32Array(cidCount);
    this.dma = new Float64Array(cidCount);
    const bytesPerCid = pagesPerCid * pageBytes;
    const cidsPerSlab = Math.max(1, Math.floor(SLAB_BYTES / bytesPerCid));
    for (let cid = 0; cid < cidCount; cid++) {
      const inSlab = cid % cidsPerSlab;
      if (inSlab === 0) {
        const cids = Math.min(cidsPerSlab, cidCount - cid);
        this.slabs.push(device.allocCoherent(cids * bytesPerCid, pageBytes));
      }
      const slab = this.slabs[this.slabs.length - 1];
      this.words.push(inSlab === 0 ? wordsOf(slab.bytes) : this.words[cid - 1]);
      this.at[cid] = (inSlab * bytesPerCid) / 4;
      this.dma[cid] = slab.dma + inSlab * bytesPerCid;
    }
  }

  get sizeBytes(): number {
    return this.slabs.reduce((sum, { bytes }) => sum + bytes.length, 0);
  }

  free(): void {
    for (const slab of this.slabs) this.device.freeCoherent(slab);
    this.slabs.length = 0;
  }
}

/** The bytes as dwords. DMA buffers start at a page, so they are aligned. */
export function wordsOf(bytes: Uint8Array): Uint32Array {
  assert(bytes.byteOffset % 4 === 0, "a DMA buffer is dword aligned");
  return new Uint32Array(bytes.buffer, bytes.byteOffset, bytes.length / 4);
}
