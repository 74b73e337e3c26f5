/**
 * The target: subsystems, ports, the controllers that hosts made, and the one `poll` that drives
 * them all. Transports bring connections ({@link addQueue}); everything else follows from commands.
 *
 * One round of `poll`: each connection takes in what arrived, each namespace's block queue is
 * kicked once and reaped, waiting requests are offered memory, each connection sends what became
 * ready. So a batch of commands costs one doorbell per device.
 */

import type { BlockQueue } from "../block/index.ts";
import {
  type Inspectable,
  NS_PER_MS,
  NVMET_CONNECT_TIMEOUT_MS,
  NVMET_CONNECTION_BYTES,
  PeerlaneError,
  type Poller,
  TCP_ICREQ_TIMEOUT_MS,
  type Tree,
} from "../core/index.ts";
import { type Random, realRandom } from "../platform/index.ts";
import { DISCOVERY_NQN } from "../spec/nvmf/index.ts";
import type { Tracer } from "../trace/index.ts";
import { PendingAborts } from "./aborts.ts";
import type { AuthEvent } from "./auth/controller-auth.ts";
import { HostSecurity } from "./auth/host-security.ts";
import type { Channel, DirectMemory, QueueOrigin } from "./channel.ts";
import { CommandStats, RoundClock } from "./command-stats.hot.ts";
import { ConnectHandler, type ConnectServices } from "./connect.ts";
import type { Controller } from "./controller.ts";
import { Discovery } from "./discovery.ts";
import type { Namespace } from "./namespace.ts";
import type { Orchestrator } from "./orchestrator.ts";
import { OverdueHosts } from "./overdue.ts";
import { Port, type PortOptions, type Referral } from "./port.ts";
import { TargetQueue } from "./queue.hot.ts";
import type { TargetRequest } from "./request.hot.ts";
import {
  Subsystem,
  type SubsystemListener,
  type SubsystemMember,
  type SubsystemOptions,
} from "./subsystem.ts";

export interface TargetOptions {
  readonly orchestrator: Orchestrator;
  readonly trace: Tracer;
  /** Monotonic nanoseconds: keep-alive timers run on it. */
  readonly nowNs: () => number;
  /**
   * The name of this target's own discovery subsystem. Default: the well-known one, which always
   * works beside it.
   */
  readonly discoveryNqn?: string;
  /** For challenges and DH keys. Default: the host's. */
  readonly random?: Random;
  /** Told how each authentication ends. */
  readonly onAuthentication?: (event: AuthEvent) => void;
}

/** Rounds of `poll` between two looks at the clock. */
const CLOCK_ROUNDS = 64;

export class Target implements ConnectServices, SubsystemListener, Poller, Inspectable {
  readonly orchestrator: Orchestrator;
  readonly trace: Tracer;
  readonly nowNs: () => number;
  /** Milliseconds that a connection may take to send its ICReq (TCP), and its Connect command. */
  handshakeTimeoutMs = TCP_ICREQ_TIMEOUT_MS;
  connectTimeoutMs = NVMET_CONNECT_TIMEOUT_MS;
  /** Bytes of payload that one connection may have in buffers at once. */
  connectionBytesMax = NVMET_CONNECTION_BYTES;
  /** Times that hosts may take for the data of their commands. */
  readonly overdue = new OverdueHosts();
  /** Keys of hosts. */
  readonly security: HostSecurity;
  readonly onAuthentication: ((event: AuthEvent) => void) | null;
  readonly discovery: Discovery;
  private readonly subsystems = new Map<string, Subsystem>();
  private readonly ports = new Map<number, Port>();
  private readonly controllers = new Set<Controller>();
  private readonly connect: ConnectHandler;
  /** Commands of connections that no controller has: Connect, and what is sent in its place. */
  readonly strangers = new CommandStats();
  private readonly clock = new RoundClock();
  private queues: TargetQueue[] = [];
  private blockQueues: BlockQueue[] = [];
  private readonly aborts = new PendingAborts();
  /** Namespaces that were removed and have I/O in flight. */
  private readonly leaving = new Set<Namespace>();
  private rounds = 0;
  private readonly idleWaiters: (() => void)[] = [];
  private readonly startNs: number;

  constructor(options: TargetOptions) {
    this.orchestrator = options.orchestrator;
    this.trace = options.trace;
    this.nowNs = options.nowNs;
    this.security = new HostSecurity(options.random ?? realRandom);
    this.onAuthentication = options.onAuthentication ?? null;
    this.startNs = options.nowNs();
    this.connect = new ConnectHandler(this);
    this.discovery = new Discovery(options.discoveryNqn ?? DISCOVERY_NQN, this.orchestrator);
  }

  get upNs(): number {
    return this.nowNs() - this.startNs;
  }

