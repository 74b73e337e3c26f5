/**
 * The RDMA transport's connection in the target: capsules come by RECV, data of writes by RDMA
 * READ, data of reads goes by RDMA WRITE, responses by SEND. NVMe RDMA Transport Specification 1.0,
 * section 3.3.
 *
 * One slot per request: its receive buffer, its response and its work requests share an index,
 * which is also in `wrId`. There are twice as many slots as the host may have commands, so that a
 * host that sees an answer before we see our completion still finds a posted RECV.
 *
 * Responses are gathered and posted at the end of a poll, the last one signaled: a queue pair
 * completes in order, so that one completion stands for all before it.
 *
 * Invariants: work that does not fit the send queue waits, in order; after an error every request
 * comes back once, whatever completions still arrive for it.
 */

import { assert, NVMET_SGL_DESCRIPTORS_MAX } from "../../../core/index.ts";
import {
  type Cq,
  type Qp,
  RecvWr,
  RwContext,
  RwDirection,
  SendWr,
  VerbsStatus,
  Wc,
} from "../../../rdma/index.ts";
import { NvmeStatus } from "../../../spec/nvme/index.ts";
import { RESPONSE_BYTES } from "../../../spec/nvmf/index.ts";
import { WcStatus, WrFlag, WrOpcode } from "../../../spec/rdma/index.ts";
import type { Channel } from "../../channel.ts";
import type { TargetQueue } from "../../queue.hot.ts";
import { RequestState, type TargetRequest } from "../../request.hot.ts";

/** Completions handled per poll: bounded, so that queues take turns. */
const BATCH = 64;

/** What a work request was for: the low bits of `wrId`. */
const WORK_RECV = 0;
const WORK_FETCH = 1;
const WORK_RESPOND = 2;
const WORK_BITS = 2;
const WORK_MASK = 3;

/** What the channel reports upwards. Control plane. */
export interface ChannelOwner {
  /** The connection is broken or closed: the queue must be dropped. */
  lost(channel: RdmaTargetChannel, reason: string): void;
  /** Ends the connection of the queue pair. */
  disconnect(channel: RdmaTargetChannel): void;
  /** Nothing uses the buffers any more. */
  released(channel: RdmaTargetChannel): void;
}

export interface TargetChannelParts {
  readonly owner: ChannelOwner;
  readonly qp: Qp;
  /** Of both queues. */
  readonly cq: Cq;
  readonly lkey: number;
  /** DMA address, for the NIC, of slot 0's receive buffer and response. */
  readonly capsulesAt: number;
  readonly capsuleStride: number;
  readonly responsesAt: number;
  readonly requests: readonly TargetRequest[];
}

export class RdmaTargetChannel implements Channel {
  readonly qp: Qp;
  queue: TargetQueue | null = null;
  /** Why it ended; null while it is up. */
  ended: string | null = null;
  /** Requests that had to wait for room in the send queue. */
  sendWaits = 0;
  /** Work completions that were not success. */
  failures = 0;
  readonly requests: readonly TargetRequest[];
  private readonly owner: ChannelOwner;
  private readonly cq: Cq;
  private readonly lkey: number;
  private readonly capsulesAt: number;
  private readonly capsuleStride: number;
  private readonly responsesAt: number;
  private readonly wc = new Wc();
  private readonly recvWr = new RecvWr(1);
  private readonly rw = new RwContext(NVMET_SGL_DESCRIPTORS_MAX, 1);
  private readonly responseWr = new SendWr(1);
  private needsKick = false;
  /** Tags of responses that were posted and have not completed, oldest first: a ring. */
  private readonly posted: Uint16Array;
  private postedHead = 0;
  private postedCount = 0;
  /** The response that is posted next, once it is known whether it is the last one. */
  private held: TargetRequest | null = null;
  private waitHead: TargetRequest | null = null;
  private waitTail: TargetRequest | null = null;

  constructor(parts: TargetChannelParts) {
    this.owner = parts.owner;
    this.qp = parts.qp;
    this.cq = parts.cq;
    this.lkey = parts.lkey;
    this.capsulesAt = parts.capsulesAt;
    this.capsuleStride = parts.capsuleStride;
    this.responsesAt = parts.responsesAt;
    this.requests = parts.requests;
    this.posted = new Uint16Array(parts.requests.length);
  }

