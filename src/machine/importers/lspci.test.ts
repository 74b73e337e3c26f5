import { describe, expect, it } from "vitest";
import { readText, shippedMachine, shippedPath } from "../../../testing/recorded.ts";
import { formatBdf, PeerlaneError, parseBdf } from "../../core/index.ts";
import { deviceKind, isUnknown, MachineIndex, parseLspci, UNKNOWN_ID } from "../index.ts";
import { splitLspci } from "./lspci-records.ts";
import { functionFromText, TextMemo } from "./lspci-text.ts";
import { importMachine } from "./registry.ts";

const row = (offset: number, bytes: string): string =>
  `${offset.toString(16).padStart(2, "0")}: ${bytes}`;
const zeros = Array.from({ length: 16 }, () => "00").join(" ");

/** 64 bytes of a root port to bus 01, ids 8086:2030. */
const ROOT_PORT_64 = [
  "00:02.0 PCI bridge: Intel Corporation Sky Lake-E PCI Express Root Port C (rev 04)",
  row(0, "86 80 32 20 07 05 10 00 04 00 04 06 10 00 01 00"),
  row(16, "00 00 00 00 00 00 00 00 00 01 03 00 20 30 00 00"),
  row(32, "00 91 f0 92 01 20 f1 2f 10 02 00 00 10 02 00 00"),
  row(48, "00 00 00 00 40 00 00 00 00 00 00 00 0b 01 02 00"),
  "",
].join("\n");

function refusal(text: string): PeerlaneError {
  try {
    parseLspci(text, "dump.txt");
  } catch (error) {
    if (error instanceof PeerlaneError) return error;
    throw error;
  }
  return expect.fail("the dump loaded");
}

describe("lspci hex", () => {
  it("of 64 bytes gives the header and says what is beyond it", () => {
    const machine = parseLspci(ROOT_PORT_64, "dump.txt");
    const [port] = machine.functions;
    expect(port).toMatchObject({
      vendorId: 0x8086,
      deviceId: 0x2032,
      classCode: 0x060400,
      headerType: 1,
      bridge: {
        secondary: 1,
        subordinate: 3,
        io: { base: 0x2000, limit: 0x3fff },
        memory: { base: 0x91000000, limit: 0x92ffffff },
        prefetchable: { base: 0x21020000000, limit: 0x2102fffffff },
      },
      pcie: null,
      acs: null,
      vendorName: "Intel Corporation",
    });
    for (const field of ["pcie", "acs", "msix", "numaNode"]) {
      expect(port !== undefined && isUnknown(port, field), field).toBe(true);
    }
    const acs = port?.unknown.find(({ field }) => field === "acs");
    expect(acs?.consequence).toBe(
      "the dump has only 64 bytes of configuration space: ACS unknown, taken as absent: " +
        "a redirect at this function would go unnoticed",
    );
    expect(machine.hostBridges).toMatchObject([{ domain: 0, bus: 0, busEnd: 3 }]);
  });

  it("of 256 bytes leaves extended capabilities unknown", () => {
    const lines = ROOT_PORT_64.trimEnd().split("\n");
    for (let at = 64; at < 256; at += 16) lines.push(row(at, zeros));
    lines[5] = row(64, "10 00 42 01 01 80 00 00 20 28 00 00 04 f1 7a 00");
    const [port] = parseLspci(lines.join("\n"), "dump.txt").functions;
    expect(port?.pcie).toMatchObject({ portType: 4, maxPayload: 256, maxPayloadSupported: 256 });
    expect(port?.acs).toBeNull();
    expect(port !== undefined && isUnknown(port, "acs")).toBe(true);
    expect(port !== undefined && isUnknown(port, "msix")).toBe(false);
    expect(port?.config?.length).toBe(256);
  });

  it("reads domains of four to eight digits, CRLF and a byte order mark", () => {
    const text = `\ufeff${ROOT_PORT_64}${ROOT_PORT_64.replace("00:02.0", "10000:00:02.0")}`;
    const more = `${text}${ROOT_PORT_64.replace("00:02.0", "deadbeef:00:02.0")}`;
    const machine = parseLspci(more.replaceAll("\n", "\r\n"), "dump.txt");
    expect(machine.functions.map(({ bdf }) => formatBdf(bdf))).toEqual([
      "0000:00:02.0",
      "10000:00:02.0",
      "deadbeef:00:02.0",
    ]);
    expect(machine.hostBridges.length).toBe(3);
  });

  it("tolerates messages and the noise of a report around it, and says so", () => {
    const noisy = `____\n*** lspci -x\n${ROOT_PORT_64}\npcilib: read failed\n*** end\n`;
    const { functions, warnings } = parseLspci(noisy, "dump.txt");
    expect(functions.length).toBe(1);
    expect(warnings).toEqual([
      "dump.txt: 4 lines belong to no function and were left out, first in line 1: ____",
    ]);
  });

  it("of a function that answered all ones knows nothing but its name", () => {
    const silent = Array.from({ length: 16 }, () => "ff").join(" ");
    const text = ["01:00.0 !!! Unknown header type 7f:"];
    for (let at = 0; at < 64; at += 16) text.push(row(at, silent));
    const [fn] = parseLspci(text.join("\n"), "dump.txt").functions;
    expect(fn).toMatchObject({ vendorId: UNKNOWN_ID, bars: [], bridge: null });
    expect(fn !== undefined && isUnknown(fn, "bars")).toBe(true);
  });
});

