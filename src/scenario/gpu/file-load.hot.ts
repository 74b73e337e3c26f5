/**
 * Moves the pieces of a file between a block queue and any I/O memory: a bio per piece, so many at
 * a time. Byte i of the file is byte i of the memory. The memory may be host memory, a lease or a
 * dma-buf; nothing here asks.
 *
 * Invariants: bios are made once; every piece ends once, in `bioDone`.
 */

import {
  type Bio,
  BioOp,
  type BioOwner,
  type BioPool,
  BlockStatus,
  type RequestQueue,
} from "../../block/index.ts";
import { type HoldableMemory, type IoMemory, isHoldable } from "../../memory/index.ts";

/** Pieces side by side: where on the device, where in file and memory, how long. Bytes. */
export interface PieceTable {
  readonly count: number;
  readonly at: Float64Array;
  readonly offset: Float64Array;
  readonly length: Float64Array;
}

const SECTOR = 512;

export class FileLoad implements BioOwner {
  done = 0;
  bytes = 0;
  errors = 0;
  /** `BlockStatus` of the first failure. */
  firstStatus = 0;
  private next = 0;
  private readonly queue: RequestQueue;
  private readonly memory: IoMemory;
  /** The same, where it can be taken back: held for as long as a bio is under way. */
  private readonly held: HoldableMemory | null;
  private readonly pieces: PieceTable;
  private readonly pool: BioPool;
  private readonly op: number;

  constructor(
    queue: RequestQueue,
    memory: IoMemory,
    pieces: PieceTable,
    pool: BioPool,
    isWrite: boolean,
  ) {
    this.queue = queue;
    this.memory = memory;
    this.held = isHoldable(memory) ? memory : null;
    this.pieces = pieces;
    this.pool = pool;
    this.op = isWrite ? BioOp.write : BioOp.read;
  }

  get isDone(): boolean {
    return this.done === this.pieces.count;
  }

  /** Submits as many as there are bios for; reaps. Returns how many things it did. */
  poll(): number {
    const { pieces } = this;
    let submitted = 0;
    while (this.next < pieces.count) {
      const bio: Bio | null = this.pool.acquire();
      if (bio === null) break;
      const at = this.next++;
      submitted++;
      if (this.held !== null && !this.held.begin()) {
        this.fail(bio, BlockStatus.revoked);
        continue;
      }
      bio.op = this.op;
      bio.sector = pieces.at[at] / SECTOR;
      bio.owner = this;
      bio.addMemory(this.memory, pieces.offset[at], pieces.length[at]);
      this.queue.submit(bio);
    }
    this.queue.kick();
    return submitted + this.queue.poll();
  }

  bioDone(bio: Bio): void {
    if (this.held !== null) this.held.end();
    if (bio.status !== BlockStatus.ok) {
      this.fail(bio, bio.status);
      return;
    }
    this.done++;
    this.bytes += bio.sizeBytes;
    this.pool.release(bio);
  }

  private fail(bio: Bio, status: number): void {
    this.done++;
    this.errors++;
    if (this.firstStatus === 0) this.firstStatus = status;
    this.pool.release(bio);
  }
}
