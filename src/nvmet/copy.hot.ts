/**
 * Copy: ranges of a namespace to another place of it, without the data crossing the network. NVM
 * Command Set 1.0, section 3.2.2. Where the namespace uses peer memory, the data goes from the disk
 * to the provider and back, and never through host memory.
 *
 *     list of ranges arrives -> checked -> a buffer as for any I/O -> read a piece, write it, on
 *
 * Pieces are done in order, one at a time: ranges that overlap the destination see what earlier
 * pieces wrote. When one fails, dword 0 names the first range that was not copied whole.
 *
 * Leaves out: descriptor formats besides 0h (they serve protection information and other
 * namespaces), the loop transport (it has no memory of the target's own).
 */

import { type Bio, BioFlag, BioOp } from "../block/index.ts";
import { getU64LE, type Span } from "../core/index.ts";
import {
  COPY_FORMAT,
  COPY_FUA,
  COPY_NR,
  COPY_RANGE_0_BYTES,
  CopyRange0,
  NvmeStatus,
  SqeOffset,
  STATUS_DNR,
} from "../spec/nvme/index.ts";
import { COPY_RANGES_MAX, CopyRun } from "./copy-run.ts";
import type { Namespace } from "./namespace.ts";
import type { TargetRequest } from "./request.hot.ts";

/** Bytes of one range (MSSRL), and of a command (MCL). */
export const COPY_RANGE_BYTES_MAX = 1024 * 1024;
export const COPY_BYTES_MAX = 16 * 1024 * 1024;
/** Bytes of the buffer. */
const PIECE_BYTES_MAX = 128 * 1024;

const DNR = STATUS_DNR;
const { success } = NvmeStatus;

/** Bytes of the list of ranges; negative: the NVMe status to answer with. */
export function copyListBytes(request: TargetRequest): number {
  const cdw12 = request.dword(SqeOffset.cdw12);
  if (COPY_FORMAT.get(cdw12) !== 0) return -(NvmeStatus.invalidField | DNR);
  const count = COPY_NR.get(cdw12) + 1;
  if (count > COPY_RANGES_MAX) return -(NvmeStatus.commandSizeLimitExceeded | DNR);
  return count * COPY_RANGE_0_BYTES;
}

/** Begins with an empty list. */
export function beginCopy(request: TargetRequest): CopyRun {
  request.copy ??= new CopyRun();
  const run = request.copy;
  run.count = 0;
  run.index = 0;
  run.done = 0;
  run.isWriting = false;
  run.totalBytes = 0;
  run.pieceMax = 0;
  run.target = getU64LE(request.view, request.capsuleBase + SqeOffset.cdw10);
  return run;
}

/** Takes the next range of the list, at `span`. Returns an NVMe status. */
export function addCopyRange(run: CopyRun, namespace: Namespace, span: Span): number {
  const { bytes: list, offset } = span;
  const at = offset + CopyRange0.SLBA.offset;
  // Beyond 2^48 blocks it is out of range, whatever the rest says.
  if (list[at + 6] !== 0 || list[at + 7] !== 0) return NvmeStatus.lbaOutOfRange | DNR;
  let lba = 0;
  for (let i = 5; i >= 0; i--) lba = lba * 256 + list[at + i];
  const nlb = offset + CopyRange0.NLB.offset;
  const blocks = (list[nlb] | (list[nlb + 1] << 8)) + 1;
  const bytes = blocks * namespace.blockBytes;
  if (bytes > COPY_RANGE_BYTES_MAX) return NvmeStatus.commandSizeLimitExceeded | DNR;
  if (lba + blocks > namespace.blocks) return NvmeStatus.lbaOutOfRange | DNR;
  run.lbas[run.count] = lba;
  run.blocks[run.count] = blocks;
  run.count++;
  run.totalBytes += bytes;
  run.pieceMax = Math.max(run.pieceMax, Math.min(bytes, PIECE_BYTES_MAX) / namespace.blockBytes);
  return success;
}

/** Checks the whole. Returns an NVMe status. */
export function checkCopy(run: CopyRun, namespace: Namespace): number {
  if (run.totalBytes > COPY_BYTES_MAX) return NvmeStatus.commandSizeLimitExceeded | DNR;
  const end = run.target + run.totalBytes / namespace.blockBytes;
  return end > namespace.blocks ? NvmeStatus.lbaOutOfRange | DNR : success;
}

/** Makes the bio of the next read or write. Returns a `BlockStatus`. */
export function fillCopy(request: TargetRequest, namespace: Namespace, bio: Bio): number {
  const run = request.copy as CopyRun;
  const from = run.lbas[run.index] + run.done;
  if (!run.isWriting) {
    run.piece = Math.min(run.blocks[run.index] - run.done, run.pieceMax);
    bio.op = BioOp.read;
    bio.sector = from * namespace.sectorsPerBlock;
  } else {
    bio.op = BioOp.write;
    bio.sector = run.target * namespace.sectorsPerBlock;
    const isThrough = request.binding?.writesThrough === true;
    if (isThrough || COPY_FUA.get(request.dword(SqeOffset.cdw12)) !== 0) bio.flags |= BioFlag.fua;
  }
  const bytes = run.piece * namespace.blockBytes;
  return bio.addMemory(request.diskMemory, request.diskOffset, bytes);
}

/** A read or a write ended well. True: the copy is done. */
export function copyStep(run: CopyRun): boolean {
  if (!run.isWriting) {
    run.isWriting = true;
    return false;
  }
  run.isWriting = false;
  run.target += run.piece;
  run.done += run.piece;
  if (run.done === run.blocks[run.index]) {
    run.index++;
    run.done = 0;
  }
  return run.index === run.count;
}
