/**
 * The interrupt controller: gives out message addresses and data, takes messages that arrive in the
 * interrupt window, and hands them to their sinks when the fabric is polled.
 *
 * Invariants: a sink is never called from inside a DMA; a message that arrives while the same
 * vector is pending is the same interrupt; a message that nobody asked for is counted, not lost
 * silently.
 *
 * Source of the message format: Intel SDM volume 3, 11.11 (address 0xfeeDD000 with destination DD,
 * vector in the low byte of the data). Vectors 0x20 to 0xff are given out.
 */

import type { InterruptSink } from "../backing/interface.ts";
import {
  assert,
  INTERRUPTS_MAX,
  type Inspectable,
  PeerlaneError,
  type Tree,
} from "../core/index.ts";
import { INTERRUPT_WINDOW } from "./interrupt-window.ts";

const FIRST_VECTOR = 0x20;
const VECTORS = 256 - FIRST_VECTOR;

/** One allocated interrupt: what to program into the device. */
export class InterruptLine {
  readonly address: number;
  readonly data: number;
  readonly sink: InterruptSink;
  /** The device's own vector number, which the sink is told. */
  readonly vector: number;
  isPending = false;

  constructor(index: number, sink: InterruptSink, vector: number) {
    this.address = INTERRUPT_WINDOW.base + Math.floor(index / VECTORS) * 4096;
    this.data = FIRST_VECTOR + (index % VECTORS);
    this.sink = sink;
    this.vector = vector;
  }
}

export class InterruptController implements Inspectable {
  private readonly lines: (InterruptLine | null)[] = [];
  private pending: InterruptLine[] = [];
  private delivering: InterruptLine[] = [];
  private delivered = 0;
  private spurious = 0;

  /**
   * Lines for vectors 0 to count-1 with consecutive data: MSI needs that. Throws `no-interrupts`.
   */
  allocate(count: number, sink: InterruptSink): InterruptLine[] {
    const first = this.firstFor(count);
    if (first + count > INTERRUPTS_MAX) {
      throw new PeerlaneError("no-interrupts", "the machine has no interrupt vectors left", {
        remedy: "ask for fewer vectors per function",
      });
    }
    return Array.from({ length: count }, (_, vector) => {
      const line = new InterruptLine(first + vector, sink, vector);
      while (this.lines.length < first + vector) this.lines.push(null);
      this.lines[first + vector] = line;
      return line;
    });
  }

  release(lines: readonly InterruptLine[]): void {
    for (const line of lines) {
      const index = indexOf(line.address, line.data);
      if (this.lines[index] !== line) continue;
      this.lines[index] = null;
      line.isPending = false;
    }
    this.pending = this.pending.filter((line) => !lines.includes(line));
  }

  /** A message write reached the interrupt window. */
  messageArrived(address: number, data: number): void {
    const line = this.lines[indexOf(address, data)] ?? null;
    if (line === null) {
      this.spurious++;
      return;
    }
    if (line.isPending) return;
    line.isPending = true;
    this.pending.push(line);
  }

  /** Calls the sinks of what is pending; returns how many. */
  deliver(): number {
    if (this.pending.length === 0) return 0;
    assert(this.delivering.length === 0, "interrupt sinks do not poll the fabric");
    const batch = this.pending;
    this.pending = this.delivering;
    this.delivering = batch;
    for (const line of batch) {
      if (!line.isPending) continue;
      line.isPending = false;
      line.sink.interrupt(line.vector);
      this.delivered++;
    }
    const count = batch.length;
    batch.length = 0;
    return count;
  }

  inspect(): Tree {
    return {
      allocated: this.lines.filter((line) => line !== null).length,
      pending: this.pending.length,
      delivered: this.delivered,
      spurious: this.spurious,
    };
  }

  /**
   * The first run of `count` free lines. MSI data may differ in its low bits only, so the data of a
   * run begins at a multiple of `count` rounded up to a power of two, and a run has one
   * destination.
   */
  private firstFor(count: number): number {
    const align = Math.min(2 ** Math.ceil(Math.log2(count)), FIRST_VECTOR);
    for (let first = 0; first < INTERRUPTS_MAX; first += align) {
      const isSplit = count <= VECTORS && (first % VECTORS) + count > VECTORS;
      if (!isSplit && this.isFree(first, count)) return first;
    }
    return INTERRUPTS_MAX;
  }

  private isFree(first: number, count: number): boolean {
    const end = Math.min(first + count, this.lines.length);
    for (let at = first; at < end; at++) if (this.lines[at] !== null) return false;
    return true;
  }
}

function indexOf(address: number, data: number): number {
  const destination = Math.floor((address - INTERRUPT_WINDOW.base) / 4096);
  return destination * VECTORS + (data & 0xff) - FIRST_VECTOR;
}
