/**
 * I/O over several paths to one subsystem: which path takes an I/O, what becomes of it when that
 * path fails, and when it has waited for long enough. NVM Express Base Specification 2.1, sections
 * 2.4.1, 8.1 (ANA) and 9.6 (communication loss).
 *
 *     submit -> a path in optimized state, in turn; else one in non-optimized state; else it waits
 *     done   -> ends, or goes again: after a path error or a lost connection, as far as it may
 *
 * Invariants: an I/O that was submitted ends once, in its owner's `ioDone`; it is on one queue at
 * most. After a lost connection nobody knows whether a command was executed, and the target may
 * still be at it: one that changes blocks is sent again only when the old controller has ended
 * for certain (`quietAfterNs`), one whose repetition changes its meaning (reservations, Copy)
 * never.
 *
 * Leaves out: fused commands, ordering between I/Os (there is none in NVMe either).
 */

import { assert } from "../../core/index.ts";
import { AnaState, NvmeStatus, NvmOpcode, STATUS_DNR } from "../../spec/nvme/index.ts";
import { type CommandOwner, HostCommand, type HostQueue, SubmitStatus } from "./queue.hot.ts";
import type { HostBuffer } from "./transport.ts";

/** Told when an I/O ended: `io.status` says how. */
export interface IoOwner {
  ioDone(io: PathIo): void;
}

/** Times that an I/O goes again after an error that is not its path's. */
const RETRIES_MAX = 5;
/** How long such a retry waits, in nanoseconds. */
const RETRY_DELAY_NS = 50e6;
const NSID_MAX = 1024;
const STATUS_MASK = 0x7ff;
const SCT_PATH = 3;
/** "Never", for times. */
export const NEVER_NS = Number.MAX_VALUE;

/** May the command go again when nobody knows whether it was executed? */
function isRepeatable(opcode: number): boolean {
  switch (opcode) {
    case NvmOpcode.read:
    case NvmOpcode.compare:
    case NvmOpcode.verify:
    case NvmOpcode.flush:
      return true;
    default:
      return changesBlocks(opcode);
  }
}

/** It writes, and writing the same again later than something else is damage. */
function changesBlocks(opcode: number): boolean {
  switch (opcode) {
    case NvmOpcode.write:
    case NvmOpcode.writeZeroes:
    case NvmOpcode.writeUncorrectable:
    case NvmOpcode.datasetManagement:
      return true;
    default:
      return false;
  }
}

/** One I/O. Preallocate, fill, submit, reuse when done. */
export class PathIo implements CommandOwner {
  opcode: number = NvmOpcode.read;
  nsid = 0;
  /** CDW10 to CDW15. */
  readonly dwords = new Uint32Array(6);
  /** By path: the same memory, registered for each. Null: no data. */
  buffers: readonly HostBuffer[] | null = null;
  bufferOffset = 0;
  dataBytes = 0;
  owner: IoOwner;
  /** The owner's own number. */
  tag = 0;
  /** NVMe status, when done. */
  status = 0;
  result0 = 0;
  isBusy = false;
  /** Times that it was sent. */
  sent = 0;
  readonly command: HostCommand;
  set: PathSet | null = null;
  path: PathLink | null = null;
  queue: HostQueue | null = null;
  /** Not to be sent before. */
  notBeforeNs = 0;
  sentNs = 0;
  /** Abort was asked for. */
  isAborted = false;
  retries = 0;
  /** Where it is in the set's list of those that are busy. */
  slot = 0;
  next: PathIo | null = null;

  constructor(owner: IoOwner) {
    this.owner = owner;
    this.command = new HostCommand(this);
  }

  /** CDW10 to CDW12 of read, write, compare, write zeroes and verify. */
  setRange(lba: number, blocks: number, fua: boolean): void {
    this.command.setRange(lba, blocks, fua);
    for (let i = 0; i < 6; i++) this.dwords[i] = this.command.dwords[i] as number;
  }

  commandDone(command: HostCommand): void {
    assert(this.set !== null, "an I/O that is done was submitted");
    (this.set as PathSet).commandDone(this, command);
  }
}

