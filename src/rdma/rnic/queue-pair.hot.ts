/**
 * Data verbs of a queue pair of the model RNIC: work requests become ring entries, one doorbell per
 * batch. The control half is in objects.ts.
 *
 * Invariants: an entry is complete before its producer counter is published; slots of send work
 * requests are free once a completion for them or for a later one was polled (IBA 10.8.5.1: that is
 * what selective signaling rests on, so a queue of unsignaled requests alone fills up).
 */

import type { MappedRegion } from "../../backing/interface.ts";
import { assert } from "../../core/index.ts";
import type { DmaBuffer } from "../../dma/index.ts";
import { QpState, QpType, RnicDoorbell, WcOpcode, Wqe, WrOpcode } from "../../spec/rdma/index.ts";
import { type RecvWr, type SendWr, VerbsStatus } from "../verbs.ts";

const TWO_32 = 4294967296;
const SGE_WORDS = 4;
const WQE_SGE_WORD = Wqe.sges / 4;

/** `WcOpcode` of a send work request, by the small opcodes; others by {@link wcOpcodeOf}. */
const WC_OPCODES = Uint8Array.from([
  WcOpcode.rdmaWrite,
  WcOpcode.rdmaWrite,
  WcOpcode.send,
  WcOpcode.send,
  WcOpcode.rdmaRead,
  0,
  0,
  WcOpcode.localInvalidate,
  0,
  WcOpcode.send,
]);

function wcOpcodeOf(opcode: number): number {
  return opcode === WrOpcode.fastRegister ? WcOpcode.fastRegister : WC_OPCODES[opcode];
}

/** Where a queue pair's memory lies: one buffer for both rings and the doorbell record. */
export interface RingLayout {
  readonly buffer: DmaBuffer;
  readonly sendLog: number;
  readonly sendStrideLog: number;
  readonly recvOffset: number;
  readonly recvLog: number;
  readonly recvStrideLog: number;
  readonly recordOffset: number;
}

export class QueueRings {
  readonly maxSge: number;
  readonly maxRecvSge: number;
  readonly type: QpType;
  number = 0;
  state: number = QpState.reset;
  protected readonly layout: RingLayout;
  private readonly words: Uint32Array;
  private readonly doorbells: MappedRegion;
  private readonly doorbellsAt: number;

  private readonly sendMask: number;
  private readonly sendStrideWords: number;
  private readonly sendWrIds: Float64Array;
  private readonly sendOpcodes: Uint8Array;
  /** Counters modulo 2^16: oldest not completed, next to post, told to the device. */
  private sendHead = 0;
  private sendTail = 0;
  private sendRung = 0;

  private readonly recvMask: number;
  private readonly recvStart: number;
  private readonly recvStrideWords: number;
  private readonly recvWrIds: Float64Array;
  private readonly recordWord: number;
  private recvHead = 0;
  private recvTail = 0;

  constructor(
    type: QpType,
    layout: RingLayout,
    maxSge: number,
    maxRecvSge: number,
    doorbells: MappedRegion,
    doorbellsAt: number,
  ) {
    const { buffer } = layout;
    this.type = type;
    this.layout = layout;
    this.maxSge = maxSge;
    this.maxRecvSge = maxRecvSge;
    this.doorbells = doorbells;
    this.doorbellsAt = doorbellsAt;
    this.words = new Uint32Array(
      buffer.bytes.buffer,
      buffer.bytes.byteOffset,
      buffer.bytes.length >> 2,
    );
    this.sendMask = (1 << layout.sendLog) - 1;
    this.sendStrideWords = 1 << (layout.sendStrideLog - 2);
    this.sendWrIds = new Float64Array(1 << layout.sendLog);
    this.sendOpcodes = new Uint8Array(1 << layout.sendLog);
    this.recvMask = (1 << layout.recvLog) - 1;
    this.recvStart = layout.recvOffset >> 2;
    this.recvStrideWords = 1 << (layout.recvStrideLog - 2);
    this.recvWrIds = new Float64Array(1 << layout.recvLog);
    this.recordWord = layout.recordOffset >> 2;
  }

  get sendRoom(): number {
    return this.sendMask + 1 - ((this.sendTail - this.sendHead) & 0xffff);
  }

  get recvRoom(): number {
    return this.recvMask + 1 - ((this.recvTail - this.recvHead) & 0xffff);
  }

  postSend(wr: SendWr): number {
    const slot = this.sendTail & this.sendMask;
    if (((this.sendTail - this.sendHead) & 0xffff) > this.sendMask) return VerbsStatus.queueFull;
    if (wr.sgeCount > this.maxSge) return VerbsStatus.tooManySges;
    if (this.state < QpState.rts) return VerbsStatus.badState;
    if (this.type !== QpType.rc) return VerbsStatus.badOpcode;
    const words = this.words;
    const at = slot * this.sendStrideWords;
    words[at] = wr.opcode | (wr.flags << 8) | (wr.sgeCount << 16);
    switch (wr.opcode) {
      case WrOpcode.send:
        break;
      case WrOpcode.sendWithImm:
        words[at + 1] = wr.immediate;
        break;
      case WrOpcode.sendWithInvalidate:
      case WrOpcode.localInvalidate:
        words[at + 1] = wr.invalidateKey;
        break;
      case WrOpcode.rdmaRead:
      case WrOpcode.rdmaWrite:
      case WrOpcode.rdmaWriteWithImm:
        words[at + 1] = wr.immediate;
        words[at + 2] = wr.remoteAddress;
        words[at + 3] = wr.remoteAddress / TWO_32;
        words[at + 4] = wr.rkey;
        break;
      case WrOpcode.fastRegister:
        this.fillRegister(at, wr);
        break;
      default:
        return VerbsStatus.badOpcode;
    }
    if (wr.opcode !== WrOpcode.fastRegister) this.fillSges(at + WQE_SGE_WORD, wr);
    this.sendWrIds[slot] = wr.wrId;
    this.sendOpcodes[slot] = wcOpcodeOf(wr.opcode);
    this.sendTail = (this.sendTail + 1) & 0xffff;
    return VerbsStatus.ok;
  }

