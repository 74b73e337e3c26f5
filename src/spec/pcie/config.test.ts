import { describe, expect, it } from "vitest";
import {
  Acs,
  AcsBit,
  acsBitNames,
  CapabilityId,
  CONFIG_PCIE_BYTES,
  decodeAcs,
  decodeBridgeWindows,
  decodeExpress,
  decodeHeaderBars,
  decodeMsiX,
  decodeResizableBars,
  decodeSriov,
  ExtendedId,
  encodeAcs,
  encodeBarRegister,
  encodeBridgeWindows,
  encodeExpress,
  encodeMsiX,
  encodeResizableBars,
  encodeSriov,
  findCapability,
  findExtendedCapability,
  Header,
  PortType,
  readLe32,
  Status,
  sizingMask,
  walkCapabilities,
  walkExtendedCapabilities,
  writeCapabilityHeader,
  writeExtendedHeader,
  writeLe16,
  writeLe32,
} from "./index.ts";

const blank = (bytes = CONFIG_PCIE_BYTES) => {
  const config = new Uint8Array(bytes);
  writeLe16(config, Header.status, Status.capabilitiesList.bits);
  return config;
};

describe("base address registers", () => {
  it("decode what lspci decodes", () => {
    const config = blank();
    writeLe32(config, 0x10, 0xfea00000);
    writeLe32(config, 0x14, 0x0000e001);
    writeLe32(config, 0x18, 0x0000000c);
    writeLe32(config, 0x1c, 0x00002100);
    writeLe32(config, 0x30, 0xfe800001);
    expect(decodeHeaderBars(config, 0)).toEqual([
      { index: 0, kind: "memory32", prefetchable: false, address: 0xfea00000, decodes: true },
      { index: 1, kind: "io", prefetchable: false, address: 0xe000, decodes: true },
      { index: 2, kind: "memory64", prefetchable: true, address: 0x210000000000, decodes: true },
      { index: 6, kind: "memory32", prefetchable: false, address: 0xfe800000, decodes: true },
    ]);
  });

  it("take a 64-bit type in the last register for 32 bits", () => {
    const config = blank();
    writeLe32(config, 0x14, 0xfe00000c);
    expect(decodeHeaderBars(config, 1)[0]).toMatchObject({ index: 1, kind: "memory32" });
  });

  it("answer sizing as hardware does", () => {
    expect(sizingMask("memory32", false, 4096)).toEqual({ lo: 0xfffff000, hi: 0 });
    expect(sizingMask("memory64", true, 2 ** 37)).toEqual({ lo: 0xc, hi: 0xffffffe0 });
    expect(sizingMask("memory64", true, 2 ** 32)).toEqual({ lo: 0xc, hi: 0xffffffff });
    expect(sizingMask("memory64", false, 2 ** 20)).toEqual({ lo: 0xfff00004, hi: 0xffffffff });
  });

  it("write what they read", () => {
    const config = blank();
    const bar = {
      index: 2,
      kind: "memory64" as const,
      prefetchable: true,
      address: 0x210000000000,
      decodes: true,
    };
    encodeBarRegister(config, 0x18, bar);
    expect(decodeHeaderBars(config, 0)).toEqual([bar]);
  });
});

describe("bridge windows", () => {
  it("round-trip, closed and open, below and above 4 GiB", () => {
    const config = blank();
    const windows = {
      io: { base: 0x1000, limit: 0x3fff },
      memory: { base: 0xfe600000, limit: 0xfe9fffff },
      prefetchable: { base: 0x210000000000, limit: 0x21ffffffffff },
    };
    encodeBridgeWindows(config, windows);
    expect(decodeBridgeWindows(config)).toEqual(windows);
    const closed = { io: null, memory: null, prefetchable: null };
    encodeBridgeWindows(config, closed);
    expect(decodeBridgeWindows(config)).toEqual(closed);
  });

  it("take zeros for an optional window that is not there, and for an open memory window", () => {
    const windows = decodeBridgeWindows(blank());
    expect(windows.io).toBeNull();
    expect(windows.prefetchable).toBeNull();
    expect(windows.memory).toEqual({ base: 0, limit: 0xfffff });
  });
});

