/**
 * Random work on both ends of a connection over a wire that loses: every message takes effect
 * exactly once and in order, every work request completes once and in order.
 */

import fc from "fast-check";
import { expect, it } from "vitest";
import { rdmaPair } from "../../testing/rdma-pair.ts";
import { connectEnds, type End, rdma, recv, send } from "../../testing/verbs-setup.ts";
import { Prng } from "../core/index.ts";
import { WcOpcode, WcStatus, WrFlag, WrOpcode } from "../spec/rdma/index.ts";
import { VerbsStatus, Wc } from "./index.ts";

type Step =
  | {
      readonly kind: "send" | "write" | "read";
      readonly side: 0 | 1;
      readonly length: number;
      readonly flags: number;
    }
  | { readonly kind: "recv"; readonly side: 0 | 1; readonly count: number }
  | { readonly kind: "poll"; readonly count: number };

const RECV_STRIDE = 4096;
const RECV_AREA = 0x10_0000;
/** What peers read: never written after it was filled. */
const CONSTANT_AREA = 0x20_0000;
const WRITE_AREA = 0x30_0000;
const OUT_AREA = 0;
const READ_AREA = 0x8_0000;

/** What one side did and saw. */
class Track {
  posted = 0;
  completed = 0;
  sends = 0;
  received = 0;
  recvsPosted = 0;
  writes = 0;
  /** For each SEND, how many WRITEs went before it. */
  readonly writesBefore: number[] = [];
  readonly lengths: number[] = [];
  readonly reads: { readonly wrId: number; readonly at: number; readonly length: number }[] = [];
  readonly unsignaled = new Set<number>();
  readonly end: End;

  constructor(end: End) {
    this.end = end;
  }

  byteOf(index: number, i: number): number {
    return (index * 37 + i * 11 + 1) & 0xff;
  }
}

function post(step: Extract<Step, { side: 0 | 1 }>, me: Track, peer: Track): void {
  const { end } = me;
  if (step.kind === "recv") {
    for (let i = 0; i < step.count; i++) {
      const slot = me.recvsPosted % 128;
      const wr = recv(end, RECV_AREA + slot * RECV_STRIDE, RECV_STRIDE, me.recvsPosted);
      if (end.qp.postRecv(wr) === VerbsStatus.ok) me.recvsPosted++;
    }
    return;
  }
  if (end.qp.sendRoom === 0) return;
  const id = me.posted;
  let wr = send(end, OUT_AREA, 0, id);
  if (step.kind === "send") {
    const at = OUT_AREA + (id % 64) * 4096;
    for (let i = 0; i < step.length; i++) end.bytes[at + i] = me.byteOf(me.sends, i);
    wr = send(end, at, step.length, id);
    me.writesBefore.push(me.writes);
    me.lengths.push(step.length);
    me.sends++;
  } else if (step.kind === "write") {
    // One byte that says which WRITE it was, at a place of its own.
    const at = OUT_AREA + 0x4_0000 + (me.writes % 256);
    end.bytes[at] = me.byteOf(me.writes, 0);
    wr = rdma(WrOpcode.rdmaWrite, end, at, 1, peer.end, WRITE_AREA + me.writes, id);
    me.writes++;
  } else {
    const at = READ_AREA + (id % 64) * 4096;
    wr = rdma(WrOpcode.rdmaRead, end, at, step.length, peer.end, CONSTANT_AREA + (id % 7), id);
    me.reads.push({ wrId: id, at, length: step.length });
  }
  wr.flags = step.flags | WrFlag.signaled;
  expect(end.qp.postSend(wr)).toBe(VerbsStatus.ok);
  end.qp.kick();
  me.posted++;
}

