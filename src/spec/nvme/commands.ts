/**
 * Dwords 10 to 15 of the commands that the stack uses. Admin: NVM Express Base 2.0, section 5. I/O:
 * NVM Command Set 1.0, section 3.2. And the lists that Dataset Management and Copy carry as data.
 */

import { bit, field } from "../../core/index.ts";
import { defineStruct, u16, u32, u64 } from "./layout.ts";

/** Create I/O Completion and Submission Queue (5.4, 5.5), CDW10. QSIZE is 0's based. */
export const CREATE_QID = field(0, 16);
export const CREATE_QSIZE = field(16, 16);
/** Create I/O Completion Queue, CDW11. */
export const CREATE_CQ_PC = bit(0);
export const CREATE_CQ_IEN = bit(1);
export const CREATE_CQ_IV = field(16, 16);
/** Create I/O Submission Queue, CDW11. */
export const CREATE_SQ_PC = bit(0);
export const CREATE_SQ_QPRIO = field(1, 2);
export const CREATE_SQ_CQID = field(16, 16);

/** Abort (5.1), CDW10. Completion dword 0 bit 0 is 1 when the command was not aborted. */
export const ABORT_SQID = field(0, 16);
export const ABORT_CID = field(16, 16);
export const ABORT_NOT_ABORTED = bit(0);

/** Format NVM (5.14), CDW10. */
export const FORMAT_LBAFL = field(0, 4);
export const FORMAT_MSET = bit(4);
export const FORMAT_PI = field(5, 3);
export const FORMAT_PIL = bit(8);
export const FORMAT_SES = field(9, 3);
export const FORMAT_LBAFU = field(12, 2);
export const SecureErase = { none: 0, userData: 1, cryptographic: 2 } as const;

/** Read, Write, Compare, Write Zeroes, Verify, CDW12 (3.2.4 to 3.2.9). SLBA is CDW10 and CDW11. */
export const IO_NLB = field(0, 16);
export const IO_DTYPE = field(20, 4);
export const IO_STC = bit(24);
/** Write Zeroes: the blocks may be deallocated. */
export const IO_DEAC = bit(25);
/** Protection Information Field: PRACT in its bit 3, PRCHK in 2:0. */
export const IO_PRINFO = field(26, 4);
export const IO_FUA = bit(30);
export const IO_LR = bit(31);
/** CDW13. */
export const IO_DSM = field(0, 8);
export const IO_DSPEC = field(16, 16);
/** CDW15: expected tag and mask. CDW14 is the initial reference tag. */
export const IO_LBAT = field(0, 16);
export const IO_LBATM = field(16, 16);

/** PRINFO bits, as in {@link IO_PRINFO}. */
export const PRACT = 0x8;
export const PRCHK_GUARD = 0x4;
export const PRCHK_APP = 0x2;
export const PRCHK_REF = 0x1;

/** Dataset Management (3.2.3). CDW10: ranges, 0's based. CDW11: attributes. */
export const DSM_NR = field(0, 8);
export const DSM_IDR = bit(0);
export const DSM_IDW = bit(1);
export const DSM_AD = bit(2);
export const DSM_RANGES_MAX = 256;
export const DSM_RANGE = defineStruct(
  "Dataset Management Range",
  "NVM Command Set 1.0, section 3.2.3",
  16,
  {
    CATTR: u32(0, "Context Attributes"),
    LENGTH: u32(4, "Length, blocks"),
    SLBA: u64(8, "Starting LBA"),
  },
);
export const DsmRange = DSM_RANGE.fields;
export const DSM_RANGE_BYTES = 16;

/** Copy (3.2.2), CDW12. SDLBA is CDW10 and CDW11; CDW14 and CDW15 as for Write. */
export const COPY_NR = field(0, 8);
export const COPY_FORMAT = field(8, 4);
export const COPY_PRINFOR = field(12, 4);
export const COPY_DTYPE = field(20, 4);
export const COPY_STCW = bit(24);
export const COPY_STCR = bit(25);
export const COPY_PRINFOW = field(26, 4);
export const COPY_FUA = bit(30);
export const COPY_LR = bit(31);

/** Source Range Entries Copy Descriptor Format 0h: 16b Guard protection information, or none. */
export const COPY_RANGE_0 = defineStruct(
  "Copy Source Range, format 0h",
  "NVM Command Set 1.0, section 3.2.2",
  32,
  {
    SLBA: u64(8, "Starting LBA"),
    NLB: u16(16, "Number of Logical Blocks, 0's based"),
    ELBRT: u32(24, "Expected Initial Logical Block Reference Tag"),
    ELBAT: u16(28, "Expected Logical Block Application Tag"),
    ELBATM: u16(30, "Expected Logical Block Application Tag Mask"),
  },
);
export const CopyRange0 = COPY_RANGE_0.fields;
export const COPY_RANGE_0_BYTES = 32;

/** Format 1h: 32b and 64b Guard; its storage and reference tags are 10 bytes at 26. */
export const COPY_RANGE_1 = defineStruct(
  "Copy Source Range, format 1h",
  "NVM Command Set 1.0, section 3.2.2",
  40,
  {
    SLBA: u64(8, "Starting LBA"),
    NLB: u16(16, "Number of Logical Blocks, 0's based"),
    ELBAT: u16(36, "Expected Logical Block Application Tag"),
    ELBATM: u16(38, "Expected Logical Block Application Tag Mask"),
  },
);
export const CopyRange1 = COPY_RANGE_1.fields;
export const COPY_RANGE_1_BYTES = 40;
