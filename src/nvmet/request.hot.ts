/**
 * One command in the target, from its capsule to its response. Preallocated per queue: `tag` is its
 * index for good, and so are its capsule and response buffers, which the transport gives once.
 *
 * Invariants: `state` tells who has the request now; memory that was allocated for it is given back
 * exactly once, by the queue, before the request is idle again. The side towards the network and
 * the side towards the disk name the same bytes in their own terms (a DMA address is one
 * initiator's).
 *
 * Leaves out: what the fields of a command mean (parse.hot.ts, io.hot.ts, admin/).
 */

import type { MappedRegion } from "../backing/interface.ts";
import { type Bio, NO_MEMORY } from "../block/index.ts";
import { NVMET_SGL_DESCRIPTORS_MAX, viewOf } from "../core/index.ts";
import type { IoMemory } from "../memory/index.ts";
import type { LeaseState } from "../p2p/index.ts";
import type { HostPool, NamespaceBinding } from "./binding.hot.ts";
import type { CopyRun } from "./copy-run.ts";
import type { ExclusiveQueue } from "./exclusive.hot.ts";
import type { Namespace } from "./namespace.ts";
import { RequestState } from "./request-state.ts";
import { type MemoryShare, NO_SHARE } from "./share.hot.ts";

export { REQUEST_STATE_NAMES } from "./request-state.ts";
export { RequestState };

/** Where a request's data lies. */
export const Placement = {
  none: 0,
  /** In the capsule: host memory of the receive ring. */
  capsule: 1,
  /** Memory of a provider. */
  peer: 2,
  /** The target's own buffers in host memory. */
  host: 3,
  /** The initiator's memory itself (loop). */
  direct: 4,
  /** Its connection's own buffer in host memory. */
  reserve: 5,
  /** In the namespace's store, from where the transport takes it. */
  store: 6,
} as const;
export type Placement = (typeof Placement)[keyof typeof Placement];

export const PLACEMENT_NAMES: readonly string[] = [
  "none",
  "capsule",
  "peer",
  "host",
  "direct",
  "reserve",
  "store",
];

export class TargetRequest {
  readonly tag: number;
  /** Counts the commands that it was, so that one of them can be told from the next. */
  serial = 0;
  /** The capsule: 64 bytes of command at `capsuleBase`, data behind it. */
  readonly capsule: Uint8Array;
  readonly view: DataView;
  readonly capsuleBase: number;
  /** Bytes received, command included. */
  capsuleBytes = 0;
  /** The 16-byte response, written in place. */
  readonly response: DataView;
  readonly responseBase: number;
  state: RequestState = RequestState.idle;
  /** Made for this request, used for all its I/O. Null on admin queues. */
  bio: Bio | null = null;

  /** When its capsule was taken in. */
  startNs = 0;
  /** An I/O command of a queue that takes them; else a fabrics or admin command. */
  isIo = false;
  opcode = 0;
  cid = 0;
  nsid = 0;
  /** NVMe status as it will be answered. */
  status = 0;
  /** Not success: what it is answered with as soon as nobody has it any more. */
  abortStatus = 0;
  result0 = 0;
  result1 = 0;
  /** Bytes that move: what the command needs, checked against the SGL. */
  dataBytes = 0;
  /** Data goes from host to controller. */
  isInbound = false;
  /** FUSE: one of {@link Fuse}. */
  fuse = 0;
  /** The other half of a fused pair that is under way. */
  partner: TargetRequest | null = null;
  /** Half of a pair: its data is here. */
  isReady = false;
  /** Who goes on with it when its namespace is free again. */
  queue: ExclusiveQueue | null = null;

