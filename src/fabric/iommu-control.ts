/**
 * The IOMMU as software drives it: groups, domains, mappings, invalidation, the fault log. What
 * happens per request is in iommu.hot.ts.
 *
 * Invariants: a domain is attached to whole groups; unmapping does not invalidate what is cached;
 * only `flush` does. In mode `strict` every function starts in a domain that maps nothing.
 */

import type { IommuControl, IommuDomainId, IommuProtection } from "../backing/interface.ts";
import {
  type Bdf,
  formatBdf,
  PAGE_SIZE,
  PeerlaneError,
  type PhysAddr,
  type Tree,
} from "../core/index.ts";
import type { Tracer } from "../trace/index.ts";
import { IoDomain, Iommu, type IommuFault, type MissListener } from "./iommu.hot.ts";
import { iommuGroups } from "./iommu-groups.ts";
import type { FabricNode } from "./node.ts";

export class FabricIommu implements IommuControl {
  readonly hot: Iommu;
  private readonly nodes: readonly FabricNode[];
  private readonly groups: Map<Bdf, number>;
  private readonly domains = new Map<IommuDomainId, IoDomain>();
  private readonly changed: () => void;
  private nextId = 1;
  private missListener: MissListener | null = null;

  /** `changed` is called when the way of requests through the IOMMU changes. */
  constructor(
    nodes: readonly FabricNode[],
    mode: "passthrough" | "strict",
    tracer: Tracer,
    changed: () => void,
  ) {
    this.nodes = nodes;
    this.groups = iommuGroups(nodes);
    this.changed = changed;
    this.hot = new Iommu(new IoDomain(0, mode === "passthrough"), tracer);
  }

  groupOf(bdf: Bdf): number {
    const group = this.groups.get(bdf);
    if (group !== undefined) return group;
    throw new PeerlaneError("no-such-function", `the IOMMU knows no function ${formatBdf(bdf)}`);
  }

  /** The functions of a group. */
  groupMembers(group: number): Bdf[] {
    return this.nodes.map(({ bdf }) => bdf).filter((bdf) => this.groups.get(bdf) === group);
  }

  createDomain(kind: "identity" | "translated"): IommuDomainId {
    const id = this.nextId++;
    const domain = new IoDomain(id, kind === "identity");
    domain.missListener = this.missListener;
    this.domains.set(id, domain);
    return id;
  }

  /** Timed mode: `listener` hears of every translation that is not cached. */
  listenForMisses(listener: MissListener): void {
    this.missListener = listener;
    for (const domain of this.domains.values()) domain.missListener = listener;
  }

  destroyDomain(id: IommuDomainId): void {
    const domain = this.domainFor(id);
    this.hot.detachAll(domain);
    this.domains.delete(id);
    this.changed();
  }

  attach(id: IommuDomainId, bdf: Bdf): void {
    const domain = this.domainFor(id);
    for (const member of this.groupMembers(this.groupOf(bdf))) this.hot.attach(member, domain);
    this.changed();
  }

  map(
    id: IommuDomainId,
    iova: number,
    phys: PhysAddr,
    length: number,
    { read, write }: IommuProtection,
  ): void {
    const domain = this.domainFor(id);
    checkPages(iova, length);
    checkPages(phys, length);
    if (domain.isIdentity) {
      throw new PeerlaneError("identity-domain", "an identity domain has no page tables", {
        remedy: "create a translated domain",
      });
    }
    const page = iova / PAGE_SIZE;
    const target = phys / PAGE_SIZE;
    const pages = length / PAGE_SIZE;
    const taken = domain.firstMapped(page, pages);
    if (taken >= 0) {
      throw new PeerlaneError("iova-busy", "a page of this IOVA range is mapped already", {
        details: { domain: id, iova: taken * PAGE_SIZE },
        remedy: "unmap it first, or allocate another range",
      });
    }
    domain.mapPages(page, target, pages, read, write);
  }

  unmap(id: IommuDomainId, iova: number, length: number): void {
    const domain = this.domainFor(id);
    checkPages(iova, length);
    domain.unmapPages(iova / PAGE_SIZE, length / PAGE_SIZE);
  }

  flush(id: IommuDomainId): void {
    this.domainFor(id).flush();
  }

  /** The kept faults, oldest first, and how many there ever were. */
  faults(): { readonly total: number; readonly kept: IommuFault[] } {
    return { total: this.hot.faultCount, kept: this.hot.faults() };
  }

  inspect(): Tree {
    return {
      initialDomain: this.hot.initial.isIdentity ? "identity" : "blocked",
      groups: new Set(this.groups.values()).size,
      domains: [...this.domains.values()].map((domain) => ({
        id: domain.id,
        kind: domain.isIdentity ? "identity" : "translated",
        mappedPages: domain.mappedPages,
        hits: domain.hits,
        misses: domain.misses,
        functions: this.nodes
          .filter((node) => this.hot.domainOf(node) === domain)
          .map(({ bdf }) => formatBdf(bdf)),
      })),
      faults: this.hot.faultCount,
    };
  }

  private domainFor(id: IommuDomainId): IoDomain {
    const domain = this.domains.get(id);
    if (domain !== undefined) return domain;
    throw new PeerlaneError("no-such-domain", `there is no IOMMU domain ${id}`, {
      remedy: "create it first; a destroyed domain's number is not used again",
    });
  }
}

function checkPages(address: number, length: number): void {
  const isGood =
    address >= 0 && address % PAGE_SIZE === 0 && length > 0 && length % PAGE_SIZE === 0;
  if (isGood) return;
  throw new PeerlaneError("iova-alignment", "the IOMMU maps whole pages", {
    details: { address, length },
    remedy: "round the range out to multiples of 4096",
  });
}
