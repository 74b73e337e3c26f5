/**
 * An NVMe controller on PCIe: brought up, polled, reset, shut down (NVM Express Base 2.0, section
 * 3.5 "Controller Initialization"; NVMe over PCIe Transport 1.0).
 *
 * `attach` waits; afterwards everything happens in `poll`, which never waits: completions,
 * timeouts, asynchronous events, and a reset with everything in flight sent again.
 *
 * Invariants: a request is completed once, whatever happens to the controller; memory that the
 * controller may still write is not freed before it is disabled. Leaves out: interrupts (polling
 * only), power states, the keep-alive (PCIe needs none), namespace management.
 */

import { BLOCK_BUSY, BlockStatus } from "../block/index.ts";
import {
  assert,
  formatBdf,
  type Inspectable,
  PeerlaneError,
  type Poller,
  type Tree,
} from "../core/index.ts";
import type { DmaDevice } from "../dma/index.ts";
import {
  ABORT_CID,
  ABORT_SQID,
  AdminOpcode,
  Feature,
  OAES_NAMESPACE_ATTRIBUTE,
} from "../spec/nvme/index.ts";
import { Event } from "../trace/index.ts";
import { AdminCommand, type AdminResult } from "./admin-queue.ts";
import {
  type AdminSite,
  checkCapabilities,
  createQueues,
  deleteQueues,
  enableController,
  freeAdmin,
  freeIoQueue,
  type IoSite,
  identifyController,
  makeAdmin,
  makeIoQueue,
  negotiateQueues,
  type Site,
} from "./bring-up.ts";
import { type Cmb, type CmbAbsence, enableCmb, inspectCmb, reenableCmb } from "./cmb.ts";
import { AsyncEvents } from "./events.ts";
import { disableBusMaster, enableFunction } from "./function-control.ts";
import type { ControllerInfo, NamespaceInfo } from "./identify.ts";
import { type EngineControl, IoEngine } from "./io-engine.hot.ts";
import type { IoQueue, IoQueueOwner } from "./io-queue.hot.ts";
import { listPagesNeeded, type NvmeNamespace, usesSgls } from "./namespace.ts";
import { NamespaceList } from "./namespace-list.ts";
import { type NvmeOptions, resolveOptions } from "./options.ts";
import { RawAdmin } from "./raw-admin.ts";
import { ControllerRegisters } from "./registers.ts";
import { runSteps, type Steps, waitForPromise, waitUntil } from "./steps.ts";

export type NvmeState = "attaching" | "live" | "resetting" | "shutting-down" | "shut-down" | "dead";

/** Time between two looks at CSTS while commands are in flight. */
const HEALTH_INTERVAL_NS = 100e6;
/** SMART critical warnings that are reported as events: all that version 1.4 defines. */
const SMART_EVENTS = 0x3f;

export class NvmeController implements Poller, Inspectable, EngineControl, IoQueueOwner {
  readonly device: DmaDevice;
  readonly counters = { resets: 0, abortsSent: 0, cmbSqFallbacks: 0 };
  /** Asynchronous events, oldest first. */
  readonly events: AsyncEvents;
  private readonly site: Site;
  private readonly engine: IoEngine;
  private readonly admin_: AdminSite;
  private readonly list: NamespaceList;
  private readonly ioSites: IoSite[] = [];
  private state_: NvmeState = "attaching";
  private info_: ControllerInfo | null = null;
  private cmb_: Cmb | CmbAbsence = "not looked for";
  private recovery: Steps<void> | null = null;
  /** Why the controller is dead, or was reset last. */
  private lastFailure: PeerlaneError | null = null;
  private abortsInFlight = 0;
  /** Requests of one namespace in flight at most. */
  private depth = 0;
  private nextHealthNs = 0;
  private isFreed = false;
  private readonly raw: RawAdmin;

  private constructor(site: Site) {
    this.site = site;
    this.device = site.device;
    this.engine = new IoEngine(site.device.fn.machine.clock, this);
    this.admin_ = makeAdmin(site);
    this.raw = new RawAdmin(site, this.admin_.queue);
    const { clock } = site.device.fn.machine;
    this.list = new NamespaceList(site, this.admin_, this.engine);
    this.events = new AsyncEvents(this.admin_.queue, this.admin_.log, () => clock.nowNs());
  }

  /**
   * Takes over the controller and brings it up. Throws `nvme-unsupported`, `nvme-timeout`,
   * `nvme-gone`, `nvme-fatal`, `nvme-admin-timeout` or `nvme-admin-failed`; then nothing stays
   * allocated.
   */
  static async attach(device: DmaDevice, options: NvmeOptions = {}): Promise<NvmeController> {
    const resolved = resolveOptions(options);
    const { fn } = device;
    const place = formatBdf(fn.bdf);
    enableFunction(fn);
    const registers = new ControllerRegisters(fn.mapBar(0), fn.machine.clock, place);
    const site: Site = { device, registers, options: resolved, place };
    checkCapabilities(site);
    const controller = new NvmeController(site);
    try {
      await runSteps(fn.machine, controller.attachSteps());
    } catch (error) {
      await controller.abandon(error);
    }
    return controller;
  }

