/**
 * The RDMA transport's connection in the host: capsules go by SEND, responses come by RECV.
 *
 * A capsule's buffer is free again when its response is here, so sends need no completion of their
 * own; one in a while is signaled to give the send queue its room back.
 */

import { assert } from "../../../core/index.ts";
import { type Cq, type Qp, RecvWr, SendWr, VerbsStatus, Wc } from "../../../rdma/index.ts";
import { RESPONSE_BYTES } from "../../../spec/nvmf/index.ts";
import { WcFlag, WcOpcode, WcStatus, WrFlag, WrOpcode } from "../../../spec/rdma/index.ts";
import type { HostChannel, ResponseSink } from "../../host/transport.ts";

const BATCH = 64;

export interface HostChannelParts {
  readonly qp: Qp;
  readonly cq: Cq;
  readonly lkey: number;
  readonly bytes: Uint8Array;
  /** DMA address of `bytes`. */
  readonly base: number;
  readonly depth: number;
  readonly capsuleStride: number;
  readonly inCapsuleBytes: number;
  /** Told of keys that the target invalidated. */
  readonly invalidated: (rkey: number) => void;
  readonly closing: () => Promise<void>;
}

export class RdmaHostChannel implements HostChannel {
  readonly capsules: Uint8Array;
  readonly capsuleStride: number;
  readonly inCapsuleBytes: number;
  ended: string | null = null;
  private readonly qp: Qp;
  private readonly cq: Cq;
  private readonly lkey: number;
  private readonly base: number;
  private readonly responsesAt: number;
  private readonly view: DataView;
  private readonly depth: number;
  private readonly signalEvery: number;
  private readonly invalidated: (rkey: number) => void;
  private readonly closing: () => Promise<void>;
  private readonly wc = new Wc();
  private readonly sendWr = new SendWr(1);
  private readonly recvWr = new RecvWr(1);
  private sinceSignal = 0;

  constructor(parts: HostChannelParts) {
    this.qp = parts.qp;
    this.cq = parts.cq;
    this.lkey = parts.lkey;
    this.base = parts.base;
    this.depth = parts.depth;
    this.capsuleStride = parts.capsuleStride;
    this.inCapsuleBytes = parts.inCapsuleBytes;
    this.invalidated = parts.invalidated;
    this.closing = parts.closing;
    this.capsules = parts.bytes;
    this.responsesAt = parts.depth * parts.capsuleStride;
    this.view = new DataView(parts.bytes.buffer, parts.bytes.byteOffset, parts.bytes.byteLength);
    this.signalEvery = Math.max(1, parts.depth >> 1);
    this.sendWr.opcode = WrOpcode.send;
  }

  /** Posts a RECV per command: before connecting. */
  postAll(): void {
    for (let slot = 0; slot < this.depth; slot++) this.postRecv(slot);
  }

  private postRecv(slot: number): void {
    const { recvWr } = this;
    recvWr.wrId = slot;
    const at = this.base + this.responsesAt + slot * RESPONSE_BYTES;
    recvWr.setSge(at, RESPONSE_BYTES, this.lkey);
    const status = this.qp.postRecv(recvWr);
    assert(status === VerbsStatus.ok || this.ended !== null, "every response has its RECV");
  }

  send(tag: number, bytes: number): boolean {
    const { sendWr } = this;
    if (this.ended !== null || this.qp.sendRoom === 0) return false;
    this.sinceSignal++;
    const isSignaled = this.sinceSignal >= this.signalEvery;
    sendWr.wrId = tag;
    sendWr.flags = isSignaled ? WrFlag.signaled : 0;
    sendWr.setSge(this.base + tag * this.capsuleStride, bytes, this.lkey);
    if (this.qp.postSend(sendWr) !== VerbsStatus.ok) return false;
    if (isSignaled) this.sinceSignal = 0;
    return true;
  }

  kick(): void {
    this.qp.kick();
  }

  poll(sink: ResponseSink): number {
    const { wc } = this;
    let done = 0;
    while (done < BATCH && this.cq.poll(wc)) {
      done++;
      if (wc.status !== WcStatus.success) {
        this.ended ??= "the connection failed";
        continue;
      }
      if (wc.opcode !== WcOpcode.recv) continue;
      if ((wc.flags & WcFlag.withInvalidate) !== 0) this.invalidated(wc.invalidatedRkey);
      const slot = wc.wrId;
      sink.response(this.view, this.responsesAt + slot * RESPONSE_BYTES);
      if (this.ended === null) this.postRecv(slot);
    }
    return done;
  }

  close(): Promise<void> {
    this.ended ??= "closed by the host";
    return this.closing();
  }
}
