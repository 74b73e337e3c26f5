/**
 * The two machines of a scenario and all that runs on them: the machine of the dump with its
 * target, and a remote host that reaches it over one wire. Drivers, target and host are the ones
 * that would run on hardware; only what is behind the functions is simulated.
 *
 * The remote host is a twin of the local NIC, behind the same bridges, alone in its machine.
 */

import { type Bdf, bdfBus, bdfDevfn, bdfDomain, Reactor } from "../core/index.ts";
import { DmaContext } from "../dma/index.ts";
import {
  buildFabric,
  type DeviceModel,
  type Fabric,
  InProcessWire,
  type ModelTools,
  NvmeModel,
  RnicModel,
  Scheduler,
} from "../fabric/index.ts";
import {
  deviceKind,
  type Machine,
  MachineIndex,
  NONE,
  type PciFunction,
} from "../machine/index.ts";
import { NvmeController } from "../nvme/index.ts";
import { NvmfHost, type P2pSetting, RdmaHostTransport, TargetAssembly } from "../nvmet/index.ts";
import { Provider } from "../p2p/index.ts";
import { RdmaDevice } from "../rdma/index.ts";
import { NVMF_PORT } from "../spec/nvmf/index.ts";
import { RNIC_BAR_BYTES_MIN } from "../spec/rdma/index.ts";
import { Tracer } from "../trace/index.ts";
import type { PreparedMachine } from "./prepare.ts";
import type { DescriptionName, Scenario } from "./schema.ts";
import { memoryOwners, payloadBar } from "./select.ts";

const TARGET_ADDRESS = "10.0.0.1";
const HOST_ADDRESS = "10.0.0.2";
const SUBSYSTEM_NQN = "nqn.2026-11.dev.peerlane:scenario";
const HOST_NQN = "nqn.2026-11.dev.peerlane:host";
/** Host buffers must cover a full queue of the largest I/O, as peer pools must. */
const HOST_POOL_BYTES = 64 * 2 ** 20;

export interface Rig {
  readonly fabric: Fabric;
  readonly remoteFabric: Fabric;
  readonly reactor: Reactor;
  readonly assembly: TargetAssembly;
  readonly ssdModel: NvmeModel;
  readonly remoteNic: RdmaDevice;
  readonly host: NvmfHost;
  /** Models by function, for the report. */
  readonly modelKinds: ReadonlyMap<Bdf, string>;
}

/** Builds both machines, attaches drivers, starts the target and connects the host. */
export async function buildRig(
  prepared: PreparedMachine,
  scenario: Scenario,
  description: DescriptionName,
): Promise<Rig> {
  const { machine, devices } = prepared;
  const scheduler = new Scheduler();
  const tracer = new Tracer(() => scheduler.nowNs());
  const wire = new InProcessWire();
  const models = new Map<Bdf, DeviceModel>();
  const fabric = buildFabric(machine, {
    scheduler,
    tracer,
    iommu: scenario.iommu,
    rootComplex: prepared.rootComplex,
    model: (fn, tools) => {
      const model = localModel(fn, tools, prepared, scenario, wire);
      if (model !== null) models.set(fn.bdf, model);
      return model;
    },
  });
  const remoteFabric = buildFabric(twinOf(machine, devices.nic), {
    scheduler,
    tracer,
    model: (fn, tools) => (fn.bdf === devices.nic ? rnic(tools, wire, HOST_ADDRESS) : null),
  });
  const context = new DmaContext(fabric, { iommu: scenario.iommu, snapshot: machine });
  const remoteContext = new DmaContext(remoteFabric, { iommu: "off" });
  const nic = await RdmaDevice.attach(context.device(devices.nic));
  const remoteNic = await RdmaDevice.attach(remoteContext.device(devices.nic));
  const ssd = await NvmeController.attach(context.device(devices.ssd));
  const peer = description === "host-memory" ? "lease" : description;
  const assembly = new TargetAssembly({
    context,
    snapshot: machine,
    trace: tracer,
    description: peer,
    policy: scenario.target.policy,
    hostPoolBytes: HOST_POOL_BYTES,
  });
  publish(assembly, fabric, ssd, prepared, scenario);
  const subsystem = assembly.addSubsystem({ nqn: SUBSYSTEM_NQN, allowedHosts: [HOST_NQN] });
  assembly.addDisk(subsystem, ssd, { p2pmem: p2pSetting(scenario, devices.ssd, description) });
  const reactor = new Reactor();
  for (const poller of [assembly, ssd, fabric, remoteFabric]) reactor.add(poller);
  await reactor.settle(assembly.listenRdma(nic, [subsystem]), "the target");
  const host = new NvmfHost({
    transport: new RdmaHostTransport({
      device: remoteNic,
      address: TARGET_ADDRESS,
      port: NVMF_PORT,
    }),
    hostNqn: HOST_NQN,
    subsystemNqn: SUBSYSTEM_NQN,
    depth: scenario.workload.queueDepth + 1,
    nowNs: () => scheduler.nowNs(),
  });
  reactor.add(host);
  await reactor.settle(host.connect(), "the remote host to connect");
  return {
    fabric,
    remoteFabric,
    reactor,
    assembly,
    ssdModel: models.get(devices.ssd) as NvmeModel,
    remoteNic,
    host,
    modelKinds: new Map([...models].map(([bdf, model]) => [bdf, model.kind])),
  };
}

