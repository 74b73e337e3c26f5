import fc from "fast-check";
import { describe, expect, it } from "vitest";
import {
  barOf,
  endpoint,
  endpointsOf,
  GIB,
  type LinkSpec,
  MIB,
  makeMachine,
  pcieSwitch,
  rootPort,
} from "../../testing/machines.ts";
import { type PortedFabric, portedFabric } from "../../testing/ported-fabric.ts";
import { type Bdf, DmaStatus } from "../core/index.ts";
import type { Machine } from "../machine/index.ts";
import {
  LINK_WIDTHS,
  linkModel,
  PAYLOAD_SIZES,
  readPayloadBytesPerSecond,
  writePayloadBytesPerSecond,
} from "../spec/pcie/index.ts";
import { ASSUMED_LATENCY, type FabricOptions } from "./index.ts";

const bars = [{ sizeBytes: 16 * MIB }];
const NO_LATENCY = {
  latency: { linkNs: 0, switchNs: 0, rootComplexNs: 0, memoryNs: 0, iotlbMissNs: 0 },
};

interface Payloads {
  readonly maxPayload?: number;
  readonly maxReadRequest?: number;
}

/** Devices below one switch, each on its own link; the switch is on `uplink`. */
function switched(links: readonly LinkSpec[], uplink: LinkSpec, payloads: Payloads = {}): Machine {
  const ports = links.map((link) => ({
    link,
    ...payloads,
    children: [endpoint({ bars, link, ...payloads })],
  }));
  const top = pcieSwitch(ports, { link: uplink, ...payloads });
  const ram = [{ base: 64 * GIB, limit: 65 * GIB - 1 }];
  const roots = [rootPort([top], { link: uplink, ...payloads })];
  return makeMachine({ host: { ram }, hostBridges: [{ roots }] });
}

function timed(machine: Machine, options: FabricOptions = { timing: NO_LATENCY }): PortedFabric {
  return portedFabric(machine, { mode: "timed", dramBytes: GIB, ...options });
}

/** Simulated time at which each settle was answered. */
class Stopwatch {
  readonly ended: number[] = [];
  private readonly set: PortedFabric;
  constructor(set: PortedFabric) {
    this.set = set;
  }
  settled(token: number): void {
    this.ended[token] = this.set.fabric.clock.nowNs();
  }
  run(): number[] {
    for (let i = 0; i < 10_000 && this.set.fabric.poll() > 0; i++);
    return this.ended;
  }
}

/** Payload bytes per second of `count` transfers of `size` bytes from one device to a peer. */
function throughput(
  link: LinkSpec,
  payloads: Payloads,
  direction: "read" | "write",
  size: number,
): number {
  const machine = switched([link, link], link, payloads);
  const set = timed(machine);
  const [a, b] = endpointsOf(machine) as [Bdf, Bdf];
  const bus = barOf(machine, b).address;
  const buffer = new Uint8Array(size);
  const port = set.port(a);
  const count = 64;
  for (let i = 0; i < count; i++) {
    const at = bus + i * size;
    const status =
      direction === "write" ? port.write(at, buffer, 0, size) : port.read(at, buffer, 0, size);
    expect(status).toBe(DmaStatus.ok);
  }
  const watch = new Stopwatch(set);
  port.settle(watch, 0);
  expect(watch.ended).toEqual([]);
  return (count * size) / ((watch.run()[0] as number) / 1e9);
}

