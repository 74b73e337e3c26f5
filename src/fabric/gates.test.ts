/** The gates on a route besides ACS: bus mastering, decode, host bridges, root complex, links. */
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
import { type Bdf, DmaStatus, Prng, physAddr } from "../core/index.ts";
import { type Machine, PortType } from "../machine/index.ts";
import { DmaDirection, type FabricOptions } from "./index.ts";

const BME = 4;
const MSE = 2;

function peers(machine: Machine, options: FabricOptions = {}) {
  const set = portedFabric(machine, options);
  const [a, b] = endpointsOf(machine) as [Bdf, Bdf];
  return { ...set, a, b, bus: barOf(machine, b).address };
}

type Peers = ReturnType<typeof peers>;

const bridgeOf = (machine: Machine, type: PortType, at = 0): Bdf =>
  machine.functions.filter(({ pcie }) => pcie?.portType === type)[at]?.bdf as Bdf;

/** Clears bits of a function's Command register. */
function clearCommand({ fabric }: Peers, bdf: Bdf, bits: number): void {
  const { config } = fabric.open(bdf);
  config.write16(4, config.read16(4) & ~bits);
}

/** A write and a read as `a`, and what `b` holds then. */
function tryBoth({ fabric, port, a, b, bus }: Peers) {
  const write = port(a).write(bus + 64, Uint8Array.of(7), 0, 1);
  const read = port(a).read(bus + 64, new Uint8Array(4), 0, 4);
  const seen = new Uint8Array(1);
  fabric.peek(b, 0, 64, seen);
  return { write, read, landed: seen[0] === 7 };
}

const passed = { write: DmaStatus.ok, read: DmaStatus.ok, landed: true };
const refused = (status: number) => ({ write: status, read: status, landed: false });

describe("Bus Master Enable", () => {
  it("of the device itself", () => {
    const set = peers(sameSwitch());
    clearCommand(set, set.a, BME);
    expect(tryBoth(set)).toEqual(refused(DmaStatus.busMasterDisabled));
  });

  it("of the downstream port, also for a peer in the same switch", () => {
    const machine = sameSwitch();
    const set = peers(machine);
    clearCommand(set, bridgeOf(machine, PortType.switchDownstream, 0), BME);
    expect(tryBoth(set)).toEqual(refused(DmaStatus.busMasterDisabled));
  });

  it("of ports above the turn does not matter, below the root complex it does", () => {
    const machine = sameSwitch();
    const set = peers(machine);
    clearCommand(set, bridgeOf(machine, PortType.switchUpstream), BME);
    clearCommand(set, bridgeOf(machine, PortType.switchDownstream, 1), BME);
    expect(tryBoth(set)).toEqual(passed);
    const host = set.fabric.allocateHost(4096);
    expect(set.port(set.a).write(host.phys, Uint8Array.of(1), 0, 1)).toBe(
      DmaStatus.busMasterDisabled,
    );
  });

  it.each([PortType.rootPort, PortType.switchUpstream])(
    "of port type %d for host memory",
    (type) => {
      const machine = sameSwitch();
      const set = peers(machine);
      const host = set.fabric.allocateHost(4096);
      expect(set.port(set.a).write(host.phys, Uint8Array.of(1), 0, 1)).toBe(DmaStatus.ok);
      clearCommand(set, bridgeOf(machine, type), BME);
      expect(set.port(set.a).write(host.phys, Uint8Array.of(2), 0, 1)).toBe(
        DmaStatus.busMasterDisabled,
      );
      expect(host.bytes[0]).toBe(1);
    },
  );
});

describe("Memory Space Enable", () => {
  it("of the target", () => {
    const set = peers(sameSwitch());
    clearCommand(set, set.b, MSE);
    expect(tryBoth(set)).toEqual(refused(DmaStatus.unsupportedRequest));
    expect(set.fabric.open(set.b).mapBar(0).read32(64)).toBe(0xffffffff);
  });

  it("of the port above the target closes its window: nobody in the switch claims it", () => {
    const machine = sameSwitch();
    const set = peers(machine);
    clearCommand(set, bridgeOf(machine, PortType.switchDownstream, 1), MSE);
    expect(tryBoth(set)).toEqual(refused(DmaStatus.unsupportedRequest));
  });

  it("of every bridge on the way down from the root complex, for the CPU too", () => {
    const types = [PortType.rootPort, PortType.switchUpstream, PortType.switchDownstream];
    for (const type of types) {
      const machine = sameSwitch();
      const set = peers(machine);
      const region = set.fabric.open(set.a).mapBar(0);
      region.write32(0, 5);
      expect(region.read32(0)).toBe(5);
      clearCommand(set, bridgeOf(machine, type), MSE);
      expect(region.read32(0)).toBe(0xffffffff);
    }
  });
});

