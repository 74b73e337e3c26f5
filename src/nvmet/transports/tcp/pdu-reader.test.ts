/** The parser against streams that nobody meant to send: seeded, so that a failure replays. */

import { describe, expect, it } from "vitest";
import { tcpHarness } from "../../../../testing/nvmet-tcp-harness.ts";
import { Bench, quiesce } from "../../../../testing/nvmet-transport-contract.ts";
import { crc32c, decodeLayout, encodeLayout, Prng, viewOf } from "../../../core/index.ts";
import type { ByteStream, StreamEvents } from "../../../platform/index.ts";
import { NvmOpcode } from "../../../spec/nvme/index.ts";
import {
  TCP_C2H_TERM_REQ,
  TCP_FES_NAMES,
  TCP_HLEN,
  TCP_LAYOUTS,
  TcpFes,
  TcpFlag,
  TcpPdu,
  tcpDataOffset,
} from "../../../spec/nvmf/index.ts";
import { CONTROLLER_RECEIVES, type PduHandler, PduReader } from "./pdu-reader.hot.ts";

interface Made {
  readonly type: number;
  readonly values?: Record<string, number>;
  readonly data?: Uint8Array;
  readonly digests?: number;
  readonly pda?: number;
}

/** A PDU, right in every respect unless `values` says otherwise. */
function pdu({ type, values = {}, data, digests = 0, pda = 0 }: Made): Uint8Array {
  const hlen = TCP_HLEN[type];
  const isBare = type < TcpPdu.CAPSULE_CMD;
  const hd = !isBare && (digests & 1) !== 0 ? 4 : 0;
  const dd = !isBare && (digests & 2) !== 0 && data !== undefined ? 4 : 0;
  const pdo = data === undefined || isBare ? hlen + hd : tcpDataOffset(hlen + hd, pda);
  const wire = new Uint8Array(pdo + (data?.length ?? 0) + dd);
  const flags = (hd > 0 ? TcpFlag.hdgst : 0) | (dd > 0 ? TcpFlag.ddgst : 0);
  const layout = TCP_LAYOUTS.get(type);
  if (layout === undefined) throw new Error("no such PDU");
  const lengths = { HLEN: hlen, PDO: data === undefined ? 0 : pdo, PLEN: wire.length };
  const all = { "PDU-Type": type, FLAGS: flags, ...lengths, ...values };
  encodeLayout(layout, all, wire);
  if (hd > 0) viewOf(wire).setUint32(hlen, crc32c(wire, 0, hlen), true);
  if (data !== undefined) wire.set(data, pdo);
  if (dd > 0 && data !== undefined) viewOf(wire).setUint32(pdo + data.length, crc32c(data), true);
  return wire;
}

/** Keeps what it is given, in one buffer that must never be overrun. */
class Keeper implements PduHandler {
  readonly seen: string[] = [];
  readonly buffer = new Uint8Array(16_384);
  pduHeader(reader: PduReader): number {
    if (reader.dataBytes > this.buffer.length) return reader.fail(TcpFes.DATA_LIMIT_EXCEEDED, 0);
    if (reader.dataBytes > 0) reader.setTarget(this.buffer, 0);
    return 0;
  }
  pduDone(reader: PduReader, isIntact: boolean): void {
    this.seen.push(`${reader.type}:${crc32c(this.buffer, 0, reader.dataBytes)}:${isIntact}`);
  }
}

function reader(digests: number, pda: number): { reader: PduReader; keeper: Keeper } {
  const keeper = new Keeper();
  const made = new PduReader(CONTROLLER_RECEIVES, CONTROLLER_RECEIVES, keeper);
  made.headerDigest = (digests & 1) !== 0;
  made.dataDigest = (digests & 2) !== 0;
  made.pda = pda;
  return { reader: made, keeper };
}

/** Some valid PDUs in a row. */
function stream(prng: Prng, digests: number, pda: number): Uint8Array {
  const data = (bytes: number): Uint8Array => {
    const made = new Uint8Array(bytes);
    prng.fill(made);
    return made;
  };
  return Buffer.concat([
    pdu({ type: TcpPdu.ICREQ }),
    pdu({ type: TcpPdu.CAPSULE_CMD, digests, pda }),
    pdu({ type: TcpPdu.CAPSULE_CMD, digests, pda, data: data(1 + prng.below(300)) }),
    pdu({ type: TcpPdu.H2C_DATA, digests, pda, data: data(1 + prng.below(300)) }),
    pdu({ type: TcpPdu.H2C_TERM_REQ, data: data(prng.below(100) + 1) }),
  ]);
}

