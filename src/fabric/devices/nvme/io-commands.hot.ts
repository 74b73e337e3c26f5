/**
 * The NVM Command Set (NVM Command Set 1.0, section 3.2): Read, Write, Flush, Write Zeroes,
 * Compare, Dataset Management, Verify, Copy. Each is executed in one call and returns an NVMe
 * status, except for what a medium takes its time for (flush, deallocate): then it is PENDING, and
 * the engine is told when the last part is done. Timing is added by the engine, which reports a
 * status when the transfers have landed.
 *
 * A command that fails half way leaves its range in an undefined state, block by block old or new,
 * as AWUPF of one block allows. Checks of addresses, sizes and protection settings come before the
 * first byte moves.
 *
 * Left out: fused operations, Write Uncorrectable, reservations, streams; 32b and 64b guards, so
 * Copy takes descriptor format 0h only.
 */

import { type Copier, STORE_PENDING, type StoreClient } from "../../../core/index.ts";
import {
  COPY_FORMAT,
  COPY_NR,
  COPY_PRINFOR,
  COPY_PRINFOW,
  COPY_RANGE_0_BYTES,
  DSM_AD,
  DSM_NR,
  DSM_RANGE_BYTES,
  IO_DEAC,
  IO_FUA,
  IO_LBAT,
  IO_LBATM,
  IO_PRINFO,
  NSID_ALL,
  NvmeStatus,
  NvmOpcode,
  PI_BYTES,
  PRACT,
} from "../../../spec/nvme/index.ts";
import { BlockRuns, RunBuffer, runBlocksMax } from "./block-runs.hot.ts";
import { type Command, PENDING } from "./command.hot.ts";
import type { DataPointer } from "./data-pointer.hot.ts";
import type { Namespace } from "./namespace.ts";
import { checkPrinfo, ProtectionTags } from "./protection.hot.ts";
import { Direction } from "./segment-list.hot.ts";

const PRCHK_MASK = 0x7;
const TWO_32 = 2 ** 32;
/** Blocks that one Copy source range, and all of them, may have; ranges, 0's based. */
export const COPY_MSSRL = 65_535;
export const COPY_MCL = 1_048_576;
export const COPY_MSRC = 127;
const LIST_BYTES = 4096;
/** Largest Write Zeroes and Verify (WZSL, VSL): 2^8 pages of 4 KiB, done in one go. */
export const NO_DATA_SHIFT = 8;
const NO_DATA_BYTES_MAX = 4096 * 2 ** NO_DATA_SHIFT;

/** Indexes of the counters: what SMART reports, in bytes and commands. */
export const Counter = {
  bytesRead: 0,
  bytesWritten: 1,
  hostReads: 2,
  hostWrites: 3,
  commands: 4,
  mediaErrors: 5,
} as const;

export class IoCommands {
  /** See {@link Counter}. */
  readonly counters = new Float64Array(Object.keys(Counter).length);
  /** Bytes one command may transfer (MDTS). */
  maxTransferBytes = Number.POSITIVE_INFINITY;
  /** Every write is made durable (volatile write cache off). */
  writeThrough = false;
  private readonly namespaces: readonly Namespace[];
  private readonly pointer: DataPointer;
  private readonly runs: BlockRuns;
  private readonly host = new RunBuffer();
  private readonly media = new RunBuffer();
  private readonly tags = new ProtectionTags();
  private readonly sourceTags = new ProtectionTags();
  private readonly list = new Uint8Array(LIST_BYTES);
  private readonly listView = new DataView(this.list.buffer);
  /** Told when a store is done with what was pending. */
  private client: StoreClient | null = null;

  constructor(namespaces: readonly Namespace[], pointer: DataPointer, copier: Copier) {
    this.namespaces = namespaces;
    this.pointer = pointer;
    this.runs = new BlockRuns(copier);
  }

  /** Who is told of what was pending; before the first command. */
  setClient(client: StoreClient): void {
    this.client = client;
  }

