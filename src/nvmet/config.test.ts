import { describe, expect, it } from "vitest";
import { ArenaMemory, RamDisk } from "../../testing/block-arena.ts";
import { fullLimits, loopHarness, SUBSYSTEM_NQN } from "../../testing/nvmet-harness.ts";
import { BlockStatus, RequestQueue } from "../block/index.ts";
import { encodeLayout, makeBdf } from "../core/index.ts";
import { NvmeStatus, Reg, STATUS_DNR } from "../spec/nvme/index.ts";
import {
  AddressFamily,
  PropertySize,
  RDMA_REQUEST_PRIVATE,
  RdmaRejectStatus,
  TransportType,
} from "../spec/nvmf/index.ts";
import { cutLog } from "./admin/logs.ts";
import { formatP2pSetting, nvmeStatusOfBlock, parseP2pSetting } from "./index.ts";
import { Properties } from "./properties.ts";
import { checkPrivateData } from "./transports/rdma/target-transport.ts";

describe("p2pmem", () => {
  it.each([
    ["0", { kind: "off" }],
    ["1", { kind: "auto" }],
    ["Y", { kind: "auto" }],
    ["no", { kind: "off" }],
    ["0000:18:00.0", { kind: "fixed", provider: makeBdf(0, 0x18, 0, 0) }],
    [" 10001:00:00.1\n", { kind: "fixed", provider: makeBdf(0x10001, 0, 0, 1) }],
  ])("reads %j", (text, setting) => {
    expect(parseP2pSetting(text)).toEqual(setting);
  });

  it.each(["", "00", "2", "0000:", "0000:18:00", "18:20.0", "auto mode"])("refuses %j", (text) => {
    expect(() => parseP2pSetting(text)).toThrow(/not a setting of p2pmem/);
  });

  it("prints what it reads", () => {
    for (const text of ["0", "1", "0000:18:00.0"]) {
      expect(formatP2pSetting(parseP2pSetting(text))).toBe(text);
    }
  });
});

describe("configuration", () => {
  it("names in the discovery log an address that hosts can connect to", () => {
    const { target, subsystem } = loopHarness();
    const entry = (address: string, reached?: string) => {
      const port = target.addPort({
        id: 9,
        transport: TransportType.TCP,
        address,
        serviceId: "4420",
      });
      const { address: named, addressFamily } = port.entryFor(subsystem, reached);
      target.removePort(port);
      return [named, addressFamily];
    };
    expect(entry("0.0.0.0", "10.0.0.7")).toEqual(["10.0.0.7", AddressFamily.IPV4]);
    expect(entry("::", "10.0.0.7")).toEqual(["10.0.0.7", AddressFamily.IPV4]);
    expect(entry("::", "fd00::7")).toEqual(["fd00::7", AddressFamily.IPV6]);
    expect(entry("10.0.0.8", "10.0.0.7")).toEqual(["10.0.0.8", AddressFamily.IPV4]);
    expect(entry("0.0.0.0")).toEqual(["0.0.0.0", AddressFamily.IPV4]);
  });

  it("refuses what is taken or malformed, and says what to do", () => {
    const { target, subsystem, namespace } = loopHarness();
    expect(() => target.addSubsystem({ nqn: SUBSYSTEM_NQN })).toThrow(/already/);
    expect(() => target.addSubsystem({ nqn: "ssd" })).toThrow(/NVMe Qualified Name/);
    expect(() =>
      subsystem.addNamespace({ nsid: 1, queue: namespace.queue, initiators: [] }),
    ).toThrow(/already/);
    expect(() =>
      subsystem.addNamespace({ nsid: 0, queue: namespace.queue, initiators: [] }),
    ).toThrow(/namespace identifier/);
    const port = { id: 1, transport: TransportType.RDMA, address: "x", serviceId: "1" };
    expect(() => target.addPort(port)).toThrow(/already/);
    expect(() => target.addPort({ ...port, id: 70_000 })).toThrow(/port identifier/);
    expect(() => {
      namespace.p2pmem = { kind: "auto" };
    }).toThrow(/disabled/);
    expect(() => subsystem.allowHost("me")).toThrow(/NVMe Qualified Name/);
  });

  it("refuses peer memory for a queue that takes none", () => {
    const { subsystem } = loopHarness();
    const disk = new RamDisk({ sizeBytes: 1 << 20, memories: [new ArenaMemory(4096)] });
    const options = { depth: 4, initiator: 1, capacityBytes: 1 << 20 };
    const queue = new RequestQueue(disk, { name: "ram", limits: fullLimits(), ...options });
    const namespace = subsystem.addNamespace({
      nsid: 5,
      queue,
      initiators: [],
      p2pmem: { kind: "auto" },
    });
    expect(() => subsystem.enable(namespace)).toThrow(/takes no peer memory/);
    expect(namespace.enabled).toBe(false);
  });

  it("gives a namespace the same UUID every time, and another one to another", () => {
    const a = loopHarness();
    const b = loopHarness();
    expect(a.namespace.uuid).toEqual(b.namespace.uuid);
    expect(a.addNamespace(2).uuid).not.toEqual(a.namespace.uuid);
    expect(a.namespace.uuid[6] & 0xf0).toBe(0x80);
  });

  it("inspects", () => {
    const { target } = loopHarness();
    const tree = target.inspect();
    expect(tree["subsystems"]).toMatchObject([{ nqn: SUBSYSTEM_NQN, namespaces: [{ nsid: 1 }] }]);
    expect(tree["orchestrator"]).toMatchObject({ description: "lease", policy: "fail" });
  });
});

