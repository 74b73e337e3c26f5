/**
 * I/O commands of the NVM command set: Read, Write, Flush, Compare, Write Zeroes, Dataset
 * Management, Verify and Copy, as bios. NVM Command Set 1.0, section 3.2.
 *
 * Two steps per command: `startIo` checks it and asks the queue for memory; `continueIo` runs when
 * the memory is there (and inbound data in it) and submits the bio. Dataset Management comes back
 * here once per range.
 *
 * Reservation commands are the control plane's. Leaves out: Write Uncorrectable; protection
 * information of the host's own (PRINFO is refused unless it asks for nothing; the block queue
 * protects, see namespace.ts).
 */

import {
  type Bio,
  BioFlag,
  BioOp,
  type BioOwner,
  BlockStatus,
  QueueFeature,
} from "../block/index.ts";
import { getU64LE, Span } from "../core/index.ts";
import {
  COPY_RANGE_0_BYTES,
  DSM_AD,
  DSM_NR,
  DSM_RANGE_BYTES,
  DsmRange,
  IO_DEAC,
  IO_FUA,
  IO_NLB,
  NvmeStatus,
  NvmOpcode,
  SqeOffset,
  STATUS_DNR,
} from "../spec/nvme/index.ts";
import type { NamespaceBinding } from "./binding.hot.ts";
import type { DirectMemory } from "./channel.ts";
import {
  addCopyRange,
  beginCopy,
  checkCopy,
  copyListBytes,
  copyStep,
  fillCopy,
} from "./copy.hot.ts";
import type { CopyRun } from "./copy-run.ts";
import type { ExclusiveQueue } from "./exclusive.hot.ts";
import { GATE_CLASS } from "./gate.hot.ts";
import type { Namespace } from "./namespace.ts";
import { checkLength } from "./parse.hot.ts";
import { Placement, type TargetRequest } from "./request.hot.ts";

/** What an I/O needs of its queue. */
export interface IoQueue extends BioOwner, ExclusiveQueue {
  readonly namespaces: (Namespace | null)[];
  readonly bindings: (NamespaceBinding | null)[];
  readonly direct: DirectMemory | null;
  readonly transferMax: number;
  /** Finds memory the disk can reach, then data, then calls {@link continueIo}. */
  place(request: TargetRequest): void;
  /** The same with memory that the CPU can reach. */
  fetchForHandler(request: TargetRequest): void;
  complete(request: TargetRequest, status: number): void;
  /** Lets the transport read the store. */
  readStore(request: TargetRequest): void;
  /** Gives back the memory of the data that came with the command. */
  releaseData(request: TargetRequest): void;
  /** Gives the command to the control plane. */
  handOver(request: TargetRequest): void;
}

const DNR = STATUS_DNR;
const NSID_BROADCAST = 0xffff_ffff;

/**
 * Finds the command's namespace, if this controller may do it there now. Returns an NVMe status; on
 * success the binding is the request's.
 */
function checkNamespace(queue: IoQueue, request: TargetRequest): number {
  const namespace = queue.namespaces[request.nsid];
  if (namespace === null || namespace === undefined) {
    // Flush of all namespaces is not offered (VWC bits 2:1 say so).
    const isBroadcast = request.nsid === NSID_BROADCAST && request.opcode === NvmOpcode.flush;
    return (isBroadcast ? NvmeStatus.invalidField : NvmeStatus.invalidNamespaceOrFormat) | DNR;
  }
  const binding = queue.bindings[request.nsid] as NamespaceBinding;
  const gateClass = GATE_CLASS[request.opcode];
  if ((binding.gate & gateClass) !== 0) return binding.refusalOf(gateClass);
  request.binding = binding;
  return NvmeStatus.success;
}

/** Checks a command and starts it. */
export function startIo(queue: IoQueue, request: TargetRequest): void {
  const status = checkNamespace(queue, request);
  if (status !== NvmeStatus.success) {
    queue.complete(request, status);
    return;
  }
  const namespace = queue.namespaces[request.nsid] as Namespace;
  switch (request.opcode) {
    case NvmOpcode.read:
    case NvmOpcode.write:
    case NvmOpcode.compare:
      startTransfer(queue, request, namespace);
      return;
    case NvmOpcode.flush:
    case NvmOpcode.writeZeroes:
    case NvmOpcode.verify:
      startWithoutData(queue, request, namespace);
      return;
    case NvmOpcode.datasetManagement:
      startRanges(queue, request);
      return;
    case NvmOpcode.copy:
      startCopy(queue, request);
      return;
    case NvmOpcode.reservationRegister:
    case NvmOpcode.reservationReport:
    case NvmOpcode.reservationAcquire:
    case NvmOpcode.reservationRelease:
      queue.handOver(request);
      return;
    default:
      queue.complete(request, NvmeStatus.invalidOpcode | DNR);
  }
}

