/**
 * Fetches commands, has them executed, posts completions. One step takes at most
 * NVME_STEP_COMMANDS_MAX commands, the admin queue first, then I/O queues in round robin with
 * bursts (NVM Express Base 2.0, section 3.4.4.1); what is left asks for another step.
 *
 * The data of a command moves while it is executed. Its completion waits until the port says that
 * the transfers have landed, which in functional mode is at once. Completions of one step are
 * written together. A queue whose completion queue is full is not fetched from until the host makes
 * room.
 *
 * A fetch or completion write that the bus refuses is fatal: CSTS.CFS, nothing more is done.
 */

import { assert, NVME_STEP_COMMANDS_MAX, Span, type StoreClient } from "../../../core/index.ts";
import { NvmeStatus, SQE_BYTES } from "../../../spec/nvme/index.ts";
import type { DevicePort, SettleClient, TimerClient } from "../../device.ts";
import { Command, CommandState, commandIndexOf, PENDING } from "./command.hot.ts";
import type { ControllerMemory } from "./controller-memory.hot.ts";
import type { FaultInjector } from "./faults.ts";
import type { IoCommands } from "./io-commands.hot.ts";
import type { CompletionQueue, SubmissionQueue } from "./queues.hot.ts";
import { ViewCache } from "./view-cache.hot.ts";

/** Commands fetched by one read. */
const FETCH_MAX = 32;

/** The cold side of the controller: what the engine cannot do itself. */
export interface EngineClient {
  /** Executes an admin command. An NVMe status, or {@link PENDING}. */
  executeAdmin(command: Command): number;
  /** An error status is about to be reported; returns it with DNR and More as they apply. */
  commandFailed(command: Command, status: number): number;
  /** A doorbell of a queue that does not exist, or with a value that makes no sense. */
  badDoorbell(qid: number, exists: boolean): void;
  /** The bus refused a fetch or a completion. */
  fatal(): void;
}

export class Engine implements SettleClient, TimerClient, StoreClient {
  /** By queue id; index 0 is the admin pair. */
  readonly sqs: (SubmissionQueue | null)[];
  readonly cqs: (CompletionQueue | null)[];
  /** CSTS.RDY, and not fatal: doorbells count and commands are fetched. */
  running = false;
  faults: FaultInjector | null = null;
  /** Contexts in use. */
  inFlight = 0;
  readonly commands: readonly Command[];
  private readonly memory: ControllerMemory;
  private readonly io: IoCommands;
  private readonly client: EngineClient;
  private readonly doorbellShift: number;
  private readonly free: Command[];
  private freeCount: number;
  private port: DevicePort | null = null;
  /** Commands from one I/O queue before the next has its turn. */
  private burst = FETCH_MAX;
  private stepping = false;
  private readonly batch: Command[];
  /** I/O queues with something to fetch, in the order of their turns. */
  private readonly readyRing: (SubmissionQueue | null)[];
  private readyHead = 0;
  private readyCount = 0;
  /** Queues with staged completions. */
  private readonly dirty: (CompletionQueue | null)[];
  private dirtyCount = 0;
  /** Some queue waits for a free context. */
  private starved = false;
  private readonly span = new Span();
  private readonly views = new ViewCache();
  private readonly scratch = new Uint8Array(FETCH_MAX * SQE_BYTES);

  constructor(
    memory: ControllerMemory,
    io: IoCommands,
    client: EngineClient,
    options: { commandsMax: number; dstrd: number; ioQueues: number },
  ) {
    this.sqs = new Array(options.ioQueues + 1).fill(null);
    this.cqs = new Array(options.ioQueues + 1).fill(null);
    this.dirty = new Array(options.ioQueues + 1).fill(null);
    this.readyRing = new Array(options.ioQueues).fill(null);
    this.memory = memory;
    this.io = io;
    this.client = client;
    io.setClient(this);
    this.doorbellShift = 2 + options.dstrd;
    this.commands = Array.from({ length: options.commandsMax }, (_, i) => new Command(i));
    this.free = Array.from(this.commands).reverse();
    this.freeCount = this.free.length;
    this.batch = new Array(FETCH_MAX).fill(this.commands[0]);
  }

  attach(port: DevicePort): void {
    this.port = port;
  }

  /** Takes ARBITRATION_AB: 2^n commands from one queue in a row; 7 is no limit. */
  setBurst(power: number): void {
    this.burst = Math.min(2 ** power, FETCH_MAX);
  }

  /** A write to the doorbell area; `offset` is from its start. */
  doorbell(offset: number, value: number): void {
    if (!this.running) return;
    const index = offset >>> this.doorbellShift;
    const qid = index >>> 1;
    const aligned = index << this.doorbellShift === offset;
    if ((index & 1) === 0) {
      const sq = aligned ? (this.sqs[qid] ?? null) : null;
      if (sq === null) this.client.badDoorbell(qid, false);
      else if (!sq.setTail(value)) this.client.badDoorbell(qid, true);
      else this.makeReady(sq);
      return;
    }
    const cq = aligned ? (this.cqs[qid] ?? null) : null;
    if (cq === null) this.client.badDoorbell(qid, false);
    else if (!cq.setHead(value)) this.client.badDoorbell(qid, true);
    else if (cq.hasWaiting) this.drainWaiting(cq);
  }

