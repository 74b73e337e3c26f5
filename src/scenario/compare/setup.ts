/**
 * The machine that descriptions are compared on: three functions of a dump, with their ports held,
 * on a fabric under one IOMMU mode. `near` reaches the owner's memory by bus address, `far` through
 * the host bridge. Counts what the IOMMU is asked for.
 *
 * Leaves out: every other device (dumb memory behind each BAR), drivers, time.
 */

import type {
  BackingFunction,
  BackingMachine,
  DriverClock,
  HostRegion,
  IommuControl,
  IommuProtection,
} from "../../backing/interface.ts";
import { type Bdf, PeerlaneError, type PhysAddr, type Tree } from "../../core/index.ts";
import { DmaContext, type DmaDevice } from "../../dma/index.ts";
import { buildFabric, DeviceMemory, type DevicePort, type Fabric } from "../../fabric/index.ts";
import { deviceKind, type IommuMode, type Machine, type PciFunction } from "../../machine/index.ts";
import { Provider, Rules, Topology } from "../../p2p/index.ts";
import { payloadBar } from "../select.ts";

/** What of the owner's BAR is used: small enough for any, large enough to leave the caches. */
export const PROVIDER_BYTES = 16 * 2 ** 20;

export interface CompareSubject {
  readonly owner: Bdf;
  readonly bar: number;
  readonly near: Bdf;
  /** Null where the machine has no function that the rules let through the host bridge. */
  readonly far: Bdf | null;
}

/** Counts maps, unmaps and flushes on their way to the real IOMMU. */
export class CountedIommu implements IommuControl {
  maps = 0;
  unmaps = 0;
  flushes = 0;
  private readonly iommu: IommuControl;

  constructor(iommu: IommuControl) {
    this.iommu = iommu;
  }

  groupOf(bdf: Bdf): number {
    return this.iommu.groupOf(bdf);
  }
  createDomain(kind: "identity" | "translated"): number {
    return this.iommu.createDomain(kind);
  }
  destroyDomain(domain: number): void {
    this.iommu.destroyDomain(domain);
  }
  attach(domain: number, bdf: Bdf): void {
    this.iommu.attach(domain, bdf);
  }
  map(domain: number, iova: number, phys: PhysAddr, length: number, way: IommuProtection): void {
    this.maps++;
    this.iommu.map(domain, iova, phys, length, way);
  }
  unmap(domain: number, iova: number, length: number): void {
    this.unmaps++;
    this.iommu.unmap(domain, iova, length);
  }
  flush(domain: number): void {
    this.flushes++;
    this.iommu.flush(domain);
  }
  inspect(): Tree {
    return this.iommu.inspect();
  }
}

/** The fabric, with its IOMMU counted. */
class CountedMachine implements BackingMachine {
  readonly clock: DriverClock;
  readonly iommu: CountedIommu | null;
  private readonly fabric: Fabric;

  constructor(fabric: Fabric) {
    this.fabric = fabric;
    this.clock = fabric.clock;
    this.iommu = fabric.iommu === null ? null : new CountedIommu(fabric.iommu);
  }

  open(bdf: Bdf): BackingFunction {
    return this.fabric.open(bdf);
  }
  allocateHost(sizeBytes: number, alignment?: number, purpose?: string): HostRegion {
    return this.fabric.allocateHost(sizeBytes, alignment, purpose);
  }
  freeHost(region: HostRegion): void {
    this.fabric.freeHost(region);
  }
  poll(): number {
    return this.fabric.poll();
  }
  inspect(): Tree {
    return this.fabric.inspect();
  }
}

class PortKeeper extends DeviceMemory {
  port: DevicePort | null = null;
  override attach(port: DevicePort): void {
    this.port = port;
  }
}

export interface CompareSetup {
  readonly mode: IommuMode;
  readonly fabric: Fabric;
  readonly context: DmaContext;
  readonly rules: Rules;
  readonly iommu: CountedIommu | null;
  readonly near: DmaDevice;
  readonly far: DmaDevice | null;
  readonly subject: CompareSubject;
  port(device: DmaDevice): DevicePort;
  /** A fresh provider over the owner's BAR. */
  provider(sizeBytes?: number): Provider;
}

export function setUp(machine: Machine, subject: CompareSubject, mode: IommuMode): CompareSetup {
  const keepers = new Map<Bdf, PortKeeper>();
  const actors = new Set<Bdf | null>([subject.owner, subject.near, subject.far]);
  const fabric = buildFabric(machine, {
    iommu: mode,
    model: (fn, { copier, barSizes }) => {
      if (!actors.has(fn.bdf)) return null;
      const keeper = new PortKeeper({ copier, barSizes });
      keepers.set(fn.bdf, keeper);
      return keeper;
    },
  });
  const counted = new CountedMachine(fabric);
  const context = new DmaContext(counted, { iommu: mode, snapshot: machine });
  return {
    mode,
    fabric,
    context,
    rules: new Rules(new Topology(machine)),
    iommu: counted.iommu,
    near: context.device(subject.near),
    far: subject.far === null ? null : context.device(subject.far),
    subject,
    port: (device) => keepers.get(device.bdf)?.port as DevicePort,
    provider: (sizeBytes = PROVIDER_BYTES) =>
      Provider.fromBar(fabric.open(subject.owner), subject.bar, { sizeBytes }),
  };
}

/**
 * An owner of memory and two clients, one by bus and one through the host bridge, the first that
 * there are. Throws `nothing-to-compare` when no client reaches any memory by its bus address.
 */
export function chooseSubject(machine: Machine): CompareSubject {
  const rules = new Rules(new Topology(machine));
  let best: CompareSubject | null = null;
  for (const owner of machine.functions) {
    const bar = isEndpoint(owner) ? payloadBar(owner, PROVIDER_BYTES) : null;
    if (bar === null) continue;
    let near: Bdf | null = null;
    let far: Bdf | null = null;
    for (const client of machine.functions) {
      if (client === owner || !isClient(client)) continue;
      const { route } = rules.verdict(owner.bdf, client.bdf);
      if (route === "bus") near ??= client.bdf;
      if (route === "host-bridge") far ??= client.bdf;
      if (near !== null && far !== null) break;
    }
    if (near === null) continue;
    const found = { owner: owner.bdf, bar: bar.index, near, far };
    if (far !== null) return found;
    best ??= found;
  }
  if (best !== null) return best;
  throw new PeerlaneError("nothing-to-compare", "no function reaches another's memory by bus", {
    place: machine.name,
    remedy: "give a dump with a memory BAR of 16 MiB and two devices below one switch",
  });
}

/** What does peer I/O, or may stand for it where a dump knows no classes. */
function isClient(fn: PciFunction): boolean {
  const kind = deviceKind(fn);
  const isOfInterest = kind === "nvme" || kind === "nic" || kind === "gpu" || kind === "other";
  return isEndpoint(fn) && isOfInterest && fn.pcie !== null && payloadBar(fn, 1) !== null;
}

function isEndpoint({ bridge, physicalFunction }: PciFunction): boolean {
  return bridge === null && physicalFunction === null;
}
