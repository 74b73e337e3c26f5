/**
 * Registering device memory with pages behind it, as Linux has done since 4.20
 * (pci_p2pdma_add_resource, memremap_pages): the range must be aligned, must fit the architecture's
 * linear map, and costs 64 bytes of host memory per 4 KiB, written one by one.
 *
 * Invariants: entries live until the last pin is gone, and the provider's teardown waits for that.
 * Leaves out: 64 KiB pages; page arrays inside the BAR (altmap; peer-to-peer does not use it).
 */

import type { HostRegion, MappedRegion } from "../../backing/interface.ts";
import {
  assert,
  formatBdf,
  formatBytes,
  hex,
  type Inspectable,
  PAGE_ENTRIES_BYTES_MAX,
  PAGE_SIZE,
  PeerlaneError,
  type PhysAddr,
  type Tree,
} from "../../core/index.ts";
import type { DmaContext } from "../../dma/index.ts";
import type { Provider, Revocable, RouteRules } from "../../p2p/index.ts";
import { PeerRoutes } from "../peer/peer-routes.hot.ts";
import {
  fitsLinearMap,
  type LinearMap,
  pageEntriesBytes,
  X86_64_LINEAR_MAP,
} from "./linear-map.ts";
import {
  PAGE_ENTRY_WORDS,
  PageEntries,
  PageFlag,
  PageWord,
  SubsectionTable,
} from "./page-entries.hot.ts";

export class PageRegistration extends PageEntries implements Revocable {
  readonly provider: Provider | null;
  /** Null for device memory: the CPU may only readX and writeX there. */
  readonly region: HostRegion | null;
  private readonly table: SubsectionTable;
  private mapped: MappedRegion | null = null;
  private ending: Promise<void> | null = null;

  /** Use {@link PageTable}. */
  constructor(
    table: SubsectionTable,
    range: { readonly phys: number; readonly sizeBytes: number },
    words: Uint32Array,
    routes: PeerRoutes | null,
    region: HostRegion | null,
  ) {
    super(range.phys, range.sizeBytes, routes, words);
    this.table = table;
    this.provider = routes?.provider ?? null;
    this.region = region;
  }

  /** Bytes of host memory that the entries take. */
  get entriesBytes(): number {
    return this.words.byteLength;
  }

  /** The CPU's way to device memory: single accesses (readl, writel), never a copy. */
  attachRegisters(mapped: MappedRegion): void {
    this.mapped = mapped;
  }

  /** Aligned 32-bit read of device memory at an offset of the range. */
  readl(offset: number): number {
    return this.registers().read32(this.inBar(offset));
  }

  writel(offset: number, value: number): void {
    this.registers().write32(this.inBar(offset), value);
  }

  private registers(): MappedRegion {
    assert(this.mapped !== null && !this.gone, "device memory is read through its mapped BAR");
    return this.mapped;
  }

  private inBar(offset: number): number {
    return offset + (this.provider?.barOffset ?? 0);
  }

  /**
   * Always throws `long-term-pin`: a pin without an end would keep the device from being removed,
   * so FOLL_LONGTERM is refused for peer memory (Linux 6.2).
   */
  pinLongTerm(): never {
    throw new PeerlaneError("long-term-pin", "peer memory cannot be pinned for long", {
      place: this.provider === null ? undefined : formatBdf(this.provider.owner),
      remedy: "pin per I/O, or lease the memory: a lease can be revoked",
    });
  }

  /** Waits until nothing is pinned, then drops the entries. New pins fail at once. */
  revoke(_reason: string): Promise<void> {
    this.ending ??= this.finish();
    return this.ending;
  }

  private async finish(): Promise<void> {
    this.dying = true;
    await new Promise<void>((resolve) => this.whenUnpinned(resolve));
    this.table.remove(this);
    this.drop();
    this.provider?.disown(this);
  }

  inspect(): Tree {
    return {
      phys: hex(this.phys),
      sizeBytes: this.sizeBytes,
      entriesBytes: this.entriesBytes,
      pinned: this.pinned,
      state: this.gone ? "gone" : this.dying ? "dying" : "live",
    };
  }
}

export class PageTable implements Inspectable {
  readonly context: DmaContext;
  readonly table = new SubsectionTable();
  readonly linearMap: LinearMap;
  private readonly rules: RouteRules;
  private readonly registrations = new Set<PageRegistration>();

