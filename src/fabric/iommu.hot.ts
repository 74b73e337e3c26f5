/**
 * The IOMMU per request: domains with page tables, and the translations that it has cached (IOTLB).
 *
 * Invariants: a cached translation hits until the domain is flushed, also when the page was
 * unmapped or mapped elsewhere meanwhile, as on hardware; faults are never cached; a request of a
 * function whose domain maps nothing faults.
 *
 * Left out: PASIDs, page requests. Interrupt remapping lets every message pass. The cache holds 4
 * KiB pages only; ports join pages into runs.
 */

import { assert, type Bdf, DmaStatus, IOMMU_FAULT_LOG_ENTRIES } from "../core/index.ts";
import { Event, type Tracer } from "../trace/index.ts";
import type { FabricNode } from "./node.ts";
import { DmaDirection } from "./route.ts";

/** Why a translation failed; negative results of {@link IoDomain.translate}. */
export const FaultReason = { notMapped: -1, noRead: -2, noWrite: -3 } as const;

export const FAULT_REASON_NAMES: readonly string[] = ["", "not mapped", "no read", "no write"];

const READ = 1;
const WRITE = 2;
const PACK = 4;
/** Pages of a 2 MiB entry. */
const LARGE_PAGES = 512;
const LARGE_MASK = LARGE_PAGES - 1;
/** Pages whose translations a domain caches: direct-mapped by the low bits of the page number. */
const TLB_SLOTS = 1024;

/** Told when a translation has to be walked for. */
export interface MissListener {
  translationMissed(): void;
}

export class IoDomain {
  readonly id: number;
  readonly isIdentity: boolean;
  hits = 0;
  misses = 0;
  /** Page of IOVA to physical page times 4 plus permissions. */
  private readonly table = new Map<number, number>();
  /**
   * The same for runs of 2 MiB, by page divided by 512: device memory is mapped by the gigabyte.
   */
  private readonly largeTable = new Map<number, number>();
  private readonly tlbPages = new Float64Array(TLB_SLOTS).fill(-1);
  private readonly tlbEntries = new Float64Array(TLB_SLOTS);
  private readonly tlbGenerations = new Float64Array(TLB_SLOTS);
  private generation = 1;
  /** Charged with the time of a table walk in timed mode; null in functional mode. */
  missListener: MissListener | null = null;

  constructor(id: number, isIdentity: boolean) {
    this.id = id;
    this.isIdentity = isIdentity;
  }

  get mappedPages(): number {
    return this.table.size + this.largeTable.size * LARGE_PAGES;
  }

  /** First page of [page, page + pages) that is mapped; -1 when none is. */
  firstMapped(page: number, pages: number): number {
    const end = page + pages;
    let first = end;
    // Device memory is mapped by the million pages: then the tables are shorter than the range.
    if (this.table.size < pages) {
      for (const at of this.table.keys()) if (at >= page && at < first) first = at;
    } else {
      for (let at = page; at < first; at++) if (this.table.has(at)) first = at;
    }
    for (let at = page - (page & LARGE_MASK); at < first; at += LARGE_PAGES) {
      if (this.largeTable.has(at / LARGE_PAGES)) first = Math.max(at, page);
    }
    return first === end ? -1 : first;
  }

  /** Maps pages that are not mapped. Where both sides are aligned, 2 MiB at a time. */
  mapPages(page: number, physPage: number, pages: number, read: boolean, write: boolean): void {
    const rights = (read ? READ : 0) + (write ? WRITE : 0);
    for (let done = 0; done < pages; ) {
      const from = page + done;
      const to = physPage + done;
      const isLarge = from % LARGE_PAGES === 0 && to % LARGE_PAGES === 0;
      if (isLarge && pages - done >= LARGE_PAGES) {
        this.largeTable.set(from / LARGE_PAGES, to * PACK + rights);
        done += LARGE_PAGES;
      } else {
        this.table.set(from, to * PACK + rights);
        done++;
      }
    }
  }

  /** Unmaps what of [page, page + pages) is mapped; a 2 MiB entry that it cuts is split first. */
  unmapPages(page: number, pages: number): void {
    const end = page + pages;
    for (let at = page - (page & LARGE_MASK); at < end; at += LARGE_PAGES) {
      const entry = this.largeTable.get(at / LARGE_PAGES);
      if (entry === undefined) continue;
      this.largeTable.delete(at / LARGE_PAGES);
      if (at >= page && at + LARGE_PAGES <= end) continue;
      for (let i = 0; i < LARGE_PAGES; i++) this.table.set(at + i, entry + i * PACK);
    }
    if (this.table.size < pages) {
      for (const at of this.table.keys()) if (at >= page && at < end) this.table.delete(at);
    } else {
      for (let at = page; at < end; at++) this.table.delete(at);
    }
  }