describe("a single flow", () => {
  // Neugebauer et al., SIGCOMM 2018; the model's published rows. GB/s: 64 B and 512 B, write and
  // read.
  it.each([
    [3, 4, 256, 2.643, 2.769, 3.322, 3.37],
    [3, 4, 128, 2.586, 2.709, 2.994, 3.075],
    [3, 16, 256, 10.336, 10.829, 12.994, 13.183],
    [4, 4, 256, 5.285, 5.537, 6.645, 6.741],
    [5, 4, 256, 10.571, 11.074, 13.289, 13.482],
    [5, 16, 256, 41.345, 43.314, 51.977, 52.73],
  ])("gen%d x%d, MPS %d has the published throughput", (generation, width, mps, ...rows) => {
    const link = { generation, width };
    const payloads = { maxPayload: mps, maxReadRequest: 512 };
    const cases = [
      throughput(link, payloads, "write", 64),
      throughput(link, payloads, "read", 64),
      throughput(link, payloads, "write", 512),
      throughput(link, payloads, "read", 512),
    ];
    cases.forEach((rate, i) => {
      expect(rate / 1e9 / (rows[i] as number)).toBeCloseTo(1, 3);
    });
  });

  it("has the model's throughput for any generation, width, MPS and MRRS", () => {
    const sizes = fc.constantFrom(...PAYLOAD_SIZES);
    const property = fc.property(
      fc.integer({ min: 1, max: 6 }),
      fc.constantFrom(...LINK_WIDTHS),
      sizes,
      sizes,
      fc.constantFrom(64, 256, 1000, 4096, 100_000),
      (generation, width, maxPayload, maxReadRequest, size) => {
        const model = linkModel(generation, width, { maxPayload, maxReadRequest });
        const payloads = { maxPayload, maxReadRequest };
        const write = throughput({ generation, width }, payloads, "write", size);
        expect(write / writePayloadBytesPerSecond(model, size)).toBeCloseTo(1, 6);
        const read = throughput({ generation, width }, payloads, "read", size);
        expect(read / readPayloadBytesPerSecond(model, size)).toBeCloseTo(1, 6);
      },
    );
    fc.assert(property, { seed: 4, numRuns: 12 });
  });

  it("is as fast as the narrowest link of its route", () => {
    const wide = { generation: 4, width: 16 };
    const narrow = { generation: 3, width: 4 };
    const machine = switched([wide, narrow], wide);
    const set = timed(machine);
    const [a, b] = endpointsOf(machine) as [Bdf, Bdf];
    set.port(a).write(barOf(machine, b).address, new Uint8Array(4 * MIB), 0, 4 * MIB);
    const watch = new Stopwatch(set);
    set.port(a).settle(watch, 0);
    const rate = (4 * MIB) / ((watch.run()[0] as number) / 1e9);
    const expected = writePayloadBytesPerSecond(linkModel(3, 4), 4 * MIB);
    expect(rate / expected).toBeCloseTo(1, 6);
  });
});

describe("shared links", () => {
  const x4 = { generation: 4, width: 4 };
  const x1 = { generation: 4, width: 1 };

  /** Each device writes to host memory through the one uplink; when each was done. */
  function race(links: readonly LinkSpec[], uplink: LinkSpec, sizes: readonly number[]): number[] {
    const machine = switched(links, uplink);
    const set = timed(machine);
    const watch = new Stopwatch(set);
    endpointsOf(machine).forEach((bdf, i) => {
      const size = sizes[i] as number;
      const host = set.fabric.allocateHost(size);
      expect(set.port(bdf).write(host.phys, new Uint8Array(size), 0, size)).toBe(DmaStatus.ok);
      set.port(bdf).settle(watch, i);
    });
    return watch.run();
  }
  const alone = (size: number, link: LinkSpec): number => race([link], link, [size])[0] as number;

  it("give two flows half each", () => {
    const [first, second] = race([x4, x4], x4, [MIB, MIB]) as [number, number];
    expect(first).toBeCloseTo(second, 3);
    expect(first / alone(MIB, x4)).toBeCloseTo(2, 3);
  });

  it("give all to the one that is left", () => {
    const [short, long] = race([x4, x4], x4, [MIB, 2 * MIB]) as [number, number];
    expect(short / alone(MIB, x4)).toBeCloseTo(2, 3);
    expect(long / alone(MIB, x4)).toBeCloseTo(3, 3);
  });

  it("give a flow that is held up elsewhere no more than it can use", () => {
    const [slow, fast] = race([x1, x4], x4, [MIB, 3 * MIB]) as [number, number];
    expect(slow / alone(MIB, x1)).toBeCloseTo(1, 6);
    // The rest of the link: three times what the x1 link has, give or take its own packets' share.
    expect(fast / slow).toBeCloseTo(1, 1);
  });

  it("do not make flows that share no link wait for each other", () => {
    const machine = switched([x4, x4, x4, x4], x1);
    const set = timed(machine);
    const watch = new Stopwatch(set);
    const [a, b, c, d] = endpointsOf(machine) as [Bdf, Bdf, Bdf, Bdf];
    for (const [i, [from, to]] of [
      [a, b],
      [c, d],
    ].entries()) {
      set.port(from as Bdf).write(barOf(machine, to as Bdf).address, new Uint8Array(MIB), 0, MIB);
      set.port(from as Bdf).settle(watch, i);
    }
    const [first, second] = watch.run() as [number, number];
    expect(first / alone(MIB, x4)).toBeCloseTo(1, 3);
    expect(second / first).toBeCloseTo(1, 6);
  });

  it("serve one device's transfers over one route in order", () => {
    const machine = switched([x4], x4);
    const set = timed(machine);
    const watch = new Stopwatch(set);
    const port = set.port(endpointsOf(machine)[0] as Bdf);
    const host = set.fabric.allocateHost(MIB);
    for (let i = 0; i < 4; i++) {
      port.write(host.phys, new Uint8Array(MIB / 4), 0, MIB / 4);
      port.settle(watch, i);
    }
    const ended = watch.run();
    const step = ended[0] as number;
    expect(ended.map((time) => Math.round(time / step))).toEqual([1, 2, 3, 4]);
    expect(ended[3] as number).toBeCloseTo(alone(MIB, x4), 3);
  });
});