  /**
   * Does the command. Returns an NVMe status, or PENDING while `command.pendingParts` are with
   * stores; `command.result` is dword 0 of the completion.
   */
  execute(command: Command): number {
    this.count(Counter.commands, 1);
    const opcode = command.opcode;
    if (command.fuse !== 0) return NvmeStatus.invalidField;
    if (opcode === NvmOpcode.flush) return this.flush(command);
    const nsid = command.nsid;
    if (nsid === 0 || nsid > this.namespaces.length) return NvmeStatus.invalidNamespaceOrFormat;
    const ns = this.namespaces[nsid - 1] as Namespace;
    if (!ns.isThere) return NvmeStatus.invalidField;
    switch (opcode) {
      case NvmOpcode.write:
        return this.write(command, ns);
      case NvmOpcode.read:
        return this.read(command, ns);
      case NvmOpcode.writeZeroes:
        return this.writeZeroes(command, ns);
      case NvmOpcode.compare:
        return this.compare(command, ns);
      case NvmOpcode.datasetManagement:
        return this.datasetManagement(command, ns);
      case NvmOpcode.verify:
        return this.verify(command, ns);
      case NvmOpcode.copy:
        return this.copy(command, ns);
      default:
        return NvmeStatus.invalidOpcode;
    }
  }

  /** Makes blocks read as zeros, their protection information as ones. */
  zero(ns: Namespace, slba: number, blocks: number): number {
    const status = ns.store.zero(slba * ns.lbaBytes, blocks * ns.lbaBytes);
    if (status !== NvmeStatus.success || ns.metadataBytes === 0) return status;
    const at = ns.metadataBase + slba * ns.metadataBytes;
    return ns.store.zero(at, blocks * ns.metadataBytes);
  }

  /** The same, with the space given back; nothing at all where the store cannot do that. */
  private deallocate(command: Command, ns: Namespace, slba: number, blocks: number): number {
    const status = this.deallocatePart(command, ns, slba * ns.lbaBytes, blocks * ns.lbaBytes);
    if (status !== NvmeStatus.success || ns.metadataBytes === 0) return status;
    const at = ns.metadataBase + slba * ns.metadataBytes;
    return this.deallocatePart(command, ns, at, blocks * ns.metadataBytes);
  }

  private deallocatePart(command: Command, ns: Namespace, at: number, bytes: number): number {
    const isDurable =
      this.writeThrough || (hasFua(command) && command.opcode !== NvmOpcode.datasetManagement);
    const client = this.client as StoreClient;
    const status = ns.store.deallocate(at, bytes, isDurable, client, command.token);
    if (status !== STORE_PENDING) return status;
    command.pendingParts++;
    return NvmeStatus.success;
  }

  /** The status of a command whose own part is done: PENDING while stores have parts of it. */
  private outcome(command: Command, status: number): number {
    if (command.pendingParts === 0) return status;
    // The first failure counts.
    if (command.status === NvmeStatus.success) command.status = status;
    return PENDING;
  }

  private read(command: Command, ns: Namespace): number {
    const { slba, blocks } = command;
    if (slba + blocks > ns.blocks) return NvmeStatus.lbaOutOfRange;
    this.count(Counter.hostReads, 1);
    this.count(Counter.bytesRead, blocks * ns.lbaBytes);
    if (ns.metadataBytes > 0) return this.readMetadata(command, ns);
    const bytes = blocks * ns.lbaBytes;
    if (bytes > this.maxTransferBytes) return NvmeStatus.invalidField;
    const status = this.pointer.mapData(command, Direction.push, bytes);
    if (status !== NvmeStatus.success) return status;
    return this.runs.pushPlain(ns, this.pointer.data, slba, bytes);
  }

  private write(command: Command, ns: Namespace): number {
    const { slba, blocks } = command;
    if (slba + blocks > ns.blocks) return NvmeStatus.lbaOutOfRange;
    if (ns.readOnly) return NvmeStatus.namespaceWriteProtected;
    this.count(Counter.hostWrites, 1);
    this.count(Counter.bytesWritten, blocks * ns.lbaBytes);
    let status: number;
    if (ns.metadataBytes > 0) status = this.writeMetadata(command, ns);
    else {
      const bytes = blocks * ns.lbaBytes;
      if (bytes > this.maxTransferBytes) return NvmeStatus.invalidField;
      status = this.pointer.mapData(command, Direction.pull, bytes);
      if (status !== NvmeStatus.success) return status;
      status = this.runs.pullPlain(ns, this.pointer.data, slba, bytes);
    }
    if (status !== NvmeStatus.success) return status;
    return this.settleWrite(command, ns);
  }

