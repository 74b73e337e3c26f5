import { describe, expect, it } from "vitest";
import {
  ACS,
  barOf,
  endpoint,
  endpointsOf,
  GIB,
  MIB,
  makeMachine,
  rootPort,
  sameSwitch,
} from "../../testing/machines.ts";
import { portedFabric } from "../../testing/ported-fabric.ts";
import { type Bdf, DmaStatus, formatTree, makeBdf, Span } from "../core/index.ts";
import type { Machine, PciFunction } from "../machine/index.ts";
import { Event, Tracer } from "../trace/index.ts";
import { buildFabric, formatRoute, Scheduler } from "./index.ts";

function setUp() {
  const machine = sameSwitch();
  const [a, b] = endpointsOf(machine) as [Bdf, Bdf];
  return { ...portedFabric(machine), a, b };
}

describe("Fabric", () => {
  it("moves a peer write to the peer's BAR and nowhere else", () => {
    const { machine, fabric, a, b, port } = setUp();
    const bus = barOf(machine, b).address;
    const data = Uint8Array.from({ length: 5000 }, (_, i) => i * 7);
    expect(port(a).write(bus + 123, data, 0, data.length)).toBe(DmaStatus.ok);
    const seen = new Uint8Array(data.length);
    fabric.peek(b, 0, 123, seen);
    expect(seen).toEqual(data);
    const viaCpu = new Uint8Array(data.length);
    fabric.open(b).mapBar(0).readBytes(123, viaCpu);
    expect(viaCpu).toEqual(data);
    const back = new Uint8Array(data.length);
    expect(port(a).read(bus + 123, back, 0, back.length)).toBe(DmaStatus.ok);
    expect(back).toEqual(data);
    expect(fabric.hostMemoryTraffic()).toEqual([]);
    expect(fabric.peerTraffic()).toMatchObject([
      { requester: a, owner: b, viaRootComplex: false, writtenBytes: 5000, readBytes: 5000 },
    ]);
    fabric.resetTraffic();
    expect(fabric.peerTraffic()).toEqual([]);
  });

  it("moves host memory through the CPU's view, in one array however large", () => {
    const { fabric, b, port } = setUp();
    const region = fabric.allocateHost(3 * MIB);
    region.bytes.fill(9);
    const span = new Span();
    expect(port(b).borrow(region.phys + 2 * MIB - 50, 100, span)).toBe(DmaStatus.ok);
    expect(span.length).toBe(100);
    expect(span.bytes[span.offset]).toBe(9);
    port(b).write(region.phys + 1, Uint8Array.of(1, 2, 3), 0, 3);
    expect([...region.bytes.subarray(0, 5)]).toEqual([9, 1, 2, 3, 9]);
  });

  it("gives a GPU of 128 GiB that costs what is written", () => {
    const bars = [{ sizeBytes: 128 * GIB }];
    const roots = [rootPort([endpoint({ bars }), endpoint({ bars: [{ sizeBytes: MIB }] })])];
    const machine = makeMachine({ hostBridges: [{ roots }] });
    const { fabric, port } = portedFabric(machine);
    const [gpu, nic] = endpointsOf(machine) as [Bdf, Bdf];
    const bus = barOf(machine, gpu).address;
    port(nic).write(bus + 100 * GIB, Uint8Array.of(1, 2, 3, 4), 0, 4);
    const seen = new Uint8Array(4);
    fabric.peek(gpu, 0, 100 * GIB, seen);
    expect([...seen]).toEqual([1, 2, 3, 4]);
    expect(fabric.modelOf(gpu)?.inspect()).toMatchObject({
      bars: [{ sizeBytes: 128 * GIB, residentBytes: 2 * MIB }],
    });
  });

  it("puts dumb memory behind functions that nobody has a model for", () => {
    const fabric = buildFabric(sameSwitch());
    const bdf = endpointsOf(sameSwitch())[0] as Bdf;
    expect(fabric.modelOf(bdf)?.kind).toBe("dumb memory");
    const region = fabric.open(bdf).mapBar(0);
    region.write64(16, 0x11223344, 0x55667788);
    const out = { lo: 0, hi: 0 };
    region.read64(16, out);
    expect(out).toEqual({ lo: 0x11223344, hi: 0x55667788 });
  });

  it("traces what happened, when the tracer is on", () => {
    const machine = sameSwitch();
    const scheduler = new Scheduler();
    const tracer = new Tracer(() => scheduler.nowNs(), 256);
    const { fabric, port } = portedFabric(machine, { scheduler, tracer, iommu: "strict" });
    const [a, b] = endpointsOf(machine) as [Bdf, Bdf];
    const bus = barOf(machine, b).address;
    port(a).write(bus, new Uint8Array(4), 0, 4);
    tracer.on = true;
    fabric.open(a).enableInterrupts(1, { interrupt() {} });
    port(a).write(bus, new Uint8Array(4), 0, 4);
    port(a).read(bus, new Uint8Array(4), 0, 4);
    port(a).interrupt(0);
    port(a).write(0x1000, new Uint8Array(4), 0, 4);
    fabric.setLink(b, false);
    void fabric.open(a).reset();
    const events = [...tracer.records()].map(({ event }) => event);
    for (const event of [
      Event.dmaWrite,
      Event.dmaRead,
      Event.dmaFailed,
      Event.routeDecided,
      Event.interruptSent,
      Event.iommuFault,
      Event.linkChanged,
      Event.functionReset,
    ]) {
      expect(events).toContain(event);
    }
  });

  it("shows all of itself", () => {
    const { fabric, a } = setUp();
    fabric.allocateHost(4096, 4096, "ring");
    const text = formatTree(fabric.inspect());
    for (const word of ["0000:00:01.0", "root-port", "dumb memory", "purpose: ring", "epoch"]) {
      expect(text).toContain(word);
    }
    expect(formatTree(fabric.open(a).inspect())).toContain("role: endpoint");
    expect(formatRoute(fabric.route(a, 0x1234, "write"))).toContain("nobody answers");
  });

  it("shares one time with another fabric", async () => {
    const scheduler = new Scheduler();
    const first = buildFabric(sameSwitch(), { scheduler });
    const second = buildFabric(sameSwitch(), { scheduler });
    const log: number[] = [];
    scheduler.after(500, { timer: () => void log.push(second.clock.nowNs()) }, 0);
    await first.clock.sleep(1000);
    expect(log).toEqual([500]);
    expect(second.clock.nowNs()).toBe(1000);
  });

  it("delivers interrupts while somebody sleeps", async () => {
    const { fabric, a, port } = setUp();
    const seen: number[] = [];
    fabric.open(a).enableInterrupts(1, { interrupt: (vector) => seen.push(vector) });
    port(a).after(100, { timer: () => port(a).interrupt(0) }, 0);
    await fabric.clock.sleep(200);
    expect(seen).toEqual([0]);
  });
});

