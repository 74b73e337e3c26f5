/**
 * Timed mode: when transfers land. Bytes have already moved; each transfer is then a parcel in the
 * stream of its route, and streams share the links of the machine fairly, as fluids.
 *
 * A parcel is done when its stream has served it and the latency of its route has passed. A model
 * that asks to `settle` is told when every parcel that it issued since it last asked is done.
 *
 * Invariants: parcels of one stream are served in order; the rate of a single stream is what the
 * throughput model says for its links; time moves by events only, so one seed replays a run.
 *
 * Left out: limits by outstanding requests (tags) and by credits, the inner bandwidth of switches,
 * root complex and memory, and the time of CPU accesses and interrupts.
 */

import { assert, type Inspectable, type Tree } from "../core/index.ts";
import { tlpBytesPerSecond } from "../spec/pcie/index.ts";
import type { SettleClient, TimerClient } from "./device.ts";
import { type Demand, shareFairly } from "./fair-share.ts";
import type { Link } from "./link.ts";
import type { PortTiming } from "./port.hot.ts";
import { DmaDirection, type Route, type RouteStory } from "./route.ts";
import type { Scheduler } from "./scheduler.ts";
import type { FabricTopology } from "./topology.ts";
import { modelOf, PUBLISHED_WIRE, type WireOptions, wireCosts } from "./wire-cost.ts";

/**
 * Nanoseconds of latency. The defaults are assumptions of the size that vendors and measurements
 * give for current hardware, not figures of one machine: a read of host memory over one link takes
 * 440 ns.
 */
export interface LatencyOptions {
  /** One link, both ends' physical and link layers. */
  readonly linkNs: number;
  /** From one port of a switch to another. */
  readonly switchNs: number;
  /** From a port of the root complex to memory, or to another port. */
  readonly rootComplexNs: number;
  /** The completer's own access. */
  readonly memoryNs: number;
  /** A translation that the IOMMU has to walk for. */
  readonly iotlbMissNs: number;
}

export const ASSUMED_LATENCY: LatencyOptions = {
  linkNs: 75,
  switchNs: 110,
  rootComplexNs: 100,
  memoryNs: 90,
  iotlbMissNs: 330,
};

export interface TimingOptions {
  readonly latency?: Partial<LatencyOptions> | undefined;
  readonly wire?: WireOptions | undefined;
}

/** The machine as its timing sees it. */
export interface TimedMachine {
  readonly epoch: number;
  readonly scheduler: Scheduler;
  readonly topology: FabricTopology;
}

/** Transfers of one route since the port's last settle. */
interface Batch {
  readonly route: Route;
  bytes: number;
  tlps: number;
  requests: number;
  misses: number;
}

/** Parcels that one `settle` waits for. */
interface Group {
  waiting: number;
  readonly client: SettleClient;
  readonly token: number;
}

interface Parcel extends Demand {
  /** Payload bytes not served yet. */
  left: number;
  readonly latencyNs: number;
  readonly group: Group;
  readonly stream: Stream;
}

/** Parcels of one route, one after the other. */
interface Stream {
  readonly key: string;
  readonly queue: Parcel[];
}

/**
 * A parcel is served this many nanoseconds before its end: below that, sums of doubles are noise.
 */
const DONE_NS = 1e-3;

export class FabricTiming implements PortTiming, TimerClient, Inspectable {
  private readonly links: readonly Link[];
  private readonly scheduler: Scheduler;
  private readonly latency: LatencyOptions;
  private readonly wire: WireOptions;
  private readonly machine: TimedMachine;
  private capacities = new Float64Array(0);
  private capacityEpoch = -1;
  private readonly open = new Map<number, Map<Route, Batch>>();
  private readonly streams = new Map<string, Stream>();
  /** Heads of the streams: what is on the links now. */
  private active: Parcel[] = [];
  private readonly arrivals = new Map<number, Group>();
  private nextArrival = 1;
  private generation = 0;
  private servedAt = 0;
  private misses = 0;
  private parcelsDone = 0;

  constructor(machine: TimedMachine, options: TimingOptions) {
    this.machine = machine;
    this.links = machine.topology.links;
    this.scheduler = machine.scheduler;
    this.latency = { ...ASSUMED_LATENCY, ...options.latency };
    this.wire = options.wire ?? PUBLISHED_WIRE;
  }

  add(port: number, route: Route, length: number): void {
    let batches = this.open.get(port);
    if (batches === undefined) {
      batches = new Map();
      this.open.set(port, batches);
    }
    let batch = batches.get(route);
    if (batch === undefined) {
      batch = { route, bytes: 0, tlps: 0, requests: 0, misses: 0 };
      batches.set(route, batch);
    }
    batch.bytes += length;
    batch.tlps += Math.ceil(length / route.tlpBytes);
    if (route.story.direction === DmaDirection.read) {
      batch.requests += Math.ceil(length / route.requestBytes);
    }
    batch.misses += this.misses;
    this.misses = 0;
  }

  settle(port: number, client: SettleClient, token: number): void {
    const batches = this.open.get(port);
    const group: Group = { waiting: 0, client, token };
    if (batches === undefined || batches.size === 0) {
      group.waiting = 1;
      this.arriveLater(group, 0);
      return;
    }
    this.serve();
    for (const batch of batches.values()) this.enqueue(batch, group);
    batches.clear();
    this.share();
  }