describe("a broken dump is refused with place, reason and remedy", () => {
  const cases: [string, (text: string) => string, string, number, RegExp][] = [
    [
      "cut inside a row",
      (text) => text.slice(0, -30),
      "dump-truncated",
      5,
      /after \d+ of them the line ends/,
    ],
    [
      "cut between rows",
      (text) => text.split("\n").slice(0, 3).join("\n"),
      "dump-truncated",
      3,
      /ends after 32 bytes/,
    ],
    [
      "a row missing",
      (text) => text.split("\n").toSpliced(2, 1).join("\n"),
      "dump-malformed",
      3,
      /row 20 where row 10 must be/,
    ],
    [
      "a message inside a row",
      (text) => text.replace("00 91 f0", "00 pcilib: failed"),
      "dump-malformed",
      4,
      /after 1 of them there is "pcilib/,
    ],
    [
      "a row too long",
      (text) => text.replace("04 06 10 00 01 00", "04 06 10 00 01 00 77"),
      "dump-malformed",
      2,
      /after 16 of them there is "77"/,
    ],
    [
      "text between rows",
      (text) => text.replace("20: ", "and then\n20: "),
      "dump-malformed",
      4,
      /"and then" stands between rows/,
    ],
    ["rows without a function", (text) => text.slice(text.indexOf("00: ")), "not-lspci", 1, /./],
    ["a device that cannot be", (text) => text.replace("02.0", "2f.0"), "dump-malformed", 1, /2f/],
  ];

  it.each(cases)("%s", (_what, breakIt, code, line, reason) => {
    const broken = breakIt(ROOT_PORT_64);
    if (code === "not-lspci") {
      expect(() => importMachine([{ name: "dump.txt", text: broken }])).toThrow(PeerlaneError);
      return;
    }
    const error = refusal(broken);
    expect(error.code).toBe(code);
    expect(error.place).toBe(`dump.txt:${line}`);
    expect(error.message).toMatch(reason);
    expect(error.remedy).toMatch(/lspci -nnvvvxxxx/);
  });

  it("two dumps of configuration space of one function", () => {
    expect(refusal(ROOT_PORT_64 + ROOT_PORT_64)).toMatchObject({
      code: "dump-malformed",
      place: "dump.txt:6",
    });
  });

  it("what is no dump at all", () => {
    const load = (text: string) => () => importMachine([{ name: "x", text }]);
    expect(load("")).toThrow(/empty/);
    expect(load("hello\n")).toThrow(/no importer knows/);
    expect(load("bash: lspci: command not found\n")).toThrow(/error message of lspci/);
  });
});