describe("host bridge with a bus offset", () => {
  const offset = 2 ** 40;
  const machine = twoRootPorts([{}, {}], offset);

  it("takes the physical address of a peer, not its bus address", () => {
    const set = peers(machine);
    const bar = set.fabric.open(set.b).barAddress(0);
    expect(bar).not.toBeNull();
    expect(bar!.bus - bar!.phys).toBe(offset);
    expect(set.port(set.a).write(bar!.phys, Uint8Array.of(7), 0, 1)).toBe(DmaStatus.ok);
    const seen = new Uint8Array(1);
    set.fabric.peek(set.b, 0, 0, seen);
    expect(seen[0]).toBe(7);
    expect(set.fabric.route(set.a, bar!.bus, "write").status).toBe(DmaStatus.unsupportedRequest);
  });

  it("below one switch the bus address goes straight across", () => {
    const bars = [{ sizeBytes: MIB }];
    const roots = [rootPort([pcieSwitch([0, 1].map(() => ({ children: [endpoint({ bars })] })))])];
    const set = peers(makeMachine({ hostBridges: [{ busOffset: offset, roots }] }));
    expect(tryBoth(set)).toEqual(passed);
    const { phys } = set.fabric.open(set.b).barAddress(0)!;
    const viaRoot = set.fabric.route(set.a, phys, "write");
    expect(viaRoot).toMatchObject({ status: DmaStatus.ok, viaRootComplex: true });
  });

  it("gives the CPU the BAR at its physical address", () => {
    const set = peers(machine);
    const region = set.fabric.open(set.b).mapBar(0);
    region.write32(8, 0x01020304);
    const seen = new Uint8Array(4);
    set.fabric.peek(set.b, 0, 8, seen);
    expect([...seen]).toEqual([4, 3, 2, 1]);
  });
});

describe("root complex policy", () => {
  const drop = { peerWrites: "drop", peerReads: "drop" } as const;
  const writesOnly = { peerWrites: "forward", peerReads: "drop" } as const;

  it("drops: writes vanish without a word, reads time out", () => {
    expect(tryBoth(peers(twoRootPorts(), { rootComplex: drop }))).toEqual({
      write: DmaStatus.droppedSilently,
      read: DmaStatus.completionTimeout,
      landed: false,
    });
  });

  it("forwards writes only", () => {
    expect(tryBoth(peers(twoRootPorts(), { rootComplex: writesOnly }))).toEqual({
      write: DmaStatus.ok,
      read: DmaStatus.completionTimeout,
      landed: true,
    });
  });

  it("has no say below one switch, nor for host memory", () => {
    expect(tryBoth(peers(sameSwitch(), { rootComplex: drop }))).toEqual(passed);
    const set = peers(twoRootPorts(), { rootComplex: drop });
    const host = set.fabric.allocateHost(4096);
    expect(set.port(set.a).read(host.phys, new Uint8Array(8), 0, 8)).toBe(DmaStatus.ok);
  });

  it("may differ between host bridges", () => {
    const bars = [{ sizeBytes: MIB }];
    const one = () => ({ roots: [rootPort([endpoint({ bars })])] });
    const machine = makeMachine({ hostBridges: [one(), one()] });
    const rootComplex = {
      peerWrites: "forward",
      peerReads: "forward",
      acrossHostBridges: drop,
    } as const;
    expect(tryBoth(peers(machine)).landed).toBe(true);
    expect(tryBoth(peers(machine, { rootComplex })).landed).toBe(false);
    expect(tryBoth(peers(twoRootPorts(), { rootComplex }))).toEqual(passed);
  });

  it("integrated endpoints reach each other through it", () => {
    const bars = [{ sizeBytes: MIB }];
    const roots = [endpoint({ bars }), endpoint({ bars })];
    const machine = makeMachine({ hostBridges: [{ roots }] });
    expect(tryBoth(peers(machine))).toEqual(passed);
    expect(tryBoth(peers(machine, { rootComplex: drop })).landed).toBe(false);
  });
});

