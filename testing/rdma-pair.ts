/**
 * Two machines with an RNIC each, on one wire, in one time: what RDMA tests and benchmarks run on.
 *
 *     machine a: root port - switch - RNIC (BAR0 32 MiB)      machine b: the same
 *                                   \ memory (BAR2 16 MiB)
 *
 * The RNICs are 10.0.0.1 and 10.0.0.2. Bus addresses differ from physical ones.
 */

import type { Bdf } from "../src/core/index.ts";
import { DmaContext, type DmaDevice } from "../src/dma/index.ts";
import {
  buildFabric,
  type Fabric,
  gpuModelFor,
  InProcessWire,
  type RnicLimits,
  RnicModel,
  Scheduler,
  type WireConditions,
} from "../src/fabric/index.ts";
import { GpuDevice } from "../src/gpu/index.ts";
import type { IommuMode } from "../src/machine/index.ts";
import { type HostMemory, mapHostMemory } from "../src/memory/index.ts";
import { type Lease, openLease, Provider, Rules, Topology } from "../src/p2p/index.ts";
import { RdmaDevice } from "../src/rdma/index.ts";
import { MachineBuilder } from "./machine-builder.ts";

const BAR_BYTES = 32 * 1024 * 1024;
const PEER_BYTES = 16 * 1024 * 1024;
const PEER_BAR = 2;

export interface RdmaPairOptions {
  readonly wire?: WireConditions;
  readonly mtu?: number;
  readonly iommu?: IommuMode;
  readonly limits?: Partial<RnicLimits>;
  /** What is beside the RNIC is a GPU model instead of plain memory. Default false. */
  readonly gpu?: boolean;
  /** Links and hops of both machines take time. Default false. */
  readonly timed?: boolean;
}

const POLLS_MAX = 1_000_000;

/** One of the two machines. */
export interface RdmaSide {
  readonly name: string;
  readonly address: string;
  readonly bdf: Bdf;
  readonly fabric: Fabric;
  readonly model: RnicModel;
  readonly dma: DmaDevice;
  readonly rdma: RdmaDevice;
  /** The GPU beside the RNIC, attached at the first call. */
  gpu(): GpuDevice;
  readonly rules: Rules;
  /** Host memory mapped for the RNIC. */
  host(sizeBytes: number): HostMemory;
  /** The peer memory beside the RNIC, and a lease of all of it for the RNIC. */
  readonly provider: Provider;
  lease(): Lease;
  pollGpu(): number;
  /** Bytes of the peer memory as its owner sees them. */
  peek(offset: number, length: number): Uint8Array;
}

export interface RdmaPair {
  readonly a: RdmaSide;
  readonly b: RdmaSide;
  readonly wire: InProcessWire;
  readonly scheduler: Scheduler;
  /** Fabrics and devices once; how many things were done. */
  poll(): number;
  /** Polls until nothing is left to do. */
  settle(): void;
  /** Polls until `done`; throws when that does not come. */
  until(done: () => boolean, what: string): void;
  /** Polls until the promise settles, and gives what it gave. */
  drive<T>(promise: Promise<T>): Promise<T>;
}

/** Runs `poll` and the event loop turn and turn about until `promise` settles. */
export async function drive<T>(promise: Promise<T>, poll: () => number): Promise<T> {
  let settled = false;
  const mark = (): void => {
    settled = true;
  };
  promise.then(mark, mark);
  for (let i = 0; i < POLLS_MAX && !settled; i++) {
    poll();
    await Promise.resolve();
  }
  if (!settled) throw new Error("a promise never settled");
  return promise;
}

export async function rdmaPair(options: RdmaPairOptions = {}): Promise<RdmaPair> {
  const scheduler = new Scheduler();
  const wire = new InProcessWire(options.wire, options.mtu);
  const a = await makeSide("a", "10.0.0.1", scheduler, wire, options);
  const b = await makeSide("b", "10.0.0.2", scheduler, wire, options);
  const poll = (): number =>
    a.fabric.poll() + b.fabric.poll() + a.rdma.poll() + b.rdma.poll() + a.pollGpu() + b.pollGpu();
  return {
    a,
    b,
    wire,
    scheduler,
    poll,
    settle() {
      for (let i = 0; i < POLLS_MAX; i++) if (poll() === 0) return;
      throw new Error("the pair never went idle");
    },
    until(done, what) {
      for (let i = 0; i < POLLS_MAX; i++) {
        if (done()) return;
        poll();
      }
      throw new Error(`waited in vain for ${what}`);
    },
    drive: (promise) => drive(promise, poll),
  };
}

async function makeSide(
  name: string,
  address: string,
  scheduler: Scheduler,
  wire: InProcessWire,
  options: RdmaPairOptions,
): Promise<RdmaSide> {
  const builder = new MachineBuilder(name);
  const root = builder.root({ busOffset: -0x1000_0000 });
  const { ports } = builder.switch(builder.rootPort(root), 2);
  const nic = builder.endpoint(ports[0], { bars: [BAR_BYTES], classCode: 0x020000 });
  const peer = builder.endpoint(ports[1], { bars: [0x4000, PEER_BYTES] });
  const snapshot = builder.build();
  const iommu = options.iommu ?? "off";
  const limits = options.limits === undefined ? {} : { limits: options.limits };
  const models: RnicModel[] = [];
  const fabric = buildFabric(snapshot, {
    scheduler,
    iommu,
    mode: options.timed === true ? "timed" : "functional",
    model: (fn, tools) => {
      const { copier, tracer } = tools;
      if (fn.bdf === peer.bdf && options.gpu === true) return gpuModelFor(tools);
      if (fn.bdf !== nic.bdf) return null;
      const model = new RnicModel({
        barBytes: BAR_BYTES,
        wire,
        address,
        copier,
        tracer,
        ...limits,
      });
      models.push(model);
      return model;
    },
  });
  const context = new DmaContext(fabric, { iommu, snapshot });
  const dma = context.device(nic.bdf);
  let gpu: GpuDevice | null = null;
  const rdma = await RdmaDevice.attach(dma);
  const provider = Provider.fromBar(fabric.open(peer.bdf), PEER_BAR);
  const rules = new Rules(new Topology(snapshot));
  return {
    name,
    address,
    bdf: nic.bdf,
    fabric,
    model: models[0],
    dma,
    rdma,
    rules,
    gpu() {
      gpu ??= GpuDevice.attach(context.device(peer.bdf));
      return gpu;
    },
    pollGpu: () => gpu?.poll() ?? 0,
    host: (sizeBytes) => mapHostMemory(fabric.allocateHost(sizeBytes), [dma]),
    provider,
    lease: () => openLease({ provider, rules, initiators: [dma] }),
    peek: (offset, length) => {
      const target = new Uint8Array(length);
      fabric.peek(peer.bdf, PEER_BAR, offset, target);
      return target;
    },
  };
}
