/**
 * The verbs: what every RDMA device offers its users (nvmet, the NVMe-oF host, copies), after IBA
 * Volume 1 chapter 11. Interfaces only, so that another device (a software RoCE endpoint, a real
 * NIC) can stand behind the same users; the contract suite in testing/verbs-contract.ts says what
 * an implementation must do.
 *
 * Control verbs are asynchronous and throw {@link PeerlaneError}. Data verbs (`postSend`,
 * `postRecv`, `kick`, `poll`) are synchronous, allocate nothing and return integers. Work requests
 * are preallocated by the caller and copied when posted, so one object serves any number of posts.
 *
 * Leaves out: shared receive queues, memory windows, atomics, address handles of other than QP 1.
 */

import { assert, type Inspectable, type Poller } from "../core/index.ts";
import type { DmaDevice } from "../dma/index.ts";
import type { DmaBuf, IoMemory } from "../memory/index.ts";
import { WcStatus, WrOpcode } from "../spec/rdma/index.ts";

/** What a data verb answers. */
export const VerbsStatus = {
  ok: 0,
  /** The queue is full: poll the completion queue and try again. */
  queueFull: 1,
  /** More SGEs than the queue pair was made with. */
  tooManySges: 2,
  /**
   * The queue pair's state does not take this work (IBA 10.3.1: RECV from INIT on, SEND from RTS).
   */
  badState: 3,
  /** The opcode does not exist or does not fit the queue pair's type. */
  badOpcode: 4,
} as const;
export type VerbsStatus = (typeof VerbsStatus)[keyof typeof VerbsStatus];

export const VERBS_STATUS_NAMES: readonly string[] = [
  "ok",
  "queue full",
  "too many SGEs",
  "queue pair in a state that does not take this work",
  "opcode not supported",
];

/** A gather or scatter list of fixed capacity: addresses, lengths in bytes, L_Keys. */
export class SgeList {
  sgeCount = 0;
  readonly addresses: Float64Array;
  readonly lengths: Uint32Array;
  readonly lkeys: Uint32Array;

  constructor(sgeMax: number) {
    assert(sgeMax >= 1, "a work request has room for an SGE");
    this.addresses = new Float64Array(sgeMax);
    this.lengths = new Uint32Array(sgeMax);
    this.lkeys = new Uint32Array(sgeMax);
  }

  /** Makes the list exactly one entry. */
  setSge(address: number, length: number, lkey: number): void {
    this.addresses[0] = address;
    this.lengths[0] = length;
    this.lkeys[0] = lkey;
    this.sgeCount = 1;
  }

  /** Appends an entry; false when the list is full. */
  addSge(address: number, length: number, lkey: number): boolean {
    const at = this.sgeCount;
    if (at === this.addresses.length) return false;
    this.addresses[at] = address;
    this.lengths[at] = length;
    this.lkeys[at] = lkey;
    this.sgeCount = at + 1;
    return true;
  }
}

/**
 * A send work request. Preallocate, fill, post, reuse.
 *
 * `fastRegister` gives a region made by {@link Pd.allocFastMr} its meaning: `rkey` the key it gets
 * (its own with other low 8 bits, or the same after it was invalidated), `remoteAddress` its first
 * address, `access`, and one SGE: DMA address and length of the range (the SGE's L_Key is ignored).
 */
export class SendWr extends SgeList {
  /** Comes back in the completion. Any number that a double holds. */
  wrId = 0;
  opcode: WrOpcode = WrOpcode.send;
  /** Sum of `WrFlag`. */
  flags = 0;
  /** RDMA READ and WRITE: address at the peer, in the terms of `rkey`. */
  remoteAddress = 0;
  rkey = 0;
  /** `fastRegister`: rights of the region, a sum of `Access`. */
  access = 0;
  /** 32 bits for the receiver: `sendWithImm`, `rdmaWriteWithImm`. */
  immediate = 0;
  /** The key to invalidate: `sendWithInvalidate` (at the peer), `localInvalidate` (here). */
  invalidateKey = 0;

  constructor(sgeMax = 2) {
    super(sgeMax);
  }
}

/** A receive work request: one message's buffers. */
export class RecvWr extends SgeList {
  wrId = 0;

  constructor(sgeMax = 1) {
    super(sgeMax);
  }
}

