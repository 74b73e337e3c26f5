/**
 * Fused Compare and Write: two adjacent commands of one queue that are done as one. NVM Express
 * Base Specification 2.0, section 3.4.2; NVM Command Set 1.0, section 2.1.
 *
 *     first arrives -> parked -> second arrives -> both checked -> memory and data of both
 *       -> the namespace to oneself (exclusive.hot.ts) -> compare -> write -> both answered
 *
 * Adjacent means: the next capsule on the connection, since transports deliver in order. A first
 * without its second, and a second without its first, are aborted (Missing Fused Command); when one
 * of a pair fails, so does the other (Failed Fused Command), but for a write that fails after its
 * compare was equal. Both are answered at the end, the first one first.
 *
 * A pair is one logical block (ACWU 0). It takes no part in waiting for buffers: two pairs that
 * each hold one of two buffers would wait for ever, so it is interrupted, and the host tries again.
 */

import { BlockStatus } from "../block/index.ts";
import { Fuse, IO_NLB, NvmeStatus, NvmOpcode, SqeOffset, STATUS_DNR } from "../spec/nvme/index.ts";
import type { NamespaceBinding } from "./binding.hot.ts";
import { checkTransfer, countIo, type IoQueue, submitTransfer } from "./io.hot.ts";
import type { Namespace } from "./namespace.ts";
import { WAIT } from "./orchestrator.hot.ts";
import { RequestState, type TargetRequest } from "./request.hot.ts";
import { nvmeStatusOfBlock } from "./status.ts";

/** What pairs need of their queue. */
export interface FusedQueue extends IoQueue {
  readonly isClosed: boolean;
  /** A first command that waits for its second. */
  fuseFirst: TargetRequest | null;
  /** Memory for an I/O's data at once: an NVMe status, or `WAIT`. */
  placeNow(request: TargetRequest, binding: NamespaceBinding): number;
  /** Moves data in if it is not here; `execute` follows. */
  transfer(request: TargetRequest): void;
}

const DNR = STATUS_DNR;
/** Blocks of a pair: ACWU + 1. */
const BLOCKS_MAX = 1;
const { success } = NvmeStatus;

/**
 * A command has FUSE set, or a first one waits. `status` is what parsing said. False: it is a
 * command by itself.
 */
export function takeFused(queue: FusedQueue, request: TargetRequest, status: number): boolean {
  const first = queue.fuseFirst;
  queue.fuseFirst = null;
  if (request.isIo && request.fuse === Fuse.second) {
    if (first !== null) startPair(queue, first, request, status);
    else queue.complete(request, NvmeStatus.abortedMissingFused | DNR);
    return true;
  }
  if (first !== null) queue.complete(first, NvmeStatus.abortedMissingFused | DNR);
  if (!request.isIo || request.fuse !== Fuse.first) return false;
  // What is wrong with it is told when its second is here, which fails with it.
  request.abortStatus = status;
  request.state = RequestState.parked;
  queue.fuseFirst = request;
  return true;
}

function startPair(
  queue: FusedQueue,
  first: TargetRequest,
  second: TargetRequest,
  parsed: number,
): void {
  let status = first.abortStatus;
  if (status === success) status = checkHalf(queue, first, NvmOpcode.compare);
  if (status !== success) {
    answer(queue, first, second, status, NvmeStatus.abortedFailedFused | DNR);
    return;
  }
  status = parsed === success ? checkHalf(queue, second, NvmOpcode.write) : parsed;
  if (status === success && !isSameRange(first, second)) status = NvmeStatus.invalidField | DNR;
  if (status !== success) {
    answer(queue, first, second, NvmeStatus.abortedFailedFused | DNR, status);
    return;
  }
  first.partner = second;
  second.partner = first;
  first.isReady = false;
  second.isReady = false;
  status = queue.placeNow(first, first.binding as NamespaceBinding);
  if (status === success) status = queue.placeNow(second, second.binding as NamespaceBinding);
  if (status !== success) {
    unlink(first);
    const reason = status === WAIT ? NvmeStatus.commandInterrupted : status;
    answer(queue, first, second, reason, NvmeStatus.abortedFailedFused);
    return;
  }
  queue.transfer(first);
  // The transport may have found at once that it cannot; nobody has the second then.
  if (second.partner !== null) queue.transfer(second);
  else queue.complete(second, second.abortStatus);
}

