/**
 * What there is at a physical address: RAM, or the memory of a provider. The control-plane half of
 * the description `phys`: registering a provider adds a line to two range indexes, and nothing per
 * page.
 *
 * Invariants: a range that was removed stays as a tombstone, so that its address is refused as
 * `revoked` and is never taken for RAM; registered again it gets a new slot.
 * Leaves out, as Linux does: references. Removing a provider waits for nobody (see phys-memory).
 */

import {
  formatBdf,
  hex,
  type Inspectable,
  PeerlaneError,
  type PhysAddr,
  type Tree,
} from "../../core/index.ts";
import type { DmaContext } from "../../dma/index.ts";
import type { Provider, RouteRules } from "../../p2p/index.ts";
import { PeerRoutes } from "../peer/peer-routes.hot.ts";
import { RangeIndex } from "./range-index.hot.ts";

export class PhysMap implements Inspectable {
  readonly context: DmaContext;
  /** By physical address. */
  readonly byPhys = new RangeIndex();
  /** By bus address: tells an unmap that there is nothing to give back. */
  readonly byBus = new RangeIndex();
  /** By slot; null: RAM. */
  readonly routes: (PeerRoutes | null)[] = [];
  /** By slot. */
  readonly live: boolean[] = [];
  private readonly rules: RouteRules;

  constructor(context: DmaContext, rules: RouteRules) {
    this.context = context;
    this.rules = rules;
  }

  /** Throws `range-overlap`, and `no-such-function` when the rules do not know the owner. */
  addProvider(provider: Provider): void {
    const { phys, sizeBytes, owner } = provider;
    const place = formatBdf(owner);
    const routes = new PeerRoutes(provider, this.context, this.rules);
    this.forget(phys, provider.busAt(0));
    this.add(phys, sizeBytes, routes, place);
    if (this.byBus.add(provider.busAt(0), sizeBytes, this.routes.length - 1)) return;
    this.byPhys.remove(phys);
    throw overlap(place, provider.busAt(0), sizeBytes);
  }

  /** Host memory at [phys, phys + sizeBytes). Throws `range-overlap`. */
  addRam(phys: PhysAddr, sizeBytes: number): void {
    this.add(phys, sizeBytes, null, "host memory");
  }

  /** From now on its addresses are refused. What is in flight is not waited for. */
  removeProvider(provider: Provider): void {
    this.routes.forEach((routes, slot) => {
      if (routes?.provider === provider) this.live[slot] = false;
    });
  }

  /** Bytes of its arrays. */
  get sizeBytes(): number {
    return this.byPhys.sizeBytes + this.byBus.sizeBytes;
  }

  private add(phys: number, length: number, routes: PeerRoutes | null, place: string): void {
    if (!this.byPhys.add(phys, length, this.routes.length)) throw overlap(place, phys, length);
    this.routes.push(routes);
    this.live.push(true);
  }

  /** Makes room for a provider that comes again where one was. */
  private forget(phys: number, bus: number): void {
    const slot = this.byPhys.find(phys, 1);
    if (slot < 0 || this.live[slot] || this.routes[slot]?.provider.phys !== phys) return;
    this.byPhys.remove(phys);
    this.byBus.remove(bus);
  }

  inspect(): Tree {
    return {
      ranges: this.routes.map((routes, slot) => ({
        kind: routes === null ? "ram" : "provider",
        owner: routes === null ? null : formatBdf(routes.provider.owner),
        phys: routes === null ? null : hex(routes.provider.phys),
        live: this.live[slot],
      })),
    };
  }
}

function overlap(place: string, start: number, length: number): PeerlaneError {
  return new PeerlaneError("range-overlap", "two ranges of memory claim the same address", {
    place,
    remedy: "remove the one that is there first; a range is registered once",
    details: { start, length },
  });
}
