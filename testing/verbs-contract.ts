/**
 * The contract of the verbs, run over every implementation: each operation moves what it should and
 * completes as IBA Volume 1 has it, in order. Errors and states are in verbs-errors-contract.ts.
 */

import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { VerbsStatus, Wc } from "../src/rdma/index.ts";
import { QpState, WcFlag, WcOpcode, WcStatus, WrFlag, WrOpcode } from "../src/spec/rdma/index.ts";
import type { RdmaPair } from "./rdma-pair.ts";
import {
  allSucceeded,
  connectEnds,
  type EndOptions,
  type Ends,
  idsOf,
  pattern,
  rdma,
  reap,
  recv,
  send,
} from "./verbs-setup.ts";

const scratch = new Wc();

export function verbsContract(name: string, makePair: () => Promise<RdmaPair>): void {
  describe(`verbs: ${name}`, () => {
    let ends: Ends;
    const open = async (options: EndOptions = {}): Promise<Ends> => {
      ends = await connectEnds(await makePair(), options);
      return ends;
    };
    beforeEach(async () => {
      await open();
    });
    afterEach(async () => {
      await ends.a.side.rdma.close();
      await ends.b.side.rdma.close();
    });

    describe("SEND and RECV", () => {
      it("moves a message into the RECV's buffer and completes both sides", () => {
        const { pair, a, b } = ends;
        const sent = pattern(a, 0, 64);
        expect(b.qp.postRecv(recv(b, 128, 4096, 7))).toBe(VerbsStatus.ok);
        expect(a.qp.postSend(send(a, 0, 64, 9))).toBe(VerbsStatus.ok);
        a.qp.kick();
        pair.settle();
        const [received, ...more] = reap(b.cq);
        expect(more).toEqual([]);
        expect(received).toMatchObject({
          wrId: 7,
          status: WcStatus.success,
          opcode: WcOpcode.recv,
          byteLength: 64,
          qpNumber: b.qp.number,
          flags: 0,
        });
        expect(b.bytes.slice(128, 192)).toEqual(sent);
        expect(b.bytes.slice(192, 200)).toEqual(new Uint8Array(8));
        expect(reap(a.cq)).toMatchObject([
          { wrId: 9, status: WcStatus.success, opcode: WcOpcode.send, qpNumber: a.qp.number },
        ]);
      });

      it("consumes RECVs in order, one per message", () => {
        const { pair, a, b } = ends;
        for (let i = 0; i < 20; i++) b.qp.postRecv(recv(b, i * 64, 64, 100 + i));
        for (let i = 0; i < 20; i++) {
          pattern(a, i * 64, 64, i);
          a.qp.postSend(send(a, i * 64, 64, i));
        }
        a.qp.kick();
        pair.settle();
        expect(idsOf(reap(b.cq))).toEqual(Array.from({ length: 20 }, (_, i) => 100 + i));
        expect(idsOf(reap(a.cq))).toEqual(Array.from({ length: 20 }, (_, i) => i));
        expect(b.bytes.slice(0, 1280)).toEqual(a.bytes.slice(0, 1280));
      });

      it("works both ways at once", () => {
        const { pair, a, b } = ends;
        a.qp.postRecv(recv(a, 0, 64, 1));
        b.qp.postRecv(recv(b, 0, 64, 2));
        const fromA = pattern(a, 1024, 32, 3);
        const fromB = pattern(b, 1024, 48, 4);
        a.qp.postSend(send(a, 1024, 32));
        b.qp.postSend(send(b, 1024, 48));
        a.qp.kick();
        b.qp.kick();
        pair.settle();
        expect(allSucceeded([...reap(a.cq), ...reap(b.cq)])).toBe(true);
        expect(a.bytes.slice(0, 48)).toEqual(fromB);
        expect(b.bytes.slice(0, 32)).toEqual(fromA);
      });

      it("gathers from and scatters to several SGEs", () => {
        const { pair, a, b } = ends;
        const parts = [pattern(a, 0, 100, 1), pattern(a, 4096, 1, 2), pattern(a, 9000, 2000, 3)];
        const wr = send(a, 0, 100, 1);
        wr.addSge(a.at(4096), 1, a.mr.lkey);
        wr.addSge(a.at(9000), 2000, a.mr.lkey);
        const target = recv(b, 0, 50, 2);
        target.addSge(b.at(1000), 51, b.mr.lkey);
        target.addSge(b.at(5000), 4000, b.mr.lkey);
        b.qp.postRecv(target);
        a.qp.postSend(wr);
        a.qp.kick();
        pair.settle();
        expect(reap(b.cq)).toMatchObject([{ status: WcStatus.success, byteLength: 2101 }]);
        const whole = Uint8Array.from(parts.flatMap((part) => [...part]));
        expect(b.bytes.slice(0, 50)).toEqual(whole.slice(0, 50));
        expect(b.bytes.slice(1000, 1051)).toEqual(whole.slice(50, 101));
        expect(b.bytes.slice(5000, 7000)).toEqual(whole.slice(101));
      });

      it("carries empty messages", () => {
        const { pair, a, b } = ends;
        b.qp.postRecv(recv(b, 0, 0, 5));
        a.qp.postSend(send(a, 0, 0, 6));
        a.qp.kick();
        pair.settle();
        expect(reap(b.cq)).toMatchObject([{ wrId: 5, status: WcStatus.success, byteLength: 0 }]);
        expect(reap(a.cq)).toMatchObject([{ wrId: 6, status: WcStatus.success }]);
      });

      it("carries messages of many packets and of several memory chunks", () => {
        const { pair, a, b } = ends;
        const bytes = 3 * 1024 * 1024 + 5;
        const sent = pattern(a, 11, bytes);
        b.qp.postRecv(recv(b, 3, bytes, 1));
        a.qp.postSend(send(a, 11, bytes, 2));
        a.qp.kick();
        pair.settle();
        expect(reap(b.cq)).toMatchObject([{ status: WcStatus.success, byteLength: bytes }]);
        expect(Buffer.compare(b.bytes.subarray(3, 3 + bytes), sent)).toBe(0);
      });

      it("delivers immediate data", () => {
        const { pair, a, b } = ends;
        b.qp.postRecv(recv(b, 0, 64));
        const wr = send(a, 0, 8);
        wr.opcode = WrOpcode.sendWithImm;
        wr.immediate = 0xdeadbeef;
        a.qp.postSend(wr);
        a.qp.kick();
        pair.settle();
        expect(reap(b.cq)).toMatchObject([
          { status: WcStatus.success, immediate: 0xdeadbeef, flags: WcFlag.withImm },
        ]);
      });

      it("invalidates the receiver's key before its RECV completes", async () => {
        const { pair, a, b } = ends;
        const mr = await b.pd.registerMemory(b.side.host(8192), 0, 8192, 7);
        b.qp.postRecv(recv(b, 0, 64));
        const wr = send(a, 0, 8);
        wr.opcode = WrOpcode.sendWithInvalidate;
        wr.invalidateKey = mr.rkey;
        a.qp.postSend(wr);
        a.qp.kick();
        pair.settle();
        expect(reap(b.cq)).toMatchObject([
          { status: WcStatus.success, invalidatedRkey: mr.rkey, flags: WcFlag.withInvalidate },
        ]);
        // The key is dead for the peer.
        const write = rdma(WrOpcode.rdmaWrite, a, 0, 8, b, 0);
        write.rkey = mr.rkey;
        write.remoteAddress = mr.address;
        reap(a.cq);
        a.qp.postSend(write);
        a.qp.kick();
        pair.settle();
        expect(reap(a.cq)).toMatchObject([{ status: WcStatus.remoteAccessError }]);
      });

      it("waits for a RECV that comes late", () => {
        const { pair, a, b } = ends;
        const sent = pattern(a, 0, 64);
        a.qp.postSend(send(a, 0, 64, 1));
        a.qp.kick();
        for (let i = 0; i < 10; i++) pair.poll();
        expect(reap(a.cq)).toEqual([]);
        b.qp.postRecv(recv(b, 0, 64, 2));
        pair.until(() => a.cq.poll(scratch), "the SEND");
        expect(scratch.status).toBe(WcStatus.success);
        expect(reap(b.cq)).toMatchObject([{ wrId: 2, status: WcStatus.success }]);
        expect(b.bytes.slice(0, 64)).toEqual(sent);
      });
    });

    describe("RDMA", () => {
      it("WRITE places bytes at the peer, which notices nothing", () => {
        const { pair, a, b } = ends;
        const sent = pattern(a, 0, 10_000);
        a.qp.postSend(rdma(WrOpcode.rdmaWrite, a, 0, 10_000, b, 123, 4));
        a.qp.kick();
        pair.settle();
        expect(reap(a.cq)).toMatchObject([
          { wrId: 4, status: WcStatus.success, opcode: WcOpcode.rdmaWrite },
        ]);
        expect(reap(b.cq)).toEqual([]);
        expect(b.bytes.slice(123, 10_123)).toEqual(sent);
      });

      it("WRITE with immediate consumes a RECV and says how much was written", () => {
        const { pair, a, b } = ends;
        b.qp.postRecv(recv(b, 0, 0, 8));
        const wr = rdma(WrOpcode.rdmaWriteWithImm, a, 0, 5000, b, 64);
        wr.immediate = 42;
        const sent = pattern(a, 0, 5000);
        a.qp.postSend(wr);
        a.qp.kick();
        pair.settle();
        expect(reap(b.cq)).toMatchObject([
          {
            wrId: 8,
            status: WcStatus.success,
            opcode: WcOpcode.recvRdmaWithImm,
            byteLength: 5000,
            immediate: 42,
            flags: WcFlag.withImm,
          },
        ]);
        expect(b.bytes.slice(64, 5064)).toEqual(sent);
      });

      it("READ brings the peer's bytes, into several SGEs", () => {
        const { pair, a, b } = ends;
        const there = pattern(b, 77, 9000);
        const wr = rdma(WrOpcode.rdmaRead, a, 0, 4096, b, 77, 3);
        wr.addSge(a.at(8192), 4904, a.mr.lkey);
        a.qp.postSend(wr);
        a.qp.kick();
        pair.settle();
        expect(reap(a.cq)).toMatchObject([
          { wrId: 3, status: WcStatus.success, opcode: WcOpcode.rdmaRead, byteLength: 9000 },
        ]);
        expect(reap(b.cq)).toEqual([]);
        expect(a.bytes.slice(0, 4096)).toEqual(there.slice(0, 4096));
        expect(a.bytes.slice(8192, 13_096)).toEqual(there.slice(4096));
      });

      it("READ of many packets from several chunks", () => {
        const { pair, a, b } = ends;
        const bytes = 3 * 1024 * 1024;
        const there = pattern(b, 999, bytes);
        a.qp.postSend(rdma(WrOpcode.rdmaRead, a, 5, bytes, b, 999));
        a.qp.kick();
        pair.settle();
        expect(reap(a.cq)).toMatchObject([{ status: WcStatus.success, byteLength: bytes }]);
        expect(Buffer.compare(a.bytes.subarray(5, 5 + bytes), there)).toBe(0);
      });

      it("of no bytes needs no key", () => {
        const { pair, a, b } = ends;
        for (const opcode of [WrOpcode.rdmaWrite, WrOpcode.rdmaRead] as const) {
          const wr = rdma(opcode, a, 0, 0, b, 0);
          wr.rkey = 0;
          a.qp.postSend(wr);
        }
        a.qp.kick();
        pair.settle();
        expect(reap(a.cq)).toMatchObject([{ status: 0 }, { status: 0, byteLength: 0 }]);
      });

      it("has more READs posted than may be outstanding", () => {
        const { pair, a, b } = ends;
        const there = pattern(b, 0, 64 * 64);
        for (let i = 0; i < 64; i++) {
          a.qp.postSend(rdma(WrOpcode.rdmaRead, a, i * 64, 64, b, i * 64, i));
        }
        a.qp.kick();
        pair.settle();
        expect(idsOf(reap(a.cq))).toEqual(Array.from({ length: 64 }, (_, i) => i));
        expect(a.bytes.slice(0, 64 * 64)).toEqual(there);
      });
    });

    describe("order", () => {
      it("completes the send queue in the order of posting, whatever the operations", () => {
        const { pair, a, b } = ends;
        for (let i = 0; i < 8; i++) b.qp.postRecv(recv(b, i * 64, 64, i));
        for (let i = 0; i < 8; i++) {
          a.qp.postSend(rdma(WrOpcode.rdmaRead, a, 0, 8192, b, 0, i * 3));
          a.qp.postSend(send(a, 0, 64, i * 3 + 1));
          a.qp.postSend(rdma(WrOpcode.rdmaWrite, a, 0, 100, b, 8192, i * 3 + 2));
        }
        a.qp.kick();
        pair.settle();
        expect(idsOf(reap(a.cq))).toEqual(Array.from({ length: 24 }, (_, i) => i));
      });

      it("lets a SEND follow a WRITE: when its RECV completes, the data is there", () => {
        const { pair, a, b } = ends;
        const sent = pattern(a, 0, 4096, 5);
        b.qp.postRecv(recv(b, 8192, 64));
        a.qp.postSend(rdma(WrOpcode.rdmaWrite, a, 0, 4096, b, 0));
        a.qp.postSend(send(a, 4096, 16));
        a.qp.kick();
        pair.until(() => b.cq.poll(scratch), "the RECV");
        expect(b.bytes.slice(0, 4096)).toEqual(sent);
      });

      it("holds fenced work until READs before it are done", () => {
        const { pair, a, b } = ends;
        const there = pattern(b, 0, 64, 6);
        b.qp.postRecv(recv(b, 4096, 64));
        a.qp.postSend(rdma(WrOpcode.rdmaRead, a, 0, 64, b, 0));
        const wr = send(a, 0, 64);
        wr.flags |= WrFlag.fence;
        a.qp.postSend(wr);
        a.qp.kick();
        pair.settle();
        // What was sent is what had been read.
        expect(b.bytes.slice(4096, 4160)).toEqual(there);
        expect(allSucceeded(reap(a.cq))).toBe(true);
      });

      it("reports only what is signaled, and frees the rest with it", () => {
        const { pair, a, b } = ends;
        const rounds = 40;
        for (let round = 0; round < rounds; round++) {
          for (let i = 0; i < 10; i++) {
            const wr = rdma(WrOpcode.rdmaWrite, a, i, 1, b, i, round * 10 + i);
            wr.flags = i === 9 ? WrFlag.signaled : 0;
            expect(a.qp.postSend(wr)).toBe(VerbsStatus.ok);
          }
          a.qp.kick();
          pair.settle();
          expect(idsOf(reap(a.cq))).toEqual([round * 10 + 9]);
        }
        expect(a.qp.sendRoom).toBe(128);
      });
    });

    describe("queues", () => {
      it("say when they are full, and go on after completions were polled", () => {
        const { pair, a, b } = ends;
        for (let i = 0; i < 128; i++) {
          expect(a.qp.postSend(rdma(WrOpcode.rdmaWrite, a, 0, 8, b, 0, i))).toBe(VerbsStatus.ok);
        }
        const one = rdma(WrOpcode.rdmaWrite, a, 0, 8, b, 0, 128);
        expect(a.qp.postSend(one)).toBe(VerbsStatus.queueFull);
        expect(a.qp.sendRoom).toBe(0);
        a.qp.kick();
        pair.settle();
        expect(reap(a.cq)).toHaveLength(128);
        expect(a.qp.postSend(one)).toBe(VerbsStatus.ok);
        for (let i = 0; i < 128; i++) expect(b.qp.postRecv(recv(b, 0, 8))).toBe(VerbsStatus.ok);
        expect(b.qp.postRecv(recv(b, 0, 8))).toBe(VerbsStatus.queueFull);
      });

      it("refuse more SGEs than they have, and unknown work", () => {
        const { a, b } = ends;
        const wr = send(a, 0, 8);
        wr.sgeCount = a.qp.maxSge + 1;
        expect(a.qp.postSend(wr)).toBe(VerbsStatus.tooManySges);
        const odd = rdma(WrOpcode.rdmaWrite, a, 0, 8, b, 0);
        odd.opcode = 99 as WrOpcode;
        expect(a.qp.postSend(odd)).toBe(VerbsStatus.badOpcode);
      });

      it("wrap around many times", () => {
        const { pair, a, b } = ends;
        for (let i = 0; i < 300; i++) {
          b.qp.postRecv(recv(b, 0, 8, i));
          a.bytes[0] = i;
          a.qp.postSend(send(a, 0, 8, i));
          a.qp.kick();
          pair.settle();
          expect(idsOf([...reap(a.cq), ...reap(b.cq)])).toEqual([i, i]);
          expect(b.bytes[0]).toBe(i & 0xff);
        }
      });
    });

    describe("memory regions", () => {
      it("that were invalidated locally can be registered again by work request", async () => {
        const { pair, a, b } = ends;
        const fast = await b.pd.allocFastMr();
        const register = send(b, 4096, 4096, 1);
        register.opcode = WrOpcode.fastRegister;
        register.rkey = fast.rkey;
        register.remoteAddress = 0x1000;
        register.access = 7;
        b.qp.postSend(register);
        b.qp.kick();
        pair.settle();
        expect(reap(b.cq)).toMatchObject([{ status: 0, opcode: WcOpcode.fastRegister }]);
        const write = rdma(WrOpcode.rdmaWrite, a, 0, 16, b, 0, 2);
        write.remoteAddress = 0x1000 + 100;
        write.rkey = fast.rkey;
        const sent = pattern(a, 0, 16);
        a.qp.postSend(write);
        a.qp.kick();
        pair.settle();
        expect(reap(a.cq)).toMatchObject([{ status: 0 }]);
        expect(b.bytes.slice(4196, 4212)).toEqual(sent);
        const invalidate = send(b, 0, 0, 3);
        invalidate.opcode = WrOpcode.localInvalidate;
        invalidate.invalidateKey = fast.rkey;
        b.qp.postSend(invalidate);
        register.wrId = 4;
        register.rkey = fast.rkey + 1;
        b.qp.postSend(register);
        b.qp.kick();
        pair.settle();
        expect(reap(b.cq)).toMatchObject([
          { wrId: 3, status: 0, opcode: WcOpcode.localInvalidate },
          { wrId: 4, status: 0 },
        ]);
        write.rkey = fast.rkey + 1;
        a.qp.postSend(write);
        a.qp.kick();
        pair.settle();
        expect(reap(a.cq)).toMatchObject([{ status: 0 }]);
      });

      it("may consist of many vectors", async () => {
        const { pair, a, b } = ends;
        const memory = b.side.host(64 * 4096);
        const vectors = Array.from({ length: 200 }, (_, i) => ({
          memory,
          offset: ((i * 37) % 200) * 1024,
          length: 100 + (i % 3),
        }));
        const mr = await b.pd.registerVectors(vectors, 7);
        expect(mr.length).toBe(vectors.reduce((sum, { length }) => sum + length, 0));
        const sent = pattern(a, 0, mr.length, 9);
        const write = rdma(WrOpcode.rdmaWrite, a, 0, mr.length, b, 0, 1);
        write.remoteAddress = mr.address;
        write.rkey = mr.rkey;
        a.qp.postSend(write);
        const read = rdma(WrOpcode.rdmaRead, a, 100_000, mr.length, b, 0, 2);
        read.remoteAddress = mr.address;
        read.rkey = mr.rkey;
        a.qp.postSend(read);
        a.qp.kick();
        pair.settle();
        expect(reap(a.cq)).toMatchObject([{ status: 0 }, { status: 0, byteLength: mr.length }]);
        expect(a.bytes.slice(100_000, 100_000 + mr.length)).toEqual(sent);
        let at = 0;
        for (const { offset, length } of vectors) {
          const part = memory.region.bytes.slice(offset, offset + length);
          expect(part).toEqual(sent.slice(at, at + length));
          at += length;
        }
        await mr.deregister();
      });
    });

    it("a queue pair that is reset starts from nothing", async () => {
      const { pair, a } = ends;
      await a.qp.modify({ state: QpState.reset });
      expect(await a.qp.query()).toBe(QpState.reset);
      expect(a.qp.postRecv(recv(a, 0, 8))).toBe(VerbsStatus.badState);
      pair.settle();
      expect(reap(a.cq)).toEqual([]);
    });
  });
}
