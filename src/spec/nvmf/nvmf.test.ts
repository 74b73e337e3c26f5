import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { decodeLayout, encodeLayout, getU64LE, type Layout, viewOf } from "../../core/index.ts";
import * as nvmf from "./index.ts";

/** Values for every field of a table. */
function valuesOf(layout: Layout): fc.Arbitrary<Record<string, number | string | Uint8Array>> {
  const bits: Record<string, number> = { u8: 8, u16: 16, u24: 24, u32: 32, u64: 53 };
  const entries = layout.fields.map((field) => {
    const length = field.bytes ?? 0;
    const word = fc.string({ unit: fc.constantFrom("a", "z", "0", "."), maxLength: length });
    const value =
      field.kind === "bytes"
        ? fc.uint8Array({ minLength: length, maxLength: length })
        : field.kind === "ascii" || field.kind === "utf8"
          ? word
          : fc.maxSafeNat().map((n) => n % 2 ** (bits[field.kind] ?? 8));
    return [field.name, value] as const;
  });
  return fc.record(Object.fromEntries(entries)) as fc.Arbitrary<
    Record<string, number | string | Uint8Array>
  >;
}

const LAYOUTS: readonly Layout[] = [
  nvmf.CONNECT_SQE,
  nvmf.PROPERTY_GET_SQE,
  nvmf.PROPERTY_SET_SQE,
  nvmf.DISCONNECT_SQE,
  nvmf.AUTHENTICATION_SEND_SQE,
  nvmf.AUTHENTICATION_RECEIVE_SQE,
  nvmf.CONNECT_CQE,
  nvmf.PROPERTY_GET_CQE,
  nvmf.CONNECT_DATA,
  nvmf.DISCOVERY_HEADER,
  nvmf.DISCOVERY_ENTRY,
  nvmf.RDMA_TSAS,
  nvmf.RDMA_REQUEST_PRIVATE,
  nvmf.RDMA_ACCEPT_PRIVATE,
  nvmf.RDMA_REJECT_PRIVATE,
];

describe("wire structures", () => {
  it.each(LAYOUTS.map((layout) => [layout.name, layout] as const))(
    "%s round trips",
    (_, layout) => {
      fc.assert(
        fc.property(valuesOf(layout), (values) => {
          const bytes = new Uint8Array(layout.sizeBytes);
          encodeLayout(layout, values, bytes);
          expect(decodeLayout(layout, bytes)).toEqual(values);
        }),
        { seed: 7, numRuns: 20 },
      );
    },
  );

  it("keeps the offset constants of the data plane and the tables the same", () => {
    const at = (layout: Layout, name: string) => layout.fields.find((f) => f.name === name)?.offset;
    const sqe = nvmf.FabricsSqe;
    expect(at(nvmf.CONNECT_SQE, "QID")).toBe(sqe.CONNECT_QID);
    expect(at(nvmf.CONNECT_SQE, "SQSIZE")).toBe(sqe.CONNECT_SQSIZE);
    expect(at(nvmf.CONNECT_SQE, "CATTR")).toBe(sqe.CONNECT_CATTR);
    expect(at(nvmf.CONNECT_SQE, "KATO")).toBe(sqe.CONNECT_KATO);
    expect(at(nvmf.PROPERTY_SET_SQE, "VALUE")).toBe(sqe.PROPERTY_VALUE);
    expect(at(nvmf.PROPERTY_GET_SQE, "OFST")).toBe(sqe.PROPERTY_OFST);
    expect(at(nvmf.AUTHENTICATION_SEND_SQE, "TL")).toBe(sqe.AUTH_LENGTH);
    expect(at(nvmf.CONNECT_CQE, "STS")).toBe(nvmf.FabricsCqe.STS);
    expect(at(nvmf.CONNECT_DATA, "HOSTNQN")).toBe(nvmf.ConnectDataOffset.HOSTNQN);
    expect(at(nvmf.DISCOVERY_HEADER, "NUMREC")).toBe(nvmf.DiscoveryHeaderOffset.NUMREC);
  });

  it("writes the bytes of the specification's examples", () => {
    const bytes = new Uint8Array(64);
    encodeLayout(nvmf.CONNECT_SQE, { OPC: 0x7f, FCTYPE: 1, QID: 0x0102, KATO: 0x11223344 }, bytes);
    expect([bytes[0], bytes[4], bytes[42], bytes[43]]).toEqual([0x7f, 1, 2, 1]);
    expect(Array.from(bytes.subarray(48, 52))).toEqual([0x44, 0x33, 0x22, 0x11]);
  });
});

