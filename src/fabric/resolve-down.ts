/**
 * The way of a request down: through the windows of bridges to the BAR that claims it. Each bridge
 * and the target need Memory Space Enable (PCI Express Base 6.x, 7.5.1.1.3); a link must be up
 * (2.9.1: a downstream port whose link is down answers Unsupported Request).
 */

import { DmaStatus, formatBdf } from "../core/index.ts";
import type { LiveBar } from "./live-decode.ts";
import type { FabricNode } from "./node.ts";
import type { Stop, Walk } from "./walk.ts";

/** Goes down from `top`, a bridge whose window claims the address. */
export function goDown(walk: Walk, top: FabricNode): Stop {
  let bridge = top;
  while (true) {
    const link = bridge.linkBelow;
    if (link !== null && !link.isUp) {
      return walk.fail(bridge, DmaStatus.unsupportedRequest, "the link below is down");
    }
    const taken = link === null ? null : walk.take(link, false);
    walk.hop(bridge, "forwards-down", "its window claims the address", taken);
    const below = claimOn(walk, bridge.children);
    if (below === null) {
      const text = "nothing below claims it (no BAR, or Memory Space Enable clear there)";
      return walk.fail(bridge, DmaStatus.unsupportedRequest, text);
    }
    if (below.bar !== null) return stopInBar(walk, below.node, below.bar);
    bridge = below.node;
  }
}

/** A function that answers an address, by a BAR or (null) by a window. */
export interface Claim {
  readonly node: FabricNode;
  readonly bar: LiveBar | null;
}

/** Who of `nodes` claims the walk's address. */
export function claimOn({ range }: Walk, nodes: readonly FabricNode[]): Claim | null {
  for (const node of nodes) {
    if (!node.isPresent) continue;
    for (const bar of node.bars) {
      if (range.isIn(bar.base, bar.limit)) return { node, bar };
    }
    for (const window of node.windows) {
      if (range.isIn(window.base, window.limit)) return { node, bar: null };
    }
  }
  return null;
}

/** The request has found its BAR. */
export function stopInBar(walk: Walk, node: FabricNode, bar: LiveBar): Stop {
  const offset = walk.range.address - bar.base;
  const piece = node.layout.pieceAt(bar.index, offset, bar.limit - bar.base);
  walk.range.isIn(bar.base + piece.base, bar.base + piece.limit);
  const what =
    piece.memory !== null ? "memory" : piece.registers !== null ? "registers" : "nothing behind it";
  walk.hop(node, "delivers", `BAR${bar.index} of ${formatBdf(node.bdf)}: ${what}`);
  return { at: "bar", node, bar: bar.index, base: bar.base, piece };
}