describe("virtual functions", () => {
  /** A physical function with SR-IOV and one virtual function on the next bus number. */
  function withVf(): { machine: Machine; vf: Bdf; client: Bdf } {
    const bars = [{ sizeBytes: MIB }];
    const roots = [rootPort([endpoint({ bars })], { acs: ACS.SV }), rootPort([endpoint({ bars })])];
    const base = makeMachine({ hostBridges: [{ roots }] });
    const [pf, client] = endpointsOf(base) as [Bdf, Bdf];
    const vf = makeBdf(0, 0x09, 0, 0);
    const address = base.hostBridges[0]!.apertures[1]!.bus + 64 * MIB;
    const functions = base.functions.map((fn): PciFunction => {
      if (fn.bridge !== null && fn.bridge.secondary === pf >> 8) {
        const prefetchable = { base: address - 64 * MIB, limit: address + MIB - 1 };
        return { ...fn, bridge: { ...fn.bridge, subordinate: 9, prefetchable } };
      }
      if (fn.bridge !== null) {
        const prefetchable = { base: address + MIB, limit: address + 2 * MIB - 1 };
        return { ...fn, bridge: { ...fn.bridge, secondary: 10, subordinate: 10, prefetchable } };
      }
      if (fn.bdf === client) {
        const own = fn.bars.map((bar) => ({ ...bar, address: address + MIB }));
        return { ...fn, bdf: makeBdf(0, 10, 0, 0), bars: own };
      }
      const sriov = {
        offset: 0x200,
        totalVfs: 1,
        numVfs: 1,
        firstVfOffset: 0x100,
        vfStride: 1,
        vfDeviceId: 0x11,
        vfEnable: true,
        bars: [],
      };
      const extended = { id: 0x10, offset: 0x200, extended: true, version: 1 };
      return { ...fn, sriov, capabilities: [extended] };
    });
    const template = functions.find(({ bdf }) => bdf === pf)!;
    const virtual: PciFunction = {
      ...template,
      bdf: vf,
      sriov: null,
      capabilities: [],
      physicalFunction: pf,
      bars: [{ ...template.bars[0]!, address }],
    };
    const all = [...functions, virtual].sort((x, y) => x.bdf - y.bdf);
    return { machine: { ...base, functions: all }, vf, client: makeBdf(0, 10, 0, 0) };
  }

  it("answer at the addresses of their physical function's VF BARs, if that one lets them", () => {
    const { machine, vf, client } = withVf();
    const { fabric, port } = portedFabric(machine);
    const pf = machine.functions.find(({ sriov }) => sriov !== null)!.bdf;
    const bus = barOf(machine, vf).address;
    const control = 0x200 + 8;
    fabric.open(pf).config.write16(control, 0x8);
    expect(port(client).write(bus, Uint8Array.of(6), 0, 1)).toBe(DmaStatus.ok);
    const seen = new Uint8Array(1);
    fabric.peek(vf, 0, 0, seen);
    expect(seen[0]).toBe(6);
    fabric.open(pf).config.write16(control, 0);
    expect(port(client).write(bus, Uint8Array.of(7), 0, 1)).toBe(DmaStatus.unsupportedRequest);
  });

  it("issue requests as themselves, below the port that has their bus number in its range", () => {
    const { machine, vf, client } = withVf();
    const { fabric, port } = portedFabric(machine);
    const bus = barOf(machine, client).address;
    expect(port(vf).write(bus, Uint8Array.of(1), 0, 1)).toBe(DmaStatus.ok);
    expect(fabric.peerTraffic()).toMatchObject([{ requester: vf, owner: client }]);
  });
});
