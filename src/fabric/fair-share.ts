/**
 * Dividing links among streams: max-min fair rates by progressive filling. All streams rise
 * together until a link is full; those on it are then settled, the others rise on.
 *
 * A stream that puts more bytes on a link than it moves payload (headers, small transfers) uses
 * that link by its coefficient. Reads use two directions at once, each with its own coefficient.
 *
 * Invariants: no link carries more than its capacity; every stream has a bottleneck: a full link on
 * which no other stream is faster. Streams on no link at all are as fast as they like (Infinity).
 *
 * Source: D. Bertsekas, R. Gallager, "Data Networks", section 6.5.2 (max-min flow control).
 */

/** What a stream asks of links: wire bytes per payload byte on each directed link. */
export interface Demand {
  readonly links: readonly number[];
  readonly coefficients: readonly number[];
  /** Payload bytes per nanosecond; set by {@link shareFairly}. */
  rate: number;
}

/** Relative slack for "this link is full". */
const EPSILON = 1e-12;

/** Sets the rate of every demand. `capacities`: wire bytes per nanosecond by directed link. */
export function shareFairly(demands: readonly Demand[], capacities: Float64Array): void {
  const load = new Map<number, { left: number; weight: number }>();
  let rising: Demand[] = [];
  for (const demand of demands) {
    demand.rate = demand.links.length === 0 ? Number.POSITIVE_INFINITY : 0;
    if (demand.links.length > 0) rising.push(demand);
    for (const [at, link] of demand.links.entries()) {
      const coefficient = demand.coefficients[at];
      const entry = load.get(link);
      if (entry !== undefined) entry.weight += coefficient;
      else load.set(link, { left: capacities[link] as number, weight: coefficient });
    }
  }
  // Each round fills at least one link, so there are no more rounds than links.
  for (let round = load.size; round > 0 && rising.length > 0; round--) {
    let step = Number.POSITIVE_INFINITY;
    for (const { left, weight } of load.values()) {
      if (weight > 0) step = Math.min(step, left / weight);
    }
    if (step === Number.POSITIVE_INFINITY) return;
    const full = new Set<number>();
    for (const [link, entry] of load) {
      entry.left -= step * entry.weight;
      const isFull = entry.weight > 0 && entry.left <= capacities[link] * EPSILON;
      if (isFull) full.add(link);
    }
    const next: Demand[] = [];
    for (const demand of rising) {
      demand.rate += step;
      if (!demand.links.some((link) => full.has(link))) {
        next.push(demand);
        continue;
      }
      for (const [at, link] of demand.links.entries()) {
        const entry = load.get(link);
        if (entry !== undefined) entry.weight -= demand.coefficients[at];
      }
    }
    for (const link of full) load.delete(link);
    rising = next;
  }
}
