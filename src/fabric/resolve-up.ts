/**
 * The way of a request up: from the function that issues it, through each port above, to a peer
 * whose window claims it or to the root complex. Address routing and Access Control Services at
 * every level.
 *
 * Order of the gates at a port that receives a request from below, and where each is specified in
 * PCI Express Base 6.x: link (2.9.1), ACS Source Validation, ACS Translation Blocking (6.12.1.1),
 * Bus Master Enable (7.5.1.1.3), the port's own window and ACS Upstream Forwarding (6.12.3), then
 * in a switch the peers' windows with ACS Egress Control, Request Redirect and Direct Translated
 * (6.12.3).
 *
 * Left out: ordering and credits; multicast; the ACS memory target controls of ports' own BARs.
 */

import { bdfBus, bdfDevfn, bdfFunction, DmaStatus, formatBdf, hex } from "../core/index.ts";
import { AcsBit, AcsEnhanced } from "../spec/pcie/index.ts";
import type { FabricNode } from "./node.ts";
import { goDown, stopInBar } from "./resolve-down.ts";
import type { Stop, Walk } from "./walk.ts";

/**
 * Follows the request from its initiator to where it turns down, ends, or meets the root complex.
 */
export function goUp(walk: Walk): Stop {
  const { initiator } = walk;
  if (!initiator.isPresent) {
    return walk.fail(initiator, DmaStatus.completionTimeout, "the function was removed");
  }
  if (!initiator.busMaster) {
    return walk.fail(initiator, DmaStatus.busMasterDisabled, "Command: Bus Master Enable clear");
  }
  const internal = stayInDevice(walk);
  if (internal !== null) return internal;
  let at = initiator;
  while (at.parent !== null) {
    const port = at.parent;
    const stop = leave(walk, at) ?? receive(walk, port, at);
    if (stop !== null) return stop;
    at = port;
  }
  const ingress = at.role === "root-port" ? at : null;
  const reason = ingress === null ? "on the root bus: to the root complex" : "no window claims it";
  if (at === initiator) walk.hop(at, "issues", reason);
  return { at: "root-complex", ingress };
}

/** The function's own BARs and those of its sibling functions, reached inside the device. */
function stayInDevice(walk: Walk): Stop | null {
  const { initiator, range } = walk;
  for (const bar of initiator.bars) {
    if (!range.isIn(bar.base, bar.limit)) continue;
    walk.hop(initiator, "issues", `its own BAR${bar.index}: the request stays inside`);
    return stopInBar(walk, initiator, bar);
  }
  for (const sibling of initiator.siblings) {
    if (sibling === initiator || sibling.isBridge || !sibling.isSameDevice(initiator)) continue;
    for (const bar of sibling.bars) {
      if (!range.isIn(bar.base, bar.limit)) continue;
      const verdict = peerVerdict(walk, initiator, functionNumber(sibling), "function");
      if (verdict.isBlocked) {
        return walk.fail(initiator, DmaStatus.acsViolation, verdict.reason);
      }
      // A redirected request leaves the device; the port above decides what then.
      if (verdict.isRedirected) return null;
      walk.hop(
        initiator,
        "issues",
        `${formatBdf(sibling.bdf)} in the same device; ${verdict.reason}`,
      );
      return stopInBar(walk, sibling, bar);
    }
  }
  return null;
}

/** With ARI a device has one list of 256 functions instead of 8 (PCI Express Base 6.x, 6.13). */
function functionNumber(node: FabricNode): number {
  const hasAri = node.parent?.fn.pcie?.ariForwarding === true;
  return hasAri ? bdfDevfn(node.bdf) : bdfFunction(node.bdf);
}

/** The request leaves `at` towards its port. */
function leave(walk: Walk, at: FabricNode): Stop | null {
  const link = at.linkAbove;
  if (link === null) {
    if (at === walk.initiator) walk.hop(at, "issues", "to the bus it sits on");
    return null;
  }
  if (!link.isUp) {
    const status = walk.isWrite ? DmaStatus.droppedSilently : DmaStatus.completionTimeout;
    return walk.fail(at, status, `the link below ${formatBdf(link.upper)} is down`);
  }
  const isFirst = at === walk.initiator;
  const reason = isFirst ? "to the port above" : "towards the root complex";
  walk.hop(at, isFirst ? "issues" : "forwards-up", reason, walk.take(link, true));
  return null;
}

