/**
 * The IOMMU per request: domains with page tables, and the translations that it has cached (IOTLB).
 *
 * Invariants: a cached translation hits until the domain is flushed, also when the page was
 * unmapped or mapped elsewhere meanwhile, as on hardware; faults are never cached; a request of a
 * function whose domain maps nothing faults.
 *
 * Left out: huge pages in the tables (the cache joins nothing either; ports join pages into runs),
 * PASIDs, page requests. Interrupt remapping lets every message pass.
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
    return this.table.size;
  }

  isMapped(page: number): boolean {
    return this.table.has(page);
  }

  mapPage(page: number, physPage: number, read: boolean, write: boolean): void {
    this.table.set(page, physPage * PACK + (read ? READ : 0) + (write ? WRITE : 0));
  }

  unmapPage(page: number): boolean {
    return this.table.delete(page);
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
      const found = this.table.get(page);
      if (found === undefined) return FaultReason.notMapped;
      entry = found;
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
    const entry = this.table.get(page);
    return entry === undefined ? FaultReason.notMapped : checkRights(entry, direction);
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