  get state(): NvmeState {
    return this.state_;
  }

  /** What Identify Controller says. */
  get info(): ControllerInfo {
    assert(this.info_ !== null, "an attached controller has been identified");
    return this.info_;
  }

  /** The Controller Memory Buffer, enabled; null when there is none (`inspect` says why). */
  get cmb(): Cmb | null {
    return typeof this.cmb_ === "string" ? null : this.cmb_;
  }

  /** Namespaces that this driver can use. */
  get namespaces(): readonly NvmeNamespace[] {
    return this.list.usable;
  }

  /** Namespaces that it cannot, each with the reason in `unsupported`. */
  get unsupportedNamespaces(): readonly NamespaceInfo[] {
    return this.list.unsupported;
  }

  /** Why the controller is dead or was last reset; null when neither. */
  get failure(): PeerlaneError | null {
    return this.lastFailure;
  }

  get ioQueues(): readonly IoQueue[] {
    return this.engine.queues;
  }

  private *attachSteps(): Steps<void> {
    const { site } = this;
    const { options, registers } = site;
    yield* registers.disable();
    if (options.useCmb) this.cmb_ = enableCmb(this.device.fn, registers);
    yield* enableController(site, this.admin_);
    const info = yield* identifyController(site, this.admin_);
    this.info_ = info;
    const count = yield* negotiateQueues(this.admin_, options.ioQueues);
    const depth = Math.min(options.queueDepth, registers.capabilities.entriesMax);
    for (let qid = 1; qid <= count; qid++) this.ioSites.push(this.makeQueue(qid, depth, info));
    yield* createQueues(this.admin_, this.ioSites);
    this.engine.queues = this.ioSites.map(({ queue }) => queue);
    this.depth = count * (depth - 1);
    yield* this.list.rescan(info, this.depth);
    yield* this.armEvents(info);
    this.goLive();
  }

  private goLive(): void {
    this.state_ = "live";
    this.engine.isRunning = true;
    this.engine.gate = BlockStatus.ok;
  }

  private makeQueue(qid: number, depth: number, info: ControllerInfo): IoSite {
    const { options } = this.site;
    const { cmb } = this;
    const wantsCmb = options.useCmbSqs && cmb?.holdsSqs === true;
    const made = makeIoQueue(this.site, this, {
      qid,
      depth,
      listPages: listPagesNeeded(info, options),
      sglSupported: usesSgls(info, options),
      cmb: wantsCmb ? cmb : null,
    });
    if (options.useCmbSqs && made.cmbOffset < 0) this.counters.cmbSqFallbacks++;
    return made;
  }

  private *armEvents(info: ControllerInfo): Steps<void> {
    const enabled = SMART_EVENTS | (info.oaes & OAES_NAMESPACE_ATTRIBUTE);
    // Optional: a controller that refuses reports what it reports by default.
    yield* this.admin_.queue.execute(
      new AdminCommand(AdminOpcode.setFeatures)
        .cdw(10, Feature.asyncEventConfiguration)
        .cdw(11, enabled),
    );
    this.events.arm(info.asyncEventLimit);
  }

  /** Undoes what a failed attach did, and throws its error. */
  private async abandon(error: unknown): Promise<never> {
    const failure = asPeerlaneError(error, this.site.place);
    this.die(failure);
    try {
      await runSteps(this.device.fn.machine, this.site.registers.disable());
    } catch (second) {
      // It has lost its right to issue DMA; the first error is the one that tells what is wrong.
      this.lastFailure = asPeerlaneError(second, this.site.place);
    }
    this.freeQueues();
    freeAdmin(this.device, this.admin_);
    throw failure;
  }

  /** Reaps completions and does what is due; pumps the queues of all namespaces. */
  poll(): number {
    let done = this.engine.poll();
    const { usable } = this.list;
    for (let i = 0; i < usable.length; i++) done += usable[i].queue.pump();
    return done;
  }

  pollControl(nowNs: number): number {
    if (this.state_ === "resetting") return this.stepRecovery();
    if (this.state_ !== "live" && this.state_ !== "shutting-down") return 0;
    const done = this.admin_.queue.pair.poll();
    if (nowNs >= this.nextHealthNs) {
      this.nextHealthNs = nowNs + HEALTH_INTERVAL_NS;
      this.checkHealth();
    }
    return done;
  }

