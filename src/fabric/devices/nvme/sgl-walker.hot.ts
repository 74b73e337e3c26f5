/**
 * Follows an SGL (NVM Express Base 2.0, section 4.1.2) and yields the runs of a data buffer: data
 * blocks by address, data blocks by offset in the CMB (subtype 1h), bit buckets, segments, last
 * segments. Descriptor errors carry the statuses of section 4.1.2.1.
 *
 * Stricter than some controllers: a Segment descriptor must lead to a segment that ends in another
 * Segment or Last Segment descriptor. Left out: keyed and transport descriptors (Fabrics only).
 */

import { NVME_SGL_DESCRIPTORS_MAX, Span } from "../../../core/index.ts";
import { NvmeStatus, SGL_BYTES, SglSubtype, SglType } from "../../../spec/nvme/index.ts";
import { type ControllerMemory, MemoryKind } from "./controller-memory.hot.ts";
import { Direction, type SegmentList } from "./segment-list.hot.ts";
import { ViewCache } from "./view-cache.hot.ts";

const TWO_32 = 2 ** 32;
/** Descriptors fetched at once. */
const BATCH = 256;

export class SglWalker {
  private readonly memory: ControllerMemory;
  private readonly span = new Span();
  private readonly views = new ViewCache();
  private readonly scratch = new Uint8Array(BATCH * SGL_BYTES);
  private list: SegmentList | null = null;
  private direction: number = Direction.pull;
  /** Bytes still wanted; below zero when the SGL describes too many. */
  private rest = 0;
  /** The segment to go on with: set by a Segment or Last Segment descriptor. */
  private nextAddress = 0;
  private nextCount = 0;
  private nextIsLast = false;

  constructor(memory: ControllerMemory) {
    this.memory = memory;
  }

  /**
   * Adds what the descriptor in four dwords describes, `length` bytes in all, to `list`. A wrong
   * total is `lengthStatus` (of data and of metadata differ). Returns an NVMe status.
   */
  walk(
    list: SegmentList,
    direction: number,
    address: number,
    descriptorLength: number,
    typeWord: number,
    length: number,
    lengthStatus: number,
  ): number {
    this.list = list;
    this.direction = direction;
    this.rest = length;
    this.nextCount = 0;
    this.nextIsLast = false;
    let seen = 1;
    let status = this.descriptor(address, descriptorLength, typeWord, true);
    while (status === NvmeStatus.success && this.nextCount > 0) {
      seen += this.nextCount;
      if (seen > NVME_SGL_DESCRIPTORS_MAX) return NvmeStatus.invalidNumberOfSglDescriptors;
      status = this.segment();
    }
    if (status !== NvmeStatus.success) return status;
    return this.rest === 0 ? NvmeStatus.success : lengthStatus;
  }

  private segment(): number {
    let at = this.nextAddress;
    let left = this.nextCount;
    const isLast = this.nextIsLast;
    this.nextCount = 0;
    while (left > 0) {
      const count = Math.min(left, BATCH);
      const fetched = this.fetch(at, count * SGL_BYTES);
      if (fetched !== NvmeStatus.success) return fetched;
      const view = this.views.view(this.span.bytes);
      let from = this.span.offset;
      for (let i = 0; i < count; i++) {
        left--;
        const address = view.getUint32(from + 4, true) * TWO_32 + view.getUint32(from, true);
        const typeWord = view.getUint32(from + 12, true);
        const pointer = isSegmentPointer(typeWord);
        if (pointer && isLast) return NvmeStatus.invalidSglSegmentDescriptor;
        if (!pointer && left === 0 && !isLast) return NvmeStatus.invalidSglSegmentDescriptor;
        const status = this.descriptor(
          address,
          view.getUint32(from + 8, true),
          typeWord,
          left === 0,
        );
        if (status !== NvmeStatus.success) return status;
        from += SGL_BYTES;
      }
      at += count * SGL_BYTES;
    }
    return NvmeStatus.success;
  }

  private descriptor(address: number, length: number, typeWord: number, final: boolean): number {
    const type = typeWord >>> 28;
    const subtype = (typeWord >>> 24) & 0xf;
    if (type === SglType.dataBlock) return this.dataBlock(address, length, subtype);
    if (subtype !== SglSubtype.address) return NvmeStatus.sglDescriptorTypeInvalid;
    if (type === SglType.bitBucket) {
      // In a source buffer a bit bucket describes no bytes.
      if (this.direction === Direction.pull) return NvmeStatus.success;
      this.rest -= length;
      if (this.rest >= 0) (this.list as SegmentList).addBitBucket(length);
      return NvmeStatus.success;
    }
    if (type !== SglType.segment && type !== SglType.lastSegment) {
      return NvmeStatus.sglDescriptorTypeInvalid;
    }
    if (!final) return NvmeStatus.invalidNumberOfSglDescriptors;
    if (length === 0 || (length & (SGL_BYTES - 1)) !== 0) {
      return NvmeStatus.invalidSglSegmentDescriptor;
    }
    this.nextAddress = address;
    this.nextCount = length / SGL_BYTES;
    this.nextIsLast = type === SglType.lastSegment;
    return NvmeStatus.success;
  }

  private dataBlock(address: number, length: number, subtype: number): number {
    this.rest -= length;
    // Too long already: reported by `walk`, once the rest of the list has been checked.
    if (this.rest < 0) return NvmeStatus.success;
    const list = this.list as SegmentList;
    if (subtype === SglSubtype.address) return list.addAddress(address, length);
    if (subtype !== SglSubtype.offset || this.memory.cmb.memory === null) {
      return NvmeStatus.sglDescriptorTypeInvalid;
    }
    if (address + length > this.memory.cmb.sizeBytes) return NvmeStatus.sglOffsetInvalid;
    return list.addOwn(MemoryKind.cmb, address, length);
  }

  private fetch(address: number, bytes: number): number {
    const kind = this.memory.kindOf(address, bytes);
    if (kind > MemoryKind.bus && !this.memory.windowOf(kind).lists) {
      return NvmeStatus.invalidUseOfCmb;
    }
    const status = this.memory.borrow(address, bytes, this.span);
    if (status !== NvmeStatus.success || this.span.length >= bytes) return status;
    this.span.set(this.scratch, 0, bytes);
    return this.memory.read(address, this.scratch, 0, bytes);
  }
}

function isSegmentPointer(typeWord: number): boolean {
  const type = typeWord >>> 28;
  return type === SglType.segment || type === SglType.lastSegment;
}
