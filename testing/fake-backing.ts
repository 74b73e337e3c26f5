/**
 * A backing machine for tests of the rooms below the fabric: RAM, BARs as arrays, an IOMMU as a
 * map. No topology: an address that is a BAR's bus address reaches that BAR, everything else goes
 * to the IOMMU and from there to RAM or to the BAR at that physical address, as through a host
 * bridge.
 *
 * `dmaWrite` and `dmaRead` act as the initiator's hardware would; they throw where it would see an
 * error, with `unsupported-request` or `iommu-fault` as the code.
 */

import type {
  BackingFunction,
  BackingMachine,
  BarAddress,
  HostRegion,
  IommuControl,
  IommuProtection,
  MappedRegion,
} from "../src/backing/interface.ts";
import {
  alignUp,
  assert,
  type Bdf,
  busAddr,
  formatBdf,
  PAGE_SIZE,
  PeerlaneError,
  type PhysAddr,
  physAddr,
  type Tree,
} from "../src/core/index.ts";
import type { Machine } from "../src/machine/index.ts";

interface Translation {
  readonly phys: number;
  readonly protection: IommuProtection;
}

/** Page tables as maps; counts what was asked of it. */
export class FakeIommu implements IommuControl {
  maps = 0;
  unmaps = 0;
  flushes = 0;
  private readonly groups: (bdf: Bdf) => number;
  private readonly tables: (Map<number, Translation> | null)[] = [];
  private readonly attached = new Map<Bdf, number>();

  constructor(groups: (bdf: Bdf) => number) {
    this.groups = groups;
  }

  groupOf(bdf: Bdf): number {
    return this.groups(bdf);
  }

  createDomain(kind: "identity" | "translated"): number {
    return this.tables.push(kind === "identity" ? null : new Map()) - 1;
  }

  destroyDomain(domain: number): void {
    this.tables[domain] = new Map();
  }

  attach(domain: number, bdf: Bdf): void {
    this.attached.set(bdf, domain);
  }

  map(
    domain: number,
    iova: number,
    phys: PhysAddr,
    length: number,
    protection: IommuProtection,
  ): void {
    const table = this.table(domain);
    for (let at = 0; at < length; at += PAGE_SIZE) {
      assert(!table.has(iova + at), "an IOVA is mapped once");
      table.set(iova + at, { phys: phys + at, protection });
    }
    this.maps++;
  }

  unmap(domain: number, iova: number, length: number): void {
    const table = this.table(domain);
    for (let at = 0; at < length; at += PAGE_SIZE) {
      assert(table.delete(iova + at), "what is unmapped was mapped");
    }
    this.unmaps++;
  }

  flush(_domain: number): void {
    this.flushes++;
  }

  /** Pages mapped in all domains. */
  get pages(): number {
    return this.tables.reduce((sum, table) => sum + (table?.size ?? 0), 0);
  }

  translate(bdf: Bdf, address: number, write: boolean): number {
    const domain = this.attached.get(bdf);
    const table = domain === undefined ? null : (this.tables[domain] ?? null);
    if (table === null) return address;
    const inPage = address % PAGE_SIZE;
    const entry = table.get(address - inPage);
    const { read: r, write: w } = entry?.protection ?? { read: false, write: false };
    if (entry === undefined || !(write ? w : r)) {
      throw new PeerlaneError("iommu-fault", `${formatBdf(bdf)} ${address.toString(16)}`);
    }
    return entry.phys + inPage;
  }

  inspect(): Tree {
    return { pages: this.pages };
  }

  private table(domain: number): Map<number, Translation> {
    const table = this.tables[domain];
    assert(table !== null && table !== undefined, "a translated domain has a table");
    return table;
  }
}

interface FakeBar extends BarAddress {
  readonly owner: Bdf;
  readonly bytes: Uint8Array;
}

export class FakeBacking implements BackingMachine {
  readonly clock = { nowNs: (): number => 0, sleep: async (): Promise<void> => undefined };
  readonly iommu: FakeIommu | null;
  readonly bars: FakeBar[] = [];
  private readonly snapshot: Machine;
  private readonly ram: HostRegion[] = [];
  private nextPhys = 0x100_0000;