  private checkHealth(): void {
    const { registers, place } = this.site;
    if (registers.isGone) {
      const message = "the controller does not answer any more: surprise removal or link down";
      const remedy = "check the device and its link, then attach it again";
      this.die(new PeerlaneError("nvme-gone", message, { place, remedy }));
    } else if (registers.hasFailed) {
      this.startRecovery("the controller reports a fatal status (CSTS.CFS)");
    }
  }

  commandTimedOut(queue: IoQueue, cid: number, isSecondTime: boolean): void {
    this.checkHealth();
    if (this.state_ !== "live") return;
    const canAbort = !isSecondTime && this.abortsInFlight < this.info.abortLimit;
    if (canAbort && this.sendAbort(queue.pair.qid, cid)) return;
    this.startRecovery(`command ${cid} of queue ${queue.pair.qid} timed out`);
  }

  private sendAbort(qid: number, cid: number): boolean {
    const command = new AdminCommand(AdminOpcode.abort).cdw(
      10,
      ABORT_CID.set(ABORT_SQID.set(0, qid), cid),
    );
    // Aborted or not, the command itself completes, or times out again and causes a reset.
    const isSent = this.admin_.queue.send(command, () => {
      this.abortsInFlight--;
    });
    if (!isSent) return false;
    this.abortsInFlight++;
    this.counters.abortsSent++;
    return true;
  }

  /** Begins a reset; `poll` carries it on. Nothing happens when one is under way. */
  private startRecovery(reason: string): void {
    if (this.state_ !== "live") return;
    this.state_ = "resetting";
    this.engine.gate = BLOCK_BUSY;
    this.engine.isRunning = false;
    this.events.disarm();
    this.counters.resets++;
    const { tracer } = this.site.options;
    if (tracer.on) tracer.emit(Event.nvmeReset, this.device.bdf, this.counters.resets);
    this.lastFailure = new PeerlaneError("nvme-reset", `controller reset: ${reason}`, {
      place: this.site.place,
      remedy: "commands in flight are sent again; look at the counters if it keeps happening",
    });
    this.recovery = this.recoverySteps();
  }

  private stepRecovery(): number {
    assert(this.recovery !== null, "a resetting controller has steps to take");
    try {
      if (this.recovery.next().done === true) {
        this.recovery = null;
        return 1;
      }
    } catch (error) {
      this.die(asPeerlaneError(error, this.site.place));
      return 1;
    }
    return 0;
  }

  private *recoverySteps(): Steps<void> {
    const { site, info } = this;
    yield* this.disableOrReset();
    // From here on the controller reads and writes nothing: rings may be reused.
    this.raw.freeOrphans();
    for (const { queue } of this.ioSites) queue.restart();
    if (this.cmb !== null) reenableCmb(site.registers, this.cmb);
    yield* enableController(site, this.admin_);
    this.abortsInFlight = 0;
    const count = yield* negotiateQueues(this.admin_, this.ioSites.length);
    if (count < this.ioSites.length) {
      const { place } = site;
      const message = `${count} of ${this.ioSites.length} queues granted after a reset`;
      throw new PeerlaneError("nvme-queues", message, { place, remedy: "attach it again" });
    }
    yield* createQueues(this.admin_, this.ioSites);
    yield* this.armEvents(info);
    this.goLive();
  }

  /** Controller reset; when that hangs, a function level reset. */
  private *disableOrReset(): Steps<void> {
    const { registers } = this.site;
    try {
      yield* registers.disable();
    } catch (error) {
      if (registers.isGone) throw error;
      yield* waitForPromise(this.device.fn.reset());
      enableFunction(this.device.fn);
      yield* registers.disable();
    }
  }

  /** Nothing works any more: everything fails, the CMB's users lose it. */
  private die(reason: PeerlaneError): void {
    this.state_ = "dead";
    this.recovery = null;
    this.lastFailure = reason;
    // Whatever it still does, it does without the right to issue DMA: its memory will be freed.
    disableBusMaster(this.device.fn);
    this.engine.gate = BlockStatus.offline;
    this.engine.isRunning = false;
    for (const { queue } of this.ioSites) queue.failAll(BlockStatus.offline);
    this.events.disarm();
    this.admin_.queue.restart();
    // The provider's holders let go on their own time; a failure to release changes nothing here.
    this.cmb?.provider.teardown(reason.message).catch(() => undefined);
  }

  /** Controller reset with everything in flight sent again. Throws when it does not come back. */
  async reset(reason = "asked for"): Promise<void> {
    if (this.state_ === "live") this.startRecovery(reason);
    const { machine } = this.device.fn;
    await runSteps(
      machine,
      waitUntil(machine.clock, Number.POSITIVE_INFINITY, () => {
        this.poll();
        return this.state_ !== "resetting";
      }),
    );
    if (this.state_ !== "live") throw this.lastFailure ?? this.notLive();
  }

