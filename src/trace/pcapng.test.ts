/** Written, then read back by a reader that checks lengths, checksums and sequence numbers. */

import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { connectionsOf, readCapture, sentBy } from "../../testing/capture-reader.ts";
import { Prng } from "../core/index.ts";
import { parseGid } from "../spec/rdma/index.ts";
import { PcapngWriter } from "./pcapng.ts";
import { TcpConversation } from "./tcp-conversation.ts";

const WALL_MS = 1_795_527_140_767;

function recorder(nowNs = 0) {
  const pieces: Uint8Array[] = [];
  const writer = new PcapngWriter({
    out: (bytes) => pieces.push(bytes.slice()),
    nowNs,
    wallMs: WALL_MS,
    application: "test",
    interfaceName: "lo",
    interfaceDescription: "made up",
  });
  const file = (): Uint8Array => {
    writer.flush();
    return Buffer.concat(pieces);
  };
  return { writer, file, pieces };
}

const end = (address: string, port: number) => ({ address: parseGid(address), port });

describe("a capture", () => {
  it("gives back what each side sent, whatever the lengths, over IPv4 and IPv6", () => {
    const step = fc.record({
      isInbound: fc.boolean(),
      length: fc.oneof(fc.integer({ min: 1, max: 200 }), fc.integer({ min: 60_000, max: 200_000 })),
      wait: fc.nat(2 ** 33),
    });
    fc.assert(
      fc.property(
        fc.array(step, { maxLength: 12 }),
        fc.constantFrom("10.1.2.3", "fe80::1"),
        fc.constantFrom("10.1.2.4", "2001:db8::ffff:1"),
        fc.integer({ min: 0, max: 0xffff_ffff }),
        (steps, near, far, index) => {
          const { writer, file } = recorder();
          const made = new TcpConversation(writer, end(near, 4420), end(far, 51_000), index);
          const prng = new Prng(index);
          const sent = { in: [] as Uint8Array[], out: [] as Uint8Array[] };
          let now = 0;
          made.open(now, true, "");
          for (const { isInbound, length, wait } of steps) {
            const bytes = new Uint8Array(length);
            prng.fill(bytes);
            (isInbound ? sent.in : sent.out).push(bytes);
            now += wait;
            const before = writer.size;
            made.data(now, isInbound, bytes);
            expect(writer.size - before).toBeLessThanOrEqual(made.dataSize(length));
          }
          made.finish(now, true, "");
          made.finish(now, false, "");
          const written = file();
          expect(written.length).toBe(writer.size);
          const [connection, ...more] = connectionsOf(readCapture(written));
          expect(more).toEqual([]);
          expect(connection?.ending).toBe("fin");
          if (connection === undefined) return;
          expect(Buffer.compare(sentBy(connection, true), Buffer.concat(sent.in))).toBe(0);
          expect(Buffer.compare(sentBy(connection, false), Buffer.concat(sent.out))).toBe(0);
        },
      ),
      { seed: 5, numRuns: 25 },
    );
  });

  it("has times to the nanosecond, from the wall clock on, that never jump", () => {
    const start = 123_456_789_012;
    const { writer, file } = recorder(start);
    const made = new TcpConversation(writer, end("10.0.0.1", 1), end("10.0.0.2", 2), 0);
    const offsets = [0, 1, 2 ** 32 - 1, 2 ** 32, 2 ** 40 + 7, 2 ** 50 + 1];
    for (const offset of offsets) made.data(start + offset, true, Uint8Array.of(1));
    const base = BigInt(WALL_MS) * 1_000_000n;
    const { packets } = readCapture(file());
    expect(packets.map(({ timeNs }) => timeNs)).toEqual(offsets.map((of) => base + BigInt(of)));
  });

  it("ends with counts and a reason; comments of any text stay whole", () => {
    const { writer, file } = recorder();
    const made = new TcpConversation(writer, end("10.0.0.1", 1), end("10.0.0.2", 2), 0);
    made.open(0, false, "Schlüssel ✓");
    made.reset(5, true, "read ECONNRESET");
    made.reset(5, true, "twice");
    made.finish(6, false, "late");
    writer.finish(9, "over");
    const read = readCapture(file());
    expect(read.end).toEqual({ received: 4, comment: "over" });
    expect(read.packets.map(({ comment }) => comment)).toEqual([
      "Schlüssel ✓",
      "",
      "",
      "read ECONNRESET",
    ]);
    expect(read.packets[0]).toMatchObject({ from: "10.0.0.1:1", to: "10.0.0.2:2" });
    expect(connectionsOf(read)[0]?.ending).toBe("rst");
  });

  it("tells a connection from a later one between the same ports", () => {
    const { writer, file } = recorder();
    for (let index = 0; index < 2; index++) {
      const made = new TcpConversation(writer, end("::1", 1), end("::1", 2), index);
      made.open(0, true, "");
      made.data(0, true, new Uint8Array(2 + index));
      made.finish(0, false, "");
    }
    const found = connectionsOf(readCapture(file()));
    expect(found.map((one) => sentBy(one, true).length)).toEqual([2, 3]);
    expect(found[0]).toMatchObject({ near: "[::1]:1", far: "[::1]:2" });
  });

  it("hands on whole blocks, of one buffer", () => {
    const { writer, pieces } = recorder();
    const made = new TcpConversation(writer, end("10.0.0.1", 1), end("10.0.0.2", 2), 0);
    made.open(0, true, "");
    for (let i = 0; i < 40; i++) made.data(i, true, new Uint8Array(50_001));
    expect(pieces.length).toBeGreaterThan(5);
    for (let n = 1; n <= pieces.length; n++) readCapture(Buffer.concat(pieces.slice(0, n)));
    expect(pieces.every((piece) => piece.length <= 256 * 1024)).toBe(true);
  });
});
