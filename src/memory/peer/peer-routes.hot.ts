/**
 * How a provider's memory is mapped for each initiator, decided at the first map call and then read
 * from a byte: the cache per (provider, client) that Linux keeps in drivers/pci/p2pdma.c since 5.4.
 * Descriptions that find the provider late (`page`, `pfn`, `phys`) share it.
 *
 * Invariants: a kind, once known, does not change (the rules are those of one snapshot); a client
 * that the DMA context does not know has none. Leaves out: lifetime (the descriptions' own).
 */

import { physAddr } from "../../core/index.ts";
import type { DmaContext, InitiatorId } from "../../dma/index.ts";
import type { Provider, RouteRules } from "../../p2p/index.ts";
import { type Direction, MapStatus } from "../contract.ts";

/** What the memory is to one initiator. */
export const PeerKind = {
  /** Not asked yet. */
  unknown: 0,
  refused: 1,
  /** A BAR of the initiator itself. */
  self: 2,
  /** By its bus address: something below the root complex turns the TLP. */
  bus: 3,
  /** As host memory would be: an IOVA, or the physical address. */
  hostBridge: 4,
} as const;
export type PeerKind = (typeof PeerKind)[keyof typeof PeerKind];

export const PEER_KIND_NAMES: readonly string[] = [
  "unknown",
  "refused",
  "self",
  "bus",
  "host-bridge",
];

const FIRST_IDS = 8;

export class PeerRoutes {
  readonly provider: Provider;
  private readonly context: DmaContext;
  private readonly rules: RouteRules;
  private readonly busOffset: number;
  private kinds = new Uint8Array(FIRST_IDS);

  /** Throws `no-such-function` when the rules do not know the provider's owner. */
  constructor(provider: Provider, context: DmaContext, rules: RouteRules) {
    this.provider = provider;
    this.context = context;
    this.rules = rules;
    this.busOffset = provider.busOffset;
    rules.verdict(provider.owner, provider.owner);
  }

  /** A {@link PeerKind}; `unknown` for an id that the context has not given out. */
  kindFor(initiator: InitiatorId): number {
    const kind = initiator < this.kinds.length ? this.kinds[initiator] : PeerKind.unknown;
    return kind !== PeerKind.unknown ? kind : this.decide(initiator);
  }

  /** DMA address of a physical address inside the provider, or a negated {@link MapStatus}. */
  map(initiator: InitiatorId, phys: number, length: number, direction: Direction): number {
    const kind = this.kindFor(initiator);
    if (kind === PeerKind.bus || kind === PeerKind.self) return phys + this.busOffset;
    if (kind === PeerKind.hostBridge) {
      return this.context.byId(initiator).mapPhys(physAddr(phys), length, direction, true);
    }
    return kind === PeerKind.refused ? -MapStatus.noRoute : -MapStatus.wrongInitiator;
  }

  /** Gives back what {@link map} took. */
  unmap(initiator: InitiatorId, dmaAddress: number, length: number): void {
    if (this.kindFor(initiator) === PeerKind.hostBridge) {
      this.context.byId(initiator).unmap(dmaAddress, length);
    }
  }

  /** Once per pair: asks the rules, which may build a verdict. */
  private decide(initiator: InitiatorId): number {
    const { context, provider } = this;
    if (initiator < 1 || initiator > context.initiatorCount) return PeerKind.unknown;
    const { route } = this.rules.verdict(provider.owner, context.byId(initiator).bdf);
    let kind: number = PeerKind.refused;
    if (route === "self") kind = PeerKind.self;
    else if (route === "bus") kind = PeerKind.bus;
    else if (route === "host-bridge") kind = PeerKind.hostBridge;
    if (initiator >= this.kinds.length) {
      const grown = new Uint8Array(Math.max(initiator + 1, 2 * this.kinds.length));
      grown.set(this.kinds);
      this.kinds = grown;
    }
    this.kinds[initiator] = kind;
    return kind;
  }
}