describe("private data of a connection", () => {
  const good = { RECFMT: 0, QID: 1, HRQSIZE: 32, HSQSIZE: 31, CNTLID: 1 };
  const check = (values: Record<string, number>, length = 32, responderResources = 16) => {
    const privateData = new Uint8Array(Math.max(32, length));
    encodeLayout(RDMA_REQUEST_PRIVATE, values, privateData);
    const cut = privateData.subarray(0, length);
    return checkPrivateData({ privateData: cut, responderResources }, 128);
  };

  it("is taken when it makes sense", () => {
    expect(check(good)).toEqual({ qid: 1, depth: 32 });
    expect(check(good, 56)).toEqual({ qid: 1, depth: 32 });
    expect(check({ ...good, QID: 0, CNTLID: 0 })).toEqual({ qid: 0, depth: 32 });
  });

  it.each([
    [{}, 31, 16, RdmaRejectStatus.INVALID_PRIVATE_DATA_LENGTH],
    [{ RECFMT: 1 }, 32, 16, RdmaRejectStatus.INVALID_RECFMT],
    [{ HSQSIZE: 0 }, 32, 16, RdmaRejectStatus.INVALID_HSQSIZE],
    [{ HSQSIZE: 128 }, 32, 16, RdmaRejectStatus.INVALID_HSQSIZE],
    [{ QID: 0, CNTLID: 0, HSQSIZE: 32 }, 32, 16, RdmaRejectStatus.INVALID_HSQSIZE],
    [{ HRQSIZE: 30 }, 32, 16, RdmaRejectStatus.INVALID_HRQSIZE],
    [{ QID: 0 }, 32, 16, RdmaRejectStatus.INVALID_CNTLID],
    [{ CNTLID: 0xfff0 }, 32, 16, RdmaRejectStatus.INVALID_CNTLID],
    [{}, 32, 0, RdmaRejectStatus.INVALID_IRD],
  ])("is refused: %j of %i bytes", (change, length, resources, status) => {
    expect(check({ ...good, ...change }, length, resources)).toBe(status);
  });
});

describe("properties", () => {
  const CC_ENABLED = 0x0046_0001;
  it("enable, shut down and disable the controller", () => {
    const properties = new Properties(128);
    expect(properties.get(Reg.capLo, PropertySize.eight).lo & 0xffff).toBe(127);
    expect(properties.set(Reg.cc, PropertySize.four, CC_ENABLED).effect).toBe("enabled");
    expect(properties.isReady).toBe(true);
    expect(properties.set(Reg.cc, PropertySize.four, CC_ENABLED | 0x4000).effect).toBe("shutdown");
    // Occurring until caches are flushed, then complete.
    expect(properties.get(Reg.csts, PropertySize.four).lo & 0xc).toBe(4);
    properties.shutdownDone();
    expect(properties.get(Reg.csts, PropertySize.four).lo & 0xc).toBe(8);
    expect(properties.set(Reg.cc, PropertySize.four, 0).effect).toBe("disabled");
    // Ready is taken back when the I/O queues are gone.
    expect(properties.isReady).toBe(false);
    expect(properties.get(Reg.csts, PropertySize.four).lo & 1).toBe(1);
    expect(properties.resetDone()).toBe("none");
    expect(properties.get(Reg.csts, PropertySize.four).lo).toBe(0);
  });

  it("enable again, when the host asks for it before the reset is over", () => {
    const properties = new Properties(128);
    properties.set(Reg.cc, PropertySize.four, CC_ENABLED);
    properties.set(Reg.cc, PropertySize.four, 0);
    expect(properties.set(Reg.cc, PropertySize.four, CC_ENABLED).effect).toBe("none");
    expect(properties.isReady).toBe(false);
    expect(properties.resetDone()).toBe("enabled");
    expect(properties.isReady).toBe(true);
  });

  it("tell how long to wait for ready with media", () => {
    const properties = new Properties(128);
    expect(properties.get(Reg.capLo, PropertySize.eight).hi & 0x0800_0000).not.toBe(0);
    expect(properties.get(Reg.crto, PropertySize.four).lo).toBe(15);
  });

  it("fail on a configuration that they do not have", () => {
    const properties = new Properties(128);
    properties.set(Reg.cc, PropertySize.four, 1);
    expect(properties.isFailed).toBe(true);
    expect(properties.isReady).toBe(false);
  });

  it("refuse other offsets and sizes", () => {
    const properties = new Properties(128);
    const invalid = NvmeStatus.invalidField | STATUS_DNR;
    expect(properties.get(Reg.capLo, PropertySize.four).status).toBe(invalid);
    expect(properties.get(0x40, PropertySize.four).status).toBe(invalid);
    expect(properties.set(Reg.csts, PropertySize.four, 0).status).toBe(invalid);
  });
});

describe("small tables", () => {
  it("cut logs", () => {
    const page = Uint8Array.from({ length: 12 }, (_, i) => i);
    expect(Array.from(cutLog(page, 8, 8) ?? [])).toEqual([8, 9, 10, 11, 0, 0, 0, 0]);
    expect(cutLog(page, 2, 4)).toBeNull();
    expect(cutLog(page, 16, 4)).toBeNull();
  });

  it("translate every block status, and keep reasons apart", () => {
    const statuses = Object.values(BlockStatus).map((status) => nvmeStatusOfBlock(status, false));
    expect(statuses[0]).toBe(NvmeStatus.success);
    expect(statuses.slice(1).every((status) => status !== 0)).toBe(true);
    expect(nvmeStatusOfBlock(BlockStatus.medium, true) & 0x7ff).toBe(NvmeStatus.writeFault);
    expect(nvmeStatusOfBlock(BlockStatus.medium, false) & 0x7ff).toBe(
      NvmeStatus.unrecoveredReadError,
    );
  });
});
