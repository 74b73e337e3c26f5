/** Each ACS control: what it does to a request, with the hop and the register that decided. */
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
import { type Bdf, DmaStatus } from "../core/index.ts";
import type { Machine } from "../machine/index.ts";
import type { Fabric, FabricOptions, RouteReport } from "./index.ts";

function peers(machine: Machine, options: FabricOptions = {}) {
  const set = portedFabric(machine, options);
  const [a, b] = endpointsOf(machine) as [Bdf, Bdf];
  const bus = barOf(machine, b).address;
  const route = (direction: "read" | "write" = "write", translated = false): RouteReport =>
    set.fabric.route(a, bus, direction, translated);
  return { ...set, a, b, bus, route };
}

const refusal = ({ hops }: RouteReport): string => hops.at(-1)?.reason ?? "";

/** Writes as `a` and says what `b`'s memory holds then. */
function writeAndLook({ fabric, port, a, b, bus }: ReturnType<typeof peers>) {
  const status = port(a).write(bus + 64, Uint8Array.of(1, 2, 3, 4), 0, 4);
  const seen = new Uint8Array(4);
  fabric.peek(b, 0, 64, seen);
  return { status, seen: [...seen] };
}

describe("ACS P2P Request Redirect", () => {
  it("clear: the switch turns the request to its peer", () => {
    const set = peers(sameSwitch([{ acs: 0 }, { acs: 0 }]));
    expect(set.route()).toMatchObject({ status: DmaStatus.ok, viaRootComplex: false });
    expect(set.route().hops.map(({ role }) => role)).toEqual([
      "endpoint",
      "switch-downstream",
      "switch-downstream",
      "endpoint",
    ]);
    expect(writeAndLook(set)).toEqual({ status: DmaStatus.ok, seen: [1, 2, 3, 4] });
  });

  it("set at the ingress port, UF set above: through the root complex", () => {
    const machine = sameSwitch([{ acs: ACS.RR }, {}], { root: { acs: ACS.UF } });
    const set = peers(machine);
    const report = set.route();
    expect(report).toMatchObject({ status: DmaStatus.ok, viaRootComplex: true });
    expect(report.hops.map(({ role, decision }) => `${role} ${decision}`)).toEqual([
      "endpoint issues",
      "switch-downstream redirects",
      "switch-upstream forwards-up",
      "root-port forwards-up",
      "root-complex decodes",
      "root-port forwards-down",
      "switch-upstream forwards-down",
      "switch-downstream forwards-down",
      "endpoint delivers",
    ]);
    expect(writeAndLook(set)).toEqual({ status: DmaStatus.ok, seen: [1, 2, 3, 4] });
  });

  it("set at the other port only: does not matter for requests", () => {
    expect(peers(sameSwitch([{}, { acs: ACS.RR }])).route().viaRootComplex).toBe(false);
  });

  it("between functions of one device: the request leaves the device", () => {
    const bars = [{ sizeBytes: MIB }];
    const make = (acs: number | undefined, port: number) => {
      const device = endpoint({ bars, ...(acs !== undefined && { acs }), functions: [{ bars }] });
      return makeMachine({ hostBridges: [{ roots: [rootPort([device], { acs: port })] }] });
    };
    expect(peers(make(undefined, 0)).route().hops).toHaveLength(2);
    expect(peers(make(ACS.RR, ACS.UF)).route()).toMatchObject({ viaRootComplex: true, status: 0 });
    const blocked = peers(make(ACS.RR, 0)).route();
    expect(blocked.status).toBe(DmaStatus.unsupportedRequest);
    expect(refusal(blocked)).toContain("ACS UF is clear");
  });
});

