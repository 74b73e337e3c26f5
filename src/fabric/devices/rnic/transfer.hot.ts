/**
 * The data mover of the model RNIC: gathers lent bytes into a run, scatters a run into memory.
 * Payload is never copied inside the RNIC, except where a run needs more fragments than one packet
 * has bytes for (tiny SGEs): then the fragments are staged, and counted.
 *
 * A {@link Cursor} is a position in a list of (address, length, key), the SGEs of a work request or
 * the one target of an RDMA operation; it survives from run to run of one message.
 */

import { assert, type Copier, isVisibleToInitiator, type Span } from "../../../core/index.ts";
import { Sge } from "../../../spec/rdma/index.ts";
import type { DevicePort } from "../../device.ts";
import type { Region, RegionTable } from "./region-table.hot.ts";
import type { WireRun } from "./wire.ts";

export const TransferStatus = {
  ok: 0,
  /** A key does not cover its SGE. */
  protection: 1,
  /** The bus refused; see {@link Transfer.dmaStatus}. */
  dma: 2,
  /** More bytes than the list has room for. */
  tooLong: 3,
} as const;

/** SGEs of the longest work request: 14 fit an entry of 256 bytes, 16 a receive entry. */
const CURSOR_ENTRIES = 16;
/** Holds what up to `WIRE_FRAGMENTS_MAX` fragments below one MTU add up to. */
const STAGING_BYTES = 8192;

/** Numbers per entry of a cursor, and their places. */
const ENTRY = 4;
const LENGTH = 1;
const KEY = 2;

export class Cursor {
  count = 0;
  index = 0;
  /** Bytes of the current entry that are done. */
  offset = 0;
  /** Bytes of all entries. */
  total = 0;
  /** The region of the current entry, once checked. */
  region: Region | null = null;
  /** Address, length and key of each entry, side by side. */
  readonly entries = new Float64Array(CURSOR_ENTRIES * ENTRY);

  /** Loads `count` SGEs at `at`, without empty ones; if `ends`, up to an L_Key of 0. */
  load(view: DataView, at: number, count: number, ends: boolean): void {
    this.index = 0;
    this.offset = 0;
    this.region = null;
    let total = 0;
    let kept = 0;
    for (let i = 0; i < count; i++) {
      const entry = at + i * Sge.sizeBytes;
      const key = view.getUint32(entry + Sge.lkey, true);
      if (ends && key === 0) break;
      const length = view.getUint32(entry + Sge.length, true);
      if (length === 0) continue;
      const to = kept * ENTRY;
      this.entries[to] = view.getUint32(entry, true) + view.getUint32(entry + 4, true) * 4294967296;
      this.entries[to + LENGTH] = length;
      this.entries[to + KEY] = key;
      total += length;
      kept++;
    }
    this.count = kept;
    this.total = total;
  }

  /** Makes it one range whose region is checked already. */
  setRange(region: Region | null, address: number, length: number): void {
    this.index = 0;
    this.offset = 0;
    this.region = region;
    this.entries[0] = address;
    this.entries[LENGTH] = length;
    this.count = length === 0 ? 0 : 1;
    this.total = length;
  }

  get done(): boolean {
    return this.index >= this.count;
  }

  advance(bytes: number): void {
    this.offset += bytes;
    if (this.offset >= this.entries[this.index * ENTRY + LENGTH]) {
      this.index++;
      this.offset = 0;
      this.region = null;
    }
  }

  /** Goes back by `bytes`, across entries. Regions are looked up again. */
  rewind(bytes: number): void {
    let left = bytes;
    while (left > 0) {
      if (this.offset === 0) {
        this.index--;
        this.offset = this.entries[this.index * ENTRY + LENGTH];
        this.region = null;
      }
      const step = Math.min(this.offset, left);
      this.offset -= step;
      left -= step;
    }
  }
}

export class Transfer {
  private readonly port: DevicePort;
  private readonly regions: RegionTable;
  private readonly copier: Copier;
  private readonly staging = new Uint8Array(STAGING_BYTES);
  /** `DmaStatus` of the DMA that failed last. */
  dmaStatus = 0;
  /** Bytes that were copied inside the RNIC because their fragments were too small. */
  stagedBytes = 0;

  constructor(port: DevicePort, regions: RegionTable, copier: Copier) {
    this.port = port;
    this.regions = regions;
    this.copier = copier;
  }

  /** Looks the current entry's region up. False: the key does not cover the entry. */
  private enter(cursor: Cursor, pd: number, access: number): boolean {
    const { entries } = cursor;
    const at = cursor.index * ENTRY;
    const key = entries[at + KEY];
    cursor.region = this.regions.check(key, pd, access, entries[at], entries[at + LENGTH]);
    return cursor.region !== null;
  }

  /** True when an entry's region is suspended: nothing of the list may be moved now. */
  isSuspended(cursor: Cursor, pd: number): boolean {
    if (this.regions.suspendedCount === 0) return false;
    const end = cursor.count * ENTRY;
    for (let at = 0; at < end; at += ENTRY) {
      if (this.regions.isSuspended(cursor.entries[at + KEY], pd)) return true;
    }
    return false;
  }

