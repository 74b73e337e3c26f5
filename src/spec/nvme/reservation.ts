/**
 * Reservations (NVM Express Base 2.0, section 8.19; commands in section 7): dword 10, key data and
 * the status that Reservation Report returns.
 */

import { bit, field } from "../../core/index.ts";
import { defineStruct, raw, u8, u16, u32, u64 } from "./layout.ts";

export const ReservationType = {
  writeExclusive: 1,
  exclusiveAccess: 2,
  writeExclusiveRegistrants: 3,
  exclusiveAccessRegistrants: 4,
  writeExclusiveAll: 5,
  exclusiveAccessAll: 6,
} as const;

/** Reservation Register, CDW10. */
export const REGISTER_RREGA = field(0, 3);
export const REGISTER_CPTPL = field(30, 2);
/** CPTPL values; 0 changes nothing. */
export const CPTPL_RESERVED = 1;
export const CPTPL_CLEAR = 2;
export const CPTPL_SET = 3;
export const RegisterAction = { register: 0, unregister: 1, replace: 2 } as const;
/** Reservation Acquire, CDW10. */
export const ACQUIRE_RACQA = field(0, 3);
export const AcquireAction = { acquire: 0, preempt: 1, preemptAndAbort: 2 } as const;
/** Reservation Release, CDW10. */
export const RELEASE_RRELA = field(0, 3);
export const ReleaseAction = { release: 0, clear: 1 } as const;
/** Register, Acquire and Release, CDW10: Ignore Existing Key. */
export const RESERVATION_IEKEY = bit(3);
/** Acquire and Release, CDW10. */
export const RESERVATION_RTYPE = field(8, 8);
/** Reservation Report, CDW11: extended data structure. */
export const REPORT_EDS = bit(0);

export const RESERVATION_KEYS = defineStruct(
  "Reservation Register and Acquire Data",
  "NVM Express Base 2.0, section 7",
  16,
  {
    CRKEY: u64(0, "Current Reservation Key"),
    NRKEY: u64(8, "New (Register) or Preempt (Acquire) Reservation Key"),
  },
);

export const RESERVATION_STATUS = defineStruct(
  "Reservation Status",
  "NVM Express Base 2.0, section 7.3",
  24,
  {
    GEN: u32(0, "Generation"),
    RTYPE: u8(4, "Reservation Type"),
    REGCTL: u16(5, "Number of Registered Controllers"),
    PTPLS: u8(9, "Persist Through Power Loss State"),
  },
);
/** RCSTS bit 0: the host holds the reservation. */
export const RESERVATION_HOLDER = 0x01;
/** Entries follow at 24, or at 64 in the extended structure. */
export const RESERVATION_STATUS_EXTENDED_BYTES = 64;

export const REGISTERED_CONTROLLER = defineStruct(
  "Registered Controller",
  "NVM Express Base 2.0, section 7.3",
  24,
  {
    CNTLID: u16(0, "Controller ID"),
    RCSTS: u8(2, "Reservation Status: bit 0 holds it"),
    HOSTID: u64(8, "Host Identifier"),
    RKEY: u64(16, "Reservation Key"),
  },
);

export const REGISTERED_CONTROLLER_EXTENDED = defineStruct(
  "Registered Controller, Extended",
  "NVM Express Base 2.0, section 7.3",
  64,
  {
    CNTLID: u16(0, "Controller ID"),
    RCSTS: u8(2, "Reservation Status: bit 0 holds it"),
    RKEY: u64(8, "Reservation Key"),
    HOSTID: raw(16, 16, "Host Identifier"),
  },
);

/** Bits of RESCAP (Identify Namespace). */
export const RESCAP_PERSISTS = 0x01;
/** All six types, in bits 6:1. */
export const RESCAP_ALL_TYPES = 0x7e;
/** IEKEY as in NVMe 1.3 and later. */
export const RESCAP_IEKEY_13 = 0x80;

/** Kinds of notifications: LPT of log page 80h, and the bits of feature 82h. */
export const ReservationNotice = {
  registrationPreempted: 1,
  released: 2,
  reservationPreempted: 3,
} as const;
/** Feature 82h, CDW11: REGPRE, RESREL, RESPRE. */
export const RESERVATION_MASK_ALL = 0x0e;
/** Feature 83h, CDW11. */
export const RESERVATION_PTPL = bit(0);

export const RESERVATION_NOTICE_LOG = defineStruct(
  "Reservation Notification",
  "NVM Express Base 2.0, section 5.16.1.24",
  64,
  {
    LPC: u64(0, "Log Page Count: number of this notification"),
    TYPE: u8(8, "Reservation Notification Log Page Type; 0 an empty page"),
    AVAILABLE: u8(9, "Number of Available Log Pages besides this one"),
    NSID: u32(12, "Namespace"),
  },
);
export const ReservationNoticeLog = RESERVATION_NOTICE_LOG.fields;