describe("PDU reader", () => {
  it.each([0, 1, 2, 3])(
    "gives the same PDUs wherever the stream is cut (digests %i)",
    (digests) => {
      const wire = stream(new Prng(digests + 1), digests, 7);
      const whole = reader(digests, 7);
      whole.reader.consume(wire, 0, 100);
      expect(whole.reader.fes).toBe(0);
      expect(whole.keeper.seen).toHaveLength(5);
      expect(whole.keeper.seen.every((line) => line.endsWith("true"))).toBe(true);
      for (let cut = 1; cut < wire.length; cut++) {
        const halves = reader(digests, 7);
        halves.reader.consume(wire.subarray(0, cut), 0, 100);
        halves.reader.consume(wire.subarray(cut), 0, 100);
        expect(halves.keeper.seen).toEqual(whole.keeper.seen);
      }
      const bytewise = reader(digests, 7);
      for (let i = 0; i < wire.length; i++)
        bytewise.reader.consume(wire.subarray(i, i + 1), 0, 100);
      expect(bytewise.keeper.seen).toEqual(whole.keeper.seen);
      expect(bytewise.reader.isInside).toBe(false);
    },
  );

  const data = new Uint8Array(64);
  const wrong: [string, Made, number, number][] = [
    ["a type that only a controller sends", { type: TcpPdu.R2T }, 1, 0],
    ["HLEN", { type: TcpPdu.CAPSULE_CMD, values: { HLEN: 71 } }, 1, 2],
    ["PLEN below the header", { type: TcpPdu.CAPSULE_CMD, values: { PLEN: 71 } }, 1, 4],
    ["PDO inside the header", { type: TcpPdu.H2C_DATA, data, values: { PDO: 20 } }, 1, 3],
    ["PDO off its alignment", { type: TcpPdu.H2C_DATA, data, values: { PDO: 26 } }, 1, 3],
    ["PDO behind the data", { type: TcpPdu.H2C_DATA, data, values: { PDO: 88 } }, 1, 4],
    ["a digest that was not agreed on", { type: TcpPdu.CAPSULE_CMD, digests: 1 }, 1, 1],
    ["a data digest that was not", { type: TcpPdu.H2C_DATA, data, digests: 2 }, 1, 1],
    ["ICReq of another length", { type: TcpPdu.ICREQ, values: { PLEN: 129 } }, 1, 4],
    ["TermReq with too much data", { type: TcpPdu.H2C_TERM_REQ, values: { PLEN: 153 } }, 1, 4],
  ];
  it.each(wrong)("refuses %s", (_name, made, fes, fei) => {
    const { reader: subject } = reader(0, 0);
    subject.consume(pdu(made), 0, 10);
    expect([subject.fes, subject.fei]).toEqual([fes, fei]);
  });

  it("tells a wrong header digest from a wrong data digest", () => {
    const bad = pdu({ type: TcpPdu.H2C_DATA, data, digests: 3 });
    bad[9] ^= 1;
    const first = reader(3, 0);
    first.reader.consume(bad, 0, 10);
    expect(first.reader.fes).toBe(TcpFes.HEADER_DIGEST_ERROR);
    expect(first.reader.fei).toBe(viewOf(bad).getUint32(24, true));
    bad[9] ^= 1;
    bad[40] ^= 1;
    const second = reader(3, 0);
    second.reader.consume(bad, 0, 10);
    expect(second.reader.fes).toBe(0);
    expect(second.keeper.seen[0]).toMatch(/false$/);
  });

  it("survives mutated streams, with a status that exists", () => {
    const prng = new Prng(2026);
    const statuses = new Set<number>();
    for (let i = 0; i < 4000; i++) {
      const digests = prng.below(4);
      const pda = prng.below(4);
      const wire = stream(prng, digests, pda);
      for (let n = 1 + prng.below(4); n > 0; n--) wire[prng.below(wire.length)] = prng.below(256);
      const { reader: subject } = reader(digests, pda);
      let at = 0;
      while (at < wire.length && subject.fes === 0) {
        const end = Math.min(wire.length, at + 1 + prng.below(400));
        subject.consume(wire.subarray(at, end), 0, 100);
        at = end;
      }
      if (subject.fes !== 0) expect(TCP_FES_NAMES[subject.fes]).toBeDefined();
      statuses.add(subject.fes);
    }
    expect([...statuses].sort()).toEqual(expect.arrayContaining([0, 1, 3]));
  });
});

