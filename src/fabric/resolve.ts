/**
 * Decides routes: the slow path. A request goes up to a peer or to the root complex; the root
 * complex translates (IOMMU), decodes by physical address, and sends it to host memory, the
 * interrupt controller, or down another of its root buses if its policy for peer traffic lets it.
 *
 * Invariants: nothing here changes the machine; the same question between two changes of the epoch
 * gets the same answer.
 *
 * What the root complex does is not in the PCI Express specification. Assumptions: inbound
 * addresses are physical addresses unless the IOMMU translates them (an outbound window's bus
 * addresses mean nothing there); 0xfee00000 to 0xfeefffff is the interrupt window and is never
 * translated (Intel SDM volume 3, 11.11); peer traffic is what lands in a BAR.
 */

import { ADDRESS_LIMIT, DmaStatus, hex } from "../core/index.ts";
import { AddressRange } from "./address-range.ts";
import { type CompletionPath, completionPath, NO_COMPLETION } from "./completion.ts";
import type { Dram } from "./dram.ts";
import { INTERRUPT_WINDOW } from "./interrupt-window.ts";
import type { FabricNode, RootBus } from "./node.ts";
import { claimOn, goDown, stopInBar } from "./resolve-down.ts";
import { goUp, requesterBusOf, rootPortBlocks } from "./resolve-up.ts";
import {
  DmaDirection,
  failedEnd,
  plainEnd,
  Route,
  type RouteEnd,
  type RouteStory,
  type RouteTarget,
  TargetKind,
} from "./route.ts";
import { type Stop, Walk } from "./walk.ts";

/** What a root complex does with traffic from one of its ports to another. */
export interface PeerPolicy {
  /** `drop`: the write vanishes and its initiator never learns. */
  readonly peerWrites: "forward" | "drop";
  /** `drop`: no completion ever comes. */
  readonly peerReads: "forward" | "drop";
}

export interface RootComplexPolicy extends PeerPolicy {
  /** Between two host bridges; as within one when absent. */
  readonly acrossHostBridges?: PeerPolicy | undefined;
}

/** What the IOMMU does with requests of one function. */
export type Translation = "none" | "identity" | "translated";

export interface ResolverContext {
  readonly roots: readonly RootBus[];
  readonly dram: Dram;
  readonly policy: RootComplexPolicy;
  readonly epoch: () => number;
  readonly translationOf: (node: FabricNode) => Translation;
}

export class Resolver {
  private readonly context: ResolverContext;

  constructor(context: ResolverContext) {
    this.context = context;
  }

  /**
   * The route of requests of `initiator` to `address` as it stands in its TLPs. Where the IOMMU
   * translates them, the route ends there with kind `translate`; {@link routeFromRootComplex} goes
   * on.
   */
  route(
    initiator: FabricNode,
    address: number,
    direction: DmaDirection,
    isTranslated = false,
  ): Route {
    if (!(address >= 0 && address < ADDRESS_LIMIT)) return this.outsideAddressSpace(initiator);
    const walk = this.walkFrom(initiator, address, direction, isTranslated);
    const stop = goUp(walk);
    if (stop.at !== "root-complex") return this.finish(walk, stop);
    const isInterrupt = walk.range.isIn(INTERRUPT_WINDOW.base, INTERRUPT_WINDOW.limit);
    const translation = isTranslated ? "none" : this.context.translationOf(initiator);
    if (translation === "translated" && !isInterrupt) {
      walk.note("iommu", "translates", "the domain has page tables");
      const story = this.storyOf(walk, null, NO_COMPLETION);
      const { base, limit } = walk.range;
      return new Route(base, limit, plainEnd(TargetKind.translate), this.context.epoch(), story);
    }
    if (translation === "identity") walk.note("iommu", "translates", "identity domain");
    return this.finish(walk, this.atRootComplex(walk, stop.ingress));
  }

  /**
   * The route of a request that the IOMMU translated to `phys`. Its range is in physical addresses.
   */
  routeFromRootComplex(
    initiator: FabricNode,
    deviceAddress: number,
    phys: number,
    direction: DmaDirection,
  ): Route {
    const walk = this.walkFrom(initiator, deviceAddress, direction, false);
    const stop = goUp(walk);
    if (stop.at !== "root-complex") return this.finish(walk, stop);
    walk.note("iommu", "translates", `to ${hex(phys)}`);
    walk.range = new AddressRange(phys);
    return this.finish(walk, this.atRootComplex(walk, stop.ingress));
  }

