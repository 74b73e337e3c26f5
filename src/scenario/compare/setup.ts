/**
 * The machine that descriptions are compared on: three functions of a dump, with their ports held,
 * on a fabric under one IOMMU mode. `near` reaches the owner's memory by bus address, `far` through
 * the host bridge.
 *
 * Leaves out: every other device (dumb memory behind each BAR), drivers, time.
 */

import { type Bdf, PeerlaneError } from "../../core/index.ts";
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

/** Memory behind BARs whose port somebody uses. */
export class PortKeeper extends DeviceMemory {
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
  const context = new DmaContext(fabric, { iommu: mode, snapshot: machine });
  return {
    mode,
    fabric,
    context,
    rules: new Rules(new Topology(machine)),
    near: context.device(subject.near),
    far: subject.far === null ? null : context.device(subject.far),
    subject,
    port: (device) => keepers.get(device.bdf)?.port as DevicePort,
    provider: (sizeBytes = PROVIDER_BYTES) =>
      Provider.fromBar(fabric.open(subject.owner), subject.bar, { sizeBytes }),
  };
}

/** What the IOMMU was asked for, over all groups. */
export function iommuOperations(context: DmaContext): readonly [number, number, number] {
  let [maps, unmaps, flushes] = [0, 0, 0];
  for (const domain of context.domains()) {
    maps += domain.maps;
    unmaps += domain.unmaps;
    flushes += domain.flushes;
  }
  return [maps, unmaps, flushes];
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
export function isClient(fn: PciFunction): boolean {
  const kind = deviceKind(fn);
  const isOfInterest = kind === "nvme" || kind === "nic" || kind === "gpu" || kind === "other";
  return isEndpoint(fn) && isOfInterest && fn.pcie !== null && payloadBar(fn, 1) !== null;
}

function isEndpoint({ bridge, physicalFunction }: PciFunction): boolean {
  return bridge === null && physicalFunction === null;
}