describe("ACS Upstream Forwarding", () => {
  it("clear at the root port: a redirected request is unsupported there", () => {
    const set = peers(sameSwitch([{ acs: ACS.RR }, {}], { root: { acs: 0 } }));
    expect(set.route().status).toBe(DmaStatus.unsupportedRequest);
    expect(refusal(set.route())).toContain("ACS UF is clear");
    expect(writeAndLook(set)).toEqual({ status: DmaStatus.unsupportedRequest, seen: [0, 0, 0, 0] });
  });

  it("is needed at every port on the way up", () => {
    const bars = [{ sizeBytes: MIB }];
    const make = (middle: number) => {
      const inner = pcieSwitch([
        { acs: ACS.RR, children: [endpoint({ bars })] },
        { children: [endpoint({ bars })] },
      ]);
      const outer = pcieSwitch([{ acs: middle, children: [inner] }]);
      return makeMachine({ hostBridges: [{ roots: [rootPort([outer], { acs: ACS.UF })] }] });
    };
    expect(peers(make(ACS.UF)).route()).toMatchObject({ status: 0, viaRootComplex: true });
    expect(peers(make(0)).route().status).toBe(DmaStatus.unsupportedRequest);
  });
});

describe("ACS P2P Egress Control", () => {
  const withVector = (acs: number, bits: number) =>
    peers(sameSwitch([{ acs, egress: [bits] }, {}], { root: { acs: ACS.UF } }));

  it("blocks a port whose bit is set", () => {
    const set = withVector(ACS.EC, 0b10);
    expect(set.route().status).toBe(DmaStatus.acsViolation);
    expect(refusal(set.route())).toContain("vector bit 1");
    expect(writeAndLook(set)).toEqual({ status: DmaStatus.acsViolation, seen: [0, 0, 0, 0] });
  });

  it("with RR, redirects a port whose bit is set", () => {
    expect(withVector(ACS.EC | ACS.RR, 0b10).route()).toMatchObject({
      status: 0,
      viaRootComplex: true,
    });
  });

  it("lets a port whose bit is clear pass, also with RR", () => {
    for (const acs of [ACS.EC, ACS.EC | ACS.RR]) {
      expect(withVector(acs, 0b01).route()).toMatchObject({ status: 0, viaRootComplex: false });
    }
  });

  it("at a root port, blocks another root port of the same root complex", () => {
    const make = (acs: number) => peers(twoRootPorts([{ acs, egress: [0b100] }, {}]));
    expect(make(ACS.EC).route().status).toBe(DmaStatus.acsViolation);
    expect(make(ACS.EC | ACS.RR).route().status).toBe(DmaStatus.ok);
    expect(make(0).route().status).toBe(DmaStatus.ok);
  });
});

describe("ACS P2P Egress Control of a function", () => {
  const bars = [{ sizeBytes: MIB }];
  const make = (bits: number) => {
    const device = endpoint({ bars, acs: ACS.EC, egress: [bits], functions: [{ bars }] });
    return makeMachine({ hostBridges: [{ roots: [rootPort([device])] }] });
  };

  it("blocks a function of the same device whose bit is set, and no other", () => {
    expect(peers(make(0b10)).route().status).toBe(DmaStatus.acsViolation);
    expect(peers(make(0b01)).route()).toMatchObject({ status: 0, viaRootComplex: false });
  });
});

describe("ACS Direct Translated P2P and Translation Blocking", () => {
  it("DT lets translated requests pass RR and EC", () => {
    const acs = ACS.RR | ACS.EC | ACS.DT;
    const set = peers(sameSwitch([{ acs, egress: [0xff] }, {}], { root: { acs: ACS.UF } }));
    expect(set.route("write", true)).toMatchObject({ status: 0, viaRootComplex: false });
    expect(set.route("write", false)).toMatchObject({ status: 0, viaRootComplex: true });
  });

  it("TB blocks translated requests", () => {
    const set = peers(sameSwitch([{ acs: ACS.TB | ACS.DT }, {}]));
    expect(set.route("write", true).status).toBe(DmaStatus.acsViolation);
    expect(set.route("write", false).status).toBe(DmaStatus.ok);
  });
});

describe("ACS Source Validation", () => {
  it("blocks a requester whose bus is not below the port", () => {
    const machine = sameSwitch([{ acs: ACS.SV }, {}]);
    const set = peers(machine);
    expect(set.route().status).toBe(DmaStatus.ok);
    // Renumbering the port's secondary bus leaves the device with the requester id it captured.
    const port = machine.functions.find(({ acs }) => acs !== null)?.bdf as Bdf;
    set.fabric.open(port).config.write8(0x19, 0x77);
    set.fabric.open(port).config.write8(0x1a, 0x78);
    const report = set.route();
    expect(report.status).toBe(DmaStatus.acsViolation);
    expect(refusal(report)).toContain("ACS SV");
  });
});