function startTransfer(queue: IoQueue, request: TargetRequest, namespace: Namespace): void {
  const status = checkData(queue, request, namespace);
  if (status !== NvmeStatus.success) queue.complete(request, status);
  else queue.place(request);
}

/** Range and length of a read, write or compare. Returns an NVMe status. */
function checkData(queue: IoQueue, request: TargetRequest, namespace: Namespace): number {
  const blocks = IO_NLB.get(request.dword(SqeOffset.cdw12)) + 1;
  const bytes = blocks * namespace.blockBytes;
  const status = checkRange(request, namespace, blocks);
  if (status !== NvmeStatus.success) return status;
  if (bytes > queue.transferMax) return NvmeStatus.invalidField | DNR;
  return checkLength(request, bytes);
}

/** All that `startIo` checks of a read, write or compare. Returns an NVMe status. */
export function checkTransfer(queue: IoQueue, request: TargetRequest): number {
  const status = checkNamespace(queue, request);
  if (status !== NvmeStatus.success) return status;
  return checkData(queue, request, queue.namespaces[request.nsid] as Namespace);
}

function startWithoutData(queue: IoQueue, request: TargetRequest, namespace: Namespace): void {
  let status: number = checkLength(request, 0);
  if (status === NvmeStatus.success && request.opcode !== NvmOpcode.flush) {
    const blocks = IO_NLB.get(request.dword(SqeOffset.cdw12)) + 1;
    status = checkRange(request, namespace, blocks);
  }
  if (status !== NvmeStatus.success) queue.complete(request, status);
  else continueIo(queue, request);
}

/** Ranges are read by the CPU: host memory, whatever the namespace prefers. */
function startRanges(queue: IoQueue, request: TargetRequest): void {
  const count = DSM_NR.get(request.dword(SqeOffset.cdw10)) + 1;
  const status = checkLength(request, count * DSM_RANGE_BYTES);
  if (status !== NvmeStatus.success) {
    queue.complete(request, status);
    return;
  }
  request.rangeCount = count;
  queue.fetchForHandler(request);
}

/** The list of ranges is read by the CPU, as that of Dataset Management. */
function startCopy(queue: IoQueue, request: TargetRequest): void {
  const listBytes = copyListBytes(request);
  let status = queue.direct === null ? Math.max(0, -listBytes) : NvmeStatus.invalidOpcode | DNR;
  if (status === NvmeStatus.success) status = checkLength(request, listBytes);
  if (status !== NvmeStatus.success) {
    queue.complete(request, status);
    return;
  }
  request.rangeCount = listBytes / COPY_RANGE_0_BYTES;
  queue.fetchForHandler(request);
}

/** The list is here: checks it, and asks for a buffer. */
function readCopyList(queue: IoQueue, request: TargetRequest, namespace: Namespace): void {
  const run = beginCopy(request);
  const { rangeCount } = request;
  request.rangeCount = 0;
  let status: number = NvmeStatus.success;
  for (let i = 0; i < rangeCount && status === NvmeStatus.success; i++) {
    request.result0 = i;
    if (!rangeBytes(queue, request, i * COPY_RANGE_0_BYTES, COPY_RANGE_0_BYTES)) {
      status = NvmeStatus.dataTransferError;
    } else status = addCopyRange(run, namespace, rangeSpan);
  }
  if (status === NvmeStatus.success) status = checkCopy(run, namespace);
  queue.releaseData(request);
  if (status !== NvmeStatus.success) {
    queue.complete(request, status);
    return;
  }
  request.result0 = 0;
  request.isCopying = true;
  // From here on it moves data of its own.
  request.isInbound = false;
  request.inCapsuleOffset = -1;
  request.dataBytes = run.pieceMax * namespace.blockBytes;
  queue.place(request);
}