  private settleWrite(command: Command, ns: Namespace): number {
    if (!this.writeThrough && !hasFua(command)) return NvmeStatus.success;
    return this.outcome(command, this.flushStore(command, ns));
  }

  private flushStore(command: Command, ns: Namespace): number {
    const status = ns.store.flush(this.client as StoreClient, command.token);
    if (status !== STORE_PENDING) return status;
    command.pendingParts++;
    return NvmeStatus.success;
  }

  private flush(command: Command): number {
    if (command.nsid === NSID_ALL) {
      let status: number = NvmeStatus.success;
      for (let i = 0; i < this.namespaces.length; i++) {
        const ns = this.namespaces[i] as Namespace;
        if (!ns.isThere) continue;
        const each = this.flushStore(command, ns);
        if (status === NvmeStatus.success) status = each;
      }
      return this.outcome(command, status);
    }
    const ns = this.namespaces[command.nsid - 1];
    if (ns === undefined) return NvmeStatus.invalidNamespaceOrFormat;
    if (!ns.isThere) return NvmeStatus.invalidField;
    return this.outcome(command, this.flushStore(command, ns));
  }

  private writeZeroes(command: Command, ns: Namespace): number {
    const { slba, blocks } = command;
    if (slba + blocks > ns.blocks) return NvmeStatus.lbaOutOfRange;
    if (ns.readOnly) return NvmeStatus.namespaceWriteProtected;
    if (blocks * ns.lbaBytes > NO_DATA_BYTES_MAX) return NvmeStatus.invalidField;
    this.count(Counter.hostWrites, 1);
    // Without DEAC the host wants the blocks to keep their space.
    if (IO_DEAC.get(command.cdw12) === 1 && ns.store.deallocates) {
      return this.outcome(command, this.deallocate(command, ns, slba, blocks));
    }
    const status = ns.piType === 0 ? this.zero(ns, slba, blocks) : this.zeroProtected(command, ns);
    return status === NvmeStatus.success ? this.settleWrite(command, ns) : status;
  }

  /** Zeros with protection information: made with PRACT, else zeros too. */
  private zeroProtected(command: Command, ns: Namespace): number {
    const prinfo = this.takeTags(command);
    if ((prinfo & PRCHK_MASK) !== 0) return NvmeStatus.invalidProtectionInformation;
    const { slba, blocks } = command;
    this.host.prepare();
    const runMax = runBlocksMax(ns);
    for (let done = 0; done < blocks; ) {
      const run = Math.min(blocks - done, runMax);
      this.host.data.fill(0, 0, run * ns.lbaBytes);
      this.host.metadata.fill(0, 0, run * ns.metadataBytes);
      if (this.tags.generates) this.runs.generate(ns, run, this.tags, this.host);
      const status = this.runs.save(ns, slba + done, run, this.host);
      if (status !== NvmeStatus.success) return status;
      done += run;
    }
    return NvmeStatus.success;
  }

  private verify(command: Command, ns: Namespace): number {
    const { slba, blocks } = command;
    if (slba + blocks > ns.blocks) return NvmeStatus.lbaOutOfRange;
    if (blocks * ns.lbaBytes > NO_DATA_BYTES_MAX) return NvmeStatus.invalidField;
    this.count(Counter.hostReads, 1);
    const prinfo = this.takeTags(command);
    if (ns.piType !== 0) {
      if ((prinfo & PRACT) !== 0) return NvmeStatus.invalidProtectionInformation;
      const status = checkPrinfo(ns, prinfo, slba, this.tags.refTag);
      if (status !== NvmeStatus.success) return status;
    }
    const runMax = runBlocksMax(ns);
    for (let done = 0; done < blocks; ) {
      const run = Math.min(blocks - done, runMax);
      let status = this.runs.load(ns, slba + done, run, this.media);
      if (status !== NvmeStatus.success) return status;
      if (ns.piType !== 0) {
        status = this.runs.check(ns, run, this.tags, this.media);
        if (status !== NvmeStatus.success) return status;
      }
      done += run;
    }
    return NvmeStatus.success;
  }