  /**
   * Waits for I/O in flight, deletes the queues, takes the CMB away from its users (and waits for
   * them), tells the controller to shut down, and frees everything. New I/O fails with `offline`.
   */
  async shutdown(): Promise<void> {
    if (this.state_ === "shut-down") return;
    const { machine } = this.device.fn;
    if (this.state_ === "resetting") await this.reset();
    if (this.state_ === "live") {
      this.state_ = "shutting-down";
      this.engine.gate = BlockStatus.offline;
      await this.stopping(this.drainSteps());
      this.freeQueues();
      if (this.cmb !== null) {
        await runSteps(machine, waitForPromise(this.cmb.provider.teardown("controller shut down")));
      }
      await this.stopping(this.haltSteps());
    }
    this.freeQueues();
    freeAdmin(this.device, this.admin_);
    this.state_ = "shut-down";
  }

  /** Runs steps of a shutdown; a controller that does not follow loses its right to issue DMA. */
  private async stopping(steps: Steps<void>): Promise<void> {
    try {
      await runSteps(this.device.fn.machine, steps);
    } catch (error) {
      disableBusMaster(this.device.fn);
      this.lastFailure = asPeerlaneError(error, this.site.place);
    }
  }

  private *drainSteps(): Steps<void> {
    const { clock } = this.device.fn.machine;
    yield* waitUntil(clock, this.site.options.ioTimeoutNs, () => {
      this.poll();
      return this.ioSites.every(({ queue }) => queue.pendingCount === 0);
    });
    yield* deleteQueues(this.admin_, this.ioSites);
  }

  private *haltSteps(): Steps<void> {
    yield* this.site.registers.shutdown(this.info.shutdownNs);
    yield* this.site.registers.disable();
  }

  /** Only once the controller cannot reach them any more. Idempotent. */
  private freeQueues(): void {
    if (this.isFreed) return;
    this.isFreed = true;
    this.engine.isRunning = false;
    for (const site of this.ioSites) {
      site.queue.failAll(BlockStatus.offline);
      freeIoQueue(this.device, site, this.cmb);
    }
    this.ioSites.length = 0;
    this.engine.queues = [];
    this.raw.freeOrphans();
    this.list.close();
  }

  /**
   * Looks which namespaces came and went (after a notice about them). One that went must have no
   * I/O in flight. Throws `nvme-not-live`, and what Identify throws.
   */
  async rescan(): Promise<void> {
    if (this.state_ !== "live") throw this.notLive();
    await runSteps(this.device.fn.machine, this.list.rescan(this.info, this.depth));
  }

  /**
   * A raw admin command of 64 bytes. Data goes through a buffer of the driver: into `data` or out
   * of it, by the opcode's direction bits. The identifier and the data pointer are set by the
   * driver. Throws `nvme-admin-timeout` (and resets) and `nvme-admin-size`; any status is an
   * answer.
   */
  async admin(sqe: Uint8Array, data: Uint8Array | null = null): Promise<AdminResult> {
    if (this.state_ !== "live") throw this.notLive();
    const steps = this.raw.execute(sqe, data);
    try {
      return await runSteps(this.device.fn.machine, steps);
    } catch (error) {
      if (this.raw.hasOrphans) this.startRecovery("an admin command timed out");
      throw error;
    }
  }

  private notLive(): PeerlaneError {
    return new PeerlaneError("nvme-not-live", `the controller is ${this.state_}`, {
      place: this.site.place,
      remedy: "attach it again",
    });
  }

  inspect(): Tree {
    const { site, info_ } = this;
    return {
      function: site.place,
      state: this.state_,
      failure: this.lastFailure?.message ?? null,
      model: info_?.model ?? null,
      serial: info_?.serial ?? null,
      firmware: info_?.firmware ?? null,
      registers: this.state_ === "shut-down" ? {} : site.registers.inspect(),
      counters: { ...this.counters },
      cmb: inspectCmb(this.cmb_),
      admin: this.admin_.queue.inspect(),
      queues: this.ioSites.map(({ queue }) => queue.inspect()),
      events: this.events.inspect(),
      namespaces: this.namespaces.map(({ queue }) => queue.inspect()),
      unsupportedNamespaces: this.unsupportedNamespaces.map(({ nsid, unsupported }) => ({
        nsid,
        reason: unsupported,
      })),
    };
  }
}

function asPeerlaneError(error: unknown, place: string): PeerlaneError {
  if (error instanceof PeerlaneError) return error;
  return new PeerlaneError("nvme-driver", `the driver failed: ${String(error)}`, {
    place,
    remedy: "this is a bug: report it with the stack of the cause",
    cause: error,
  });
}
