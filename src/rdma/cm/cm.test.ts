import { afterEach, describe, expect, it } from "vitest";
import { type RdmaPair, type RdmaPairOptions, rdmaPair } from "../../../testing/rdma-pair.ts";
import { type End, makeEnd, reap, recv, send } from "../../../testing/verbs-setup.ts";
import { Prng } from "../../core/index.ts";
import { CmRejectReason, QpState, WcStatus } from "../../spec/rdma/index.ts";
import { type Connection, type ConnectionRequest, Wc } from "../index.ts";

const PORT = 4420;

describe("connection manager", () => {
  let pair: RdmaPair;
  let a: End;
  let b: End;

  const open = async (options: RdmaPairOptions = {}): Promise<void> => {
    pair = await rdmaPair(options);
    a = await makeEnd(pair.a);
    b = await makeEnd(pair.b);
  };
  const connect = (more: object = {}): Promise<Connection> =>
    pair.a.rdma.cm.connect({ qp: a.qp, address: pair.b.address, port: PORT, ...more });
  /** Accepts the next request with queue pair b. */
  const acceptNext = (privateData?: Uint8Array): Promise<Connection> =>
    new Promise((resolve, reject) => {
      const listener = pair.b.rdma.cm.listen(PORT, (request) => {
        listener.close();
        request
          .accept(b.qp, privateData === undefined ? {} : { privateData })
          .then(resolve, reject);
      });
    });

  afterEach(async () => {
    await pair.a.rdma.close();
    await pair.b.rdma.close();
  });

  it("connects, with private data both ways", async () => {
    await open();
    const requests: ConnectionRequest[] = [];
    const accepted = new Promise<Connection>((resolve) => {
      pair.b.rdma.cm.listen(PORT, (request) => {
        requests.push(request);
        const privateData = new Uint8Array(196).fill(2);
        request.accept(b.qp, { privateData, initiatorDepth: 3 }).then(resolve);
      });
    });
    const privateData = new Uint8Array(56).fill(1);
    const active = await pair.drive(
      connect({ privateData, initiatorDepth: 5, responderResources: 2 }),
    );
    const passive = await pair.drive(accepted);
    expect(requests).toMatchObject([
      { remoteAddress: "10.0.0.1", port: PORT, initiatorDepth: 5, responderResources: 2 },
    ]);
    expect(requests[0].privateData).toEqual(privateData);
    expect(active.privateData).toEqual(new Uint8Array(196).fill(2));
    expect([active.state, passive.state]).toEqual(["established", "established"]);
    expect([active.initiatorDepth, passive.initiatorDepth]).toEqual([5, 2]);
    expect([a.qp.state, b.qp.state]).toEqual([QpState.rts, QpState.rts]);
  });

  it("the target may send at once, before the host's RTU has come", async () => {
    await open({ wire: { latencyNs: 10_000 } });
    a.qp.postRecv(recv(a, 0, 64, 1));
    pair.b.rdma.cm.listen(PORT, (request) => {
      request.accept(b.qp).catch(() => undefined);
    });
    const connected = connect();
    // As soon as b is in RTS, which is before its REP leaves.
    await pair.drive(
      (async () => {
        while (b.qp.state !== QpState.rts) await Promise.resolve();
        b.qp.postSend(send(b, 0, 8, 2));
        b.qp.kick();
      })(),
    );
    await pair.drive(connected);
    pair.settle();
    expect(reap(a.cq)).toMatchObject([{ wrId: 1, status: WcStatus.success }]);
  });

  it("is rejected with a reason and private data", async () => {
    await open();
    pair.b.rdma.cm.listen(PORT, (request) => request.reject(Uint8Array.of(7, 8)));
    const error = await pair.drive(connect().catch((e) => e));
    expect(error).toMatchObject({ code: "cm-rejected", details: { reason: 28 } });
    expect(error.details.privateData.slice(0, 3)).toEqual(Uint8Array.of(7, 8, 0));
    expect(a.qp.state).toBe(QpState.init);
    // The queue pair can be used for another try.
    pair.b.rdma.cm.listen(PORT + 1, (request) => void request.accept(b.qp));
    const connection = await pair.drive(connect({ port: PORT + 1 }));
    expect(connection.state).toBe("established");
  });

  it("nobody listens: rejected as an invalid service id", async () => {
    await open();
    await expect(pair.drive(connect())).rejects.toMatchObject({
      code: "cm-rejected",
      details: { reason: CmRejectReason.invalidServiceId },
    });
  });

  it("nobody is there: times out on the simulated clock", async () => {
    await open();
    const start = pair.a.fabric.clock.nowNs();
    const nobody = connect({ address: "10.0.0.99", timeoutNs: 1e6, retries: 3 });
    await expect(pair.drive(nobody)).rejects.toMatchObject({ code: "cm-timeout" });
    expect(pair.a.fabric.clock.nowNs() - start).toBeGreaterThanOrEqual(4e6);
    expect(a.qp.state).toBe(QpState.init);
  });

  it("a request may be answered much later", async () => {
    await open();
    const requests: ConnectionRequest[] = [];
    pair.b.rdma.cm.listen(PORT, (request) => requests.push(request));
    const connected = connect();
    for (let i = 0; i < 400; i++) {
      pair.poll();
      await Promise.resolve();
    }
    // Sent again meanwhile, but asked once.
    expect(requests).toHaveLength(1);
    const accepted = requests[0].accept(b.qp);
    expect((await pair.drive(connected)).state).toBe("established");
    expect((await pair.drive(accepted)).state).toBe("established");
    await expect(requests[0].accept(b.qp)).rejects.toMatchObject({ code: "cm-answered" });
    expect(() => requests[0].reject()).toThrow("answered before");
  });

  it.each(["active", "passive"])("the %s side disconnects", async (who) => {
    await open();
    const accepted = acceptNext();
    const active = await pair.drive(connect());
    const passive = await pair.drive(accepted);
    const ended: string[] = [];
    active.onDisconnect = () => ended.push("active");
    passive.onDisconnect = () => ended.push("passive");
    a.qp.postRecv(recv(a, 0, 64, 1));
    b.qp.postRecv(recv(b, 0, 64, 2));
    const closing = who === "active" ? active : passive;
    const closed = closing.disconnect();
    expect(closing.disconnect()).toBe(closed);
    await pair.drive(closed);
    pair.settle();
    await Promise.resolve();
    expect(ended.sort()).toEqual(["active", "passive"]);
    expect([active.state, passive.state]).toEqual(["disconnected", "disconnected"]);
    for (const end of [a, b]) {
      expect(reap(end.cq)).toMatchObject([{ status: WcStatus.workRequestFlushed }]);
      expect(end.qp.state).toBe(QpState.error);
    }
  });

  it("both sides disconnect at once", async () => {
    await open({ wire: { latencyNs: 5000 } });
    const accepted = acceptNext();
    const active = await pair.drive(connect());
    const passive = await pair.drive(accepted);
    await pair.drive(Promise.all([active.disconnect(), passive.disconnect()]));
    expect([active.state, passive.state]).toEqual(["disconnected", "disconnected"]);
  });

  it("disconnects from a peer that is gone", async () => {
    await open();
    const accepted = acceptNext();
    const active = await pair.drive(connect());
    await pair.drive(accepted);
    pair.wire.setLink(pair.b.address, false);
    await pair.drive(active.disconnect());
    expect(active.state).toBe("disconnected");
  });

  it.each([1, 2, 3, 4])(
    "survives a wire that loses a third of all messages (seed %i)",
    async (s) => {
      await open({ wire: { lossProbability: 0.33, prng: new Prng(s), latencyNs: 1000 } });
      const accepted = acceptNext(Uint8Array.of(5));
      const active = await pair.drive(connect({ timeoutNs: 1e6 }));
      const passive = await pair.drive(accepted);
      expect([active.state, passive.state]).toEqual(["established", "established"]);
      b.qp.postRecv(recv(b, 0, 64, 1));
      a.qp.postSend(send(a, 0, 8, 2));
      a.qp.kick();
      pair.until(() => b.cq.poll(new Wc()), "the RECV");
      await pair.drive(active.disconnect());
      expect(active.state).toBe("disconnected");
    },
  );

  it("refuses misuse", async () => {
    await open();
    pair.b.rdma.cm.listen(PORT, () => undefined);
    expect(() => pair.b.rdma.cm.listen(PORT, () => undefined)).toThrow("has a listener");
    const privateData = new Uint8Array(57);
    await expect(connect({ privateData })).rejects.toMatchObject({ code: "cm-private-data" });
    await expect(connect({ address: "somewhere" })).rejects.toMatchObject({ code: "bad-address" });
  });

  it("shows its connections", async () => {
    await open();
    const accepted = acceptNext();
    await pair.drive(connect());
    await pair.drive(accepted);
    expect(pair.b.rdma.cm.inspect()).toMatchObject({
      listeners: [],
      connections: [{ remoteAddress: "10.0.0.1", state: "established", qp: b.qp.number }],
    });
  });
});
