/**
 * The notes of one request on its way: hops with their reasons, links taken, whether it was already
 * redirected. The resolver's functions write them; a finished walk becomes a route.
 */

import type { Bdf } from "../core/index.ts";
import type { AddressRange } from "./address-range.ts";
import type { BarPiece } from "./bar-layout.ts";
import type { Link } from "./link.ts";
import type { FabricNode } from "./node.ts";
import { DmaDirection, type Hop, type HopDecision, type HopLink } from "./route.ts";

/** Where a request stopped. */
export type Stop =
  | { readonly at: "failed"; readonly status: number }
  | { readonly at: "root-complex"; readonly ingress: FabricNode | null }
  | {
      readonly at: "bar";
      readonly node: FabricNode;
      readonly bar: number;
      /** Bus address of the BAR's first byte. */
      readonly base: number;
      readonly piece: BarPiece;
    }
  | { readonly at: "host-memory" }
  | { readonly at: "interrupt" };

export class Walk {
  readonly initiator: FabricNode;
  readonly direction: DmaDirection;
  /** Address Type field: Translated (ATS). */
  readonly isTranslated: boolean;
  /** Bus the requester id says; a conventional bridge puts its own secondary bus there. */
  requesterBus: number;
  range: AddressRange;
  readonly hops: Hop[] = [];
  readonly links: number[] = [];
  /** The smallest Max_Payload_Size on the way. */
  maxPayload: number;
  viaRootComplex = false;
  /** Of the address that the initiator issues, whatever becomes of it later. */
  readonly addressBits: 32 | 64;

  constructor(
    initiator: FabricNode,
    requesterBus: number,
    range: AddressRange,
    direction: DmaDirection,
    isTranslated: boolean,
  ) {
    this.initiator = initiator;
    this.requesterBus = requesterBus;
    this.range = range;
    this.direction = direction;
    this.isTranslated = isTranslated;
    this.maxPayload = initiator.maxPayload;
    // Asking narrows the range: a route has one kind of header (PCI Express Base 6.x, 2.2.4.1).
    this.addressBits = range.isIn(0, 2 ** 32) ? 32 : 64;
  }

  get isWrite(): boolean {
    return this.direction === DmaDirection.write;
  }

  /** Notes what a function decided; `link` with its direction when the request leaves by one. */
  hop(node: FabricNode, decision: HopDecision, reason: string, link: HopLink | null = null): void {
    this.hops.push({
      bdf: node.bdf,
      role: node.role,
      decision,
      reason,
      address: this.range.address,
      link,
    });
    if (node.expressOffset !== 0) this.maxPayload = Math.min(this.maxPayload, node.maxPayload);
  }

  /** Notes what something without a BDF decided. */
  note(role: Hop["role"], decision: HopDecision, reason: string): void {
    this.hops.push({
      bdf: null,
      role,
      decision,
      reason,
      address: this.range.address,
      link: null,
    });
  }

  fail(node: FabricNode, status: number, reason: string): Stop {
    this.hop(node, "refuses", reason);
    return { at: "failed", status };
  }

  /** Takes a link; the last hop is the one that sent the request over it. */
  take(link: Link, towardsRoot: boolean): HopLink {
    this.links.push(towardsRoot ? link.towardsRoot : link.awayFromRoot);
    return hopLink(link, towardsRoot);
  }
}

export function hopLink(link: Link, towardsRoot: boolean): HopLink {
  const { index, facts } = link;
  const upper: Bdf = link.upper;
  return { index, upper, towardsRoot, generation: facts.generation, width: facts.width };
}