/** Checks one of the two as if it were alone, and that it may be in a pair. */
function checkHalf(queue: FusedQueue, request: TargetRequest, opcode: number): number {
  if (request.opcode !== opcode) return NvmeStatus.invalidField | DNR;
  const status = checkTransfer(queue, request);
  if (status !== success) return status;
  const blocks = IO_NLB.get(request.dword(SqeOffset.cdw12)) + 1;
  return blocks > BLOCKS_MAX ? NvmeStatus.atomicWriteUnitExceeded | DNR : success;
}

function isSameRange(a: TargetRequest, b: TargetRequest): boolean {
  return (
    a.nsid === b.nsid &&
    a.dword(SqeOffset.cdw10) === b.dword(SqeOffset.cdw10) &&
    a.dword(SqeOffset.cdw11) === b.dword(SqeOffset.cdw11) &&
    IO_NLB.get(a.dword(SqeOffset.cdw12)) === IO_NLB.get(b.dword(SqeOffset.cdw12))
  );
}

function unlink(request: TargetRequest): void {
  const { partner } = request;
  if (partner !== null) partner.partner = null;
  request.partner = null;
}

/** Answers both, the first one first. */
function answer(
  queue: FusedQueue,
  first: TargetRequest,
  second: TargetRequest,
  firstStatus: number,
  secondStatus: number,
): void {
  queue.complete(first, firstStatus);
  queue.complete(second, secondStatus);
}

/** One of the two failed before the pair ran: on its way, or taken by an abort. */
export function failHalf(queue: FusedQueue, request: TargetRequest, status: number): void {
  const { partner } = request;
  unlink(request);
  queue.complete(request, status);
  if (partner === null) return;
  partner.abortStatus = NvmeStatus.abortedFailedFused;
  // What the transport moves data for ends when it is done.
  if (partner.isReady) queue.complete(partner, partner.abortStatus);
}

/** The data of one of the two is here. */
export function halfReady(queue: FusedQueue, request: TargetRequest, namespace: Namespace): void {
  const { partner } = request;
  request.namespace = namespace;
  request.isReady = true;
  request.state = RequestState.parked;
  if (partner === null || !partner.isReady) return;
  const first = request.fuse === Fuse.first ? request : partner;
  first.queue = queue;
  namespace.exclusive.request(first);
}

/** The namespace is this pair's alone. */
export function runPair(queue: FusedQueue, first: TargetRequest): void {
  const namespace = first.namespace as Namespace;
  const second = first.partner as TargetRequest;
  first.state = RequestState.executing;
  second.state = RequestState.executing;
  if (submitTransfer(queue, first, namespace)) return;
  endPair(queue, first, NvmeStatus.dataTransferError, NvmeStatus.abortedFailedFused);
}

/** The bio of one of the two ended. */
export function halfDone(queue: FusedQueue, request: TargetRequest, blockStatus: number): void {
  const namespace = request.namespace as Namespace;
  const isOk = blockStatus === BlockStatus.ok;
  const status = isOk ? success : nvmeStatusOfBlock(blockStatus, request.fuse === Fuse.second);
  if (request.fuse === Fuse.second) {
    if (isOk) countIo(request, namespace);
    endPair(queue, request.partner as TargetRequest, success, status);
    return;
  }
  const outcome = isOk ? request.abortStatus : status;
  const goesOn = outcome === success && !queue.isClosed;
  const second = request.partner as TargetRequest;
  if (goesOn && submitTransfer(queue, second, namespace)) return;
  endPair(queue, request, outcome, NvmeStatus.abortedFailedFused | DNR);
}

function endPair(
  queue: FusedQueue,
  first: TargetRequest,
  firstStatus: number,
  secondStatus: number,
): void {
  const { exclusive } = first.namespace as Namespace;
  const second = first.partner as TargetRequest;
  unlink(first);
  answer(queue, first, second, firstStatus, secondStatus);
  exclusive.finish();
}