  private fillSges(at: number, wr: SendWr | RecvWr): void {
    const { addresses, lengths, lkeys } = wr;
    const words = this.words;
    for (let i = 0, to = at; i < wr.sgeCount; i++, to += SGE_WORDS) {
      const address = addresses[i];
      words[to] = address;
      words[to + 1] = address / TWO_32;
      words[to + 2] = lengths[i];
      words[to + 3] = lkeys[i];
    }
  }

  /** Fast register: the first SGE's address is the DMA address of the one range. */
  private fillRegister(at: number, wr: SendWr): void {
    const words = this.words;
    words[at + Wqe.immediate / 4] = wr.rkey;
    words[at + Wqe.remoteAddress / 4] = wr.remoteAddress;
    words[at + Wqe.remoteAddress / 4 + 1] = wr.remoteAddress / TWO_32;
    words[at + Wqe.rkey / 4] = wr.access;
    words[at + Wqe.rangeCount / 4] = 1;
    words[at + Wqe.regionLength / 4] = wr.lengths[0];
    words[at + Wqe.regionLength / 4 + 1] = 0;
    words[at + Wqe.ranges / 4] = wr.addresses[0];
    words[at + Wqe.ranges / 4 + 1] = wr.addresses[0] / TWO_32;
    words[at] = wr.opcode | (wr.flags << 8);
  }

  /** A datagram to a queue pair of another port. One SGE; for the connection manager. */
  postDatagram(wr: SendWr, gid: Uint8Array, destQpn: number, qkey: number): number {
    const slot = this.sendTail & this.sendMask;
    if (((this.sendTail - this.sendHead) & 0xffff) > this.sendMask) return VerbsStatus.queueFull;
    if (wr.sgeCount > this.maxSge) return VerbsStatus.tooManySges;
    if (this.state < QpState.rts) return VerbsStatus.badState;
    assert(this.type !== QpType.rc, "datagrams go through a datagram queue pair");
    const words = this.words;
    const at = slot * this.sendStrideWords;
    words[at] = WrOpcode.send | (wr.flags << 8) | (wr.sgeCount << 16);
    const bytes = this.layout.buffer.bytes;
    for (let i = 0; i < gid.length; i++) bytes[at * 4 + Wqe.gid + i] = gid[i];
    words[at + Wqe.destQpn / 4] = destQpn;
    words[at + Wqe.qkey / 4] = qkey;
    this.fillSges(at + WQE_SGE_WORD, wr);
    this.sendWrIds[slot] = wr.wrId;
    this.sendOpcodes[slot] = WcOpcode.send;
    this.sendTail = (this.sendTail + 1) & 0xffff;
    return VerbsStatus.ok;
  }

  postRecv(wr: RecvWr): number {
    const slot = this.recvTail & this.recvMask;
    if (((this.recvTail - this.recvHead) & 0xffff) > this.recvMask) return VerbsStatus.queueFull;
    if (wr.sgeCount > this.maxRecvSge) return VerbsStatus.tooManySges;
    if (this.state < QpState.init) return VerbsStatus.badState;
    const at = this.recvStart + slot * this.recvStrideWords;
    this.fillSges(at, wr);
    const used = wr.sgeCount * SGE_WORDS;
    // A list shorter than the entry ends with an L_Key of 0.
    if (used < this.recvStrideWords) this.words[at + used + 3] = 0;
    this.recvWrIds[slot] = wr.wrId;
    this.recvTail = (this.recvTail + 1) & 0xffff;
    this.words[this.recordWord] = this.recvTail;
    // Nobody sends to a queue pair in error: the device must be told to flush.
    if (this.state === QpState.error) this.ring(RnicDoorbell.receive, 0);
    return VerbsStatus.ok;
  }

  kick(): void {
    if (this.sendRung === this.sendTail) return;
    this.sendRung = this.sendTail;
    this.ring(RnicDoorbell.send, this.sendTail);
  }

  private ring(doorbell: number, counter: number): void {
    // As a signed word: the bus carries the same bits, and no number needs a box.
    this.doorbells.write32(this.doorbellsAt + doorbell, (counter << 16) | this.number);
  }

  /** A completion of the send queue: frees all up to `counter`. Gives its work request's id. */
  sendCompleted(counter: number): number {
    this.sendHead = (counter + 1) & 0xffff;
    return this.sendWrIds[counter & this.sendMask];
  }

  sendOpcodeOf(counter: number): number {
    return this.sendOpcodes[counter & this.sendMask];
  }

  recvCompleted(counter: number): number {
    this.recvHead = (counter + 1) & 0xffff;
    return this.recvWrIds[counter & this.recvMask];
  }

  /** The device reported an error on this queue pair: IBA 10.3.1.6, 10.3.1.7. */
  sawError(isSend: boolean): void {
    if (this.type === QpType.rc || !isSend) this.state = QpState.error;
    else if (this.state !== QpState.error) this.state = QpState.sqe;
  }

  /** Empties the queues, after the device went to RESET. */
  protected clearQueues(): void {
    this.sendHead = this.sendTail = this.sendRung = 0;
    this.recvHead = this.recvTail = 0;
    this.words[this.recordWord] = 0;
  }
}