  /** Entry of a page in the tables, or -1. */
  private walk(page: number): number {
    const small = this.table.get(page);
    if (small !== undefined) return small;
    const large = this.largeTable.get(Math.floor(page / LARGE_PAGES));
    return large === undefined ? -1 : large + (page & LARGE_MASK) * PACK;
  }

  /** Forgets every cached translation. */
  flush(): void {
    this.generation++;
  }

  /** Physical address of the page, or a negative {@link FaultReason}. */
  translate(page: number, direction: DmaDirection): number {
    if (this.isIdentity) return page * 4096;
    const slot = page & (TLB_SLOTS - 1);
    let entry: number;
    if (this.tlbPages[slot] === page && this.tlbGenerations[slot] === this.generation) {
      this.hits++;
      entry = this.tlbEntries[slot];
    } else {
      this.misses++;
      if (this.missListener !== null) this.missListener.translationMissed();
      entry = this.walk(page);
      if (entry < 0) return FaultReason.notMapped;
      this.tlbPages[slot] = page;
      this.tlbEntries[slot] = entry;
      this.tlbGenerations[slot] = this.generation;
    }
    return checkRights(entry, direction);
  }

  /** What {@link translate} would answer, without counting or caching. */
  lookUp(page: number, direction: DmaDirection): number {
    if (this.isIdentity) return page * 4096;
    const slot = page & (TLB_SLOTS - 1);
    if (this.tlbPages[slot] === page && this.tlbGenerations[slot] === this.generation) {
      return checkRights(this.tlbEntries[slot] as number, direction);
    }
    const entry = this.walk(page);
    return entry < 0 ? FaultReason.notMapped : checkRights(entry, direction);
  }
}

function checkRights(entry: number, direction: DmaDirection): number {
  const rights = entry & (PACK - 1);
  if (direction === DmaDirection.read) {
    if ((rights & READ) === 0) return FaultReason.noRead;
  } else if ((rights & WRITE) === 0) return FaultReason.noWrite;
  return ((entry - rights) / PACK) * 4096;
}

/** One fault, as the fault log has it. */
export interface IommuFault {
  readonly requester: Bdf;
  readonly domain: number;
  readonly address: number;
  readonly direction: "read" | "write";
  readonly reason: string;
}

/** Which domain each function is attached to, and the fault log. */
export class Iommu {
  /** What functions have before anybody attaches them. */
  readonly initial: IoDomain;
  faultCount = 0;
  private readonly attached = new Map<Bdf, IoDomain>();
  private lastNode: FabricNode | null = null;
  private lastDomain: IoDomain;
  private readonly tracer: Tracer;
  private readonly faultWords = new Float64Array(IOMMU_FAULT_LOG_ENTRIES * 5);

  constructor(initial: IoDomain, tracer: Tracer) {
    this.initial = initial;
    this.lastDomain = initial;
    this.tracer = tracer;
  }

  domainOf(node: FabricNode): IoDomain {
    if (node === this.lastNode) return this.lastDomain;
    this.lastNode = node;
    this.lastDomain = this.attached.get(node.bdf) ?? this.initial;
    return this.lastDomain;
  }

  attach(bdf: Bdf, domain: IoDomain): void {
    this.attached.set(bdf, domain);
    this.lastNode = null;
  }

  /** Every function of `domain` goes back to the initial one. */
  detachAll(domain: IoDomain): void {
    for (const [bdf, current] of this.attached) {
      if (current === domain) this.attached.delete(bdf);
    }
    this.lastNode = null;
  }

  fault(
    node: FabricNode,
    domain: IoDomain,
    address: number,
    direction: DmaDirection,
    reason: number,
  ): number {
    assert(reason < 0, "a fault has a reason");
    const at = (this.faultCount % IOMMU_FAULT_LOG_ENTRIES) * 5;
    this.faultWords[at] = node.bdf;
    this.faultWords[at + 1] = domain.id;
    this.faultWords[at + 2] = address;
    this.faultWords[at + 3] = direction;
    this.faultWords[at + 4] = -reason;
    this.faultCount++;
    if (this.tracer.on) {
      this.tracer.emit(Event.iommuFault, node.bdf, address, direction, -reason);
    }
    return DmaStatus.iommuFault;
  }

  /** The kept faults, oldest first. */
  faults(): IommuFault[] {
    const kept = Math.min(this.faultCount, IOMMU_FAULT_LOG_ENTRIES);
    const log: IommuFault[] = [];
    for (let i = this.faultCount - kept; i < this.faultCount; i++) {
      const at = (i % IOMMU_FAULT_LOG_ENTRIES) * 5;
      log.push({
        requester: this.faultWords[at] as Bdf,
        domain: this.faultWords[at + 1] as number,
        address: this.faultWords[at + 2] as number,
        direction: this.faultWords[at + 3] === DmaDirection.read ? "read" : "write",
        reason: FAULT_REASON_NAMES[this.faultWords[at + 4] as number] as string,
      });
    }
    return log;
  }
}
