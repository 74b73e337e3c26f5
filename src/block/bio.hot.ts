/**
 * The bio: one I/O over a list of vectors. A vector is (memory, offset, length); what the offset
 * means is the memory's business, so this file is the same for host pages, bare DMA addresses and
 * leases.
 *
 * Invariants: a submitted bio ends exactly once, through its owner's `bioDone`; the iterator
 * (sector, sizeBytes, vecIndex, vecDone) moves while the queue works on the bio and is back where
 * it was when the owner gets it; a clone shares the vectors of its origin, has its own iterator
 * and cannot grow. Bios come from a `BioPool` and are never allocated per I/O.
 *
 * The vectors of all bios of a pool are in three arrays of the pool, a run each, and not in arrays
 * of each bio: an I/O then touches half the cache lines. Vector `i` of a bio is at `vecBase + i`.
 *
 * Leaves out: what limits allow (split.hot.ts), how addresses are made (map.hot.ts).
 */

import { assert, type Span } from "../core/index.ts";
import { type IoMemory, MapStatus, MemoryKind } from "../memory/index.ts";
import type { BioIntegrity } from "./integrity.ts";
import { BioFlag, BioOp, carriesData, SECTOR_BYTES } from "./operation.ts";
import { BlockStatus } from "./status.ts";

/**
 * Told that a bio ended: `bio.status` says how. Called once per submitted bio, from inside
 * `submit`, `kick` or `poll` of the queue; it may submit other bios, or this one again (a bounded
 * number of times when it failed: a dead device fails it at once).
 */
export interface BioOwner {
  bioDone(bio: Bio): void;
}

/** Fills unused vector slots so that they hold no reference and refuse every use. */
class NoMemory implements IoMemory {
  readonly kind = MemoryKind.host;
  readonly cpuAccessible = false;
  readonly needsUnmap = false;
  map(): number {
    return -MapStatus.outOfRange;
  }
  unmap(): void {}
  limitAddress(): number {
    return 0;
  }
  bytes(_offset: number, _length: number, _span: Span): boolean {
    return false;
  }
  inspect(): { kind: string } {
    return { kind: "none" };
  }
}
export const NO_MEMORY: IoMemory = new NoMemory();

class NoOwner implements BioOwner {
  bioDone(): void {
    assert(false, "a submitted bio has an owner");
  }
}
const NO_OWNER: BioOwner = new NoOwner();

const VEC_BYTES_MAX = 2 ** 32 - 1;

export class Bio {
  op: number = BioOp.read;
  /** {@link BioFlag} bits. */
  flags = 0;
  /** Where it starts, in 512-byte sectors. */
  sector = 0;
  /** Bytes left, as the iterator moves; all of them before submission and after completion. */
  sizeBytes = 0;
  vecCount = 0;
  /** Iterator: current vector, and bytes done in it. */
  vecIndex = 0;
  vecDone = 0;
  /** Where this bio's vectors start in the arrays; for a clone they are its origin's. */
  vecBase: number;
  memories: IoMemory[];
  offsets: Float64Array;
  lengths: Uint32Array;
  /** First error of any part; meaningful in `bioDone`. */
  status: number = BlockStatus.ok;
  owner: BioOwner = NO_OWNER;
  /** The owner's own number. */
  tag = 0;
  integrity: BioIntegrity | null = null;
  /** Link of whatever list the bio is on. */
  next: Bio | null = null;
  /** The bio that this one is a part of; it ends when its parts have. */
  parent: Bio | null = null;
  /** Bytes that the iterator has passed, a clone's origin included: where its metadata starts. */
  doneBytes = 0;
  /** Parts not ended yet, itself included. 0: not submitted. */
  pending = 0;
  readonly pool: BioPool;
  private readonly ownBase: number;
  private startSector = 0;
  private startBytes = 0;
  private startIndex = 0;
  private startDone = 0;
  private startDoneBytes = 0;

  constructor(pool: BioPool, vecBase: number) {
    this.pool = pool;
    this.ownBase = vecBase;
    this.vecBase = vecBase;
    this.memories = pool.memories;
    this.offsets = pool.offsets;
    this.lengths = pool.lengths;
  }

  get vecsMax(): number {
    return this.pool.vecsPerBio;
  }

