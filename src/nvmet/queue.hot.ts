/**
 * One NVMe queue pair in the target: takes capsules from its transport, walks each request through
 * memory, transfer, execution and response, and gives everything back at the end.
 *
 *     receive -> parse -> place -> (fetch) -> execute -> complete -> responded
 *
 * Invariants: every received request ends in `responded` or `finish`, once; memory is released
 * before the request is idle; after `close` nothing is sent any more, and `drained` is told when
 * the last request is back. SQHD counts answered commands, as a message based transport may.
 *
 * Leaves out: fabrics and admin commands (the `CommandHandler`, control plane), moving data (the
 * `Channel`), what I/O commands mean (io.hot.ts).
 */

import { type Bio, BlockStatus, NO_MEMORY } from "../block/index.ts";
import { assert } from "../core/index.ts";
import { type IoMemory, MapStatus } from "../memory/index.ts";
import { CqeOffset, NvmeStatus, NvmOpcode, STATUS_DNR } from "../spec/nvme/index.ts";
import { FABRICS_OPCODE } from "../spec/nvmf/index.ts";
import { Event, type Tracer } from "../trace/index.ts";
import type { HostPool, NamespaceBinding } from "./binding.hot.ts";
import type { Channel, DirectMemory, QueueOrigin } from "./channel.ts";
import { CommandStats, RoundClock } from "./command-stats.hot.ts";
import { Cause } from "./counters.ts";
import { type FusedQueue, failHalf, halfDone, halfReady, runPair, takeFused } from "./fused.hot.ts";
import { continueIo, copyFailed, copyOn, countIo, startIo } from "./io.hot.ts";
import type { Namespace } from "./namespace.ts";
import {
  allocateMemory,
  countBytes,
  missPeer,
  releaseMemory,
  takeHostBuffer,
  WAIT,
} from "./orchestrator.hot.ts";
import { parseCapsule } from "./parse.hot.ts";
import { Placement, RequestState, type TargetRequest } from "./request.hot.ts";
import { MemoryShare } from "./share.hot.ts";
import { nvmeStatusOfBlock } from "./status.ts";

/** Fabrics and admin commands, and what happens around a queue. Control plane. */
export interface CommandHandler {
  command(queue: TargetQueue, request: TargetRequest): void;
  /** Data that `fetchForHandler` asked for has arrived. */
  commandData(queue: TargetQueue, request: TargetRequest): void;
  /** A command was answered with an error: for the error log. */
  commandFailed(queue: TargetQueue, request: TargetRequest): void;
  /** The last request of a queue that is leaving is answered. */
  idle(queue: TargetQueue): void;
  /** The queue is closed and its last request is back. */
  drained(queue: TargetQueue): void;
}

/** A command that somebody waits for the end of. */
export interface Victim {
  readonly request: TargetRequest;
  readonly serial: number;
}

export class TargetQueue implements FusedQueue {
  readonly channel: Channel;
  /** The port's until Connect, the controller afterwards. */
  handler: CommandHandler;
  readonly origin: QueueOrigin;
  readonly requests: readonly TargetRequest[];
  readonly trace: Tracer;
  /** Not null: data is used where the initiator has it, and nothing is fetched or sent. */
  readonly direct: DirectMemory | null;
  qid = 0;
  /** When the connection was made. */
  openedNs = 0;
  /** Entries of the submission queue. */
  depth = 0;
  sqHead = 0;
  hasFlowControl = true;
  /** An I/O queue whose controller is ready: I/O commands are taken. */
  takesIo = false;
  /** The host has to authenticate first; until then no other command is taken. */
  needsAuth = false;
  isClosed = false;
  /** Closes once it is idle, so that the last answers go out (Disconnect). */
  isLeaving = false;
  leavesBecause = "Disconnect command";
  /** Largest transfer in bytes. */
  transferMax = 0;
  /** By NSID; what the controller's subsystem has. */
  namespaces: (Namespace | null)[] = [];
  bindings: (NamespaceBinding | null)[] = [];
  /** By NSID: the receive ring as the namespace's devices see it, for in-capsule data. */
  capsuleMemories: (IoMemory | null)[] = [];
  /** Buffers for data that the CPU writes or reads. */
  controlPool: HostPool | null = null;
  /** Requests received and not back yet. */
  busy = 0;
  /** Any command since the controller last looked (traffic based keep-alive). */
  sawTraffic = false;
  /** Of commands about no namespace: the target's until Connect, then its subsystem's. */
  stats: CommandStats;
  readonly clock: RoundClock;
  /** Commands answered, and of these with an error. */
  commands = 0;
  errors = 0;
  /** The first half of a fused pair, whose second half has not arrived. */
  fuseFirst: TargetRequest | null = null;
  /** What its commands may hold of shared buffers. */
  readonly share = new MemoryShare();
  private waitHead: TargetRequest | null = null;
  private waitTail: TargetRequest | null = null;

