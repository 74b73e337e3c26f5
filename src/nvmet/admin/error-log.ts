/**
 * The Error Information log of a controller: the last errors, newest first. NVM Express Base
 * Specification 2.0, section 5.16.1.2.
 *
 * Where the field is known that was wrong, the entry names its first byte (and bit): from the
 * status and the command, since nothing on the way notes it. Leaves out: fields of admin commands'
 * parameters that one status does not tell apart (FFFFh: no location), errors inside data.
 */

import { viewOf } from "../../core/index.ts";
import {
  AdminOpcode,
  ErrorLog as Entry,
  ERROR_LOG_ENTRY,
  LOCATION_NONE,
  NvmeStatus,
  NvmOpcode,
  SqeOffset,
  STATUS_DNR,
} from "../../spec/nvme/index.ts";
import { FLAGS_PSDT_MASK, FLAGS_PSDT_SGL, SglId, SglOffset } from "../../spec/nvmf/index.ts";
import type { TargetRequest } from "../request.hot.ts";

/** Errors that are kept (ELPE + 1). */
export const ERROR_LOG_ENTRIES = 64;

const ENTRY_BYTES = ERROR_LOG_ENTRY.sizeBytes;

export class ErrorInformation {
  /** Errors since the controller was made. */
  count = 0;
  private readonly ring = new Uint8Array(ERROR_LOG_ENTRIES * ENTRY_BYTES);
  private readonly view = viewOf(this.ring);

  /** `trtype`: TRTYPE of the transport that brought the command. */
  record(qid: number, request: TargetRequest, trtype: number): void {
    const at = (this.count % ERROR_LOG_ENTRIES) * ENTRY_BYTES;
    this.count++;
    const { view } = this;
    this.ring.fill(0, at, at + ENTRY_BYTES);
    Entry.ERROR_COUNT.set(view, this.count, at);
    Entry.SQID.set(view, qid, at);
    Entry.CID.set(view, request.cid, at);
    Entry.STATUS.set(view, request.status << 1, at);
    Entry.LOCATION.set(view, locationOf(request), at);
    // 0 for errors that are not the transport's.
    if (isOfTransport(request.status)) Entry.TRTYPE.set(view, trtype, at);
    if (request.isIo && namesBlocks(request.opcode)) {
      for (let i = 0; i < LBA_BYTES; i += 4) {
        const dword = request.dword(SqeOffset.cdw10 + i);
        view.setUint32(at + Entry.LBA.offset + i, dword, true);
      }
    }
    Entry.NSID.set(view, request.nsid, at);
    Entry.OPC.set(view, request.opcode, at);
  }

  /** All entries, newest first; unused ones are zero. */
  page(): Uint8Array {
    const bytes = new Uint8Array(this.ring.length);
    const kept = Math.min(this.count, ERROR_LOG_ENTRIES);
    for (let i = 0; i < kept; i++) {
      const at = ((this.count - 1 - i) % ERROR_LOG_ENTRIES) * ENTRY_BYTES;
      bytes.set(this.ring.subarray(at, at + ENTRY_BYTES), i * ENTRY_BYTES);
    }
    return bytes;
  }
}

const LBA_BYTES = 8;
/** Bytes of a command, with a bit in 10:8 where one is meant. */
const AT_FLAGS_FUSE = SqeOffset.flags;
const AT_FLAGS_PSDT = SqeOffset.flags | (6 << 8);
const AT_SGL_LENGTH = SqeOffset.sgl1 + SglOffset.LENGTH;
const AT_SGL_ID = SqeOffset.sgl1 + SglOffset.ID;
const FUSE_RESERVED = 3;

/** Data that was damaged on its way, or did not come. */
function isOfTransport(status: number): boolean {
  const code = status & ~STATUS_DNR;
  return code === NvmeStatus.transientTransportError || code === NvmeStatus.dataTransferError;
}

/** Read, write and their like: SLBA in CDW10 and 11, NLB in CDW12. */
function namesBlocks(opcode: number): boolean {
  return (
    opcode === NvmOpcode.read ||
    opcode === NvmOpcode.write ||
    opcode === NvmOpcode.compare ||
    opcode === NvmOpcode.verify ||
    opcode === NvmOpcode.writeZeroes
  );
}

/** Parameter Error Location of a command that was answered with `request.status`. */
function locationOf(request: TargetRequest): number {
  switch (request.status & ~STATUS_DNR) {
    case NvmeStatus.invalidOpcode:
      return 0;
    case NvmeStatus.invalidNamespaceOrFormat:
      return SqeOffset.nsid;
    case NvmeStatus.sglDescriptorTypeInvalid:
      return AT_SGL_ID;
    case NvmeStatus.sglOffsetInvalid:
      return SqeOffset.sgl1;
    case NvmeStatus.dataSglLengthInvalid:
      return AT_SGL_LENGTH;
    case NvmeStatus.invalidLogPage:
      return SqeOffset.cdw10;
    case NvmeStatus.lbaOutOfRange:
      return request.isIo && namesBlocks(request.opcode) ? SqeOffset.cdw10 : LOCATION_NONE;
    case NvmeStatus.invalidField:
      return invalidFieldOf(request);
    default:
      return LOCATION_NONE;
  }
}

function invalidFieldOf(request: TargetRequest): number {
  const { view, capsuleBase, opcode, isIo } = request;
  const flags = view.getUint8(capsuleBase + SqeOffset.flags);
  if ((flags & FUSE_RESERVED) === FUSE_RESERVED) return AT_FLAGS_FUSE;
  if ((flags & FLAGS_PSDT_MASK) !== FLAGS_PSDT_SGL) return AT_FLAGS_PSDT;
  // Data in a capsule goes to the controller alone.
  const id = view.getUint8(capsuleBase + AT_SGL_ID);
  if (id === SglId.offsetData && !request.isInbound) return AT_SGL_ID;
  // More than MDTS allows.
  if (isIo && namesBlocks(opcode)) return SqeOffset.cdw12;
  return !isIo && opcode === AdminOpcode.identify ? SqeOffset.cdw10 : LOCATION_NONE;
}