  /** Who answers a CPU access to `phys`: no initiator, no ACS, no IOMMU. Null: nobody. */
  cpuTarget(range: AddressRange): { stop: Stop & { at: "bar" }; delta: number } | null {
    for (const root of this.context.roots) {
      for (const { phys, bus, sizeBytes } of root.bridge.apertures) {
        if (!range.isIn(phys, phys + sizeBytes)) continue;
        const delta = bus - phys;
        const first = root.children[0];
        if (first === undefined) continue;
        const below = new AddressRange(range.address + delta);
        const walk = new Walk(first, root.bridge.bus, below, DmaDirection.write, false);
        const claim = claimOn(walk, root.children);
        if (claim !== null) {
          const { node, bar } = claim;
          const stop = bar === null ? goDown(walk, node) : stopInBar(walk, node, bar);
          range.narrowTo(walk.range, delta);
          if (stop.at === "bar" && stop.node.isReachable()) return { stop, delta };
          return null;
        }
        range.narrowTo(walk.range, delta);
      }
    }
    return null;
  }

  private walkFrom(
    initiator: FabricNode,
    address: number,
    direction: DmaDirection,
    isTranslated: boolean,
  ): Walk {
    const range = new AddressRange(address);
    return new Walk(initiator, requesterBusOf(initiator), range, direction, isTranslated);
  }

  private atRootComplex(walk: Walk, ingress: FabricNode | null): Stop {
    const { range } = walk;
    walk.viaRootComplex = true;
    if (range.isIn(INTERRUPT_WINDOW.base, INTERRUPT_WINDOW.limit)) return atInterrupts(walk);
    if (this.context.dram.contains(range)) {
      walk.note("host-memory", "delivers", "host memory");
      return { at: "host-memory" };
    }
    for (const root of this.context.roots) {
      const stop = this.throughHostBridge(walk, root, ingress);
      if (stop !== null) return stop;
    }
    walk.note(
      "root-complex",
      "refuses",
      "neither memory nor a host bridge's window: nobody answers",
    );
    return { at: "failed", status: DmaStatus.unsupportedRequest };
  }

  /** Null when nothing on this root bus claims the physical address. */
  private throughHostBridge(walk: Walk, root: RootBus, ingress: FabricNode | null): Stop | null {
    for (const { phys, bus, sizeBytes } of root.bridge.apertures) {
      const physical = walk.range;
      if (!physical.isIn(phys, phys + sizeBytes)) continue;
      const delta = bus - phys;
      walk.range = new AddressRange(physical.address + delta);
      const claim = claimOn(walk, root.children);
      const stop = claim === null ? null : this.peer(walk, root, ingress, claim.node);
      const end =
        stop ??
        (claim === null
          ? null
          : claim.bar === null
            ? goDown(walk, claim.node)
            : stopInBar(walk, claim.node, claim.bar));
      physical.narrowTo(walk.range, delta);
      walk.range = physical;
      if (end !== null) return end.at === "bar" ? { ...end, base: end.base - delta } : end;
    }
    return null;
  }

  /** The root complex's policy for peer traffic; null lets it through. */
  private peer(
    walk: Walk,
    root: RootBus,
    ingress: FabricNode | null,
    egress: FabricNode,
  ): Stop | null {
    if (ingress !== null && rootPortBlocks(walk, ingress, egress)) {
      const text = `ACS EC: vector bit ${egress.portNumber} set, RR clear: blocked`;
      return walk.fail(ingress, DmaStatus.acsViolation, text);
    }
    const isAcross = root !== walk.initiator.root;
    const verdict = this.policyFor(isAcross)[walk.isWrite ? "peerWrites" : "peerReads"];
    const where = isAcross ? "between host bridges" : "within one host bridge";
    const what = walk.isWrite ? "writes" : "reads";
    if (verdict === "drop") {
      walk.note("root-complex", "drops", `its policy: no peer ${what} ${where}`);
      const status = walk.isWrite ? DmaStatus.droppedSilently : DmaStatus.completionTimeout;
      return { at: "failed", status };
    }
    walk.note("root-complex", "decodes", `peer ${what} ${where} are forwarded`);
    return null;
  }

