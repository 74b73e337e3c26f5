/**
 * A lease: the right of given initiators to a range of a provider, with the route and the DMA
 * address of each, decided once when it is opened. It is what a vector names instead of a bare DMA
 * address.
 *
 * - BUS_ADDR: the initiator's base is the bus address.
 * - THRU_HOST_BRIDGE: the base is an IOVA mapped with MMIO protection for that initiator, or the
 *   physical address where nothing translates.
 * - NOT_SUPPORTED: the lease is not opened; the error carries the verdict.
 *
 * Revoking (or closing) it: new I/O fails with the status `revoked`; holders are told, so that they
 * can abort; I/O in flight is waited for; then mappings go; then the provider's reference.
 *
 * Leaves out: leases across machines; adding initiators to an open lease (open another).
 */

import {
  assert,
  formatBdf,
  hex,
  type Inspectable,
  PAGE_SIZE,
  PeerlaneError,
  type Tree,
} from "../core/index.ts";
import { Direction, type DmaDevice, type InitiatorId, MAP_STATUS_NAMES } from "../dma/index.ts";
import { LeaseState } from "./lease.hot.ts";
import type { Provider } from "./provider.ts";
import type { Route, RouteRules, Verdict } from "./rules/types.ts";

export interface LeaseRange {
  /** From the start of the provider, a multiple of 4096. */
  readonly offset: number;
  readonly length: number;
}

export interface LeaseRequest {
  readonly provider: Provider;
  /** Functions that may use it, all of one DMA context. */
  readonly initiators: readonly DmaDevice[];
  readonly rules: RouteRules;
  /** Left out: the whole provider, and then the lease allocates from the provider's pool. */
  readonly range?: LeaseRange;
}

/** One initiator's part in a lease. */
export interface LeaseRoute {
  readonly device: DmaDevice;
  readonly verdict: Verdict;
  readonly route: Route;
  /** DMA address of the lease's first byte for this initiator. */
  readonly base: number;
  /** True when `base` was mapped and must be unmapped. */
  readonly mapped: boolean;
}

export class Lease extends LeaseState implements Inspectable {
  readonly provider: Provider;
  /** From the start of the provider. */
  readonly offset: number;
  readonly routes: readonly LeaseRoute[];
  private readonly listeners: ((reason: string) => void)[] = [];
  private reason: string | null = null;
  private ending: Promise<void> | null = null;

  /** Use {@link openLease}. */
  constructor(provider: Provider, range: LeaseRange, routes: readonly LeaseRoute[]) {
    super(provider, range.length, Math.max(...routes.map(({ device }) => device.id)));
    this.provider = provider;
    this.offset = range.offset;
    this.routes = routes;
    for (const { device, base } of routes) this.bases[device.id] = base;
  }

  /** The route of an initiator; `none` for one that the lease was not opened for. */
  routeOf(initiator: InitiatorId): Route {
    return this.routes.find(({ device }) => device.id === initiator)?.route ?? "none";
  }

  /** Why it was revoked; null while it is live. */
  get revokeReason(): string | null {
    return this.reason;
  }

  /** Called when the lease is revoked, before it waits: abort or cut short what is in flight. */
  onRevoke(listener: (reason: string) => void): void {
    this.listeners.push(listener);
  }

  /**
   * Ends the lease. Resolves when nothing is in flight, the mappings are gone and the provider's
   * reference is back. The same promise for every caller; the first reason counts.
   */
  revoke(reason: string): Promise<void> {
    this.ending ??= this.finish(reason);
    return this.ending;
  }

  /** Ends it because its holder no longer needs it. */
  close(): Promise<void> {
    return this.revoke("closed by its holder");
  }

  private async finish(reason: string): Promise<void> {
    this.reason = reason;
    this.epoch = 1;
    // Nothing maps from now on; what is mapped stays so until nothing is in flight.
    this.bases.fill(-1);
    for (const listener of this.listeners) listener(reason);
    await new Promise<void>((resolve) => this.whenIdle(resolve));
    unmapRoutes(this.routes, this.lengthBytes);
    this.provider.disown(this);
  }

