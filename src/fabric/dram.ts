/**
 * Host memory: the RAM of the simulated machine, allocated in page runs, backed by arrays that
 * appear when somebody allocates or writes there.
 *
 * Invariants: an allocation is one array from first to last byte, so its CPU view and a DMA into it
 * are one copy; allocations read zero at first; RAM never overlaps an address that a window or BAR
 * claims when the machine is built. Memory that nobody allocated is there too, as on a real
 * machine: a stray DMA lands in it.
 */

import type { HostRegion } from "../backing/interface.ts";
import {
  alignUp,
  assert,
  CHUNK_BYTES,
  type Inspectable,
  isPowerOfTwo,
  PAGE_SIZE,
  PeerlaneError,
  type PhysAddr,
  physAddr,
  RangeAllocator,
  type Tree,
} from "../core/index.ts";
import type { AddressRange } from "./address-range.ts";
import type { HostRange } from "./route.ts";

/** A run of RAM in CPU addresses, multiples of 2 MiB; `limit` is one past the end. */
export interface RamRange {
  readonly base: number;
  readonly limit: number;
}

/** Where the bytes around an address are: `bytes[0]` is the byte at `base`. */
export interface Backing {
  readonly base: number;
  readonly bytes: Uint8Array;
}

interface Allocation extends HostRange {
  /** Pages that the allocator gave; more than asked for where the alignment is larger. */
  readonly pages: number;
  readonly region: HostRegion;
}

const UNALLOCATED = "unallocated";

export class Dram implements Inspectable {
  private readonly ranges: readonly RamRange[];
  private readonly allocators: RangeAllocator[];
  /** Backing by 2 MiB slab number; a large allocation stands behind several. */
  private readonly slabs = new Map<number, Backing>();
  /** Sorted by base. */
  private readonly allocations: Allocation[] = [];
  private readonly changed: () => void;

  /** `changed` is called when a cached backing or range may have become wrong. */
  constructor(ranges: readonly RamRange[], changed: () => void) {
    for (const { base, limit } of ranges) {
      assert(base % CHUNK_BYTES === 0 && limit % CHUNK_BYTES === 0, "RAM comes in 2 MiB steps");
      assert(base < limit, "a RAM range is not empty");
    }
    this.ranges = ranges;
    this.changed = changed;
    this.allocators = ranges.map(
      ({ base, limit }) =>
        new RangeAllocator({
          base: base / PAGE_SIZE,
          units: (limit - base) / PAGE_SIZE,
          order: "lowest",
          naturalAlignment: true,
        }),
    );
  }

  get sizeBytes(): number {
    return this.ranges.reduce((sum, { base, limit }) => sum + limit - base, 0);
  }

  /** Narrows `range` to one allocation, or to what lies between two, when its address is RAM. */
  contains(range: AddressRange): boolean {
    if (!this.ranges.some(({ base, limit }) => range.isIn(base, limit))) return false;
    const at = this.indexAfter(range.address);
    const before = this.allocations[at - 1];
    if (before !== undefined && range.isIn(before.base, before.base + before.sizeBytes))
      return true;
    const after = this.allocations[at];
    if (after !== undefined) range.isIn(after.base, after.base + after.sizeBytes);
    return true;
  }

  /** The array behind the range's address; narrows the range to it. */
  backingAt(range: AddressRange): Backing {
    const backing = this.slabAt(Math.floor(range.address / CHUNK_BYTES));
    range.isIn(backing.base, backing.base + backing.bytes.length);
    return backing;
  }

  /** The allocation that holds `address`, or the 2 MiB of nobody's memory around it. */
  rangeAt(address: number): HostRange {
    const before = this.allocations[this.indexAfter(address) - 1];
    if (before !== undefined && address < before.base + before.sizeBytes) return before;
    const base = address - (address % CHUNK_BYTES);
    return { base, sizeBytes: CHUNK_BYTES, purpose: UNALLOCATED };
  }

