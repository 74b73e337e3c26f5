/**
 * Data of fabrics and admin commands: bytes that the CPU writes for a host, or reads from it,
 * wherever the transport has put them. Control plane.
 */

import { Span } from "../../core/index.ts";
import { NvmeStatus } from "../../spec/nvme/index.ts";
import { checkLength } from "../parse.hot.ts";
import type { TargetQueue } from "../queue.hot.ts";
import { Placement, type TargetRequest } from "../request.hot.ts";

const span = new Span();

/** Runs over the request's buffers, in order. False when one of them cannot be reached. */
function eachPart(
  queue: TargetQueue,
  request: TargetRequest,
  visit: (bytes: Uint8Array, offset: number, length: number, done: number) => void,
): boolean {
  if (request.placement === Placement.capsule) {
    const at = request.capsuleBase + request.inCapsuleOffset;
    visit(request.capsule, at, request.dataBytes, 0);
    return true;
  }
  if (request.placement !== Placement.direct) {
    if (!request.netMemory.bytes(request.netOffset, request.dataBytes, span)) return false;
    visit(span.bytes, span.offset, request.dataBytes, 0);
    return true;
  }
  let done = 0;
  for (let i = 0; i < request.remoteCount; i++) {
    const length = request.remoteLengths[i];
    const memory = queue.direct?.find(request.remoteKeys[i]) ?? null;
    if (memory === null || !memory.bytes(request.remoteAddresses[i], length, span)) return false;
    visit(span.bytes, span.offset, length, done);
    done += length;
  }
  return true;
}

/** Answers a command with `data`, which must be as long as the host's SGL says. */
export function answerWithData(queue: TargetQueue, request: TargetRequest, data: Uint8Array): void {
  const status = checkLength(request, data.length);
  if (status !== NvmeStatus.success) {
    queue.complete(request, status);
    return;
  }
  if (!queue.bufferForHandler(request)) return;
  const isWritten = eachPart(queue, request, (bytes, offset, length, done) => {
    bytes.set(data.subarray(done, done + length), offset);
  });
  queue.complete(request, isWritten ? NvmeStatus.success : NvmeStatus.dataTransferError);
}

/** A copy of the data that the host sent; null when it cannot be reached. */
export function receivedData(queue: TargetQueue, request: TargetRequest): Uint8Array | null {
  const data = new Uint8Array(request.dataBytes);
  const isRead = eachPart(queue, request, (bytes, offset, length, done) => {
    data.set(bytes.subarray(offset, offset + length), done);
  });
  return isRead ? data : null;
}
