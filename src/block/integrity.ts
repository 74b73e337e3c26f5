/**
 * Protection information (T10 DIF as NVMe uses it): what a queue's namespace is formatted with,
 * what a bio asks for, and who does the work. The rule of the room: a bio for a protected
 * namespace carries protection information or is refused; it never travels without in silence.
 *
 * Field layout and check bits: NVM Express NVM Command Set, "End-to-end Data Protection".
 */

import type { IoMemory } from "../memory/index.ts";

/** Bits of `request.integrityFlags`, as NVMe's PRINFO field has them. */
export const IntegrityFlag = {
  checkRefTag: 1,
  checkAppTag: 2,
  checkGuard: 4,
  /** PRACT: the controller inserts on write and checks and strips on read. */
  controller: 8,
  /** A metadata buffer goes with the data (`request.metadataAddress`). */
  buffer: 16,
} as const;

/** Who makes protection information for bios that bring none. */
export const IntegrityPolicy = {
  /** The controller where it can, else the CPU where it may touch the data, else refuse. */
  controllerFirst: 0,
  /**
   * The CPU where it may touch the data, else the controller, else refuse. End to end for host
   * data.
   */
  hostFirst: 1,
  /** Refuse bios that bring none. */
  callerOnly: 2,
} as const;
export type IntegrityPolicy = (typeof IntegrityPolicy)[keyof typeof IntegrityPolicy];

/** How a namespace is protected. A queue without one takes no bio with integrity. */
export interface IntegrityProfile {
  /** Type 1, 2 or 3. */
  readonly piType: number;
  /** Data bytes of one protection interval: the logical block. */
  readonly blockBytes: number;
  /** Metadata bytes per block, at least 8. */
  readonly metadataBytes: number;
  /** Where in the metadata the 8 bytes of protection information are. */
  readonly tupleOffset: number;
  /** Metadata is at the end of each block instead of in a buffer of its own. */
  readonly extendedLba: boolean;
  /** The controller can insert and strip: metadata is protection information alone. */
  readonly controllerInserts: boolean;
}

/** What a bio asks for. Plain data, reused by its owner. */
export class BioIntegrity {
  /** True: the controller inserts and strips; false: `memory` has the metadata. */
  controller = true;
  memory: IoMemory | null = null;
  offset = 0;
  /** First reference tag; for types 1 and 2 it counts up per block. Default: the low LBA bits. */
  refTag = -1;
  appTag = 0;
  /** Bits of the application tag that are checked. */
  appTagMask = 0;
}
