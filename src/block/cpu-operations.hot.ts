/**
 * Operations of the CPU on the data of a bio: zeroing, copying, bouncing, dirty marks. On host
 * memory they do their work; on a dma-direct bio they do what its operation class says, and that
 * is counted.
 *
 * Answers are block statuses: `ok` when done, and also when skipped (the class says that nothing is
 * to be done); `notSupported` when refused.
 */

import { type Copier, Span, type Tree } from "../core/index.ts";
import type { IoMemory } from "../memory/index.ts";
import type { Bio } from "./bio.hot.ts";
import { BioFlag, BioOp } from "./operation.ts";
import {
  CPU_OPERATION_NAMES,
  CpuOperation,
  OPERATION_CLASSES,
  OperationClass,
} from "./operation-class.ts";
import { BlockStatus } from "./status.ts";
import { VecWalker } from "./walk.hot.ts";

/** Whoever keeps track of pages that a read has changed. */
export interface DirtyTracker {
  markDirty(memory: IoMemory, offset: number, length: number): void;
}

export class CpuOperations {
  /** By operation: how often it was skipped, refused, and refused with a warning. */
  readonly skipped = new Float64Array(CPU_OPERATION_NAMES.length);
  readonly refused = new Float64Array(CPU_OPERATION_NAMES.length);
  readonly warned = new Float64Array(CPU_OPERATION_NAMES.length);
  private readonly copier: Copier;
  private readonly classes: Uint8Array;
  private readonly walker = new VecWalker();
  private readonly other = new VecWalker();
  private readonly span = new Span();
  private readonly otherSpan = new Span();

  /** `classes`: `OPERATION_CLASSES` unless the RFC's behaviour is to be shown. */
  constructor(copier: Copier, classes: Uint8Array = OPERATION_CLASSES) {
    this.copier = copier;
    this.classes = classes;
  }

  /** The class that applies to this bio, counted. */
  classFor(operation: number, bio: Bio): number {
    if ((bio.flags & BioFlag.dmaDirect) === 0) return OperationClass.allow;
    const found = this.classes[operation];
    if (found === OperationClass.skip) this.skipped[operation]++;
    else if (found !== OperationClass.allow) this.refused[operation]++;
    if (found === OperationClass.refuseAndWarn) this.warned[operation]++;
    return found;
  }

  /** `ok`: go on; {@link SKIP}: nothing to do; else the refusal. */
  private gate(operation: number, bio: Bio): number {
    const found = this.classFor(operation, bio);
    if (found === OperationClass.allow) return BlockStatus.ok;
    return found === OperationClass.skip ? SKIP : BlockStatus.notSupported;
  }

  /** Zeroes what is left of the bio. */
  zeroFill(bio: Bio): number {
    const verdict = this.gate(CpuOperation.zeroFill, bio);
    if (verdict !== BlockStatus.ok) return statusOf(verdict);
    const { walker, span } = this;
    walker.start(bio);
    while (walker.next(Number.MAX_SAFE_INTEGER)) {
      if (!spanOf(walker, span)) return BlockStatus.invalid;
      span.bytes.fill(0, span.offset, span.offset + span.length);
    }
    return BlockStatus.ok;
  }

  /** Copies `source` into the bio, as far as both go. */
  copyIn(bio: Bio, source: Uint8Array): number {
    return this.copyBytes(CpuOperation.copyIn, bio, source, true);
  }

  /** Copies the bio into `target`, as far as both go. */
  copyOut(bio: Bio, target: Uint8Array): number {
    return this.copyBytes(CpuOperation.copyOut, bio, target, false);
  }