  private compare(command: Command, ns: Namespace): number {
    const { slba, blocks } = command;
    if (slba + blocks > ns.blocks) return NvmeStatus.lbaOutOfRange;
    this.count(Counter.hostReads, 1);
    this.count(Counter.bytesRead, blocks * ns.lbaBytes);
    const prinfo = this.takeTags(command);
    const { refTag } = this.tags;
    if (ns.piType !== 0 && (prinfo & PRACT) !== 0) return NvmeStatus.invalidProtectionInformation;
    let status = this.mapBuffers(command, ns, Direction.pull, ns.metadataBytes > 0);
    if (status !== NvmeStatus.success) return status;
    if (ns.piType !== 0) status = checkPrinfo(ns, prinfo, slba, refTag);
    if (status !== NvmeStatus.success) return status;
    const { data, metadata } = this.pointer;
    const runMax = runBlocksMax(ns);
    for (let done = 0; done < blocks; ) {
      const run = Math.min(blocks - done, runMax);
      status = this.runs.pull(ns, run, data, metadata, ns.metadataBytes > 0, this.host);
      if (status !== NvmeStatus.success) return status;
      status = this.runs.load(ns, slba + done, run, this.media);
      if (status !== NvmeStatus.success) return status;
      if (ns.piType !== 0) {
        status = this.runs.check(ns, run, this.tags, this.media);
        if (status !== NvmeStatus.success) return status;
      }
      if (!this.sameBlocks(ns, run)) return NvmeStatus.compareFailure;
      done += run;
    }
    return NvmeStatus.success;
  }

  /** Host and media buffers agree; protection information was checked, so it is not compared. */
  private sameBlocks(ns: Namespace, blocks: number): boolean {
    if (!sameBytes(this.host.data, this.media.data, 0, blocks * ns.lbaBytes)) return false;
    if (ns.metadataBytes === 0) return true;
    const a = this.host.metadata;
    const b = this.media.metadata;
    if (ns.piType === 0) return sameBytes(a, b, 0, blocks * ns.metadataBytes);
    const piEnd = ns.piOffset + PI_BYTES;
    for (let i = 0; i < blocks; i++) {
      const at = i * ns.metadataBytes;
      if (!sameBytes(a, b, at, ns.piOffset)) return false;
      if (!sameBytes(a, b, at + piEnd, ns.metadataBytes - piEnd)) return false;
    }
    return true;
  }

  private datasetManagement(command: Command, ns: Namespace): number {
    const ranges = DSM_NR.get(command.cdw10) + 1;
    const bytes = ranges * DSM_RANGE_BYTES;
    let status = this.pointer.mapData(command, Direction.pull, bytes);
    if (status !== NvmeStatus.success) return status;
    status = this.pointer.data.pull(this.list, 0, bytes);
    if (status !== NvmeStatus.success) return status;
    const view = this.listView;
    for (let i = 0; i < ranges; i++) {
      const at = i * DSM_RANGE_BYTES;
      const slba = view.getUint32(at + 12, true) * TWO_32 + view.getUint32(at + 8, true);
      if (slba + view.getUint32(at + 4, true) > ns.blocks) return NvmeStatus.lbaOutOfRange;
    }
    // The other attributes are hints about future accesses; this controller has no use for them.
    if (DSM_AD.get(command.cdw11) === 0) return NvmeStatus.success;
    if (ns.readOnly) return NvmeStatus.namespaceWriteProtected;
    for (let i = 0; i < ranges; i++) {
      const at = i * DSM_RANGE_BYTES;
      const slba = view.getUint32(at + 12, true) * TWO_32 + view.getUint32(at + 8, true);
      const blocks = view.getUint32(at + 4, true);
      if (blocks === 0) continue;
      status = this.deallocate(command, ns, slba, blocks);
      if (status !== NvmeStatus.success) return this.outcome(command, status);
    }
    return this.outcome(command, NvmeStatus.success);
  }

