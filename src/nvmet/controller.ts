/**
 * A controller of the target: one association of one host. It has an Admin Queue, I/O queues,
 * properties, features, a Keep Alive Timer (keep-alive.ts), the authentication of its queues
 * (auth/controller-auth.ts), and the namespaces that its host may see (attachments.ts).
 *
 * Life: made by Connect on the Admin Queue -> enabled by CC.EN -> I/O queues connect -> ends when
 * the Admin Queue's connection ends, the keep-alive timer runs out or the subsystem goes; its
 * bindings are released when the last queue has drained.
 */

import { BioPool } from "../block/index.ts";
import {
  type Inspectable,
  NVMET_QUEUE_DEPTH_MAX,
  NVMET_SGL_DESCRIPTORS_MAX,
  type Tree,
} from "../core/index.ts";
import {
  EventType,
  IoCommandSetEvent,
  LogPage,
  NoticeEvent,
  NvmeStatus,
  OAES_ANA_CHANGE,
  OAES_DISCOVERY_CHANGE,
  OAES_NAMESPACE_ATTRIBUTE,
  STATUS_DNR,
} from "../spec/nvme/index.ts";
import { FABRICS_OPCODE } from "../spec/nvmf/index.ts";
import { Event } from "../trace/index.ts";
import { adminCommand } from "./admin/commands.ts";
import { ErrorInformation } from "./admin/error-log.ts";
import { AsyncEvents } from "./admin/events.ts";
import { FeatureValues } from "./admin/feature-values.ts";
import { ReservationNotices } from "./admin/reservation-notices.ts";
import { Attachments } from "./attachments.ts";
import {
  type AuthController,
  type AuthServices,
  ControllerAuthentication,
} from "./auth/controller-auth.ts";
import { moverOf } from "./channel.ts";
import { DiskViews } from "./disk-views.ts";
import { fabricsCommand } from "./fabrics.ts";
import { flushAll } from "./flush.ts";
import { KeepAliveTimer } from "./keep-alive.ts";
import type { Namespace } from "./namespace.ts";
import type { DataMover, Orchestrator } from "./orchestrator.ts";
import type { Port } from "./port.ts";
import { Properties, type PropertyEffect } from "./properties.ts";
import type { CommandHandler, TargetQueue, Victim } from "./queue.hot.ts";
import type { TargetRequest } from "./request.hot.ts";
import { reservationCommand, reservationData } from "./reservation-commands.ts";
import { toHex } from "./reservations.ts";
import { QueueReserve } from "./reserve.ts";
import type { Subsystem, SubsystemMember } from "./subsystem.ts";

/** What a controller needs of the target around it. */
export interface ControllerServices extends AuthServices {
  readonly orchestrator: Orchestrator;
  /** Nanoseconds since the target started. */
  readonly upNs: number;
  /** The discovery log as a host on `port` sees it. */
  discoveryLog(port: Port, hostNqn: string, reached?: string): Uint8Array;
  /** A queue has drained: it is not polled any more. */
  queueGone(queue: TargetQueue): void;
  /** Aborts commands to a namespace and calls `done` when none of them is left. */
  abortCommands(members: readonly SubsystemMember[], namespace: Namespace, done: () => void): void;
  /** All its queues are gone. */
  controllerGone(controller: Controller): void;
}

export interface ControllerOptions {
  readonly cntlid: number;
  readonly subsystem: Subsystem;
  readonly port: Port;
  readonly hostNqn: string;
  readonly hostId: Uint8Array;
  /** Milliseconds; 0: the host asks for no timer. */
  readonly keepAliveMs: number;
  readonly adminQueue: TargetQueue;
}

/** Identify, log pages, keys: what an Admin Queue moves at once when the pools are used up. */
const ADMIN_RESERVE_BYTES = 64 * 1024;
/**
 * A discovery controller without a Keep Alive Timer ends after two idle minutes (Base 2.0,
 * 3.1.2.3).
 */
const DISCOVERY_TIMEOUT_MS = 120_000;
const reservationLogPage = LogPage.reservationNotification;

/** What a controller knows of one queue besides the queue itself. */
interface QueueResources {
  /** Its receive ring, where data may come in capsules. */
  readonly capsules: DiskViews | null;
  /** Queues over TCP have one. */
  readonly reserve: QueueReserve | null;
}