/** `port` receives the request from below, from `at`. Null: it goes on up. */
function receive(walk: Walk, port: FabricNode, at: FabricNode): Stop | null {
  switch (port.role) {
    case "switch-upstream":
      return crossSwitch(walk, port, at);
    case "root-port":
    case "switch-downstream":
      return enterPort(walk, port);
    default:
      return crossConventionalBus(walk, port, at);
  }
}

/** A root port or a switch downstream port, from the link below it. */
function enterPort(walk: Walk, port: FabricNode): Stop | null {
  const { acs } = port;
  const isOwnBus = walk.requesterBus >= port.secondary && walk.requesterBus <= port.subordinate;
  if ((acs & AcsBit.sourceValidation) !== 0 && !isOwnBus) {
    const buses = `${hex(port.secondary, 2)} to ${hex(port.subordinate, 2)}`;
    const text = `ACS SV: requester bus ${hex(walk.requesterBus, 2)} is not in ${buses}`;
    return walk.fail(port, DmaStatus.acsViolation, text);
  }
  if ((acs & AcsBit.translationBlocking) !== 0 && walk.isTranslated) {
    return walk.fail(port, DmaStatus.acsViolation, "ACS TB: a translated request");
  }
  if (!port.busMaster) {
    const text = "Command: Bus Master Enable clear: requests from below are unsupported";
    return walk.fail(port, DmaStatus.busMasterDisabled, text);
  }
  for (const window of port.windows) {
    if (!walk.range.isIn(window.base, window.limit)) continue;
    if ((acs & AcsBit.upstreamForwarding) === 0) {
      const text = "the address is in this port's own window and ACS UF is clear";
      return walk.fail(port, DmaStatus.unsupportedRequest, text);
    }
    walk.hop(port, "forwards-up", "ACS UF: the address is in this port's own window");
    return null;
  }
  if (port.parent === null) walk.hop(port, "forwards-up", "to the root complex");
  return null;
}

/** The internal bus of a switch, from `ingress` (a downstream port, or a function on that bus). */
function crossSwitch(walk: Walk, upstream: FabricNode, ingress: FabricNode): Stop | null {
  const { range } = walk;
  for (const bar of upstream.bars) {
    if (!range.isIn(bar.base, bar.limit)) continue;
    walk.hop(ingress, "peer", `BAR${bar.index} of the switch's upstream port`);
    return stopInBar(walk, upstream, bar);
  }
  for (const egress of upstream.children) {
    if (egress === ingress) continue;
    const bar = egress.bars.find(({ base, limit }) => range.isIn(base, limit));
    const window = egress.windows.find(({ base, limit }) => range.isIn(base, limit));
    if (bar === undefined && window === undefined) continue;
    const verdict = peerVerdict(walk, ingress, egress.portNumber, "port");
    if (verdict.isBlocked) return walk.fail(ingress, DmaStatus.acsViolation, verdict.reason);
    if (verdict.isRedirected) {
      walk.hop(ingress, "redirects", verdict.reason);
      return climb(walk, upstream);
    }
    const name = formatBdf(egress.bdf);
    walk.hop(ingress, "peer", `${name} claims it in the same switch; ${verdict.reason}`);
    if (bar !== undefined) return stopInBar(walk, egress, bar);
    return goDown(walk, egress);
  }
  const isUnclaimed = upstream.windows.some(({ base, limit }) => range.isIn(base, limit));
  const mayLeave =
    isOwnWindow(walk, ingress) || (ingress.acs & AcsEnhanced.unclaimedRequestRedirect) !== 0;
  if (isUnclaimed && !mayLeave) {
    const text = "in the switch's window, but no downstream port claims it";
    return walk.fail(ingress, DmaStatus.unsupportedRequest, text);
  }
  if (!isOwnWindow(walk, ingress)) {
    walk.hop(ingress, "forwards-up", "no port of the switch claims it");
  }
  return climb(walk, upstream);
}

