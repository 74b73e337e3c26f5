/**
 * Block statuses as NVMe statuses. A refusal keeps its reason: what another path may cure is a path
 * error (a host with multipath retries it elsewhere), what repeats is marked Do Not Retry, what
 * comes back by itself is Command Interrupted.
 */

import { BlockStatus } from "../block/index.ts";
import { NvmeStatus, STATUS_DNR } from "../spec/nvme/index.ts";

const S = NvmeStatus;

/** Indexed by {@link BlockStatus}. */
const FROM_BLOCK = new Uint16Array(32).fill(S.internalError);
FROM_BLOCK[BlockStatus.ok] = S.success;
FROM_BLOCK[BlockStatus.notSupported] = S.invalidOpcode | STATUS_DNR;
FROM_BLOCK[BlockStatus.invalid] = S.invalidField | STATUS_DNR;
FROM_BLOCK[BlockStatus.ioError] = S.internalError;
FROM_BLOCK[BlockStatus.medium] = S.unrecoveredReadError | STATUS_DNR;
FROM_BLOCK[BlockStatus.resource] = S.commandInterrupted;
FROM_BLOCK[BlockStatus.timeout] = S.internalPathError;
FROM_BLOCK[BlockStatus.protection] = S.guardCheckError | STATUS_DNR;
FROM_BLOCK[BlockStatus.noSpace] = S.capacityExceeded | STATUS_DNR;
FROM_BLOCK[BlockStatus.offline] = S.internalPathError;
FROM_BLOCK[BlockStatus.target] = S.internalError | STATUS_DNR;
FROM_BLOCK[BlockStatus.transport] = S.internalPathError;
FROM_BLOCK[BlockStatus.revoked] = S.internalPathError;
FROM_BLOCK[BlockStatus.wrongInitiator] = S.internalPathError | STATUS_DNR;
FROM_BLOCK[BlockStatus.noRoute] = S.internalPathError | STATUS_DNR;
FROM_BLOCK[BlockStatus.outOfRange] = S.internalError | STATUS_DNR;
FROM_BLOCK[BlockStatus.aborted] = S.abortRequested;
FROM_BLOCK[BlockStatus.writeProtected] = S.namespaceWriteProtected | STATUS_DNR;
FROM_BLOCK[BlockStatus.compareFailed] = S.compareFailure | STATUS_DNR;

/** The NVMe status of a block status; `isWrite` tells a failed medium apart. */
export function nvmeStatusOfBlock(blockStatus: number, isWrite: boolean): number {
  if (blockStatus === BlockStatus.medium && isWrite) return S.writeFault | STATUS_DNR;
  return blockStatus < FROM_BLOCK.length ? FROM_BLOCK[blockStatus] : S.internalError;
}