  constructor(
    channel: Channel,
    origin: QueueOrigin,
    handler: CommandHandler,
    requests: readonly TargetRequest[],
    trace: Tracer,
    direct: DirectMemory | null = null,
    stats: CommandStats = new CommandStats(),
    clock: RoundClock = new RoundClock(),
  ) {
    this.stats = stats;
    this.clock = clock;
    this.channel = channel;
    this.origin = origin;
    this.handler = handler;
    this.requests = requests;
    for (const request of requests) request.share = this.share;
    this.trace = trace;
    this.direct = direct;
  }

  /**
   * A capsule of `bytes` bytes lies in the request's buffer. `damage`: not success when its data
   * did not arrive as it was sent; the command is then answered with that NVMe status.
   */
  receive(request: TargetRequest, bytes: number, damage: number = NvmeStatus.success): void {
    assert(request.state === RequestState.idle, "a capsule arrives in an idle request");
    assert(!this.isClosed, "a closed queue receives nothing");
    request.begin(bytes);
    request.startNs = this.clock.nowNs;
    this.busy++;
    this.sawTraffic = true;
    const parsed = parseCapsule(request);
    const status = damage === NvmeStatus.success ? parsed : damage;
    if (this.trace.on) {
      this.trace.emit(Event.nvmetCommand, request.nsid, request.opcode, request.cid, this.qid);
    }
    // Decided once: what is on its way when the queue stops taking I/O ends as I/O.
    request.isIo = this.takesIo && request.opcode !== FABRICS_OPCODE;
    if (request.fuse !== 0 || this.fuseFirst !== null) {
      if (takeFused(this, request, status)) return;
      if (request.fuse !== 0) {
        this.complete(request, NvmeStatus.invalidField | STATUS_DNR);
        return;
      }
    }
    if (status !== NvmeStatus.success) this.complete(request, status);
    else if (request.isIo) startIo(this, request);
    else this.handler.command(this, request);
  }

  /**
   * Finds memory for an I/O's data, then moves or executes it. For commands whose data the disk
   * itself transfers.
   */
  place(request: TargetRequest): void {
    const binding = request.binding as NamespaceBinding;
    if (request.inCapsuleOffset >= 0) {
      this.placeInCapsule(request, binding);
    } else if (this.direct !== null) {
      request.placement = Placement.direct;
    } else if (binding.store !== null && request.opcode === NvmOpcode.read) {
      request.placement = Placement.store;
    } else {
      // Not before those that wait already.
      const status = this.waitHead === null ? allocateMemory(request, binding) : WAIT;
      if (status === WAIT) {
        binding.counters.hostWaits++;
        this.wait(request);
        return;
      }
      if (status !== NvmeStatus.success) {
        this.complete(request, status);
        return;
      }
    }
    this.transfer(request);
  }

  private placeInCapsule(request: TargetRequest, binding: NamespaceBinding): void {
    binding.counters.capsuleUses++;
    request.placement = Placement.capsule;
    request.diskMemory = this.capsuleMemories[request.nsid] ?? NO_MEMORY;
    request.diskOffset = request.capsuleBase + request.inCapsuleOffset;
  }

  /** Memory for a command that must not wait for it: an NVMe status, or `WAIT`. */
  placeNow(request: TargetRequest, binding: NamespaceBinding): number {
    if (request.inCapsuleOffset >= 0) this.placeInCapsule(request, binding);
    else if (this.direct !== null) request.placement = Placement.direct;
    else return allocateMemory(request, binding);
    return NvmeStatus.success;
  }

  /** Memory is there: fetch inbound data that is not, else execute. */
  transfer(request: TargetRequest): void {
    const isHere =
      !request.isInbound ||
      request.placement === Placement.capsule ||
      request.placement === Placement.direct;
    if (isHere) {
      this.execute(request);
      return;
    }
    request.state = RequestState.fetching;
    this.channel.fetch(request);
  }

