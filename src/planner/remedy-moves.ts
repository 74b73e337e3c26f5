/**
 * Which moves of a card could bring two functions together: into a free port that shares a bridge
 * with the other one. The nearest come first; whether one helps is judged on a copy by remedies.ts.
 */

import type { Bdf } from "../core/index.ts";
import { type Machine, type MachineIndex, NONE } from "../machine/index.ts";
import { freePorts, moveDevice } from "./move.ts";

export interface Move {
  readonly card: Bdf;
  readonly port: Bdf;
  /** The function that it comes close to. */
  readonly beside: Bdf;
  apply(): { readonly machine: Machine; nameOf(bdf: Bdf): Bdf };
}

/** Moves worth trying, one for each of the two cards at most. */
export function movesOf(index: MachineIndex, initiator: Bdf, owner: Bdf): Move[] {
  const ports = freePorts(index);
  return [moveBeside(index, ports, initiator, owner), moveBeside(index, ports, owner, initiator)]
    .filter((move) => move !== null)
    .slice(0, 2);
}

function moveBeside(
  index: MachineIndex,
  ports: readonly number[],
  card: Bdf,
  beside: Bdf,
): Move | null {
  const target = index.requireIndex(beside);
  let best = NONE;
  let bestHops = Number.POSITIVE_INFINITY;
  for (const port of ports) {
    const common = index.commonOf(port, target);
    if (common === NONE || common === port || common === target) continue;
    const hops = index.depthOf(port) + index.depthOf(target) - 2 * index.depthOf(common);
    if (hops >= bestHops) continue;
    best = port;
    bestHops = hops;
  }
  if (best === NONE) return null;
  const port = index.functions[best].bdf;
  return {
    card,
    port,
    beside,
    apply: () => {
      const { machine, names } = moveDevice(index.machine, card, port);
      return { machine, nameOf: (bdf) => names.get(bdf) ?? bdf };
    },
  };
}

/** ` (gen5 x16)`: what the port can do; empty where the dump does not tell. */
export function formatLinkCapability(index: MachineIndex, port: Bdf): string {
  const link = index.functionAt(port)?.pcie?.linkCapability ?? null;
  if (link === null || link.generation === 0 || link.width === 0) return "";
  return ` (gen${link.generation} x${link.width})`;
}