export class Controller implements CommandHandler, SubsystemMember, AuthController, Inspectable {
  readonly cntlid: number;
  readonly subsystem: Subsystem;
  readonly port: Port;
  readonly hostNqn: string;
  readonly hostId: Uint8Array;
  readonly hostKey: string;
  readonly adminQueue: TargetQueue;
  readonly ioQueues = new Map<number, TargetQueue>();
  readonly properties: Properties;
  readonly events = new AsyncEvents();
  readonly errors = new ErrorInformation();
  readonly changedNamespaces = new Set<number>();
  readonly reservationNotices = new ReservationNotices();
  readonly featureValues = new FeatureValues();
  readonly services: ControllerServices;
  readonly attached: Attachments;
  readonly keepAlive: KeepAliveTimer;
  /** What Set Features granted; before that, what the subsystem has. */
  queuesGranted: number;
  private readonly authentication: ControllerAuthentication;
  private endReason: string | null = null;
  private readonly resources = new Map<TargetQueue, QueueResources>();

  constructor(options: ControllerOptions, services: ControllerServices) {
    this.cntlid = options.cntlid;
    this.subsystem = options.subsystem;
    this.queuesGranted = options.subsystem.queuesMax;
    this.port = options.port;
    this.hostNqn = options.hostNqn;
    this.hostId = options.hostId;
    this.hostKey = toHex(options.hostId);
    this.adminQueue = options.adminQueue;
    this.services = services;
    const { ioDepthMax } = options.adminQueue.origin;
    this.properties = new Properties(Math.min(ioDepthMax, NVMET_QUEUE_DEPTH_MAX));
    const nowNs = (): number => services.nowNs();
    this.keepAlive = new KeepAliveTimer(
      nowNs,
      this.subsystem.isDiscovery ? DISCOVERY_TIMEOUT_MS : 0,
    );
    this.keepAlive.set(options.keepAliveMs);
    const parties = { hostNqn: this.hostNqn, subsystemNqn: this.subsystem.nqn };
    this.authentication = new ControllerAuthentication(this, parties, services);
    const { orchestrator } = services;
    const { port, mover, hostKey } = this;
    const owner = { port, mover, hostKey, orchestrator };
    this.attached = new Attachments(owner, this.subsystem.nsidMax);
    for (const namespace of this.subsystem.namespaces()) {
      if (namespace.isVisibleTo(this.hostNqn)) this.attached.attach(namespace);
    }
    try {
      this.adopt(this.adminQueue);
    } catch (error) {
      this.attached.release();
      throw error;
    }
  }

  /** The Admin Queue, then the I/O queues. */
  get queues(): TargetQueue[] {
    return [this.adminQueue, ...this.ioQueues.values()];
  }

  get isEnding(): boolean {
    return this.endReason !== null;
  }

  /** What moves data between the network and memory: a NIC, the CPU (TCP), or nothing (loop). */
  get mover(): DataMover | null {
    return moverOf(this.adminQueue.origin);
  }

  /** Data goes over the connection itself (TCP). */
  get usesStream(): boolean {
    return this.adminQueue.origin.cpu !== undefined;
  }

  /** The target has memory of its own to copy through. */
  get canCopy(): boolean {
    return this.mover !== null;
  }

  /**
   * Bytes of data that a capsule of an I/O queue may carry. None over TCP where a namespace takes
   * peer memory: a capsule is received before anybody knows where its data should go.
   */
  get inCapsuleBytes(): number {
    const wantsPeer = this.attached.bindings.some((binding) => binding?.wantsPeer === true);
    return this.usesStream && wantsPeer ? 0 : this.adminQueue.origin.inCapsuleBytes;
  }