  /**
   * Names the discovery subsystem; the well-known name works as well. Throws `nqn-taken`,
   * `bad-nqn`.
   */
  set discoveryNqn(nqn: string) {
    if (nqn === this.discoveryNqn) return;
    this.checkFree(nqn);
    this.discovery.subsystem.rename(nqn);
    this.discoveryChanged();
  }

  get discoveryNqn(): string {
    return this.discovery.subsystem.nqn;
  }

  private checkFree(nqn: string): void {
    if (!this.subsystems.has(nqn)) return;
    throw new PeerlaneError("nqn-taken", `there is a subsystem ${nqn} already`, {
      remedy: "choose another name",
    });
  }

  /** Throws `nqn-taken`, `bad-nqn`. */
  addSubsystem(options: SubsystemOptions): Subsystem {
    this.checkFree(options.nqn);
    if (this.discovery.subsystem.answersTo(options.nqn)) {
      throw new PeerlaneError("nqn-taken", `${options.nqn} is the discovery subsystem`, {
        remedy: "choose another name",
      });
    }
    const subsystem = new Subsystem(options, this.orchestrator, this);
    this.subsystems.set(options.nqn, subsystem);
    return subsystem;
  }

  /** Ends the subsystem's controllers and forgets it. Their I/O drains in `poll`. */
  removeSubsystem(subsystem: Subsystem): void {
    for (const port of this.ports.values()) port.subsystems.delete(subsystem);
    this.endControllers("subsystem removed", (its) => its.subsystem === subsystem);
    this.subsystems.delete(subsystem.nqn);
    for (const namespace of [...subsystem.allNamespaces()]) subsystem.removeNamespace(namespace);
    this.discoveryChanged((hostNqn) => subsystem.mayConnect(hostNqn));
  }

  /** The subsystem of this name; null: there is none. */
  subsystem(nqn: string): Subsystem | null {
    return this.subsystems.get(nqn) ?? null;
  }

  allSubsystems(): IterableIterator<Subsystem> {
    return this.subsystems.values();
  }

  allPorts(): IterableIterator<Port> {
    return this.ports.values();
  }

  allControllers(): IterableIterator<Controller> {
    return this.controllers.values();
  }

  /** Throws `port-taken`. */
  addPort(options: PortOptions): Port {
    if (this.ports.has(options.id)) {
      throw new PeerlaneError("port-taken", `there is a port ${options.id} already`, {
        remedy: "choose another identifier",
      });
    }
    const port = new Port(options);
    port.subsystems.add(this.discovery.subsystem);
    this.ports.set(port.id, port);
    return port;
  }

  /**
   * Ends the controllers that came through the port and forgets it. Its transport is its owner's to
   * close, first.
   */
  removePort(port: Port): void {
    if (this.ports.get(port.id) !== port) return;
    this.endControllers("port removed", (its) => its.port === port);
    this.ports.delete(port.id);
    this.discoveryChanged();
  }

  /** Offers a subsystem through a port. */
  link(port: Port, subsystem: Subsystem): void {
    port.subsystems.add(subsystem);
    this.discoveryChanged((hostNqn) => subsystem.mayConnect(hostNqn));
  }

  /** Offers it there no more, and ends the controllers that came that way. */
  unlink(port: Port, subsystem: Subsystem): void {
    port.subsystems.delete(subsystem);
    const isThere = (its: Controller): boolean => its.port === port && its.subsystem === subsystem;
    this.endControllers("subsystem left the port", isThere);
    this.discoveryChanged((hostNqn) => subsystem.mayConnect(hostNqn));
  }

  addReferral(port: Port, referral: Referral): void {
    port.referrals.push(referral);
    this.discoveryChanged();
  }

  /** Takes a referral back; one that is not there is ignored. */
  removeReferral(port: Port, referral: Referral): void {
    const at = port.referrals.indexOf(referral);
    if (at < 0) return;
    port.referrals.splice(at, 1);
    this.discoveryChanged();
  }

  hostsChanged(_subsystem: Subsystem, hostNqn: string | null): void {
    this.discoveryChanged((other) => hostNqn === null || other === hostNqn);
  }

  namespaceAdded(_namespace: Namespace): void {
    this.collectBlockQueues();
  }

  namespaceRemoved(namespace: Namespace): void {
    if (namespace.inFlight > 0) this.leaving.add(namespace);
    this.collectBlockQueues();
  }