describe("latency", () => {
  it("is that of each hop: a read of host memory over one link takes the assumed 440 ns", () => {
    const ram = [{ base: 64 * GIB, limit: 65 * GIB - 1 }];
    const roots = [rootPort([endpoint({ bars })])];
    const machine = makeMachine({ host: { ram }, hostBridges: [{ roots }] });
    const set = timed(machine, {});
    const watch = new Stopwatch(set);
    const port = set.port(endpointsOf(machine)[0] as Bdf);
    port.read(set.fabric.allocateHost(4096).phys, new Uint8Array(64), 0, 64);
    port.settle(watch, 0);
    const { linkNs, rootComplexNs, memoryNs } = ASSUMED_LATENCY;
    const latency = 2 * linkNs + 2 * rootComplexNs + memoryNs;
    expect(latency).toBe(440);
    const serial = 64 / (readPayloadBytesPerSecond(linkModel(4, 4), 64) / 1e9);
    expect(watch.run()[0]).toBeCloseTo(latency + serial, 3);
  });

  it("is charged for each table walk of the IOMMU", () => {
    const run = (touch: boolean): number => {
      const machine = switched([{}], {});
      const set = timed(machine, { iommu: "strict", timing: {} });
      const bdf = endpointsOf(machine)[0] as Bdf;
      const iommu = set.fabric.iommu!;
      const domain = iommu.createDomain("translated");
      const host = set.fabric.allocateHost(4096);
      iommu.attach(domain, bdf);
      iommu.map(domain, 0x10000, host.phys, 4096, { read: true, write: true, mmio: false });
      const watch = new Stopwatch(set);
      const port = set.port(bdf);
      const transfer = (token: number): number => {
        port.write(0x10000, new Uint8Array(64), 0, 64);
        port.settle(watch, token);
        const start = set.fabric.clock.nowNs();
        return (watch.run()[token] as number) - start;
      };
      const first = transfer(0);
      return touch ? transfer(1) : first;
    };
    expect(run(false) - run(true)).toBeCloseTo(ASSUMED_LATENCY.iotlbMissNs, 3);
  });

  it("a settle with nothing to wait for is answered by the next polls, in no time", () => {
    const machine = switched([{}], {});
    const set = timed(machine);
    const watch = new Stopwatch(set);
    set.port(endpointsOf(machine)[0] as Bdf).settle(watch, 0);
    expect(watch.ended).toEqual([]);
    expect(watch.run()).toEqual([0]);
  });
});
