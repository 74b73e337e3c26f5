import { describe, expect, it } from "vitest";
import { barOf, endpointsOf, sameSwitch } from "../../testing/machines.ts";
import { DmaStatus, Span } from "../core/index.ts";
import type { DeviceModel, DevicePort } from "./index.ts";
import { buildFabric, DeviceMemory } from "./index.ts";

/** A model that only lends its port. */
class PortKeeper extends DeviceMemory {
  port: DevicePort | null = null;
  override attach(port: DevicePort): void {
    this.port = port;
  }
}

function setUp() {
  const machine = sameSwitch();
  const models: PortKeeper[] = [];
  const fabric = buildFabric(machine, {
    model: (_fn, tools): DeviceModel => {
      const model = new PortKeeper({ copier: tools.copier, barSizes: tools.barSizes });
      models.push(model);
      return model;
    },
  });
  const [a, b] = endpointsOf(machine);
  const port = (i: number): DevicePort => models[i]?.port as DevicePort;
  return { machine, fabric, a: a!, b: b!, port };
}

describe("Fabric", () => {
  it("moves a peer write to the peer's BAR and nowhere else", () => {
    const { machine, fabric, a, b, port } = setUp();
    const bus = barOf(machine, b).address;
    const data = Uint8Array.from({ length: 5000 }, (_, i) => i * 7);
    expect(port(0).write(bus + 123, data, 0, data.length)).toBe(DmaStatus.ok);
    const seen = new Uint8Array(data.length);
    fabric.peek(b, 0, 123, seen);
    expect(seen).toEqual(data);
    const region = fabric.open(b).mapBar(0);
    const viaCpu = new Uint8Array(data.length);
    region.readBytes(123, viaCpu);
    expect(viaCpu).toEqual(data);
    const back = new Uint8Array(data.length);
    expect(port(0).read(bus + 123, back, 0, back.length)).toBe(DmaStatus.ok);
    expect(back).toEqual(data);
    expect(fabric.hostMemoryTraffic()).toEqual([]);
    expect(fabric.peerTraffic()).toMatchObject([
      { requester: a, owner: b, viaRootComplex: false, writtenBytes: 5000, readBytes: 5000 },
    ]);
  });

  it("moves host memory through the CPU's view", () => {
    const { fabric, port } = setUp();
    const region = fabric.allocateHost(3 * 2 ** 20);
    region.bytes.fill(9);
    const span = new Span();
    expect(port(1).borrow(region.phys + 2 ** 21, 100, span)).toBe(DmaStatus.ok);
    expect(span.length).toBe(100);
    expect(span.bytes[span.offset]).toBe(9);
    port(1).write(region.phys + 1, Uint8Array.of(1, 2, 3), 0, 3);
    expect([...region.bytes.subarray(0, 5)]).toEqual([9, 1, 2, 3, 9]);
  });

  it("delivers MSI-X messages through the route, in poll", () => {
    const { fabric, a, port } = setUp();
    const seen: number[] = [];
    const fn = fabric.open(a);
    fn.enableInterrupts(4, { interrupt: (vector) => seen.push(vector) });
    port(0).interrupt(2);
    expect(seen).toEqual([]);
    fabric.poll();
    expect(seen).toEqual([2]);
    fn.disableInterrupts();
    port(0).interrupt(2);
    fabric.poll();
    expect(seen).toEqual([2]);
    expect(fabric.hostMemoryTraffic()).toEqual([]);
  });
});
