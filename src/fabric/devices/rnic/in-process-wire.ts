/**
 * A wire inside this process, between RNIC models of one or several fabrics that share a scheduler.
 *
 * Without latency and bandwidth a run is delivered inside `send`: the receiver moves the lent
 * payload straight to its own memory, so a message costs one copy. With either, runs queue per
 * receiving port in due order; the queue copies the payload (it is the wire's own buffering) and
 * delivers from a timer of the receiver. Loss comes from a seeded generator or from a filter.
 *
 * Invariants: runs between two ports keep their order; queues are bounded, and what does not fit is
 * dropped and counted. Everything is a function of seed and order of calls.
 *
 * Leaves out: congestion between senders to one port (each sender has the bandwidth for itself),
 * duplication and corruption.
 */

import {
  assert,
  formatBdf,
  PeerlaneError,
  type Prng,
  type Tree,
  WIRE_QUEUE_MAX,
} from "../../../core/index.ts";
import { formatGid, GID_BYTES } from "../../../spec/rdma/index.ts";
import type { DevicePort } from "../../device.ts";
import { type Wire, type WireEndpoint, type WirePath, type WirePort, WireRun } from "./wire.ts";

/** How the wire falls short of perfect. */
export interface WireConditions {
  /** Runs lost, 0 to 1; needs `prng`. */
  readonly lossProbability?: number;
  readonly prng?: Prng;
  /** One way. */
  readonly latencyNs?: number;
  /** Payload and headers of each sender. 0: no limit. */
  readonly gigabitsPerSecond?: number;
  /** Loses the runs for which it answers true. For tests that must hit one run. */
  readonly lose?: ((run: WireRun) => boolean) | null;
}

/** Headers and gaps of one RoCEv2 packet: Ethernet 38, IPv4 20, UDP 8, BTH 12, ICRC 4. */
const PACKET_OVERHEAD_BYTES = 82;
const NO_BYTES = new Uint8Array(0);

/** A run under way on a delayed wire. */
class QueuedRun {
  readonly run = new WireRun();
  dueNs = 0;
  private bytes: Uint8Array = NO_BYTES;

  fill(from: WireRun, dueNs: number): void {
    this.run.copyHeader(from);
    this.dueNs = dueNs;
    if (this.bytes.length < from.payloadBytes) this.bytes = new Uint8Array(from.payloadBytes);
    let at = 0;
    for (let i = 0; i < from.fragmentCount; i++) {
      const { bytes, offset, length } = from.fragments[i];
      this.bytes.set(bytes.subarray(offset, offset + length), at);
      at += length;
    }
    this.run.clearPayload();
    if (at > 0) this.run.addFragment(this.bytes, 0, at);
  }
}

class Path implements WirePath {
  readonly gid: Uint8Array;
  readonly name: string;
  target: InProcessPort | null = null;

  constructor(gid: Uint8Array) {
    this.gid = gid;
    this.name = formatGid(gid);
  }
}

export class InProcessPort implements WirePort {
  readonly gid: Uint8Array;
  readonly name: string;
  readonly endpoint: WireEndpoint;
  readonly port: DevicePort;
  linkUp = true;
  attached = true;
  private readonly wire: InProcessWire;
  private readonly queue: QueuedRun[] = [];
  private readonly spare: QueuedRun[] = [];
  /** When this sender's link is free again. */
  private freeAtNs = 0;
  private runsSent = 0;
  private bytesSent = 0;
  private runsLost = 0;

  constructor(wire: InProcessWire, gid: Uint8Array, endpoint: WireEndpoint, port: DevicePort) {
    this.wire = wire;
    this.gid = gid;
    this.name = formatGid(gid);
    this.endpoint = endpoint;
    this.port = port;
  }

  get mtu(): number {
    return this.wire.mtu;
  }

  path(gid: Uint8Array): WirePath {
    return new Path(Uint8Array.from(gid));
  }

  send(path: WirePath, run: WireRun): void {
    const { wire } = this;
    this.runsSent++;
    this.bytesSent += run.payloadBytes;
    const target = (path as Path).target;
    if (target?.attached !== true) {
      this.sendFirst(path as Path, run);
      return;
    }
    if (!target.linkUp || !this.linkUp || (wire.mayLose && wire.loses(run))) {
      this.runsLost++;
      return;
    }
    run.sourceGid = this.gid;
    if (wire.immediate) target.endpoint.receive(run);
    else this.sendLater(target, run);
  }

  /** The path leads nowhere yet, or no longer. */
  private sendFirst(path: Path, run: WireRun): void {
    path.target = this.wire.find(path.name);
    if (path.target === null) {
      this.runsLost++;
      return;
    }
    this.runsSent--;
    this.bytesSent -= run.payloadBytes;
    this.send(path, run);
  }

  detach(): void {
    this.attached = false;
    this.wire.forget(this);
  }

