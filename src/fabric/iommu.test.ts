import { describe, expect, it } from "vitest";
import {
  ACS,
  barOf,
  endpoint,
  endpointsOf,
  MIB,
  makeMachine,
  pcieSwitch,
  rootPort,
  sameSwitch,
  twoRootPorts,
} from "../../testing/machines.ts";
import { portedFabric } from "../../testing/ported-fabric.ts";
import { type Bdf, DmaStatus, IOMMU_FAULT_LOG_ENTRIES, physAddr, Span } from "../core/index.ts";
import type { Machine } from "../machine/index.ts";
import type { FabricIommu } from "./index.ts";

const RW = { read: true, write: true, mmio: false };
const IOVA = 0xff00_0000;

function setUp(machine: Machine, iommu: "passthrough" | "strict") {
  const set = portedFabric(machine, { iommu });
  const [a, b] = endpointsOf(machine) as [Bdf, Bdf];
  const control = set.fabric.iommu as FabricIommu;
  return { ...set, a, b, control };
}

/** Function `a` in a domain of its own, with host memory mapped at IOVA. */
function translated(pages = 4) {
  const set = setUp(
    twoRootPorts([{ acs: ACS.ALL & ~ACS.EC }, { acs: ACS.ALL & ~ACS.EC }]),
    "strict",
  );
  const host = set.fabric.allocateHost(pages * 4096);
  const domain = set.control.createDomain("translated");
  set.control.attach(domain, set.a);
  set.control.map(domain, IOVA, host.phys, pages * 4096, RW);
  return { ...set, host, domain };
}

describe("IOMMU modes", () => {
  it("off: there is no IOMMU", () => {
    expect(portedFabric(sameSwitch()).fabric.iommu).toBeNull();
  });

  it("passthrough: addresses are physical", () => {
    const set = setUp(sameSwitch(), "passthrough");
    const host = set.fabric.allocateHost(4096);
    expect(set.port(set.a).write(host.phys, Uint8Array.of(1), 0, 1)).toBe(DmaStatus.ok);
    expect(host.bytes[0]).toBe(1);
  });

  it("strict: a function that nobody attached faults, its peer in the same switch does not", () => {
    const set = setUp(sameSwitch(), "strict");
    const host = set.fabric.allocateHost(4096);
    expect(set.port(set.a).write(host.phys, Uint8Array.of(1), 0, 1)).toBe(DmaStatus.iommuFault);
    expect(host.bytes[0]).toBe(0);
    expect(set.control.faults()).toEqual({
      total: 1,
      kept: [
        {
          requester: set.a,
          domain: 0,
          address: host.phys,
          direction: "write",
          reason: "not mapped",
        },
      ],
    });
    // Straight across the switch, the request never meets the IOMMU.
    const bus = barOf(set.machine, set.b).address;
    expect(set.port(set.a).write(bus, Uint8Array.of(1), 0, 1)).toBe(DmaStatus.ok);
  });

  it("booted again: every route is that of a machine built in the mode, also with mappings", () => {
    const machine = twoRootPorts([{ acs: ACS.ALL }, { acs: 0 }]);
    const [a, b] = endpointsOf(machine) as [Bdf, Bdf];
    const bus = barOf(machine, b).address;
    const { fabric } = portedFabric(machine);
    for (const mode of ["strict", "off", "passthrough", "strict", "strict"] as const) {
      fabric.bootIommu(mode);
      const fresh = portedFabric(machine, { iommu: mode }).fabric;
      for (const address of [bus, IOVA]) {
        expect(fabric.route(a, address, "write")).toEqual(fresh.route(a, address, "write"));
      }
      expect(fabric.iommu?.inspect()).toEqual(fresh.iommu?.inspect());
      // What is mapped now must be gone after the next boot.
      const domain = fabric.iommu?.createDomain("translated");
      if (domain === undefined) continue;
      fabric.iommu?.attach(domain, a);
      fabric.iommu?.map(domain, IOVA, physAddr(bus), 4096, RW);
    }
  });
});

