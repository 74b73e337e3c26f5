/**
 * A submission queue with its completion queue: entries, doorbells, phase tags, command identifiers
 * (NVM Express Base 2.0, section 3.3; NVMe over PCIe Transport 1.0, section 3.1). It knows nothing
 * of what commands mean; completions go to a sink.
 *
 * Invariants: one slot of the submission queue stays empty, and there are as many command
 * identifiers as usable slots, so neither ring can overflow. A doorbell is written once per batch:
 * the tail by `commit`, the head by `poll`.
 */

import type { MappedRegion } from "../backing/interface.ts";
import { assert, type Tree } from "../core/index.ts";
import { CQE_DWORDS, CqeDword, SQE_BYTES, SQE_DWORDS } from "../spec/nvme/index.ts";

/** Told of each completion. The command identifier is free already. */
export interface CommandSink {
  /** `status`: 15 bits as in spec/nvme/status.ts. `dw0`: the command's own result. */
  commandDone(cid: number, status: number, dw0: number): void;
}

/** Where a queue pair's rings are. */
export interface QueueRings {
  readonly qid: number;
  readonly depth: number;
  /** Submission queue, or its shadow when it is in the CMB. */
  readonly sq: Uint32Array;
  readonly cq: Uint32Array;
  /** The CMB and where in it the submission queue is; null: the ring is in host memory. */
  readonly cmb: MappedRegion | null;
  readonly cmbOffset: number;
  readonly registers: MappedRegion;
  readonly sqDoorbell: number;
  readonly cqDoorbell: number;
}

/** No free command identifier. */
export const NO_CID = -1;

/** Completions taken by one poll: bounds the time until other pollers run. */
const POLL_BATCH = 256;

export class QueuePair {
  readonly qid: number;
  readonly depth: number;
  readonly sq: Uint32Array;
  /** Command identifiers are 0 to this, exclusive. */
  readonly cidCount: number;
  /** Doorbell writes, both kinds. */
  doorbells = 0;
  submitted = 0;
  completed = 0;
  /** Completions of commands that are not in flight; ignored. */
  spurious = 0;
  private readonly sink: CommandSink;
  private readonly cq: Uint32Array;
  private readonly cmb: MappedRegion | null;
  private readonly cmbOffset: number;
  /** Always the same array, so that whoever copies it needs no new view. */
  private readonly entry = new Uint32Array(SQE_DWORDS);
  private readonly entryBytes = new Uint8Array(this.entry.buffer);
  private readonly registers: MappedRegion;
  private readonly sqDoorbell: number;
  private readonly cqDoorbell: number;
  private tail = 0;
  /** The tail that the controller knows. */
  private rung = 0;
  private head = 0;
  private phase = 1;
  private readonly freeCids: Uint16Array;
  private freeCount = 0;
  private readonly inFlight: Uint8Array;

  constructor(rings: QueueRings, sink: CommandSink) {
    assert(rings.depth >= 2, "a queue has at least two entries");
    assert(rings.sq.length === rings.depth * SQE_DWORDS, "a submission queue holds its entries");
    assert(rings.cq.length === rings.depth * CQE_DWORDS, "a completion queue holds its entries");
    this.qid = rings.qid;
    this.depth = rings.depth;
    this.sq = rings.sq;
    this.cq = rings.cq;
    this.cmb = rings.cmb;
    this.cmbOffset = rings.cmbOffset;
    this.registers = rings.registers;
    this.sqDoorbell = rings.sqDoorbell;
    this.cqDoorbell = rings.cqDoorbell;
    this.sink = sink;
    this.cidCount = rings.depth - 1;
    this.freeCids = new Uint16Array(this.cidCount);
    this.inFlight = new Uint8Array(this.cidCount);
    this.restart();
  }

  /** Empty rings, all identifiers free: what a controller expects after the queue is created. */
  restart(): void {
    this.sq.fill(0);
    this.cq.fill(0);
    this.tail = 0;
    this.rung = 0;
    this.head = 0;
    this.phase = 1;
    this.inFlight.fill(0);
    this.freeCount = this.cidCount;
    for (let i = 0; i < this.cidCount; i++) this.freeCids[i] = this.cidCount - 1 - i;
  }

  get inFlightCount(): number {
    return this.cidCount - this.freeCount;
  }

  isInFlight(cid: number): boolean {
    return this.inFlight[cid] !== 0;
  }

  /**
   * Takes a command identifier, or {@link NO_CID}. Follow with `entryAt`, then `push` or
   * `giveBack`.
   */
  takeCid(): number {
    if (this.freeCount === 0) return NO_CID;
    return this.freeCids[--this.freeCount];
  }

  /** Returns an identifier whose command was never pushed. */
  giveBack(cid: number): void {
    this.freeCids[this.freeCount++] = cid;
  }

  /** Dword index in `sq` where the next entry goes. */
  entryAt(): number {
    return this.tail * SQE_DWORDS;
  }

  /**
   * The entry at `entryAt` is complete, with `cid` in it. The controller sees it after `commit`.
   */
  push(cid: number): void {
    if (this.cmb !== null) this.copyToCmb(this.cmb);
    this.inFlight[cid] = 1;
    this.submitted++;
    const next = this.tail + 1;
    this.tail = next === this.depth ? 0 : next;
  }

  /** One burst of 64 bytes: what Linux does with `memcpy_toio`. */
  private copyToCmb(cmb: MappedRegion): void {
    const from = this.tail * SQE_DWORDS;
    for (let i = 0; i < SQE_DWORDS; i++) this.entry[i] = this.sq[from + i];
    cmb.writeBytes(this.cmbOffset + this.tail * SQE_BYTES, this.entryBytes);
  }

  /** Rings the tail doorbell if there is anything new. */
  commit(): void {
    if (this.tail === this.rung) return;
    this.rung = this.tail;
    this.doorbells++;
    this.registers.write32(this.sqDoorbell, this.tail);
  }

  /** Takes completions, in order, and rings the head doorbell once. Returns how many. */
  poll(): number {
    const { cq } = this;
    let done = 0;
    while (done < POLL_BATCH) {
      const at = this.head * CQE_DWORDS;
      const word = cq[at + CqeDword.status];
      if (((word >>> 16) & 1) !== this.phase) break;
      done++;
      // Moved on before the sink runs: it may poll again.
      if (++this.head === this.depth) {
        this.head = 0;
        this.phase ^= 1;
      }
      const cid = word & 0xffff;
      if (cid >= this.cidCount || this.inFlight[cid] === 0) {
        this.spurious++;
        continue;
      }
      this.inFlight[cid] = 0;
      this.freeCids[this.freeCount++] = cid;
      this.completed++;
      this.sink.commandDone(cid, word >>> 17, cq[at + CqeDword.dw0]);
    }
    if (done > 0) {
      this.doorbells++;
      this.registers.write32(this.cqDoorbell, this.head);
    }
    return done;
  }

  inspect(): Tree {
    return {
      qid: this.qid,
      depth: this.depth,
      submissionQueueIn: this.cmb === null ? "host memory" : "CMB",
      inFlight: this.inFlightCount,
      tail: this.tail,
      head: this.head,
      submitted: this.submitted,
      completed: this.completed,
      doorbells: this.doorbells,
      spurious: this.spurious,
    };
  }
}
