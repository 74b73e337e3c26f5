/**
 * Protection information on the way down and up: what a bio for a protected namespace must carry,
 * and making and checking it on the CPU for memory that the CPU can reach.
 *
 * Invariant: every read, write, compare and write zeroes that reaches the driver of a protected
 * namespace has `integrityFlags`; a bio for which nobody can make protection information is refused
 * with `protection`. Nothing is dropped in silence.
 *
 * Work on the CPU is per request, after merging, into the request's own slot of the queue's
 * metadata memory. Leaves out: 32-bit and 64-bit guards, storage tags.
 */

import { Span, type Tree } from "../core/index.ts";
import type { IoMemory } from "../memory/index.ts";
import {
  APP_TAG_ESCAPE,
  crc16T10,
  getAppTag,
  getGuard,
  getRefTag,
  PiType,
  REF_TAG_ESCAPE,
  setPi,
} from "../spec/nvme/index.ts";
import type { Bio } from "./bio.hot.ts";
import { IntegrityFlag, IntegrityPolicy, type IntegrityProfile } from "./integrity.ts";
import { BioFlag, BioOp, carriesData, SECTOR_BYTES } from "./operation.ts";
import type { Request } from "./request.hot.ts";
import { BlockStatus } from "./status.ts";
import { VecWalker } from "./walk.hot.ts";

/** Who makes a request's protection information. */
export const IntegrityMaker = {
  none: 0,
  /** The controller inserts, checks and strips (PRACT). */
  controller: 1,
  /** The bio brought it in memory of its own. */
  caller: 2,
  /** The CPU, in the queue's metadata memory. */
  queue: 3,
} as const;

const CHECK_TYPES_1_2 = IntegrityFlag.checkGuard | IntegrityFlag.checkRefTag;
const CHECK_TYPE_3 = IntegrityFlag.checkGuard;

export class Integrity {
  readonly profile: IntegrityProfile;
  readonly policy: IntegrityPolicy;
  /** Blocks whose protection information did not match on the way up. */
  mismatches = 0;
  /** Requests by who made their protection information: see {@link IntegrityMaker}. */
  byController = 0;
  byCaller = 0;
  byCpu = 0;
  private readonly buffers: IoMemory | null;
  private readonly slotBytes: number;
  private readonly walker = new VecWalker();
  private readonly data = new Span();
  private readonly metadata = new Span();

  /** `buffers`: CPU-accessible metadata memory of `slotBytes` per request, or null: no CPU work. */
  constructor(
    profile: IntegrityProfile,
    policy: IntegrityPolicy,
    buffers: IoMemory | null,
    slotBytes: number,
  ) {
    this.profile = profile;
    this.policy = policy;
    this.buffers = profile.extendedLba ? null : buffers;
    this.slotBytes = slotBytes;
  }

  /** {@link IntegrityMaker} for this bio, or a negated {@link BlockStatus}: it must not go on. */
  makerFor(bio: Bio): number {
    const { op, integrity } = bio;
    const { profile } = this;
    if (op === BioOp.verify) return IntegrityMaker.none;
    if (op === BioOp.writeZeroes) {
      return profile.controllerInserts ? IntegrityMaker.controller : -BlockStatus.notSupported;
    }
    if (!carriesData(op)) return IntegrityMaker.none;
    if (integrity !== null) {
      if (integrity.controller) {
        return profile.controllerInserts ? IntegrityMaker.controller : -BlockStatus.protection;
      }
      const isUsable = integrity.memory !== null && !profile.extendedLba;
      return isUsable ? IntegrityMaker.caller : -BlockStatus.protection;
    }
    const canCpu = this.buffers !== null && (bio.flags & BioFlag.dmaDirect) === 0;
    switch (this.policy) {
      case IntegrityPolicy.callerOnly:
        return -BlockStatus.protection;
      case IntegrityPolicy.hostFirst:
        if (canCpu) return IntegrityMaker.queue;
        return profile.controllerInserts ? IntegrityMaker.controller : -BlockStatus.protection;
      default:
        if (profile.controllerInserts) return IntegrityMaker.controller;
        return canCpu ? IntegrityMaker.queue : -BlockStatus.protection;
    }
  }