describe("lspci text", () => {
  it("gives BAR sizes, windows, ACS and placement", () => {
    const text = [
      "0000:18:00.0 PCI bridge [0604]: Broadcom / LSI PEX890xx [1000:c030] (rev b0) " +
        "(prog-if 00 [Normal decode])",
      "\tPhysical Slot: 3-1",
      "\tControl: I/O+ Mem+ BusMaster+ SpecCycle- MemWINV- VGASnoop- ParErr+ Stepping- SERR+ " +
        "FastB2B- DisINTx+",
      "\tNUMA node: 1",
      "\tIOMMU group: 22",
      "\tRegion 0: Memory at 9a000000 (32-bit, non-prefetchable) [size=8M]",
      "\tBus: primary=18, secondary=19, subordinate=1d, sec-latency=0",
      "\tI/O behind bridge: 0000f000-00000fff [disabled]",
      "\tMemory behind bridge: 96000000-97ffffff [size=32M]",
      "\tPrefetchable memory behind bridge: 0000210000000000-000021a01fffffff [size=656896M]",
      "\tBridgeCtl: Parity+ SERR+ NoISA- VGA- VGA16+ MAbort- >Reset- FastB2B-",
      "\tCapabilities: [68] Express (v2) Upstream Port, MSI 00",
      "\t\tDevCap:\tMaxPayload 512 bytes, PhantFunc 0",
      "\t\tDevCtl:\tCorrErr- NonFatalErr- FatalErr- UnsupReq-",
      "\t\t\tRlxdOrd+ ExtTag+ PhantFunc- AuxPwr- NoSnoop+",
      "\t\t\tMaxPayload 256 bytes, MaxReadReq 4096 bytes",
      "\t\tLnkCap:\tPort #0, Speed 32GT/s, Width x16, ASPM not supported",
      "\t\tLnkSta:\tSpeed 16GT/s (downgraded), Width x8 (downgraded)",
      "\tCapabilities: [148 v1] Access Control Services",
      "\t\tACSCap:\tSrcValid+ TransBlk+ ReqRedir+ CmpltRedir+ " +
        "UpstreamFwd+ EgressCtrl- DirectTrans+",
      "\t\tACSCtl:\tSrcValid+ TransBlk- ReqRedir+ CmpltRedir+ " +
        "UpstreamFwd+ EgressCtrl- DirectTrans-",
      "\tKernel driver in use: pcieport",
    ].join("\n");
    const [fn] = parseLspci(text, "dump.txt").functions;
    expect(fn).toMatchObject({
      vendorId: 0x1000,
      deviceId: 0xc030,
      revision: 0xb0,
      className: "PCI bridge",
      deviceName: "PEX890xx",
      command: 0x0547,
      numaNode: 1,
      iommuGroup: 22,
      driver: "pcieport",
      physicalSlot: "3-1",
      bars: [
        { index: 0, kind: "memory32", address: 0x9a000000, sizeBytes: 2 ** 23, enabled: true },
      ],
      bridge: {
        secondary: 0x19,
        subordinate: 0x1d,
        io: null,
        memory: { base: 0x96000000, limit: 0x97ffffff },
        prefetchable: { base: 0x210000000000, limit: 0x21a01fffffff },
        bridgeControl: 0x13,
      },
      pcie: {
        portType: 5,
        link: { generation: 4, width: 8 },
        linkCapability: { generation: 5, width: 16 },
        maxPayloadSupported: 512,
        maxPayload: 256,
        maxReadRequest: 4096,
        relaxedOrdering: true,
      },
      acs: { offset: 0x148, capabilities: 0x5f, control: 0x1d },
      config: null,
    });
  });

  it("without -v gives names and classes, and says that places are unknown", () => {
    const text = [
      "00:00.0 Host bridge: Intel Corporation Sky Lake-E DMI3 Registers (rev 07)",
      "00:02.0 PCI bridge: Intel Corporation Sky Lake-E PCI Express Root Port C (rev 07)",
      "01:00.0 Non-Volatile memory controller: Micron Technology Inc Device 51c3 (rev 01)",
    ].join("\n");
    const machine = parseLspci(text, "dump.txt");
    const nvme = machine.functions[2];
    expect(machine.functions[1]).toMatchObject({
      vendorId: 0x8086,
      deviceId: 0x2032,
      bridge: null,
    });
    expect(nvme).toMatchObject({ vendorId: 0x1344, deviceId: 0x51c3, classCode: 0x010802 });
    for (const field of ["bars", "command", "pcie", "parent"]) {
      expect(nvme !== undefined && isUnknown(nvme, field), field).toBe(true);
    }
    expect(machine.warnings[0]).toMatch(/bus numbers of bridges are not in the input/);
  });

  it("beside hex completes it, and hex decides", () => {
    const text = [
      "00:02.0 PCI bridge [0604]: Intel Corporation Device [8086:2032] (rev 04)",
      "\tControl: I/O- Mem- BusMaster-",
      "\tNUMA node: 1",
      "\tBus: primary=00, secondary=77, subordinate=78, sec-latency=0",
      "\tCapabilities: [40] Express (v2) Root Port (Slot+), MSI 00",
      "\tCapabilities: [110 v1] Access Control Services",
      "\t\tACSCap:\tSrcValid+ TransBlk+ ReqRedir+",
      "\t\tACSCtl:\tSrcValid- TransBlk- ReqRedir+",
    ].join("\n");
    const machine = importMachine([
      { name: "vvv.txt", text },
      { name: "x.txt", text: ROOT_PORT_64 },
    ]);
    expect(machine.functions[0]).toMatchObject({
      command: 0x0507,
      bridge: { secondary: 1, subordinate: 3 },
      pcie: { portType: 4 },
      acs: { offset: 0x110, control: 0x04 },
      numaNode: 1,
    });
    expect(machine.sources.map(({ format }) => format)).toEqual(["lspci-text", "lspci-hex"]);
  });

  it("of another machine is refused", () => {
    const other = "00:02.0 VGA compatible controller [0300]: NVIDIA Corporation GA102 [10de:2204]";
    const load = () =>
      importMachine([
        { name: "x.txt", text: ROOT_PORT_64 },
        { name: "other.txt", text: other },
      ]);
    expect(load).toThrow(expect.objectContaining({ code: "sources-disagree" }));
    // In one dump the two cannot belong together at all.
    const text = ROOT_PORT_64.replace(/^.*\n/, `${other}\n`);
    expect(refusal(text)).toMatchObject({
      code: "sources-disagree",
      place: "dump.txt:1",
      message: "0000:00:02.0 is 8086:2032 class 0604 at dump.txt:1, but 10de:2204 class 0300 here",
    });
  });
});