/** A read or a write of a copy ended well: the next one, or the answer. */
export function copyOn(queue: IoQueue, request: TargetRequest, namespace: Namespace): void {
  const run = request.copy as CopyRun;
  if (!copyStep(run)) {
    continueIo(queue, request);
    return;
  }
  namespace.reads++;
  namespace.writes++;
  namespace.readBytes += run.totalBytes;
  namespace.writtenBytes += run.totalBytes;
  request.dataBytes = 0;
  queue.complete(request, NvmeStatus.success);
}

/** A copy failed: says which range was the first that is not copied whole. */
export function copyFailed(queue: IoQueue, request: TargetRequest, status: number): void {
  request.result0 = (request.copy as CopyRun).index;
  queue.complete(request, status);
}

function checkRange(request: TargetRequest, namespace: Namespace, blocks: number): number {
  const lba = startLba(request);
  return lba + blocks <= namespace.blocks ? NvmeStatus.success : NvmeStatus.lbaOutOfRange | DNR;
}

function startLba(request: TargetRequest): number {
  return getU64LE(request.view, request.capsuleBase + SqeOffset.cdw10);
}

/** Memory and data are there: submits the next bio. */
export function continueIo(queue: IoQueue, request: TargetRequest): void {
  const namespace = queue.namespaces[request.nsid];
  const { bio } = request;
  if (namespace === null || namespace === undefined || bio === null) {
    // Taken away while the data was on its way.
    queue.complete(request, NvmeStatus.invalidNamespaceOrFormat | DNR);
    return;
  }
  const { exclusive } = namespace;
  if (exclusive.isHolding) {
    request.queue = queue;
    exclusive.hold(request);
    return;
  }
  if (request.placement === Placement.store) {
    request.diskOffset = startLba(request) * namespace.blockBytes;
    request.namespace = namespace;
    exclusive.inFlight++;
    queue.readStore(request);
    return;
  }
  bio.owner = queue;
  bio.tag = request.tag;
  let status: number = BlockStatus.ok;
  switch (request.opcode) {
    case NvmOpcode.read:
      bio.op = BioOp.read;
      status = fillTransfer(queue, request, namespace, bio);
      break;
    case NvmOpcode.write:
      bio.op = BioOp.write;
      status = fillTransfer(queue, request, namespace, bio);
      break;
    case NvmOpcode.compare:
      bio.op = BioOp.compare;
      status = fillTransfer(queue, request, namespace, bio);
      break;
    case NvmOpcode.flush:
      bio.op = BioOp.flush;
      break;
    case NvmOpcode.writeZeroes:
      fillRange(request, namespace, bio, BioOp.writeZeroes);
      break;
    case NvmOpcode.verify:
      fillRange(request, namespace, bio, BioOp.verify);
      break;
    case NvmOpcode.copy:
      if (!request.isCopying) {
        readCopyList(queue, request, namespace);
        return;
      }
      status = fillCopy(request, namespace, bio);
      break;
    default:
      if (!nextRange(queue, request, namespace, bio)) return;
  }
  if (status === BlockStatus.ok) {
    request.namespace = namespace;
    exclusive.inFlight++;
    namespace.queue.submit(bio);
    return;
  }
  bio.reset();
  queue.complete(request, NvmeStatus.dataTransferError);
}

/**
 * Submits the bio of half a fused pair, whose namespace is its own. False: its memory cannot be
 * named.
 */
export function submitTransfer(
  queue: IoQueue,
  request: TargetRequest,
  namespace: Namespace,
): boolean {
  const bio = request.bio as Bio;
  bio.owner = queue;
  bio.tag = request.tag;
  bio.op = request.opcode === NvmOpcode.compare ? BioOp.compare : BioOp.write;
  if (fillTransfer(queue, request, namespace, bio) !== BlockStatus.ok) {
    bio.reset();
    return false;
  }
  request.namespace = namespace;
  namespace.exclusive.inFlight++;
  namespace.queue.submit(bio);
  return true;
}

/** Counts a command that succeeded, for the SMART log. */
export function countIo(request: TargetRequest, namespace: Namespace): void {
  if (request.opcode === NvmOpcode.read) {
    namespace.reads++;
    namespace.readBytes += request.dataBytes;
  } else if (request.opcode === NvmOpcode.write) {
    namespace.writes++;
    namespace.writtenBytes += request.dataBytes;
  }
}