  private copy(command: Command, ns: Namespace): number {
    const { cdw12, slba: target } = command;
    const ranges = COPY_NR.get(cdw12) + 1;
    if (COPY_FORMAT.get(cdw12) !== 0) return NvmeStatus.invalidField;
    if (ranges > COPY_MSRC + 1) return NvmeStatus.commandSizeLimitExceeded;
    if (ns.readOnly) return NvmeStatus.namespaceWriteProtected;
    const bytes = ranges * COPY_RANGE_0_BYTES;
    let status = this.pointer.mapData(command, Direction.pull, bytes);
    if (status !== NvmeStatus.success) return status;
    status = this.pointer.data.pull(this.list, 0, bytes);
    if (status !== NvmeStatus.success) return status;
    status = this.checkCopy(command, ns, ranges);
    if (status !== NvmeStatus.success) return status;
    this.count(Counter.hostWrites, 1);
    const prinfow = COPY_PRINFOW.get(cdw12);
    this.tags.set(prinfow, command.cdw14, IO_LBAT.get(command.cdw15), IO_LBATM.get(command.cdw15));
    let at = target;
    for (let i = 0; i < ranges; i++) {
      const blocks = this.listView.getUint16(i * COPY_RANGE_0_BYTES + 16, true) + 1;
      status = this.copyRange(ns, i, at, blocks, COPY_PRINFOR.get(cdw12));
      if (status !== NvmeStatus.success) {
        // The lowest range that was not copied completely.
        command.result = i;
        return status;
      }
      at += blocks;
    }
    return this.settleWrite(command, ns);
  }

  /** Sizes, ranges and protection settings of a Copy, before anything is written. */
  private checkCopy(command: Command, ns: Namespace, ranges: number): number {
    const view = this.listView;
    let total = 0;
    for (let i = 0; i < ranges; i++) {
      const at = i * COPY_RANGE_0_BYTES;
      const slba = view.getUint32(at + 12, true) * TWO_32 + view.getUint32(at + 8, true);
      const blocks = view.getUint16(at + 16, true) + 1;
      if (blocks > COPY_MSSRL) return NvmeStatus.commandSizeLimitExceeded;
      if (slba + blocks > ns.blocks) return NvmeStatus.lbaOutOfRange;
      total += blocks;
      if (ns.piType === 0) continue;
      const prinfo = COPY_PRINFOR.get(command.cdw12);
      const status = checkPrinfo(ns, prinfo, slba, view.getUint32(at + 24, true));
      if (status !== NvmeStatus.success) return status;
    }
    if (total > COPY_MCL) return NvmeStatus.commandSizeLimitExceeded;
    if (command.slba + total > ns.blocks) return NvmeStatus.lbaOutOfRange;
    if (ns.piType === 0) return NvmeStatus.success;
    return checkPrinfo(ns, COPY_PRINFOW.get(command.cdw12), command.slba, command.cdw14);
  }

  private copyRange(
    ns: Namespace,
    index: number,
    target: number,
    blocks: number,
    prinfor: number,
  ): number {
    const view = this.listView;
    const at = index * COPY_RANGE_0_BYTES;
    const slba = view.getUint32(at + 12, true) * TWO_32 + view.getUint32(at + 8, true);
    this.sourceTags.set(
      prinfor,
      view.getUint32(at + 24, true),
      view.getUint16(at + 28, true),
      view.getUint16(at + 30, true),
    );
    const runMax = runBlocksMax(ns);
    for (let done = 0; done < blocks; ) {
      const run = Math.min(blocks - done, runMax);
      let status = this.runs.load(ns, slba + done, run, this.media);
      if (status !== NvmeStatus.success) return status;
      if (ns.piType !== 0) {
        status = this.runs.check(ns, run, this.sourceTags, this.media);
        if (status !== NvmeStatus.success) return status;
        if (this.tags.generates) this.runs.generate(ns, run, this.tags, this.media);
        else status = this.runs.check(ns, run, this.tags, this.media);
        if (status !== NvmeStatus.success) return status;
      }
      status = this.runs.save(ns, target + done, run, this.media);
      if (status !== NvmeStatus.success) return status;
      done += run;
    }
    this.count(Counter.bytesRead, blocks * ns.lbaBytes);
    this.count(Counter.bytesWritten, blocks * ns.lbaBytes);
    return NvmeStatus.success;
  }

