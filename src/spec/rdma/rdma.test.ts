import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { decodeLayout, encodeLayout, type Layout } from "../../core/index.ts";
import {
  AETH,
  ATOMIC_ETH,
  BTH,
  BTH_OPCODE_NAMES,
  BthFlags,
  BthOpcode,
  CM_DREP,
  CM_DREQ,
  CM_REJ,
  CM_REP,
  CM_REQ,
  CM_RTU,
  CmAttribute,
  CREATE_CQ_IN,
  CREATE_MR_IN,
  CREATE_QP_IN,
  checkTransition,
  DETH,
  decodeCm,
  encodeCm,
  encodeIpCmHeader,
  formatGid,
  GRH,
  IETH,
  IMMDT,
  IP_CM_HEADER,
  MAD_BYTES,
  MODIFY_QP_IN,
  mtuBytes,
  mtuCode,
  PSN_HALF,
  packetsOf,
  parseGid,
  psnDistance,
  QpAttr,
  QpState,
  QpType,
  QUERY_QP_OUT,
  RETH,
  RNR_TIMER_NS,
  Syndrome,
  sgesOfWqe,
  syndromeName,
  TransitionCheck,
  timeoutNs,
  WC_STATUS_NAMES,
  WcStatus,
  WR_OPCODE_NAMES,
  WrOpcode,
} from "./index.ts";

const SETTINGS = { seed: 20261124, numRuns: 50 };

/** Any values for the fields of a layout. */
function valuesOf(layout: Layout): fc.Arbitrary<Record<string, number | Uint8Array>> {
  const fields = layout.fields.map(({ name, kind, bytes = 0 }) => {
    const arbitrary: fc.Arbitrary<number | Uint8Array> =
      kind === "bytes"
        ? fc.uint8Array({ minLength: bytes, maxLength: bytes })
        : kind === "u64"
          ? fc.maxSafeNat()
          : fc.nat({ max: 2 ** (kind === "u24" ? 24 : Number(kind.slice(1))) - 1 });
    return [name, arbitrary] as const;
  });
  return fc.record(Object.fromEntries(fields));
}

describe("layouts", () => {
  const layouts = [
    BTH,
    RETH,
    ATOMIC_ETH,
    AETH,
    DETH,
    IMMDT,
    IETH,
    GRH,
    IP_CM_HEADER,
    CM_REQ,
    CM_REP,
    CM_REJ,
    CM_RTU,
    CM_DREQ,
    CM_DREP,
    CREATE_CQ_IN,
    CREATE_MR_IN,
    CREATE_QP_IN,
    MODIFY_QP_IN,
    QUERY_QP_OUT,
  ];
  it.each(layouts.map((layout) => [layout.name, layout] as const))("%s", (_, layout) => {
    fc.assert(
      fc.property(valuesOf(layout), fc.nat({ max: 9 }), (values, offset) => {
        const bytes = new Uint8Array(layout.sizeBytes + 10).fill(0xaa);
        encodeLayout(layout, values, bytes, offset);
        expect(decodeLayout(layout, bytes, offset)).toEqual(values);
        expect(bytes.subarray(0, offset).every((byte) => byte === 0xaa)).toBe(true);
        expect(bytes.subarray(offset + layout.sizeBytes).every((b) => b === 0xaa)).toBe(true);
      }),
      SETTINGS,
    );
  });

  it("puts a BTH on the wire as IBA figure 7 has it", () => {
    const bytes = new Uint8Array(12);
    const flags = BthFlags.migration.set(BthFlags.solicited.set(0, 1), 1);
    const values = {
      opcode: BthOpcode.rcSendOnly,
      flags,
      pkey: 0xffff,
      destQp: 0x123456,
      ackReq: 0x80,
      psn: 0xabcdef,
    };
    encodeLayout(BTH, values, bytes);
    expect([...bytes]).toEqual([
      0x04, 0xc0, 0xff, 0xff, 0x00, 0x12, 0x34, 0x56, 0x80, 0xab, 0xcd, 0xef,
    ]);
  });

  it("puts a RETH on the wire as IBA figure 9 has it", () => {
    const bytes = new Uint8Array(16);
    encodeLayout(RETH, { address: 0x1_2345_6789_abcd, rkey: 0xcafe, length: 4096 }, bytes);
    expect([...bytes]).toEqual([
      0, 1, 0x23, 0x45, 0x67, 0x89, 0xab, 0xcd, 0, 0, 0xca, 0xfe, 0, 0, 16, 0,
    ]);
  });
});

describe("connection messages", () => {
  it("are what they were", () => {
    const gid = parseGid("10.0.0.1");
    const privateData = new Uint8Array(92).fill(3);
    const bytes = new Uint8Array(300);
    const fields = { localCommId: 7, serviceId: 0x0106_1144, startingPsn: 5, localQpn: 9 };
    encodeCm(CmAttribute.req, 77, { ...fields, primaryLocalGid: gid, privateData }, bytes, 44);
    // MAD header: base version, class, class version, method, attribute.
    expect([...bytes.subarray(44, 48)]).toEqual([1, 7, 2, 3]);
    expect([...bytes.subarray(60, 62)]).toEqual([0, 0x10]);
    const message = decodeCm(bytes, 44);
    expect(message).toMatchObject({ attribute: CmAttribute.req, transactionId: 77, fields });
    expect(message?.fields["primaryLocalGid"]).toEqual(gid);
    expect(message?.fields["privateData"]).toEqual(privateData);
  });

  it("that are none are not taken for any", () => {
    fc.assert(
      fc.property(fc.uint8Array({ minLength: 0, maxLength: 300 }), (bytes) => {
        const message = decodeCm(bytes, 0, bytes.length);
        if (message === null) return;
        expect(bytes.length).toBeGreaterThanOrEqual(MAD_BYTES);
        expect(bytes[1]).toBe(7);
      }),
      SETTINGS,
    );
    expect(decodeCm(new Uint8Array(256), 0)).toBeNull();
  });

  it("carry IPv4 addresses in the last four bytes of the IP CM header", () => {
    const bytes = new Uint8Array(36);
    encodeIpCmHeader(parseGid("10.0.0.1"), parseGid("fe80::2"), 4791, bytes);
    expect([...bytes.subarray(0, 4)]).toEqual([0, 0x40, 0x12, 0xb7]);
    expect([...bytes.subarray(4, 20)]).toEqual([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 10, 0, 0, 1]);
    expect(bytes[35]).toBe(2);
  });
});

