/**
 * Runs of blocks on their way between a data buffer and the store: the plain case moves bytes once,
 * straight between the two; blocks with metadata go through buffers, where they are taken apart or
 * put together, checked, and given protection information.
 */

import type { Copier } from "../../../core/index.ts";
import { Span } from "../../../core/index.ts";
import { NvmeStatus } from "../../../spec/nvme/index.ts";
import type { Namespace } from "./namespace.ts";
import { checkBlock, invertStored, makeBlock, type ProtectionTags } from "./protection.hot.ts";
import type { SegmentList } from "./segment-list.hot.ts";

/** Bytes of a run with metadata; bounds the buffers, and what a failed command leaves half done. */
const RUN_BYTES = 128 * 1024;

/** Blocks taken apart: data of all, then metadata of all. */
export class RunBuffer {
  data = new Uint8Array(0);
  metadata = new Uint8Array(0);

  /** Allocates at first use: most controllers never see metadata. */
  prepare(): void {
    if (this.data.length > 0) return;
    this.data = new Uint8Array(RUN_BYTES);
    this.metadata = new Uint8Array(RUN_BYTES);
  }
}

/** Blocks of a namespace that fit one run. */
export function runBlocksMax(ns: Namespace): number {
  return Math.floor(RUN_BYTES / (ns.lbaBytes + ns.metadataBytes));
}

export class BlockRuns {
  private readonly copier: Copier;
  private readonly span = new Span();
  private mixed = new Uint8Array(0);

  constructor(copier: Copier) {
    this.copier = copier;
  }

  /** Host to store, no metadata. Returns an NVMe status. */
  pullPlain(ns: Namespace, list: SegmentList, slba: number, bytes: number): number {
    const { store } = ns;
    const span = this.span;
    const base = slba * ns.lbaBytes;
    let done = 0;
    while (done < bytes) {
      let status = store.lendForWrite(base + done, bytes - done, span);
      if (status !== NvmeStatus.success) return status;
      const run = span.length;
      status = list.pull(span.bytes, span.offset, run);
      if (status !== NvmeStatus.success) return status;
      status = store.commit(base + done, run, span);
      if (status !== NvmeStatus.success) return status;
      done += run;
    }
    return NvmeStatus.success;
  }

  /** Store to host, no metadata. Returns an NVMe status. */
  pushPlain(ns: Namespace, list: SegmentList, slba: number, bytes: number): number {
    const { store } = ns;
    const span = this.span;
    const base = slba * ns.lbaBytes;
    let done = 0;
    while (done < bytes) {
      let status = store.lend(base + done, bytes - done, span);
      if (status !== NvmeStatus.success) return status;
      const run = span.length;
      status = list.push(span.bytes, span.offset, run);
      if (status !== NvmeStatus.success) return status;
      done += run;
    }
    return NvmeStatus.success;
  }

  /** Reads blocks from the store, with their metadata. Returns an NVMe status. */
  load(ns: Namespace, slba: number, blocks: number, into: RunBuffer): number {
    into.prepare();
    const status = this.get(ns, slba * ns.lbaBytes, into.data, blocks * ns.lbaBytes);
    if (status !== NvmeStatus.success || ns.metadataBytes === 0) return status;
    const at = ns.metadataBase + slba * ns.metadataBytes;
    const loaded = this.get(ns, at, into.metadata, blocks * ns.metadataBytes);
    if (loaded === NvmeStatus.success) invertStored(ns, into.metadata, blocks);
    return loaded;
  }

  /** Writes blocks to the store. `from` holds stored metadata, inverted, afterwards. */
  save(ns: Namespace, slba: number, blocks: number, from: RunBuffer): number {
    const status = this.put(ns, slba * ns.lbaBytes, from.data, blocks * ns.lbaBytes);
    if (status !== NvmeStatus.success || ns.metadataBytes === 0) return status;
    invertStored(ns, from.metadata, blocks);
    const at = ns.metadataBase + slba * ns.metadataBytes;
    return this.put(ns, at, from.metadata, blocks * ns.metadataBytes);
  }

  /** Pulls blocks from the host; `metadata` is null when the command carries none. */
  pull(
    ns: Namespace,
    blocks: number,
    data: SegmentList,
    metadata: SegmentList | null,
    withMetadata: boolean,
    into: RunBuffer,
  ): number {
    into.prepare();
    if (withMetadata && ns.extended) return this.pullMixed(ns, blocks, data, into);
    const status = data.pull(into.data, 0, blocks * ns.lbaBytes);
    if (status !== NvmeStatus.success) return status;
    const metadataBytes = blocks * ns.metadataBytes;
    if (withMetadata && metadata !== null) return metadata.pull(into.metadata, 0, metadataBytes);
    into.metadata.fill(0, 0, metadataBytes);
    return NvmeStatus.success;
  }