  private copyBytes(operation: number, bio: Bio, bytes: Uint8Array, isIn: boolean): number {
    const verdict = this.gate(operation, bio);
    if (verdict !== BlockStatus.ok) return statusOf(verdict);
    const { walker, span, copier } = this;
    walker.start(bio);
    let at = 0;
    while (at < bytes.length && walker.next(bytes.length - at)) {
      if (!spanOf(walker, span)) return BlockStatus.invalid;
      if (isIn) copier.copy(span.bytes, span.offset, bytes, at, span.length);
      else copier.copy(bytes, at, span.bytes, span.offset, span.length);
      at += walker.length;
    }
    return BlockStatus.ok;
  }

  /** Copies the data of `source` over that of `target`, as far as both go. */
  copyData(target: Bio, source: Bio): number {
    let verdict = this.gate(CpuOperation.copyData, source);
    if (verdict === BlockStatus.ok) verdict = this.gate(CpuOperation.copyData, target);
    if (verdict !== BlockStatus.ok) return statusOf(verdict);
    const { walker, other, span, otherSpan } = this;
    walker.start(target);
    other.start(source);
    let left = Math.min(target.sizeBytes, source.sizeBytes);
    let targetAt = 0;
    let targetLeft = 0;
    let sourceAt = 0;
    let sourceLeft = 0;
    while (left > 0) {
      if (targetLeft === 0) {
        if (!walker.next(left) || !spanOf(walker, span)) return BlockStatus.invalid;
        targetAt = span.offset;
        targetLeft = walker.length;
      }
      if (sourceLeft === 0) {
        if (!other.next(left) || !spanOf(other, otherSpan)) return BlockStatus.invalid;
        sourceAt = otherSpan.offset;
        sourceLeft = other.length;
      }
      const step = Math.min(targetLeft, sourceLeft);
      this.copier.copy(span.bytes, targetAt, otherSpan.bytes, sourceAt, step);
      targetAt += step;
      targetLeft -= step;
      sourceAt += step;
      sourceLeft -= step;
      left -= step;
    }
    return BlockStatus.ok;
  }

  /** After a read: tells `tracker` which bytes of host memory changed. */
  setDirty(bio: Bio, tracker: DirtyTracker): number {
    const verdict = this.gate(CpuOperation.setDirty, bio);
    if (verdict !== BlockStatus.ok) return statusOf(verdict);
    if (bio.op !== BioOp.read) return BlockStatus.ok;
    const { walker } = this;
    walker.start(bio);
    while (walker.next(Number.MAX_SAFE_INTEGER)) {
      tracker.markDirty(walker.memory, walker.offset, walker.length);
    }
    return BlockStatus.ok;
  }

  /**
   * Puts `bounce` (an empty bio with host memory added, as large as `bio`) in the place of `bio`
   * for a device that cannot reach its memory: same operation and range, data copied for a write.
   * A dma-direct bio is never bounced: skipped, and the answer says so by leaving `bounce` as it
   * was.
   */
  bounce(bio: Bio, bounce: Bio): number {
    const verdict = this.gate(CpuOperation.bounce, bio);
    if (verdict !== BlockStatus.ok) return statusOf(verdict);
    if (bounce.sizeBytes !== bio.sizeBytes) return BlockStatus.invalid;
    bounce.op = bio.op;
    bounce.sector = bio.sector;
    return bio.op === BioOp.read ? BlockStatus.ok : this.copyData(bounce, bio);
  }

  inspect(): Tree {
    const nonZero = (counts: Float64Array): Tree => {
      const named: Record<string, number> = {};
      for (let i = 0; i < counts.length; i++) {
        if (counts[i] > 0) named[CPU_OPERATION_NAMES[i]] = counts[i];
      }
      return named;
    };
    return {
      skipped: nonZero(this.skipped),
      refused: nonZero(this.refused),
      warned: nonZero(this.warned),
    };
  }
}

function spanOf(walker: VecWalker, span: Span): boolean {
  return walker.memory.bytes(walker.offset, walker.length, span);
}

/** Internal verdict: nothing to do. */
const SKIP = -1;

function statusOf(verdict: number): number {
  return verdict === SKIP ? BlockStatus.ok : verdict;
}
