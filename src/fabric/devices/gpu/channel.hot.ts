/**
 * A channel of the model GPU: takes descriptors from its ring in host memory in order, one at a
 * time, moves or reduces VRAM, and answers with a fence record. Both directions of copies are DMA
 * of the GPU itself, so Bus Master Enable, ACS and the IOMMU stand in their way as in anybody's.
 *
 * Flow: fetch - work in pieces of at most one chunk - settle (timed mode: all its DMA has landed) -
 * fence - next. A piece of work that is left over asks for another step.
 *
 * Invariants: a fence is written after everything of its descriptor landed; a descriptor that fails
 * says so in its fence and the channel goes on; a ring or a fence that cannot be reached halts it.
 * Callbacks of before a reset or a stop find another serial and do nothing.
 *
 * Leaves out: descriptors of one channel overlapping in time, address translation in the GPU.
 */

import { assert, isVisibleToInitiator, Span, type SparseMemory } from "../../../core/index.ts";
import {
  GPU_DESC_LOG,
  GpuChannelState,
  GpuDesc,
  GpuFault,
  GpuFence,
  GpuFlag,
  GpuOp,
} from "../../../spec/gpu/index.ts";
import type { DevicePort, SettleClient, TimerClient } from "../../device.ts";
import { Reduction } from "./kernels.hot.ts";

/** What channels share. */
export interface ChannelHost {
  readonly port: DevicePort;
  readonly vram: SparseMemory;
  /** Bytes per nanosecond that kernels and local copies reach; 0: they take no time. */
  readonly vramRate: number;
  /** Nanoseconds after which an ACQUIRE gives up. */
  readonly semaphoreNs: number;
}

/** Bytes that one step moves before others get their turn. */
const STEP_BYTES = 4 * 1024 * 1024;
/** How often a semaphore is looked at. */
const ACQUIRE_POLL_NS = 500;
const WORD = 4294967296;

/** What the channel waits for. */
const Wait = { nothing: 0, settle: 1, time: 2, semaphore: 3 } as const;

export class Channel implements SettleClient, TimerClient {
  readonly index: number;
  ring = 0;
  log = 0;
  state: number = GpuChannelState.off;
  error = 0;
  put = 0;
  get = 0;
  /** Descriptors that ended, and those of them that failed. */
  done = 0;
  faults = 0;
  bytesIn = 0;
  bytesOut = 0;
  bytesReduced = 0;
  private readonly host: ChannelHost;
  private readonly desc = new Uint8Array(GpuDesc.sizeBytes);
  private readonly view = new DataView(this.desc.buffer);
  private readonly record = new Uint8Array(GpuFence.sizeBytes);
  private readonly recordView = new DataView(this.record.buffer);
  private readonly reduction = new Reduction();
  private readonly from = new Span();
  private readonly to = new Span();
  /** A descriptor is being worked on. */
  private busy = false;
  private wait: number = Wait.nothing;
  private stepping = false;
  private serial = 0;
  private opcode = 0;
  private source = 0;
  private destination = 0;
  private length = 0;
  private at = 0;
  private status = 0;
  private resultLo = 0;
  private resultHi = 0;
  private deadlineNs = 0;

  constructor(index: number, host: ChannelHost) {
    this.index = index;
    this.host = host;
  }

  /** CTRL.EN: from the ring's beginning, or to a stop with everything dropped. */
  setEnabled(enabled: boolean): void {
    this.serial++;
    this.busy = false;
    this.wait = Wait.nothing;
    this.put = 0;
    this.get = 0;
    this.error = 0;
    this.state = enabled ? GpuChannelState.idle : GpuChannelState.off;
  }

  /** The doorbell. A counter that is more than a ring ahead halts the channel. */
  ringDoorbell(put: number): void {
    if (this.state !== GpuChannelState.idle && this.state !== GpuChannelState.running) return;
    this.put = put;
    if (((put - this.get) & 0xffff) > 1 << this.log) this.halt(GpuFault.badRange);
    else this.host.port.wake();
  }