function fillTransfer(
  queue: IoQueue,
  request: TargetRequest,
  namespace: Namespace,
  bio: Bio,
): number {
  bio.sector = startLba(request) * namespace.sectorsPerBlock;
  if (isForced(request)) bio.flags |= BioFlag.fua;
  if (request.placement !== Placement.direct) {
    return bio.addMemory(request.diskMemory, request.diskOffset, request.dataBytes);
  }
  for (let i = 0; i < request.remoteCount; i++) {
    const memory = queue.direct?.find(request.remoteKeys[i]) ?? null;
    if (memory === null) return BlockStatus.invalid;
    const status = bio.addMemory(memory, request.remoteAddresses[i], request.remoteLengths[i]);
    if (status !== BlockStatus.ok) return status;
  }
  return BlockStatus.ok;
}

function fillRange(request: TargetRequest, namespace: Namespace, bio: Bio, op: number): void {
  const dword = request.dword(SqeOffset.cdw12);
  const blocks = IO_NLB.get(dword) + 1;
  bio.op = op;
  bio.setRange(startLba(request) * namespace.sectorsPerBlock, blocks * namespace.blockBytes);
  if (isForced(request)) bio.flags |= BioFlag.fua;
  if (op !== BioOp.writeZeroes || IO_DEAC.get(dword) === 0) return;
  // A hint: where the disk cannot, zeros are written.
  if ((namespace.queue.features & QueueFeature.unmapZeroes) !== 0) bio.flags |= BioFlag.unmap;
}

/** FUA, or a write while the host has the volatile write cache off. */
function isForced(request: TargetRequest): boolean {
  if (IO_FUA.get(request.dword(SqeOffset.cdw12)) !== 0) return true;
  const { opcode, binding } = request;
  const isWrite = opcode === NvmOpcode.write || opcode === NvmOpcode.writeZeroes;
  return isWrite && binding?.writesThrough === true;
}

const rangeSpan = new Span();

/** Prepares the bio for the next range. False: there was none, and the command is answered. */
function nextRange(
  queue: IoQueue,
  request: TargetRequest,
  namespace: Namespace,
  bio: Bio,
): boolean {
  // A deallocate is a hint: a namespace that cannot discard takes it and does nothing.
  const canDiscard = (namespace.queue.features & QueueFeature.discard) !== 0;
  const discards = canDiscard && DSM_AD.get(request.dword(SqeOffset.cdw11)) !== 0;
  while (discards && request.rangeIndex < request.rangeCount) {
    const at = request.rangeIndex * DSM_RANGE_BYTES;
    request.rangeIndex++;
    if (!rangeBytes(queue, request, at, DSM_RANGE_BYTES)) {
      queue.complete(request, NvmeStatus.dataTransferError);
      return false;
    }
    const { bytes, offset } = rangeSpan;
    const blocks = readU32(bytes, offset + DsmRange.LENGTH.offset);
    const lba =
      readU32(bytes, offset + DsmRange.SLBA.offset) +
      readU32(bytes, offset + DsmRange.SLBA.offset + 4) * 2 ** 32;
    if (lba + blocks > namespace.blocks) {
      queue.complete(request, NvmeStatus.lbaOutOfRange | DNR);
      return false;
    }
    if (blocks === 0) continue;
    bio.op = BioOp.discard;
    bio.setRange(lba * namespace.sectorsPerBlock, blocks * namespace.blockBytes);
    return true;
  }
  // Access hints without a deallocate are advice; taking none of it is allowed.
  request.rangeIndex = request.rangeCount;
  queue.complete(request, NvmeStatus.success);
  return false;
}

/** Points `rangeSpan` at the range at `at` of the list. */
function rangeBytes(queue: IoQueue, request: TargetRequest, at: number, length: number): boolean {
  if (request.placement === Placement.capsule) {
    const offset = request.capsuleBase + request.inCapsuleOffset + at;
    rangeSpan.set(request.capsule, offset, length);
    return true;
  }
  if (request.placement !== Placement.direct) {
    return request.netMemory.bytes(request.netOffset + at, length, rangeSpan);
  }
  let start = 0;
  for (let i = 0; i < request.remoteCount; i++) {
    const partBytes = request.remoteLengths[i];
    if (at >= start && at + length <= start + partBytes) {
      const memory = queue.direct?.find(request.remoteKeys[i]) ?? null;
      const offset = request.remoteAddresses[i] + at - start;
      return memory?.bytes(offset, length, rangeSpan) ?? false;
    }
    start += partBytes;
  }
  return false;
}

function readU32(bytes: Uint8Array, at: number): number {
  return (bytes[at] | (bytes[at + 1] << 8) | (bytes[at + 2] << 16) | (bytes[at + 3] << 24)) >>> 0;
}