/**
 * NVMe controllers get a controller model and NICs an RNIC, each at an address of its own on the
 * one wire; the rest is dumb memory.
 */
function localModel(
  fn: PciFunction,
  tools: ModelTools,
  { devices, cmbs }: PreparedMachine,
  { namespace }: Scenario,
  wire: InProcessWire,
): DeviceModel | null {
  if (fn.bdf === devices.nic) return rnic(tools, wire, TARGET_ADDRESS);
  const registerBytes = tools.barSizes[0] ?? 0;
  if (deviceKind(fn) === "nic" && registerBytes >= RNIC_BAR_BYTES_MIN) {
    return rnic(tools, wire, idleAddress(fn.bdf));
  }
  if (deviceKind(fn) !== "nvme" || registerBytes === 0) return null;
  const cmb = cmbs.find(({ bdf }) => bdf === fn.bdf);
  return new NvmeModel({
    copier: tools.copier,
    model: `${fn.vendorName ?? "NVMe"} ${fn.deviceName ?? ""}`.trim().slice(0, 40),
    namespaces: [{ sizeBytes: namespace.size, lbaBytes: namespace.blockBytes }],
    cmb: cmb === undefined ? null : { bar: cmb.bar, offset: 0, sizeBytes: cmb.sizeBytes },
  });
}

/** NICs that nobody uses in the scenario are on the wire too: bus and devfn make their address. */
function idleAddress(bdf: Bdf): string {
  return `10.${1 + (bdfDomain(bdf) % 254)}.${bdfBus(bdf)}.${bdfDevfn(bdf)}`;
}

function rnic(tools: ModelTools, wire: InProcessWire, address: string): RnicModel {
  return new RnicModel({ barBytes: tools.barSizes[0] ?? 0, wire, address, copier: tools.copier });
}

/** The NIC and the bridges above it: a host that has nothing else. */
export function twinOf(machine: Machine, nic: Bdf): Machine {
  const index = new MachineIndex(machine);
  const keep = new Set<number>();
  for (let at = index.requireIndex(nic); at !== NONE; at = index.parentOf(at)) keep.add(at);
  return {
    ...machine,
    name: "remote host",
    functions: machine.functions.filter((_, i) => keep.has(i)),
  };
}

/** Makes peer memory eligible: what the scenario names, or all there is. */
function publish(
  assembly: TargetAssembly,
  fabric: Fabric,
  ssd: NvmeController,
  { machine, devices }: PreparedMachine,
  { target }: Scenario,
): void {
  const hasCmb = ssd.cmb !== null;
  if (target.provider === "cmb" || target.provider === devices.ssd || hasCmb) {
    assembly.publishCmb(ssd);
  }
  if (target.provider === "cmb" || target.provider === devices.ssd) return;
  for (const fn of memoryOwners(machine, target.providerBytes)) {
    if (target.provider !== "auto" && fn.bdf !== target.provider) continue;
    const bar = payloadBar(fn, target.providerBytes);
    if (bar === null) continue;
    const part = { sizeBytes: target.providerBytes };
    assembly.registry.publish(Provider.fromBar(fabric.open(fn.bdf), bar.index, part));
  }
}

function p2pSetting(scenario: Scenario, ssd: Bdf, description: DescriptionName): P2pSetting {
  const { provider } = scenario.target;
  if (description === "host-memory") return { kind: "off" };
  if (provider === "auto") return { kind: "auto" };
  return { kind: "fixed", provider: provider === "cmb" ? ssd : provider };
}