/** A work completion, filled by {@link Cq.poll}. */
export class Wc {
  wrId = 0;
  status: WcStatus = WcStatus.success;
  /** `WcOpcode`. Defined also when `status` is not success. */
  opcode = 0;
  /** Bytes received, read or written; defined for RECV and READ only. */
  byteLength = 0;
  qpNumber = 0;
  /** Valid when `flags` has `WcFlag.withImm`. */
  immediate = 0;
  /** Valid when `flags` has `WcFlag.withInvalidate`. */
  invalidatedRkey = 0;
  /** Sum of `WcFlag`. */
  flags = 0;
  /** Sender's QP number: datagram queue pairs only. */
  sourceQpn = 0;
  /** Vendor syndrome: the `DmaStatus` of the DMA that failed, or 0. */
  vendorError = 0;
}

/** What the device can do. */
export interface DeviceAttributes {
  readonly qpMax: number;
  readonly cqMax: number;
  readonly mrMax: number;
  readonly pdMax: number;
  /** Entries of one queue. */
  readonly wrMax: number;
  readonly cqeMax: number;
  readonly sgeMax: number;
  /** RDMA READs outstanding per queue pair, each way. */
  readonly readDepthMax: number;
  /** Bytes of one message. */
  readonly messageBytesMax: number;
  /** Bytes of one packet's payload: 256 to 4096. */
  readonly activeMtu: number;
}

/** A protection domain: keys work only with queue pairs of the same one. */
export interface Pd extends Inspectable {
  readonly number: number;
  readonly device: VerbsDevice;
  /**
   * An L_Key under which SGEs carry this device's own DMA addresses (IBA "reserved L_Key"). Local
   * use only; for kernel-like users that map memory themselves, as rw contexts do.
   */
  readonly localDmaLkey: number;
  /**
   * Registers `length` bytes at `offset` of any description of memory. `access` is a sum of
   * `Access`. Throws `mr-map` when the memory has no address for this device (revoked, no route, of
   * another initiator), `rdma-resources` when the device has no region left.
   */
  registerMemory(mem: IoMemory, offset: number, length: number, access: number): Promise<Mr>;
  /** Registers vectors one behind the other as one region. */
  registerVectors(vectors: readonly MemoryVector[], access: number): Promise<Mr>;
  /**
   * Registers a part of a dma-buf, as ibv_reg_dmabuf_mr: the region survives moves of the buffer
   * and ends with its revoke (see {@link DmaBufMrOptions}). Throws `mr-dma-buf` for a part that
   * cannot be, and what attaching and mapping the buffer throws.
   */
  registerDmaBuf(buffer: DmaBuf, options: DmaBufMrOptions): Promise<Mr>;
  /** A region that has no meaning until a `fastRegister` work request gives it one. */
  allocFastMr(): Promise<Mr>;
  /** Fails with `rdma-command` (busy) while queue pairs or memory regions use it. */
  dealloc(): Promise<void>;
}

/** How a dma-buf is registered. */
export interface DmaBufMrOptions {
  /** The part of the buffer. */
  readonly offset: number;
  readonly length: number;
  /** First address of the region. Its offset in a page must be that of `offset`. */
  readonly iova: number;
  /** A sum of `Access`. */
  readonly access: number;
  /** The buffer does not move while the region lives. Default: it moves, and peers wait for it. */
  readonly pinned?: boolean;
}

/** A part of some memory. */
export interface MemoryVector {
  readonly memory: IoMemory;
  readonly offset: number;
  readonly length: number;
}

/** A memory region. */
export interface Mr extends Inspectable {
  readonly pd: Pd;
  readonly lkey: number;
  /** What a peer names it by. The same number as `lkey`. */
  readonly rkey: number;
  /**
   * First address (0 for fast registration): what local SGEs and the peer's `remoteAddress` count
   * from.
   */
  readonly address: number;
  readonly length: number;
  readonly access: number;
  /** False once it was deregistered, or invalidated because its memory went away. */
  readonly valid: boolean;
  deregister(): Promise<void>;
}

/** A completion queue. */
export interface Cq extends Inspectable {
  readonly number: number;
  readonly depth: number;
  /** True once it overflowed: completions were lost, its queue pairs are in error. */
  readonly overrun: boolean;
  /** Fills `wc` with the oldest completion; false when there is none. */
  poll(wc: Wc): boolean;
  destroy(): Promise<void>;
}