describe("addresses that nobody claims", () => {
  it("are unsupported, also beyond 2^52 and at the end of RAM", () => {
    const set = peers(sameSwitch(), { dramBytes: 4 * MIB });
    const port = set.port(set.a);
    for (const address of [0, 2 ** 51, 2 ** 52, 2 ** 60, -4096, Number.NaN]) {
      expect(port.write(address, new Uint8Array(4), 0, 4)).toBe(DmaStatus.unsupportedRequest);
      expect(port.read(address, new Uint8Array(4), 0, 4)).toBe(DmaStatus.unsupportedRequest);
    }
  });

  it("a read that leaves the BAR fails whole, a write lands up to the end", () => {
    const set = peers(sameSwitch());
    const end = set.bus + 16 * MIB;
    const target = new Uint8Array(8).fill(9);
    expect(set.port(set.a).read(end - 4, target, 0, 8)).toBe(DmaStatus.unsupportedRequest);
    expect([...target]).toEqual([9, 9, 9, 9, 9, 9, 9, 9]);
    // The MSI-X pending bits are the BAR's last page; the byte before them is memory.
    const edge = 16 * MIB - 0x2000;
    expect(set.port(set.a).write(set.bus + edge - 1, Uint8Array.of(5, 6), 0, 2)).toBe(
      DmaStatus.completerAbort,
    );
    const seen = new Uint8Array(1);
    set.fabric.peek(set.b, 0, edge - 1, seen);
    expect(seen[0]).toBe(5);
  });
});

describe("conventional PCI", () => {
  it("peers on one bus reach each other without leaving it", () => {
    const bars = [{ sizeBytes: MIB, kind: "memory32" as const }];
    const bridge = {
      kind: "pciBridge" as const,
      children: [endpoint({ bars }), endpoint({ bars })],
    };
    const machine = makeMachine({ hostBridges: [{ roots: [bridge] }] });
    const set = peers(machine);
    expect(tryBoth(set)).toEqual(passed);
    expect(set.fabric.route(set.a, set.bus, "write").viaRootComplex).toBe(false);
    const host = set.fabric.allocateHost(4096);
    expect(set.port(set.a).write(host.phys, Uint8Array.of(3), 0, 1)).toBe(DmaStatus.ok);
    expect(host.bytes[0]).toBe(3);
  });
});

describe("links and removal", () => {
  it("a peer whose link is down is unsupported; one's own link down loses everything", () => {
    const set = peers(sameSwitch());
    set.fabric.setLink(set.b, false);
    expect(set.fabric.route(set.a, set.bus, "write").status).toBe(DmaStatus.unsupportedRequest);
    expect(set.fabric.open(set.b).config.read32(0)).toBe(0xffffffff);
    set.fabric.setLink(set.b, true);
    // The device was reset: its decode is off until somebody enables it.
    expect(set.fabric.route(set.a, set.bus, "write").status).toBe(DmaStatus.unsupportedRequest);
    set.fabric.open(set.b).config.write16(4, MSE | BME);
    expect(tryBoth(set)).toEqual(passed);
    set.fabric.setLink(set.a, false);
    const { write, read } = tryBoth(set);
    expect(write).not.toBe(DmaStatus.ok);
    expect(read).not.toBe(DmaStatus.ok);
  });

  it("Link Disable in the port's Link Control does the same", () => {
    const machine = sameSwitch();
    const set = peers(machine);
    const port = bridgeOf(machine, PortType.switchDownstream, 1);
    const offset = machine.functions.find(({ bdf }) => bdf === port)?.pcie?.offset as number;
    set.fabric.open(port).config.write16(offset + 0x10, 0x10);
    expect(set.fabric.route(set.a, set.bus, "write").status).toBe(DmaStatus.unsupportedRequest);
  });

  it("a removed function answers nothing", () => {
    const set = peers(sameSwitch());
    const region = set.fabric.open(set.b).mapBar(0);
    set.fabric.remove(set.b);
    expect(set.fabric.route(set.a, set.bus, "read").status).toBe(DmaStatus.unsupportedRequest);
    expect(region.read32(0)).toBe(0xffffffff);
    expect(set.port(set.b).read(set.bus, new Uint8Array(4), 0, 4)).not.toBe(DmaStatus.ok);
  });
});

