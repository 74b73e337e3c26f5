/**
 * The data buffer of one command as the walkers found it: runs of addresses, each in one memory, in
 * order. Neighbouring pages that are contiguous are one run, so that a PRP list over contiguous
 * memory becomes one transfer. A cursor moves through it as data is pulled (host to controller) or
 * pushed (controller to host).
 *
 * Invariants: nothing is moved before the whole list has been walked and checked; the runs' lengths
 * sum up to `sizeBytes`; the arrays grow to the largest command seen and are then reused.
 */

import { assert, type SparseMemory } from "../../../core/index.ts";
import { NvmeStatus } from "../../../spec/nvme/index.ts";
import { type ControllerMemory, MemoryKind } from "./controller-memory.hot.ts";

const RUNS_AT_FIRST = 512;

/** Who moves: what CMBSZ calls WDS (pull) and RDS (push). */
export const Direction = { pull: 0, push: 1 } as const;

export class SegmentList {
  /** Bytes of all runs together. */
  sizeBytes = 0;
  count = 0;
  private readonly memory: ControllerMemory;
  private direction: number = Direction.pull;
  private kinds = new Int8Array(RUNS_AT_FIRST);
  /** Bus address, or offset in the CMB or PMR. */
  private addresses = new Float64Array(RUNS_AT_FIRST);
  private lengths = new Float64Array(RUNS_AT_FIRST);
  private cursor = 0;
  private cursorOffset = 0;

  constructor(memory: ControllerMemory) {
    this.memory = memory;
  }

  /** Empties the list. `direction` is a {@link Direction}. */
  begin(direction: number): void {
    this.direction = direction;
    this.count = 0;
    this.sizeBytes = 0;
    this.rewind();
  }

  rewind(): void {
    this.cursor = 0;
    this.cursorOffset = 0;
  }

  /** Adds a run at an address. Returns an NVMe status. */
  addAddress(address: number, length: number): number {
    if (length === 0) return NvmeStatus.success;
    const kind = this.memory.kindOf(address, length);
    if (kind === MemoryKind.bus) {
      this.append(MemoryKind.bus, address, length);
      return NvmeStatus.success;
    }
    if (kind === MemoryKind.straddles) return NvmeStatus.invalidUseOfCmb;
    return this.addOwn(kind, address - this.memory.windowOf(kind).start, length);
  }

  /** Adds a run at an offset in the CMB or PMR. Returns an NVMe status. */
  addOwn(kind: number, offset: number, length: number): number {
    const window = this.memory.windowOf(kind);
    assert(offset + length <= window.sizeBytes, "a run in own memory lies inside it");
    const allowed = this.direction === Direction.pull ? window.writeData : window.readData;
    if (!allowed) return NvmeStatus.invalidUseOfCmb;
    this.append(kind, offset, length);
    return NvmeStatus.success;
  }

  /** Adds bytes that are thrown away (SGL Bit Bucket of a command that returns data). */
  addBitBucket(length: number): void {
    if (length > 0) this.append(MemoryKind.bitBucket, 0, length);
  }

  /** Host to controller: the next `length` bytes into `target`. Returns an NVMe status. */
  pull(target: Uint8Array, targetOffset: number, length: number): number {
    let done = 0;
    while (done < length) {
      const run = this.takeRun(length - done);
      const at = (this.addresses[this.cursor] as number) + this.cursorOffset;
      const kind = this.kinds[this.cursor] as number;
      if (kind === MemoryKind.bus) {
        const status = this.memory.readBus(at, target, targetOffset + done, run);
        if (status !== NvmeStatus.success) return status;
      } else {
        const own = this.memory.windowOf(kind).memory as SparseMemory;
        own.read(at, target, targetOffset + done, run);
      }
      done += run;
      this.advance(run);
    }
    return NvmeStatus.success;
  }

  /** Controller to host: `length` bytes of `source` to where the cursor is. An NVMe status. */
  push(source: Uint8Array, sourceOffset: number, length: number): number {
    let done = 0;
    while (done < length) {
      const run = this.takeRun(length - done);
      const at = (this.addresses[this.cursor] as number) + this.cursorOffset;
      const kind = this.kinds[this.cursor] as number;
      if (kind === MemoryKind.bus) {
        const status = this.memory.writeBus(at, source, sourceOffset + done, run);
        if (status !== NvmeStatus.success) return status;
      } else if (kind !== MemoryKind.bitBucket) {
        const own = this.memory.windowOf(kind).memory as SparseMemory;
        own.write(at, source, sourceOffset + done, run);
      }
      done += run;
      this.advance(run);
    }
    return NvmeStatus.success;
  }

  private takeRun(wanted: number): number {
    assert(this.cursor < this.count, "a transfer stays inside its data buffer");
    const left = (this.lengths[this.cursor] as number) - this.cursorOffset;
    return Math.min(wanted, left);
  }

  private advance(run: number): void {
    this.cursorOffset += run;
    if (this.cursorOffset === this.lengths[this.cursor]) {
      this.cursor++;
      this.cursorOffset = 0;
    }
  }

  private append(kind: number, address: number, length: number): void {
    const last = this.count - 1;
    this.sizeBytes += length;
    if (last >= 0 && this.kinds[last] === kind) {
      const end = (this.addresses[last] as number) + (this.lengths[last] as number);
      if (end === address) {
        this.lengths[last] = (this.lengths[last] as number) + length;
        return;
      }
    }
    if (this.count === this.kinds.length) this.grow();
    this.kinds[this.count] = kind;
    this.addresses[this.count] = address;
    this.lengths[this.count] = length;
    this.count++;
  }

  private grow(): void {
    const size = this.kinds.length * 2;
    const kinds = new Int8Array(size);
    kinds.set(this.kinds);
    const addresses = new Float64Array(size);
    addresses.set(this.addresses);
    const lengths = new Float64Array(size);
    lengths.set(this.lengths);
    this.kinds = kinds;
    this.addresses = addresses;
    this.lengths = lengths;
  }
}