  inspect(): Tree {
    return {
      provider: formatBdf(this.provider.owner),
      offset: hex(this.offset),
      lengthBytes: this.lengthBytes,
      inFlight: this.inFlight,
      revoked: this.reason,
      routes: this.routes.map(({ device, route, base, mapped }) => ({
        initiator: formatBdf(device.bdf),
        id: device.id,
        route,
        base: hex(base),
        mapped,
      })),
    };
  }
}

/**
 * Opens a lease for all of `initiators` or for none. Throws
 * - `no-route`: a rule refuses an initiator; `details.verdict` is the {@link Verdict};
 * - `bad-lease-range`: the range is empty, not aligned to pages or leaves the provider;
 * - `provider-dying`: it is being torn down;
 * - `dma-map`: an initiator has no IOVA space left.
 */
export function openLease(request: LeaseRequest): Lease {
  const { provider, initiators, rules } = request;
  const range = request.range ?? { offset: 0, length: provider.sizeBytes };
  assert(initiators.length > 0, "a lease has initiators");
  checkRange(provider, range);
  const verdicts = initiators.map((device) => rules.verdict(provider.owner, device.bdf));
  for (const verdict of verdicts) refuseUnlessAllowed(verdict);
  if (!provider.alive) throw dying(provider);
  const routes: LeaseRoute[] = [];
  try {
    initiators.forEach((device, i) => {
      routes.push(mapRoute(provider, range, device, verdicts[i]));
    });
  } catch (error) {
    unmapRoutes(routes, range.length);
    throw error;
  }
  const lease = new Lease(provider, range, routes);
  const adopted = provider.adopt(lease);
  assert(adopted, "a provider that was alive a moment ago adopts");
  return lease;
}

function checkRange(provider: Provider, { offset, length }: LeaseRange): void {
  const inside = offset >= 0 && length > 0 && offset + length <= provider.sizeBytes;
  if (inside && offset % PAGE_SIZE === 0) return;
  throw new PeerlaneError("bad-lease-range", "a lease is a run of pages of its provider", {
    place: `${formatBdf(provider.owner)} BAR${provider.bar}`,
    remedy: `stay within ${provider.sizeBytes} bytes and start at a multiple of 4096`,
    details: { offset, length, sizeBytes: provider.sizeBytes },
  });
}

function refuseUnlessAllowed(verdict: Verdict): void {
  if (verdict.route !== "none") return;
  throw new PeerlaneError("no-route", verdict.text, {
    place: verdict.hop === null ? undefined : formatBdf(verdict.hop),
    remedy: verdict.remedies[0]?.text,
    details: { verdict },
  });
}

function dying(provider: Provider): PeerlaneError {
  return new PeerlaneError("provider-dying", "the provider is being torn down", {
    place: `${formatBdf(provider.owner)} BAR${provider.bar}`,
    remedy: "choose another provider",
  });
}

function mapRoute(
  provider: Provider,
  range: LeaseRange,
  device: DmaDevice,
  verdict: Verdict,
): LeaseRoute {
  const { route } = verdict;
  if (route !== "host-bridge") {
    return { device, verdict, route, base: provider.busAt(range.offset), mapped: false };
  }
  const phys = provider.physAt(range.offset);
  const base = device.mapPhys(phys, range.length, Direction.both, true);
  if (base >= 0) return { device, verdict, route, base, mapped: device.mode === "strict" };
  throw new PeerlaneError("dma-map", `no DMA address: ${MAP_STATUS_NAMES[-base]}`, {
    place: formatBdf(device.bdf),
    remedy: "close leases that are not used, or lease a smaller range",
  });
}

function unmapRoutes(routes: readonly LeaseRoute[], length: number): void {
  for (const { device, base, mapped } of routes) if (mapped) device.unmap(base, length);
}
