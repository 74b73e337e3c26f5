/**
 * The workload of a scenario: writes of seeded data, then reads of the same blocks, each at its own
 * place of one buffer in the remote host's memory. It keeps the host's queue full and counts.
 *
 * Invariants: commands are made once; nothing is allocated per I/O; every command that was
 * submitted ends in `commandDone`.
 */

import {
  type CommandOwner,
  type HostBuffer,
  HostCommand,
  type HostQueue,
  SubmitStatus,
} from "../nvmet/index.ts";
import { NvmeStatus } from "../spec/nvme/index.ts";

/** One phase: all writes, or all reads, of one group of I/Os. */
export class WorkloadPhase implements CommandOwner {
  done = 0;
  errors = 0;
  bytes = 0;
  /** NVMe status of the first failure; 0 when there was none. */
  firstStatus = 0;
  private next: number;
  private readonly end: number;
  private readonly start: number;
  private readonly queue: HostQueue;
  private readonly buffer: HostBuffer;
  private readonly plan: WorkloadPlan;
  private readonly opcode: number;
  private readonly nsid: number;
  private readonly free: HostCommand[] = [];
  private freeCount = 0;

  constructor(
    queue: HostQueue,
    buffer: HostBuffer,
    plan: WorkloadPlan,
    group: WorkloadGroup,
    opcode: number,
    nsid: number,
    depth: number,
  ) {
    this.start = group.start;
    this.end = group.start + group.count;
    this.next = group.start;
    this.queue = queue;
    this.buffer = buffer;
    this.plan = plan;
    this.opcode = opcode;
    this.nsid = nsid;
    for (let i = 0; i < depth; i++) this.free.push(new HostCommand(this));
    this.freeCount = depth;
  }

  get isDone(): boolean {
    return this.done === this.end - this.start;
  }

  /** Submits as many as fit. Returns how many. */
  poll(): number {
    const { plan, queue } = this;
    let submitted = 0;
    while (this.next < this.end && this.freeCount > 0) {
      const command = this.free[this.freeCount - 1];
      const io = plan.order[this.next];
      const bytes = plan.lengths[io];
      command.opcode = this.opcode;
      command.nsid = this.nsid;
      command.setRange(plan.offsets[io] / plan.blockBytes, bytes / plan.blockBytes, false);
      command.setData(this.buffer, plan.offsets[io], bytes);
      if (queue.submit(command) !== SubmitStatus.ok) break;
      this.freeCount--;
      this.next++;
      submitted++;
    }
    queue.kick();
    return submitted;
  }

  commandDone(command: HostCommand): void {
    this.free[this.freeCount++] = command;
    this.done++;
    if (command.status === NvmeStatus.success) {
      this.bytes += command.dataBytes;
      return;
    }
    this.errors++;
    if (this.firstStatus === 0) this.firstStatus = command.status;
  }
}

/** I/Os of one size: those at `order[start]` to `order[start + count - 1]`. */
export interface WorkloadGroup {
  readonly start: number;
  readonly count: number;
  readonly size: number;
}

/** Where each I/O lies in buffer and namespace (the same offset), and in which order they go. */
export interface WorkloadPlan {
  readonly count: number;
  readonly blockBytes: number;
  readonly totalBytes: number;
  /** Bytes, by I/O. */
  readonly offsets: Float64Array;
  readonly lengths: Uint32Array;
  readonly order: Uint32Array;
  readonly groups: readonly WorkloadGroup[];
}
