/**
 * The routes that a port has asked for in one direction since the epoch moved. A device talks to a
 * few ranges, so the last hit answers nearly always; a binary search answers the rest, so that no
 * range is decided twice.
 *
 * Invariants: cached routes are disjoint and sorted; a route is returned only for an address inside
 * it and for the epoch it was decided in.
 */

import { assert, ROUTES_PER_PORT_MAX } from "../core/index.ts";
import type { Route } from "./route.ts";

const INITIAL_CAPACITY = 16;

export class RouteCache {
  private routes: (Route | null)[] = new Array(INITIAL_CAPACITY).fill(null);
  private bases = new Float64Array(INITIAL_CAPACITY);
  private count = 0;
  private epoch = -1;
  private last: Route | null = null;

  /** The cached route for `address`, or null. */
  find(address: number, epoch: number): Route | null {
    const last = this.last;
    if (last !== null && address >= last.base && address < last.limit && last.epoch === epoch) {
      return last;
    }
    if (this.epoch !== epoch) return null;
    const at = this.indexAfter(address) - 1;
    if (at < 0) return null;
    const route = this.routes[at] as Route;
    if (address >= route.limit) return null;
    this.last = route;
    return route;
  }

  /** Keeps a route that {@link find} did not have; drops those of older epochs. */
  keep(route: Route): void {
    // The range of an address that no machine can have is empty.
    if (route.base >= route.limit) return;
    if (route.epoch !== this.epoch) {
      this.epoch = route.epoch;
      for (let i = 0; i < this.count; i++) this.routes[i] = null;
      this.count = 0;
    }
    if (this.count === this.routes.length) this.grow();
    const at = this.indexAfter(route.base);
    for (let i = this.count; i > at; i--) {
      this.routes[i] = this.routes[i - 1];
      this.bases[i] = this.bases[i - 1];
    }
    this.routes[at] = route;
    this.bases[at] = route.base;
    this.count++;
    this.last = route;
  }

  /** Index of the first cached route that begins above `address`. */
  private indexAfter(address: number): number {
    let low = 0;
    let high = this.count;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.bases[middle] <= address) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  private grow(): void {
    assert(this.count < ROUTES_PER_PORT_MAX, "a port keeps a bounded number of routes");
    for (let i = this.count; i > 0; i--) this.routes.push(null);
    const bases = new Float64Array(this.routes.length);
    bases.set(this.bases);
    this.bases = bases;
  }
}