  /** Checks all entries without moving anything, for READs before the request goes out. */
  checkAll(cursor: Cursor, pd: number, access: number): number {
    const { entries } = cursor;
    const end = cursor.count * ENTRY;
    for (let at = 0; at < end; at += ENTRY) {
      const key = entries[at + KEY];
      if (this.regions.check(key, pd, access, entries[at], entries[at + LENGTH]) === null) {
        return TransferStatus.protection;
      }
    }
    return TransferStatus.ok;
  }

  /**
   * Gathers the next run from the cursor: all that is left, or as much as the fragments hold, cut
   * to a multiple of `mtu`.
   */
  gatherRun(run: WireRun, cursor: Cursor, pd: number, mtu: number): number {
    run.clearPayload();
    if (cursor.region !== null && !cursor.region.valid) return TransferStatus.protection;
    for (;;) {
      const status = this.gather(run, cursor, pd);
      if (status !== TransferStatus.ok || cursor.done) return status;
      const whole = run.payloadBytes - (run.payloadBytes % mtu);
      if (whole > 0) {
        cursor.rewind(run.payloadBytes - whole);
        run.truncate(whole);
        return status;
      }
      this.stage(run);
    }
  }

  /** Appends fragments until the list or the run is used up. */
  private gather(run: WireRun, cursor: Cursor, pd: number): number {
    while (cursor.index < cursor.count) {
      const entry = cursor.index * ENTRY;
      const entryLength = cursor.entries[entry + LENGTH];
      if (cursor.region === null && !this.enter(cursor, pd, 0)) return TransferStatus.protection;
      if (run.fragmentCount === run.fragments.length) return TransferStatus.ok;
      const region = cursor.region as Region;
      let address = cursor.entries[entry] + cursor.offset;
      let left = entryLength - cursor.offset;
      if (region.rangeCount === 1) address += region.delta;
      else {
        const at = address - region.address;
        const range = region.rangeAt(at);
        left = Math.min(left, region.rangeEnd(range) - at);
        address = region.targets[range] + (at - region.starts[range]);
      }
      const span: Span = run.fragments[run.fragmentCount];
      const status = this.port.borrow(address, left, span);
      if (status !== 0) {
        this.dmaStatus = status;
        return TransferStatus.dma;
      }
      assert(span.length > 0 && span.length <= left, "a loan is of what was asked for");
      run.fragmentCount++;
      run.payloadBytes += span.length;
      cursor.advance(span.length);
    }
    return TransferStatus.ok;
  }

  /** Makes one fragment of all, to make room for more. Together they are less than one MTU. */
  private stage(run: WireRun): void {
    assert(run.payloadBytes < STAGING_BYTES, "staged bytes are less than one packet");
    let at = 0;
    for (let i = 0; i < run.fragmentCount; i++) {
      const { bytes, offset, length } = run.fragments[i];
      if (bytes !== this.staging) {
        this.copier.copy(this.staging, at, bytes, offset, length);
        this.stagedBytes += length;
      }
      at += length;
    }
    run.clearPayload();
    run.addFragment(this.staging, 0, at);
  }

  /**
   * Writes the run's payload at the cursor. `access`: what regions not looked up yet must allow.
   */
  scatterRun(run: WireRun, cursor: Cursor, pd: number, access: number): number {
    if (cursor.region !== null && !cursor.region.valid) return TransferStatus.protection;
    for (let i = 0; i < run.fragmentCount; i++) {
      const { bytes, offset, length } = run.fragments[i];
      const status = this.scatter(bytes, offset, length, cursor, pd, access);
      if (status !== TransferStatus.ok) return status;
    }
    return TransferStatus.ok;
  }

  /** Writes `length` bytes at the cursor. */
  scatter(
    bytes: Uint8Array,
    offset: number,
    length: number,
    cursor: Cursor,
    pd: number,
    access: number,
  ): number {
    let done = 0;
    while (done < length) {
      if (cursor.index >= cursor.count) return TransferStatus.tooLong;
      const entry = cursor.index * ENTRY;
      const entryLength = cursor.entries[entry + LENGTH];
      if (cursor.region === null && !this.enter(cursor, pd, access)) {
        return TransferStatus.protection;
      }
      const region = cursor.region as Region;
      let address = cursor.entries[entry] + cursor.offset;
      let step = Math.min(entryLength - cursor.offset, length - done);
      if (region.rangeCount === 1) address += region.delta;
      else {
        const at = address - region.address;
        const range = region.rangeAt(at);
        step = Math.min(step, region.rangeEnd(range) - at);
        address = region.targets[range] + (at - region.starts[range]);
      }
      const status = this.port.write(address, bytes, offset + done, step);
      if (status !== 0 && isVisibleToInitiator(status)) {
        this.dmaStatus = status;
        return TransferStatus.dma;
      }
      done += step;
      cursor.advance(step);
    }
    return TransferStatus.ok;
  }
}