  step(): void {
    if (!this.running) return;
    this.stepping = true;
    let budget = NVME_STEP_COMMANDS_MAX;
    const admin = this.sqs[0] as SubmissionQueue;
    if (admin.pending > 0) budget -= this.serve(admin, FETCH_MAX);
    // Every queue in the ring when the step began has one turn at least.
    while (budget > 0 && this.readyCount > 0 && this.running) {
      const sq = this.takeReady();
      const served = this.serve(sq, Math.min(this.burst, budget));
      budget -= served;
      // Not served: it waits for room in its completion queue, or for a context.
      if (served > 0) this.makeReady(sq);
      else if (this.freeCount === 0) this.starved = true;
    }
    this.stepping = false;
    this.flushCompletions();
    if (!this.running) return;
    if (this.readyCount > 0) (this.port as DevicePort).wake();
    else if (admin.pending > 0 && !admin.cq.hasWaiting) {
      if (this.freeCount > 0) (this.port as DevicePort).wake();
      else this.starved = true;
    }
  }

  /** Reports `status` for a command that was executing or held, once its transfers have landed. */
  finish(command: Command, status: number): void {
    command.status =
      status === NvmeStatus.success ? status : this.client.commandFailed(command, status);
    command.state = CommandState.settling;
    (this.port as DevicePort).settle(this, command.token);
  }

  settled(token: number): void {
    const command = this.commands[commandIndexOf(token)];
    if (command === undefined || command.token !== token) return;
    if (command.state !== CommandState.settling) return;
    this.post(command);
  }

  timer(token: number): void {
    const command = this.commands[commandIndexOf(token)];
    if (command === undefined || command.token !== token) return;
    if (command.state !== CommandState.held) return;
    this.finish(command, command.status);
  }

  /** A store is done with a part of a command. */
  storeDone(token: number, status: number): void {
    const command = this.commands[commandIndexOf(token)];
    if (command === undefined || command.token !== token || command.pendingParts === 0) return;
    command.pendingParts--;
    if (command.status === NvmeStatus.success) command.status = status;
    if (command.pendingParts > 0 || command.state !== CommandState.held) return;
    this.finish(command, command.status);
  }

  /** Ends a command that is not to be completed: its queue or its controller is gone. */
  discard(command: Command): void {
    command.retire();
    this.release(command);
  }

  /** Writes out what has been staged, and raises the interrupts. */
  flushCompletions(): void {
    // A write may reach this controller's own doorbells, and so lead back here.
    while (this.dirtyCount > 0) {
      this.dirtyCount--;
      const cq = this.dirty[this.dirtyCount] as CompletionQueue;
      this.dirty[this.dirtyCount] = null;
      cq.dirty = false;
      if (cq.writeStaged(this.memory) !== NvmeStatus.success) this.client.fatal();
      else if (cq.interruptEnabled) (this.port as DevicePort).interrupt(cq.vector);
    }
  }

  /** Forgets every queue and every command. Contents of queue memory stay as they are. */
  reset(): void {
    this.running = false;
    for (let i = 0; i < this.commands.length; i++) {
      const command = this.commands[i] as Command;
      if (command.state !== CommandState.free) this.discard(command);
    }
    for (let i = 0; i < this.sqs.length; i++) {
      const sq = this.sqs[i] as SubmissionQueue | null;
      if (sq !== null) sq.alive = false;
      this.sqs[i] = null;
      this.cqs[i] = null;
    }
    this.readyRing.fill(null);
    this.readyCount = 0;
    this.dirty.fill(null);
    this.dirtyCount = 0;
    this.starved = false;
    assert(this.inFlight === 0, "a reset leaves no command under way");
  }

  /** Takes a queue out of service; its commands are the caller's to complete. */
  removeSq(sq: SubmissionQueue): void {
    sq.alive = false;
    sq.cq.users--;
    this.sqs[sq.qid] = null;
    const count = this.readyCount;
    for (let i = 0; i < count; i++) {
      const other = this.takeReady();
      if (other !== sq) this.makeReady(other);
    }
  }

  private makeReady(sq: SubmissionQueue): void {
    if (sq.qid !== 0 && !sq.ready && sq.alive && sq.pending > 0) {
      assert(this.readyCount < this.readyRing.length, "each queue is in the ring once");
      this.readyRing[(this.readyHead + this.readyCount) % this.readyRing.length] = sq;
      this.readyCount++;
      sq.ready = true;
    }
    if (!this.stepping) (this.port as DevicePort).wake();
  }

  private takeReady(): SubmissionQueue {
    const sq = this.readyRing[this.readyHead] as SubmissionQueue;
    this.readyRing[this.readyHead] = null;
    this.readyHead = (this.readyHead + 1) % this.readyRing.length;
    this.readyCount--;
    sq.ready = false;
    return sq;
  }

