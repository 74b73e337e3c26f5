/**
 * Host memory as I/O memory: one contiguous region, mapped once for each initiator that it was made
 * for and then used for many I/Os. The CPU may touch it.
 *
 * Invariants: an initiator that it was not made for is refused; mapping costs nothing per I/O.
 * Leaves out: mapping per I/O (strict DMA isolation in time), scattered regions.
 */

import type { HostRegion } from "../../backing/interface.ts";
import { assert, hex, type Span, type Tree } from "../../core/index.ts";
import type { DmaDevice } from "../../dma/index.ts";
import { Direction, type InitiatorId, type IoMemory, MapStatus, MemoryKind } from "../contract.ts";

export class HostMemory implements IoMemory {
  readonly kind = MemoryKind.host;
  readonly cpuAccessible = true;
  readonly needsUnmap = false;
  readonly region: HostRegion;
  readonly sizeBytes: number;
  private readonly devices: readonly DmaDevice[];
  /** DMA address of the first byte by initiator id; -1: none. */
  private readonly bases: Float64Array;
  private closed = false;

  /** Use {@link mapHostMemory}. */
  constructor(region: HostRegion, devices: readonly DmaDevice[], bases: Float64Array) {
    this.region = region;
    this.sizeBytes = region.bytes.length;
    this.devices = devices;
    this.bases = bases;
  }

  map(initiator: InitiatorId, offset: number, length: number, direction: Direction): number {
    assert(direction >= Direction.fromMemory, "a mapping has a direction");
    const base = initiator < this.bases.length ? this.bases[initiator] : -1;
    if (base < 0) return this.closed ? -MapStatus.revoked : -MapStatus.wrongInitiator;
    if (offset < 0 || length <= 0 || offset + length > this.sizeBytes) return -MapStatus.outOfRange;
    return base + offset;
  }

  unmap(_initiator: InitiatorId, _dmaAddress: number, _length: number): void {
    // Mapped once, until close.
  }

  limitAddress(offset: number): number {
    return this.region.phys + offset;
  }

  bytes(offset: number, length: number, span: Span): boolean {
    if (offset < 0 || length < 0 || offset + length > this.sizeBytes) return false;
    span.set(this.region.bytes, offset, length);
    return true;
  }

  /** Unmaps it for all. The region stays the caller's. No I/O may be in flight. */
  close(): void {
    assert(!this.closed, "host memory is closed once");
    this.closed = true;
    for (const device of this.devices) device.unmap(this.bases[device.id], this.sizeBytes);
    this.bases.fill(-1);
  }

  inspect(): Tree {
    return {
      kind: "host",
      phys: hex(this.region.phys),
      sizeBytes: this.sizeBytes,
      initiators: this.devices.map(({ id }) => id),
      closed: this.closed,
    };
  }
}
