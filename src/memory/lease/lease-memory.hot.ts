/**
 * Peerlane's description: a vector carries an offset into a lease. The lease knows the base address
 * of each initiator, so a stacked queue gets the right one for every leg, and it can be revoked.
 *
 * Mapping is one load, one range check, one add: a revoked lease has no base for anybody, so that
 * being revoked costs no look of its own. It does not count I/O in flight: the submitter does, per
 * I/O (see p2p/lease.hot.ts for why).
 *
 * Invariant: after the lease was revoked nothing maps any more, whatever the initiator.
 */

import { assert, type Span, type Tree } from "../../core/index.ts";
import type { Lease } from "../../p2p/index.ts";
import {
  Direction,
  type HoldableMemory,
  type InitiatorId,
  MapStatus,
  MemoryKind,
} from "../contract.ts";

export class LeaseMemory implements HoldableMemory {
  readonly kind = MemoryKind.lease;
  readonly cpuAccessible = false;
  readonly needsUnmap = false;
  readonly lease: Lease;
  private readonly bases: Float64Array;
  private readonly lengthBytes: number;
  private readonly phys: number;

  /** Memory of a lease; of one that is revoked already, memory that maps nothing. */
  constructor(lease: Lease) {
    this.lease = lease;
    this.bases = lease.bases;
    this.lengthBytes = lease.lengthBytes;
    this.phys = lease.provider.physAt(lease.offset);
  }

  map(initiator: InitiatorId, offset: number, length: number, direction: Direction): number {
    assert(direction >= Direction.fromMemory, "a mapping has a direction");
    const base = this.bases[initiator];
    // Also where there is no such initiator: undefined is not at least 0.
    if (!(base >= 0)) return this.lease.revoked ? -MapStatus.revoked : -MapStatus.wrongInitiator;
    if (offset < 0 || length <= 0 || offset + length > this.lengthBytes) {
      return -MapStatus.outOfRange;
    }
    return base + offset;
  }

  unmap(_initiator: InitiatorId, _dmaAddress: number, _length: number): void {
    // Mapped when the lease was opened, until it is revoked.
  }

  limitAddress(offset: number): number {
    return this.phys + offset;
  }

  bytes(_offset: number, _length: number, _span: Span): boolean {
    return false;
  }

  begin(): boolean {
    return this.lease.begin();
  }

  end(): void {
    this.lease.end();
  }

  onRevoke(listener: (reason: string) => void): void {
    this.lease.onRevoke(listener);
  }

  inspect(): Tree {
    return { kind: "lease", lease: this.lease.inspect() };
  }
}
