/**
 * The whole stack on two simulated machines: a target with an SSD, a GPU and an RNIC, a remote host
 * with an RNIC, one wire, one time.
 *
 *     local   root (bus = phys - 0x1000_0000)
 *               root port - switch - nic
 *                                  - ssd  (registers, CMB in BAR 2)
 *                                  - gpu  (memory in BAR 2)
 *               root port - far ssd (the same, below another root port)
 *     remote  root - root port - nic
 */

import type { BlockQueue } from "../src/block/index.ts";
import { type Bdf, Copier, Reactor, Span } from "../src/core/index.ts";
import { DmaContext } from "../src/dma/index.ts";
import {
  buildFabric,
  type DeviceModel,
  type Fabric,
  InProcessWire,
  NvmeModel,
  type NvmeModelOptions,
  RnicModel,
  Scheduler,
  type WireConditions,
} from "../src/fabric/index.ts";
import type { IommuMode, Machine } from "../src/machine/index.ts";
import { mapHostMemory } from "../src/memory/index.ts";
import { NvmeController, type NvmeOptions } from "../src/nvme/index.ts";
import {
  type HostOptions,
  type Namespace,
  NvmfHost,
  type P2pSetting,
  type PeerDescription,
  RdmaHostTransport,
  type RdmaPortOptions,
  type RdmaTargetTransport,
  StoreQueue,
  type Subsystem,
  TargetAssembly,
} from "../src/nvmet/index.ts";
import { Provider } from "../src/p2p/index.ts";
import type { Random } from "../src/platform/index.ts";
import { RdmaDevice } from "../src/rdma/index.ts";
import { NVMF_PORT } from "../src/spec/nvmf/index.ts";
import { Tracer } from "../src/trace/index.ts";
import { MachineBuilder } from "./machine-builder.ts";
import { HOST_NQN, type HostData, SUBSYSTEM_NQN } from "./nvmet-harness.ts";

const REGISTERS_BYTES = 16 * 1024;
const RNIC_BAR_BYTES = 32 * 1024 * 1024;
const CMB_BYTES = 16 * 1024 * 1024;
const GPU_BYTES = 64 * 1024 * 1024;
const DISK_BYTES = 64 * 1024 * 1024;
export const PEER_BAR = 2;

export interface RigOptions {
  /** What carries the data: host memory only, or peer memory as one of two descriptions. */
  readonly description?: "host-memory" | PeerDescription;
  /** Whose memory is published; `far-cmb` is that of the disk below the other root port. */
  readonly provider?: "cmb" | "gpu" | "far-cmb" | "none";
  /** The CPU is one that carries traffic between root ports. Default false. */
  readonly cpuForwards?: boolean;
  /** Default: `auto` unless the description is host memory. */
  readonly p2pmem?: P2pSetting;
  readonly policy?: "fail" | "host-memory";
  /** The namespace is on the SSD below another root port. */
  readonly farDisk?: boolean;
  readonly iommu?: IommuMode;
  /** ACS Control of all ports of the local machine. */
  readonly acs?: number;
  readonly cmbBytes?: number;
  readonly rdma?: RdmaPortOptions;
  readonly wire?: WireConditions;
  readonly disk?: Partial<NvmeModelOptions>;
  /** The namespace is the disk's store itself, which the CPU reads and writes; no wrapping then. */
  readonly backend?: "ssd" | "cpu";
  readonly nvme?: NvmeOptions;
  /** For challenges and DH keys of the target. Default: the host's. */
  readonly random?: Random;
  readonly hostPoolBytes?: number;
  readonly tracer?: Tracer;
  readonly mode?: "functional" | "timed";
  /** Puts something between the target and the disk's queue. */
  readonly wrapQueue?: (queue: BlockQueue) => BlockQueue;
}

export interface TargetRig {
  readonly scheduler: Scheduler;
  readonly wire: InProcessWire;
  readonly reactor: Reactor;
  readonly snapshot: Machine;
  readonly fabric: Fabric;
  readonly remoteFabric: Fabric;
  readonly nic: RdmaDevice;
  readonly remoteNic: RdmaDevice;
  readonly ssd: NvmeController;
  /** The controller whose namespace is offered. */
  readonly disk: NvmeController;
  readonly diskModel: NvmeModel;
  /** Attaches the SSD below the other root port, if it is not the disk already. */
  farSsd(): Promise<NvmeController>;
  readonly assembly: TargetAssembly;
  readonly transport: RdmaTargetTransport;
  readonly subsystem: Subsystem;
  readonly namespace: Namespace;
  readonly provider: Provider | null;
  readonly providerBdf: Bdf;
  /** A host on the remote machine, not connected yet; polled by the reactor. */
  host(options?: Partial<HostOptions>): NvmfHost;
  /** Memory of the remote machine, registered for a host's I/O. */
  data(host: NvmfHost, sizeBytes: number): Promise<HostData>;
  /** Lets simulated time pass. */
  advance(ns: number): void;
  /** Polls until the promise settles. */
  settle<T>(promise: Promise<T>): Promise<T>;
}