  /** Pushes blocks to the host. */
  push(
    ns: Namespace,
    blocks: number,
    data: SegmentList,
    metadata: SegmentList | null,
    withMetadata: boolean,
    from: RunBuffer,
  ): number {
    if (withMetadata && ns.extended) return this.pushMixed(ns, blocks, data, from);
    const status = data.push(from.data, 0, blocks * ns.lbaBytes);
    if (status !== NvmeStatus.success || !withMetadata || metadata === null) return status;
    return metadata.push(from.metadata, 0, blocks * ns.metadataBytes);
  }

  /** Checks the blocks of a run against `tags`, which move on. Returns an NVMe status. */
  check(ns: Namespace, blocks: number, tags: ProtectionTags, buffer: RunBuffer): number {
    let dataAt = 0;
    let metadataAt = 0;
    for (let i = 0; i < blocks; i++) {
      const status = checkBlock(ns, tags, buffer.data, dataAt, buffer.metadata, metadataAt);
      if (status !== NvmeStatus.success) return status;
      tags.next(ns.piType);
      dataAt += ns.lbaBytes;
      metadataAt += ns.metadataBytes;
    }
    return NvmeStatus.success;
  }

  /** Makes the protection information of a run from `tags`, which move on. */
  generate(ns: Namespace, blocks: number, tags: ProtectionTags, buffer: RunBuffer): void {
    let dataAt = 0;
    let metadataAt = 0;
    for (let i = 0; i < blocks; i++) {
      makeBlock(ns, tags, buffer.data, dataAt, buffer.metadata, metadataAt);
      tags.next(ns.piType);
      dataAt += ns.lbaBytes;
      metadataAt += ns.metadataBytes;
    }
  }

  private pullMixed(ns: Namespace, blocks: number, data: SegmentList, into: RunBuffer): number {
    const { lbaBytes, metadataBytes, transferBytes } = ns;
    if (this.mixed.length === 0) this.mixed = new Uint8Array(RUN_BYTES);
    const status = data.pull(this.mixed, 0, blocks * transferBytes);
    if (status !== NvmeStatus.success) return status;
    for (let i = 0; i < blocks; i++) {
      const at = i * transferBytes;
      this.copier.copy(into.data, i * lbaBytes, this.mixed, at, lbaBytes);
      this.copier.copy(into.metadata, i * metadataBytes, this.mixed, at + lbaBytes, metadataBytes);
    }
    return NvmeStatus.success;
  }

  private pushMixed(ns: Namespace, blocks: number, data: SegmentList, from: RunBuffer): number {
    const { lbaBytes, metadataBytes, transferBytes } = ns;
    if (this.mixed.length === 0) this.mixed = new Uint8Array(RUN_BYTES);
    for (let i = 0; i < blocks; i++) {
      const at = i * transferBytes;
      this.copier.copy(this.mixed, at, from.data, i * lbaBytes, lbaBytes);
      this.copier.copy(this.mixed, at + lbaBytes, from.metadata, i * metadataBytes, metadataBytes);
    }
    return data.push(this.mixed, 0, blocks * transferBytes);
  }

  private get(ns: Namespace, offset: number, into: Uint8Array, bytes: number): number {
    let done = 0;
    while (done < bytes) {
      const status = ns.store.lend(offset + done, bytes - done, this.span);
      if (status !== NvmeStatus.success) return status;
      const run = this.span.length;
      this.copier.copy(into, done, this.span.bytes, this.span.offset, run);
      done += run;
    }
    return NvmeStatus.success;
  }

  private put(ns: Namespace, offset: number, from: Uint8Array, bytes: number): number {
    let done = 0;
    while (done < bytes) {
      let status = ns.store.lendForWrite(offset + done, bytes - done, this.span);
      if (status !== NvmeStatus.success) return status;
      const run = this.span.length;
      this.copier.copy(this.span.bytes, this.span.offset, from, done, run);
      status = ns.store.commit(offset + done, run, this.span);
      if (status !== NvmeStatus.success) return status;
      done += run;
    }
    return NvmeStatus.success;
  }
}
