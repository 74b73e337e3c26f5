/** TLS on real sockets of the loopback. */
import { connect } from "node:net";
import { afterEach, expect, it } from "vitest";
import { type ByteStream, realNetwork, type StreamListener, type TlsServer } from "./index.ts";

const LOCAL = { address: "127.0.0.1", port: 0 };
const KEY = new Uint8Array(32).fill(7);
const IDENTITY = "NVMe1R01 nqn.a nqn.b digest=";

const listeners: StreamListener[] = [];
const accepted: ByteStream[] = [];
afterEach(async () => {
  for (const stream of accepted.splice(0)) stream.destroy();
  await Promise.all(listeners.splice(0).map((listener) => listener.close()));
});

async function listen(required: boolean) {
  const refusals: string[] = [];
  const tls: TlsServer = {
    required,
    keyFor: (identity) => (identity === IDENTITY ? KEY : null),
    refused: (_peer, reason) => refusals.push(reason),
  };
  const listener = await realNetwork.listen(LOCAL, (stream) => accepted.push(stream), tls);
  listeners.push(listener);
  return { listener, refusals };
}

/** Collects what arrives; resolves when there is enough, or at the end. */
function take(stream: ByteStream, bytes: number): Promise<Uint8Array> {
  const parts: Uint8Array[] = [];
  return new Promise((resolve) => {
    const done = (): void => resolve(Buffer.concat(parts));
    stream.start({
      onData: (piece) => {
        parts.push(piece.slice());
        if (Buffer.concat(parts).length >= bytes) done();
      },
      onDrain: () => undefined,
      onEnd: done,
    });
  });
}

const until = async (done: () => boolean): Promise<void> => {
  for (let i = 0; i < 500 && !done(); i++) await new Promise((r) => setTimeout(r, 4));
  expect(done()).toBe(true);
};

it("carries bytes both ways, and tells who the peer is", async () => {
  const { listener } = await listen(true);
  const near = await realNetwork.connect(listener.at, { identity: IDENTITY, key: KEY });
  await until(() => accepted.length === 1);
  const far = accepted[0] as ByteStream;
  expect(far.tlsIdentity).toBe(IDENTITY);
  const big = Uint8Array.from({ length: 300_000 }, (_, i) => i % 251);
  const got = take(far, big.length);
  const echo = take(near, 5);
  let isWritten = false;
  near.write(big, () => {
    isWritten = true;
  });
  expect(Buffer.compare(await got, big)).toBe(0);
  expect(isWritten).toBe(true);
  far.write(new TextEncoder().encode("hello"));
  expect(Buffer.from(await echo).toString()).toBe("hello");
});

it("takes both kinds where both are allowed, without losing a byte", async () => {
  const { listener } = await listen(false);
  const plain = await realNetwork.connect(listener.at);
  plain.start({ onData: () => undefined, onDrain: () => undefined, onEnd: () => undefined });
  plain.write(new Uint8Array([0, 1, 2, 3]));
  await until(() => accepted.length === 1);
  const [far] = accepted as [ByteStream];
  expect(far.tlsIdentity).toBeNull();
  expect([...(await take(far, 4))]).toEqual([0, 1, 2, 3]);
  await realNetwork.connect(listener.at, { identity: IDENTITY, key: KEY });
  await until(() => accepted.length === 2);
  expect(accepted[1]?.tlsIdentity).toBe(IDENTITY);
});

it("refuses a wrong key, an unknown identity, garbage, and none where it is required", async () => {
  const { listener, refusals } = await listen(true);
  const wrong = { identity: IDENTITY, key: new Uint8Array(32).fill(8) };
  const unknown = { identity: "NVMe1R01 nqn.x nqn.b digest=", key: KEY };
  for (const psk of [wrong, unknown]) {
    const error = await realNetwork.connect(listener.at, psk).catch((caught) => caught);
    expect(error).toMatchObject({ code: "tls-failed", details: { identity: psk.identity } });
    // Neither key is in what people read.
    expect(JSON.stringify(error)).not.toMatch(/0707|0808|\[8,8|BwcH|CAgI/);
  }
  for (const first of [new Uint8Array(128), new Uint8Array(600).fill(0x16)]) {
    const plain = await realNetwork.connect(listener.at);
    const ended = take(plain, 1e9);
    plain.write(first);
    await ended;
  }
  await until(() => refusals.length >= 4);
  expect(refusals.some((reason) => /requires/.test(reason))).toBe(true);
  expect(accepted).toEqual([]);
});

it("bounds handshakes that never finish", async () => {
  const { listener, refusals } = await listen(true);
  const sockets = Array.from({ length: 70 }, () => {
    const socket = connect(listener.at.port, "127.0.0.1");
    socket.on("error", () => undefined);
    return socket;
  });
  await until(() => refusals.length === 6);
  for (const socket of sockets) socket.destroy();
  // And lets others in when they are gone.
  await until(() => sockets.every(({ destroyed }) => destroyed));
  await new Promise((r) => setTimeout(r, 30));
  await realNetwork.connect(listener.at, { identity: IDENTITY, key: KEY });
  await until(() => accepted.length === 1);
});