  constructor(snapshot: Machine, options: { readonly iommu: boolean }) {
    this.snapshot = snapshot;
    const groups = (bdf: Bdf): number =>
      snapshot.functions.find((fn) => fn.bdf === bdf)?.iommuGroup ?? bdf;
    this.iommu = options.iommu ? new FakeIommu(groups) : null;
    for (const fn of snapshot.functions) {
      for (const { index, address, sizeBytes, kind } of fn.bars) {
        if (kind === "io" || sizeBytes === null || address === 0) continue;
        const phys = physAddr(address - this.busOffset(fn.bdf, address));
        this.bars.push({
          owner: fn.bdf,
          index,
          phys,
          bus: busAddr(address),
          sizeBytes,
          prefetchable: true,
          bytes: new Uint8Array(sizeBytes),
        });
      }
    }
  }

  private busOffset(bdf: Bdf, bus: number): number {
    const domain = Math.floor(bdf / 65536);
    for (const bridge of this.snapshot.hostBridges.filter((b) => b.domain === domain)) {
      for (const aperture of bridge.apertures) {
        if (bus >= aperture.bus && bus < aperture.bus + aperture.sizeBytes) {
          return aperture.bus - aperture.phys;
        }
      }
    }
    return 0;
  }

  open(bdf: Bdf): BackingFunction {
    return new FakeFunction(this, bdf);
  }

  allocateHost(sizeBytes: number, alignment = PAGE_SIZE): HostRegion {
    const phys = alignUp(this.nextPhys, alignment);
    this.nextPhys = phys + alignUp(sizeBytes, PAGE_SIZE);
    const region = { phys: physAddr(phys), bytes: new Uint8Array(sizeBytes) };
    this.ram.push(region);
    return region;
  }

  freeHost(region: HostRegion): void {
    const at = this.ram.indexOf(region);
    assert(at >= 0, "host memory is freed once");
    this.ram.splice(at, 1);
  }

  /** Regions that were not freed. */
  get regions(): number {
    return this.ram.length;
  }

  poll(): number {
    return 0;
  }

  inspect(): Tree {
    return { regions: this.ram.length };
  }

  dmaWrite(bdf: Bdf, address: number, source: Uint8Array): void {
    for (let i = 0; i < source.length; i++) {
      const [bytes, at] = this.resolve(bdf, address + i, true);
      bytes[at] = source[i] as number;
    }
  }

  dmaRead(bdf: Bdf, address: number, length: number): Uint8Array {
    return Uint8Array.from({ length }, (_, i) => {
      const [bytes, at] = this.resolve(bdf, address + i, false);
      return bytes[at] as number;
    });
  }

  private resolve(bdf: Bdf, address: number, write: boolean): [Uint8Array, number] {
    const peer = this.bars.find(
      ({ bus, sizeBytes }) => address >= bus && address < bus + sizeBytes,
    );
    if (peer !== undefined) return [peer.bytes, address - peer.bus];
    const phys = this.iommu === null ? address : this.iommu.translate(bdf, address, write);
    for (const { phys: base, bytes } of [...this.ram, ...this.bars]) {
      if (phys >= base && phys < base + bytes.length) return [bytes, phys - base];
    }
    throw new PeerlaneError("unsupported-request", `${formatBdf(bdf)} ${address.toString(16)}`);
  }
}

class FakeFunction implements BackingFunction {
  readonly bdf: Bdf;
  readonly machine: FakeBacking;
  readonly config = {
    read8: (): number => 0xff,
    read16: (): number => 0xffff,
    read32: (): number => 0xffffffff,
    write8: (): void => undefined,
    write16: (): void => undefined,
    write32: (): void => undefined,
  };

  constructor(machine: FakeBacking, bdf: Bdf) {
    this.machine = machine;
    this.bdf = bdf;
  }

  barAddress(index: number): BarAddress | null {
    const { bars } = this.machine;
    return bars.find((bar) => bar.owner === this.bdf && bar.index === index) ?? null;
  }

  mapBar(_index: number): MappedRegion {
    throw new PeerlaneError("no-bar", "the fake maps no BARs");
  }

  enableInterrupts(): void {
    throw new PeerlaneError("no-interrupts", "the fake has no interrupts");
  }

  disableInterrupts(): void {
    // There are none.
  }

  async reset(): Promise<void> {
    // Nothing has state.
  }

  inspect(): Tree {
    return { bdf: formatBdf(this.bdf) };
  }
}
