/**
 * Completion queues of the model RNIC. Completions pass through one FIFO in the order in which they
 * came to be; each is written once everything the RNIC transferred before it has landed (`settle`),
 * so that in timed mode software never sees a completion before its data. Those of one batch that
 * are neighbours in their queue are written by one DMA.
 *
 * Invariants: a completion is written whole, owner bit included; a queue is never
 * written beyond what its consumer published: one completion too many puts it in overrun for good.
 */

import { assert, isVisibleToInitiator, Span, type Tree } from "../../../core/index.ts";
import { CQE_LOG, Cqe, CqeFlag } from "../../../spec/rdma/index.ts";
import type { DevicePort, SettleClient } from "../../device.ts";

const CQE_WORDS = Cqe.sizeBytes / 4;
/** Completions waiting for data to land: more only in timed mode with deep queues. */
const FIFO_START = 256;
const FIFO_MAX = 1 << 20;
/** Counters start over at the next quiet moment: small integers are the fast ones. */
const TOKEN_MAX = 2 ** 30;

/** One completion queue as the device knows it. */
export class RnicCq {
  readonly number: number;
  readonly ring: number;
  readonly depthLog: number;
  readonly mask: number;
  /** DMA address of the consumer's doorbell record. */
  readonly record: number;
  readonly vector: number;
  /** Completions written; runs freely modulo 2^16. */
  producer = 0;
  /** Consumer as last read. */
  consumer = 0;
  overrun = false;
  destroyed = false;
  /** 0 not armed, 1 next completion, 2 next solicited completion. */
  armed = 0;
  /** Queue pairs that complete here. */
  users = 0;

  constructor(number: number, ring: number, depthLog: number, record: number, vector: number) {
    this.number = number;
    this.ring = ring;
    this.depthLog = depthLog;
    this.mask = (1 << depthLog) - 1;
    this.record = record;
    this.vector = vector;
  }

  inspect(): Tree {
    return {
      number: this.number,
      depth: this.mask + 1,
      written: this.producer,
      consumerAsRead: this.consumer,
      overrun: this.overrun,
      armed: this.armed !== 0,
      queuePairs: this.users,
    };
  }
}

/** Told when a queue can take no more completions. */
export interface CqErrorSink {
  cqError(cq: RnicCq, dmaStatus: number): void;
}

export class CompletionUnit implements SettleClient {
  private readonly port: DevicePort;
  private readonly errors: CqErrorSink;
  private words = new Uint32Array(FIFO_START * CQE_WORDS);
  private bytes = new Uint8Array(this.words.buffer);
  private queues: (RnicCq | null)[] = new Array(FIFO_START).fill(null);
  /** Counters of the FIFO; completion n is in slot (n - base) modulo its size. */
  private head = 0;
  private tail = 0;
  private base = 0;
  private capacity = FIFO_START;
  /** Up to which completion `settle` was asked, and how many answers are to come. */
  private asked = 0;
  private outstanding = 0;
  private waking = false;
  private readonly span = new Span();
  /** Completions written, for inspect. */
  written = 0;

  constructor(port: DevicePort, errors: CqErrorSink) {
    this.port = port;
    this.errors = errors;
  }

  /**
   * Appends a completion; {@link flush} or {@link flushLater} must follow. Arguments as in `Cqe`;
   * `status` carries the vendor syndrome too.
   */
  push(
    cq: RnicCq,
    qpn: number,
    opcode: number,
    flags: number,
    counter: number,
    status: number,
    byteLength: number,
    immediate: number,
    sourceQpn: number,
  ): void {
    if (this.tail - this.head === this.capacity) this.grow();
    const slot = (this.tail - this.base) & (this.capacity - 1);
    const at = slot * CQE_WORDS;
    const words = this.words;
    words[at] = byteLength;
    words[at + 1] = immediate;
    words[at + 2] = qpn | (opcode << 24);
    words[at + 3] = sourceQpn | (flags << 24);
    words[at + 4] = counter;
    words[at + 5] = status;
    this.queues[slot] = cq;
    this.tail++;
  }

  /** Writes what was pushed, as soon as the data before it has landed. */
  flush(): void {
    if (this.tail === this.asked) return;
    this.asked = this.tail;
    this.outstanding++;
    this.port.settle(this, this.tail);
  }

