/**
 * Which links a transfer between two functions crosses, and the narrowest of them.
 *
 * Leaves out: sharing with other transfers, and what lies inside a root complex.
 */

import type { Topology } from "./topology.ts";

/** Bytes per second, one direction; Infinity where no link is crossed or none is known. */
export function narrowestLink(topology: Topology, provider: number, client: number): number {
  const { parent, chain, linkAbove } = topology;
  let narrowest = Number.POSITIVE_INFINITY;
  let a = provider;
  let b = client;
  while (a !== b && (a >= 0 || b >= 0)) {
    const climbA = a >= 0 && (b < 0 || chain[a] >= chain[b]);
    const node = climbA ? a : b;
    narrowest = Math.min(narrowest, linkAbove[node]);
    if (climbA) a = parent[a];
    else b = parent[b];
  }
  return narrowest;
}
