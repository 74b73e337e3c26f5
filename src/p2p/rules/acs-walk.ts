/**
 * Follows a TLP from one function to another through the access controls on its way, as PCI Express
 * Base 7.0 section 6.12 has them: where it can turn to the peer, whether it is sent up instead, and
 * which port rejects it. It is what the hardware does with the peer's bus address in an
 * untranslated or translated request, and with the completions of a read.
 *
 * Gates, in the order they are met: between functions of one device, the function's own controls;
 * at a root port or downstream port, Translation Blocking, then, if the target is below that same
 * port, Upstream Forwarding; where the ways part in a switch, Direct Translated, Egress Control,
 * Request Redirect (requests) or Completion Redirect (completions without Relaxed Ordering).
 * Controls at ports below that switch do not matter: the only way there is up.
 *
 * Invariants: allocates nothing; a walk ends, since every step is to a parent.
 *
 * Leaves out: Command registers, links and windows (the fabric knows them); Source Validation
 * (no function spoofs its id); ACS Enhanced Capability; ACS Function Groups. Functions of one
 * device that is integrated into the root complex are left to the root complex.
 */

import { bdfDevfn, bdfDevice, bdfFunction } from "../../core/index.ts";
import { type PciFunction, PortType } from "../../machine/index.ts";
import { ACS_VECTOR_SIZE, Express, LinkCapabilities, readLe32 } from "../../spec/pcie/index.ts";
import { Acs, type Topology } from "../topology.ts";
import { Reason } from "./reasons.ts";
import type { PairPath } from "./rule-set.ts";
import { TlpOutcome } from "./tlp.ts";

/** What a bridge is, for a TLP that comes from below. */
const Role = { function: 0, port: 1, switchUpstream: 2, conventional: 3 } as const;
type Role = (typeof Role)[keyof typeof Role];

/** Bits of a vector whose size field is 0. */
const VECTOR_BITS_MAX = 256;

/** Kinds of TLPs, by what they are subject to. */
export const TlpKind = {
  request: 0,
  translatedRequest: 1,
  completion: 2,
  relaxedCompletion: 3,
} as const;
export type TlpKind = (typeof TlpKind)[keyof typeof TlpKind];

/** Where a TLP ends up, and who decided. Reused. */
export class AcsTrip {
  outcome: TlpOutcome = 0;
  /** Why it is direct or blocked; {@link Reason.unknown} where it is redirected. */
  reason: Reason = 0;
  /** The port that lets it turn, rejects it, or (redirected) sent it up; -1: none had to. */
  node = -1;
  /** The port that sent it up, if one did: also where another rejects it then. */
  redirectedAt = -1;

  end(outcome: TlpOutcome, reason: Reason, node: number): TlpOutcome {
    this.outcome = outcome;
    this.reason = reason;
    this.node = node;
    return outcome;
  }
}

export class AcsWalk {
  private readonly topology: Topology;
  private readonly role: Uint8Array;

  constructor(topology: Topology) {
    this.topology = topology;
    this.role = new Uint8Array(topology.count);
    for (let node = 0; node < topology.count; node++) this.role[node] = this.roleOf(node);
  }

  /** The client's requests for the provider's memory. */
  request(path: PairPath, kind: TlpKind, trip: AcsTrip): TlpOutcome {
    const { client, provider, clientPort, providerPort } = path;
    return this.follow(path.common, client, provider, clientPort, providerPort, kind, trip);
  }

  /** The provider's completions for the client's reads. */
  completion(path: PairPath, kind: TlpKind, trip: AcsTrip): TlpOutcome {
    const { client, provider, clientPort, providerPort } = path;
    return this.follow(path.common, provider, client, providerPort, clientPort, kind, trip);
  }

  private follow(
    common: number,
    from: number,
    to: number,
    ingress: number,
    egress: number,
    kind: TlpKind,
    trip: AcsTrip,
  ): TlpOutcome {
    const { chain, parent, acsControl } = this.topology;
    trip.redirectedAt = -1;
    if (from === to) return trip.end(TlpOutcome.direct, Reason.sameFunction, -1);
    // The target is below: it never goes up.
    if (common === from) return trip.end(TlpOutcome.direct, Reason.acsDirect, -1);
    if (this.isInsideDevice(common, from, to)) {
      const outcome = this.turn(from, this.functionNumber(to), kind, trip);
      if (outcome !== TlpOutcome.redirected) return outcome;
    }
    let at = from;
    for (let port = parent[at]; port >= 0; at = port, port = parent[port]) {
      const leadsToTarget = common >= 0 && chain[port] <= chain[common];
      if (this.role[port] === Role.port) {
        const acs = acsControl[port];
        if (kind === TlpKind.translatedRequest && (acs & Acs.TB) !== 0) {
          return trip.end(TlpOutcome.blocked, Reason.translationBlocked, port);
        }
        if (!leadsToTarget) continue;
        if (port === to) return trip.end(TlpOutcome.direct, Reason.acsDirect, port);
        if ((acs & Acs.UF) === 0) {
          return trip.end(TlpOutcome.blocked, Reason.upstreamForwardingClear, port);
        }
        if (trip.redirectedAt < 0) trip.redirectedAt = port;
      } else if (port === common) {
        const isShared = this.role[port] === Role.conventional || port === to;
        if (isShared) return trip.end(TlpOutcome.direct, Reason.acsDirect, port);
        const outcome = this.turn(ingress, this.portNumber(egress), kind, trip);
        if (outcome !== TlpOutcome.redirected) return outcome;
      }
    }
    return this.atRootComplex(at, to, kind, trip);
  }

