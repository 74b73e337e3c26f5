/**
 * The rw context: moves data between the peer's memory and any description of memory here, as a
 * chain of RDMA READs or WRITEs. What Linux calls rdma_rw_ctx (drivers/infiniband/core/rw.c).
 *
 * One context serves one transfer at a time and any number of transfers one after the other:
 *
 *     begin(qp, lkey, direction, remoteAddress, rkey)
 *     add(memory, offset, length)        once per vector; maps it for the NIC
 *     retarget(remoteAddress, rkey)      between vectors: the peer's memory is in pieces
 *     post(wrId, final)                  READs or WRITEs, then `final` if there is one
 *     end()                              after the completion: unmaps
 *
 * Local SGEs carry DMA addresses under the reserved L_Key, so memory needs no registration; vectors
 * that are adjacent for the NIC share an SGE. Only the last work request of the chain is signaled.
 *
 * Invariants: nothing stays mapped after `end` or after an `add` that failed and `end`; a chain is
 * posted whole or not at all. Leaves out: the memory-region path (a device that may not use the
 * reserved L_Key, or a peer that has iWARP's READ rules).
 */

import { assert, type Inspectable, RW_WR_BYTES_MAX, type Tree } from "../core/index.ts";
import { Direction, type IoMemory, MAP_STATUS_NAMES } from "../memory/index.ts";
import { WrFlag, WrOpcode } from "../spec/rdma/index.ts";
import { type Qp, SendWr, VerbsStatus } from "./verbs.ts";

/** Seen from here. */
export const RwDirection = {
  /** RDMA READ: the peer's bytes come here. */
  read: 1,
  /** RDMA WRITE: our bytes go there. */
  write: 2,
} as const;
export type RwDirection = (typeof RwDirection)[keyof typeof RwDirection];

/** What `add` answers besides 0 and negated `MapStatus`: the context has no SGE left. */
export const RW_FULL = 1;

export class RwContext implements Inspectable {
  private readonly wrs: readonly SendWr[];
  private readonly sgeMax: number;
  /** What was mapped, for vectors that have to be unmapped. */
  private readonly memories: (IoMemory | null)[];
  private readonly addresses: Float64Array;
  private readonly lengths: Float64Array;
  private mappings = 0;
  private qp: Qp | null = null;
  private initiator = 0;
  private lkey = 0;
  private opcode: number = WrOpcode.rdmaRead;
  private direction: Direction = Direction.toMemory;
  private rkey = 0;
  private remote = 0;
  /** Work requests in use. */
  private used = 0;
  /** End of the last SGE as the NIC sees it, and bytes of the last work request. */
  private tail = -1;
  private wrBytes = 0;
  /** Bytes of all vectors. */
  bytes = 0;

  /** `wrMax` work requests of `sgeMax` SGEs each; `wrMax * sgeMax` vectors at most. */
  constructor(wrMax: number, sgeMax: number) {
    assert(wrMax > 0 && sgeMax > 0, "an rw context has room for a vector");
    this.sgeMax = sgeMax;
    this.wrs = Array.from({ length: wrMax }, () => new SendWr(sgeMax));
    this.memories = new Array(wrMax * sgeMax).fill(null);
    this.addresses = new Float64Array(wrMax * sgeMax);
    this.lengths = new Float64Array(wrMax * sgeMax);
  }

  /** Work requests that {@link post} needs, without a final one. */
  get wrCount(): number {
    return this.used;
  }

  /** Starts a transfer. `lkey`: the domain's `localDmaLkey`. */
  begin(qp: Qp, lkey: number, direction: RwDirection, remoteAddress: number, rkey: number): void {
    assert(this.mappings === 0 && this.used === 0, "an rw context is ended before it begins");
    this.qp = qp;
    this.initiator = qp.device.dma.id;
    this.lkey = lkey;
    const isRead = direction === RwDirection.read;
    this.opcode = isRead ? WrOpcode.rdmaRead : WrOpcode.rdmaWrite;
    this.direction = isRead ? Direction.toMemory : Direction.fromMemory;
    this.remote = remoteAddress;
    this.rkey = rkey;
    this.bytes = 0;
    this.tail = -1;
  }

