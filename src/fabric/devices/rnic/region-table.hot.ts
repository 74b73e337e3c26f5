/**
 * Memory regions of the model RNIC: from a key and an address of the region to DMA addresses.
 *
 * A key is 24 bits of index and 8 bits that change with every use of the slot (IBA 10.6.3.2), so a
 * stale key does not find the region's successor. L_Key and R_Key of a region are the same number.
 * Index 1 is the reserved L_Key: a region over all DMA addresses, for local use in any domain.
 *
 * Invariants: ranges of a region are contiguous in the region's own addresses and in ascending
 * order; `check` never gives a region that does not cover all of the access.
 */

import { ADDRESS_LIMIT, assert, hex, type Tree } from "../../../core/index.ts";
import { Access, Range } from "../../../spec/rdma/index.ts";
import type { DevicePort } from "../../device.ts";

/** Slot of the reserved L_Key. Slot 0 stays empty: key 0 ends lists of SGEs. */
const DIRECT_SLOT = 1;
export const DIRECT_LKEY = DIRECT_SLOT << 8;

export const RegionCheck = {
  ok: 0,
  /** No region has this key, or it is invalid at present. */
  badKey: 1,
  /** Of another protection domain. */
  badPd: 2,
  noAccess: 3,
  outOfBounds: 4,
  /** Its translation is being changed: try again soon. */
  suspended: 5,
} as const;

export class Region {
  readonly slot: number;
  key: number;
  readonly pd: number;
  access: number;
  /** False while a fast register region waits to be filled, and after it was invalidated. */
  valid: boolean;
  readonly fastRegister: boolean;
  /** Not valid, for a while. */
  suspended = false;
  /** First address in the region's own terms. */
  address: number;
  length: number;
  rangeCount: number;
  /** With one range: DMA address minus address in the region's own terms. */
  delta: number;
  /** Offset in the region at which each range begins. */
  readonly starts: Float64Array;
  /** DMA address of each range. */
  readonly targets: Float64Array;

  constructor(slot: number, key: number, pd: number, rangesMax: number, fastRegister: boolean) {
    this.slot = slot;
    this.key = key;
    this.pd = pd;
    this.access = 0;
    this.valid = false;
    this.fastRegister = fastRegister;
    this.address = 0;
    this.length = 0;
    this.rangeCount = 0;
    this.delta = 0;
    this.starts = new Float64Array(rangesMax);
    this.targets = new Float64Array(rangesMax);
  }

  inspect(): Tree {
    return {
      key: hex(this.key),
      pd: this.pd,
      valid: this.valid,
      suspended: this.suspended,
      access: this.access,
      address: hex(this.address),
      length: this.length,
      ranges: this.rangeCount,
    };
  }

  /** Gives the region its meaning, once its ranges are filled in. */
  define(address: number, length: number, access: number): void {
    this.address = address;
    this.length = length;
    this.access = access;
    this.delta = this.targets[0] - address;
    this.valid = true;
  }

  /** Offset in the region at which a range ends. */
  rangeEnd(range: number): number {
    return range + 1 < this.rangeCount ? this.starts[range + 1] : this.length;
  }

  /** Index of the range that holds `offset`. */
  rangeAt(offset: number): number {
    let low = 0;
    let high = this.rangeCount - 1;
    while (low < high) {
      const middle = (low + high + 1) >> 1;
      if (this.starts[middle] <= offset) low = middle;
      else high = middle - 1;
    }
    return low;
  }
}

/** Ranges fetched by one DMA. */
const RANGE_BATCH = 256;

export class RegionTable {
  private readonly rangeBytes = new Uint8Array(RANGE_BATCH * Range.sizeBytes);
  private readonly rangeView = new DataView(this.rangeBytes.buffer);
  private readonly slots: (Region | null)[] = [null];
  /** Slots given back, oldest first. */
  private readonly free: number[] = [];
  private readonly regionsMax: number;
  /** Changes with every use of a slot: the low bits of its key. */
  private readonly variants: Uint8Array;
  count = 0;
  /** Regions that are suspended; while there are none nobody asks. */
  suspendedCount = 0;
  /** Why the last {@link check} gave nothing: a `RegionCheck`. */
  reason = 0;

  constructor(regionsMax: number) {
    this.regionsMax = regionsMax;
    this.variants = new Uint8Array(regionsMax);
    const direct = new Region(DIRECT_SLOT, DIRECT_LKEY, 0, 1, false);
    direct.rangeCount = 1;
    direct.define(0, ADDRESS_LIMIT, Access.localWrite);
    this.slots.push(direct);
  }

