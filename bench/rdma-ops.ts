/**
 * RDMA operations of two RNIC models on two fabrics, software on both sides included: posting, doorbell,
 * fetches, the wire, the copy, completions, polling. What they are compared to is what they cannot do
 * without: one DMA of the same payload through the fabric, or one copy of it.
 *
 * Aims on the machine of models.md: 450 ns for a 64-byte SEND with its RECV and both completions,
 * 500 ns for a 4 KiB READ.
 */

import type { Clock } from "../src/platform/index.ts";
import { RecvWr, SendWr, Wc } from "../src/rdma/index.ts";
import { WcStatus, WrFlag, WrOpcode } from "../src/spec/rdma/index.ts";
import { MIB } from "../testing/machines.ts";
import { rdmaPair } from "../testing/rdma-pair.ts";
import { connectEnds, type Ends } from "../testing/verbs-setup.ts";
import { peerPair } from "./fabric-dma.ts";
import { type Bench, type BenchResult, formatNs, interleave } from "./lib.ts";

const BAR = 16 * MIB;
/** RECVs that lie ready, as a target's queue has them. */
const RECVS = 64;
const BUFFERS = 64;

async function ends(): Promise<Ends> {
  return connectEnds(await rdmaPair(), { maxSend: 128, maxRecv: 128, maxSge: 2, maxRecvSge: 1 });
}

/** SENDs of 64 bytes, `batch` per doorbell; RECVs are posted again as they complete. */
function sender({ pair, a, b }: Ends, batch: number): (calls: number) => void {
  const { fabric } = pair.a;
  const wc = new Wc();
  const wrs = Array.from({ length: BUFFERS }, (_, i) => {
    const wr = new SendWr(1);
    wr.flags = WrFlag.signaled;
    wr.setSge(a.at(i * 64), 64, a.mr.lkey);
    return wr;
  });
  const recvs = Array.from({ length: RECVS }, (_, i) => {
    const wr = new RecvWr(1);
    wr.wrId = i;
    wr.setSge(b.at(i * 64), 64, b.mr.lkey);
    b.qp.postRecv(wr);
    return wr;
  });
  let next = 0;
  return (calls) => {
    for (let done = 0; done < calls; done += batch) {
      for (let i = 0; i < batch; i++) a.qp.postSend(wrs[next++ % BUFFERS]);
      a.qp.kick();
      fabric.poll();
      if (batch > 1) pair.b.fabric.poll();
      for (let i = 0; i < batch; i++) {
        if (!b.cq.poll(wc) || wc.status !== WcStatus.success) throw new Error("a RECV is missing");
        b.qp.postRecv(recvs[wc.wrId]);
        if (!a.cq.poll(wc) || wc.status !== WcStatus.success) throw new Error("a SEND is missing");
      }
    }
  };
}

/** READs of 4 KiB, `batch` per doorbell. */
function reader({ pair, a, b }: Ends, batch: number): (calls: number) => void {
  const { fabric } = pair.a;
  const wc = new Wc();
  const wrs = Array.from({ length: BUFFERS }, (_, i) => {
    const wr = new SendWr(1);
    wr.opcode = WrOpcode.rdmaRead;
    wr.flags = WrFlag.signaled;
    wr.setSge(a.at(i * 4096), 4096, a.mr.lkey);
    wr.remoteAddress = b.at(i * 4096);
    wr.rkey = b.mr.rkey;
    return wr;
  });
  let next = 0;
  return (calls) => {
    for (let done = 0; done < calls; done += batch) {
      for (let i = 0; i < batch; i++) a.qp.postSend(wrs[next++ % BUFFERS]);
      a.qp.kick();
      fabric.poll();
      for (let i = 0; i < batch; i++) {
        if (!a.cq.poll(wc) || wc.status !== WcStatus.success) throw new Error("a READ is missing");
      }
    }
  };
}

async function sendBench(clock: Clock, batch: number, limit: number): Promise<BenchResult> {
  const { port, peerBus } = peerPair(BAR);
  const source = new Uint8Array(BUFFERS * 64);
  const dma = (calls: number): void => {
    for (let i = 0; i < calls; i++) {
      const at = (i % BUFFERS) * 64;
      port.write(peerBus + at, source, at, 64);
    }
  };
  const subject = sender(await ends(), batch);
  const { ratio, subjectNs, referenceNs } = interleave(clock, subject, dma, { calls: 64_000 });
  return {
    ratio: 1 / ratio,
    limit,
    bound: "at-most",
    figures: `SEND and RECV ${formatNs(subjectNs)}, 64-byte DMA ${formatNs(referenceNs)}`,
  };
}

export const rdmaSend64: Bench = {
  name: "rdma-send-64",
  claim: "time of a 64-byte SEND with its RECV, 16 per doorbell, in times of a 64-byte DMA write",
  run: (clock) => sendBench(clock, 16, 14),
};

export const rdmaSend64Single: Bench = {
  name: "rdma-send-64-single",
  claim: "time of a 64-byte SEND with its RECV, one per doorbell, in times of a 64-byte DMA write",
  run: (clock) => sendBench(clock, 1, 28),
};

export const rdmaRead4k: Bench = {
  name: "rdma-read-4k",
  claim: "4 KiB RDMA READ, 8 per doorbell, as a share of the rate of one Uint8Array.set",
  async run(clock) {
    const source = new Uint8Array(BUFFERS * 4096);
    const target = new Uint8Array(BUFFERS * 4096);
    const set = (calls: number): void => {
      for (let i = 0; i < calls; i++) {
        const at = (i % BUFFERS) * 4096;
        target.set(source.subarray(at, at + 4096), at);
      }
    };
    const subject = reader(await ends(), 8);
    const { ratio, subjectNs, referenceNs } = interleave(clock, subject, set, { calls: 32_000 });
    return {
      ratio,
      limit: 0.12,
      bound: "at-least",
      figures: `READ ${formatNs(subjectNs)}, set ${formatNs(referenceNs)}`,
    };
  },
};