  /**
   * Appends `length` bytes at `offset` of `memory`. 0, or a negated `MapStatus`, or {@link
   * RW_FULL}. After a failure the transfer cannot go on: `end` it.
   */
  add(memory: IoMemory, offset: number, length: number): number {
    const address = memory.map(this.initiator, offset, length, this.direction);
    if (address < 0) return address;
    if (memory.needsUnmap) {
      const at = this.mappings;
      if (at === this.memories.length) {
        memory.unmap(this.initiator, address, length);
        return RW_FULL;
      }
      this.memories[at] = memory;
      this.addresses[at] = address;
      this.lengths[at] = length;
      this.mappings = at + 1;
    }
    if (!this.append(address, length)) return RW_FULL;
    this.bytes += length;
    return 0;
  }

  /**
   * What is added from now on goes to, or comes from, another place at the peer, and starts a work
   * request of its own.
   */
  retarget(remoteAddress: number, rkey: number): void {
    this.remote = remoteAddress - this.bytes;
    this.rkey = rkey;
    this.tail = -1;
    this.wrBytes = RW_WR_BYTES_MAX;
  }

  private append(address: number, length: number): boolean {
    if (this.used > 0 && this.wrBytes + length <= RW_WR_BYTES_MAX) {
      const wr = this.wrs[this.used - 1];
      const isAdjacent = address === this.tail;
      if (isAdjacent) wr.lengths[wr.sgeCount - 1] += length;
      if (isAdjacent || wr.addSge(address, length, this.lkey)) {
        this.tail = address + length;
        this.wrBytes += length;
        return true;
      }
    }
    if (this.used === this.wrs.length) return false;
    const wr = this.wrs[this.used];
    this.used++;
    wr.opcode = this.opcode as WrOpcode;
    wr.flags = 0;
    wr.rkey = this.rkey;
    wr.remoteAddress = this.remote + this.bytes;
    wr.setSge(address, length, this.lkey);
    this.tail = address + length;
    this.wrBytes = length;
    return true;
  }

  /**
   * Posts the chain, and `final` behind it. Without `final`, the last READ or WRITE is signaled and
   * completes with `wrId`; with it, `final` is posted as it is, and nothing before it is signaled.
   * The caller kicks. `VerbsStatus.queueFull`: nothing was posted.
   */
  post(wrId: number, final: SendWr | null): number {
    const qp = this.qp as Qp;
    const needed = this.used + (final === null ? 0 : 1);
    if (qp.sendRoom < needed) return VerbsStatus.queueFull;
    if (this.sgeMax > qp.maxSge) return VerbsStatus.tooManySges;
    for (let i = 0; i < this.used; i++) {
      const wr = this.wrs[i];
      // Failures complete whether signaled or not: every part says whose it is.
      wr.wrId = wrId;
      if (final === null && i === this.used - 1) wr.flags = WrFlag.signaled;
      const status = qp.postSend(wr);
      // Room and SGEs were checked: only the state can refuse, and does so at the first.
      if (status !== VerbsStatus.ok) return status;
    }
    return final === null ? VerbsStatus.ok : qp.postSend(final);
  }

  /** The transfer is over, or is given up before it was posted: unmaps everything. */
  end(): void {
    for (let i = 0; i < this.mappings; i++) {
      (this.memories[i] as IoMemory).unmap(this.initiator, this.addresses[i], this.lengths[i]);
      this.memories[i] = null;
    }
    this.mappings = 0;
    this.used = 0;
    this.qp = null;
  }

  inspect(): Tree {
    return {
      direction: this.direction === Direction.toMemory ? "read" : "write",
      bytes: this.bytes,
      workRequests: this.used,
      mapped: this.mappings,
      remoteAddress: this.remote,
    };
  }
}

/** Text of what {@link RwContext.add} answered. */
export function rwStatusName(status: number): string {
  if (status === RW_FULL) return "no SGE left";
  return MAP_STATUS_NAMES[-status] ?? "unknown status";
}