  /** The transport has moved the data in, or failed to (an NVMe status). */
  dataArrived(request: TargetRequest, status: number): void {
    assert(request.state === RequestState.fetching, "data arrives for a request that fetches");
    const outcome = status === NvmeStatus.success ? request.abortStatus : status;
    if (outcome === NvmeStatus.success && !this.isClosed) this.execute(request);
    else if (request.partner !== null) failHalf(this, request, outcome);
    else this.complete(request, outcome);
  }

  private execute(request: TargetRequest): void {
    request.state = RequestState.executing;
    if (!request.isIo) this.handler.commandData(this, request);
    else if (request.fuse === 0) continueIo(this, request);
    else this.halfArrived(request);
  }

  private halfArrived(request: TargetRequest): void {
    const namespace = this.namespaces[request.nsid] ?? null;
    if (namespace !== null) halfReady(this, request, namespace);
    else failHalf(this, request, NvmeStatus.invalidNamespaceOrFormat | STATUS_DNR);
  }

  runPair(first: TargetRequest): void {
    runPair(this, first);
  }

  /** Its namespace is free again. */
  resume(request: TargetRequest): void {
    request.state = RequestState.executing;
    if (request.abortStatus === NvmeStatus.success) continueIo(this, request);
    else this.complete(request, request.abortStatus);
  }

  /** An I/O command whose work is the control plane's (reservations). */
  handOver(request: TargetRequest): void {
    request.isIo = false;
    this.handler.command(this, request);
  }

  /** A buffer that the CPU reaches, for inbound data of a command that the target itself reads. */
  fetchForHandler(request: TargetRequest): void {
    if (request.inCapsuleOffset >= 0) request.placement = Placement.capsule;
    else if (this.direct !== null) request.placement = Placement.direct;
    else if (!this.takeBuffer(request)) return;
    this.transfer(request);
  }

  /** The same for outbound data. True: there is a buffer now; false: the request waits or ended. */
  bufferForHandler(request: TargetRequest): boolean {
    if (this.direct !== null) {
      request.placement = Placement.direct;
      return true;
    }
    return this.takeBuffer(request);
  }

  private takeBuffer(request: TargetRequest): boolean {
    const { controlPool } = this;
    if (controlPool === null) {
      this.complete(request, NvmeStatus.internalError | STATUS_DNR);
      return false;
    }
    if (takeHostBuffer(request, controlPool) === NvmeStatus.success) return true;
    // Admin data is small: a pool without room for it is short for a moment only.
    this.complete(request, NvmeStatus.commandInterrupted);
    return false;
  }

  bioDone(bio: Bio): void {
    const request = this.requests[bio.tag];
    const { status } = bio;
    bio.reset();
    const namespace = request.namespace as Namespace;
    namespace.exclusive.inFlight--;
    if (request.fuse !== 0) {
      halfDone(this, request, status);
      return;
    }
    this.bioOver(request, namespace, status);
    if (namespace.exclusive.isHolding) namespace.exclusive.advance();
  }

  private bioOver(request: TargetRequest, namespace: Namespace, status: number): void {
    if (request.isCopying) {
      this.copyOver(request, namespace, status);
      return;
    }
    if (status === BlockStatus.ok) {
      if (request.rangeIndex < request.rangeCount && !this.isClosed) {
        if (request.abortStatus === NvmeStatus.success) continueIo(this, request);
        else this.complete(request, request.abortStatus);
        return;
      }
      countIo(request, namespace);
      if (request.binding !== null && request.dataBytes > 0) countBytes(request, request.binding);
      this.complete(request, NvmeStatus.success);
      return;
    }
    if (request.placement === Placement.peer && isLost(status)) {
      this.memoryLost(request, status === BlockStatus.revoked ? MapStatus.revoked : 0);
      return;
    }
    this.complete(request, nvmeStatusOfBlock(status, request.isInbound));
  }

  private copyOver(request: TargetRequest, namespace: Namespace, status: number): void {
    const isOk = status === BlockStatus.ok;
    const outcome = isOk ? request.abortStatus : nvmeStatusOfBlock(status, true);
    if (outcome !== NvmeStatus.success || this.isClosed) copyFailed(this, request, outcome);
    else copyOn(this, request, namespace);
  }