  /** Forgets everything; what `acquire` gives is always reset. */
  reset(): void {
    if ((this.flags & BioFlag.clone) === 0) {
      const end = this.vecBase + this.vecCount;
      for (let i = this.vecBase; i < end; i++) this.memories[i] = NO_MEMORY;
    } else {
      const { pool } = this;
      this.vecBase = this.ownBase;
      this.memories = pool.memories;
      this.offsets = pool.offsets;
      this.lengths = pool.lengths;
    }
    this.op = BioOp.read;
    this.flags = 0;
    this.sector = 0;
    this.sizeBytes = 0;
    this.vecCount = 0;
    this.vecIndex = 0;
    this.vecDone = 0;
    this.status = BlockStatus.ok;
    this.owner = NO_OWNER;
    this.tag = 0;
    this.integrity = null;
    this.next = null;
    this.parent = null;
    this.doneBytes = 0;
    this.pending = 0;
  }

  /**
   * Adds a vector. Contiguous with the last one in the same memory: extends that one. Limits are
   * not checked here, since the queue may change; splitting enforces them. Returns a {@link
   * BlockStatus}: `resource` when the vectors are used up, `invalid` for an empty vector or a
   * clone.
   */
  addMemory(memory: IoMemory, offset: number, length: number): number {
    if ((this.flags & BioFlag.clone) !== 0) {
      this.pool.addToCloneCount++;
      return BlockStatus.invalid;
    }
    if (!(length > 0 && length <= VEC_BYTES_MAX) || this.pending !== 0) return BlockStatus.invalid;
    const count = this.vecCount;
    const at = this.vecBase + count;
    if (count > 0) {
      const last = at - 1;
      const grown = this.lengths[last] + length;
      if (
        this.memories[last] === memory &&
        this.offsets[last] + this.lengths[last] === offset &&
        grown <= VEC_BYTES_MAX
      ) {
        this.lengths[last] = grown;
        this.sizeBytes += length;
        return BlockStatus.ok;
      }
    }
    if (count === this.pool.vecsPerBio) return BlockStatus.resource;
    this.memories[at] = memory;
    this.offsets[at] = offset;
    this.lengths[at] = length;
    this.vecCount = count + 1;
    this.sizeBytes += length;
    if (!memory.cpuAccessible) this.flags |= BioFlag.dmaDirect;
    return BlockStatus.ok;
  }

  /**
   * Size of an operation that carries a range instead of vectors (write zeroes, discard, verify).
   */
  setRange(sector: number, sizeBytes: number): void {
    assert(!carriesData(this.op) && this.vecCount === 0, "only a bio without vectors has a range");
    this.sector = sector;
    this.sizeBytes = sizeBytes;
  }

  /** Bytes of the current vector that are not done yet, clipped to what is left of the bio. */
  currentBytes(): number {
    if (this.vecIndex >= this.vecCount) return 0;
    return Math.min(this.lengths[this.vecBase + this.vecIndex] - this.vecDone, this.sizeBytes);
  }

  /**
   * Moves the iterator on by `bytes`. Beyond the end: counted, the rest becomes zero, and the
   * answer is `invalid`.
   */
  advance(bytes: number): number {
    let left = bytes;
    if (!carriesData(this.op)) {
      left = Math.min(bytes, this.sizeBytes);
      this.sizeBytes -= left;
      this.doneBytes += left;
      this.sector += left / SECTOR_BYTES;
      return left === bytes ? BlockStatus.ok : this.overAdvance();
    }
    while (left > 0 && this.sizeBytes > 0) {
      if (this.vecIndex >= this.vecCount) return this.overAdvance();
      const rest = this.lengths[this.vecBase + this.vecIndex] - this.vecDone;
      const step = Math.min(left, this.sizeBytes, rest);
      left -= step;
      this.sizeBytes -= step;
      this.doneBytes += step;
      this.sector += step / SECTOR_BYTES;
      if (step === rest) {
        this.vecIndex++;
        this.vecDone = 0;
      } else {
        this.vecDone += step;
      }
    }
    return left === 0 ? BlockStatus.ok : this.overAdvance();
  }

  private overAdvance(): number {
    this.pool.overAdvanceCount++;
    this.sizeBytes = 0;
    return BlockStatus.invalid;
  }

  /**
   * Makes `this`, fresh from a pool, a clone of `origin`: its vectors and iterator, not its owner
   * or tag. The origin's vectors must not change while the clone lives.
   */
  cloneOf(origin: Bio): void {
    assert(this.vecCount === 0 && this.pending === 0, "a clone is made of a fresh bio");
    this.op = origin.op;
    this.flags = origin.flags | BioFlag.clone;
    this.sector = origin.sector;
    this.sizeBytes = origin.sizeBytes;
    this.vecCount = origin.vecCount;
    this.vecBase = origin.vecBase;
    this.memories = origin.memories;
    this.offsets = origin.offsets;
    this.lengths = origin.lengths;
    this.vecIndex = origin.vecIndex;
    this.vecDone = origin.vecDone;
    this.integrity = origin.integrity;
    this.doneBytes = origin.doneBytes;
  }