describe("translated domains", () => {
  it("translate page by page, over physical runs and gaps", () => {
    const set = translated(4);
    const other = set.fabric.allocateHost(4096);
    set.control.map(set.domain, IOVA + 4 * 4096, other.phys, 4096, RW);
    const data = Uint8Array.from({ length: 3 * 4096 }, (_, i) => i >> 6);
    expect(set.port(set.a).write(IOVA + 2 * 4096 - 10, data, 0, data.length)).toBe(DmaStatus.ok);
    const landed = [...set.host.bytes.subarray(2 * 4096 - 10), ...other.bytes];
    expect(landed.slice(0, data.length)).toEqual([...data]);
    const back = new Uint8Array(data.length);
    expect(set.port(set.a).read(IOVA + 2 * 4096 - 10, back, 0, back.length)).toBe(DmaStatus.ok);
    expect(back).toEqual(data);
    const span = new Span();
    expect(set.port(set.a).borrow(IOVA + 4000, 4 * 4096, span)).toBe(DmaStatus.ok);
    expect(span.length).toBe(4 * 4096 - 4000);
  });

  it("reach a peer's BAR by a mapping of its physical address", () => {
    const set = translated();
    const bar = set.fabric.open(set.b).barAddress(0)!;
    set.control.map(set.domain, 2 ** 40, bar.phys, MIB, { ...RW, mmio: true });
    expect(set.port(set.a).write(2 ** 40 + 5000, Uint8Array.of(4), 0, 1)).toBe(DmaStatus.ok);
    const seen = new Uint8Array(1);
    set.fabric.peek(set.b, 0, 5000, seen);
    expect(seen[0]).toBe(4);
    const report = set.fabric.route(set.a, 2 ** 40 + 5000, "write");
    expect(report).toMatchObject({ status: 0, viaRootComplex: true, target: { bdf: set.b } });
    expect(report.hops.map(({ role }) => role)).toContain("iommu");
  });

  it("check rights and log what they refuse", () => {
    const set = translated();
    set.control.map(set.domain, 0x10000, set.host.phys, 4096, { ...RW, write: false });
    const port = set.port(set.a);
    expect(port.read(0x10000, new Uint8Array(4), 0, 4)).toBe(DmaStatus.ok);
    expect(port.write(0x10000, new Uint8Array(4), 0, 4)).toBe(DmaStatus.iommuFault);
    expect(set.control.faults().kept.at(-1)?.reason).toBe("no write");
    expect(set.fabric.route(set.a, 0x10000, "write").hops.at(-1)?.reason).toBe("no write");
    expect(set.control.faults().total).toBe(1);
  });

  it("a read that faults in the middle moves nothing", () => {
    const set = translated(1);
    const target = new Uint8Array(8192).fill(3);
    expect(set.port(set.a).read(IOVA, target, 0, 8192)).toBe(DmaStatus.iommuFault);
    expect(target.every((byte) => byte === 3)).toBe(true);
  });

  it("hit stale translations until they are flushed", () => {
    const set = translated();
    const port = set.port(set.a);
    expect(port.write(IOVA, Uint8Array.of(1), 0, 1)).toBe(DmaStatus.ok);
    set.control.unmap(set.domain, IOVA, 4096);
    expect(port.write(IOVA, Uint8Array.of(2), 0, 1)).toBe(DmaStatus.ok);
    expect(set.host.bytes[0]).toBe(2);
    set.control.flush(set.domain);
    expect(port.write(IOVA, Uint8Array.of(3), 0, 1)).toBe(DmaStatus.iommuFault);
    expect(set.host.bytes[0]).toBe(2);
  });

  it("refuse overlapping and unaligned mappings, and mappings of identity domains", () => {
    const set = translated();
    const { control, domain, host } = set;
    expect(() => control.map(domain, IOVA, host.phys, 4096, RW)).toThrow(/mapped already/);
    expect(() => control.map(domain, IOVA + 1, host.phys, 4096, RW)).toThrow(/whole pages/);
    const identity = control.createDomain("identity");
    expect(() => control.map(identity, 0x1000, physAddr(0x1000), 4096, RW)).toThrow(/identity/);
    control.destroyDomain(domain);
    expect(() => control.flush(domain)).toThrow(/no IOMMU domain/);
    expect(set.port(set.a).write(IOVA, Uint8Array.of(1), 0, 1)).toBe(DmaStatus.iommuFault);
  });

  it("keep a bounded fault log and count the rest", () => {
    const set = translated();
    for (let i = 0; i < IOMMU_FAULT_LOG_ENTRIES + 10; i++) {
      set.port(set.a).write(4096 * i, Uint8Array.of(1), 0, 1);
    }
    const { total, kept } = set.control.faults();
    expect(total).toBe(IOMMU_FAULT_LOG_ENTRIES + 10);
    expect(kept).toHaveLength(IOMMU_FAULT_LOG_ENTRIES);
    expect(kept[0]?.address).toBe(4096 * 10);
  });

  it("map gigabytes at once, and can be cut anywhere", () => {
    const set = setUp(sameSwitch(), "strict");
    const { control } = set;
    const domain = control.createDomain("translated");
    control.attach(domain, set.a);
    const host = set.fabric.allocateHost(8 * MIB, 2 * MIB);
    const iova = 2 ** 40;
    control.map(domain, iova, host.phys, 8 * MIB, RW);
    // Phys and IOVA out of step: pages of 4 KiB.
    control.map(domain, 2 ** 41 + 4096, host.phys, 8 * MIB - 4096, RW);
    control.map(domain, 2 ** 42, physAddr(2 ** 43), 2 ** 37, RW);
    expect(() => control.map(domain, iova + 3 * MIB, host.phys, 4096, RW)).toThrow(
      /mapped already/,
    );
    control.unmap(domain, iova + 3 * MIB, 4096);
    control.flush(domain);
    const port = set.port(set.a);
    const try1 = (at: number) => port.write(at, Uint8Array.of(at / MIB), 0, 1);
    for (const offset of [0, 2 * MIB, 3 * MIB - 1, 3 * MIB + 4096, 4 * MIB, 8 * MIB - 1]) {
      expect(try1(iova + offset)).toBe(DmaStatus.ok);
      expect(host.bytes[offset]).toBe((iova / MIB + Math.floor(offset / MIB)) & 0xff);
    }
    expect(try1(iova + 3 * MIB + 5)).toBe(DmaStatus.iommuFault);
    expect(try1(2 ** 41 + 4096 + 5 * MIB)).toBe(DmaStatus.ok);
    control.map(domain, iova + 3 * MIB, host.phys, 4096, RW);
    expect(try1(iova + 3 * MIB)).toBe(DmaStatus.ok);
    control.unmap(domain, iova, 8 * MIB);
    control.unmap(domain, 2 ** 41 + 4096, 8 * MIB - 4096);
    control.unmap(domain, 2 ** 42, 2 ** 37);
    control.flush(domain);
    expect(try1(iova)).toBe(DmaStatus.iommuFault);
    expect(control.inspect()["domains"]).toMatchObject([{ mappedPages: 0 }]);
  });

  it("do not touch interrupt messages", () => {
    const set = translated();
    const seen: number[] = [];
    set.fabric.open(set.a).enableInterrupts(1, { interrupt: (vector) => seen.push(vector) });
    set.port(set.a).interrupt(0);
    set.fabric.poll();
    expect(seen).toEqual([0]);
    expect(set.control.faults().total).toBe(0);
  });
});

