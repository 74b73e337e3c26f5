/** The steady state of a port in functional mode makes no garbage. */
import { describe, expect, it } from "vitest";
import { bytesPerCall } from "../../testing/heap.ts";
import { ACS, barOf, endpointsOf, sameSwitch } from "../../testing/machines.ts";
import { portedFabric } from "../../testing/ported-fabric.ts";
import { type Bdf, Span } from "../core/index.ts";
import type { FabricOptions } from "./index.ts";

/** Of DMAs, over the four runs that `bytesPerCall` makes. */
const DMAS = 1_000_000;
/**
 * The engine boxes a double on its way through a call that it does not inline: no object, no view.
 */
const BOXES = 32;

function setUp(options: FabricOptions = {}) {
  const machine = sameSwitch([{ acs: 0 }, {}], { root: { acs: ACS.UF } });
  const set = portedFabric(machine, options);
  const [a, b] = endpointsOf(machine) as [Bdf, Bdf];
  return { ...set, a, b, port: set.port(a), peer: barOf(machine, b).address };
}

describe("a million DMAs", () => {
  it("to a peer and to host memory, written and read", () => {
    const { fabric, port, peer } = setUp();
    const host = fabric.allocateHost(1 << 20).phys;
    const buffer = new Uint8Array(4096);
    const bytes = bytesPerCall(DMAS / 16, (calls) => {
      for (let i = 0; i < calls; i++) {
        const at = (i & 15) * 4096;
        port.write(peer + at, buffer, 0, 64);
        port.write(host + at, buffer, 0, 512);
        port.read(peer + at, buffer, 0, 64);
        port.read(host + at, buffer, 0, 16);
      }
    });
    expect(bytes).toBeLessThan(4 * BOXES);
  });

  it("lent from a peer and from host memory", () => {
    const { fabric, port, peer } = setUp();
    const host = fabric.allocateHost(1 << 20).phys;
    const span = new Span();
    const bytes = bytesPerCall(DMAS / 8, (calls) => {
      for (let i = 0; i < calls; i++) {
        port.borrow(peer + (i & 1023) * 64, 64, span);
        port.borrow(host + (i & 1023) * 64, 64, span);
      }
    });
    expect(bytes).toBeLessThan(2 * BOXES);
  });

  it("through the IOMMU", () => {
    const set = setUp({ iommu: "strict" });
    const host = set.fabric.allocateHost(1 << 20);
    const domain = set.fabric.iommu!.createDomain("translated");
    set.fabric.iommu!.attach(domain, set.a);
    const rights = { read: true, write: true, mmio: false };
    set.fabric.iommu!.map(domain, 2 ** 40, host.phys, 1 << 20, rights);
    const buffer = new Uint8Array(4096);
    const bytes = bytesPerCall(DMAS / 4, (calls) => {
      for (let i = 0; i < calls; i++) set.port.write(2 ** 40 + (i & 127) * 4096, buffer, 0, 4096);
    });
    expect(bytes).toBeLessThan(2 * BOXES);
  });

  it("doorbells by the CPU", () => {
    const { fabric, b } = setUp();
    const region = fabric.open(b).mapBar(0);
    const bytes = bytesPerCall(DMAS / 4, (calls) => {
      for (let i = 0; i < calls; i++) region.write32((i & 255) * 4, i);
    });
    expect(bytes).toBeLessThan(BOXES);
  });
});
