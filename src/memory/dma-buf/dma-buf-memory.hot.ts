/**
 * A dma-buf as I/O memory: a vector carries an offset into the buffer, and each importer that it
 * was attached for gets the address of its own mapping. Block, NVMe and RDMA use it as they use a
 * lease, and like a lease it can go away: before a move or a revoke the gate closes (no new I/O),
 * I/O in flight is waited for, and only then are the mappings given back.
 *
 * Invariants: an address comes from a mapping that exists at that moment; once revoked nothing
 * maps for anybody. An attachment whose mapping was taken back by a move answers `revoked` until
 * its importer maps it again.
 */

import { assert, type Span, type Tree } from "../../core/index.ts";
import {
  Direction,
  type HoldableMemory,
  type InitiatorId,
  MapStatus,
  MemoryKind,
} from "../contract.ts";

/** What the buffer and its views share. */
export class DmaBufGate {
  revoked = false;
}

/** The hot half of an attachment: the mapping of one importer. */
export class AttachmentState {
  readonly initiator: InitiatorId;
  /** DMA address of the buffer's first byte; -1 while it is not mapped. */
  base = -1;
  /** False while the mapping is being taken back. */
  isOpen = false;
  inFlight = 0;
  private onIdle: (() => void) | null = null;

  constructor(initiator: InitiatorId) {
    this.initiator = initiator;
  }

  begin(): boolean {
    if (!this.isOpen) return false;
    this.inFlight++;
    return true;
  }

  end(): void {
    assert(this.inFlight > 0, "an I/O on a dma-buf ends once");
    this.inFlight--;
    if (this.inFlight === 0 && this.onIdle !== null) {
      const idle = this.onIdle;
      this.onIdle = null;
      idle();
    }
  }

  /**
   * Closes the gate; calls `idle` once nothing is in flight: now, or from inside the last `end`.
   */
  drain(idle: () => void): void {
    this.isOpen = false;
    assert(this.onIdle === null, "a mapping is taken back once");
    if (this.inFlight === 0) idle();
    else this.onIdle = idle;
  }
}

export class DmaBufMemory implements HoldableMemory {
  readonly kind = MemoryKind.dmaBuf;
  readonly cpuAccessible = false;
  readonly needsUnmap = false;
  readonly name: string;
  private readonly sizeBytes: number;
  private readonly gate: DmaBufGate;
  private readonly states: readonly AttachmentState[];
  private readonly byInitiator: (AttachmentState | null)[];
  private readonly listen: (listener: (reason: string) => void) => void;

  /** Use `dmaBufMemory`. */
  constructor(
    name: string,
    sizeBytes: number,
    gate: DmaBufGate,
    states: readonly AttachmentState[],
    listen: (listener: (reason: string) => void) => void,
  ) {
    this.name = name;
    this.sizeBytes = sizeBytes;
    this.gate = gate;
    this.states = states;
    this.listen = listen;
    let last = 0;
    for (const { initiator } of states) last = Math.max(last, initiator);
    this.byInitiator = new Array(last + 1).fill(null);
    for (const state of states) this.byInitiator[state.initiator] = state;
  }

  map(initiator: InitiatorId, offset: number, length: number, direction: Direction): number {
    assert(direction >= Direction.fromMemory, "a mapping has a direction");
    if (this.gate.revoked) return -MapStatus.revoked;
    const state = initiator < this.byInitiator.length ? this.byInitiator[initiator] : null;
    if (state === null) return -MapStatus.wrongInitiator;
    if (state.base < 0) return -MapStatus.revoked;
    if (offset < 0 || length <= 0 || offset + length > this.sizeBytes) {
      return -MapStatus.outOfRange;
    }
    return state.base + offset;
  }

  unmap(_initiator: InitiatorId, _dmaAddress: number, _length: number): void {
    // Mapped by its attachment, until that is unmapped, moved or revoked.
  }

  /** Every mapping starts at a page, so the offset has the low bits of all of them. */
  limitAddress(offset: number): number {
    return offset;
  }

  bytes(_offset: number, _length: number, _span: Span): boolean {
    return false;
  }

  /** Holds the mappings of all its importers, or none. */
  begin(): boolean {
    const { states } = this;
    for (let i = 0; i < states.length; i++) {
      if (states[i].begin()) continue;
      for (let j = 0; j < i; j++) states[j].end();
      return false;
    }
    return true;
  }

  end(): void {
    const { states } = this;
    for (let i = 0; i < states.length; i++) states[i].end();
  }

  onRevoke(listener: (reason: string) => void): void {
    this.listen(listener);
  }

  inspect(): Tree {
    return {
      kind: "dma-buf",
      name: this.name,
      sizeBytes: this.sizeBytes,
      initiators: this.states.map(({ initiator }) => initiator),
      inFlight: this.states.map(({ inFlight }) => inFlight),
      revoked: this.gate.revoked,
    };
  }
}
