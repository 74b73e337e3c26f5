/**
 * The contract of the verbs when things go wrong: which status each side sees, what is flushed, in
 * which order, and what state is left. IBA Volume 1 sections 9.9 (transport errors), 10.3.1 (states),
 * 10.10 (error handling), 11.6.2 (completion statuses).
 */

import { afterEach, describe, expect, it } from "vitest";
import { DmaStatus } from "../src/core/index.ts";
import { VerbsStatus } from "../src/rdma/index.ts";
import { Access, QpState, WcOpcode, WcStatus, WrFlag, WrOpcode } from "../src/spec/rdma/index.ts";
import type { RdmaPair } from "./rdma-pair.ts";
import {
  connectEnds,
  type EndOptions,
  type Ends,
  idsOf,
  makeEnd,
  pattern,
  rdma,
  reap,
  recv,
  send,
  statusesOf,
} from "./verbs-setup.ts";

/** A DMA address that nothing claims on any machine of the tests. */
const NOWHERE = 0x7f_0000_0000_0000 / 16;

export function verbsErrorsContract(name: string, makePair: () => Promise<RdmaPair>): void {
  describe(`verbs errors: ${name}`, () => {
    const opened: RdmaPair[] = [];
    const open = async (options: Parameters<typeof connectEnds>[1] = {}): Promise<Ends> => {
      const pair = await makePair();
      opened.push(pair);
      return connectEnds(pair, options);
    };
    afterEach(async () => {
      for (const pair of opened.splice(0)) {
        await pair.a.rdma.close();
        await pair.b.rdma.close();
      }
    });

    describe("local errors", () => {
      it("a wrong L_Key: protection error, everything behind it is flushed in order", async () => {
        const { pair, a, b } = await open();
        for (let i = 0; i < 3; i++) b.qp.postRecv(recv(b, 0, 64, i));
        for (let i = 0; i < 3; i++) a.qp.postRecv(recv(a, 0, 64, 100 + i));
        a.qp.postSend(send(a, 0, 64, 1));
        const bad = send(a, 0, 64, 2);
        bad.lkeys[0] = a.mr.lkey + 1;
        bad.flags = 0;
        a.qp.postSend(bad);
        const quiet = send(a, 0, 64, 3);
        quiet.flags = 0;
        a.qp.postSend(quiet);
        a.qp.postSend(send(a, 0, 64, 4));
        a.qp.kick();
        pair.settle();
        const completions = reap(a.cq);
        const sends = completions.filter(({ opcode }) => opcode !== WcOpcode.recv);
        expect(idsOf(sends)).toEqual([1, 2, 3, 4]);
        expect(statusesOf(sends)).toEqual([
          WcStatus.success,
          WcStatus.localProtectionError,
          WcStatus.workRequestFlushed,
          WcStatus.workRequestFlushed,
        ]);
        const recvs = completions.filter(({ opcode }) => opcode === WcOpcode.recv);
        expect(idsOf(recvs)).toEqual([100, 101, 102]);
        expect(new Set(statusesOf(recvs))).toEqual(new Set([WcStatus.workRequestFlushed]));
        expect(await a.qp.query()).toBe(QpState.error);
        // The peer got the good message and knows of nothing else.
        expect(statusesOf(reap(b.cq))).toEqual([WcStatus.success]);
        expect(await b.qp.query()).toBe(QpState.rts);
      });

      it.each([
        ["beyond the region", (e: Ends) => ({ address: e.a.at(0) + e.a.mr.length - 4 })],
        ["before the region", (e: Ends) => ({ address: e.a.at(0) - 4 })],
      ])("an SGE %s: protection error", async (_, where) => {
        const ends = await open();
        const { pair, a, b } = ends;
        b.qp.postRecv(recv(b, 0, 64));
        const wr = send(a, 0, 8);
        wr.addresses[0] = where(ends).address;
        a.qp.postSend(wr);
        a.qp.kick();
        pair.settle();
        expect(statusesOf(reap(a.cq))).toEqual([WcStatus.localProtectionError]);
      });

      it("a key of another protection domain: protection error", async () => {
        const { pair, a, b } = await open();
        const other = await makeEnd(pair.a);
        b.qp.postRecv(recv(b, 0, 64));
        const wr = send(a, 0, 8);
        wr.setSge(other.at(0), 8, other.mr.lkey);
        a.qp.postSend(wr);
        a.qp.kick();
        pair.settle();
        expect(statusesOf(reap(a.cq))).toEqual([WcStatus.localProtectionError]);
      });

      it("a READ into memory without local write: protection error, nothing is written", async () => {
        const { pair, a, b } = await open({ access: Access.remoteRead });
        a.qp.postSend(rdma(WrOpcode.rdmaRead, a, 0, 64, b, 0));
        pattern(b, 0, 64);
        a.qp.kick();
        pair.settle();
        expect(statusesOf(reap(a.cq))).toEqual([WcStatus.localProtectionError]);
        expect(a.bytes.slice(0, 64)).toEqual(new Uint8Array(64));
      });

      it("a DMA that the bus refuses: QP operation error with the syndrome", async () => {
        const { pair, a, b } = await open();
        b.qp.postRecv(recv(b, 0, 64));
        const wr = send(a, 0, 8);
        wr.setSge(NOWHERE, 64, a.pd.localDmaLkey);
        a.qp.postSend(wr);
        a.qp.kick();
        pair.settle();
        const [completion] = reap(a.cq);
        expect(completion.status).toBe(WcStatus.localQpOperationError);
        expect([DmaStatus.unsupportedRequest, DmaStatus.iommuFault]).toContain(
          completion.vendorError,
        );
      });

      it("waits with an error until what was posted before is done", async () => {
        const { pair, a, b } = await open();
        const there = pattern(b, 0, 100_000);
        a.qp.postSend(rdma(WrOpcode.rdmaRead, a, 0, 100_000, b, 0, 1));
        a.qp.postSend(rdma(WrOpcode.rdmaWrite, a, 200_000, 8, b, 200_000, 2));
        const bad = send(a, 0, 64, 3);
        bad.lkeys[0] = 0xbad00;
        a.qp.postSend(bad);
        a.qp.kick();
        pair.settle();
        const completions = reap(a.cq);
        expect(idsOf(completions)).toEqual([1, 2, 3]);
        expect(statusesOf(completions)).toEqual([0, 0, WcStatus.localProtectionError]);
        expect(Buffer.compare(a.bytes.subarray(0, 100_000), there)).toBe(0);
      });

      it("invalidating a key that is none: QP operation error", async () => {
        const { pair, a } = await open();
        const wr = send(a, 0, 0);
        wr.opcode = WrOpcode.localInvalidate;
        wr.invalidateKey = 0x777777;
        a.qp.postSend(wr);
        a.qp.kick();
        pair.settle();
        expect(statusesOf(reap(a.cq))).toEqual([WcStatus.localQpOperationError]);
      });
    });

    describe("remote errors", () => {
      const accessCases: [string, EndOptions, (ends: Ends) => Partial<Record<string, number>>][] = [
        ["a key that is none", {}, () => ({ rkey: 0x123456 })],
        ["the reserved L_Key", {}, ({ b }) => ({ rkey: b.pd.localDmaLkey })],
        ["bytes beyond the region", {}, ({ b }) => ({ remoteAddress: b.at(0) + b.mr.length - 32 })],
        ["a region that gives no such right", { access: Access.localWrite }, () => ({})],
        ["a queue pair that gives no such right", { remoteAccess: 0 }, () => ({})],
      ];
      for (const opcode of [WrOpcode.rdmaWrite, WrOpcode.rdmaRead] as const) {
        const what = opcode === WrOpcode.rdmaWrite ? "WRITE" : "READ";
        it.each(accessCases)(`${what} to %s: remote access error on both sides`, async (...c) => {
          const [, options, change] = c;
          const ends = await open(options);
          const { pair, a, b } = ends;
          pattern(a, 0, 64);
          b.qp.postRecv(recv(b, 4096, 64, 55));
          const wr = Object.assign(rdma(opcode, a, 0, 64, b, 0, 1), change(ends));
          a.qp.postSend(wr);
          a.qp.postSend(send(a, 0, 64, 2));
          a.qp.kick();
          pair.settle();
          expect(reap(a.cq)).toMatchObject([
            { wrId: 1, status: WcStatus.remoteAccessError },
            { wrId: 2, status: WcStatus.workRequestFlushed },
          ]);
          // The responder's queue pair is in error, its RECVs are flushed, its memory untouched.
          expect(reap(b.cq)).toMatchObject([{ wrId: 55, status: WcStatus.workRequestFlushed }]);
          expect(await b.qp.query()).toBe(QpState.error);
          expect(b.side.rdma.takeEvents()).toEqual([{ kind: "qp-fatal", number: b.qp.number }]);
          expect(b.bytes.slice(0, 64)).toEqual(new Uint8Array(64));
        });
      }

      it("a RECV too short: length error there, invalid request here", async () => {
        const { pair, a, b } = await open();
        b.qp.postRecv(recv(b, 0, 63, 1));
        b.qp.postRecv(recv(b, 0, 64, 2));
        a.qp.postSend(send(a, 0, 64, 3));
        a.qp.kick();
        pair.settle();
        expect(reap(b.cq)).toMatchObject([
          { wrId: 1, status: WcStatus.localLengthError },
          { wrId: 2, status: WcStatus.workRequestFlushed },
        ]);
        expect(reap(a.cq)).toMatchObject([{ wrId: 3, status: WcStatus.remoteInvalidRequest }]);
      });

      it("a RECV whose key is wrong: protection error there, operation error here", async () => {
        const { pair, a, b } = await open();
        const wr = recv(b, 0, 64, 1);
        wr.lkeys[0] = 0x999900;
        b.qp.postRecv(wr);
        a.qp.postSend(send(a, 0, 64, 2));
        a.qp.kick();
        pair.settle();
        expect(reap(b.cq)).toMatchObject([{ wrId: 1, status: WcStatus.localProtectionError }]);
        expect(reap(a.cq)).toMatchObject([{ wrId: 2, status: WcStatus.remoteOperationError }]);
      });

      it("a RECV that the bus refuses: QP operation error there, operation error here", async () => {
        const { pair, a, b } = await open();
        const wr = recv(b, 0, 64, 1);
        wr.setSge(NOWHERE, 64, b.pd.localDmaLkey);
        b.qp.postRecv(wr);
        a.qp.postSend(send(a, 0, 64, 2));
        a.qp.kick();
        pair.settle();
        expect(reap(b.cq)).toMatchObject([{ wrId: 1, status: WcStatus.localQpOperationError }]);
        expect(reap(a.cq)).toMatchObject([{ wrId: 2, status: WcStatus.remoteOperationError }]);
      });

      it("invalidating a remote key that is none: both sides say invalid request", async () => {
        const { pair, a, b } = await open();
        b.qp.postRecv(recv(b, 0, 64, 1));
        const wr = send(a, 0, 8, 2);
        wr.opcode = WrOpcode.sendWithInvalidate;
        wr.invalidateKey = 0x777777;
        a.qp.postSend(wr);
        a.qp.kick();
        pair.settle();
        expect(reap(b.cq)).toMatchObject([{ wrId: 1, status: WcStatus.remoteInvalidRequest }]);
        expect(reap(a.cq)).toMatchObject([{ wrId: 2, status: WcStatus.remoteInvalidRequest }]);
      });
    });

    describe("nobody there", () => {
      it("no RECV after all RNR retries", async () => {
        const { pair, a, b } = await open({ connect: { rnrRetryCount: 3 } });
        a.qp.postSend(send(a, 0, 64, 1));
        a.qp.postSend(send(a, 0, 64, 2));
        a.qp.kick();
        pair.settle();
        expect(reap(a.cq)).toMatchObject([
          { wrId: 1, status: WcStatus.rnrRetryExceeded },
          { wrId: 2, status: WcStatus.workRequestFlushed },
        ]);
        expect(await b.qp.query()).toBe(QpState.rts);
      });

      it("the cable is pulled: transport retries run out", async () => {
        const { pair, a, b } = await open({ connect: { retryCount: 2 } });
        b.qp.postRecv(recv(b, 0, 64));
        pair.wire.setLink(b.side.address, false);
        a.qp.postSend(send(a, 0, 64, 1));
        a.qp.postSend(rdma(WrOpcode.rdmaRead, a, 0, 64, b, 0, 2));
        a.qp.kick();
        pair.settle();
        expect(reap(a.cq)).toMatchObject([
          { wrId: 1, status: WcStatus.transportRetryExceeded },
          { wrId: 2, status: WcStatus.workRequestFlushed },
        ]);
      });

      it("the cable is put back in time: nothing is lost or doubled", async () => {
        const { pair, a, b } = await open();
        for (let i = 0; i < 4; i++) b.qp.postRecv(recv(b, i * 64, 64, i));
        pair.wire.setLink(b.side.address, false);
        for (let i = 0; i < 4; i++) a.qp.postSend(send(a, i * 64, 64, i));
        const sent = pattern(a, 0, 256);
        a.qp.kick();
        for (let i = 0; i < 12; i++) pair.poll();
        pair.wire.setLink(b.side.address, true);
        pair.settle();
        expect(idsOf(reap(a.cq))).toEqual([0, 1, 2, 3]);
        expect(idsOf(reap(b.cq))).toEqual([0, 1, 2, 3]);
        expect(b.bytes.slice(0, 256)).toEqual(sent);
      });

      it("the peer's queue pair is gone: transport retries run out", async () => {
        const { pair, a, b } = await open({ connect: { retryCount: 1 } });
        await b.qp.destroy();
        a.qp.postSend(rdma(WrOpcode.rdmaWrite, a, 0, 64, b, 0, 1));
        a.qp.kick();
        pair.settle();
        expect(statusesOf(reap(a.cq))).toEqual([WcStatus.transportRetryExceeded]);
      });
    });

    describe("states", () => {
      it("ERR flushes both queues, and what is posted later as well", async () => {
        const { pair, a } = await open();
        for (let i = 0; i < 3; i++) a.qp.postRecv(recv(a, 0, 64, i));
        await a.qp.modify({ state: QpState.error });
        pair.settle();
        expect(reap(a.cq)).toMatchObject([
          { wrId: 0, status: WcStatus.workRequestFlushed, opcode: WcOpcode.recv },
          { wrId: 1, status: WcStatus.workRequestFlushed },
          { wrId: 2, status: WcStatus.workRequestFlushed },
        ]);
        expect(a.qp.postRecv(recv(a, 0, 64, 3))).toBe(VerbsStatus.ok);
        expect(a.qp.postSend(send(a, 0, 64, 4))).toBe(VerbsStatus.ok);
        a.qp.kick();
        pair.settle();
        const late = reap(a.cq);
        expect(new Set(idsOf(late))).toEqual(new Set([3, 4]));
        expect(new Set(statusesOf(late))).toEqual(new Set([WcStatus.workRequestFlushed]));
      });

      it("take RECVs from INIT on, sends from RTS on", async () => {
        const pair = await makePair();
        opened.push(pair);
        const end = await makeEnd(pair.a);
        expect(end.qp.state).toBe(QpState.init);
        expect(end.qp.postRecv(recv(end, 0, 64))).toBe(VerbsStatus.ok);
        expect(end.qp.postSend(send(end, 0, 64))).toBe(VerbsStatus.badState);
      });

      it("change only along the diagram, with the attributes it asks for", async () => {
        const { a } = await open();
        await expect(a.qp.modify({ state: QpState.init })).rejects.toMatchObject({
          code: "qp-transition",
        });
        await a.qp.modify({ state: QpState.reset });
        await expect(a.qp.modify({ state: QpState.rts })).rejects.toMatchObject({
          code: "qp-transition",
        });
        await expect(a.qp.modify({ state: QpState.init, port: 1 })).rejects.toMatchObject({
          code: "qp-transition",
          details: { missing: ["accessFlags", "pkeyIndex"] },
        });
        await a.qp.modify({ state: QpState.init, port: 1, pkeyIndex: 0, accessFlags: 0 });
        await expect(a.qp.modify({ state: QpState.rtr, destQpn: 5 })).rejects.toMatchObject({
          code: "qp-transition",
        });
      });

      it("SQD starts nothing new, and RTS goes on", async () => {
        const { pair, a, b } = await open();
        await a.qp.modify({ state: QpState.sqd });
        a.qp.postSend(rdma(WrOpcode.rdmaWrite, a, 0, 8, b, 0, 1));
        a.qp.kick();
        pair.settle();
        expect(reap(a.cq)).toEqual([]);
        await a.qp.modify({ state: QpState.rts });
        pair.settle();
        expect(idsOf(reap(a.cq))).toEqual([1]);
      });
    });

    describe("resources", () => {
      it("a completion queue that overflows takes its queue pairs with it", async () => {
        const { pair, a, b } = await open({ cqDepth: 4 });
        for (let i = 0; i < 8; i++) {
          a.qp.postSend(rdma(WrOpcode.rdmaWrite, a, 0, 8, b, 0, i));
        }
        a.qp.kick();
        pair.settle();
        expect(a.cq.overrun).toBe(true);
        expect(a.side.rdma.takeEvents()).toContainEqual({ kind: "cq-error", number: a.cq.number });
        expect(idsOf(reap(a.cq))).toEqual([0, 1, 2, 3]);
        expect(await a.qp.query()).toBe(QpState.error);
      });

      it("in use are not destroyed", async () => {
        const { a } = await open();
        await expect(a.cq.destroy()).rejects.toMatchObject({ code: "rdma-command" });
        await expect(a.pd.dealloc()).rejects.toMatchObject({ code: "rdma-command" });
        await a.qp.destroy();
        await a.cq.destroy();
        await a.mr.deregister();
        await a.pd.dealloc();
      });

      it("beyond what the device has are refused", async () => {
        const { a } = await open();
        const device = a.side.rdma;
        await expect(device.createCq(1e6)).rejects.toMatchObject({ code: "rdma-limit" });
        const options = { sendCq: a.cq, recvCq: a.cq, maxSend: 1, maxRecv: 1, maxSge: 1000 };
        await expect(device.createQp(a.pd, options)).rejects.toMatchObject({ code: "rdma-limit" });
      });

      it("of another device are refused", async () => {
        const { a, b } = await open();
        const options = { sendCq: b.cq, recvCq: b.cq, maxSend: 1, maxRecv: 1, maxSge: 1 };
        const code = await a.side.rdma.createQp(a.pd, options).then(
          () => "made",
          (error) => error.code,
        );
        expect(code).toBe("rdma-foreign");
      });

      it("a region that was deregistered is gone for both sides", async () => {
        const { pair, a, b } = await open();
        const wr = rdma(WrOpcode.rdmaWrite, a, 0, 8, b, 0);
        await b.mr.deregister();
        expect(b.mr.valid).toBe(false);
        a.qp.postSend(wr);
        a.qp.kick();
        pair.settle();
        expect(statusesOf(reap(a.cq))).toEqual([WcStatus.remoteAccessError]);
      });

      it("flush unsignaled work visibly", async () => {
        const { pair, a, b } = await open();
        const wr = rdma(WrOpcode.rdmaWrite, a, 0, 8, b, 0, 1);
        wr.rkey = 1;
        wr.flags = 0;
        a.qp.postSend(wr);
        const behind = send(a, 0, 8, 2);
        behind.flags = WrFlag.solicited;
        a.qp.postSend(behind);
        a.qp.kick();
        pair.settle();
        expect(idsOf(reap(a.cq))).toEqual([1, 2]);
      });
    });
  });
}