  /** Posts a RECV for every slot: before the connection is accepted. */
  postAll(): void {
    for (const { tag } of this.requests) this.postRecv(tag);
  }

  private postRecv(slot: number): void {
    const { recvWr } = this;
    recvWr.wrId = (slot << WORK_BITS) | WORK_RECV;
    recvWr.setSge(this.capsulesAt + slot * this.capsuleStride, this.capsuleStride, this.lkey);
    const status = this.qp.postRecv(recvWr);
    // A queue pair in error takes no more: its end is reported by the send side.
    assert(status === VerbsStatus.ok || this.ended !== null, "every slot has room for its RECV");
  }

  /** Reads the request's data from the host into its memory. */
  fetch(request: TargetRequest): void {
    this.start(request);
  }

  /** Writes the request's data to the host, if it has any to send, and sends the response. */
  respond(request: TargetRequest): void {
    this.start(request);
  }

  /** Posts the request's work, or lets it wait for room. */
  private start(request: TargetRequest): void {
    if (this.ended !== null) this.giveBack(request);
    else if (this.waitHead !== null || this.room < workOf(request)) this.wait(request);
    else this.post(request);
  }

  /** Send work requests that may be posted; the held response has its place already. */
  private get room(): number {
    const { held } = this;
    return this.qp.sendRoom - (held === null ? 0 : workOf(held));
  }

  private post(request: TargetRequest): void {
    this.needsKick = true;
    if (request.state === RequestState.fetching) {
      const wrId = (request.tag << WORK_BITS) | WORK_FETCH;
      if (this.chain(request, RwDirection.read)) this.postChain(request, wrId, null);
      return;
    }
    const { held } = this;
    this.held = request;
    if (held !== null) this.postAnswer(held, false);
  }

  /**
   * Builds the READs or WRITEs between the request's memory and each piece of the host's. False:
   * the NIC has no address for it, and the queue was told.
   */
  private chain(request: TargetRequest, direction: RwDirection): boolean {
    const { rw } = this;
    const { netMemory, remoteCount } = request;
    let offset = request.netOffset;
    rw.begin(this.qp, this.lkey, direction, request.remoteAddresses[0], request.remoteKeys[0]);
    for (let i = 0; i < remoteCount; i++) {
      if (i > 0) rw.retarget(request.remoteAddresses[i], request.remoteKeys[i]);
      const length = request.remoteLengths[i];
      const status = rw.add(netMemory, offset, length);
      if (status !== 0) {
        assert(status < 0, "a chain has a work request for every piece");
        rw.end();
        (this.queue as TargetQueue).addressLost(request, -status);
        return false;
      }
      offset += length;
    }
    return true;
  }

  /**
   * Posts what {@link chain} built. The memories were mapped at connect, so it is over with that.
   */
  private postChain(request: TargetRequest, wrId: number, final: SendWr | null): boolean {
    const status = this.rw.post(wrId, final);
    this.rw.end();
    if (status === VerbsStatus.ok) return true;
    this.fail("the send queue refused work");
    this.giveBack(request);
    return false;
  }

  /** Data, if there is any to send, and the response behind it. */
  private postAnswer(request: TargetRequest, isLast: boolean): void {
    const wr = this.fillResponse(request, isLast);
    if (request.dataBytes > 0 && !request.isInbound) {
      if (!this.chain(request, RwDirection.write)) return;
      if (!this.postChain(request, wr.wrId, wr)) return;
    } else if (this.qp.postSend(wr) !== VerbsStatus.ok) {
      this.fail("the send queue refused a response");
      this.giveBack(request);
      return;
    }
    const slots = this.posted.length;
    const to = this.postedHead + this.postedCount;
    this.posted[to < slots ? to : to - slots] = request.tag;
    this.postedCount++;
    request.isPosted = true;
  }