describe("capability lists", () => {
  it("walk in order and find by id", () => {
    const config = blank();
    config[Header.capabilitiesPointer] = 0x40;
    writeCapabilityHeader(config, 0x40, CapabilityId.powerManagement, 0x60);
    writeCapabilityHeader(config, 0x60, CapabilityId.express, 0);
    writeExtendedHeader(config, 0x100, ExtendedId.aer, 2, 0x148);
    writeExtendedHeader(config, 0x148, ExtendedId.acs, 1, 0);
    expect(walkCapabilities(config).end).toBe("complete");
    expect(findCapability(config, CapabilityId.express)).toBe(0x60);
    expect(findCapability(config, CapabilityId.msiX)).toBe(0);
    expect(findExtendedCapability(config, ExtendedId.acs)).toBe(0x148);
    expect(walkExtendedCapabilities(config).capabilities[0]?.version).toBe(2);
  });

  it("end at a loop, at a bad pointer and at the end of the dump", () => {
    const config = blank();
    config[Header.capabilitiesPointer] = 0x40;
    writeCapabilityHeader(config, 0x40, 1, 0x50);
    writeCapabilityHeader(config, 0x50, 5, 0x40);
    expect(walkCapabilities(config)).toMatchObject({ end: "loop" });
    writeCapabilityHeader(config, 0x50, 5, 0x10);
    expect(walkCapabilities(config).end).toBe("bad-pointer");
    expect(walkCapabilities(config.subarray(0, 64)).end).toBe("truncated");
    writeExtendedHeader(config, 0x100, ExtendedId.aer, 1, 0x200);
    writeExtendedHeader(config, 0x200, ExtendedId.acs, 1, 0x100);
    expect(walkExtendedCapabilities(config)).toMatchObject({ end: "loop" });
    expect(walkExtendedCapabilities(config.subarray(0, 256)).end).toBe("truncated");
  });
});

describe("capabilities", () => {
  it("PCI Express round-trips and keeps other bits", () => {
    const config = blank();
    const facts = {
      portType: PortType.rootPort,
      offset: 0x54,
      link: { generation: 4, width: 8 },
      linkCapability: { generation: 5, width: 16 },
      maxPayloadSupported: 512,
      maxPayload: 256,
      maxReadRequest: 4096,
      readCompletionBoundary: 128,
      relaxedOrdering: true,
      extendedTags: true,
      functionLevelReset: true,
      ariForwarding: true,
      slot: 17,
    };
    writeLe16(config, 0x54 + 0x0a, 0x000f);
    encodeExpress(config, facts);
    expect(decodeExpress(config, 0x54)).toEqual(facts);
    expect(config[0x54 + 0x0a]).toBe(0x0f);
    expect(decodeExpress(config.subarray(0, 0x60), 0x54)).toBeNull();
  });

  it("ACS has a vector only with egress control", () => {
    const config = blank();
    writeLe16(config, 0x148 + Acs.capabilities, 0x085f);
    writeLe16(config, 0x148 + Acs.control, 0x1d);
    expect(decodeAcs(config, 0x148)).toEqual({
      offset: 0x148,
      capabilities: 0x085f,
      control: 0x1d,
      egressVector: null,
    });
    const vector = [1, 0x80000000];
    const acs = { offset: 0x148, capabilities: 0x407f, control: 0x20, egressVector: vector };
    encodeAcs(config, acs);
    expect(decodeAcs(config, 0x148)).toEqual(acs);
    expect(acsBitNames(AcsBit.requestRedirect | AcsBit.completionRedirect)).toBe("RR CR");
  });

  it("SR-IOV, Resizable BAR and MSI-X round-trip", () => {
    const config = blank();
    const bar = {
      index: 0,
      kind: "memory64" as const,
      prefetchable: true,
      address: 0x218002000000,
      decodes: true,
    };
    const sriov = {
      offset: 0x180,
      totalVfs: 16,
      numVfs: 4,
      firstVfOffset: 1,
      vfStride: 1,
      vfDeviceId: 0x101e,
      vfEnable: true,
      bars: [bar],
    };
    encodeSriov(config, sriov);
    expect(decodeSriov(config, 0x180)).toEqual(sriov);
    const bars = [
      { index: 2, currentBytes: 2 ** 37, supportedBytes: [2 ** 26, 2 ** 37, 2 ** 48] },
      { index: 4, currentBytes: 2 ** 20, supportedBytes: [2 ** 20] },
    ];
    encodeResizableBars(config, 0x134, bars);
    expect(decodeResizableBars(config, 0x134)).toEqual(bars);
    const msix = {
      offset: 0x70,
      vectors: 65,
      enabled: true,
      tableBar: 0,
      tableOffset: 0x3000,
      pbaBar: 4,
      pbaOffset: 0x800,
    };
    encodeMsiX(config, msix);
    expect(decodeMsiX(config, 0x70)).toEqual(msix);
    expect(readLe32(config, 0x78)).toBe(0x804);
  });
});
