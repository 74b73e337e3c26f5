/**
 * Reads a command out of its capsule: the common fields and the data pointer. It decides nothing
 * about execution; what the command needs is compared with what its SGL offers by `checkLength`.
 *
 * Allowed data pointers (NVMe RDMA Transport 1.0, section 3.3): one keyed data block, one data
 * block with an offset (in-capsule data), or a last segment with an offset whose descriptors,
 * keyed, are in the capsule. Lists in host memory do not exist on this transport. TCP has a length
 * in place of the keyed block (a transport data block), and no lists.
 *
 * Invariant: after a success every offset and length in the request lies inside the capsule or the
 * limits of its arrays.
 */

import { fitsNumber, getU64LE, NVMET_SGL_DESCRIPTORS_MAX } from "../core/index.ts";
import {
  DataDirection,
  dataDirection,
  NvmeStatus,
  SQE_BYTES,
  SqeOffset,
  STATUS_DNR,
  sglKey,
  sglKeyedLength,
  sglLength,
} from "../spec/nvme/index.ts";
import {
  FABRICS_OPCODE,
  FabricsSqe,
  FLAGS_PSDT_MASK,
  FLAGS_PSDT_SGL,
  SGL_BYTES,
  SglId,
  SglOffset,
} from "../spec/nvmf/index.ts";
import type { TargetRequest } from "./request.hot.ts";

const FUSE_MASK = 0x03;
const FUSE_RESERVED = 0x03;

/** Fills opcode, cid, nsid and the data pointer. Returns an NVMe status. */
export function parseCapsule(request: TargetRequest): number {
  const { view, capsuleBase } = request;
  if (request.capsuleBytes < SQE_BYTES) return NvmeStatus.invalidField | STATUS_DNR;
  request.opcode = view.getUint8(capsuleBase);
  request.cid = view.getUint16(capsuleBase + SqeOffset.cid, true);
  request.nsid = view.getUint32(capsuleBase + SqeOffset.nsid, true);
  // Fabrics commands say in FCTYPE which way their data goes.
  const directionByte =
    request.opcode === FABRICS_OPCODE
      ? view.getUint8(capsuleBase + FabricsSqe.FCTYPE)
      : request.opcode;
  request.isInbound = dataDirection(directionByte) === DataDirection.hostToController;
  const flags = view.getUint8(capsuleBase + SqeOffset.flags);
  request.fuse = flags & FUSE_MASK;
  if (request.fuse === FUSE_RESERVED) return NvmeStatus.invalidField | STATUS_DNR;
  // Fabrics has no PRPs: every command says SGL, also one without data.
  if ((flags & FLAGS_PSDT_MASK) !== FLAGS_PSDT_SGL) return NvmeStatus.invalidField | STATUS_DNR;
  return parseSgl(request, capsuleBase + SqeOffset.sgl1);
}

function parseSgl(request: TargetRequest, at: number): number {
  const id = request.view.getUint8(at + SglOffset.ID);
  switch (id) {
    case SglId.keyed:
    case SglId.keyedInvalidate:
      if (request.usesStream) break;
      return addKeyed(request, at, id);
    case SglId.offsetData:
      return setInCapsule(request, at);
    case SglId.offsetLastSegment:
      if (request.usesStream) break;
      return parseList(request, at);
    case SglId.transportData:
      if (!request.usesStream) break;
      request.sglBytes = sglLength(request.view, at);
      return NvmeStatus.success;
    default:
      // All zeros is what a command without data carries.
      if (id === 0 && sglLength(request.view, at) === 0) return NvmeStatus.success;
  }
  return NvmeStatus.sglDescriptorTypeInvalid | STATUS_DNR;
}

function addKeyed(request: TargetRequest, at: number, id: number): number {
  const { view } = request;
  const length = sglKeyedLength(view, at);
  if (length === 0) return NvmeStatus.success;
  // Above 2^53 an address would lose its low bits here, and the NIC would write somewhere else.
  if (!fitsNumber(view.getUint32(at + 4, true))) return NvmeStatus.invalidField | STATUS_DNR;
  const index = request.remoteCount;
  request.remoteAddresses[index] = getU64LE(view, at);
  request.remoteLengths[index] = length;
  request.remoteKeys[index] = sglKey(view, at);
  request.remoteCount = index + 1;
  request.sglBytes += length;
  if (id === SglId.keyedInvalidate) {
    // Of several, the last one counts (section 3.6.1).
    request.wantsInvalidate = true;
    request.invalidateKey = request.remoteKeys[index];
  }
  return NvmeStatus.success;
}

function setInCapsule(request: TargetRequest, at: number): number {
  const { view } = request;
  const offset = getU64LE(view, at);
  const length = sglLength(view, at);
  if (!request.isInbound) return NvmeStatus.invalidField | STATUS_DNR;
  if (offset + length > request.capsuleBytes - SQE_BYTES) {
    return NvmeStatus.sglOffsetInvalid | STATUS_DNR;
  }
  request.inCapsuleOffset = SQE_BYTES + offset;
  request.sglBytes = length;
  return NvmeStatus.success;
}

function parseList(request: TargetRequest, at: number): number {
  const { view, capsuleBase } = request;
  const offset = getU64LE(view, at);
  const length = sglLength(view, at);
  if (length === 0 || length % SGL_BYTES !== 0) {
    return NvmeStatus.invalidSglSegmentDescriptor | STATUS_DNR;
  }
  if (length / SGL_BYTES > NVMET_SGL_DESCRIPTORS_MAX) {
    return NvmeStatus.invalidNumberOfSglDescriptors | STATUS_DNR;
  }
  if (offset + length > request.capsuleBytes - SQE_BYTES) {
    return NvmeStatus.sglOffsetInvalid | STATUS_DNR;
  }
  const start = capsuleBase + SQE_BYTES + offset;
  for (let i = start; i < start + length; i += SGL_BYTES) {
    const id = view.getUint8(i + SglOffset.ID);
    if (id !== SglId.keyed && id !== SglId.keyedInvalidate) {
      return NvmeStatus.sglDescriptorTypeInvalid | STATUS_DNR;
    }
    const status = addKeyed(request, i, id);
    if (status !== NvmeStatus.success) return status;
  }
  return NvmeStatus.success;
}

/** Compares what the command moves with what its SGL offers. Returns an NVMe status. */
export function checkLength(request: TargetRequest, dataBytes: number): number {
  request.dataBytes = dataBytes;
  if (request.sglBytes === dataBytes) return NvmeStatus.success;
  return NvmeStatus.dataSglLengthInvalid | STATUS_DNR;
}