  /** Works until it waits, is idle, or its share of the step is used up. */
  step(): void {
    this.stepping = true;
    let budget = STEP_BYTES;
    while (budget > 0 && this.wait === Wait.nothing && this.next()) budget -= this.work();
    this.stepping = false;
    if (budget <= 0 && this.wait === Wait.nothing) this.host.port.wake();
  }

  /** False when there is nothing to do. */
  private next(): boolean {
    if (this.state !== GpuChannelState.idle && this.state !== GpuChannelState.running) return false;
    if (this.busy) return true;
    if (this.get === this.put) {
      this.state = GpuChannelState.idle;
      return false;
    }
    this.state = GpuChannelState.running;
    const entry = this.get & ((1 << this.log) - 1);
    const address = this.ring + entry * (1 << GPU_DESC_LOG);
    const status = this.host.port.read(address, this.desc, 0, GpuDesc.sizeBytes);
    if (status !== 0) {
      this.halt(GpuFault.dma + status);
      return false;
    }
    this.begin();
    return true;
  }

  private wide(offset: number): number {
    return this.view.getUint32(offset, true) + this.view.getUint32(offset + 4, true) * WORD;
  }

  private begin(): void {
    this.busy = true;
    this.opcode = this.desc[GpuDesc.opcode];
    this.source = this.wide(GpuDesc.source);
    this.destination = this.wide(GpuDesc.destination);
    this.length = this.wide(GpuDesc.length);
    this.at = 0;
    this.resultLo = 0;
    this.resultHi = 0;
    this.status = this.check();
    if (this.status !== GpuFault.ok) return;
    if (this.opcode === GpuOp.acquire) {
      this.deadlineNs = this.host.port.nowNs() + this.host.semaphoreNs;
    } else if (this.opcode === GpuOp.reduce && !this.reduction.begin(this.desc[GpuDesc.kernel])) {
      this.status = GpuFault.badKernel;
    }
  }

  private inVram(offset: number, length: number): boolean {
    return offset + length <= this.host.vram.sizeBytes;
  }

  private check(): number {
    const { source, destination, length } = this;
    switch (this.opcode) {
      case GpuOp.nop:
        this.length = 0;
        return GpuFault.ok;
      case GpuOp.copyIn:
      case GpuOp.fill:
        return this.inVram(destination, length) ? GpuFault.ok : GpuFault.badRange;
      case GpuOp.copyOut:
        return this.inVram(source, length) ? GpuFault.ok : GpuFault.badRange;
      case GpuOp.copyLocal: {
        const overlap = source < destination + length && destination < source + length;
        const inside = this.inVram(source, length) && this.inVram(destination, length);
        return inside && !(overlap && length > 0) ? GpuFault.ok : GpuFault.badRange;
      }
      case GpuOp.reduce: {
        if (!this.inVram(source, length)) return GpuFault.badRange;
        const words = this.desc[GpuDesc.kernel] !== 0;
        return words && (source % 4 !== 0 || length % 4 !== 0) ? GpuFault.unaligned : GpuFault.ok;
      }
      case GpuOp.acquire:
        this.length = 0;
        if (!this.inVram(source, 4)) return GpuFault.badRange;
        return source % 4 === 0 ? GpuFault.ok : GpuFault.unaligned;
      default:
        return GpuFault.badOpcode;
    }
  }

  /** Moves the descriptor on; the bytes it took. */
  private work(): number {
    if (this.status === GpuFault.ok && this.opcode === GpuOp.acquire && !this.isAcquired()) {
      return 0;
    }
    if (this.status !== GpuFault.ok || this.at >= this.length) {
      this.finishWork();
      return GpuDesc.sizeBytes;
    }
    const left = this.length - this.at;
    const run = this.piece(Math.min(left, STEP_BYTES));
    this.at += run;
    return run;
  }

