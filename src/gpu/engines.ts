/**
 * The channels of a GPU, by what they are used for: copies in, copies out, and what happens inside
 * VRAM. Ranges here are VRAM offsets and DMA addresses; buffers are the device's (device.ts).
 *
 * Invariant: jobs of one use end in order; a GPU with fewer channels shares its last one.
 */

import {
  formatBdf,
  highHalf,
  type Inspectable,
  lowHalf,
  type Poller,
  type Tree,
  viewOf,
} from "../core/index.ts";
import type { DmaBuffer } from "../dma/index.ts";
import {
  GpuChannelCtrl,
  GpuChannelReg,
  GpuChannelState,
  GpuDesc,
  GpuFence,
  GpuOp,
  GpuReg,
  gpuDoorbell,
} from "../spec/gpu/index.ts";
import type { GpuPlace } from "./buffer.ts";
import type { GpuControl } from "./control.ts";
import { type GpuResult, PromisedQueue } from "./jobs.ts";
import { type GpuJob, GpuQueue, type QueueHardware } from "./queue.hot.ts";

/** What a channel is used for. */
const IN = 0;
const OUT = 1;
const LOCAL = 2;
const USES = 3;

interface Ring {
  readonly jobs: PromisedQueue;
  readonly buffers: readonly DmaBuffer[];
}

export class GpuEngines implements QueueHardware, Poller, Inspectable {
  private readonly control: GpuControl;
  private readonly rings: Ring[] = [];

  /** `ringLog`: log2 of the entries of each ring. Throws `dma-map`. */
  constructor(control: GpuControl, ringLog: number) {
    this.control = control;
    const log = Math.min(ringLog, control.ringLogMax);
    const used = Math.min(control.channels, USES);
    for (let channel = 0; channel < used; channel++) this.open(channel, log);
  }

  private open(channel: number, log: number): void {
    const { control } = this;
    const { dma } = control;
    const ring = dma.allocCoherent(GpuDesc.sizeBytes << log);
    const fences = dma.allocCoherent(GpuFence.sizeBytes << log);
    control.writeChannel(channel, GpuChannelReg.RINGLO, lowHalf(ring.dma));
    control.writeChannel(channel, GpuChannelReg.RINGHI, highHalf(ring.dma));
    control.writeChannel(channel, GpuChannelReg.LOG, log);
    control.writeChannel(channel, GpuChannelReg.CTRL, GpuChannelCtrl.enable.bits);
    const views = [viewOf(ring.bytes), viewOf(fences.bytes)] as const;
    const queue = new GpuQueue(channel, this, views[0], views[1], fences.dma, log);
    const jobs = new PromisedQueue(queue, `${formatBdf(dma.bdf)} channel ${channel}`);
    this.rings.push({ jobs, buffers: [ring, fences] });
  }

  private run(use: number, job: Partial<GpuJob> & Pick<GpuJob, "opcode">): Promise<GpuResult> {
    const ring = this.rings[Math.min(use, this.rings.length - 1)] as Ring;
    return ring.jobs.run(job);
  }

  /** From a DMA address into VRAM. Rejects with `gpu-job`, as all of these do. */
  async copyIn(source: number, destination: number, length: number): Promise<void> {
    await this.run(IN, { opcode: GpuOp.copyIn, source, destination, length });
  }

  /** From VRAM to a DMA address. */
  async copyOut(source: number, destination: number, length: number): Promise<void> {
    await this.run(OUT, { opcode: GpuOp.copyOut, source, destination, length });
  }

  /** Between places of a buffer. From host memory to host memory there is no way. */
  async copyPlace(from: GpuPlace, to: GpuPlace, length: number): Promise<void> {
    if (from.kind === "vram" && to.kind === "vram") {
      const job = { source: from.offset, destination: to.offset, length };
      await this.run(LOCAL, { opcode: GpuOp.copyLocal, ...job });
    } else if (from.kind === "vram" && to.kind === "host") {
      await this.copyOut(from.offset, to.dma, length);
    } else if (from.kind === "host" && to.kind === "vram") {
      await this.copyIn(from.dma, to.offset, length);
    }
  }

  async fill(destination: number, length: number, value: number): Promise<void> {
    await this.run(LOCAL, { opcode: GpuOp.fill, destination, length, value });
  }

  reduce(kernel: number, source: number, length: number): Promise<GpuResult> {
    return this.run(LOCAL, { opcode: GpuOp.reduce, kernel, source, length });
  }

  /** Holds what follows inside VRAM back until the word at `source` is `value` or later. */
  async acquire(source: number, value: number, timeoutNs: number): Promise<void> {
    this.control.write(GpuReg.SEMNS, Math.min(timeoutNs, 0xffffffff));
    await this.run(LOCAL, { opcode: GpuOp.acquire, source, value: value >>> 0 });
  }

  ringDoorbell(channel: number, put: number): void {
    const { region, doorbellsAt } = this.control;
    region.write32(doorbellsAt + gpuDoorbell(channel), put);
  }

  isRunning(channel: number): boolean {
    const state = this.control.readChannel(channel, GpuChannelReg.STATE);
    return state === GpuChannelState.idle || state === GpuChannelState.running;
  }

  poll(): number {
    let done = 0;
    for (const { jobs } of this.rings) done += jobs.poll();
    return done;
  }

  /** Jobs under way end as halted. The device must have been stopped. */
  close(): void {
    for (const { jobs, buffers } of this.rings.splice(0)) {
      jobs.fail();
      for (const buffer of buffers) this.control.dma.freeCoherent(buffer);
    }
  }

  inspect(): Tree {
    return {
      channels: this.rings.map(({ jobs: { queue } }) => ({
        index: queue.index,
        pending: queue.pending,
        submitted: queue.submitted,
        failed: queue.failed,
        dead: queue.isDead,
      })),
    };
  }
}
