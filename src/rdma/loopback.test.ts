/**
 * Queue pairs of one device connected to each other, and many at a time: nothing in the device is
 * shared between the two roles, nor starves.
 */

import { expect, it } from "vitest";
import { rdmaPair } from "../../testing/rdma-pair.ts";
import { idsOf, makeEnd, pattern, rdma, reap, recv, send } from "../../testing/verbs-setup.ts";
import { WcOpcode, WrOpcode } from "../spec/rdma/index.ts";

it("a device talks to itself", async () => {
  const pair = await rdmaPair({ mtu: 512 });
  const { rdma: device, address } = pair.a;
  const one = await makeEnd(pair.a);
  const two = await makeEnd(pair.a);
  device.cm.listen(1, (request) => void request.accept(two.qp));
  const connection = await pair.drive(device.cm.connect({ qp: one.qp, address, port: 1 }));
  const sent = pattern(one, 0, 100_000, 1);
  const there = pattern(two, 200_000, 50_000, 2);
  for (let i = 0; i < 8; i++) two.qp.postRecv(recv(two, 0, 100_000, i));
  for (let i = 0; i < 4; i++) {
    one.qp.postSend(send(one, 0, 100_000, i * 2));
    one.qp.postSend(rdma(WrOpcode.rdmaRead, one, 300_000, 50_000, two, 200_000, i * 2 + 1));
  }
  one.qp.kick();
  pair.settle();
  expect(idsOf(reap(one.cq))).toEqual([0, 1, 2, 3, 4, 5, 6, 7]);
  expect(reap(two.cq)).toHaveLength(4);
  expect(Buffer.compare(two.bytes.subarray(0, 100_000), sent)).toBe(0);
  expect(Buffer.compare(one.bytes.subarray(300_000, 350_000), there)).toBe(0);
  await pair.drive(connection.disconnect());
});

it("many queue pairs share the device and one completion queue", async () => {
  const pair = await rdmaPair();
  const a = await makeEnd(pair.a, { cqDepth: 4096 });
  const b = await makeEnd(pair.b, { cqDepth: 4096 });
  const options = { maxSend: 128, maxRecv: 128, maxSge: 1 };
  const qps = [];
  for (let i = 0; i < 20; i++) {
    const near = await pair.a.rdma.createQp(a.pd, { ...options, sendCq: a.cq, recvCq: a.cq });
    const far = await pair.b.rdma.createQp(b.pd, { ...options, sendCq: b.cq, recvCq: b.cq });
    const listener = pair.b.rdma.cm.listen(7, (request) => void request.accept(far));
    await pair.drive(pair.a.rdma.cm.connect({ qp: near, address: "10.0.0.2", port: 7 }));
    listener.close();
    qps.push({ near, far });
  }
  qps.forEach(({ near, far }, q) => {
    for (let i = 0; i < 100; i++) {
      far.postRecv(recv(b, 0, 64, i));
      near.postSend(send(a, q * 8, 8, i));
    }
    near.kick();
  });
  pair.settle();
  const byQp = new Map<number, number[]>();
  for (const { qpNumber, wrId, status, opcode } of reap(a.cq)) {
    expect([status, opcode]).toEqual([0, WcOpcode.send]);
    byQp.set(qpNumber, [...(byQp.get(qpNumber) ?? []), wrId]);
  }
  const all = Array.from({ length: 100 }, (_, i) => i);
  for (const { near } of qps) expect(byQp.get(near.number)).toEqual(all);
  expect(reap(b.cq)).toHaveLength(2000);
});