describe("faults on purpose", () => {
  it("fail what the seed says, the same twice", () => {
    const run = () => {
      const set = peers(sameSwitch());
      const rule = {
        initiator: set.a,
        direction: DmaDirection.read,
        probability: 0.3,
        status: DmaStatus.completionTimeout,
      };
      set.fabric.injectFaults([rule], new Prng(5));
      const target = new Uint8Array(8);
      const statuses = Array.from({ length: 40 }, () =>
        set.port(set.a).read(set.bus, target, 0, 8),
      );
      expect(set.port(set.a).write(set.bus, target, 0, 8)).toBe(DmaStatus.ok);
      return statuses;
    };
    const first = run();
    expect(first).toContain(DmaStatus.completionTimeout);
    expect(first).toContain(DmaStatus.ok);
    expect(run()).toEqual(first);
  });
});

describe("host memory", () => {
  it("is where the machine has RAM and never where PCI claims", () => {
    const ram = [{ base: 0x1_0000_0000, limit: 0x1_3fff_ffff }];
    const machine = { ...sameSwitch(), host: { ...sameSwitch().host, ram } };
    const { fabric } = peers(machine, { dramBytes: 2 ** 30 });
    const region = fabric.allocateHost(5 * MIB);
    expect(region.phys).toBeGreaterThanOrEqual(0x1_0000_0000);
    expect(region.phys + region.bytes.length).toBeLessThanOrEqual(0x1_4000_0000);
  });

  it("is reused after free, zeroed, and a freed region cannot be freed again", () => {
    const { fabric } = peers(sameSwitch(), { dramBytes: 8 * MIB });
    const first = fabric.allocateHost(4 * MIB);
    first.bytes.fill(1);
    expect(() => fabric.allocateHost(6 * MIB)).toThrow(/no run of host memory/);
    fabric.freeHost(first);
    expect(() => fabric.freeHost(first)).toThrow(/not allocated/);
    const again = fabric.allocateHost(4 * MIB);
    expect(again.bytes.every((byte) => byte === 0)).toBe(true);
    expect(fabric.allocateHost(4096, 65536).phys % 65536).toBe(0);
  });

  it("takes a stray DMA where nobody allocated, and says so", () => {
    const set = peers(sameSwitch());
    const host = set.fabric.allocateHost(4096, 4096, "ring");
    const stray = host.phys + 64 * MIB;
    set.port(set.a).write(stray, Uint8Array.of(1, 2), 0, 2);
    set.port(set.a).read(host.phys, new Uint8Array(64), 0, 64);
    const seen = new Uint8Array(2);
    set.fabric.peekHost(physAddr(stray), seen);
    expect([...seen]).toEqual([1, 2]);
    expect(set.fabric.hostMemoryTraffic()).toMatchObject([
      { requester: set.a, purpose: "unallocated", writtenBytes: 2 },
      { requester: set.a, purpose: "ring", readBytes: 64 },
    ]);
  });
});

describe("traffic", () => {
  it("counts payload and wire bytes on each directed link of the route", () => {
    const set = peers(sameSwitch([{}, {}], { root: { acs: ACS.UF } }));
    set.port(set.a).write(set.bus, new Uint8Array(1024), 0, 1024);
    set.port(set.a).read(set.bus, new Uint8Array(1024), 0, 1024);
    const used = set.fabric.linkTraffic().filter(({ tlps }) => tlps > 0);
    // Up from a, down to b: the write and the read's two requests. Back: the read's completions.
    expect(used).toHaveLength(4);
    expect(used.map(({ payloadBytes, tlps }) => ({ payloadBytes, tlps }))).toEqual([
      { payloadBytes: 1024, tlps: 6 },
      { payloadBytes: 1024, tlps: 4 },
      { payloadBytes: 1024, tlps: 4 },
      { payloadBytes: 1024, tlps: 6 },
    ]);
    expect(used[0]?.wireBytes).toBe(1024 + 6 * 24);
    expect(used[1]?.wireBytes).toBe(1024 + 4 * 20);
  });
});