/** A path as I/O sees it; its owner (path.ts) sets what changes. */
export class PathLink {
  readonly index: number;
  queues: readonly HostQueue[] = [];
  isLive = false;
  /** By NSID. */
  readonly ana = new Uint8Array(NSID_MAX + 1).fill(AnaState.optimized);
  inFlight = 0;
  /** I/Os that were sent, and those that went to another path after an error here. */
  sent = 0;
  failedOver = 0;
  /** After a connection was lost, its controller has ended for certain after this long. */
  quietAfterNs = NEVER_NS;
  /** ANA states changed without notice: read them again. */
  needsAna = false;
  private nextQueue = 0;

  constructor(index: number) {
    this.index = index;
  }

  stateOf(nsid: number): number {
    return nsid <= NSID_MAX ? (this.ana[nsid] as number) : AnaState.optimized;
  }

  /** The next queue in turn; null: none takes commands. */
  takeQueue(): HostQueue | null {
    const { queues } = this;
    for (let i = 0; i < queues.length; i++) {
      const queue = queues[(this.nextQueue + i) % queues.length] as HostQueue;
      if (queue.channel.ended === null && queue.hasRoom) {
        this.nextQueue = (this.nextQueue + i + 1) % queues.length;
        return queue;
      }
    }
    return null;
  }
}

export class PathSet {
  readonly links: PathLink[] = [];
  private readonly nowNs: () => number;
  /** Those that wait for a path, for room, or for their time. */
  private waitHead: PathIo | null = null;
  private waitTail: PathIo | null = null;
  waiting = 0;
  /** All that were submitted and have not ended; the first `busy` count. */
  private readonly active: (PathIo | null)[] = [];
  busy = 0;
  private nextLink = 0;
  /** Closed, or all paths are lost: what waits and what comes ends. */
  isOver = false;
  completed = 0;
  resent = 0;

  constructor(nowNs: () => number) {
    this.nowNs = nowNs;
  }

  /** Ends in `io.owner.ioDone`, perhaps from inside this call. */
  submit(io: PathIo): void {
    assert(!io.isBusy, "an I/O is submitted once at a time");
    io.isBusy = true;
    io.set = this;
    io.sent = 0;
    io.retries = 0;
    io.notBeforeNs = 0;
    io.slot = this.busy;
    if (this.busy === this.active.length) this.active.push(io);
    else this.active[this.busy] = io;
    this.busy++;
    if (this.isOver) this.finish(io, NvmeStatus.hostPathError);
    else if (!this.send(io)) this.wait(io);
  }

  /** A path for the namespace: in turn among the best. Null: none now. */
  private choose(nsid: number): PathLink | null {
    const { links } = this;
    let second: PathLink | null = null;
    for (let i = 0; i < links.length; i++) {
      const link = links[(this.nextLink + i) % links.length] as PathLink;
      if (!link.isLive) continue;
      const state = link.stateOf(nsid);
      if (state === AnaState.optimized) {
        this.nextLink = (link.index + 1) % links.length;
        return link;
      }
      if (state === AnaState.nonOptimized && second === null) second = link;
    }
    return second;
  }

  /** False: nothing takes it now. */
  private send(io: PathIo): boolean {
    const link = this.choose(io.nsid);
    const queue = link === null ? null : link.takeQueue();
    if (link === null || queue === null) return false;
    const { command, buffers } = io;
    command.opcode = io.opcode;
    command.nsid = io.nsid;
    for (let i = 0; i < 6; i++) command.dwords[i] = io.dwords[i] as number;
    if (buffers === null) command.setData(null, 0, 0);
    else command.setData(buffers[link.index] as HostBuffer, io.bufferOffset, io.dataBytes);
    if (queue.submit(command) !== SubmitStatus.ok) return false;
    io.path = link;
    io.queue = queue;
    io.sentNs = this.nowNs();
    io.isAborted = false;
    if (io.sent > 0) this.resent++;
    io.sent++;
    link.sent++;
    link.inFlight++;
    return true;
  }