  private policyFor(isAcross: boolean): PeerPolicy {
    const { policy } = this.context;
    return isAcross ? (policy.acrossHostBridges ?? policy) : policy;
  }

  private finish(walk: Walk, stop: Stop): Route {
    let end = this.endOf(walk, stop);
    let completion = NO_COMPLETION;
    const isAnswered = stop.at === "bar" || stop.at === "host-memory";
    if (!walk.isWrite && isAnswered && end.status === DmaStatus.ok) {
      const completer = stop.at === "bar" ? stop.node : null;
      completion = this.completionFor(walk, completer);
      if (completion.status !== DmaStatus.ok) end = failedEnd(completion.status);
    }
    const story = this.storyOf(walk, this.targetOf(walk, stop), completion);
    return new Route(walk.range.base, walk.range.limit, end, this.context.epoch(), story);
  }

  private completionFor(walk: Walk, completer: FabricNode | null): CompletionPath {
    const path = completionPath(completer, walk.initiator, walk.range.address);
    // A request that went straight across, whose data now comes through the root complex.
    const isNewPeerTraffic = path.viaRootComplex && completer !== null && !walk.viaRootComplex;
    const isAcross = completer !== null && completer.root !== walk.initiator.root;
    if (isNewPeerTraffic && this.policyFor(isAcross).peerReads === "drop") {
      return { ...path, status: DmaStatus.completionTimeout };
    }
    return path;
  }

  private endOf(walk: Walk, stop: Stop): RouteEnd {
    switch (stop.at) {
      case "failed":
        return failedEnd(stop.status);
      case "host-memory": {
        const { bytes, base } = this.context.dram.backingAt(walk.range);
        return { ...plainEnd(TargetKind.host), bytes, delta: base };
      }
      case "bar": {
        const { memory, registers, origin } = stop.piece;
        const kind =
          memory !== null
            ? TargetKind.memory
            : registers !== null
              ? TargetKind.registers
              : TargetKind.hole;
        return { ...plainEnd(kind), memory, registers, delta: stop.base + origin };
      }
      default:
        return plainEnd(TargetKind.interrupt);
    }
  }

  private targetOf(walk: Walk, stop: Stop): RouteTarget | null {
    const { address } = walk.range;
    switch (stop.at) {
      case "bar":
        return { kind: "bar", bdf: stop.node.bdf, bar: stop.bar, offset: address - stop.base };
      case "host-memory":
        return { kind: "host-memory", bdf: null, bar: null, offset: address };
      case "interrupt":
        return { kind: "interrupt", bdf: null, bar: null, offset: address };
      default:
        return null;
    }
  }

  private storyOf(walk: Walk, target: RouteTarget | null, completion: CompletionPath): RouteStory {
    const isHost = target?.kind === "host-memory";
    return {
      initiator: walk.initiator.bdf,
      direction: walk.direction,
      hops: walk.hops,
      completionHops: completion.hops,
      target,
      requestViaRoot: walk.viaRootComplex,
      completionViaRoot: completion.viaRootComplex,
      addressBits: walk.addressBits,
      requestLinks: walk.links,
      completionLinks: completion.links,
      maxPayload: walk.maxPayload,
      maxReadRequest: walk.initiator.maxReadRequest,
      hostRange: isHost ? this.context.dram.rangeAt(walk.range.address) : null,
    };
  }

  /** An address of 2^52 or more exists in no machine that Peerlane supports. */
  private outsideAddressSpace(initiator: FabricNode): Route {
    const walk = this.walkFrom(initiator, 0, DmaDirection.write, false);
    walk.note("root-complex", "refuses", "the address is not below 2^52");
    const story = this.storyOf(walk, null, NO_COMPLETION);
    const end = failedEnd(DmaStatus.unsupportedRequest);
    // The range is empty, so that no port caches it.
    return new Route(0, 0, end, this.context.epoch(), story);
  }
}

function atInterrupts(walk: Walk): Stop {
  if (walk.isWrite) {
    walk.note("interrupt-controller", "delivers", "the interrupt window");
    return { at: "interrupt" };
  }
  walk.note("interrupt-controller", "refuses", "the interrupt window cannot be read");
  return { at: "failed", status: DmaStatus.unsupportedRequest };
}