  /** More is about to come: what was pushed is written with that, or by the next step. */
  flushLater(): void {
    if (this.waking) return;
    this.waking = true;
    this.port.wake();
  }

  /** A step of the device begins. */
  step(): void {
    this.waking = false;
    this.flush();
  }

  /** Everything up to completion number `token` has landed. */
  settled(token: number): void {
    this.outstanding--;
    while (this.head < token) {
      const slot = (this.head - this.base) & (this.capacity - 1);
      const cq = this.queues[slot] as RnicCq;
      const most = Math.min(token - this.head, this.capacity - slot);
      let count = 1;
      while (count < most && this.queues[slot + count] === cq) count++;
      this.head += count;
      this.write(cq, slot, count);
    }
    if (this.head !== this.tail) return;
    // Empty: start over, so that in functional mode the same cache lines serve every completion.
    this.base = this.head;
    if (this.head < TOKEN_MAX || this.outstanding > 0) return;
    this.base = 0;
    this.head = 0;
    this.tail = 0;
    this.asked = 0;
  }

  /** Writes `count` completions of one queue: entries that are neighbours there go in one DMA. */
  private write(cq: RnicCq, slot: number, count: number): void {
    let from = slot;
    let left = count;
    while (left > 0 && !cq.overrun && !cq.destroyed) {
      const free = cq.mask + 1 - ((cq.producer - cq.consumer) & 0xffff);
      if (free === 0) {
        if (!this.refresh(cq)) return;
        continue;
      }
      const index = cq.producer & cq.mask;
      const batch = Math.min(left, free, cq.mask + 1 - index);
      const owner = ((cq.producer >>> cq.depthLog) & 1) ^ 1;
      for (let i = 0; i < batch; i++) this.words[(from + i) * CQE_WORDS + 7] = owner;
      const address = cq.ring + (index << CQE_LOG);
      const status = this.port.write(address, this.bytes, from << CQE_LOG, batch << CQE_LOG);
      if (status !== 0 && isVisibleToInitiator(status)) {
        this.fail(cq, status);
        return;
      }
      cq.producer = (cq.producer + batch) & 0xffff;
      this.written += batch;
      if (cq.armed !== 0) this.notify(cq, from, batch);
      from += batch;
      left -= batch;
    }
  }

  /** Reads the consumer's record; false when the queue is really full. */
  private refresh(cq: RnicCq): boolean {
    const status = this.port.borrow(cq.record, 4, this.span);
    if (status !== 0) {
      this.fail(cq, status);
      return false;
    }
    assert(this.span.length === 4, "a doorbell record lies in one piece");
    const { bytes, offset } = this.span;
    cq.consumer = bytes[offset] | (bytes[offset + 1] << 8);
    if (((cq.producer - cq.consumer) & 0xffff) <= cq.mask) return true;
    this.fail(cq, 0);
    return false;
  }

  private fail(cq: RnicCq, dmaStatus: number): void {
    cq.overrun = true;
    this.errors.cqError(cq, dmaStatus);
  }

  private notify(cq: RnicCq, slot: number, count: number): void {
    for (let i = 0; i < count; i++) {
      const at = (slot + i) * CQE_WORDS;
      const flags = this.words[at + 3] >>> 24;
      const failed = this.words[at + 5] !== 0;
      if (cq.armed === 2 && (flags & CqeFlag.solicited) === 0 && !failed) continue;
      cq.armed = 0;
      this.port.interrupt(cq.vector);
      return;
    }
  }

  private grow(): void {
    assert(this.capacity < FIFO_MAX, "completions waiting for their data stay bounded");
    const words = new Uint32Array(this.capacity * 2 * CQE_WORDS);
    const queues: (RnicCq | null)[] = new Array(this.capacity * 2).fill(null);
    for (let i = this.head; i < this.tail; i++) {
      const old = (i - this.base) & (this.capacity - 1);
      const from = old * CQE_WORDS;
      const slot = (i - this.base) & (this.capacity * 2 - 1);
      words.set(this.words.subarray(from, from + CQE_WORDS), slot * CQE_WORDS);
      queues[slot] = this.queues[old];
    }
    this.words = words;
    this.bytes = new Uint8Array(words.buffer);
    this.queues = queues;
    this.capacity *= 2;
  }

  /** Forgets everything, on reset. */
  clear(): void {
    this.queues.fill(null);
    this.head = this.tail;
    this.asked = this.tail;
  }
}