  /** The IOMMU had to walk its tables for the transfer that is about to be added. */
  translationMissed(): void {
    this.misses++;
  }

  timer(token: number): void {
    const group = this.arrivals.get(token);
    if (group !== undefined) {
      this.arrivals.delete(token);
      this.arrive(group);
      return;
    }
    // Another event has changed the rates since this one was armed.
    if (token !== -this.generation) return;
    this.serve();
    this.share();
  }

  inspect(): Tree {
    return {
      activeStreams: this.active.length,
      parcelsDone: this.parcelsDone,
      rates: this.active.map(({ stream, rate, left }) => ({
        stream: stream.key,
        bytesPerNs: Number.isFinite(rate) ? rate : "unlimited",
        left,
      })),
    };
  }

  private enqueue(batch: Batch, group: Group): void {
    const { story } = batch.route;
    const { links, bytes } = wireCosts(story, batch, this.links, this.wire);
    const key = streamKey(story);
    let stream = this.streams.get(key);
    if (stream === undefined) {
      stream = { key, queue: [] };
      this.streams.set(key, stream);
    }
    const parcel: Parcel = {
      links,
      coefficients: bytes.map((wire) => wire / batch.bytes),
      rate: 0,
      left: batch.bytes,
      latencyNs: this.latencyOf(story) + batch.misses * this.latency.iotlbMissNs,
      group,
      stream,
    };
    group.waiting++;
    if (stream.queue.length === 0) this.active.push(parcel);
    stream.queue.push(parcel);
  }

  /** Serves the active parcels up to now, and lets the next of each stream follow. */
  private serve(): void {
    const now = this.scheduler.nowNs();
    const elapsed = now - this.servedAt;
    this.servedAt = now;
    const next: Parcel[] = [];
    for (const parcel of this.active) {
      if (elapsed > 0) parcel.left -= parcel.rate * elapsed;
      if (parcel.left > parcel.rate * DONE_NS) {
        next.push(parcel);
        continue;
      }
      this.finish(parcel);
      const follower = parcel.stream.queue[0];
      if (follower !== undefined) next.push(follower);
    }
    this.active = next;
  }

  private finish(parcel: Parcel): void {
    const { stream } = parcel;
    assert(stream.queue[0] === parcel, "parcels of a stream are served in order");
    stream.queue.shift();
    if (stream.queue.length === 0) this.streams.delete(stream.key);
    this.parcelsDone++;
    this.arriveLater(parcel.group, parcel.latencyNs);
  }

  /** Divides the links anew and arms the next end of a parcel. */
  private share(): void {
    this.generation++;
    if (this.active.length === 0) return;
    shareFairly(this.active, this.currentCapacities());
    let first = Number.POSITIVE_INFINITY;
    for (const { left, rate } of this.active) first = Math.min(first, left / rate);
    assert(Number.isFinite(first), "a stream on a link makes progress");
    this.scheduler.after(Math.max(first, 0), this, -this.generation);
  }

  /** Wire bytes per nanosecond by directed link, with the payload sizes in force now. */
  private currentCapacities(): Float64Array {
    const { epoch, topology } = this.machine;
    if (this.capacityEpoch === epoch) return this.capacities;
    this.capacityEpoch = epoch;
    this.capacities = new Float64Array(this.links.length * 2);
    for (const link of this.links) {
      const port = topology.byBdf.get(link.upper);
      assert(port !== undefined, "a link hangs on a port of this machine");
      const perNs = tlpBytesPerSecond(modelOf(link, port.maxPayload, this.wire)) / 1e9;
      this.capacities[link.towardsRoot] = perNs;
      this.capacities[link.awayFromRoot] = perNs;
    }
    return this.capacities;
  }

  private arriveLater(group: Group, delayNs: number): void {
    const token = this.nextArrival++;
    this.arrivals.set(token, group);
    this.scheduler.after(delayNs, this, token);
  }

  private arrive(group: Group): void {
    group.waiting--;
    if (group.waiting === 0) group.client.settled(group.token);
  }

  private latencyOf(story: RouteStory): number {
    const { linkNs, switchNs, rootComplexNs, memoryNs } = this.latency;
    const oneWay = (links: number, isHost: boolean, viaRoot: boolean): number => {
      const turns = Math.max(0, links - 1 + (isHost ? 1 : 0));
      const roots = viaRoot || isHost ? 1 : 0;
      return links * linkNs + Math.max(0, turns - roots) * switchNs + roots * rootComplexNs;
    };
    const isHost = story.hostRange !== null;
    const there = oneWay(story.requestLinks.length, isHost, story.requestViaRoot);
    if (story.direction === DmaDirection.write) return there + memoryNs;
    return there + memoryNs + oneWay(story.completionLinks.length, isHost, story.completionViaRoot);
  }
}

/**
 * Streams are told apart by who sends what way to whom; routes of one stream may differ in epoch.
 */
function streamKey({ initiator, direction, target, requestLinks, hostRange }: RouteStory): string {
  const end = hostRange === null ? `${target?.bdf}/${target?.bar}` : "host";
  return `${initiator}>${end}:${direction}:${requestLinks.join(",")}`;
}