  private writeMetadata(command: Command, ns: Namespace): number {
    const { slba, blocks } = command;
    const prinfo = this.takeTags(command);
    const generates = ns.piType !== 0 && (prinfo & PRACT) !== 0;
    const withMetadata = !(generates && ns.metadataBytes === PI_BYTES);
    let status = this.mapBuffers(command, ns, Direction.pull, withMetadata);
    if (status !== NvmeStatus.success) return status;
    if (ns.piType !== 0) status = checkPrinfo(ns, prinfo, slba, this.tags.refTag);
    if (status !== NvmeStatus.success) return status;
    const { data, metadata } = this.pointer;
    const runMax = runBlocksMax(ns);
    for (let done = 0; done < blocks; ) {
      const run = Math.min(blocks - done, runMax);
      status = this.runs.pull(ns, run, data, metadata, withMetadata, this.host);
      if (status !== NvmeStatus.success) return status;
      if (generates) this.runs.generate(ns, run, this.tags, this.host);
      else if (ns.piType !== 0) status = this.runs.check(ns, run, this.tags, this.host);
      if (status !== NvmeStatus.success) return status;
      status = this.runs.save(ns, slba + done, run, this.host);
      if (status !== NvmeStatus.success) return status;
      done += run;
    }
    return NvmeStatus.success;
  }

  private readMetadata(command: Command, ns: Namespace): number {
    const { slba, blocks } = command;
    const prinfo = this.takeTags(command);
    const strips = ns.piType !== 0 && (prinfo & PRACT) !== 0 && ns.metadataBytes === PI_BYTES;
    let status = this.mapBuffers(command, ns, Direction.push, !strips);
    if (status !== NvmeStatus.success) return status;
    if (ns.piType !== 0) status = checkPrinfo(ns, prinfo, slba, this.tags.refTag);
    if (status !== NvmeStatus.success) return status;
    const { data, metadata } = this.pointer;
    const runMax = runBlocksMax(ns);
    for (let done = 0; done < blocks; ) {
      const run = Math.min(blocks - done, runMax);
      status = this.runs.load(ns, slba + done, run, this.media);
      if (status !== NvmeStatus.success) return status;
      if (ns.piType !== 0) status = this.runs.check(ns, run, this.tags, this.media);
      if (status !== NvmeStatus.success) return status;
      status = this.runs.push(ns, run, data, metadata, !strips, this.media);
      if (status !== NvmeStatus.success) return status;
      done += run;
    }
    return NvmeStatus.success;
  }

  /** Walks DPTR, and MPTR where metadata has a buffer of its own. Returns an NVMe status. */
  private mapBuffers(
    command: Command,
    ns: Namespace,
    direction: number,
    withMetadata: boolean,
  ): number {
    const bytes = command.blocks * (withMetadata ? ns.transferBytes : ns.lbaBytes);
    if (bytes > this.maxTransferBytes) return NvmeStatus.invalidField;
    const status = this.pointer.mapData(command, direction, bytes);
    if (status !== NvmeStatus.success || !withMetadata || ns.extended) return status;
    return this.pointer.mapMetadata(command, direction, command.blocks * ns.metadataBytes);
  }

  /** Loads the tags of CDW12, CDW14 and CDW15 and returns PRINFO. */
  private takeTags(command: Command): number {
    const prinfo = IO_PRINFO.get(command.cdw12);
    const { cdw15 } = command;
    this.tags.set(prinfo, command.cdw14, IO_LBAT.get(cdw15), IO_LBATM.get(cdw15));
    return prinfo;
  }

  private count(counter: number, by: number): void {
    this.counters[counter] = (this.counters[counter] as number) + by;
  }
}

const hasFua = (command: Command): boolean => IO_FUA.get(command.cdw12) !== 0;

function sameBytes(a: Uint8Array, b: Uint8Array, offset: number, length: number): boolean {
  const end = offset + length;
  for (let i = offset; i < end; i++) if (a[i] !== b[i]) return false;
  return true;
}
