/**
 * Who moved how many bytes over which link, into whose memory. Ports count per route; this folds
 * those counts into totals when somebody asks or when routes become invalid.
 *
 * Invariants: folding moves counts, so nothing is counted twice or lost; interrupt messages are not
 * payload. CPU accesses to BARs are not counted.
 */

import { type Bdf, formatBdf, type Tree } from "../core/index.ts";
import type { Link } from "./link.ts";
import { DmaDirection, type Route, RouteCount, TargetKind } from "./route.ts";
import { PUBLISHED_WIRE, wireCosts } from "./wire-cost.ts";

/** One direction of one link. */
export interface LinkTraffic {
  /** The downstream port above the link. */
  readonly upper: Bdf;
  readonly towardsRoot: boolean;
  /** Payload of writes and completions. */
  readonly payloadBytes: number;
  /** With TLP headers and framing. */
  readonly wireBytes: number;
  readonly tlps: number;
}

/** One requester's traffic with one host allocation. */
export interface HostMemoryTraffic {
  readonly requester: Bdf;
  readonly base: number;
  readonly sizeBytes: number;
  /** What the allocation is for; `unallocated` where a stray DMA went. */
  readonly purpose: string;
  readonly readBytes: number;
  readonly writtenBytes: number;
}

/** One requester's traffic with one peer's BAR. */
export interface PeerTraffic {
  readonly requester: Bdf;
  readonly owner: Bdf;
  readonly bar: number;
  readonly viaRootComplex: boolean;
  readonly readBytes: number;
  readonly writtenBytes: number;
}

type Mutable<T> = { -readonly [K in keyof T]: T[K] };

const PAYLOAD = 0;
const WIRE = 1;
const TLPS = 2;
const NUMBERS = 3;

export class TrafficLedger {
  interruptMessages = 0;
  private readonly live: Route[] = [];
  private readonly links: readonly Link[];
  private readonly linkNumbers: Float64Array;
  private readonly host = new Map<string, Mutable<HostMemoryTraffic>>();
  private readonly peers = new Map<string, Mutable<PeerTraffic>>();

  constructor(links: readonly Link[]) {
    this.links = links;
    this.linkNumbers = new Float64Array(links.length * 2 * NUMBERS);
  }

  /** Counts of `route` are folded from now on. */
  add(route: Route): void {
    this.live.push(route);
  }

  /** The epoch moved: no port uses these routes again. */
  forget(): void {
    this.fold();
    this.live.length = 0;
  }

  reset(): void {
    this.fold();
    this.linkNumbers.fill(0);
    this.host.clear();
    this.peers.clear();
    this.interruptMessages = 0;
  }

  linkTraffic(): LinkTraffic[] {
    this.fold();
    return this.links.flatMap((link) => [this.oneWay(link, true), this.oneWay(link, false)]);
  }

  hostMemoryTraffic(): HostMemoryTraffic[] {
    this.fold();
    return [...this.host.values()].map((entry) => ({ ...entry }));
  }

  peerTraffic(): PeerTraffic[] {
    this.fold();
    return [...this.peers.values()].map((entry) => ({ ...entry }));
  }

  inspect(): Tree {
    const links = this.linkTraffic()
      .filter(({ wireBytes }) => wireBytes > 0)
      .map(({ upper, towardsRoot, payloadBytes, wireBytes }) => ({
        link: formatBdf(upper),
        direction: towardsRoot ? "up" : "down",
        payloadBytes,
        wireBytes,
      }));
    return {
      links,
      hostMemory: this.hostMemoryTraffic().map((entry) => ({
        ...entry,
        requester: formatBdf(entry.requester),
      })),
      peers: this.peerTraffic().map((entry) => ({
        ...entry,
        requester: formatBdf(entry.requester),
        owner: formatBdf(entry.owner),
      })),
      interruptMessages: this.interruptMessages,
    };
  }

  private fold(): void {
    for (const route of this.live) {
      const { counts } = route;
      if (counts[RouteCount.transfers] === 0) continue;
      if (route.kind === TargetKind.interrupt) {
        this.interruptMessages += counts[RouteCount.transfers];
      } else {
        this.foldLinks(route);
        this.foldTarget(route);
      }
      counts.fill(0);
    }
  }

  private foldLinks({ counts, story }: Route): void {
    const bytes = counts[RouteCount.bytes];
    const tlps = counts[RouteCount.tlps];
    const requests = counts[RouteCount.requests];
    const batch = { bytes, tlps, requests };
    const { links, bytes: wire } = wireCosts(story, batch, this.links, PUBLISHED_WIRE);
    const isRead = story.direction === DmaDirection.read;
    for (const [at, directed] of links.entries()) {
      const isRequest = isRead && at < story.requestLinks.length;
      this.addTo(directed, PAYLOAD, isRequest ? 0 : bytes);
      this.addTo(directed, WIRE, wire[at] as number);
      this.addTo(directed, TLPS, isRequest ? requests : tlps);
    }
  }

  private addTo(directed: number, number: number, amount: number): void {
    const at = directed * NUMBERS + number;
    this.linkNumbers[at] = this.linkNumbers[at] + amount;
  }

  private foldTarget({ counts, story }: Route): void {
    const bytes = counts[RouteCount.bytes];
    const isWrite = story.direction === DmaDirection.write;
    const entry = story.hostRange === null ? this.peerEntry(story) : this.hostEntry(story);
    if (entry === null) return;
    if (isWrite) entry.writtenBytes += bytes;
    else entry.readBytes += bytes;
  }

  private hostEntry({ initiator, hostRange }: Route["story"]): Mutable<HostMemoryTraffic> | null {
    if (hostRange === null) return null;
    const { base, sizeBytes, purpose } = hostRange;
    const key = `${initiator}/${base}/${purpose}`;
    let entry = this.host.get(key);
    if (entry === undefined) {
      entry = { requester: initiator, base, sizeBytes, purpose, readBytes: 0, writtenBytes: 0 };
      this.host.set(key, entry);
    }
    return entry;
  }

  private peerEntry(story: Route["story"]): Mutable<PeerTraffic> | null {
    const { initiator, target } = story;
    if (target === null || target.bdf === null || target.bar === null) return null;
    const viaRootComplex = story.requestViaRoot || story.completionViaRoot;
    const key = `${initiator}/${target.bdf}/${target.bar}/${viaRootComplex}`;
    let entry = this.peers.get(key);
    if (entry === undefined) {
      const { bdf: owner, bar } = target;
      entry = { requester: initiator, owner, bar, viaRootComplex, readBytes: 0, writtenBytes: 0 };
      this.peers.set(key, entry);
    }
    return entry;
  }

  private oneWay(link: Link, towardsRoot: boolean): LinkTraffic {
    const at = (towardsRoot ? link.towardsRoot : link.awayFromRoot) * NUMBERS;
    return {
      upper: link.upper,
      towardsRoot,
      payloadBytes: this.linkNumbers[at + PAYLOAD] as number,
      wireBytes: this.linkNumbers[at + WIRE] as number,
      tlps: this.linkNumbers[at + TLPS] as number,
    };
  }
}
