/**
 * A provider: a range of a function's memory BAR that peers may be given. It has no pages: a range
 * of physical addresses, the offset from them to bus addresses, and a pool.
 *
 * Life: alive -> dying (teardown asked for: unpublished, no new allocation or lease, leases
 * revoked) -> dead (no reference left, memory released). Teardown waits as long as somebody holds a
 * reference: that is the point of it; `inspect()` shows who.
 *
 * Invariants: bus = phys + busOffset for every byte (PCI: busOffset = busBase - physBase of the
 * host bridge's aperture); busOffset is a multiple of 4096, so both share the low 12 bits.
 */

import type { BackingFunction } from "../backing/interface.ts";
import {
  assert,
  type Bdf,
  type BusAddr,
  busAddr,
  formatBdf,
  hex,
  type Inspectable,
  PAGE_SIZE,
  PeerlaneError,
  type PhysAddr,
  physAddr,
  type Tree,
} from "../core/index.ts";
import { LivePool } from "./live-pool.hot.ts";

export interface ProviderRange {
  /** The function whose BAR it is. */
  readonly owner: Bdf;
  readonly bar: number;
  /** Of the range in its BAR. */
  readonly barOffset: number;
  readonly phys: PhysAddr;
  readonly bus: BusAddr;
  readonly sizeBytes: number;
}

export interface ProviderOptions {
  /** Smallest piece given out, a power of two from 512 B to 2 MiB. Default 4096. */
  readonly granularity?: number;
  /** Called when the last reference is gone: switch the memory off (CMBMSC = 0, BAR unmapped). */
  readonly release?: () => void | Promise<void>;
}

/** What a provider revokes when it is torn down. */
export interface Revocable extends Inspectable {
  revoke(reason: string): Promise<void>;
}

/** Where it is published; told when it goes. */
export interface Publisher {
  unpublish(provider: Provider): void;
}

export type ProviderState = "alive" | "dying" | "dead";

export class Provider extends LivePool implements Inspectable {
  readonly owner: Bdf;
  readonly bar: number;
  readonly barOffset: number;
  readonly phys: PhysAddr;
  readonly sizeBytes: number;
  /** bus = phys + busOffset. */
  readonly busOffset: number;
  private readonly release: () => void | Promise<void>;
  private readonly leases = new Set<Revocable>();
  private readonly publishers = new Set<Publisher>();
  private dead = false;
  private ending: Promise<void> | null = null;

  /** Throws `bad-provider-range` when the range is empty or not aligned to pages. */
  constructor(range: ProviderRange, options: ProviderOptions = {}) {
    super(range.sizeBytes, options.granularity ?? PAGE_SIZE);
    const { owner, bar, barOffset, phys, bus, sizeBytes } = range;
    if (phys % PAGE_SIZE !== 0 || bus % PAGE_SIZE !== 0) {
      throw new PeerlaneError("bad-provider-range", "peer memory does not start at a page", {
        place: `${formatBdf(owner)} BAR${bar}+${hex(barOffset)}`,
        remedy: "offer a range that starts at a multiple of 4096",
        details: { phys, bus, sizeBytes },
      });
    }
    this.owner = owner;
    this.bar = bar;
    this.barOffset = barOffset;
    this.phys = phys;
    this.sizeBytes = sizeBytes;
    this.busOffset = bus - phys;
    this.release = options.release ?? (() => undefined);
  }

  /**
   * A range of a function's BAR, by default all of it. Throws `bad-provider-range` when the BAR has
   * no address or the range leaves it.
   */
  static fromBar(
    fn: BackingFunction,
    bar: number,
    part: { readonly offset?: number; readonly sizeBytes?: number } = {},
    options: ProviderOptions = {},
  ): Provider {
    const address = fn.barAddress(bar);
    const place = `${formatBdf(fn.bdf)} BAR${bar}`;
    if (address === null) {
      throw new PeerlaneError("bad-provider-range", "this BAR is not memory, or has no address", {
        place,
        remedy: "name a memory BAR that the firmware or the kernel gave an address",
      });
    }
    const offset = part.offset ?? 0;
    const sizeBytes = part.sizeBytes ?? address.sizeBytes - offset;
    if (offset < 0 || sizeBytes <= 0 || offset + sizeBytes > address.sizeBytes) {
      throw new PeerlaneError("bad-provider-range", "the range leaves its BAR", {
        place,
        remedy: `stay within ${hex(address.sizeBytes)} bytes`,
        details: { offset, sizeBytes, barBytes: address.sizeBytes },
      });
    }
    const phys = physAddr(address.phys + offset);
    const bus = busAddr(address.bus + offset);
    return new Provider({ owner: fn.bdf, bar, barOffset: offset, phys, bus, sizeBytes }, options);
  }

  get state(): ProviderState {
    if (this.dead) return "dead";
    return this.alive ? "alive" : "dying";
  }

  /** Physical address of a byte of the range. */
  physAt(offset: number): PhysAddr {
    assert(offset >= 0 && offset <= this.sizeBytes, "an offset lies inside its provider");
    return physAddr(this.phys + offset);
  }

  /** Bus address of a byte of the range: phys plus (not minus) the bus offset. */
  busAt(offset: number): BusAddr {
    assert(offset >= 0 && offset <= this.sizeBytes, "an offset lies inside its provider");
    return busAddr(this.phys + offset + this.busOffset);
  }

  /** A lease takes a reference and is revoked at teardown. False when the provider is dying. */
  adopt(lease: Revocable): boolean {
    if (!this.get()) return false;
    this.leases.add(lease);
    return true;
  }

  /** The lease is over and its mappings are gone. */
  disown(lease: Revocable): void {
    assert(this.leases.delete(lease), "a lease leaves the provider it was opened on, once");
    this.put();
  }

  publishedBy(publisher: Publisher): void {
    this.publishers.add(publisher);
  }

  /**
   * Takes the memory away from everybody: unpublishes, refuses new allocations, revokes all leases,
   * waits until the last reference is gone, releases. The same promise for every caller. Pollers
   * must keep running for I/O in flight to drain.
   */
  teardown(reason = "provider removed"): Promise<void> {
    this.ending ??= this.end(reason);
    return this.ending;
  }

  private async end(reason: string): Promise<void> {
    for (const publisher of this.publishers) publisher.unpublish(this);
    this.publishers.clear();
    this.kill();
    await Promise.all([...this.leases].map((lease) => lease.revoke(reason)));
    await new Promise<void>((resolve) => this.whenDrained(resolve));
    await this.release();
    this.dead = true;
  }

  inspect(): Tree {
    return {
      owner: formatBdf(this.owner),
      bar: this.bar,
      barOffset: hex(this.barOffset),
      phys: hex(this.phys),
      busOffset: this.busOffset,
      sizeBytes: this.sizeBytes,
      granularity: this.pool.granularity,
      available: this.pool.available,
      state: this.state,
      published: this.publishers.size > 0,
      references: this.references,
      allocFailures: this.allocFailures,
      leases: [...this.leases].map((lease) => lease.inspect()),
    };
  }
}
