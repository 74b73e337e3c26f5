/**
 * Status of a command as one number: Status Code in bits 7:0, Status Code Type in 10:8, CRD in
 * 12:11, More in 13, Do Not Retry in 14. That is the status field of a completion queue entry
 * without the phase tag (NVM Express Base 2.0, section 3.3.3.2.1), so `0` is success and packing is
 * one shift.
 *
 * Values: Base 2.0 figures "Status Code - Generic Command Status Values", "- Command Specific
 * Status Values", "- Media and Data Integrity Error Values", "- Path Related Status Values"; NVM
 * Command Set 1.0 section 3.1 for those from 80h. Left out: command specific values of Fabrics
 * commands (spec/nvmf), key value, zoned namespaces.
 */

export const Sct = {
  generic: 0,
  commandSpecific: 1,
  mediaError: 2,
  path: 3,
  vendor: 7,
} as const;

/** Do Not Retry: the same command will fail again. */
export const STATUS_DNR = 0x4000;
/** More: the error log has an entry for this command. */
export const STATUS_MORE = 0x2000;
/** Command Retry Delay, bits 12:11: index into CRDT1 to CRDT3. */
export const STATUS_CRD_SHIFT = 11;
/** SCT and SC alone. */
export const STATUS_CODE_MASK = 0x7ff;
/** The 15 bits that a completion carries. */
export const STATUS_MASK = 0x7fff;

export const NvmeStatus = {
  success: 0x000,
  invalidOpcode: 0x001,
  invalidField: 0x002,
  commandIdConflict: 0x003,
  dataTransferError: 0x004,
  abortedPowerLoss: 0x005,
  internalError: 0x006,
  abortRequested: 0x007,
  abortedSqDeletion: 0x008,
  abortedFailedFused: 0x009,
  abortedMissingFused: 0x00a,
  invalidNamespaceOrFormat: 0x00b,
  commandSequenceError: 0x00c,
  invalidSglSegmentDescriptor: 0x00d,
  invalidNumberOfSglDescriptors: 0x00e,
  dataSglLengthInvalid: 0x00f,
  metadataSglLengthInvalid: 0x010,
  sglDescriptorTypeInvalid: 0x011,
  invalidUseOfCmb: 0x012,
  prpOffsetInvalid: 0x013,
  atomicWriteUnitExceeded: 0x014,
  operationDenied: 0x015,
  sglOffsetInvalid: 0x016,
  hostIdInconsistentFormat: 0x018,
  keepAliveExpired: 0x019,
  keepAliveInvalid: 0x01a,
  abortedPreempt: 0x01b,
  sanitizeFailed: 0x01c,
  sanitizeInProgress: 0x01d,
  sglDataBlockGranularityInvalid: 0x01e,
  commandNotSupportedForQueueInCmb: 0x01f,
  namespaceWriteProtected: 0x020,
  commandInterrupted: 0x021,
  transientTransportError: 0x022,
  commandProhibitedByLockdown: 0x023,
  adminMediaNotReady: 0x024,
  hostIdNotInitialized: 0x027,
  lbaOutOfRange: 0x080,
  capacityExceeded: 0x081,
  namespaceNotReady: 0x082,
  reservationConflict: 0x083,
  formatInProgress: 0x084,

  completionQueueInvalid: 0x100,
  invalidQueueIdentifier: 0x101,
  invalidQueueSize: 0x102,
  abortLimitExceeded: 0x103,
  asyncEventLimitExceeded: 0x105,
  invalidFirmwareSlot: 0x106,
  invalidFirmwareImage: 0x107,
  invalidInterruptVector: 0x108,
  invalidLogPage: 0x109,
  invalidFormat: 0x10a,
  firmwareNeedsConventionalReset: 0x10b,
  invalidQueueDeletion: 0x10c,
  featureNotSaveable: 0x10d,
  featureNotChangeable: 0x10e,
  featureNotNamespaceSpecific: 0x10f,
  firmwareNeedsSubsystemReset: 0x110,
  firmwareNeedsControllerReset: 0x111,
  firmwareNeedsMaximumTimeViolation: 0x112,
  firmwareActivationProhibited: 0x113,
  overlappingRange: 0x114,
  namespaceInsufficientCapacity: 0x115,
  namespaceIdUnavailable: 0x116,
  namespaceAlreadyAttached: 0x118,
  namespaceIsPrivate: 0x119,
  namespaceNotAttached: 0x11a,
  thinProvisioningNotSupported: 0x11b,
  controllerListInvalid: 0x11c,
  selfTestInProgress: 0x11d,
  bootPartitionWriteProhibited: 0x11e,
  invalidControllerIdentifier: 0x11f,
  invalidSecondaryControllerState: 0x120,
  invalidNumberOfControllerResources: 0x121,
  invalidResourceIdentifier: 0x122,
  sanitizeProhibitedWhilePmrEnabled: 0x123,
  anaGroupIdentifierInvalid: 0x124,
  anaAttachFailed: 0x125,
  insufficientCapacity: 0x126,
  namespaceAttachmentLimitExceeded: 0x127,
  commandExecutionProhibitionNotSupported: 0x128,
  ioCommandSetNotSupported: 0x129,
  ioCommandSetNotEnabled: 0x12a,
  ioCommandSetCombinationRejected: 0x12b,
  invalidIoCommandSet: 0x12c,
  identifierUnavailable: 0x12d,
  conflictingAttributes: 0x180,
  invalidProtectionInformation: 0x181,
  writeToReadOnlyRange: 0x182,
  commandSizeLimitExceeded: 0x183,

  writeFault: 0x280,
  unrecoveredReadError: 0x281,
  guardCheckError: 0x282,
  applicationTagCheckError: 0x283,
  referenceTagCheckError: 0x284,
  compareFailure: 0x285,
  accessDenied: 0x286,
  deallocatedOrUnwritten: 0x287,
  storageTagCheckError: 0x288,

  internalPathError: 0x300,
  anaPersistentLoss: 0x301,
  anaInaccessible: 0x302,
  anaTransition: 0x303,
  controllerPathError: 0x360,
  hostPathError: 0x370,
  abortedByHost: 0x371,
} as const;
export type NvmeStatus = (typeof NvmeStatus)[keyof typeof NvmeStatus];

/** SCT and SC of a status, without CRD, More and DNR. */
export const statusCode = (status: number): number => status & STATUS_CODE_MASK;
export const statusSct = (status: number): number => (status >> 8) & 7;
export const statusSc = (status: number): number => status & 0xff;

/** `invalidField` to `Invalid Field`: the specification's own names have blanks. */
function spaced(name: string): string {
  const words = name.replace(/([A-Z])/g, " $1");
  return words.charAt(0).toUpperCase() + words.slice(1);
}

const NAMES = new Map<number, string>(
  Object.entries(NvmeStatus).map(([name, value]) => [value, spaced(name)]),
);
const SCT_NAMES = [
  "generic",
  "command specific",
  "media",
  "path",
  "?",
  "?",
  "?",
  "vendor specific",
];

/** `Prp Offset Invalid (SCT 0, SC 0x13), do not retry`. */
export function formatStatus(status: number): string {
  const sct = statusSct(status);
  const name = NAMES.get(statusCode(status)) ?? `${SCT_NAMES[sct]} status`;
  const retry = (status & STATUS_DNR) !== 0 ? ", do not retry" : "";
  return `${name} (SCT ${sct}, SC 0x${statusSc(status).toString(16)})${retry}`;
}