function localMachine(options: RigOptions) {
  const cpuFamily = options.cpuForwards === true ? 0x19 : 0x15;
  const host = { cpuVendor: "AuthenticAMD", cpuFamily, kernelVersion: "7.3.4" };
  const builder = new MachineBuilder("local", host);
  const root = builder.root({ busOffset: -0x1000_0000 });
  // First on the root bus: a host bridge that is on no list.
  builder.endpoint(root, { vendor: 0x8086, device: 0x29c0 });
  const port = options.acs === undefined ? {} : { acs: options.acs };
  const { ports } = builder.switch(builder.rootPort(root, port), 3, port);
  const nic = builder.endpoint(ports[0], { bars: [RNIC_BAR_BYTES], classCode: 0x020000 });
  const cmb = options.cmbBytes ?? CMB_BYTES;
  const ssd = builder.endpoint(ports[1], { bars: [REGISTERS_BYTES, cmb], classCode: 0x010802 });
  const gpu = builder.endpoint(ports[2], { bars: [0x4000, GPU_BYTES], classCode: 0x030200 });
  const far = builder.endpoint(builder.rootPort(root, port), {
    bars: [REGISTERS_BYTES, cmb],
    classCode: 0x010802,
  });
  return { snapshot: builder.build(), nic, ssd, gpu, far };
}

function remoteMachine() {
  const builder = new MachineBuilder("remote");
  const root = builder.root();
  const port = builder.rootPort(root);
  const nic = builder.endpoint(port, { bars: [RNIC_BAR_BYTES], classCode: 0x020000 });
  return { snapshot: builder.build(), nic };
}