  /** Sets the state of an ANA group through a port and tells the hosts. */
  setAnaState(port: Port, group: number, state: number): void {
    port.setAnaState(group, state);
    for (const controller of this.controllers) {
      if (controller.port === port) controller.groupChanged(group);
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
    const { connect, trace, strangers, clock } = this;
    const queue = new TargetQueue(
      channel,
      origin,
      connect,
      requests,
      trace,
      direct,
      strangers,
      clock,
    );
    queue.openedNs = this.nowNs();
    queue.share.limitBytes = this.connectionBytesMax;
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
    this.tellIdle();
  }

  abortCommands(members: readonly SubsystemMember[], { nsid }: Namespace, done: () => void): void {
    this.aborts.start(members, nsid, done);
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
  }

  controllerGone(controller: Controller): void {
    this.controllers.delete(controller);
    controller.subsystem.controllers.delete(controller.cntlid);
    this.tellIdle();
  }

  /** The block queues to drive: those of all subsystems, each once. */
  private collectBlockQueues(): void {
    const found = new Set<BlockQueue>();
    for (const subsystem of this.subsystems.values()) {
      for (const { queue } of subsystem.allNamespaces()) found.add(queue);
    }
    for (const { queue } of this.leaving) found.add(queue);
    this.blockQueues = [...found];
  }

  discoveryLog(port: Port, hostNqn: string, reached?: string): Uint8Array {
    return this.discovery.log(this.ports.values(), port, hostNqn, reached);
  }

  /** What these hosts find in the discovery log changed. */
  private discoveryChanged(concerns: (hostNqn: string) => boolean = () => true): void {
    this.discovery.changed(this.controllers, concerns);
  }

  poll(): number {
    const { queues, blockQueues } = this;
    let done = 0;
    const { clock } = this;
    if (queues.length > 0) clock.nowNs = this.nowNs();
    for (let i = 0; i < queues.length; i++) done += queues[i].poll();
    // Two looks a round: what came in and what the disks finished in one round took some time.
    if (done > 0) clock.nowNs = this.nowNs();
    for (let i = 0; i < blockQueues.length; i++) done += blockQueues[i].poll();
    if (!this.aborts.isEmpty) this.aborts.check();
    for (let i = 0; i < queues.length; i++) queues[i].channel.kick();
    if (done === 0 || ++this.rounds >= CLOCK_ROUNDS) {
      this.rounds = 0;
      this.checkTimers();
    }
    return done;
  }

  private checkTimers(): void {
    if (this.leaving.size > 0) this.forgetDrained();
    if (this.queues.length === 0) return;
    const now = this.nowNs();
    for (const controller of this.controllers) {
      controller.checkTimers(now);
    }
    this.overdue.look(now, this.controllers);
    for (const queue of this.queues) {
      const isStranger = queue.handler === this.connect && !queue.isClosed;
      if (isStranger && now - queue.openedNs > this.patienceNs(queue)) {
        const missing = queue.channel.awaitsHandshake === true ? "ICReq" : "Connect command";
        this.dropQueue(queue, `no ${missing} came`);
      }
    }
  }

  /** How long a connection may wait for what its host has not sent yet. */
  private patienceNs(queue: TargetQueue): number {
    const { handshakeTimeoutMs, connectTimeoutMs } = this;
    const isMute = queue.channel.awaitsHandshake === true;
    const ms = isMute ? Math.min(handshakeTimeoutMs, connectTimeoutMs) : connectTimeoutMs;
    return ms * NS_PER_MS;
  }

  private forgetDrained(): void {
    const drained = [...this.leaving].filter(({ inFlight }) => inFlight === 0);
    if (drained.length === 0) return;
    for (const namespace of drained) this.leaving.delete(namespace);
    this.collectBlockQueues();
  }

  private endControllers(reason: string, which: (controller: Controller) => boolean): void {
    // A copy: one that has nothing in flight is gone at once.
    for (const controller of [...this.controllers]) if (which(controller)) controller.end(reason);
  }

  /** Ends all controllers. Poll until {@link isIdle}. */
  shutdown(reason = "target shut down"): void {
    this.endControllers(reason, () => true);
    for (const queue of this.queues) this.dropQueue(queue, reason);
  }

  /** No connection is left. */
  get isIdle(): boolean {
    return this.queues.length === 0 && this.controllers.size === 0 && this.leaving.size === 0;
  }

  /** Resolves when no connection is left. */
  whenIdle(): Promise<void> {
    if (this.isIdle) return Promise.resolve();
    return new Promise((resolve) => this.idleWaiters.push(resolve));
  }

  private tellIdle(): void {
    if (!this.isIdle) return;
    for (const resolve of this.idleWaiters.splice(0)) resolve();
  }

  inspect(): Tree {
    return {
      ports: [...this.ports.values()].map((port) => port.inspect()),
      subsystems: [...this.subsystems.values()].map((subsystem) => subsystem.inspect()),
      controllers: [...this.controllers].map((controller) => controller.inspect()),
      connections: this.queues.length,
      discoveryNqn: this.discoveryNqn,
      discoveryGeneration: this.discovery.generation,
      namespacesLeaving: this.leaving.size,
      security: this.security.inspect(),
      orchestrator: this.orchestrator.inspect(),
    };
  }
}