  /**
   * Cuts off the first `bytes` into a clone from `pool` and advances this bio over them. Null
   * when the pool is empty; nothing has changed then. The caller chains the clone or owns it.
   */
  splitFront(bytes: number, pool: BioPool): Bio | null {
    assert(bytes > 0 && bytes < this.sizeBytes, "a split leaves something on both sides");
    const front = pool.acquire();
    if (front === null) return null;
    front.cloneOf(this);
    front.sizeBytes = bytes;
    this.advance(bytes);
    return front;
  }

  /** Cuts off the last `bytes` into a clone from `pool`. Null when the pool is empty. */
  splitBack(bytes: number, pool: BioPool): Bio | null {
    assert(bytes > 0 && bytes < this.sizeBytes, "a split leaves something on both sides");
    const back = pool.acquire();
    if (back === null) return null;
    back.cloneOf(this);
    back.advance(this.sizeBytes - bytes);
    this.sizeBytes -= bytes;
    return back;
  }

  /**
   * Makes this bio, not submitted yet, a part of `parent`, which is: the parent ends after it. A
   * part has no owner; when it ends it goes back to its pool.
   */
  chainTo(parent: Bio): void {
    assert(this.parent === null && this.pending === 0, "a part is chained before it is submitted");
    assert(parent.pending > 0, "a part is chained to a submitted bio");
    this.parent = parent;
    parent.pending++;
  }

  /** Marks the bio as submitted and remembers where its iterator stood. For queues. */
  begin(): void {
    assert(this.pending === 0, "a bio is submitted once at a time");
    this.pending = 1;
    this.status = BlockStatus.ok;
    this.startSector = this.sector;
    this.startDoneBytes = this.doneBytes;
    this.startBytes = this.sizeBytes;
    this.startIndex = this.vecIndex;
    this.startDone = this.vecDone;
  }

  /**
   * Ends one part of the bio; after the last, the owner is told. A chained clone goes back to its
   * pool and ends a part of its parent. For queues.
   */
  end(status: number): void {
    let bio: Bio = this;
    let result = status;
    for (;;) {
      assert(bio.pending > 0, "a bio ends once");
      if (result !== BlockStatus.ok && bio.status === BlockStatus.ok) bio.status = result;
      if (--bio.pending > 0) return;
      const parent: Bio | null = bio.parent;
      if (parent === null) break;
      result = bio.status;
      bio.pool.release(bio);
      bio = parent;
    }
    bio.sector = bio.startSector;
    bio.sizeBytes = bio.startBytes;
    bio.vecIndex = bio.startIndex;
    bio.vecDone = bio.startDone;
    bio.doneBytes = bio.startDoneBytes;
    bio.owner.bioDone(bio);
  }
}

/** A fixed number of bios of one size. */
export class BioPool {
  readonly count: number;
  readonly vecsPerBio: number;
  /** Vectors of all bios: see {@link Bio.vecBase}. */
  readonly memories: IoMemory[];
  readonly offsets: Float64Array;
  readonly lengths: Uint32Array;
  private readonly free: Bio[];
  private freeCount: number;
  /** How often the pool was found empty. */
  emptyCount = 0;
  /** Misuse that this room survives but never hides: `advance` beyond the end. */
  overAdvanceCount = 0;
  /** Vectors added to a clone. */
  addToCloneCount = 0;

  /** `vecsPerBio` may be 0 for a pool of clones. */
  constructor(count: number, vecsPerBio: number) {
    assert(count > 0 && vecsPerBio >= 0, "a bio pool has bios");
    this.count = count;
    this.vecsPerBio = vecsPerBio;
    const vecs = count * vecsPerBio;
    this.memories = new Array(vecs).fill(NO_MEMORY);
    this.offsets = new Float64Array(vecs);
    this.lengths = new Uint32Array(vecs);
    this.free = [];
    for (let i = 0; i < count; i++) this.free.push(new Bio(this, i * vecsPerBio));
    this.freeCount = count;
  }

  /** A bio in its initial state, or null. */
  acquire(): Bio | null {
    if (this.freeCount === 0) {
      this.emptyCount++;
      return null;
    }
    return this.free[--this.freeCount];
  }

  release(bio: Bio): void {
    assert(bio.pool === this && this.freeCount < this.count, "a bio returns to its own pool once");
    assert(bio.pending === 0, "a bio in flight stays out of its pool");
    bio.reset();
    this.free[this.freeCount++] = bio;
  }

  get available(): number {
    return this.freeCount;
  }
}