describe("IOMMU groups", () => {
  const bars = [{ sizeBytes: MIB }];
  const isolation = ACS.SV | ACS.RR | ACS.CR | ACS.UF;
  const groups = (machine: Machine): number[] => {
    const { control } = setUp(machine, "strict");
    return endpointsOf(machine).map((bdf) => control.groupOf(bdf));
  };

  it("ports with ACS isolation on the whole path give each device its own", () => {
    const ports = [{ acs: isolation }, { acs: isolation }] as const;
    const [a, b] = groups(sameSwitch(ports, { root: { acs: isolation } }));
    expect(a).not.toBe(b);
    expect(new Set(groups(twoRootPorts([...ports]))).size).toBe(2);
  });

  it("a switch without it is one group, also when only the root port lacks it", () => {
    const [a, b] = groups(sameSwitch());
    expect(a).toBe(b);
    const ports = [{ acs: isolation }, { acs: isolation }] as const;
    const [c, d] = groups(sameSwitch(ports));
    expect(c).toBe(d);
  });

  it("functions of one device share one, unless they isolate", () => {
    const make = (acs?: number) => {
      const own = acs === undefined ? {} : { acs };
      const device = endpoint({ bars, ...own, functions: [{ bars, ...own }] });
      return makeMachine({ hostBridges: [{ roots: [rootPort([device], { acs: isolation })] }] });
    };
    expect(new Set(groups(make())).size).toBe(1);
    expect(new Set(groups(make(isolation))).size).toBe(2);
  });

  it("everything below a conventional bridge is one, and attaching one attaches all", () => {
    const bridge = {
      kind: "pciBridge" as const,
      children: [endpoint({ bars }), endpoint({ bars })],
    };
    const machine = makeMachine({ hostBridges: [{ roots: [bridge] }] });
    const set = setUp(machine, "strict");
    expect(set.control.groupOf(set.a)).toBe(set.control.groupOf(set.b));
    const host = set.fabric.allocateHost(4096);
    const domain = set.control.createDomain("translated");
    set.control.map(domain, 0x4000, host.phys, 4096, RW);
    set.control.attach(domain, set.a);
    expect(set.port(set.b).write(0x4000, Uint8Array.of(8), 0, 1)).toBe(DmaStatus.ok);
  });

  it("nested switches: the group reaches up to the last port that does not isolate", () => {
    const inner = pcieSwitch([
      { acs: isolation, children: [endpoint({ bars })] },
      { children: [endpoint({ bars })] },
    ]);
    const outer = pcieSwitch([{ acs: isolation, children: [inner] }]);
    const machine = makeMachine({
      hostBridges: [{ roots: [rootPort([outer], { acs: isolation })] }],
    });
    const [a, b] = groups(machine);
    expect(a).not.toBe(b);
  });
});
