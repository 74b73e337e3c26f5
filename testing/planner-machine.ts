/**
 * A small server for tests of the planner: disk and GPU below one switch with a free port, a NIC
 * below another root port, a second switch with one more disk. Every port has ACS; what it is set
 * to, and which root complex it is, can be said.
 */

import { bdfBus } from "../src/core/index.ts";
import type { Host, Machine } from "../src/machine/index.ts";
import { MachineBuilder, type Node } from "./machine-builder.ts";

const NVME = 0x010802;
const GPU = 0x030200;
const NIC = 0x020700;
const AUDIO = 0x040300;
const MIB = 2 ** 20;

export interface PlannerMachineOptions {
  /** ACS Control of switch and root ports; clear when not given. */
  readonly acs?: number;
  /** Ids of 00:00.0; a host bridge of no list when not given. */
  readonly rootIds?: readonly [number, number];
  readonly host?: Partial<Host>;
}

export function plannerMachine(options: PlannerMachineOptions = {}) {
  const acs = options.acs ?? 0;
  const [vendor, device] = options.rootIds ?? [0x8086, 0x4c43];
  const builder = new MachineBuilder("planner", {
    cpuVendor: "GenuineIntel",
    cpuFamily: 6,
    architecture: "x86_64",
    kernelVersion: "7.3.4",
    iommu: "off",
    ...options.host,
  });
  const root = builder.root();
  builder.endpoint(root, { vendor, device, classCode: 0x060000, bars: [] });
  const port = { acs, vendor: 0x8086, device: 0x7000 };
  const bridge = { acs, vendor: 0x1000, device: 0xc030, generation: 5, width: 16 };
  const { acs: _none, ...plainBridge } = bridge;
  const left = builder.rootPort(root, port);
  const { upstream, ports } = builder.switch(left, 3, bridge, plainBridge);
  const disk = builder.endpoint(ports[0], {
    classCode: NVME,
    vendor: 0x144d,
    bars: [16384, 16 * MIB],
    generation: 4,
    width: 4,
  });
  const gpu = builder.endpoint(ports[1], {
    classCode: GPU,
    vendor: 0x10de,
    device: 0x2330,
    bars: [16 * MIB, 256 * MIB],
    generation: 5,
    width: 16,
  });
  const audio = builder.endpoint(ports[1], {
    classCode: AUDIO,
    vendor: 0x10de,
    slot: 0,
    fn: 1,
    bars: [16384],
  });
  const right = builder.rootPort(root, port);
  const nic = builder.endpoint(right, {
    classCode: NIC,
    vendor: 0x15b3,
    bars: [32 * MIB],
    generation: 5,
    width: 16,
  });
  const far = builder.switch(builder.rootPort(root, port), 2, bridge, plainBridge);
  const farDisk = builder.endpoint(far.ports[0], {
    classCode: NVME,
    vendor: 0x144d,
    bars: [16384, 32 * MIB],
    generation: 3,
    width: 4,
  });
  const machine = withTrainedLinks(builder.build());
  const bdfOf = (node: Node) => node.bdf;
  return {
    machine,
    disk: bdfOf(disk),
    gpu: bdfOf(gpu),
    audio: bdfOf(audio),
    nic: bdfOf(nic),
    farDisk: bdfOf(farDisk),
    left: bdfOf(left),
    right: bdfOf(right),
    upstream: bdfOf(upstream),
    diskPort: bdfOf(ports[0]),
    gpuPort: bdfOf(ports[1]),
    freePort: bdfOf(ports[2]),
    farFreePort: bdfOf(far.ports[1]),
  };
}

/** A link has one speed: ports below which a card sits run at the card's. */
function withTrainedLinks(machine: Machine): Machine {
  const functions = machine.functions.map((fn) => {
    const below = machine.functions.find(({ bdf }) => bdfBus(bdf) === fn.bridge?.secondary);
    if (fn.pcie === null || below?.pcie == null || below.bridge !== null) return fn;
    return { ...fn, pcie: { ...fn.pcie, link: below.pcie.link } };
  });
  return { ...machine, functions };
}