  /** A region in a free slot, invalid yet; null when all are taken. */
  create(pd: number, rangesMax: number, fastRegister: boolean): Region | null {
    const slot = this.free.shift() ?? this.slots.length;
    if (slot >= this.regionsMax) return null;
    this.variants[slot]++;
    const made = new Region(slot, slot * 256 + this.variants[slot], pd, rangesMax, fastRegister);
    this.slots[slot] = made;
    this.count++;
    return made;
  }

  /** The region of this key whether valid or not; null when there is none. */
  find(key: number): Region | null {
    const region = this.slots[key >>> 8] ?? null;
    return region !== null && region.key === key ? region : null;
  }

  /** The region in the slot of this key, whatever its variant. For fast registration. */
  findSlot(key: number): Region | null {
    const slot = key >>> 8;
    return slot > DIRECT_SLOT && slot < this.slots.length ? this.slots[slot] : null;
  }

  /**
   * Fills the region's ranges from a list in host memory and sets its length to their sum. Returns
   * a `DmaStatus`; -1 when a range is empty or the sum is no address.
   */
  readRanges(region: Region, port: DevicePort, list: number, count: number): number {
    let total = 0;
    for (let done = 0; done < count; done += RANGE_BATCH) {
      const batch = Math.min(count - done, RANGE_BATCH);
      const at = list + done * Range.sizeBytes;
      const status = port.read(at, this.rangeBytes, 0, batch * Range.sizeBytes);
      if (status !== 0) return status;
      for (let i = 0; i < batch; i++) {
        const entry = i * Range.sizeBytes;
        const length =
          this.rangeView.getUint32(entry + Range.length, true) +
          this.rangeView.getUint32(entry + Range.length + 4, true) * 4294967296;
        if (length === 0 || total + length > ADDRESS_LIMIT) return -1;
        region.starts[done + i] = total;
        region.targets[done + i] =
          this.rangeView.getUint32(entry, true) +
          this.rangeView.getUint32(entry + 4, true) * 4294967296;
        total += length;
      }
    }
    region.rangeCount = count;
    region.length = total;
    return 0;
  }

  destroy(region: Region): void {
    assert(this.slots[region.slot] === region, "a region is destroyed once");
    assert(region.slot !== DIRECT_SLOT, "the reserved L_Key stays");
    // A message in the middle of it finds out at its next run.
    region.valid = false;
    this.setSuspended(region, false);
    this.slots[region.slot] = null;
    this.free.push(region.slot);
    this.count--;
  }

  /** Makes a fast register region's key invalid. False when this key may not be invalidated. */
  invalidate(key: number, pd: number): boolean {
    const region = this.find(key);
    if (region === null || region.pd !== pd || !region.valid || region.slot === DIRECT_SLOT) {
      return false;
    }
    region.valid = false;
    return true;
  }

  /**
   * The region that lets a queue pair of domain `pd` use [address, address + length) with `access`;
   * null and {@link reason} otherwise. Remote accesses may not use the reserved L_Key.
   */
  check(key: number, pd: number, access: number, address: number, length: number): Region | null {
    const slot = key >>> 8;
    const region = slot < this.slots.length ? this.slots[slot] : null;
    if (region === null || region.key !== key || !region.valid) {
      this.reason = this.isSuspended(key, pd) ? RegionCheck.suspended : RegionCheck.badKey;
      return null;
    }
    if (region.pd !== pd && slot !== DIRECT_SLOT) {
      this.reason = RegionCheck.badPd;
      return null;
    }
    if ((region.access & access) !== access) {
      this.reason = RegionCheck.noAccess;
      return null;
    }
    const offset = address - region.address;
    if (offset < 0 || offset + length > region.length) {
      this.reason = RegionCheck.outOfBounds;
      return null;
    }
    this.reason = RegionCheck.ok;
    return region;
  }

  /** True when this key would do, but for its region being suspended. */
  isSuspended(key: number, pd: number): boolean {
    if (this.suspendedCount === 0) return false;
    const region = this.find(key);
    return region?.suspended === true && region.pd === pd;
  }

  /**
   * A suspended region is not valid; one that is no longer suspended is what its owner makes it.
   */
  setSuspended(region: Region, suspended: boolean): void {
    if (region.suspended === suspended) return;
    region.suspended = suspended;
    this.suspendedCount += suspended ? 1 : -1;
  }

  /** All regions but the reserved one. */
  list(): Region[] {
    return this.slots.filter((slot): slot is Region => slot !== null && slot.slot !== DIRECT_SLOT);
  }
}