  readStore(request: TargetRequest): void {
    request.state = RequestState.reading;
    this.channel.respond(request);
  }

  /**
   * The transport has sent what the store had, or failed to read it (an NVMe status); the response
   * is next.
   */
  storeRead(request: TargetRequest, status: number): void {
    const namespace = request.namespace as Namespace;
    namespace.exclusive.inFlight--;
    if (status === NvmeStatus.success) {
      countIo(request, namespace);
      countBytes(request, request.binding as NamespaceBinding);
    }
    this.conclude(request, status);
    if (namespace.exclusive.isHolding) namespace.exclusive.advance();
  }

  releaseData(request: TargetRequest): void {
    releaseMemory(request);
  }

  /**
   * A device could not map the request's memory. Peer memory may have gone away since it was
   * allocated: the policy decides whether the command starts over in host memory. The host still
   * has the data of a write, and nothing of a read was sent.
   */
  private memoryLost(request: TargetRequest, mapStatus: number): void {
    const { binding } = request;
    if (request.partner !== null) {
      failHalf(this, request, NvmeStatus.internalPathError);
      return;
    }
    const wasPeer = request.placement === Placement.peer;
    releaseMemory(request);
    if (!wasPeer || binding === null || this.isClosed) {
      this.complete(request, NvmeStatus.internalPathError);
      return;
    }
    const cause = mapStatus === MapStatus.revoked ? Cause.revoked : Cause.mapFailed;
    const status = missPeer(request, binding, cause);
    if (status === NvmeStatus.success) this.place(request);
    else this.complete(request, status);
  }

  /** Answers the request. Also for handlers. `status` is an NVMe status. */
  complete(request: TargetRequest, status: number): void {
    if (this.conclude(request, status)) this.channel.respond(request);
  }

  /** The response is written and counted. False: nobody is there to take it. */
  private conclude(request: TargetRequest, status: number): boolean {
    request.status = status;
    if (this.isClosed) {
      this.finish(request);
      return false;
    }
    this.commands++;
    this.countCommand(request, status);
    if (status !== NvmeStatus.success) {
      this.errors++;
      this.handler.commandFailed(this, request);
    }
    const sendsData = status === NvmeStatus.success && !request.isInbound && request.dataBytes > 0;
    if (!sendsData) {
      // Nothing will be read from it any more.
      releaseMemory(request);
      request.dataBytes = 0;
    }
    this.writeResponse(request);
    request.state = RequestState.responding;
    if (this.trace.on) {
      this.trace.emit(Event.nvmetComplete, request.nsid, request.opcode, request.cid, status);
    }
    return true;
  }

  private countCommand(request: TargetRequest, status: number): void {
    const namespace = request.isIo ? (this.namespaces[request.nsid] ?? null) : null;
    if (namespace === null) {
      this.stats.count(request.opcode, status);
      return;
    }
    namespace.stats.count(request.opcode, status);
    namespace.stats.time(request.opcode, this.clock.nowNs - request.startNs);
  }

  /** The transport's device has no address for the request's memory (a `MapStatus`). */
  addressLost(request: TargetRequest, mapStatus: number): void {
    if (request.state === RequestState.responding) {
      // It was not answered after all.
      this.commands--;
      if (this.hasFlowControl) this.sqHead = (this.sqHead === 0 ? this.depth : this.sqHead) - 1;
    }
    this.memoryLost(request, mapStatus);
  }

  private writeResponse(request: TargetRequest): void {
    const { response, responseBase } = request;
    if (this.hasFlowControl) {
      const next = this.sqHead + 1;
      this.sqHead = next === this.depth ? 0 : next;
    }
    response.setUint32(responseBase + CqeOffset.dw0, request.result0, true);
    response.setUint32(responseBase + CqeOffset.dw1, request.result1, true);
    response.setUint16(responseBase + CqeOffset.sqhd, this.sqHead, true);
    response.setUint16(responseBase + CqeOffset.sqid, 0, true);
    response.setUint16(responseBase + CqeOffset.cid, request.cid, true);
    response.setUint16(responseBase + CqeOffset.status, request.status << 1, true);
  }

  /** The response is out, or lost with the connection: the request can take another capsule. */
  responded(request: TargetRequest): void {
    assert(request.state === RequestState.responding, "a response is sent once");
    this.finish(request);
  }