describe("ACS P2P Completion Redirect", () => {
  const upper = { root: { acs: ACS.UF } };

  it("sends the data of a direct read up and through the root complex", () => {
    const set = peers(sameSwitch([{}, { acs: ACS.CR }], upper));
    const report = set.route("read");
    expect(report.status).toBe(DmaStatus.ok);
    expect(report.hops.some(({ role }) => role === "root-complex")).toBe(false);
    expect(report.viaRootComplex).toBe(true);
    expect(report.completionHops.map(({ decision }) => decision)).toContain("redirects");
    expect(set.route("write").viaRootComplex).toBe(false);
  });

  it("at the requester's own port does nothing to it", () => {
    expect(peers(sameSwitch([{ acs: ACS.CR }, {}], upper)).route("read").viaRootComplex).toBe(
      false,
    );
  });

  it("without UF above, the data never comes", () => {
    const set = peers(sameSwitch([{}, { acs: ACS.CR }], { root: { acs: 0 } }));
    expect(set.route("read").status).toBe(DmaStatus.completionTimeout);
  });

  it("depends on the root complex forwarding reads", () => {
    const rootComplex = { peerWrites: "forward", peerReads: "drop" } as const;
    const set = peers(sameSwitch([{}, { acs: ACS.CR }], upper), { rootComplex });
    expect(set.route("read").status).toBe(DmaStatus.completionTimeout);
    expect(set.port(set.a).read(set.bus, new Uint8Array(4), 0, 4)).toBe(
      DmaStatus.completionTimeout,
    );
  });

  it("a redirected read's data still comes straight across when only RR is set", () => {
    const report = peers(sameSwitch([{ acs: ACS.RR }, {}], upper)).route("read");
    expect(report.hops.some(({ role }) => role === "root-complex")).toBe(true);
    expect(report.completionHops.some(({ role }) => role === "root-complex")).toBe(false);
  });
});

describe("ACS Unclaimed Request Redirect", () => {
  const hole = (fabric: Fabric, a: Bdf, address: number) => fabric.route(a, address, "write");

  it("without it, what the switch claims and no port does is unsupported", () => {
    for (const [acs, status] of [
      [0, DmaStatus.unsupportedRequest],
      [ACS.URR, DmaStatus.unsupportedRequest],
    ] as const) {
      const machine = sameSwitch([{ acs }, {}]);
      const set = peers(machine);
      // Close the second port's window: its peer's addresses stay in the switch's window.
      const ports = machine.functions.filter(({ bridge }) => bridge !== null);
      const second = ports.at(-1)?.bdf as Bdf;
      set.fabric.open(second).config.write32(0x24, 0x0001fff1);
      set.fabric.open(second).config.write32(0x28, 0xffff);
      const report = hole(set.fabric, set.a, set.bus);
      expect(report.status).toBe(status);
      expect(refusal(report)).toContain(
        acs === 0 ? "no downstream port claims it" : "ACS UF is clear",
      );
    }
  });
});

describe("live ACS control", () => {
  it("changes the very next transfer", () => {
    const machine = sameSwitch([{ acs: 0 }, {}], { root: { acs: ACS.UF } });
    const set = peers(machine);
    expect(writeAndLook(set).status).toBe(DmaStatus.ok);
    const ports = machine.functions.filter(({ acs }) => acs !== null);
    const ingress = ports.at(-1)?.bdf as Bdf;
    const offset = ports.at(-1)?.acs?.offset as number;
    set.fabric.open(ingress).config.write16(offset + 6, ACS.RR);
    expect(writeAndLook(set).status).toBe(DmaStatus.ok);
    expect(set.fabric.peerTraffic().map(({ viaRootComplex }) => viaRootComplex)).toEqual([
      false,
      true,
    ]);
  });
});
