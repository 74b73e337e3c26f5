/**
 * The DMA view of one backing machine: which devices our drivers opened, under which IOMMU mode,
 * and the domain of each IOMMU group.
 *
 * Invariants: one {@link DmaDevice} per function; ids count from 1 in the order of first use and
 * index this context alone (do not carry an id to another machine). In strict mode no IOVA lies
 * where a bridge or a BAR would claim it, else the fabric would route a DMA to a peer instead of to
 * the IOMMU: that needs the snapshot.
 */

import type { BackingMachine, IommuControl } from "../backing/interface.ts";
import {
  assert,
  type Bdf,
  formatBdf,
  INITIATORS_MAX,
  type Inspectable,
  PAGE_SIZE,
  PeerlaneError,
  type Tree,
} from "../core/index.ts";
import type { IommuMode, Machine } from "../machine/index.ts";
import { DmaDevice } from "./device.ts";
import { iovaSpace, reservedRanges } from "./iova.ts";
import { type InboundRanges, IovaDomain } from "./mapper.hot.ts";
import type { InitiatorId } from "./mapping.ts";

/** Host memory at CPU addresses [phys, phys + sizeBytes) is at [bus, ...) for devices. */
export interface InboundRange {
  readonly phys: number;
  readonly bus: number;
  readonly sizeBytes: number;
}

export interface DmaOptions {
  readonly iommu: IommuMode;
  /** Keeps IOVAs out of bridge windows and BARs. Leave out only where there are no peers. */
  readonly snapshot?: Machine;
  /**
   * With the IOMMU off: where the devices of a PCI domain see host memory (`dma-ranges`). Left out:
   * at its CPU addresses, as on x86.
   */
  readonly inboundRanges?: (bdf: Bdf) => readonly InboundRange[];
}

/** The translated domain of one IOMMU group. */
export interface DomainCounts {
  readonly group: number;
  readonly domain: number;
  /** Live now. */
  readonly mappings: number;
  /** Since the start. */
  readonly maps: number;
  readonly unmaps: number;
  /** IOTLB invalidations. */
  readonly flushes: number;
  readonly iovaBytesUsed: number;
}

const NO_RANGES: InboundRanges = new Float64Array(0);

export class DmaContext implements Inspectable {
  readonly machine: BackingMachine;
  readonly mode: IommuMode;
  private readonly options: DmaOptions;
  private readonly devices: DmaDevice[] = [];
  private readonly byBdf = new Map<Bdf, DmaDevice>();
  private readonly byGroup = new Map<number, IovaDomain>();
  private identityDomain = -1;

  /** Throws `no-iommu` when the mode needs an IOMMU that the machine does not have. */
  constructor(machine: BackingMachine, options: DmaOptions) {
    this.machine = machine;
    this.mode = options.iommu;
    this.options = options;
    if (options.iommu !== "off") this.iommu();
  }

  /** Opens the function for DMA, or gives what was opened before. Throws what `open` throws. */
  device(bdf: Bdf): DmaDevice {
    const known = this.byBdf.get(bdf);
    if (known !== undefined) return known;
    assert(this.devices.length < INITIATORS_MAX, "initiators stay below their limit");
    const fn = this.machine.open(bdf);
    const domain = this.attach(bdf);
    const id = this.devices.length + 1;
    const device = new DmaDevice(id, fn, this.mode, this.inbound(bdf), domain);
    this.devices.push(device);
    this.byBdf.set(bdf, device);
    return device;
  }

  /**
   * The device with this id. Ids of other contexts are a broken invariant where they are unknown.
   */
  byId(id: InitiatorId): DmaDevice {
    const device = this.devices[id - 1];
    assert(device !== undefined, "an initiator id comes from this context");
    return device;
  }

  /** How many initiators there are: ids are 1 to this. */
  get initiatorCount(): number {
    return this.devices.length;
  }

  /** What each IOMMU group was asked for so far; empty unless the mode is strict. */
  domains(): DomainCounts[] {
    return [...this.byGroup].map(([group, iova]) => {
      const { domain, mappings, maps, unmaps, flushes, space } = iova;
      const iovaBytesUsed = space.used * PAGE_SIZE;
      return { group, domain, mappings, maps, unmaps, flushes, iovaBytesUsed };
    });
  }

  private attach(bdf: Bdf): IovaDomain | null {
    if (this.mode === "off") return null;
    const iommu = this.iommu();
    if (this.mode === "passthrough") {
      if (this.identityDomain < 0) this.identityDomain = iommu.createDomain("identity");
      iommu.attach(this.identityDomain, bdf);
      return null;
    }
    const group = iommu.groupOf(bdf);
    let domain = this.byGroup.get(group);
    if (domain === undefined) {
      const space = iovaSpace(reservedRanges(this.options.snapshot));
      domain = new IovaDomain(iommu, iommu.createDomain("translated"), space);
      this.byGroup.set(group, domain);
    }
    iommu.attach(domain.domain, bdf);
    return domain;
  }

  private iommu(): IommuControl {
    const { iommu } = this.machine;
    if (iommu !== null) return iommu;
    throw new PeerlaneError("no-iommu", `IOMMU mode ${this.mode} on a machine without an IOMMU`, {
      remedy: "use IOMMU mode off, or build the machine with an IOMMU",
    });
  }

  private inbound(bdf: Bdf): InboundRanges {
    const ranges = this.mode === "off" ? (this.options.inboundRanges?.(bdf) ?? []) : [];
    if (ranges.length === 0) return NO_RANGES;
    for (const { phys, bus, sizeBytes } of ranges) {
      if (phys % PAGE_SIZE === 0 && bus % PAGE_SIZE === 0 && sizeBytes > 0) continue;
      throw new PeerlaneError("bad-inbound-range", "an inbound range is not aligned to pages", {
        place: formatBdf(bdf),
        remedy: "give bases that are multiples of 4096",
        details: { phys, bus, sizeBytes },
      });
    }
    return Float64Array.from(ranges.flatMap(({ phys, bus, sizeBytes }) => [phys, bus, sizeBytes]));
  }

  inspect(): Tree {
    const devices = this.devices.map((device) => device.inspect());
    return { mode: this.mode, devices, domains: this.domains().map((domain) => ({ ...domain })) };
  }
}