  /** Makes a connected queue this controller's. Throws `no-host-memory`, and nothing is changed. */
  adopt(queue: TargetQueue): void {
    const { cpu, capsules: ring } = queue.origin;
    const { transferMax } = this.subsystem;
    const bytes = queue.qid === 0 ? ADMIN_RESERVE_BYTES : transferMax;
    const reserve = cpu === undefined ? null : new QueueReserve(cpu, bytes, queue.share);
    queue.handler = this;
    queue.stats = this.subsystem.stats;
    queue.namespaces = this.attached.namespaces;
    queue.bindings = this.attached.bindings;
    queue.transferMax = transferMax;
    const { mover } = this;
    queue.controlPool = mover === null ? null : this.services.orchestrator.controlPool(mover);
    const capsules = ring === null ? null : new DiskViews(ring);
    this.resources.set(queue, { capsules, reserve });
    if (!this.subsystem.isDiscovery) this.authentication.demand(queue);
    if (queue.qid === 0) return;
    this.ioQueues.set(queue.qid, queue);
    const vecs = queue.direct === null ? 1 : NVMET_SGL_DESCRIPTORS_MAX;
    const bios = new BioPool(queue.requests.length, vecs);
    for (const request of queue.requests) request.bio = bios.acquire();
    queue.capsuleMemories = this.attached.namespaces.map(() => null);
    for (const namespace of this.attached.active()) this.mapBuffers(queue, namespace);
    this.openQueue(queue);
  }

  /** Lets an I/O queue take I/O, unless something stands in its way. */
  openQueue(queue: TargetQueue): void {
    queue.takesIo = queue.qid !== 0 && this.properties.isReady && !queue.needsAuth;
  }

  shutQueue(queue: TargetQueue, reason: string): void {
    queue.takesIo = false;
    queue.leavesBecause = reason;
    queue.isLeaving = true;
    if (queue.qid === 0) this.answerParked();
  }

  private answerParked(): void {
    for (const request of this.events.clear()) {
      this.adminQueue.complete(request, NvmeStatus.abortRequested);
    }
  }

  /** Lets the namespace's disks reach the queue's receive ring and its reserve. */
  private mapBuffers(queue: TargetQueue, namespace: Namespace): void {
    const resources = this.resources.get(queue);
    resources?.reserve?.map(namespace);
    const view = resources?.capsules?.of(namespace);
    if (view !== undefined) queue.capsuleMemories[namespace.nsid] = view;
  }

  attach(namespace: Namespace): void {
    if (this.isEnding || this.attached.has(namespace)) return;
    this.attached.attach(namespace);
    for (const queue of this.ioQueues.values()) this.mapBuffers(queue, namespace);
    this.attributesChanged(namespace);
  }

  detach(namespace: Namespace): void {
    if (!this.attached.has(namespace)) return;
    this.attached.detach(namespace);
    this.attributesChanged(namespace);
  }

  attributesChanged({ nsid }: Namespace): void {
    this.changedNamespaces.add(nsid);
    const info = NoticeEvent.namespaceAttribute;
    this.notice(info, LogPage.changedNamespaces, OAES_NAMESPACE_ATTRIBUTE);
  }

  gateChanged(namespace: Namespace): void {
    this.attached.refresh(namespace);
  }

  accessChanged(): void {
    this.notice(NoticeEvent.ana, LogPage.ana, OAES_ANA_CHANGE);
  }

  /** An ANA group's state through this controller's port changed. */
  groupChanged(group: number): void {
    const its = this.attached.active().filter(({ anaGroup }) => anaGroup === group);
    for (const namespace of its) this.attached.refresh(namespace);
    if (its.length > 0) this.accessChanged();
  }

  reservationNotice(namespace: Namespace, notice: number): void {
    if (!this.attached.has(namespace) || this.isEnding) return;
    if (this.reservationNotices.add(namespace.nsid, notice)) this.reservationEvent();
  }

  /** Tells the host that log page 80h has something to read. */
  reservationEvent(): void {
    const { ioCommandSet } = EventType;
    const { reservationLog } = IoCommandSetEvent;
    this.events.raise(this.adminQueue, ioCommandSet, reservationLog, reservationLogPage);
  }

  /** Aborts this controller's commands to a namespace; adds those that are not over yet. */
  abortIo(nsid: number, status: number, victims: Victim[]): void {
    for (const queue of this.ioQueues.values()) queue.abortIo(nsid, status, victims);
  }

  discoveryChanged(): void {
    this.notice(NoticeEvent.discoveryChange, LogPage.discovery, OAES_DISCOVERY_CHANGE);
  }

  private notice(info: number, lid: number, mask: number): void {
    if (!this.isEnding) this.events.notice(this.adminQueue, info, lid, mask);
  }

