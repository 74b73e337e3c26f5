/**
 * The target: subsystems, ports, the controllers that hosts made, and the one `poll` that drives
 * them all. Transports bring connections ({@link addQueue}); everything else follows from commands.
 *
 * One round of `poll`: each connection takes in what arrived, each namespace's block queue is
 * kicked once and reaped, waiting requests are offered memory, each connection sends what became
 * ready. So a batch of commands costs one doorbell per device.
 */

import type { BlockQueue } from "../block/index.ts";
import { type Inspectable, PeerlaneError, type Poller, type Tree } from "../core/index.ts";
import { DISCOVERY_NQN, encodeDiscoveryLog } from "../spec/nvmf/index.ts";
import type { Tracer } from "../trace/index.ts";
import type { Channel, DirectMemory, QueueOrigin } from "./channel.ts";
import { ConnectHandler, type ConnectServices } from "./connect.ts";
import type { Controller } from "./controller.ts";
import type { Orchestrator } from "./orchestrator.ts";
import { Port, type PortOptions, type Referral, referralEntry } from "./port.ts";
import { TargetQueue } from "./queue.hot.ts";
import type { TargetRequest } from "./request.hot.ts";
import { Subsystem, type SubsystemOptions } from "./subsystem.ts";

export interface TargetOptions {
  readonly orchestrator: Orchestrator;
  readonly trace: Tracer;
  /** Monotonic nanoseconds: keep-alive timers run on it. */
  readonly nowNs: () => number;
}

/** A connection that sends no Connect command for this long is closed: it holds a receive ring. */
const CONNECT_TIMEOUT_NS = 30e9;
/** Rounds of `poll` between two looks at the clock. */
const CLOCK_ROUNDS = 64;

export class Target implements ConnectServices, Poller, Inspectable {
  readonly orchestrator: Orchestrator;
  readonly trace: Tracer;
  readonly nowNs: () => number;
  /** Every port offers it. */
  readonly discovery: Subsystem;
  private readonly subsystems = new Map<string, Subsystem>();
  private readonly ports = new Map<number, Port>();
  private readonly controllers = new Set<Controller>();
  private readonly connect: ConnectHandler;
  private queues: TargetQueue[] = [];
  private blockQueues: BlockQueue[] = [];
  private discoveryGeneration = 1;
  private rounds = 0;

  constructor(options: TargetOptions) {
    this.orchestrator = options.orchestrator;
    this.trace = options.trace;
    this.nowNs = options.nowNs;
    this.connect = new ConnectHandler(this);
    this.discovery = new Subsystem(
      { nqn: DISCOVERY_NQN, allowAnyHost: true, queuesMax: 1 },
      this.orchestrator,
    );
  }

  /** Throws `nqn-taken`, `bad-nqn`. */
  addSubsystem(options: SubsystemOptions): Subsystem {
    if (options.nqn === DISCOVERY_NQN || this.subsystems.has(options.nqn)) {
      throw new PeerlaneError("nqn-taken", `there is a subsystem ${options.nqn} already`, {
        remedy: "choose another name",
      });
    }
    const subsystem = new Subsystem(options, this.orchestrator);
    this.subsystems.set(options.nqn, subsystem);
    return subsystem;
  }

  /** Ends the subsystem's controllers and forgets it. Their I/O drains in `poll`. */
  removeSubsystem(subsystem: Subsystem): void {
    this.subsystems.delete(subsystem.nqn);
    for (const port of this.ports.values()) port.subsystems.delete(subsystem);
    for (const controller of [...this.controllers]) {
      if (controller.subsystem === subsystem) controller.end("subsystem removed");
    }
    this.discoveryChanged();
  }

  /** Throws `port-taken`. */
  addPort(options: PortOptions): Port {
    if (this.ports.has(options.id)) {
      throw new PeerlaneError("port-taken", `there is a port ${options.id} already`, {
        remedy: "choose another identifier",
      });
    }
    const port = new Port(options);
    port.subsystems.add(this.discovery);
    this.ports.set(port.id, port);
    return port;
  }

  /** Offers a subsystem through a port. */
  link(port: Port, subsystem: Subsystem): void {
    port.subsystems.add(subsystem);
    this.discoveryChanged();
  }

  /** Offers it there no more, and ends the controllers that came that way. */
  unlink(port: Port, subsystem: Subsystem): void {
    port.subsystems.delete(subsystem);
    for (const controller of [...this.controllers]) {
      if (controller.port === port && controller.subsystem === subsystem) {
        controller.end("subsystem left the port");
      }
    }
    this.discoveryChanged();
  }

  addReferral(port: Port, referral: Referral): void {
    port.referrals.push(referral);
    this.discoveryChanged();
  }

