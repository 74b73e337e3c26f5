/**
 * NVMe statuses in the words of the block room, and which of them are worth another try.
 *
 * Invariant: no failure becomes `ok`; what is not listed is an I/O error.
 */

import { BlockStatus } from "../block/index.ts";
import { NvmeStatus, STATUS_CODE_MASK, STATUS_DNR } from "../spec/nvme/index.ts";

const N = NvmeStatus;
const B = BlockStatus;

const PAIRS: readonly (readonly [number, number])[] = [
  [N.success, B.ok],
  [N.invalidOpcode, B.notSupported],
  [N.invalidField, B.invalid],
  [N.dataTransferError, B.transport],
  [N.abortedPowerLoss, B.aborted],
  [N.abortRequested, B.aborted],
  [N.abortedSqDeletion, B.aborted],
  [N.invalidNamespaceOrFormat, B.target],
  [N.invalidUseOfCmb, B.invalid],
  [N.prpOffsetInvalid, B.invalid],
  [N.invalidSglSegmentDescriptor, B.invalid],
  [N.invalidNumberOfSglDescriptors, B.invalid],
  [N.dataSglLengthInvalid, B.invalid],
  [N.sglDescriptorTypeInvalid, B.invalid],
  [N.sglOffsetInvalid, B.invalid],
  [N.operationDenied, B.target],
  [N.namespaceWriteProtected, B.writeProtected],
  [N.commandInterrupted, B.resource],
  [N.transientTransportError, B.transport],
  [N.lbaOutOfRange, B.outOfRange],
  [N.capacityExceeded, B.noSpace],
  [N.namespaceNotReady, B.target],
  [N.reservationConflict, B.target],
  [N.formatInProgress, B.target],
  [N.invalidProtectionInformation, B.protection],
  [N.writeToReadOnlyRange, B.writeProtected],
  [N.commandSizeLimitExceeded, B.invalid],
  [N.writeFault, B.medium],
  [N.unrecoveredReadError, B.medium],
  [N.guardCheckError, B.protection],
  [N.applicationTagCheckError, B.protection],
  [N.referenceTagCheckError, B.protection],
  [N.storageTagCheckError, B.protection],
  [N.compareFailure, B.compareFailed],
  [N.accessDenied, B.medium],
  [N.deallocatedOrUnwritten, B.medium],
  [N.internalPathError, B.transport],
  [N.anaPersistentLoss, B.transport],
  [N.anaInaccessible, B.transport],
  [N.anaTransition, B.transport],
  [N.controllerPathError, B.transport],
  [N.hostPathError, B.transport],
  [N.abortedByHost, B.aborted],
];

const TABLE = new Uint8Array(STATUS_CODE_MASK + 1).fill(BlockStatus.ioError);
for (const [nvme, block] of PAIRS) TABLE[nvme] = block;

/** The block status of a completion's status field. */
export function blockStatusOfNvme(status: number): number {
  return TABLE[status & STATUS_CODE_MASK];
}

const TRANSIENT = new Uint8Array(STATUS_CODE_MASK + 1);
for (const status of [
  N.commandInterrupted,
  N.transientTransportError,
  N.namespaceNotReady,
  N.formatInProgress,
  N.internalError,
]) {
  TRANSIENT[status] = 1;
}

/** True when the controller lets the command be tried again and the reason may pass. */
export function isRetryable(status: number): boolean {
  return (status & STATUS_DNR) === 0 && TRANSIENT[status & STATUS_CODE_MASK] === 1;
}
