/**
 * Submission and completion queue entries (NVM Express Base 2.0, sections 3.3.3.1 and 3.3.3.2):
 * dword indexes for hot paths that hold a Uint32Array, byte offsets for those that hold a DataView,
 * and the packing of the words that carry several fields.
 *
 * Both entries are little-endian. A Uint32Array is only right on a little-endian machine with a
 * 4-byte aligned entry; queue memory always is (queues are page aligned), and every supported
 * machine is.
 */

import { bit, field } from "../../core/index.ts";

export const SQE_BYTES = 64;
export const SQE_DWORDS = 16;
export const CQE_BYTES = 16;
export const CQE_DWORDS = 4;
/** CC.IOSQES and CC.IOCQES for these entries: powers of two. */
export const SQE_SHIFT = 6;
export const CQE_SHIFT = 4;

/** Dword indexes in a submission queue entry. Multiply by 4 for the byte offset. */
export const SqeDword = {
  /** CDW0: opcode, FUSE, PSDT, CID. */
  cdw0: 0,
  nsid: 1,
  cdw2: 2,
  cdw3: 3,
  mptrLo: 4,
  mptrHi: 5,
  /** DPTR as PRPs. */
  prp1Lo: 6,
  prp1Hi: 7,
  prp2Lo: 8,
  prp2Hi: 9,
  /** DPTR as one SGL descriptor: address, length, type (the same dwords 6 to 9). */
  sglAddressLo: 6,
  sglAddressHi: 7,
  sglLength: 8,
  sglType: 9,
  cdw10: 10,
  cdw11: 11,
  cdw12: 12,
  cdw13: 13,
  cdw14: 14,
  cdw15: 15,
} as const;

/** Byte offsets in a submission queue entry. */
export const SqeOffset = {
  opcode: 0,
  flags: 1,
  cid: 2,
  nsid: 4,
  cdw2: 8,
  cdw3: 12,
  mptr: 16,
  prp1: 24,
  prp2: 32,
  sgl1: 24,
  cdw10: 40,
  cdw11: 44,
  cdw12: 48,
  cdw13: 52,
  cdw14: 56,
  cdw15: 60,
} as const;

/** Command Dword 0 (Base 2.0, figure "Command Dword 0"). */
export const CDW0_OPC = field(0, 8);
export const CDW0_FUSE = field(8, 2);
export const CDW0_PSDT = field(14, 2);
export const CDW0_CID = field(16, 16);

/** FUSE values. */
export const Fuse = { none: 0, first: 1, second: 2 } as const;

/** PSDT values: what DPTR and MPTR hold. */
export const Psdt = {
  /** DPTR is PRP1 and PRP2; MPTR is the address of one contiguous buffer. */
  prp: 0,
  /** DPTR is an SGL; MPTR is the address of one contiguous buffer, byte aligned. */
  sglMptrBuffer: 1,
  /** DPTR is an SGL; MPTR is the address of an SGL segment with one descriptor. */
  sglMptrSgl: 2,
} as const;

/** Packs CDW0. `fuse` and `psdt` as in {@link Fuse} and {@link Psdt}. */
export function packCdw0(opcode: number, cid: number, psdt = 0, fuse = 0): number {
  return (opcode | (fuse << 8) | (psdt << 14) | (cid << 16)) >>> 0;
}

/** NSID that means every namespace (Base 2.0, section 3.2.1.2). */
export const NSID_ALL = 0xffff_ffff;
/** CID of "no particular command" in the error log. */
export const CID_NONE = 0xffff;

/** Dword indexes in a completion queue entry. */
export const CqeDword = {
  /** Command specific result. */
  dw0: 0,
  dw1: 1,
  /** SQHD in 15:0, SQID in 31:16. */
  sq: 2,
  /** CID in 15:0, phase tag in 16, status field in 31:17. */
  status: 3,
} as const;

/** Byte offsets in a completion queue entry. */
export const CqeOffset = { dw0: 0, dw1: 4, sqhd: 8, sqid: 10, cid: 12, status: 14 } as const;

export const CQE_SQHD = field(0, 16);
export const CQE_SQID = field(16, 16);
export const CQE_CID = field(0, 16);
export const CQE_PHASE = bit(16);
/** The 15-bit status of status.ts: SC, SCT, CRD, M, DNR. */
export const CQE_STATUS = field(17, 15);

/** Packs dword 3 of a completion queue entry. `status` as in status.ts, without the phase tag. */
export function packCqeStatus(cid: number, status: number, phase: number): number {
  return (cid | (phase << 16) | (status << 17)) >>> 0;
}
