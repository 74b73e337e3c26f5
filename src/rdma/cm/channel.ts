/**
 * The management channel: queue pair 1 with its own completion queue, a ring of send buffers and
 * RECVs. Carries MADs of 256 bytes to and from the GSI of any port. Datagrams: they may get lost,
 * and whoever sends has to send again.
 *
 * Invariant: a buffer is reused only after its completion was polled; with all in use a message is
 * not sent, which the sender cannot tell from loss.
 */

import { assert, type Tree } from "../../core/index.ts";
import type { DmaBuffer } from "../../dma/index.ts";
import {
  formatGid,
  GRH_BYTES,
  GSI_QKEY,
  GSI_QPN,
  MAD_BYTES,
  WcOpcode,
  WcStatus,
  WrFlag,
} from "../../spec/rdma/index.ts";
import type { RnicDevice } from "../rnic/device.ts";
import type { RnicQueuePair } from "../rnic/queues.ts";
import { type Cq, type Pd, RecvWr, SendWr, VerbsStatus, Wc } from "../verbs.ts";

const SEND_BUFFERS = 64;
const RECV_BUFFERS = 128;
const RECV_STRIDE = 512;
/** Where the sender's GID lies in the global routing header. */
const GRH_SOURCE = 8;

/** A MAD arrived. `bytes` at `offset` are valid until the handler returns. */
export type MadHandler = (source: string, bytes: Uint8Array, offset: number) => void;

export class MadChannel {
  private readonly device: RnicDevice;
  private readonly pd: Pd;
  private readonly cq: Cq;
  private readonly qp: RnicQueuePair;
  private readonly sendBuffer: DmaBuffer;
  private readonly recvBuffer: DmaBuffer;
  private readonly freeSends: number[] = [];
  private readonly sendWr = new SendWr(1);
  private readonly recvWr = new RecvWr(1);
  private readonly wc = new Wc();
  private sent = 0;
  private received = 0;
  private notSent = 0;

  private constructor(device: RnicDevice, pd: Pd, cq: Cq, qp: RnicQueuePair) {
    this.device = device;
    this.pd = pd;
    this.cq = cq;
    this.qp = qp;
    this.sendBuffer = device.dma.allocCoherent(SEND_BUFFERS * MAD_BYTES);
    this.recvBuffer = device.dma.allocCoherent(RECV_BUFFERS * RECV_STRIDE);
    for (let i = 0; i < SEND_BUFFERS; i++) this.freeSends.push(i);
    for (let i = 0; i < RECV_BUFFERS; i++) this.postRecv(i);
  }

  static async open(device: RnicDevice): Promise<MadChannel> {
    const pd = await device.allocPd();
    const cq = await device.createCq(SEND_BUFFERS + RECV_BUFFERS);
    const qp = await device.createGsi(pd, {
      sendCq: cq,
      recvCq: cq,
      maxSend: SEND_BUFFERS,
      maxRecv: RECV_BUFFERS,
      maxSge: 1,
    });
    return new MadChannel(device, pd, cq, qp);
  }

  /** Sends a MAD that `fill` writes. False when no buffer is free. */
  send(gid: Uint8Array, fill: (bytes: Uint8Array, offset: number) => void): boolean {
    const slot = this.freeSends.pop();
    if (slot === undefined) {
      this.notSent++;
      return false;
    }
    const offset = slot * MAD_BYTES;
    fill(this.sendBuffer.bytes, offset);
    this.sendWr.wrId = slot;
    this.sendWr.flags = WrFlag.signaled;
    this.sendWr.setSge(this.sendBuffer.dma + offset, MAD_BYTES, this.pd.localDmaLkey);
    const status = this.qp.postDatagram(this.sendWr, gid, GSI_QPN, GSI_QKEY);
    assert(status === VerbsStatus.ok, "there is a send slot for each send buffer");
    this.qp.kick();
    this.sent++;
    return true;
  }

  /** Takes what arrived; how many completions there were. */
  poll(handler: MadHandler): number {
    let polled = 0;
    const wc = this.wc;
    while (polled < RECV_BUFFERS && this.cq.poll(wc)) {
      polled++;
      if (wc.opcode !== WcOpcode.recv) {
        this.freeSends.push(wc.wrId);
        continue;
      }
      const slot = wc.wrId;
      const offset = slot * RECV_STRIDE;
      const { bytes } = this.recvBuffer;
      if (wc.status === WcStatus.success && wc.byteLength === GRH_BYTES + MAD_BYTES) {
        this.received++;
        handler(formatGid(bytes, offset + GRH_SOURCE), bytes, offset + GRH_BYTES);
      }
      this.postRecv(slot);
    }
    return polled;
  }

  private postRecv(slot: number): void {
    this.recvWr.wrId = slot;
    const address = this.recvBuffer.dma + slot * RECV_STRIDE;
    this.recvWr.setSge(address, RECV_STRIDE, this.pd.localDmaLkey);
    this.qp.postRecv(this.recvWr);
  }

  /** Frees the buffers. The queue pair is gone already. */
  close(): void {
    this.device.dma.freeCoherent(this.sendBuffer);
    this.device.dma.freeCoherent(this.recvBuffer);
  }

  inspect(): Tree {
    return {
      sent: this.sent,
      received: this.received,
      notSent: this.notSent,
      sendBuffersFree: this.freeSends.length,
    };
  }
}
