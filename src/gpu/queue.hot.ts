/**
 * One channel of a GPU as its driver has it: writes descriptors into the ring, rings the doorbell
 * once per batch, reaps fence records in order.
 *
 * Invariants: a submitted job ends once, through its owner; jobs of one queue end in the order of
 * submission; a fence record belongs to its slot, and its value to one job in 2^32, so a record of
 * the ring's last pass is never taken for this one's.
 */

import { assert } from "../core/index.ts";
import { GpuDesc, GpuFence } from "../spec/gpu/index.ts";

/** Status of a job whose channel halted, or whose device is gone; others are `GpuFault`. */
export const GPU_JOB_HALTED = -1;

/** Told that a job ended, from inside `poll`. */
export interface GpuJobOwner {
  jobDone(job: GpuJob): void;
}

/** What one descriptor is asked to do. Preallocate, fill, submit, reuse. */
export class GpuJob {
  opcode = 0;
  kernel = 0;
  /** VRAM offset or DMA address, by opcode. */
  source = 0;
  destination = 0;
  length = 0;
  value = 0;
  /** `GpuFault`, or {@link GPU_JOB_HALTED}. */
  status = 0;
  /** Of a reduction, as two halves. */
  resultLo = 0;
  resultHi = 0;
  owner: GpuJobOwner;

  constructor(owner: GpuJobOwner) {
    this.owner = owner;
  }
}

/** What a queue needs of its device. */
export interface QueueHardware {
  ringDoorbell(channel: number, put: number): void;
  /** True while the channel takes work. */
  isRunning(channel: number): boolean;
}

/** Polls that found nothing between two looks at the channel's state. */
const STATE_INTERVAL = 64;
const FENCE_FLAG = 1;

export class GpuQueue {
  readonly index: number;
  /** Jobs submitted and not ended. */
  pending = 0;
  submitted = 0;
  failed = 0;
  private readonly hardware: QueueHardware;
  private readonly ring: DataView;
  private readonly fences: DataView;
  private readonly fencesAt: number;
  private readonly mask: number;
  private readonly jobs: (GpuJob | null)[];
  private put = 0;
  private get = 0;
  private rung = 0;
  private nextValue = 1;
  private readonly values: Uint32Array;
  private quiet = 0;
  /** Takes nothing any more: its channel halted. */
  isDead = false;

  /** `fencesAt`: DMA address of the fence records, one per entry. */
  constructor(
    index: number,
    hardware: QueueHardware,
    ring: DataView,
    fences: DataView,
    fencesAt: number,
    log: number,
  ) {
    this.index = index;
    this.hardware = hardware;
    this.ring = ring;
    this.fences = fences;
    this.fencesAt = fencesAt;
    this.mask = (1 << log) - 1;
    this.jobs = new Array(1 << log).fill(null);
    this.values = new Uint32Array(1 << log);
  }

  /** Jobs that the queue still takes. */
  get room(): number {
    return this.mask + 1 - this.pending;
  }

  /** Writes the descriptor; the device sees it at the next `kick`. False when the queue is full. */
  submit(job: GpuJob): boolean {
    if (this.isDead || this.pending > this.mask) return false;
    const slot = this.put & this.mask;
    const at = slot * GpuDesc.sizeBytes;
    const { ring } = this;
    ring.setUint8(at + GpuDesc.opcode, job.opcode);
    ring.setUint8(at + GpuDesc.flags, FENCE_FLAG);
    ring.setUint8(at + GpuDesc.kernel, job.kernel);
    ring.setUint32(at + GpuDesc.fenceValue, this.nextValue, true);
    this.wide(at + GpuDesc.source, job.source);
    this.wide(at + GpuDesc.destination, job.destination);
    this.wide(at + GpuDesc.length, job.length);
    this.wide(at + GpuDesc.fence, this.fencesAt + slot * GpuFence.sizeBytes);
    ring.setUint32(at + GpuDesc.value, job.value, true);
    this.values[slot] = this.nextValue;
    // Zero is what a record holds before the first pass.
    this.nextValue = this.nextValue === 0xffffffff ? 1 : this.nextValue + 1;
    this.jobs[slot] = job;
    this.put = (this.put + 1) & 0xffff;
    this.pending++;
    this.submitted++;
    return true;
  }

  kick(): void {
    if (this.rung === this.put || this.isDead) return;
    this.rung = this.put;
    this.hardware.ringDoorbell(this.index, this.put);
  }

  /** Reaps; returns how many jobs ended. */
  poll(): number {
    let done = 0;
    while (this.pending > 0) {
      const slot = this.get & this.mask;
      const at = slot * GpuFence.sizeBytes;
      if (this.fences.getUint32(at + GpuFence.value, true) !== this.values[slot]) break;
      const job = this.jobs[slot] as GpuJob;
      job.status = this.fences.getUint32(at + GpuFence.status, true);
      job.resultLo = this.fences.getUint32(at + GpuFence.result, true);
      job.resultHi = this.fences.getUint32(at + GpuFence.result + 4, true);
      this.end(slot, job);
      done++;
    }
    if (done > 0) this.quiet = 0;
    else if (this.pending > 0 && ++this.quiet >= STATE_INTERVAL) {
      this.quiet = 0;
      if (!this.hardware.isRunning(this.index)) done = this.fail();
    }
    return done;
  }

  /** Ends every job as halted; the queue takes no more. */
  fail(): number {
    this.isDead = true;
    let ended = 0;
    while (this.pending > 0) {
      const slot = this.get & this.mask;
      const job = this.jobs[slot] as GpuJob;
      job.status = GPU_JOB_HALTED;
      job.resultLo = 0;
      job.resultHi = 0;
      this.end(slot, job);
      ended++;
    }
    return ended;
  }

  private end(slot: number, job: GpuJob): void {
    assert(this.jobs[slot] === job, "a job ends once");
    this.jobs[slot] = null;
    this.get = (this.get + 1) & 0xffff;
    this.pending--;
    if (job.status !== 0) this.failed++;
    job.owner.jobDone(job);
  }

  private wide(offset: number, value: number): void {
    this.ring.setUint32(offset, value >>> 0, true);
    this.ring.setUint32(offset + 4, Math.floor(value / 4294967296), true);
  }
}