describe("GIDs", () => {
  it.each([
    ["10.0.0.1", "10.0.0.1"],
    ["fe80::1", "fe80::1"],
    ["::", "::"],
    ["::1", "::1"],
    ["2001:db8:0:0:1:0:0:1", "2001:db8::1:0:0:1"],
    ["1:2:3:4:5:6:7:8", "1:2:3:4:5:6:7:8"],
    ["FE80:0:0:0:0:0:0:0", "fe80::"],
  ])("%s is written %s", (text, written) => {
    expect(formatGid(parseGid(text))).toBe(written);
  });

  it.each([
    "",
    "10.0.0",
    "10.0.0.256",
    "1::2::3",
    "12345::",
    "1:2:3:4:5:6:7",
    "1:2:3:4:5:6:7:8:9",
    "x",
  ])("%s is refused", (text) => {
    expect(() => parseGid(text)).toThrow("not the address of a port");
  });

  it("survive being written and read", () => {
    fc.assert(
      fc.property(fc.uint8Array({ minLength: 16, maxLength: 16 }), (gid) => {
        expect(parseGid(formatGid(gid))).toEqual(gid);
      }),
      SETTINGS,
    );
  });
});

describe("numbers", () => {
  it("have names", () => {
    expect(WC_STATUS_NAMES).toHaveLength(22);
    for (const status of Object.values(WcStatus)) expect(WC_STATUS_NAMES[status]).toBeTruthy();
    for (const opcode of Object.values(WrOpcode)) expect(WR_OPCODE_NAMES[opcode]).toBeTruthy();
    for (const opcode of Object.values(BthOpcode)) expect(BTH_OPCODE_NAMES[opcode]).toBeTruthy();
    expect(syndromeName(Syndrome.ack)).toBe("ACK");
    expect(syndromeName(Syndrome.rnrNak | 12)).toBe("RNR NAK, timer 12");
    expect(syndromeName(Syndrome.nakRemoteAccess)).toBe("NAK remote access error");
  });

  it("PSNs wrap", () => {
    expect(psnDistance(3, 0xfffffe)).toBe(5);
    expect(psnDistance(0xfffffe, 3)).toBeGreaterThan(PSN_HALF);
    expect([0, 1, 4096, 4097, 8192].map((bytes) => packetsOf(bytes, 4096))).toEqual([
      1, 1, 1, 2, 2,
    ]);
  });

  it("timers are those of the tables", () => {
    expect(RNR_TIMER_NS).toHaveLength(32);
    expect([RNR_TIMER_NS[0], RNR_TIMER_NS[1], RNR_TIMER_NS[31]]).toEqual([655.36e6, 1e4, 491.52e6]);
    expect(timeoutNs(14)).toBe(67_108_864);
    expect([256, 512, 1024, 2048, 4096].map(mtuCode)).toEqual([1, 2, 3, 4, 5]);
    expect(mtuBytes(5)).toBe(4096);
    expect([6, 7, 8].map(sgesOfWqe)).toEqual([2, 6, 14]);
  });
});

describe("queue pair states", () => {
  const init = QpAttr.state | QpAttr.pkeyIndex | QpAttr.port | QpAttr.accessFlags;

  it("change with what the specification requires", () => {
    const { rc, ud } = QpType;
    expect(checkTransition(rc, QpState.reset, QpState.init, init)).toBe(TransitionCheck.ok);
    const less = init & ~QpAttr.port;
    expect(checkTransition(rc, QpState.reset, QpState.init, less)).toBe(TransitionCheck.missing);
    const more = init | QpAttr.sqPsn;
    expect(checkTransition(rc, QpState.reset, QpState.init, more)).toBe(TransitionCheck.unexpected);
    expect(checkTransition(rc, QpState.reset, QpState.rts, init)).toBe(TransitionCheck.illegal);
    expect(checkTransition(ud, QpState.sqe, QpState.rts, QpAttr.state)).toBe(TransitionCheck.ok);
    expect(checkTransition(rc, QpState.sqe, QpState.rts, QpAttr.state)).toBe(
      TransitionCheck.illegal,
    );
  });

  it("can always end in ERR or RESET", () => {
    for (const type of [QpType.rc, QpType.ud, QpType.gsi]) {
      for (const from of Object.values(QpState)) {
        for (const to of [QpState.error, QpState.reset]) {
          expect(checkTransition(type, from, to, QpAttr.state)).toBe(TransitionCheck.ok);
          expect(checkTransition(type, from, to, init)).toBe(TransitionCheck.unexpected);
        }
      }
    }
  });
});