export interface QpOptions {
  readonly sendCq: Cq;
  readonly recvCq: Cq;
  /** Work requests that the queues hold; rounded up to a power of two. */
  readonly maxSend: number;
  readonly maxRecv: number;
  /** SGEs per work request. */
  readonly maxSge: number;
  /** SGEs per RECV, default 1. */
  readonly maxRecvSge?: number;
  /** Every send work request completes visibly. Default false: only those flagged signaled. */
  readonly signalAll?: boolean;
  /**
   * What the peer may do with this queue pair's regions: a sum of `Access.remoteWrite` and
   * `Access.remoteRead`. Default both.
   */
  readonly remoteAccess?: number;
  /**
   * Default true: the queue pair comes in state INIT, ready for RECVs and for the connection
   * manager. False: in RESET, for users that bring it up by {@link Qp.modify}.
   */
  readonly initialize?: boolean;
}

/** Attributes of {@link Qp.modify}; those present are changed. IBA 11.2.4.2. */
export interface QpAttributes {
  readonly state: number;
  readonly accessFlags?: number;
  readonly pkeyIndex?: number;
  readonly port?: number;
  readonly qkey?: number;
  /** Address of the peer's port: `10.0.0.2`. */
  readonly path?: string;
  /** Bytes: 256, 512, 1024, 2048, 4096. */
  readonly pathMtu?: number;
  readonly destQpn?: number;
  readonly rqPsn?: number;
  readonly sqPsn?: number;
  /** RDMA READs that this side answers at a time. */
  readonly maxDestRdAtomic?: number;
  /** RDMA READs that this side has outstanding. */
  readonly maxRdAtomic?: number;
  /** RNR NAK timer code, IBA table 45. */
  readonly minRnrTimer?: number;
  /** Local ACK timeout: 4.096 us * 2^timeout; 0 waits for ever. */
  readonly timeout?: number;
  /** 0 to 7. */
  readonly retryCount?: number;
  /** 0 to 6; 7 retries for ever. */
  readonly rnrRetry?: number;
}

/** A queue pair. Reliable connection unless the device made it for itself. */
export interface Qp extends Inspectable {
  readonly number: number;
  readonly device: VerbsDevice;
  readonly pd: Pd;
  readonly sendCq: Cq;
  readonly recvCq: Cq;
  /** `QpState` as this side last knew it; the device may have gone to error since. */
  readonly state: number;
  /** What the peer may do with its regions, as asked for at creation. */
  readonly remoteAccess: number;
  /** SGEs per send work request, as granted. */
  readonly maxSge: number;
  /** Send work requests the queue still takes. */
  readonly sendRoom: number;
  /** Copies `wr` to the send queue; the device sees it at the next {@link kick}. */
  postSend(wr: SendWr): number;
  /** Copies `wr` to the receive queue; the device may use it at once. */
  postRecv(wr: RecvWr): number;
  /** Rings the doorbell for everything posted since the last kick. */
  kick(): void;
  /** Throws `qp-transition` with the attributes that are missing or too many. */
  modify(attributes: QpAttributes): Promise<void>;
  /** State as the device has it. */
  query(): Promise<number>;
  /** Frees the queues. Completions not yet polled stay in the completion queues. */
  destroy(): Promise<void>;
}

/** Something that happened to the device, a queue pair or a completion queue. IBA 11.6.3. */
export interface AsyncEvent {
  readonly kind: "qp-fatal" | "cq-error" | "device-fatal";
  /** QP or CQ number. */
  readonly number: number;
}

/** The verbs of an RDMA device with one port; `RdmaDevice` adds the connection manager. */
export interface VerbsDevice extends Inspectable, Poller {
  readonly dma: DmaDevice;
  readonly attributes: DeviceAttributes;
  /** Its address on the wire, as users write it: `10.0.0.1`. */
  readonly address: string;
  allocPd(): Promise<Pd>;
  /** `depth`: completions it holds, rounded up to a power of two. */
  createCq(depth: number): Promise<Cq>;
  createQp(pd: Pd, options: QpOptions): Promise<Qp>;
  /** Asynchronous events since the last call. */
  takeEvents(): AsyncEvent[];
  /** Connection management and asynchronous events. Completion queues are polled by their users. */
  poll(): number;
  /** Destroys everything made through it and stops the device. */
  close(): Promise<void>;
}