/** A raw peer of the target. */
class Raw implements StreamEvents {
  bytes = Buffer.alloc(0);
  ended: string | null = null;
  onData(bytes: Uint8Array): void {
    this.bytes = Buffer.concat([this.bytes, bytes]);
  }
  onDrain(): void {
    // Nothing waits.
  }
  onEnd(reason: string): void {
    this.ended = reason;
  }
}

describe("target against a hostile peer", () => {
  async function dial() {
    const harness = await tcpHarness();
    const open = async (): Promise<{ stream: ByteStream; raw: Raw }> => {
      const made = await harness.network.connect({ address: "127.0.0.1", port: 4420 });
      const raw = new Raw();
      made.start(raw);
      return { stream: made, raw };
    };
    return { harness, open };
  }

  const sequences: [string, Uint8Array[], number, number][] = [
    ["a command before ICReq", [pdu({ type: TcpPdu.CAPSULE_CMD })], 2, 0],
    ["ICReq twice", [pdu({ type: TcpPdu.ICREQ }), pdu({ type: TcpPdu.ICREQ })], 2, 0],
    ["another format version", [pdu({ type: TcpPdu.ICREQ, values: { PFV: 1 } })], 6, 8],
    ["an HPDA that cannot be", [pdu({ type: TcpPdu.ICREQ, values: { HPDA: 32 } })], 1, 10],
    [
      "data that no R2T asked for",
      [pdu({ type: TcpPdu.ICREQ }), pdu({ type: TcpPdu.H2C_DATA, data: new Uint8Array(8) })],
      1,
      10,
    ],
    ["HTTP", [new TextEncoder().encode("GET / HTTP/1.1\r\nHost: x\r\n\r\n")], 1, 0],
  ];
  it.each(sequences)("ends a connection after %s", async (_name, pdus, fes, fei) => {
    const { harness, open } = await dial();
    const { stream: peer, raw } = await open();
    for (const bytes of pdus) peer.write(bytes);
    await quiesce(harness);
    expect(raw.ended).not.toBeNull();
    const at = pdus.length > 1 ? 128 : 0;
    expect(raw.bytes[at]).toBe(TcpPdu.C2H_TERM_REQ);
    expect(decodeLayout(TCP_C2H_TERM_REQ, raw.bytes, at)).toMatchObject({ FES: fes, FEI: fei });
    const last = pdus.at(-1) as Uint8Array;
    const quoted = raw.bytes.subarray(at + 24);
    expect(quoted.equals(last.subarray(0, quoted.length))).toBe(true);
    expect(harness.target.isIdle).toBe(true);
    expect(harness.transport.connections).toBe(0);
  });

  it("is not moved by noise, and goes on serving a neighbour", async () => {
    const { harness, open } = await dial();
    const bench = await Bench.open(harness);
    const data = await bench.data(8192);
    const prng = new Prng(99);
    for (let i = 0; i < 60; i++) {
      const { stream: peer } = await open();
      if (prng.below(2) === 0) peer.write(pdu({ type: TcpPdu.ICREQ }));
      const noise = stream(prng, 0, 0).subarray(128);
      for (let n = prng.below(5); n > 0; n--) noise[prng.below(noise.length)] = prng.below(256);
      peer.write(noise);
      if (prng.below(2) === 0) peer.end();
      expect(bench.io(NvmOpcode.write, 0, 16, data)).toBe(0);
      await quiesce(harness);
      peer.destroy();
    }
    await quiesce(harness);
    // The neighbour's two queues, and nothing of the noise.
    expect(harness.transport.connections).toBe(2);
    expect(harness.transport.counters.terminated.size).toBeGreaterThan(0);
  });

  it("holds no more than its limits when the peer sends and never reads", async () => {
    const { harness, open } = await dial();
    const { stream: peer, raw } = await open();
    peer.write(pdu({ type: TcpPdu.ICREQ }));
    await quiesce(harness);
    peer.pause();
    // Commands that are each answered with an error: nobody takes the answers.
    const burst = Buffer.concat(
      Array.from({ length: 512 }, () => pdu({ type: TcpPdu.CAPSULE_CMD })),
    );
    for (let i = 0; i < 200; i++) {
      peer.write(burst);
      for (let n = 0; n < 8; n++) harness.reactor.round();
    }
    const tree = JSON.stringify(harness.transport.inspect());
    const pending = Number(/"pendingBytes":(\d+)/.exec(tree)?.[1] ?? 0);
    expect(pending).toBeLessThanOrEqual(4 * 128 * 1024);
    expect(raw.bytes.length).toBeLessThan(1000);
    peer.destroy();
    await quiesce(harness);
    expect(harness.target.isIdle).toBe(true);
  });
});