/** The ingress port let it through by Upstream Forwarding: the switch must not turn it round. */
function isOwnWindow({ range }: Walk, ingress: FabricNode): boolean {
  return ingress.windows.some(({ base, limit }) => range.isIn(base, limit));
}

function climb(walk: Walk, upstream: FabricNode): Stop | null {
  if (upstream.busMaster) return null;
  const text = "Command: Bus Master Enable clear: the switch forwards nothing up";
  return walk.fail(upstream, DmaStatus.busMasterDisabled, text);
}

/**
 * A conventional bus: everything on it sees the request; the bridge takes what is not in its
 * window.
 */
function crossConventionalBus(walk: Walk, bridge: FabricNode, at: FabricNode): Stop | null {
  const { range } = walk;
  for (const peer of bridge.children) {
    if (peer === at) continue;
    const bar = peer.bars.find(({ base, limit }) => range.isIn(base, limit));
    if (bar !== undefined) return stopInBar(walk, peer, bar);
    if (peer.windows.some(({ base, limit }) => range.isIn(base, limit))) return goDown(walk, peer);
  }
  if (bridge.windows.some(({ base, limit }) => range.isIn(base, limit))) {
    const text = "in the bridge's own window, and nobody on its bus claims it";
    return walk.fail(bridge, DmaStatus.unsupportedRequest, text);
  }
  if (!bridge.busMaster) {
    const text = "Command: Bus Master Enable clear: the bridge forwards nothing up";
    return walk.fail(bridge, DmaStatus.busMasterDisabled, text);
  }
  walk.requesterBus = bridge.secondary;
  if (bridge.linkAbove === null) {
    walk.hop(bridge, "forwards-up", "not in its window; it becomes the requester");
  }
  return null;
}

interface PeerVerdict {
  readonly isBlocked: boolean;
  readonly isRedirected: boolean;
  readonly reason: string;
}

/**
 * What ACS at `ingress` says to a request for a peer whose port (or function) number is `number`.
 * PCI Express Base 6.x, 6.12.3: Direct Translated passes; else Egress Control decides by its
 * vector, and where the vector blocks, Request Redirect turns the block into a redirect; without
 * Egress Control, Request Redirect alone decides.
 */
function peerVerdict(
  { isTranslated }: Walk,
  ingress: FabricNode,
  number: number,
  what: "port" | "function",
): PeerVerdict {
  const { acs } = ingress;
  const verdict = (isBlocked: boolean, isRedirected: boolean, reason: string): PeerVerdict => ({
    isBlocked,
    isRedirected,
    reason,
  });
  if (isTranslated && (acs & AcsBit.directTranslated) !== 0) {
    return verdict(false, false, "ACS DT: a translated request passes");
  }
  const redirects = (acs & AcsBit.requestRedirect) !== 0;
  if ((acs & AcsBit.egressControl) !== 0) {
    if (!ingress.isEgressBlocked(number)) {
      return verdict(false, false, `ACS EC: vector bit ${number} clear`);
    }
    const text = `ACS EC: vector bit ${number} (${what}) set`;
    return redirects
      ? verdict(false, true, `${text}, RR set: the request goes up`)
      : verdict(true, false, `${text}, RR clear: blocked`);
  }
  return redirects
    ? verdict(false, true, "ACS RR set: peer requests go up")
    : verdict(false, false, "ACS RR clear");
}

/**
 * ACS Egress Control of a root port towards another root port of its root complex. Nothing else on
 * the root bus has a port number, so the vector says nothing of integrated endpoints (PCI Express
 * Base 6.x, 7.7.11.4); Direct Translated passes here as it does in a switch (6.12.3).
 */
export function rootPortBlocks(walk: Walk, ingress: FabricNode, egress: FabricNode): boolean {
  if (ingress === egress || ingress.root !== egress.root || egress.role !== "root-port")
    return false;
  return peerVerdict(walk, ingress, egress.portNumber, "port").isBlocked;
}

/** The requester bus that a function's requests carry. */
export const requesterBusOf = (node: FabricNode): number => bdfBus(node.bdf);