  /** Egress Control of a root port knows the other root ports of its root complex. */
  private atRootComplex(top: number, to: number, kind: TlpKind, trip: AcsTrip): TlpOutcome {
    const { topology, role } = this;
    const acs = topology.acsControl[top];
    const isRequest =
      kind === TlpKind.request || (kind === TlpKind.translatedRequest && (acs & Acs.DT) === 0);
    const isGated = role[top] === Role.port && (acs & Acs.EC) !== 0 && (acs & Acs.RR) === 0;
    if (isGated && isRequest) {
      let target = to;
      while (topology.parent[target] >= 0) target = topology.parent[target];
      const isPeer = target !== top && topology.rootBus[target] === topology.rootBus[top];
      if (isPeer && role[target] === Role.port) {
        const bit = this.egressBit(top, this.portNumber(target));
        if (bit < 0) return trip.end(TlpOutcome.unknown, Reason.egressUnknown, top);
        if (bit === 1) return trip.end(TlpOutcome.blocked, Reason.egressBlocked, top);
      }
    }
    return trip.end(TlpOutcome.redirected, Reason.unknown, trip.redirectedAt);
  }

  /** May it turn to the peer at `ingress`? `number` is the peer's port or function number. */
  private turn(ingress: number, number: number, kind: TlpKind, trip: AcsTrip): TlpOutcome {
    const acs = this.topology.acsControl[ingress];
    if (kind >= TlpKind.completion) {
      const isRedirected = kind === TlpKind.completion && (acs & Acs.CR) !== 0;
      return isRedirected
        ? this.redirect(ingress, trip)
        : trip.end(TlpOutcome.direct, Reason.acsDirect, ingress);
    }
    if (kind === TlpKind.translatedRequest && (acs & Acs.DT) !== 0) {
      return trip.end(TlpOutcome.direct, Reason.directTranslated, ingress);
    }
    if ((acs & Acs.EC) === 0) {
      return (acs & Acs.RR) !== 0
        ? this.redirect(ingress, trip)
        : trip.end(TlpOutcome.direct, Reason.acsDirect, ingress);
    }
    const bit = this.egressBit(ingress, number);
    if (bit === 0) return trip.end(TlpOutcome.direct, Reason.acsDirect, ingress);
    if (bit < 0) return trip.end(TlpOutcome.unknown, Reason.egressUnknown, ingress);
    return (acs & Acs.RR) !== 0
      ? this.redirect(ingress, trip)
      : trip.end(TlpOutcome.blocked, Reason.egressBlocked, ingress);
  }

  private redirect(ingress: number, trip: AcsTrip): TlpOutcome {
    trip.redirectedAt = ingress;
    return TlpOutcome.redirected;
  }

  /** Functions behind one link are one device; on a conventional bus, those of one slot. */
  private isInsideDevice(common: number, from: number, to: number): boolean {
    const { parent, functions } = this.topology;
    const isBeside = common >= 0 && parent[from] === common && parent[to] === common;
    if (!isBeside || functions[from].bridge !== null || functions[to].bridge !== null) return false;
    if (this.role[common] === Role.port) return true;
    return bdfDevice(functions[from].bdf) === bdfDevice(functions[to].bdf);
  }

  /** With ARI a device has one list of 256 functions instead of 8 (section 6.13). */
  private functionNumber(node: number): number {
    const { parent, functions } = this.topology;
    const above = parent[node] < 0 ? null : functions[parent[node]];
    const { bdf } = functions[node];
    return above?.pcie?.ariForwarding === true ? bdfDevfn(bdf) : bdfFunction(bdf);
  }

  /**
   * Link Capabilities, Port Number: what egress control vectors count in. Where the dump has no
   * bytes of it, the device number stands for it.
   */
  portNumber(node: number): number {
    const fn = this.topology.functions[node];
    return dumpedPortNumber(fn) ?? bdfDevice(fn.bdf);
  }

  /** The bit of an egress control vector; -1 where the dump does not tell. */
  egressBit(node: number, number: number): number {
    const { acs } = this.topology.functions[node];
    if (acs === null || acs.egressVector === null) return -1;
    const bits = ACS_VECTOR_SIZE.get(acs.capabilities) || VECTOR_BITS_MAX;
    const word = acs.egressVector[number >>> 5];
    return word === undefined || number >= bits ? -1 : (word >>> (number & 31)) & 1;
  }

  /** What its capability says it is, else its place. */
  private roleOf(node: number): Role {
    const { functions, parent } = this.topology;
    const fn = functions[node];
    if (fn.bridge === null) return Role.function;
    switch (fn.pcie?.portType) {
      case PortType.rootPort:
      case PortType.switchDownstream:
        return Role.port;
      case PortType.switchUpstream:
        return Role.switchUpstream;
      case undefined:
        break;
      default:
        return Role.conventional;
    }
    // A dump that shows every capability there is shows no PCI Express one: conventional.
    if (fn.config !== null && fn.config.length >= 256) return Role.conventional;
    if (parent[node] < 0) return Role.port;
    return this.role[parent[node]] === Role.switchUpstream ? Role.port : Role.conventional;
  }
}

/** Null where there are no bytes of the register in the dump. */
export function dumpedPortNumber({ pcie, config }: PciFunction): number | null {
  if (pcie === null || config === null) return null;
  const at = pcie.offset + Express.linkCapabilities;
  return at + 4 > config.length ? null : LinkCapabilities.portNumber.get(readLe32(config, at));
}