  /** Fetches and executes up to `max` commands of one queue. Returns how many. */
  private serve(sq: SubmissionQueue, max: number): number {
    const count = Math.min(max, sq.contiguous, this.freeCount, FETCH_MAX);
    if (count === 0 || sq.cq.hasWaiting) return 0;
    const fetched = this.fetch(sq, count);
    for (let i = 0; i < fetched; i++) {
      const command = this.batch[i] as Command;
      // A command before it may have deleted the queue or reset the controller.
      if (command.state === CommandState.executing) this.execute(command, sq);
    }
    return fetched;
  }

  private fetch(sq: SubmissionQueue, wanted: number): number {
    const address = sq.headAddress;
    const span = this.span;
    let status = this.memory.borrow(address, wanted * SQE_BYTES, span);
    let count = Math.min(wanted, Math.floor(span.length / SQE_BYTES));
    if (status === NvmeStatus.success && count === 0) {
      status = this.memory.read(address, this.scratch, 0, SQE_BYTES);
      span.set(this.scratch, 0, SQE_BYTES);
      count = 1;
    }
    if (status !== NvmeStatus.success) {
      this.client.fatal();
      return 0;
    }
    const view = this.views.view(span.bytes);
    for (let i = 0; i < count; i++) {
      this.freeCount--;
      const command = this.free[this.freeCount] as Command;
      this.inFlight++;
      command.load(view, span.offset + i * SQE_BYTES);
      command.sq = sq;
      command.state = CommandState.executing;
      this.batch[i] = command;
    }
    sq.advance(count);
    return count;
  }

  private execute(command: Command, sq: SubmissionQueue): void {
    const admin = sq.qid === 0;
    if (this.faults !== null && this.injectFault(command, admin)) return;
    const status = admin ? this.client.executeAdmin(command) : this.io.execute(command);
    if (status === PENDING) hold(command);
    else if (!this.isGone(command)) this.finish(command, status);
  }

  /** Its own transfers reached CC and reset the controller. */
  private isGone(command: Command): boolean {
    return command.state !== CommandState.executing;
  }

  /** True when a rule decided what becomes of the command. */
  private injectFault(command: Command, admin: boolean): boolean {
    const fault = (this.faults as FaultInjector).pick(command, admin);
    if (fault === null) return false;
    if (fault.drop) {
      command.state = CommandState.held;
      return true;
    }
    let status = fault.status;
    if (status === NvmeStatus.success) {
      status = admin ? this.client.executeAdmin(command) : this.io.execute(command);
      if (status === PENDING) hold(command);
      if (status === PENDING || this.isGone(command)) return true;
    }
    if (fault.delayNs === 0) this.finish(command, status);
    else {
      command.status = status;
      command.state = CommandState.held;
      (this.port as DevicePort).after(fault.delayNs, this, command.token);
    }
    return true;
  }

  private post(command: Command): void {
    const sq = command.sq as SubmissionQueue;
    const { cq } = sq;
    if (cq.full || cq.hasWaiting) {
      this.wait(command, cq);
      return;
    }
    this.stage(command, sq, cq);
    if (!this.stepping) this.flushCompletions();
  }

  /** Keeps a completion for which there is no room. */
  private wait(command: Command, cq: CompletionQueue): void {
    command.state = CommandState.waiting;
    command.next = -1;
    if (cq.waitingLast < 0) cq.waitingFirst = command.index;
    else (this.commands[cq.waitingLast] as Command).next = command.index;
    cq.waitingLast = command.index;
  }

  private stage(command: Command, sq: SubmissionQueue, cq: CompletionQueue): void {
    const { cid, status, result } = command;
    const written = cq.stage(cid, status, result, sq, this.memory);
    if (written !== NvmeStatus.success) this.client.fatal();
    if (!cq.dirty) {
      cq.dirty = true;
      this.dirty[this.dirtyCount] = cq;
      this.dirtyCount++;
    }
    command.retire();
    this.release(command);
  }

  /** Gives a context back, and lets the queues that waited for one go on. */
  private release(command: Command): void {
    this.free[this.freeCount] = command;
    this.freeCount++;
    this.inFlight--;
    if (this.starved) {
      this.starved = false;
      this.wakeAll();
    }
  }

  /** The host made room: posts what waited, then lets the queues go on. */
  private drainWaiting(cq: CompletionQueue): void {
    while (cq.hasWaiting && !cq.full) {
      const command = this.commands[cq.waitingFirst] as Command;
      cq.waitingFirst = command.next;
      if (command.next < 0) cq.waitingLast = -1;
      this.stage(command, command.sq as SubmissionQueue, cq);
    }
    if (!this.stepping) this.flushCompletions();
    if (!cq.hasWaiting) this.wakeAll();
  }

  private wakeAll(): void {
    for (let i = 0; i < this.sqs.length; i++) {
      const sq = this.sqs[i] as SubmissionQueue | null;
      if (sq !== null && sq.pending > 0) this.makeReady(sq);
    }
  }
}

/** Keeps a command that its executor answered with PENDING, and has not put away itself. */
function hold(command: Command): void {
  if (command.state === CommandState.executing) command.state = CommandState.held;
}
