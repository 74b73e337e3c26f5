/**
 * Jobs as promises, for control planes: submits them in order, keeps what does not fit the ring,
 * and turns a job's status into a result or an error. Data planes use the queue itself.
 */

import { DMA_STATUS_NAMES, PeerlaneError } from "../core/index.ts";
import { GPU_OP_NAMES, GpuFault } from "../spec/gpu/index.ts";
import { GPU_JOB_HALTED, GpuJob, type GpuJobOwner, type GpuQueue } from "./queue.hot.ts";

/** A 64-bit result as two halves, unsigned. */
export interface GpuResult {
  readonly lo: number;
  readonly hi: number;
}

const FAULT_NAMES: Readonly<Record<number, string>> = {
  [GpuFault.badOpcode]: "unknown opcode",
  [GpuFault.badKernel]: "unknown kernel",
  [GpuFault.badRange]: "range outside VRAM, or ranges that overlap",
  [GpuFault.unaligned]: "offset or length is no multiple of 4",
  [GpuFault.timeout]: "the semaphore never got there",
  [GPU_JOB_HALTED]: "its channel halted, or the GPU is gone",
};

/** What a status says, for people. */
export function formatGpuFault(status: number): string {
  if (status >= GpuFault.dma) {
    return `the bus refused: ${DMA_STATUS_NAMES[status - GpuFault.dma] ?? "unknown status"}`;
  }
  return FAULT_NAMES[status] ?? `status ${status}`;
}

class PromisedJob extends GpuJob {
  readonly resolve: (result: GpuResult) => void;
  readonly reject: (error: PeerlaneError) => void;

  constructor(owner: GpuJobOwner, resolve: PromisedJob["resolve"], reject: PromisedJob["reject"]) {
    super(owner);
    this.resolve = resolve;
    this.reject = reject;
  }
}

export class PromisedQueue implements GpuJobOwner {
  readonly queue: GpuQueue;
  private readonly place: string;
  private readonly waiting: PromisedJob[] = [];

  constructor(queue: GpuQueue, place: string) {
    this.queue = queue;
    this.place = place;
  }

  /** Runs one descriptor. Rejects with `gpu-job` (`details.status`). Settles from inside `poll`. */
  run(job: Partial<GpuJob> & Pick<GpuJob, "opcode">): Promise<GpuResult> {
    return new Promise((resolve, reject) => {
      const made = Object.assign(new PromisedJob(this, resolve, reject), job);
      this.waiting.push(made);
      this.push();
    });
  }

  /** Reaps, and submits what waited for room. */
  poll(): number {
    const done = this.queue.poll();
    if (this.waiting.length > 0) this.push();
    return done;
  }

  jobDone(job: GpuJob): void {
    const { status, opcode, resultLo, resultHi, resolve, reject } = job as PromisedJob;
    if (status === GpuFault.ok) {
      resolve({ lo: resultLo, hi: resultHi });
      return;
    }
    const name = GPU_OP_NAMES[opcode] ?? `opcode ${opcode}`;
    reject(
      new PeerlaneError("gpu-job", `${name} failed: ${formatGpuFault(status)}`, {
        place: this.place,
        remedy: "look at the route of its address, and at the channel (inspect)",
        details: { status, opcode },
      }),
    );
  }

  private push(): void {
    while (this.waiting.length > 0 && this.queue.submit(this.waiting[0] as PromisedJob)) {
      this.waiting.shift();
    }
    this.queue.kick();
    if (this.queue.isDead) this.failWaiting();
  }

  /** Ends everything, submitted or waiting, as halted. */
  fail(): void {
    this.queue.fail();
    this.failWaiting();
  }

  private failWaiting(): void {
    for (const job of this.waiting.splice(0)) {
      job.status = GPU_JOB_HALTED;
      this.jobDone(job);
    }
  }
}
