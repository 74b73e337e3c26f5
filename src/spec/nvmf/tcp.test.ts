import { describe, expect, it } from "vitest";
import { decodeLayout, encodeLayout } from "../../core/index.ts";
import {
  TCP_C2H_TERM_REQ,
  TCP_H2C_DATA,
  TCP_HLEN,
  TCP_ICREQ,
  TCP_LAYOUTS,
  TcpFes,
  TcpFlag,
  TcpPdu,
  tcpDataOffset,
} from "./tcp.ts";

const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString("hex");

describe("NVMe/TCP PDUs", () => {
  it("have the header length of their type, and survive a round trip", () => {
    for (const [type, layout] of TCP_LAYOUTS) {
      expect(layout.sizeBytes).toBe(TCP_HLEN[type]);
      const values: Record<string, number | Uint8Array> = {};
      for (const [i, { name, kind, bytes }] of layout.fields.entries()) {
        values[name] = kind === "bytes" ? new Uint8Array(bytes ?? 0).fill(i) : i + 3;
      }
      const wire = new Uint8Array(layout.sizeBytes);
      encodeLayout(layout, values, wire);
      expect(decodeLayout(layout, wire)).toEqual(values);
    }
  });

  // HPDA 0, one R2T per command, both digests asked for.
  it("encode an ICReq byte for byte", () => {
    const wire = new Uint8Array(128);
    encodeLayout(TCP_ICREQ, { "PDU-Type": TcpPdu.ICREQ, HLEN: 128, PLEN: 128, DGST: 3 }, wire);
    expect(hex(wire.subarray(0, 16))).toBe("00008000800000000000000300000000");
  });

  it("encode data and termination byte for byte", () => {
    const data = new Uint8Array(24);
    const header = { "PDU-Type": TcpPdu.H2C_DATA, FLAGS: TcpFlag.last, HLEN: 24, PDO: 24 };
    encodeLayout(
      TCP_H2C_DATA,
      { ...header, PLEN: 24 + 4096, CCCID: 0x1234, TTAG: 7, DATAO: 0x2000, DATAL: 4096 },
      data,
    );
    expect(hex(data)).toBe("0604181818100000341207000020000000100000" + "00000000");
    const term = new Uint8Array(24);
    encodeLayout(
      TCP_C2H_TERM_REQ,
      { "PDU-Type": 3, HLEN: 24, PLEN: 32, FES: TcpFes.INVALID_HEADER_FIELD, FEI: 2 },
      term,
    );
    expect(hex(term)).toBe("030018002000000001000200000000000000000000000000");
  });

  it("align data as HPDA and CPDA say", () => {
    expect([0, 1, 15, 31].map((pda) => tcpDataOffset(28, pda))).toEqual([28, 32, 64, 128]);
    expect(tcpDataOffset(72, 0)).toBe(72);
  });
});