  /** Throws `no-host-memory` when no run of RAM is long enough. */
  allocate(sizeBytes: number, alignment: number, purpose: string): HostRegion {
    if (!(sizeBytes > 0) || !isPowerOfTwo(alignment) || alignment < PAGE_SIZE) {
      throw new PeerlaneError("bad-host-allocation", "host memory comes in aligned pages", {
        details: { sizeBytes, alignment },
        remedy: "ask for more than 0 bytes, aligned to a power of two of at least 4096",
      });
    }
    const size = alignUp(sizeBytes, PAGE_SIZE);
    // Natural alignment gives the alignment of the run's length; a run above 2 MiB owns its slabs.
    const run = alignUp(Math.max(size, alignment), size > CHUNK_BYTES ? CHUNK_BYTES : PAGE_SIZE);
    const base = this.takeRun(run / PAGE_SIZE);
    const bytes = this.bytesFor(base, run, sizeBytes);
    const region: HostRegion = { phys: physAddr(base), bytes };
    const pages = run / PAGE_SIZE;
    const allocation: Allocation = { base, sizeBytes: size, purpose, pages, region };
    this.allocations.splice(this.indexAfter(base), 0, allocation);
    this.changed();
    return region;
  }

  /**
   * Throws `not-allocated` for anything but a region that `allocate` gave and that is still held.
   */
  free(region: HostRegion): void {
    const at = this.indexAfter(region.phys) - 1;
    const found = this.allocations[at];
    if (found === undefined || found.region !== region) {
      throw new PeerlaneError("not-allocated", "this host memory is not allocated", {
        details: { phys: region.phys },
        remedy: "free a region once, with the object that allocateHost returned",
      });
    }
    this.allocations.splice(at, 1);
    if (found.pages * PAGE_SIZE > CHUNK_BYTES) {
      for (let i = 0; i < found.pages * PAGE_SIZE; i += CHUNK_BYTES) {
        this.slabs.delete((found.base + i) / CHUNK_BYTES);
      }
    }
    this.allocatorOf(found.base).release(found.base / PAGE_SIZE, found.pages);
    this.changed();
  }

  /** Copies out what is at `address`, without counting it as traffic: the owner's view. */
  peek(address: PhysAddr, target: Uint8Array): void {
    let done = 0;
    while (done < target.length) {
      const at = address + done;
      assert(
        this.ranges.some(({ base, limit }) => at >= base && at < limit),
        "host memory is read inside RAM",
      );
      const { base, bytes } = this.slabAt(Math.floor(at / CHUNK_BYTES));
      const run = Math.min(target.length - done, base + bytes.length - at);
      target.set(bytes.subarray(at - base, at - base + run), done);
      done += run;
    }
  }

  inspect(): Tree {
    return {
      ranges: this.ranges.map(({ base, limit }) => ({ base, limit })),
      allocations: this.allocations.map(({ base, sizeBytes, purpose }) => ({
        base,
        sizeBytes,
        purpose,
      })),
      freeBytes: this.allocators.reduce((sum, { free }) => sum + free * PAGE_SIZE, 0),
    };
  }

  private takeRun(pages: number): number {
    for (const allocator of this.allocators) {
      const at = allocator.alloc(pages);
      if (at >= 0) return at * PAGE_SIZE;
    }
    throw new PeerlaneError("no-host-memory", "no run of host memory is long enough", {
      details: { sizeBytes: pages * PAGE_SIZE, dramBytes: this.sizeBytes },
      remedy: "give the machine more memory (dramBytes), or free some",
    });
  }

  private allocatorOf(base: number): RangeAllocator {
    const at = this.ranges.findIndex((range) => base >= range.base && base < range.limit);
    assert(at >= 0, "an allocation lies in RAM");
    return this.allocators[at] as RangeAllocator;
  }

  private bytesFor(base: number, run: number, sizeBytes: number): Uint8Array {
    if (run > CHUNK_BYTES) {
      const backing = { base, bytes: new Uint8Array(run) };
      for (let i = 0; i < run; i += CHUNK_BYTES) {
        this.slabs.set((base + i) / CHUNK_BYTES, backing);
      }
      return backing.bytes.subarray(0, sizeBytes);
    }
    const number = Math.floor(base / CHUNK_BYTES);
    const isNew = !this.slabs.has(number);
    const slab = this.slabAt(number);
    const start = base - slab.base;
    if (!isNew) slab.bytes.fill(0, start, start + run);
    return slab.bytes.subarray(start, start + sizeBytes);
  }

  private slabAt(number: number): Backing {
    let slab = this.slabs.get(number);
    if (slab === undefined) {
      slab = { base: number * CHUNK_BYTES, bytes: new Uint8Array(CHUNK_BYTES) };
      this.slabs.set(number, slab);
    }
    return slab;
  }

  /** Index of the first allocation above `address`. */
  private indexAfter(address: number): number {
    let low = 0;
    let high = this.allocations.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if ((this.allocations[middle] as Allocation).base <= address) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}