  command(queue: TargetQueue, request: TargetRequest): void {
    if (this.authentication.takes(queue, request)) return;
    if (request.opcode === FABRICS_OPCODE) fabricsCommand(this, queue, request);
    else if (queue.takesIo) reservationCommand(this, queue, request);
    else if (queue.qid !== 0 || !this.properties.isReady) {
      queue.complete(request, NvmeStatus.commandSequenceError | STATUS_DNR);
    } else adminCommand(this, queue, request);
  }

  commandData(queue: TargetQueue, request: TargetRequest): void {
    if (request.opcode === FABRICS_OPCODE) {
      this.authentication.commandData(queue, request);
      return;
    }
    // No admin command of this target takes data from the host.
    if (queue.qid !== 0) reservationData(this, queue, request);
    else queue.complete(request, NvmeStatus.invalidOpcode | STATUS_DNR);
  }

  commandFailed(queue: TargetQueue, request: TargetRequest): void {
    this.errors.record(queue.qid, request, this.port.transport);
  }

  /** A write of CC had an effect. */
  propertyEffect(effect: PropertyEffect): void {
    if (effect === "none") return;
    if (effect === "enabled") {
      for (const queue of this.ioQueues.values()) this.openQueue(queue);
      return;
    }
    for (const queue of this.ioQueues.values()) queue.takesIo = false;
    // Disabled or shut down: the host connects its I/O queues again after the next enable.
    this.answerParked();
    this.queuesGranted = this.subsystem.queuesMax;
    for (const queue of [...this.ioQueues.values()]) {
      this.services.dropQueue(queue, `controller ${effect}`);
    }
    if (effect === "shutdown") {
      flushAll(this.attached.active(), () => this.properties.shutdownDone());
    } else if (this.ioQueues.size === 0) this.propertyEffect(this.properties.resetDone());
  }

  /** Looks at what the host is late with: silent for too long, or slow to authenticate. */
  checkTimers(nowNs: number): void {
    if (!this.isEnding && this.keepAlive.hasExpired(nowNs, this.queues)) {
      this.properties.fail();
      this.end("keep-alive timer expired");
    }
    this.authentication.dropLate(nowNs);
  }

  /** Ends the association: all connections are closed, what is in flight drains. */
  end(reason: string): void {
    if (this.isEnding) return;
    this.endReason = reason;
    this.events.clear();
    for (const queue of [...this.ioQueues.values(), this.adminQueue]) {
      this.services.dropQueue(queue, reason);
    }
  }

  idle(queue: TargetQueue): void {
    this.services.dropQueue(queue, queue.leavesBecause);
  }

  drained(queue: TargetQueue): void {
    const resources = this.resources.get(queue);
    if (resources === undefined) return;
    this.resources.delete(queue);
    this.authentication.forget(queue);
    resources.capsules?.close();
    resources.reserve?.close();
    this.services.queueGone(queue);
    if (this.ioQueues.get(queue.qid) === queue) this.ioQueues.delete(queue.qid);
    if (this.ioQueues.size === 0) this.propertyEffect(this.properties.resetDone());
    const { trace } = this.services;
    if (trace.on) trace.emit(Event.nvmetDisconnect, this.cntlid, queue.qid);
    // Without its Admin Queue the association is over.
    if (queue === this.adminQueue) this.end("Admin Queue disconnected");
    if (this.resources.size > 0) return;
    this.attached.release();
    this.services.controllerGone(this);
  }

  inspect(): Tree {
    return {
      cntlid: this.cntlid,
      subsystem: this.subsystem.nqn,
      host: this.hostNqn,
      port: this.port.id,
      ending: this.endReason,
      keepAliveMs: this.keepAlive.ms,
      properties: this.properties.inspect(),
      events: this.events.inspect(),
      errors: this.errors.count,
      queues: this.queues.map((queue) => ({
        qid: queue.qid,
        depth: queue.depth,
        busy: queue.busy,
        commands: queue.commands,
        errors: queue.errors,
        takesIo: queue.takesIo,
        closed: queue.isClosed,
        authentication: this.authentication.stateOf(queue),
        peer: queue.origin.peer,
      })),
    };
  }
}
