/**
 * Submission and completion queues as the controller sees them (NVM Express Base 2.0, section 3.3).
 *
 * Completions are staged and written in runs: one DMA write for what a step completed, one
 * interrupt after it. The host cannot tell, since entries become visible in order and the phase tag
 * says which are new. Interrupt coalescing by time is not modelled.
 */

import { assert } from "../../../core/index.ts";
import {
  CQE_BYTES,
  CQE_DWORDS,
  NvmeStatus,
  packCqeStatus,
  SQE_BYTES,
} from "../../../spec/nvme/index.ts";
import type { ControllerMemory } from "./controller-memory.hot.ts";

/** Completions written by one DMA write. */
const STAGED_MAX = 64;

export class CompletionQueue {
  readonly qid: number;
  readonly base: number;
  readonly entries: number;
  readonly interruptEnabled: boolean;
  readonly vector: number;
  /** Where the host reads next, as it last said. */
  head = 0;
  /** Where the next completion goes. */
  tail = 0;
  phase = 1;
  /** Submission queues that complete here. */
  users = 0;
  /** In the list of queues with staged completions. */
  dirty = false;
  /** Contexts whose completions found the queue full, in order; -1 when there are none. */
  waitingFirst = -1;
  waitingLast = -1;
  private readonly staged = new Uint32Array(STAGED_MAX * CQE_DWORDS);
  private readonly stagedBytes = new Uint8Array(this.staged.buffer);
  private stagedCount = 0;
  private stagedAt = 0;

  constructor(
    qid: number,
    base: number,
    entries: number,
    interruptEnabled: boolean,
    vector: number,
  ) {
    assert(entries >= 2, "a queue has at least two entries");
    this.qid = qid;
    this.base = base;
    this.entries = entries;
    this.interruptEnabled = interruptEnabled;
    this.vector = vector;
  }

  /** Entries that the host has not yet consumed. */
  get used(): number {
    const used = this.tail - this.head;
    return used < 0 ? used + this.entries : used;
  }

  get full(): boolean {
    return this.used === this.entries - 1;
  }

  get hasWaiting(): boolean {
    return this.waitingFirst >= 0;
  }

  /** Takes a new head from the doorbell; false when no consumer could have got there. */
  setHead(head: number): boolean {
    let moved = head - this.head;
    if (moved < 0) moved += this.entries;
    if (head >= this.entries || moved === 0 || moved > this.used) return false;
    this.head = head;
    return true;
  }

  /** Adds a completion; the queue must not be full. Returns an NVMe status of what was written. */
  stage(
    cid: number,
    completionStatus: number,
    result: number,
    submission: SubmissionQueue,
    memory: ControllerMemory,
  ): number {
    assert(!this.full, "a completion is posted only where there is room");
    let status: number = NvmeStatus.success;
    if (this.stagedCount === STAGED_MAX || (this.stagedCount > 0 && this.tail === 0)) {
      status = this.writeStaged(memory);
    }
    if (this.stagedCount === 0) this.stagedAt = this.tail;
    const words = this.staged;
    const at = this.stagedCount * CQE_DWORDS;
    words[at] = result;
    words[at + 1] = 0;
    words[at + 2] = (submission.head | (submission.qid << 16)) >>> 0;
    words[at + 3] = packCqeStatus(cid, completionStatus, this.phase);
    this.stagedCount++;
    this.tail++;
    if (this.tail === this.entries) {
      this.tail = 0;
      this.phase ^= 1;
    }
    return status;
  }

  /** Writes the staged completions to the queue. Returns an NVMe status. */
  writeStaged(memory: ControllerMemory): number {
    if (this.stagedCount === 0) return NvmeStatus.success;
    const bytes = this.stagedCount * CQE_BYTES;
    this.stagedCount = 0;
    return memory.write(this.base + this.stagedAt * CQE_BYTES, this.stagedBytes, 0, bytes);
  }
}

export class SubmissionQueue {
  readonly qid: number;
  readonly base: number;
  readonly entries: number;
  readonly cq: CompletionQueue;
  /** The next entry to fetch. */
  head = 0;
  /** One after the last entry, as the host last said. */
  tail = 0;
  /** In the ring of queues with work. */
  ready = false;
  /** Cleared when the queue is deleted: late completions have nowhere to go. */
  alive = true;

  constructor(qid: number, base: number, entries: number, cq: CompletionQueue) {
    assert(entries >= 2, "a queue has at least two entries");
    this.qid = qid;
    this.base = base;
    this.entries = entries;
    this.cq = cq;
  }

  /** Entries submitted and not fetched. */
  get pending(): number {
    const pending = this.tail - this.head;
    return pending < 0 ? pending + this.entries : pending;
  }

  /** Entries that can be fetched without going around. */
  get contiguous(): number {
    return this.tail >= this.head ? this.tail - this.head : this.entries - this.head;
  }

  get headAddress(): number {
    return this.base + this.head * SQE_BYTES;
  }

  /** Takes a new tail from the doorbell; false when no producer could have got there. */
  setTail(tail: number): boolean {
    let added = tail - this.tail;
    if (added < 0) added += this.entries;
    if (tail >= this.entries || added === 0) return false;
    if (this.pending + added >= this.entries) return false;
    this.tail = tail;
    return true;
  }

  advance(count: number): void {
    this.head += count;
    if (this.head >= this.entries) this.head -= this.entries;
  }
}
