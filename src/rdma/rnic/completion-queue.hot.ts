/**
 * Polling a completion queue of the model RNIC. The ring lies in host memory; an entry is new when
 * its owner bit is that of the current pass.
 *
 * Invariant: the consumer counter is published after the entry was read, so the device never
 * overwrites what has not been read.
 */

import { assert } from "../../core/index.ts";
import type { DmaBuffer } from "../../dma/index.ts";
import { Cqe, CqeFlag, WcFlag, type WcOpcode, WcStatus } from "../../spec/rdma/index.ts";
import type { Wc } from "../verbs.ts";
import type { QueueRings } from "./queue-pair.hot.ts";

const CQE_WORDS = Cqe.sizeBytes / 4;

export class CompletionRing {
  readonly depth: number;
  number = 0;
  private readonly words: Uint32Array;
  private readonly mask: number;
  private readonly depthLog: number;
  private readonly recordWord: number;
  private readonly queuePairs: readonly (QueueRings | null)[];
  /** Runs freely modulo 2^16. */
  private consumer = 0;
  polled = 0;

  /** `queuePairs`: by QP number; entries of destroyed ones stay for their last completions. */
  constructor(
    buffer: DmaBuffer,
    depthLog: number,
    recordOffset: number,
    queuePairs: readonly (QueueRings | null)[],
  ) {
    const { bytes } = buffer;
    this.words = new Uint32Array(bytes.buffer, bytes.byteOffset, bytes.length >> 2);
    this.depthLog = depthLog;
    this.depth = 1 << depthLog;
    this.mask = this.depth - 1;
    this.recordWord = recordOffset >> 2;
    this.queuePairs = queuePairs;
  }

  poll(wc: Wc): boolean {
    const words = this.words;
    const consumer = this.consumer;
    const at = (consumer & this.mask) * CQE_WORDS;
    const owner = ((consumer >>> this.depthLog) & 1) ^ 1;
    if ((words[at + 7] & 1) !== owner) return false;
    this.fill(wc, at);
    this.consumer = (consumer + 1) & 0xffff;
    words[this.recordWord] = this.consumer;
    this.polled++;
    return true;
  }

  private fill(wc: Wc, at: number): void {
    const words = this.words;
    const qpnOpcode = words[at + 2];
    const flags = words[at + 3] >>> 24;
    const counter = words[at + 4] & 0xffff;
    const status = words[at + 5];
    const number = qpnOpcode & 0xffffff;
    const qp = this.queuePairs[number];
    assert(qp !== null && qp !== undefined, "a completion is of a queue pair that was made");
    wc.status = (status & 0xff) as WcStatus;
    wc.vendorError = (status >>> 8) & 0xff;
    wc.byteLength = words[at];
    wc.immediate = words[at + 1];
    wc.invalidatedRkey = words[at + 1];
    wc.qpNumber = number;
    wc.sourceQpn = words[at + 3] & 0xffffff;
    wc.flags = flags & (WcFlag.grh | WcFlag.withImm | WcFlag.withInvalidate);
    const isSend = (flags & CqeFlag.send) !== 0;
    if (isSend) {
      wc.opcode = qp.sendOpcodeOf(counter);
      wc.wrId = qp.sendCompleted(counter);
    } else {
      wc.opcode = (qpnOpcode >>> 24) as WcOpcode;
      wc.wrId = qp.recvCompleted(counter);
    }
    if (wc.status !== WcStatus.success) qp.sawError(isSend);
  }
}