describe("connect data and discovery log", () => {
  it("round trip", () => {
    const data = {
      hostId: Uint8Array.from({ length: 16 }, (_, i) => i),
      cntlid: nvmf.CNTLID_DYNAMIC,
      subsystemNqn: "nqn.2026-11.test.peerlane:ssd",
      hostNqn: "nqn.2026-11.test.peerlane:h\u00f6st",
    };
    const bytes = new Uint8Array(nvmf.CONNECT_DATA_BYTES + 3);
    nvmf.encodeConnectData(data, bytes, 3);
    expect(nvmf.decodeConnectData(bytes, 3)).toEqual(data);

    const entry: nvmf.DiscoveryEntry = {
      transport: nvmf.TransportType.RDMA,
      addressFamily: nvmf.AddressFamily.IPV4,
      subsystemType: nvmf.SubsystemType.NVM,
      requirements: 4,
      portId: 1,
      cntlid: nvmf.CNTLID_DYNAMIC,
      adminQueueSize: 32,
      flags: 0,
      serviceId: "4420",
      subsystemNqn: data.subsystemNqn,
      address: "192.0.2.1",
    };
    const log = nvmf.encodeDiscoveryLog(5, [entry, { ...entry, portId: 2 }]);
    expect(log.length).toBe(3 * 1024);
    expect(nvmf.decodeDiscoveryHeader(log)).toEqual({ generation: 5, records: 2 });
    expect(nvmf.decodeDiscoveryEntry(log, 2048)).toEqual({ ...entry, portId: 2 });
    expect(log[1024 + 32 + 4]).toBe(0x20);
    expect(Array.from(log.subarray(1024 + 768, 1024 + 771))).toEqual([1, 4, 1]);
  });
});

describe("SGL descriptors", () => {
  it("carry address, length, key and invalidation", () => {
    fc.assert(
      fc.property(
        fc.maxSafeNat(),
        fc.nat(nvmf.KEYED_SGL_BYTES_MAX),
        fc.nat(0xffffffff),
        fc.boolean(),
        (address, length, key, invalidate) => {
          const view = viewOf(new Uint8Array(24));
          nvmf.setKeyedSgl(view, 8, address, length, key, invalidate);
          expect(getU64LE(view, 8)).toBe(address);
          expect(view.getUint16(16, true) + view.getUint8(18) * 65_536).toBe(length);
          expect(view.getUint32(19, true)).toBe(key);
          expect(view.getUint8(8 + 15)).toBe(invalidate ? 0x4f : 0x40);
        },
      ),
      { seed: 3, numRuns: 100 },
    );
  });

  it("overwrite all bytes of what was there", () => {
    const bytes = new Uint8Array(16).fill(0xff);
    nvmf.setOffsetSgl(viewOf(bytes), 0, 0, 4096, nvmf.SglId.offsetData);
    expect(Array.from(bytes)).toEqual([0, 0, 0, 0, 0, 0, 0, 0, 0, 16, 0, 0, 0, 0, 0, 1]);
  });
});

describe("NQNs", () => {
  it.each([
    nvmf.DISCOVERY_NQN,
    "nqn.2014-08.com.example:nvme.host.sys.xyz",
    "nqn.2014-08.org.nvmexpress:uuid:f81d4fae-7dec-11d0-a765-00a0c91e6bf6",
    `nqn.2014-08.com.example:${"a".repeat(199)}`,
  ])("accepts %s", (nqn) => {
    expect(nvmf.nqnProblem(nqn)).toBeNull();
  });

  it.each([
    ["", /empty/],
    [`nqn.2014-08.com.example:${"a".repeat(200)}`, /longer/],
    [`nqn.2014-08.com.example:${"\u00e9".repeat(100)}`, /longer/],
    ["nqn.2014-13.com.example:x", /month/],
    ["nqn.2014-08.com.example", /colon/],
    ["nqn.2014-08.com..example:x", /label/],
    ["nqn.2014-08.org.nvmexpress:uuid:f81d4fae", /UUID/],
    ["iqn.2014-08.com.example:x", /form/],
    ["nqn.2014-08.com.example:a\0b", /NUL/],
  ])("refuses %j", (nqn, reason) => {
    expect(nvmf.nqnProblem(nqn)).toMatch(reason);
    expect(nvmf.isNqn(nqn)).toBe(false);
  });

  it("know the discovery subsystem", () => {
    expect(nvmf.isDiscoveryNqn(nvmf.DISCOVERY_NQN)).toBe(true);
    expect(nvmf.isDiscoveryNqn("nqn.2014-08.com.example:x")).toBe(false);
  });
});