/** Builds both machines, attaches all drivers, starts the target. */
export async function targetRig(options: RigOptions = {}): Promise<TargetRig> {
  const { description = "lease", provider: wanted = "cmb" } = options;
  const scheduler = new Scheduler();
  const wire = new InProcessWire(options.wire);
  const local = localMachine(options);
  const remote = remoteMachine();
  const iommu = options.iommu ?? "off";
  const trace = options.tracer ?? new Tracer(() => scheduler.nowNs());
  const shared = { scheduler, tracer: trace, mode: options.mode ?? "functional" } as const;
  const disks = new Map<Bdf, NvmeModel>();
  const fabric = buildFabric(local.snapshot, {
    ...shared,
    iommu,
    model: (fn, { copier }): DeviceModel | null => {
      if (fn.bdf === local.nic.bdf) {
        return new RnicModel({ barBytes: RNIC_BAR_BYTES, wire, address: "10.0.0.1", copier });
      }
      if (fn.bdf !== local.ssd.bdf && fn.bdf !== local.far.bdf) return null;
      const model = new NvmeModel({
        copier,
        namespaces: [{ sizeBytes: DISK_BYTES }],
        cmb: { bar: PEER_BAR, offset: 0, sizeBytes: options.cmbBytes ?? CMB_BYTES },
        ...options.disk,
      });
      disks.set(fn.bdf, model);
      return model;
    },
  });
  const remoteFabric = buildFabric(remote.snapshot, {
    ...shared,
    iommu: "off",
    model: (fn, { copier }) =>
      fn.bdf === remote.nic.bdf
        ? new RnicModel({ barBytes: RNIC_BAR_BYTES, wire, address: "10.0.0.2", copier })
        : null,
  });
  const context = new DmaContext(fabric, { iommu, snapshot: local.snapshot });
  const remoteContext = new DmaContext(remoteFabric, { iommu: "off", snapshot: remote.snapshot });
  const nic = await RdmaDevice.attach(context.device(local.nic.bdf));
  const remoteNic = await RdmaDevice.attach(remoteContext.device(remote.nic.bdf));
  const ssd = await NvmeController.attach(context.device(local.ssd.bdf), options.nvme);
  const usesFar = options.farDisk === true || wanted === "far-cmb";
  const disk = usesFar
    ? await NvmeController.attach(context.device(local.far.bdf), options.nvme)
    : ssd;

  const assembly = new TargetAssembly({
    context,
    snapshot: local.snapshot,
    trace,
    description: description === "host-memory" ? "lease" : description,
    policy: options.policy ?? "fail",
    ...(options.hostPoolBytes === undefined ? {} : { hostPoolBytes: options.hostPoolBytes }),
    ...(options.random === undefined ? {} : { random: options.random }),
  });
  let provider: Provider | null = null;
  if (wanted === "cmb") provider = assembly.publishCmb(ssd);
  if (wanted === "far-cmb") provider = assembly.publishCmb(disk);
  if (wanted === "gpu") {
    provider = Provider.fromBar(fabric.open(local.gpu.bdf), PEER_BAR);
    assembly.registry.publish(provider);
  }
  const subsystem = assembly.addSubsystem({ nqn: SUBSYSTEM_NQN, allowedHosts: [HOST_NQN] });
  const isPeer = description !== "host-memory";
  const p2pmem = options.p2pmem ?? { kind: isPeer ? "auto" : "off" };
  const namespace =
    options.backend === "cpu"
      ? addStore(subsystem, disks.get(disk.device.bdf) as NvmeModel, 0)
      : assembly.addDisk(subsystem, disk, {
          p2pmem,
          ...(options.wrapQueue === undefined ? {} : { wrap: options.wrapQueue }),
        });

  const reactor = new Reactor();
  reactor.add(assembly);
  reactor.add(ssd);
  if (disk !== ssd) reactor.add(disk);
  reactor.add(fabric);
  reactor.add(remoteFabric);
  const settle = <T>(promise: Promise<T>): Promise<T> => reactor.settle(promise, "the rig");
  const { transport } = await settle(assembly.listenRdma(nic, [subsystem], options.rdma));
  return {
    scheduler,
    wire,
    reactor,
    snapshot: local.snapshot,
    fabric,
    remoteFabric,
    nic,
    remoteNic,
    ssd,
    disk,
    diskModel: disks.get(disk.device.bdf) as NvmeModel,
    async farSsd() {
      if (usesFar) return disk;
      const far = await NvmeController.attach(context.device(local.far.bdf), options.nvme);
      reactor.add(far);
      return far;
    },
    assembly,
    transport,
    subsystem,
    namespace,
    provider,
    providerBdf: wanted === "gpu" ? local.gpu.bdf : local.ssd.bdf,
    settle,
    advance(ns) {
      void fabric.clock.sleep(ns);
    },
    host(hostOptions = {}) {
      const host = new NvmfHost({
        transport: new RdmaHostTransport({
          device: remoteNic,
          address: nic.address,
          port: options.rdma?.port ?? NVMF_PORT,
        }),
        hostNqn: HOST_NQN,
        subsystemNqn: SUBSYSTEM_NQN,
        nowNs: () => scheduler.nowNs(),
        ...hostOptions,
      });
      reactor.add(host);
      return host;
    },
    async data(host, sizeBytes) {
      const region = remoteFabric.allocateHost(sizeBytes);
      const memory = mapHostMemory(region, [remoteNic.dma]);
      return { buffer: await host.register(memory, 0, sizeBytes), bytes: region.bytes };
    },
  };
}

/** Bytes of the offered disk, read from the medium itself. */
/** The store of the model's namespace `index`, as a namespace that the CPU serves. */
export function addStore(subsystem: Subsystem, model: NvmeModel, index: number): Namespace {
  const { store } = model.namespaces[index];
  const isCached = store.kind === "file";
  const copier = new Copier();
  const queue = new StoreQueue({ name: "store", store, blockBytes: 512, isCached, copier });
  const namespace = subsystem.addNamespace({ nsid: 1, queue, initiators: [] });
  subsystem.enable(namespace);
  return namespace;
}

export function readDisk(rig: TargetRig, offset: number, length: number): Uint8Array {
  const { store } = rig.diskModel.namespaces[0];
  const bytes = new Uint8Array(length);
  const span = new Span();
  for (let done = 0; done < length; ) {
    store.lend(offset + done, length - done, span);
    bytes.set(span.bytes.subarray(span.offset, span.offset + span.length), done);
    done += span.length;
  }
  return bytes;
}
