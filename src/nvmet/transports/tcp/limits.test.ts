/** What a slow, mute or numerous peer costs, and that its neighbours go on: counted, not timed. */

import { expect, it } from "vitest";
import { type TcpHarness, tcpHarness } from "../../../../testing/nvmet-tcp-harness.ts";
import { Bench, quiesce } from "../../../../testing/nvmet-transport-contract.ts";
import { encodeLayout } from "../../../core/index.ts";
import type { ByteStream, StreamEvents } from "../../../platform/index.ts";
import { NvmOpcode } from "../../../spec/nvme/index.ts";
import { TCP_HLEN, TCP_ICREQ, TcpPdu } from "../../../spec/nvmf/index.ts";

class Silent implements StreamEvents {
  ended: string | null = null;
  onData(): void {
    // Reads nothing into it.
  }
  onDrain(): void {
    // Nothing waits.
  }
  onEnd(reason: string): void {
    this.ended = reason;
  }
}

async function dial(harness: TcpHarness): Promise<{ stream: ByteStream; events: Silent }> {
  const stream = await harness.network.connect({ address: "127.0.0.1", port: 4420 });
  const events = new Silent();
  stream.start(events);
  return { stream, events };
}

function icreq(): Uint8Array {
  const length = TCP_HLEN[TcpPdu.ICREQ];
  const bytes = new Uint8Array(length);
  encodeLayout(TCP_ICREQ, { "PDU-Type": TcpPdu.ICREQ, HLEN: length, PLEN: length }, bytes);
  return bytes;
}

it("lets mute connections go, and later those that never connect", async () => {
  const harness = await tcpHarness();
  const { target } = harness;
  target.handshakeTimeoutMs = 1000;
  target.connectTimeoutMs = 5000;
  const mute = await dial(harness);
  const halfway = await dial(harness);
  halfway.stream.write(icreq());
  await quiesce(harness);
  harness.advance(900e6);
  await quiesce(harness);
  expect([mute.events.ended, halfway.events.ended]).toEqual([null, null]);
  harness.advance(200e6);
  await quiesce(harness);
  expect(mute.events.ended).not.toBeNull();
  expect(halfway.events.ended).toBeNull();
  harness.advance(5000e6);
  await quiesce(harness);
  expect(halfway.events.ended).not.toBeNull();
  expect(target.isIdle).toBe(true);
});

it("refuses what is over its limit of connections, and keeps serving", async () => {
  const harness = await tcpHarness({ port: { connectionsMax: 6 } });
  const bench = await Bench.open(harness);
  const data = await bench.data(4096);
  const storm = [];
  for (let i = 0; i < 50; i++) {
    storm.push(await dial(harness));
    expect(bench.io(NvmOpcode.write, i * 8, 8, data)).toBe(0);
  }
  await quiesce(harness);
  // The neighbour has two.
  expect(harness.transport.connections).toBe(6);
  expect(harness.transport.counters.refused).toBe(46);
  for (const { stream } of storm) stream.destroy();
  await quiesce(harness);
  expect(harness.transport.connections).toBe(2);
  const again = await dial(harness);
  await quiesce(harness);
  expect(again.events.ended).toBeNull();
});

it("serves a neighbour while a peer sends a byte at a time", async () => {
  const harness = await tcpHarness();
  const bench = await Bench.open(harness);
  const data = await bench.data(4096);
  const slow = await dial(harness);
  let done = 0;
  for (const byte of icreq()) {
    slow.stream.write(Uint8Array.of(byte));
    if (bench.io(NvmOpcode.read, 0, 8, data) === 0) done++;
  }
  await quiesce(harness);
  expect(done).toBe(128);
  expect(slow.events.ended).toBeNull();
  const { traffic } = harness.transport;
  expect(traffic.received[TcpPdu.CAPSULE_CMD]).toBeGreaterThan(done);
});
