/**
 * Checks and makes the protection information of one block (NVM Command Set 1.0, sections 5.2.1 and
 * 5.2.2): guard, application tag, reference tag, for types 1 to 3 with a 16-bit guard.
 */

import {
  APP_TAG_ESCAPE,
  crc16T10,
  getAppTag,
  getGuard,
  getRefTag,
  NvmeStatus,
  PI_BYTES,
  PiType,
  PRACT,
  PRCHK_APP,
  PRCHK_GUARD,
  PRCHK_REF,
  REF_TAG_ESCAPE,
  setPi,
} from "../../../spec/nvme/index.ts";
import type { Namespace } from "./namespace.ts";

/** What a command says about protection: PRINFO, initial tags, mask. */
export class ProtectionTags {
  /** PRACT and PRCHK, as in IO_PRINFO. */
  prinfo = 0;
  /** Reference tag of the current block. */
  refTag = 0;
  appTag = 0;
  appMask = 0;

  set(prinfo: number, refTag: number, appTag: number, appMask: number): void {
    this.prinfo = prinfo;
    this.refTag = refTag;
    this.appTag = appTag;
    this.appMask = appMask;
  }

  /** On to the next block: the tag counts for types 1 and 2. */
  next(piType: number): void {
    if (piType !== PiType.type3) this.refTag = (this.refTag + 1) >>> 0;
  }

  get generates(): boolean {
    return (this.prinfo & PRACT) !== 0;
  }
}

/**
 * Whether PRINFO makes sense (NVM Command Set 1.0, section 5.2.2.1): a type 1 reference tag is the
 * low half of the LBA; type 3 has none to check. Returns an NVMe status.
 */
export function checkPrinfo(ns: Namespace, prinfo: number, slba: number, refTag: number): number {
  if ((prinfo & PRCHK_REF) === 0) return NvmeStatus.success;
  if (ns.piType === PiType.type3) return NvmeStatus.invalidProtectionInformation;
  if (ns.piType === PiType.type1 && refTag !== slba % 2 ** 32) {
    return NvmeStatus.invalidProtectionInformation;
  }
  return NvmeStatus.success;
}

/** The guard of a block: over its data, and over the metadata before the protection information. */
export function guardOf(
  ns: Namespace,
  data: Uint8Array,
  dataAt: number,
  metadata: Uint8Array,
  metadataAt: number,
): number {
  const crc = crc16T10(data, dataAt, ns.lbaBytes);
  return ns.piOffset === 0 ? crc : crc16T10(metadata, metadataAt, ns.piOffset, crc);
}

/** Checks one block against `tags`. Returns an NVMe status. */
export function checkBlock(
  ns: Namespace,
  tags: ProtectionTags,
  data: Uint8Array,
  dataAt: number,
  metadata: Uint8Array,
  metadataAt: number,
): number {
  const pi = metadataAt + ns.piOffset;
  const appTag = getAppTag(metadata, pi);
  const refTag = getRefTag(metadata, pi);
  if (appTag === APP_TAG_ESCAPE) {
    if (ns.piType !== PiType.type3 || refTag === REF_TAG_ESCAPE) return NvmeStatus.success;
  }
  const checks = tags.prinfo;
  if ((checks & PRCHK_GUARD) !== 0) {
    const guard = guardOf(ns, data, dataAt, metadata, metadataAt);
    if (guard !== getGuard(metadata, pi)) return NvmeStatus.guardCheckError;
  }
  if ((checks & PRCHK_APP) !== 0 && ((appTag ^ tags.appTag) & tags.appMask) !== 0) {
    return NvmeStatus.applicationTagCheckError;
  }
  if ((checks & PRCHK_REF) !== 0 && refTag !== tags.refTag) {
    return NvmeStatus.referenceTagCheckError;
  }
  return NvmeStatus.success;
}

/** Writes the protection information of one block from `tags`. */
export function makeBlock(
  ns: Namespace,
  tags: ProtectionTags,
  data: Uint8Array,
  dataAt: number,
  metadata: Uint8Array,
  metadataAt: number,
): void {
  const guard = guardOf(ns, data, dataAt, metadata, metadataAt);
  setPi(metadata, metadataAt + ns.piOffset, guard, tags.appTag, tags.refTag);
}

/** Turns stored protection information into real and back, for `blocks` blocks of metadata. */
export function invertStored(ns: Namespace, metadata: Uint8Array, blocks: number): void {
  if (ns.piType === PiType.none) return;
  let at = ns.piOffset;
  for (let block = 0; block < blocks; block++) {
    for (let i = 0; i < PI_BYTES; i++) metadata[at + i] = (metadata[at + i] as number) ^ 0xff;
    at += ns.metadataBytes;
  }
}