  private wait(io: PathIo): void {
    io.path = null;
    io.queue = null;
    io.next = null;
    if (this.waitTail === null) this.waitHead = io;
    else this.waitTail.next = io;
    this.waitTail = io;
    this.waiting++;
  }

  commandDone(io: PathIo, command: HostCommand): void {
    const link = io.path as PathLink;
    link.inFlight--;
    const { status } = command;
    const code = status & STATUS_MASK;
    io.result0 = command.result0;
    if (status === NvmeStatus.success || (status & STATUS_DNR) !== 0 || this.isOver) {
      this.finish(io, status);
    } else if (code === NvmeStatus.hostPathError) this.connectionLost(io, link, status);
    else if (code >> 8 === SCT_PATH) {
      // The target says that it did not execute it here.
      link.failedOver++;
      this.refuse(link, io.nsid, code);
      this.again(io, 0);
    } else if (isTransient(code) && io.retries < RETRIES_MAX) {
      io.retries++;
      this.again(io, this.nowNs() + RETRY_DELAY_NS);
    } else this.finish(io, status);
  }

  /** Nobody knows whether the command was executed. */
  private connectionLost(io: PathIo, link: PathLink, status: number): void {
    link.failedOver++;
    const delayNs = changesBlocks(io.opcode) ? link.quietAfterNs : 0;
    if (!isRepeatable(io.opcode) || delayNs === NEVER_NS) this.finish(io, status);
    else this.again(io, delayNs === 0 ? 0 : this.nowNs() + delayNs);
  }

  /** The path does not serve the namespace for now: what its ANA log would say. */
  private refuse(link: PathLink, nsid: number, code: number): void {
    link.needsAna = true;
    if (nsid > NSID_MAX) return;
    if (code === NvmeStatus.anaPersistentLoss) link.ana[nsid] = AnaState.persistentLoss;
    else if (code === NvmeStatus.anaInaccessible) link.ana[nsid] = AnaState.inaccessible;
    else link.ana[nsid] = AnaState.change;
  }

  private again(io: PathIo, notBeforeNs: number): void {
    io.notBeforeNs = notBeforeNs;
    this.wait(io);
  }

  private finish(io: PathIo, status: number): void {
    const last = this.busy - 1;
    const moved = this.active[last] as PathIo;
    this.active[io.slot] = moved;
    moved.slot = io.slot;
    this.active[last] = null;
    this.busy = last;
    io.path = null;
    io.queue = null;
    io.isBusy = false;
    io.status = status;
    this.completed++;
    io.owner.ioDone(io);
  }

  /** Sends what waited and can go. Returns how many did. */
  pump(): number {
    if (this.waitHead === null) return 0;
    const now = this.nowNs();
    let done = 0;
    let io: PathIo | null = this.waitHead;
    // Those that cannot go yet queue up again, in order.
    this.waitHead = null;
    this.waitTail = null;
    this.waiting = 0;
    while (io !== null) {
      const next: PathIo | null = io.next;
      io.next = null;
      if (this.isOver) {
        this.finish(io, NvmeStatus.hostPathError);
        done++;
      } else if (io.notBeforeNs <= now && this.send(io)) done++;
      else this.wait(io);
      io = next;
    }
    return done;
  }

  /** The I/O that was sent over this path longest ago; null: none is in flight there. */
  oldestOn(link: PathLink): PathIo | null {
    let oldest: PathIo | null = null;
    for (let i = 0; i < this.busy; i++) {
      const io = this.active[i] as PathIo;
      if (io.path === link && (oldest === null || io.sentNs < oldest.sentNs)) oldest = io;
    }
    return oldest;
  }
}

/** It may go well when it is tried again. */
function isTransient(code: number): boolean {
  switch (code) {
    case NvmeStatus.commandInterrupted:
    case NvmeStatus.transientTransportError:
    case NvmeStatus.namespaceNotReady:
    case NvmeStatus.abortRequested:
      return true;
    default:
      return false;
  }
}