describe("the HGX machine", () => {
  const machine = shippedMachine("hgx-h100-gpud.vvv.txt");
  const index = new MachineIndex(machine);

  it("has all 517 functions on 24 host bridges of two NUMA nodes", () => {
    expect(machine.functions.length).toBe(517);
    expect(machine.hostBridges.length).toBe(24);
    expect(new Set(machine.functions.map(({ numaNode }) => numaNode))).toEqual(new Set([0, 1]));
    expect(machine.warnings).toEqual([]);
  });

  it("has SSD, NIC and GPU below one switch, as its scenarios need", () => {
    const gpus = machine.functions.filter(
      (fn) => deviceKind(fn) === "gpu" && fn.vendorId === 0x10de,
    );
    expect(gpus.length).toBe(8);
    const gpu = index.requireIndex(gpus[0]?.bdf ?? parseBdf("00:00.0"));
    const port = index.rootPortOf(gpu);
    const below = index
      .descendantsOf(port)
      .map((i) => deviceKind(index.functions[i] ?? expect.fail()));
    expect(below).toEqual(expect.arrayContaining(["gpu", "nic", "nvme"]));
    expect(machine.functions[gpu]?.bars[1]).toMatchObject({ sizeBytes: 2 ** 37, index: 2 });
  });

  it("is read as if each function stood alone, although many print the same", () => {
    const { records } = splitLspci(readText(shippedPath("hgx-h100-gpud.vvv.txt")), "dump.txt");
    const memo = new TextMemo();
    const together = records.map((record) => functionFromText(record, memo));
    expect(together).toEqual(records.map((record) => functionFromText(record, new TextMemo())));
    expect(new Set(together.map(({ bdf }) => bdf)).size).toBe(517);
    expect(new Set(together.map(({ unknown }) => unknown)).size).toBe(198);
  });

  it("is represented on its root buses by 8086:09a2", () => {
    const { domain, bus } = index.rootBusOf(index.requireIndex(parseBdf("0000:1b:00.0")));
    const first = index.functionsOnBus(domain, bus)[0] ?? -1;
    expect(machine.functions[first]).toMatchObject({ vendorId: 0x8086, deviceId: 0x09a2 });
  });

  it("carries no serial number of anyone's hardware", () => {
    const text = readText(shippedPath("hgx-h100-gpud.vvv.txt"));
    expect(text).not.toMatch(/Device Serial Number (?!00-00-00-00-00-00-00-00)/);
    expect(text).not.toMatch(/\[(?:SN|V\w)\][^:]*: (?!REDACTED)/);
  });
});