  /** True when the semaphore is there, or will not come; false after it armed another look. */
  private isAcquired(): boolean {
    const { vram, port } = this.host;
    vram.borrow(this.source, 4, this.from);
    const { bytes, offset } = this.from;
    const word =
      bytes[offset] |
      (bytes[offset + 1] << 8) |
      (bytes[offset + 2] << 16) |
      (bytes[offset + 3] << 24);
    const ahead = (word - this.view.getInt32(GpuDesc.value, true)) | 0;
    if (ahead >= 0) return true;
    if (port.nowNs() >= this.deadlineNs) {
      this.status = GpuFault.timeout;
      return true;
    }
    this.wait = Wait.semaphore;
    port.after(ACQUIRE_POLL_NS, this, this.serial);
    return false;
  }

  /** One contiguous piece of at most `length` bytes; how many it was. */
  private piece(length: number): number {
    const { vram, port } = this.host;
    const { from, to, at } = this;
    switch (this.opcode) {
      case GpuOp.copyIn: {
        vram.borrowForWrite(this.destination + at, length, to);
        const status = port.read(this.source + at, to.bytes, to.offset, to.length);
        if (status !== 0) this.status = GpuFault.dma + status;
        else this.bytesIn += to.length;
        return to.length;
      }
      case GpuOp.copyOut: {
        vram.borrow(this.source + at, length, from);
        const status = port.write(this.destination + at, from.bytes, from.offset, from.length);
        if (isVisibleToInitiator(status)) this.status = GpuFault.dma + status;
        else this.bytesOut += from.length;
        return from.length;
      }
      case GpuOp.copyLocal:
        vram.borrow(this.source + at, length, from);
        vram.write(this.destination + at, from.bytes, from.offset, from.length);
        return from.length;
      case GpuOp.fill:
        vram.fill(this.destination + at, length, this.desc[GpuDesc.value]);
        return length;
      default:
        vram.borrow(this.source + at, length, from);
        this.reduction.take(from.bytes, from.offset, from.length);
        this.bytesReduced += from.length;
        return from.length;
    }
  }

  /** The work is done; its time in VRAM passes, then its DMA lands. */
  private finishWork(): void {
    if (this.opcode === GpuOp.reduce && this.status === GpuFault.ok) {
      this.reduction.end();
      this.resultLo = this.reduction.lo;
      this.resultHi = this.reduction.hi;
    }
    const { vramRate, port } = this.host;
    const local = this.opcode >= GpuOp.copyLocal && this.length > 0;
    if (vramRate > 0 && local && this.status === GpuFault.ok) {
      this.wait = Wait.time;
      port.after(this.length / vramRate, this, this.serial);
      return;
    }
    this.settle();
  }

  private settle(): void {
    this.wait = Wait.settle;
    this.host.port.settle(this, this.serial);
  }

  timer(token: number): void {
    if (token !== this.serial) return;
    if (this.wait === Wait.time) this.settle();
    else if (this.wait === Wait.semaphore) {
      this.wait = Wait.nothing;
      this.host.port.wake();
    }
  }

  settled(token: number): void {
    if (token !== this.serial || this.wait !== Wait.settle) return;
    this.wait = Wait.nothing;
    this.complete();
    if (!this.stepping) this.host.port.wake();
  }

  private complete(): void {
    assert(this.busy, "a descriptor completes once");
    this.busy = false;
    this.get = (this.get + 1) & 0xffff;
    this.done++;
    if (this.status !== GpuFault.ok) this.faults++;
    const flags = this.desc[GpuDesc.flags];
    if (GpuFlag.fence.get(flags) === 1) {
      const view = this.recordView;
      view.setUint32(GpuFence.value, this.view.getUint32(GpuDesc.fenceValue, true), true);
      view.setUint32(GpuFence.status, this.status, true);
      view.setUint32(GpuFence.result, this.resultLo, true);
      view.setUint32(GpuFence.result + 4, this.resultHi, true);
      const address = this.wide(GpuDesc.fence);
      const status = this.host.port.write(address, this.record, 0, GpuFence.sizeBytes);
      if (isVisibleToInitiator(status)) {
        this.halt(GpuFault.dma + status);
        return;
      }
    }
    if (GpuFlag.interrupt.get(flags) === 1) this.host.port.interrupt(this.index);
  }

  private halt(error: number): void {
    this.serial++;
    this.busy = false;
    this.wait = Wait.nothing;
    this.error = error;
    this.state = GpuChannelState.halted;
  }
}