  /** Sets the request's flags and tags from its first bio. Merging keeps them right. */
  begin(request: Request, bio: Bio): void {
    const maker = this.makerFor(bio);
    request.integrityMaker = maker;
    request.integrityFlags = 0;
    if (maker <= IntegrityMaker.none) return;
    const { piType, blockBytes } = this.profile;
    const { integrity } = bio;
    const blocks = bio.doneBytes / blockBytes;
    let flags: number = piType === PiType.type3 ? CHECK_TYPE_3 : CHECK_TYPES_1_2;
    request.appTag = 0;
    request.appTagMask = 0;
    let refTag = (bio.sector * SECTOR_BYTES) / blockBytes;
    if (integrity !== null) {
      request.appTag = integrity.appTag;
      request.appTagMask = integrity.appTagMask;
      if (integrity.appTagMask !== 0) flags |= IntegrityFlag.checkAppTag;
      if (integrity.refTag >= 0) {
        refTag = piType === PiType.type3 ? integrity.refTag : integrity.refTag + blocks;
      }
    }
    request.refTag = refTag >>> 0;
    if (maker === IntegrityMaker.controller) {
      flags |= IntegrityFlag.controller;
      this.byController++;
    } else {
      flags |= IntegrityFlag.buffer;
      if (maker === IntegrityMaker.caller) this.byCaller++;
      else this.byCpu++;
    }
    request.integrityFlags = flags;
  }

  /** Where the request's metadata is: fills `metadataMemory`, `metadataOffset`, `metadataBytes`. */
  locate(request: Request): void {
    const { blockBytes, metadataBytes } = this.profile;
    request.metadataBytes = (request.sizeBytes / blockBytes) * metadataBytes;
    if (request.integrityMaker === IntegrityMaker.queue) {
      request.metadataMemory = this.buffers as IoMemory;
      request.metadataOffset = request.tag * this.slotBytes;
      return;
    }
    const bio = request.head as Bio;
    const blocks = bio.doneBytes / blockBytes;
    request.metadataMemory = bio.integrity?.memory as IoMemory;
    request.metadataOffset = (bio.integrity?.offset ?? 0) + blocks * metadataBytes;
  }

  /** Writes protection information for all blocks of the request. Returns a {@link BlockStatus}. */
  generate(request: Request): number {
    return this.forBlocks(request, true);
  }

  /** Compares protection information with the data. Returns a {@link BlockStatus}. */
  verify(request: Request): number {
    return this.forBlocks(request, false);
  }

  private forBlocks(request: Request, isWrite: boolean): number {
    const { blockBytes, metadataBytes, tupleOffset } = this.profile;
    const { walker, data, metadata } = this;
    const isReachable = request.metadataMemory.bytes(
      request.metadataOffset,
      request.metadataBytes,
      metadata,
    );
    if (!isReachable) return BlockStatus.protection;
    const blocks = request.sizeBytes / blockBytes;
    walker.start(request.head as Bio, true);
    for (let block = 0; block < blocks; block++) {
      let crc = 0;
      let left = blockBytes;
      while (left > 0) {
        if (!walker.next(left) || !walker.memory.bytes(walker.offset, walker.length, data)) {
          return BlockStatus.protection;
        }
        crc = crc16T10(data.bytes, data.offset, walker.length, crc);
        left -= walker.length;
      }
      const at = metadata.offset + block * metadataBytes;
      // The guard covers metadata in front of it as well.
      crc = crc16T10(metadata.bytes, at, tupleOffset, crc);
      const refTag = this.refTagOf(request, block);
      if (isWrite) setPi(metadata.bytes, at + tupleOffset, crc, request.appTag, refTag);
      else if (!this.matches(metadata.bytes, at + tupleOffset, crc, refTag, request)) {
        this.mismatches++;
        return BlockStatus.protection;
      }
    }
    return BlockStatus.ok;
  }

  inspect(): Tree {
    const { byController, byCaller, byCpu, mismatches } = this;
    return { piType: this.profile.piType, byController, byCaller, byCpu, mismatches };
  }

  private refTagOf(request: Request, block: number): number {
    return this.profile.piType === PiType.type3 ? request.refTag : (request.refTag + block) >>> 0;
  }

  private matches(
    bytes: Uint8Array,
    at: number,
    guard: number,
    refTag: number,
    request: Request,
  ): boolean {
    const appTag = getAppTag(bytes, at);
    const isType3 = this.profile.piType === PiType.type3;
    // The escape values turn checks off: nobody wrote this block with protection information.
    if (appTag === APP_TAG_ESCAPE && (!isType3 || getRefTag(bytes, at) === REF_TAG_ESCAPE)) {
      return true;
    }
    if (getGuard(bytes, at) !== guard) return false;
    if (((appTag ^ request.appTag) & request.appTagMask) !== 0) return false;
    return isType3 || getRefTag(bytes, at) === refTag;
  }
}