function reapAll(me: Track, peer: Track, wc: Wc): void {
  while (me.end.cq.poll(wc)) {
    expect(wc.status).toBe(WcStatus.success);
    if (wc.opcode !== WcOpcode.recv) {
      expect(wc.wrId).toBe(me.completed);
      me.completed++;
      if (wc.opcode === WcOpcode.rdmaRead) checkRead(me, peer, wc);
      continue;
    }
    const index = me.received;
    expect(wc.wrId).toBe(index);
    expect(wc.byteLength).toBe(peer.lengths[index]);
    const at = RECV_AREA + (index % 128) * RECV_STRIDE;
    let wrong = 0;
    for (let i = 0; i < wc.byteLength; i++) {
      if (me.end.bytes[at + i] !== peer.byteOf(index, i)) wrong++;
    }
    expect(wrong).toBe(0);
    // WRITEs before this SEND are in memory.
    const last = (peer.writesBefore[index] as number) - 1;
    if (last >= 0) expect(me.end.bytes[WRITE_AREA + last]).toBe(peer.byteOf(last, 0));
    me.received++;
  }
}

function checkRead(me: Track, peer: Track, wc: Wc): void {
  const read = me.reads.find(({ wrId }) => wrId === wc.wrId);
  expect(read).toBeDefined();
  const { at, length, wrId } = read as NonNullable<typeof read>;
  expect(wc.byteLength).toBe(length);
  const from = CONSTANT_AREA + (wrId % 7);
  const there = peer.end.bytes.subarray(from, from + length);
  expect(Buffer.compare(me.end.bytes.subarray(at, at + length), there)).toBe(0);
}

const side = fc.constantFrom(0 as const, 1 as const);
const length = fc.oneof(fc.nat({ max: 64 }), fc.nat({ max: 4096 }));
const flags = fc.constantFrom(0, 0, 0, WrFlag.fence);
const step: fc.Arbitrary<Step> = fc.oneof(
  { weight: 4, arbitrary: fc.record({ kind: fc.constant("send" as const), side, length, flags }) },
  { weight: 3, arbitrary: fc.record({ kind: fc.constant("write" as const), side, length, flags }) },
  { weight: 3, arbitrary: fc.record({ kind: fc.constant("read" as const), side, length, flags }) },
  {
    weight: 4,
    arbitrary: fc.record({ kind: fc.constant("recv" as const), side, count: fc.nat({ max: 4 }) }),
  },
  {
    weight: 3,
    arbitrary: fc.record({ kind: fc.constant("poll" as const), count: fc.nat({ max: 8 }) }),
  },
);

it("random work over losing wires takes effect once and in order", async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.record({
        seed: fc.nat(),
        loss: fc.constantFrom(0, 0.02, 0.1),
        latencyNs: fc.constantFrom(0, 800),
        mtu: fc.constantFrom(256, 1024, 4096),
        steps: fc.array(step, { minLength: 20, maxLength: 120 }),
      }),
      async ({ seed, loss, latencyNs, mtu, steps }) => {
        const wire = { lossProbability: loss, prng: new Prng(seed), latencyNs };
        const pair = await rdmaPair({ mtu, wire });
        const { a, b } = await connectEnds(pair, { maxSend: 64, connect: { initiatorDepth: 3 } });
        const tracks = [new Track(a), new Track(b)] as const;
        for (const { end } of tracks) {
          for (let i = 0; i < 8192; i++) end.bytes[CONSTANT_AREA + i] = (i * 5 + seed) & 0xff;
        }
        const wc = new Wc();
        for (const one of steps) {
          if (one.kind === "poll") for (let i = 0; i < one.count; i++) pair.poll();
          else post(one, tracks[one.side], tracks[1 - one.side] as Track);
          reapAll(tracks[0], tracks[1], wc);
          reapAll(tracks[1], tracks[0], wc);
        }
        // Enough RECVs for everything that is still under way.
        for (const me of [0, 1] as const) {
          const missing = tracks[1 - me].sends - tracks[me].recvsPosted;
          const count = Math.max(0, missing);
          post({ kind: "recv", side: me, count }, tracks[me], tracks[1 - me] as Track);
        }
        pair.settle();
        for (const me of [0, 1] as const) {
          const peer = tracks[1 - me] as Track;
          reapAll(tracks[me], peer, wc);
          expect(tracks[me].completed).toBe(tracks[me].posted);
          expect(tracks[me].received).toBe(peer.sends);
          for (let i = 0; i < peer.writes; i++) {
            expect(tracks[me].end.bytes[WRITE_AREA + i]).toBe(peer.byteOf(i, 0));
          }
        }
      },
    ),
    { seed: 7, numRuns: 40 },
  );
}, 60_000);
