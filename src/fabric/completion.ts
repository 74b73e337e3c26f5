/**
 * How the data of a read comes back. Completions are routed by the requester's bus number, not by
 * address, and ACS Completion Redirect at the completer's port can send them up where the request
 * came straight across, between ports of a switch and between functions of one device (PCI Express
 * Base 6.x, 2.2.4.2, 6.12.1.2 and 6.12.3).
 *
 * Assumption: completions do not carry the Relaxed Ordering attribute, which would exempt them from
 * Completion Redirect; no device model sets it.
 */

import { assert, BRIDGE_DEPTH_MAX, bdfBus, DmaStatus, formatBdf } from "../core/index.ts";
import { AcsBit } from "../spec/pcie/index.ts";
import type { FabricNode } from "./node.ts";
import type { Hop, HopDecision, HopLink } from "./route.ts";
import { hopLink } from "./walk.ts";

export interface CompletionPath {
  readonly status: number;
  readonly hops: readonly Hop[];
  readonly links: readonly number[];
  /** It went through the root complex. */
  readonly viaRootComplex: boolean;
}

export const NO_COMPLETION: CompletionPath = {
  status: DmaStatus.ok,
  hops: [],
  links: [],
  viaRootComplex: false,
};

/** The path of completions from `completer` (null: the root complex) to `requester`. */
export function completionPath(
  completer: FabricNode | null,
  requester: FabricNode,
  address: number,
): CompletionPath {
  return new CompletionWalk(requester, address).run(completer);
}

const redirects = ({ acs }: FabricNode): boolean => (acs & AcsBit.completionRedirect) !== 0;

class CompletionWalk {
  private readonly hops: Hop[] = [];
  private readonly links: number[] = [];
  private readonly requester: FabricNode;
  private readonly address: number;

  constructor(requester: FabricNode, address: number) {
    this.requester = requester;
    this.address = address;
  }

  run(completer: FabricNode | null): CompletionPath {
    const { requester } = this;
    if (completer === requester) return NO_COMPLETION;
    if (completer?.isSameDevice(requester) && completer.parent === requester.parent) {
      if (!redirects(completer)) return NO_COMPLETION;
      this.hop(completer, "redirects", "ACS CR set: completions for a sibling function go up");
    }
    let at = completer;
    while (at !== null && at.parent !== null) {
      const port: FabricNode = at.parent;
      this.climb(at, at === completer);
      if (port.role === "switch-upstream") {
        const turn = this.turnInSwitch(port, at);
        if (turn !== null) return this.down(turn, false);
      } else if (this.isBelow(port)) {
        if (port.role === "bridge") return this.finish(DmaStatus.ok, false);
        if ((port.acs & AcsBit.upstreamForwarding) === 0) {
          this.hop(port, "refuses", "a completion for this port's own bus, and ACS UF is clear");
          return this.finish(DmaStatus.completionTimeout, false);
        }
        this.hop(port, "forwards-up", "ACS UF: a completion for this port's own bus");
      }
      at = port;
    }
    return this.down(null, true);
  }

  private isBelow(port: FabricNode): boolean {
    const bus = bdfBus(this.requester.bdf);
    return bus >= port.secondary && bus <= port.subordinate;
  }

  private climb(at: FabricNode, isFirst: boolean): void {
    const link = at.linkAbove;
    if (link !== null) this.links.push(link.towardsRoot);
    const text = isFirst ? "completion with data" : "towards the root complex";
    const by = link === null ? null : hopLink(link, true);
    this.hop(at, isFirst ? "issues" : "forwards-up", text, by);
  }

  /** The port on this switch that the completion leaves by; null when it goes up. */
  private turnInSwitch(upstream: FabricNode, ingress: FabricNode): FabricNode | null {
    for (const egress of upstream.children) {
      if (egress === ingress || !this.isBelow(egress)) continue;
      if (redirects(ingress)) {
        this.hop(ingress, "redirects", "ACS CR set: completions for a peer go up");
        return null;
      }
      this.hop(ingress, "peer", `${formatBdf(egress.bdf)} leads to the requester's bus`);
      return egress;
    }
    return null;
  }

  /** From `port` (null: the root complex) down to the requester, along its own chain of bridges. */
  private down(port: FabricNode | null, viaRootComplex: boolean): CompletionPath {
    if (viaRootComplex) this.note("routes the completion by the requester's bus");
    const chain: FabricNode[] = [];
    for (let at = this.requester; at !== port; ) {
      const above: FabricNode | null = at.parent;
      if (above === null) break;
      chain.unshift(above);
      assert(chain.length <= BRIDGE_DEPTH_MAX, "bridges nest without a loop");
      at = above;
    }
    for (const bridge of chain) {
      const link = bridge.linkBelow;
      if (link !== null && !link.isUp) {
        this.hop(bridge, "refuses", "the link below is down");
        return this.finish(DmaStatus.completionTimeout, viaRootComplex);
      }
      if (link !== null) this.links.push(link.awayFromRoot);
      const by = link === null ? null : hopLink(link, false);
      this.hop(bridge, "forwards-down", "the requester's bus is below", by);
    }
    return this.finish(DmaStatus.ok, viaRootComplex);
  }

  private finish(status: number, viaRootComplex: boolean): CompletionPath {
    return { status, hops: this.hops, links: this.links, viaRootComplex };
  }

  private hop(
    node: FabricNode,
    decision: HopDecision,
    reason: string,
    link: HopLink | null = null,
  ): void {
    const { bdf, role } = node;
    this.hops.push({ bdf, role, decision, reason, address: this.address, link });
  }

  private note(reason: string): void {
    this.hops.push({
      bdf: null,
      role: "root-complex",
      decision: "decodes",
      reason,
      address: this.address,
      link: null,
    });
  }
}