  private sendLater(target: InProcessPort, run: WireRun): void {
    const { latencyNs, bitsPerNs } = this.wire;
    const now = this.port.nowNs();
    const bytes = run.payloadBytes + run.packets * PACKET_OVERHEAD_BYTES;
    const start = Math.max(now, this.freeAtNs);
    const sendNs = bitsPerNs === 0 ? 0 : (bytes * 8) / bitsPerNs;
    this.freeAtNs = start + sendNs;
    if (!target.enqueue(run, this.freeAtNs + latencyNs)) this.runsLost++;
  }

  /** False when the port's queue is full. */
  private enqueue(run: WireRun, dueNs: number): boolean {
    if (this.queue.length >= WIRE_QUEUE_MAX) return false;
    const entry = this.spare.pop() ?? new QueuedRun();
    entry.fill(run, dueNs);
    // Several senders may be due in another order than they sent; runs of one sender never are.
    let at = this.queue.length;
    while (at > 0 && (this.queue[at - 1] as QueuedRun).dueNs > dueNs) at--;
    this.queue.splice(at, 0, entry);
    this.port.after(Math.max(0, dueNs - this.port.nowNs()), this, 0);
    return true;
  }

  /** A run is due. */
  timer(): void {
    const now = this.port.nowNs();
    const due = this.queue.findIndex(({ dueNs }) => dueNs > now);
    const ready = this.queue.splice(0, due < 0 ? this.queue.length : due);
    for (const entry of ready) {
      if (this.attached && this.linkUp) this.endpoint.receive(entry.run);
      this.spare.push(entry);
    }
  }

  inspect(): Tree {
    return {
      address: this.name,
      function: formatBdf(this.port.bdf),
      linkUp: this.linkUp,
      runsSent: this.runsSent,
      bytesSent: this.bytesSent,
      runsLost: this.runsLost,
      underWay: this.queue.length,
    };
  }
}

export class InProcessWire implements Wire {
  readonly mtu: number;
  private readonly ports = new Map<string, InProcessPort>();
  private conditions: WireConditions = {};
  private lost = 0;
  /** Some condition loses runs. */
  mayLose = false;
  /** Runs are delivered inside `send`. */
  immediate = true;
  latencyNs = 0;
  bitsPerNs = 0;

  constructor(conditions: WireConditions = {}, mtu = 4096) {
    this.mtu = mtu;
    this.setConditions(conditions);
  }

  /** Replaces all conditions, also while runs are under way. */
  setConditions(conditions: WireConditions): void {
    const { lossProbability = 0, prng, latencyNs = 0, gigabitsPerSecond = 0 } = conditions;
    if (lossProbability > 0 && prng === undefined) {
      throw new PeerlaneError("wire-no-prng", "a wire that loses runs needs a seeded generator", {
        remedy: "pass prng: new Prng(seed)",
      });
    }
    this.conditions = conditions;
    this.mayLose = lossProbability > 0 || (conditions.lose ?? null) !== null;
    this.latencyNs = latencyNs;
    this.bitsPerNs = gigabitsPerSecond;
    this.immediate = latencyNs === 0 && gigabitsPerSecond === 0;
  }

  attach(gid: Uint8Array, endpoint: WireEndpoint, port: DevicePort): InProcessPort {
    assert(gid.length === GID_BYTES, "a GID has 16 bytes");
    const made = new InProcessPort(this, Uint8Array.from(gid), endpoint, port);
    if (this.ports.has(made.name)) {
      throw new PeerlaneError("wire-address-busy", `another port has address ${made.name}`, {
        remedy: "give each RNIC an address of its own",
      });
    }
    this.ports.set(made.name, made);
    return made;
  }

  /** Plugs or pulls the cable of the port with this address. Runs to and from it are lost. */
  setLink(address: string, up: boolean): void {
    const port = this.ports.get(address);
    if (port === undefined) {
      throw new PeerlaneError("wire-no-port", `no port has address ${address}`, {
        remedy: `the wire has ${[...this.ports.keys()].join(", ") || "no ports"}`,
      });
    }
    port.linkUp = up;
  }

  find(name: string): InProcessPort | null {
    return this.ports.get(name) ?? null;
  }

  forget(port: InProcessPort): void {
    this.ports.delete(port.name);
  }

  loses(run: WireRun): boolean {
    const { lossProbability = 0, prng, lose } = this.conditions;
    const lost =
      (prng !== undefined && lossProbability > 0 && prng.chance(lossProbability)) ||
      lose?.(run) === true;
    if (lost) this.lost++;
    return lost;
  }

  inspect(): Tree {
    return {
      mtu: this.mtu,
      latencyNs: this.latencyNs,
      gigabitsPerSecond: this.bitsPerNs,
      lossProbability: this.conditions.lossProbability ?? 0,
      runsLostByConditions: this.lost,
      ports: [...this.ports.values()].map((port) => port.inspect()),
    };
  }
}