  /** Keyed SGL: the host's memory. */
  remoteCount = 0;
  readonly remoteAddresses = new Float64Array(NVMET_SGL_DESCRIPTORS_MAX);
  readonly remoteLengths = new Uint32Array(NVMET_SGL_DESCRIPTORS_MAX);
  readonly remoteKeys = new Uint32Array(NVMET_SGL_DESCRIPTORS_MAX);
  /** Data goes over the connection itself (TCP): SGLs have lengths, and no addresses or keys. */
  usesStream = false;
  /** Sum of the SGL's lengths. */
  sglBytes = 0;
  /** Offset of in-capsule data from `capsuleBase`; -1: none. */
  inCapsuleOffset = -1;
  wantsInvalidate = false;
  invalidateKey = 0;

  /** What its queue may hold of shared buffers: that of its queue, for good. */
  share: MemoryShare = NO_SHARE;
  placement: Placement = Placement.none;
  binding: NamespaceBinding | null = null;
  /** Whose block queue has the bio. */
  namespace: Namespace | null = null;
  /** The data in terms of the network's initiator, and of the disk's. */
  netMemory: IoMemory = NO_MEMORY;
  netOffset = 0;
  /** Not null: the CPU reaches the data through this BAR, at `netOffset`; no `netMemory` then. */
  netWindow: MappedRegion | null = null;
  diskMemory: IoMemory = NO_MEMORY;
  /** In a store: on the medium. */
  diskOffset = 0;
  /** Peer placement: the lease that the memory was allocated from. */
  lease: LeaseState | null = null;
  /** Host placement: the buffers that the memory was allocated from. */
  pool: HostPool | null = null;
  /** What was taken from a pool. */
  poolOffset = 0;
  poolBytes = 0;
  /** It was moved to host memory after its peer memory went away: do not try peer memory again. */
  hostOnly = false;
  /** A Copy under way: its ranges are known. */
  isCopying = false;
  /** Made for its first Copy, used for all. */
  copy: CopyRun | null = null;
  /** Next range of a Dataset Management command. */
  rangeIndex = 0;
  rangeCount = 0;
  /** The transport has posted its response. */
  isPosted = false;
  /** Link of whatever list the request is on. */
  next: TargetRequest | null = null;

  constructor(
    tag: number,
    capsule: Uint8Array,
    capsuleBase: number,
    response: Uint8Array,
    responseBase: number,
  ) {
    this.tag = tag;
    this.capsule = capsule;
    this.view = viewOf(capsule);
    this.capsuleBase = capsuleBase;
    this.response = viewOf(response);
    this.responseBase = responseBase;
  }

  /** A fresh command in the same buffers. */
  begin(capsuleBytes: number): void {
    this.capsuleBytes = capsuleBytes;
    this.serial++;
    this.state = RequestState.executing;
    this.status = 0;
    this.abortStatus = 0;
    this.result0 = 0;
    this.result1 = 0;
    this.dataBytes = 0;
    this.isInbound = false;
    this.fuse = 0;
    this.isCopying = false;
    this.remoteCount = 0;
    this.sglBytes = 0;
    this.inCapsuleOffset = -1;
    this.wantsInvalidate = false;
    this.invalidateKey = 0;
    this.hostOnly = false;
    this.rangeIndex = 0;
    this.rangeCount = 0;
    this.next = null;
  }

  /** Forgets where its data was. The queue has given the memory back. */
  clearPlacement(): void {
    this.placement = Placement.none;
    this.netMemory = NO_MEMORY;
    this.netWindow = null;
    this.diskMemory = NO_MEMORY;
    this.netOffset = 0;
    this.diskOffset = 0;
    this.lease = null;
    this.pool = null;
    this.poolOffset = 0;
    this.poolBytes = 0;
  }

  /** Dword at `offset` of the command. */
  dword(offset: number): number {
    return this.view.getUint32(this.capsuleBase + offset, true);
  }
}

/** A request over buffers of its own: what a transport without DMA memory uses. */
export function plainRequest(tag: number, capsuleBytes: number): TargetRequest {
  return new TargetRequest(tag, new Uint8Array(capsuleBytes), 0, new Uint8Array(16), 0);
}
