import { describe, expect, it } from "vitest";
import { MemoryNetwork } from "./memory-network.ts";
import { PollLoop } from "./poll-loop.ts";
import { type ByteStream, type Network, realNetwork, type StreamEvents } from "./sockets.ts";

const LOCAL = { address: "127.0.0.1", port: 0 };

/** Collects what a stream tells. */
class Ear implements StreamEvents {
  readonly pieces: Uint8Array[] = [];
  bytes = 0;
  drains = 0;
  ended: string | null = null;
  onData(bytes: Uint8Array): void {
    this.pieces.push(bytes.slice());
    this.bytes += bytes.length;
  }
  onDrain(): void {
    this.drains++;
  }
  onEnd(reason: string): void {
    this.ended = reason;
  }
}

async function pair(network: Network) {
  const accepted: ByteStream[] = [];
  const listener = await network.listen(LOCAL, (stream) => accepted.push(stream));
  const near = await network.connect(listener.at);
  return { listener, near, accepted };
}

const networks: [string, () => { network: Network; step: () => Promise<void> }][] = [
  ["real", () => ({ network: realNetwork, step: () => new Promise((r) => setTimeout(r, 2)) })],
  [
    "memory",
    () => {
      const network = new MemoryNetwork({ cut: () => 1000 });
      return { network, step: async () => void network.poll() };
    },
  ],
];

describe.each(networks)("%s network", (_, make) => {
  it("carries bytes with back-pressure, and tells both ends of the end", async () => {
    const { network, step } = make();
    const until = async (done: () => boolean): Promise<void> => {
      for (let i = 0; i < 5000 && !done(); i++) await step();
      expect(done()).toBe(true);
    };
    const { listener, near, accepted } = await pair(network);
    await until(() => accepted.length === 1);
    const [far] = accepted as [ByteStream];
    const [a, b] = [new Ear(), new Ear()];
    near.start(a);
    far.start(b);
    far.pause();
    const piece = Uint8Array.from({ length: 65_536 }, (_, i) => i % 251);
    let written = 0;
    let sent = 0;
    let mayGoOn = true;
    while (mayGoOn) {
      mayGoOn = near.write(piece, () => written++);
      sent += piece.length;
      expect(sent).toBeLessThan(64 * 2 ** 20);
    }
    expect(near.pendingBytes).toBeGreaterThan(0);
    far.resume();
    await until(() => b.bytes === sent && a.drains > 0);
    expect(written).toBe(sent / piece.length);
    expect(near.pendingBytes).toBe(0);
    const all = Buffer.concat(b.pieces);
    expect(all.subarray(sent - 65_536).equals(piece)).toBe(true);
    far.write(new Uint8Array([1, 2, 3]));
    far.end();
    await until(() => a.ended !== null && b.ended !== null);
    expect(Array.from(Buffer.concat(a.pieces))).toEqual([1, 2, 3]);
    expect(a.ended).toBe("closed by the peer");
    await listener.close();
  });

  it("keeps for a late reader what came first, and stops for one that paused", async () => {
    const { network, step } = make();
    const { listener, near, accepted } = await pair(network);
    for (let i = 0; i < 500 && accepted.length === 0; i++) await step();
    const [far] = accepted as [ByteStream];
    far.start(new Ear());
    const sent = Uint8Array.from({ length: 600_000 }, (_, i) => i % 251);
    far.write(sent);
    for (let i = 0; i < 10; i++) await step();
    const ear = new Ear();
    near.start(ear);
    for (let i = 0; i < 500 && ear.bytes === 0; i++) await step();
    near.pause();
    for (let i = 0; i < 10; i++) await step();
    const before = ear.bytes;
    for (let i = 0; i < 10; i++) await step();
    expect(ear.bytes).toBe(before);
    near.resume();
    for (let i = 0; i < 5000 && ear.bytes < sent.length; i++) await step();
    expect(Buffer.concat(ear.pieces).equals(sent)).toBe(true);
    near.destroy();
    await listener.close();
  });

  it("says why it cannot connect or listen", async () => {
    const { network } = make();
    const { listener } = await pair(network);
    await expect(network.listen(listener.at, () => undefined)).rejects.toMatchObject({
      code: "listen-failed",
    });
    await listener.close();
    await expect(network.connect(listener.at)).rejects.toMatchObject({ code: "connect-failed" });
  });
});

describe("poll loop", () => {
  it("polls while there is work, sleeps while there is none, stops on an error", async () => {
    let work = 100;
    const errors: unknown[] = [];
    const loop = new PollLoop({
      poll: () => {
        if (work < 0) throw new Error("broken");
        return work > 0 ? work-- : 0;
      },
      onError: (error) => errors.push(error),
      tickMs: 1000,
    });
    loop.start();
    await new Promise((resolve) => setTimeout(resolve, 30));
    expect(work).toBe(0);
    const { turns } = loop;
    expect(turns).toBeLessThan(50);
    await new Promise((resolve) => setTimeout(resolve, 30));
    expect(loop.turns).toBe(turns);
    work = -1;
    loop.wake();
    await new Promise((resolve) => setTimeout(resolve, 30));
    expect(errors).toHaveLength(1);
  });
});