  /** Sets the state of an ANA group through a port and tells the hosts. */
  setAnaState(port: Port, group: number, state: number): void {
    port.setAnaState(group, state);
    for (const controller of this.controllers) {
      if (controller.port === port && !controller.subsystem.isDiscovery) controller.accessChanged();
    }
  }

  /**
   * A transport has a new connection. Its queue takes a Connect command first; requests are the
   * transport's buffers. Poll it through {@link poll}.
   */
  addQueue(
    channel: Channel,
    origin: QueueOrigin,
    requests: readonly TargetRequest[],
    direct: DirectMemory | null = null,
  ): TargetQueue {
    const queue = new TargetQueue(channel, origin, this.connect, requests, this.trace, direct);
    queue.openedNs = this.nowNs();
    this.queues = [...this.queues, queue];
    return queue;
  }

  /** The connection is gone, or must go: what is in flight drains, nothing is answered. */
  dropQueue(queue: TargetQueue, reason: string): void {
    if (queue.isClosed) return;
    queue.channel.close(reason);
    queue.close();
  }

  /** A queue drained that no controller had, or its controller is done with it. */
  queueGone(queue: TargetQueue): void {
    this.queues = this.queues.filter((other) => other !== queue);
  }

  port(id: number): Port | null {
    return this.ports.get(id) ?? null;
  }

  controller(subsystem: Subsystem, cntlid: number): Controller | null {
    for (const controller of this.controllers) {
      const isIt = controller.subsystem === subsystem && controller.cntlid === cntlid;
      if (isIt && !controller.isEnding) return controller;
    }
    return null;
  }

  controllerMade(controller: Controller): void {
    this.controllers.add(controller);
    controller.subsystem.controllers.set(controller.cntlid, controller);
    this.collectBlockQueues();
  }

  controllerGone(controller: Controller): void {
    this.controllers.delete(controller);
    controller.subsystem.controllers.delete(controller.cntlid);
    this.collectBlockQueues();
  }

  /** The block queues to drive: those of all subsystems, each once. */
  private collectBlockQueues(): void {
    const found = new Set<BlockQueue>();
    for (const subsystem of this.subsystems.values()) {
      for (const { queue } of subsystem.allNamespaces()) found.add(queue);
    }
    this.blockQueues = [...found];
  }

  discoveryLog(port: Port, hostNqn: string): Uint8Array {
    const entries = [];
    for (const other of this.ports.values()) {
      for (const subsystem of other.subsystems) {
        // Its own entry, and the subsystems that this host may use.
        const isOwn = subsystem === this.discovery && other === port;
        const isOffered = subsystem !== this.discovery && subsystem.mayConnect(hostNqn);
        if (isOwn || isOffered) entries.push(other.entryFor(subsystem));
      }
    }
    for (const referral of port.referrals) entries.push(referralEntry(referral, DISCOVERY_NQN));
    return encodeDiscoveryLog(this.discoveryGeneration, entries);
  }

  /** Something in the discovery log changed: counts it and tells discovery controllers. */
  private discoveryChanged(): void {
    this.discoveryGeneration++;
    for (const controller of this.controllers) {
      if (controller.subsystem === this.discovery) controller.discoveryChanged();
    }
    this.collectBlockQueues();
  }

  poll(): number {
    const { queues, blockQueues } = this;
    let done = 0;
    for (let i = 0; i < queues.length; i++) done += queues[i].poll();
    for (let i = 0; i < blockQueues.length; i++) done += blockQueues[i].poll();
    for (let i = 0; i < queues.length; i++) queues[i].channel.kick();
    if (done === 0 || ++this.rounds >= CLOCK_ROUNDS) {
      this.rounds = 0;
      this.checkTimers();
    }
    return done;
  }

  private checkTimers(): void {
    if (this.queues.length === 0) return;
    const now = this.nowNs();
    for (const controller of this.controllers) controller.checkKeepAlive(now);
    for (const queue of this.queues) {
      const isStranger = queue.handler === this.connect && !queue.isClosed;
      if (isStranger && now - queue.openedNs > CONNECT_TIMEOUT_NS) {
        this.dropQueue(queue, "no Connect command came");
      }
    }
  }

  /** Ends all controllers. Poll until {@link isIdle}. */
  shutdown(reason = "target shut down"): void {
    for (const controller of [...this.controllers]) controller.end(reason);
    for (const queue of this.queues) this.dropQueue(queue, reason);
  }

  /** No connection is left. */
  get isIdle(): boolean {
    return this.queues.length === 0 && this.controllers.size === 0;
  }

  inspect(): Tree {
    return {
      ports: [...this.ports.values()].map((port) => port.inspect()),
      subsystems: [...this.subsystems.values()].map((subsystem) => subsystem.inspect()),
      controllers: [...this.controllers].map((controller) => controller.inspect()),
      connections: this.queues.length,
      discoveryGeneration: this.discoveryGeneration,
      orchestrator: this.orchestrator.inspect(),
    };
  }
}