  private fillResponse(request: TargetRequest, isLast: boolean): SendWr {
    const { responseWr } = this;
    const at = this.responsesAt + request.tag * RESPONSE_BYTES;
    responseWr.opcode = request.wantsInvalidate ? WrOpcode.sendWithInvalidate : WrOpcode.send;
    responseWr.invalidateKey = request.invalidateKey;
    responseWr.wrId = (request.tag << WORK_BITS) | WORK_RESPOND;
    responseWr.flags = isLast ? WrFlag.signaled : 0;
    responseWr.setSge(at, RESPONSE_BYTES, this.lkey);
    return responseWr;
  }

  /** This response completed, so all that were posted before it have. */
  private answered(request: TargetRequest): void {
    const queue = this.queue as TargetQueue;
    while (request.isPosted) {
      const done = this.requests[this.posted[this.postedHead]];
      this.postedHead++;
      if (this.postedHead === this.posted.length) this.postedHead = 0;
      this.postedCount--;
      done.isPosted = false;
      queue.responded(done);
      if (this.ended === null) this.postRecv(done.tag);
    }
  }

  private wait(request: TargetRequest): void {
    this.sendWaits++;
    request.next = null;
    if (this.waitTail === null) this.waitHead = request;
    else this.waitTail.next = request;
    this.waitTail = request;
  }

  private postWaiting(): void {
    while (this.waitHead !== null) {
      const request: TargetRequest = this.waitHead;
      if (this.ended === null && this.room < workOf(request)) return;
      this.waitHead = request.next;
      if (this.waitHead === null) this.waitTail = null;
      request.next = null;
      if (this.ended === null) this.post(request);
      else this.giveBack(request);
    }
  }

  /** Ends a request's part here when the connection cannot, and no work of it is posted. */
  private giveBack(request: TargetRequest): void {
    const queue = this.queue as TargetQueue;
    if (request.state === RequestState.fetching) {
      queue.dataArrived(request, NvmeStatus.transientTransportError);
    } else queue.responded(request);
  }

  poll(): number {
    const { wc } = this;
    let done = 0;
    while (done < BATCH && this.cq.poll(wc)) {
      done++;
      const slot = wc.wrId >> WORK_BITS;
      const work = wc.wrId & WORK_MASK;
      if (wc.status !== WcStatus.success) this.failed(this.requests[slot], work, wc.status);
      else if (work === WORK_RECV) this.received(this.requests[slot], wc.byteLength);
      else this.completed(this.requests[slot], work);
    }
    if (this.waitHead !== null) this.postWaiting();
    return done;
  }

  private received(request: TargetRequest, bytes: number): void {
    const queue = this.queue as TargetQueue;
    if (!queue.isClosed) queue.receive(request, bytes);
  }

  private completed(request: TargetRequest, work: number): void {
    if (work === WORK_RESPOND) this.answered(request);
    else if (request.state === RequestState.fetching) {
      (this.queue as TargetQueue).dataArrived(request, NvmeStatus.success);
    }
  }

  private failed(request: TargetRequest, work: number, status: number): void {
    this.failures++;
    // Flushed work follows the failure that was the cause, or a disconnect.
    if (status !== WcStatus.workRequestFlushed) this.fail("a transfer failed");
    else this.fail("connection closed");
    if (work === WORK_RESPOND) this.answered(request);
    else if (work === WORK_FETCH && request.state === RequestState.fetching) this.giveBack(request);
  }

  /** The connection is over. Idempotent; the owner drops the queue. */
  private fail(reason: string): void {
    if (this.ended !== null) return;
    this.ended = reason;
    this.owner.lost(this, reason);
  }

  kick(): void {
    if (!this.needsKick) return;
    this.needsKick = false;
    const { held } = this;
    this.held = null;
    if (held !== null) {
      if (this.ended === null) this.postAnswer(held, true);
      else this.giveBack(held);
    }
    this.qp.kick();
  }

  close(reason: string): void {
    this.ended ??= reason;
    this.owner.disconnect(this);
  }

  release(): void {
    this.owner.released(this);
  }
}

/** Work requests that a request needs now. */
function workOf(request: TargetRequest): number {
  if (request.state === RequestState.fetching) return request.remoteCount;
  return request.dataBytes > 0 && !request.isInbound ? request.remoteCount + 1 : 1;
}
