/**
 * Completion queues of the model RNIC. Completions pass through one FIFO in the order in which they
 * came to be; each is written once everything the RNIC transferred before it has landed (`settle`),
 * so that in timed mode software never sees a completion before its data.
 *
 * Invariants: a completion is written by one DMA of 32 bytes, owner bit included; a queue is never
 * written beyond what its consumer published: one completion too many puts it in overrun for good.
 */

import { assert, isVisibleToInitiator, Span, type Tree } from "../../../core/index.ts";
import { CQE_LOG, Cqe, CqeFlag } from "../../../spec/rdma/index.ts";
import type { DevicePort, SettleClient } from "../../device.ts";

const CQE_WORDS = Cqe.sizeBytes / 4;
/** Completions waiting for data to land: more only in timed mode with deep queues. */
const FIFO_START = 256;
const FIFO_MAX = 1 << 20;

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
  private queues: (RnicCq | null)[] = new Array(FIFO_START).fill(null);
  /** Counters of the FIFO; indices are modulo its size. */
  private head = 0;
  private tail = 0;
  private capacity = FIFO_START;
  private readonly span = new Span();
  /** What the DMA writes from: one place, so that its copy needs one view. */
  private readonly entry = new Uint32Array(CQE_WORDS);
  private readonly entryBytes = new Uint8Array(this.entry.buffer);
  /** Completions written, for inspect. */
  written = 0;

  constructor(port: DevicePort, errors: CqErrorSink) {
    this.port = port;
    this.errors = errors;
  }

  /** Appends a completion. Arguments as in `Cqe`; `status` carries the vendor syndrome too. */
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
    const slot = this.tail & (this.capacity - 1);
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
    this.port.settle(this, this.tail);
  }

  /** Everything up to completion number `token` has landed. */
  settled(token: number): void {
    while (this.head < token) {
      const slot = this.head & (this.capacity - 1);
      const cq = this.queues[slot] as RnicCq;
      this.queues[slot] = null;
      this.head++;
      this.write(cq, slot);
    }
    if (this.head !== this.tail) return;
    // Empty: start over, so that in functional mode the same cache line serves every completion.
    this.head = 0;
    this.tail = 0;
  }

  private write(cq: RnicCq, slot: number): void {
    if (cq.overrun || cq.destroyed) return;
    if (((cq.producer - cq.consumer) & 0xffff) > cq.mask && !this.refresh(cq)) return;
    const at = slot * CQE_WORDS;
    const { entry, words } = this;
    entry[0] = words[at];
    entry[1] = words[at + 1];
    entry[2] = words[at + 2];
    entry[3] = words[at + 3];
    entry[4] = words[at + 4];
    entry[5] = words[at + 5];
    entry[7] = ((cq.producer >>> cq.depthLog) & 1) ^ 1;
    const address = cq.ring + ((cq.producer & cq.mask) << CQE_LOG);
    const status = this.port.write(address, this.entryBytes, 0, Cqe.sizeBytes);
    if (status !== 0 && isVisibleToInitiator(status)) {
      this.fail(cq, status);
      return;
    }
    cq.producer = (cq.producer + 1) & 0xffff;
    this.written++;
    if (cq.armed !== 0) this.notify(cq, at);
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

  private notify(cq: RnicCq, at: number): void {
    const flags = this.words[at + 3] >>> 24;
    const failed = this.words[at + 5] !== 0;
    if (cq.armed === 2 && (flags & CqeFlag.solicited) === 0 && !failed) return;
    cq.armed = 0;
    this.port.interrupt(cq.vector);
  }

  private grow(): void {
    assert(this.capacity < FIFO_MAX, "completions waiting for their data stay bounded");
    const words = new Uint32Array(this.capacity * 2 * CQE_WORDS);
    const queues: (RnicCq | null)[] = new Array(this.capacity * 2).fill(null);
    for (let i = this.head; i < this.tail; i++) {
      const from = (i % this.capacity) * CQE_WORDS;
      const slot = i % (this.capacity * 2);
      words.set(this.words.subarray(from, from + CQE_WORDS), slot * CQE_WORDS);
      queues[slot] = this.queues[i % this.capacity];
    }
    this.words = words;
    this.queues = queues;
    this.capacity *= 2;
  }

  /** Forgets everything, on reset. */
  clear(): void {
    this.queues.fill(null);
    this.head = this.tail;
  }
}