  /** Gives everything back without a response. */
  private finish(request: TargetRequest): void {
    releaseMemory(request);
    request.binding = null;
    request.namespace = null;
    request.state = RequestState.idle;
    this.busy--;
    if (this.busy > 0) return;
    if (this.isClosed) this.drain();
    else if (this.isLeaving) this.handler.idle(this);
  }

  private drain(): void {
    this.handler.drained(this);
    this.channel.release();
  }

  private wait(request: TargetRequest): void {
    this.share.waits++;
    this.share.waiting++;
    request.state = RequestState.waiting;
    request.next = null;
    if (this.waitTail === null) this.waitHead = request;
    else this.waitTail.next = request;
    this.waitTail = request;
  }

  /** Offers memory to those who wait for it, in order. Returns how many got some. */
  retryWaiting(): number {
    let done = 0;
    while (this.waitHead !== null) {
      const request: TargetRequest = this.waitHead;
      const status = allocateMemory(request, request.binding as NamespaceBinding);
      if (status === WAIT) break;
      this.share.waiting--;
      this.waitHead = request.next;
      if (this.waitHead === null) this.waitTail = null;
      request.next = null;
      done++;
      if (status === NvmeStatus.success) this.transfer(request);
      else this.complete(request, status);
    }
    return done;
  }

  /** Takes a command out of the list of those who wait; null when it is not there. For Abort. */
  takeWaiting(cid: number): TargetRequest | null {
    const half = this.fuseFirst;
    if (half !== null && half.cid === cid) {
      this.fuseFirst = null;
      return half;
    }
    let before: TargetRequest | null = null;
    let request = this.waitHead;
    while (request !== null && request.cid !== cid) {
      before = request;
      request = request.next;
    }
    if (request === null) return null;
    this.share.waiting--;
    if (before === null) this.waitHead = request.next;
    else before.next = request.next;
    if (request.next === null) this.waitTail = before;
    request.next = null;
    return request;
  }

  /**
   * Aborts the I/O commands to a namespace: those that wait end with `status` now, those that the
   * transport moves data for when it is done, those that a disk has end by themselves. The latter
   * two are added to `victims`.
   */
  abortIo(nsid: number, status: number, victims: Victim[]): void {
    for (const request of this.requests) {
      if (!request.isIo || request.nsid !== nsid) continue;
      if (request === this.fuseFirst) {
        this.fuseFirst = null;
        this.complete(request, status);
        continue;
      }
      const isHalf = request.state === RequestState.parked;
      if (isHalf || request.state === RequestState.held) {
        request.abortStatus = status;
        victims.push({ request, serial: request.serial });
      } else if (request.state === RequestState.waiting) {
        const waiting = this.takeWaiting(request.cid);
        if (waiting !== null) this.complete(waiting, status);
      } else if (isUnderWay(request)) {
        request.abortStatus = status;
        victims.push({ request, serial: request.serial });
      }
    }
  }

  poll(): number {
    let done = this.channel.poll();
    if (this.waitHead !== null && !this.isClosed) done += this.retryWaiting();
    return done;
  }

  /**
   * Stops taking commands. Those that wait or are parked end now; those that a device or the
   * transport has end when it gives them back.
   */
  close(): void {
    if (this.isClosed) return;
    this.isClosed = true;
    this.takesIo = false;
    // Held over the loop so that `drained` is told once, at its end.
    this.busy++;
    this.fuseFirst = null;
    for (const request of this.requests) {
      const { state, partner } = request;
      const isWaiting = state === RequestState.waiting || state === RequestState.held;
      if (!isWaiting && state !== RequestState.parked) continue;
      if (partner !== null) partner.partner = null;
      request.partner = null;
      this.finish(request);
    }
    this.waitHead = null;
    this.waitTail = null;
    this.share.waiting = 0;
    this.busy--;
    if (this.busy === 0) this.drain();
  }
}

/** Ends by itself: the transport, or a disk, has it. */
function isUnderWay({ state }: TargetRequest): boolean {
  const { fetching, executing, reading } = RequestState;
  return state === fetching || state === executing || state === reading;
}

/** Block statuses that say the memory, and not the disk, is the trouble. */
function isLost(status: number): boolean {
  return (
    status === BlockStatus.revoked ||
    status === BlockStatus.noRoute ||
    status === BlockStatus.wrongInitiator
  );
}