  constructor(context: DmaContext, rules: RouteRules, linearMap = X86_64_LINEAR_MAP) {
    this.context = context;
    this.rules = rules;
    this.linearMap = linearMap;
  }

  /**
   * Makes pages for a provider's memory. Throws
   * - `page-alignment`: start or length are no multiples of the architecture's alignment;
   * - `linear-map`: the range does not fit the architecture's linear map;
   * - `page-overlap`: some of it has pages already;
   * - `page-entries`: the entries need more host memory than there may be;
   * - `provider-dying`: it is being torn down.
   */
  register(provider: Provider): PageRegistration {
    const place = formatBdf(provider.owner);
    const { phys, sizeBytes } = provider;
    this.check(phys, sizeBytes, place);
    const routes = new PeerRoutes(provider, this.context, this.rules);
    const words = this.allocate(sizeBytes, place);
    const registration = new PageRegistration(this.table, provider, words, routes, null);
    if (!provider.adopt(registration)) {
      throw new PeerlaneError("provider-dying", "the provider is being torn down", {
        place,
        remedy: "choose another provider",
      });
    }
    this.install(registration, PageFlag.present | PageFlag.peer);
    return registration;
  }

  /** Pages of host memory, without the flag. Throws as {@link register} does. */
  registerRam(region: HostRegion): PageRegistration {
    const range = { phys: region.phys, sizeBytes: region.bytes.length };
    this.check(region.phys, range.sizeBytes, "host memory");
    const words = this.allocate(range.sizeBytes, "host memory");
    const registration = new PageRegistration(this.table, range, words, null, region);
    this.install(registration, PageFlag.present);
    return registration;
  }

  /** Bytes of all entries. */
  get entriesBytes(): number {
    let sum = 0;
    for (const { entriesBytes } of this.registrations) sum += entriesBytes;
    return sum;
  }

  private check(phys: PhysAddr, sizeBytes: number, place: string): void {
    const { alignment, name } = this.linearMap;
    const details = { phys, sizeBytes, alignment, linearMap: name };
    if (phys % alignment !== 0 || sizeBytes % alignment !== 0) {
      throw new PeerlaneError("page-alignment", "start or length of the range is not aligned", {
        place,
        remedy: `pages need multiples of ${formatBytes(alignment)}; page-less memory does not`,
        details,
      });
    }
    if (!fitsLinearMap(this.linearMap, phys, sizeBytes)) {
      throw new PeerlaneError("linear-map", `the range is outside the linear map of ${name}`, {
        place,
        remedy: "move the BAR below the map's end, or use memory without pages",
        details,
      });
    }
    if (this.table.isFree(phys, sizeBytes)) return;
    throw new PeerlaneError("page-overlap", "part of the range has pages already", {
      place,
      remedy: "register each range once",
      details,
    });
  }

  private allocate(sizeBytes: number, place: string): Uint32Array {
    const bytes = pageEntriesBytes(sizeBytes);
    if (this.entriesBytes + bytes > PAGE_ENTRIES_BYTES_MAX) {
      throw new PeerlaneError(
        "page-entries",
        `its pages need ${formatBytes(bytes)} of host memory`,
        {
          place,
          remedy: `at most ${formatBytes(PAGE_ENTRIES_BYTES_MAX)}; page-less memory needs none`,
          details: { bytes, inUse: this.entriesBytes },
        },
      );
    }
    return new Uint32Array(new ArrayBuffer(bytes));
  }

  private install(registration: PageRegistration, flags: number): void {
    const slot = this.table.add(registration);
    const { words, sizeBytes } = registration;
    const count = sizeBytes / PAGE_SIZE;
    for (let i = 0, at = 0; i < count; i++, at += PAGE_ENTRY_WORDS) {
      words[at + PageWord.flags] = flags;
      words[at + PageWord.references] = 0;
      words[at + PageWord.slot] = slot;
      words[at + PageWord.index] = i;
    }
    for (const known of this.registrations) if (known.gone) this.registrations.delete(known);
    this.registrations.add(registration);
  }

  inspect(): Tree {
    return {
      linearMap: this.linearMap.name,
      entriesBytes: this.entriesBytes,
      registrations: [...this.registrations].map((registration) => registration.inspect()),
    };
  }
}
