/**
 * An NVMe controller behind a PCI function: registers, queues, admin and NVM commands, a Controller
 * Memory Buffer, a Persistent Memory Region, namespaces in memory or in a file. It reaches the rest
 * of the machine through its port alone, so what an address means is the fabric's to decide, except
 * for addresses of its own memory.
 *
 * A reset of any kind keeps namespaces, the PMR's contents and, as on most devices, the CMB's.
 * Saved features survive resets, not the model.
 */

import {
  NVME_NAMESPACES_MAX,
  SparseMemory,
  STORE_PENDING,
  type StoreClient,
  type Tree,
  UsageError,
} from "../../../core/index.ts";
import {
  AQA_ACQS,
  AQA_ASQS,
  ARBITRATION_AB,
  ErrorEvent,
  EventType,
  Feature,
  LogPage,
  NoticeEvent,
  NvmeStatus,
  OAES_NAMESPACE_ATTRIBUTE,
  Sct,
  SMART_WARNING_TEMPERATURE,
  SmartEvent,
  STATUS_DNR,
  STATUS_MORE,
  statusCode,
  statusSct,
} from "../../../spec/nvme/index.ts";
import type { BarRegion, DeviceModel, DevicePort, TimerClient } from "../../device.ts";
import { AdminCommands, type AdminDevice } from "./admin-commands.ts";
import { AsyncEvents } from "./async-events.ts";
import type { Command } from "./command.hot.ts";
import { ControllerMemory, MemoryWindow } from "./controller-memory.hot.ts";
import { ControllerRegisters, type RegistersClient } from "./controller-registers.ts";
import { DataPointer } from "./data-pointer.hot.ts";
import { Engine, type EngineClient } from "./engine.hot.ts";
import { FaultInjector, type NvmeFaultRule } from "./faults.ts";
import { FeatureTable } from "./feature-table.ts";
import { Counter, IoCommands } from "./io-commands.hot.ts";
import * as logs from "./log-pages.ts";
import { makeNamespace, makeNamespaces } from "./make-namespaces.ts";
import type { Namespace } from "./namespace.ts";
import {
  completeOptions,
  type NvmeConfig,
  type NvmeModelOptions,
  type NvmeNamespaceOptions,
} from "./options.ts";
import type { SubmissionQueue as Sq } from "./queues.hot.ts";
import { CompletionQueue, SubmissionQueue } from "./queues.hot.ts";

/** Composite temperature at first, in kelvins: 40 degrees Celsius. */
const TEMPERATURE_INITIAL = 313;
const NO_WINDOW = {
  submissionQueues: false,
  completionQueues: false,
  lists: false,
  readData: false,
  writeData: false,
};
const NS_PER_HOUR = 3.6e12;
/** Generic statuses after which the same command may succeed. */
const RETRYABLE = new Set<number>([
  NvmeStatus.dataTransferError,
  NvmeStatus.internalError,
  NvmeStatus.abortRequested,
  NvmeStatus.abortedSqDeletion,
  NvmeStatus.namespaceNotReady,
  NvmeStatus.formatInProgress,
]);

export class NvmeModel
  implements DeviceModel, EngineClient, RegistersClient, TimerClient, AdminDevice, StoreClient
{
  readonly kind = "NVMe controller model";
  readonly config: NvmeConfig;
  readonly namespaces: Namespace[];
  readonly memory: ControllerMemory;
  readonly pointer: DataPointer;
  readonly io: IoCommands;
  readonly engine: Engine;
  readonly features: FeatureTable;
  readonly events: AsyncEvents;
  private readonly registers: ControllerRegisters;
  private readonly admin: AdminCommands;
  private readonly errors: logs.ErrorHistory;
  private readonly changedNamespaces = new Set<number>();
  private temperature = TEMPERATURE_INITIAL;
  private port: DevicePort | null = null;
  /** Makes a ready timer of an earlier enable stale. */
  private enableCount = 0;
  /** Of the last shutdown, and stores that it waits for; makes answers of earlier ones stale. */
  private shutdownToken = 0;
  private shutdownParts = 0;

  /** Throws `UsageError` for options that no controller could have. */
  constructor(options: NvmeModelOptions) {
    const config = completeOptions(options);
    const { cmb, pmr, copier } = config;
    this.config = config;
    this.namespaces = makeNamespaces(options.namespaces, config);
    const cmbMemory = cmb === null ? null : new SparseMemory(cmb.sizeBytes, copier);
    const pmrMemory = pmr === null ? null : new SparseMemory(pmr.sizeBytes, copier);
    this.memory = new ControllerMemory(
      new MemoryWindow(cmbMemory, cmb ?? NO_WINDOW),
      // Neither queues nor lists in the PMR (Base 2.0, section 8.14).
      new MemoryWindow(pmrMemory, pmr === null ? NO_WINDOW : { ...NO_WINDOW, ...pmr }),
    );
    this.pointer = new DataPointer(this.memory, config.sgl);
    this.io = new IoCommands(this.namespaces, this.pointer, copier);
    if (config.mdts > 0) this.io.maxTransferBytes = 4096 * 2 ** config.mdts;
    this.engine = new Engine(this.memory, this.io, this, {
      commandsMax: config.commandsMax,
      dstrd: config.dstrd,
      ioQueues: config.maxQueues,
    });
    this.events = new AsyncEvents(config.asyncEventRequests, (command) =>
      this.engine.finish(command, NvmeStatus.success),
    );
    this.features = new FeatureTable(
      {
        vectors: config.vectors,
        ioQueues: config.maxQueues,
        namespaces: this.namespaces,
        volatileWriteCache: config.volatileWriteCache,
      },
      (fid, value) => this.featureChanged(fid, value),
    );
    this.errors = new logs.ErrorHistory(config.errorLogEntries);
    this.registers = new ControllerRegisters(config, this.memory, this.engine, this);
    this.admin = new AdminCommands(this);
    if (options.faults) this.injectFaults(options.faults.rules, options.faults.seed);
  }

  attach(port: DevicePort): void {
    this.port = port;
    this.memory.attach(port);
    this.engine.attach(port);
  }

  barRegions(): readonly BarRegion[] {
    const { config, memory } = this;
    const { registersBar, registersBytes, cmb, pmr } = config;
    const regions: BarRegion[] = [
      {
        bar: registersBar,
        offset: 0,
        sizeBytes: registersBytes,
        registers: this.registers,
        memory: null,
      },
    ];
    if (cmb !== null) {
      const { bar, offset, sizeBytes } = cmb;
      regions.push({ bar, offset, sizeBytes, registers: null, memory: memory.cmb.memory });
    }
    if (pmr !== null) {
      const { bar, sizeBytes } = pmr;
      regions.push({ bar, offset: 0, sizeBytes, registers: null, memory: memory.pmr.memory });
    }
    return regions;
  }

  /** Where a BAR is on the bus, or -1: how a CMB of before NVM Express 1.4 knows its addresses. */
  barMoved(bar: number, address: number): void {
    this.registers.barMoved(bar, address);
  }

  step(): void {
    this.engine.step();
  }

  reset(): void {
    this.disable();
    this.registers.reset();
  }

  /** Replaces the fault rules; none turns injection off. Throws `UsageError` for an empty rule. */
  injectFaults(rules: readonly NvmeFaultRule[], seed = 1): void {
    this.engine.faults = rules.length === 0 ? null : new FaultInjector(rules, seed);
  }

  /** Sets the composite temperature in kelvins; crossing a threshold is an event, if enabled. */
  setTemperature(kelvins: number): void {
    this.temperature = kelvins;
    const { temperatureOver, temperatureUnder } = this.features;
    const crossed = kelvins >= temperatureOver || kelvins < temperatureUnder;
    const enabled = this.features.value(Feature.asyncEventConfiguration);
    if (!crossed || (enabled & SMART_WARNING_TEMPERATURE) === 0) return;
    this.events.raise(EventType.smart, SmartEvent.temperature, LogPage.smart);
  }

  // EngineClient

  executeAdmin(command: Command): number {
    return this.admin.execute(command);
  }

  commandFailed(command: Command, status: number): number {
    const sct = statusSct(status);
    if (sct === Sct.mediaError && statusCode(status) !== NvmeStatus.compareFailure) {
      const { counters } = this.io;
      counters[Counter.mediaErrors] = (counters[Counter.mediaErrors] as number) + 1;
    }
    const retry = RETRYABLE.has(statusCode(status));
    const again = sct === Sct.mediaError ? statusCode(status) !== NvmeStatus.compareFailure : retry;
    const reported = status | STATUS_MORE | (again ? 0 : STATUS_DNR);
    this.errors.recordCommand(command, (command.sq as Sq).qid, reported);
    return reported;
  }

  badDoorbell(qid: number, exists: boolean): void {
    const info = exists ? ErrorEvent.invalidDoorbellValue : ErrorEvent.invalidDoorbellRegister;
    this.errors.recordQueue(qid, NvmeStatus.invalidField);
    this.events.raise(EventType.error, info, LogPage.errorInformation);
  }

  fatal(): void {
    this.engine.running = false;
    this.registers.setFatal();
  }

  // RegistersClient

  enable(): void {
    const { registers, engine } = this;
    const { aqa, asq, acq } = registers;
    this.pointer.pageBytes = registers.pageBytes;
    const cq = new CompletionQueue(0, acq, AQA_ACQS.get(aqa) + 1, true, 0);
    engine.cqs[0] = cq;
    engine.sqs[0] = new SubmissionQueue(0, asq, AQA_ASQS.get(aqa) + 1, cq);
    this.enableCount++;
    if (this.config.readyDelayNs === 0) this.timer(this.enableCount);
    else (this.port as DevicePort).after(this.config.readyDelayNs, this, this.enableCount);
  }

  /** The controller has become ready. */
  timer(token: number): void {
    if (token !== this.enableCount || !this.registers.enabled) return;
    this.engine.running = true;
    this.registers.setReady();
  }

  disable(): void {
    this.enableCount++;
    this.shutdownToken++;
    this.events.reset();
    this.engine.reset();
    this.features.reset();
    this.changedNamespaces.clear();
  }

  /** Complete once every store is durable; fatal when one cannot be. */
  shutdown(): void {
    this.engine.running = false;
    this.shutdownToken++;
    this.shutdownParts = 1;
    for (const { store, isThere } of this.namespaces) {
      if (!isThere) continue;
      const status = store.flush(this, this.shutdownToken);
      if (status === STORE_PENDING) this.shutdownParts++;
      else if (status !== NvmeStatus.success) this.fatal();
    }
    this.storeDone(this.shutdownToken, NvmeStatus.success);
  }

  /** A store is flushed for a shutdown. */
  storeDone(token: number, status: number): void {
    if (token !== this.shutdownToken) return;
    if (status !== NvmeStatus.success) this.fatal();
    this.shutdownParts--;
    if (this.shutdownParts === 0) this.registers.setShutdownComplete();
  }

  // AdminDevice

  get cc(): number {
    return this.registers.cc;
  }

  logPage(lid: number, retain: boolean): Uint8Array | null {
    const page = this.makeLogPage(lid);
    if (page !== null && !retain) {
      if (lid === LogPage.changedNamespaces) this.changedNamespaces.clear();
      this.events.logRead(lid);
    }
    return page;
  }

  /**
   * Another namespace, as if a management controller had attached it: the host gets a notice.
   * Returns its NSID: a free one, or the next. Throws `UsageError` for an impossible format, or
   * when there are too many.
   */
  addNamespace(options: NvmeNamespaceOptions): number {
    const free = this.namespaces.findIndex(({ isThere }) => !isThere);
    const index = free < 0 ? this.namespaces.length : free;
    if (index >= NVME_NAMESPACES_MAX) {
      throw new UsageError("nvme-namespaces", `there are ${NVME_NAMESPACES_MAX} namespaces`, {
        remedy: "remove one of them first",
      });
    }
    const made = makeNamespace(options, index + 1, this.config);
    this.namespaces[index] = made;
    this.namespaceChanged(made);
    return made.nsid;
  }

  /**
   * Takes a namespace away: commands to it fail from now on. Its store is the caller's to close.
   */
  removeNamespace(nsid: number): void {
    const ns = this.namespaces[nsid - 1];
    if (ns === undefined || !ns.isThere) return;
    ns.isThere = false;
    this.namespaceChanged(ns);
  }

  formatted(ns: Namespace): void {
    this.namespaceChanged(ns);
  }

  private namespaceChanged(ns: Namespace): void {
    this.changedNamespaces.add(ns.nsid);
    const enabled = this.features.value(Feature.asyncEventConfiguration);
    if ((enabled & OAES_NAMESPACE_ATTRIBUTE) === 0) return;
    const { notice } = EventType;
    this.events.raise(notice, NoticeEvent.namespaceAttribute, LogPage.changedNamespaces);
  }

  inspect(): Tree {
    const { engine, io } = this;
    const counters = Object.entries(Counter).map(([name, i]) => [name, io.counters[i] as number]);
    return {
      kind: this.kind,
      serial: this.config.serial,
      running: engine.running,
      registers: this.registers.inspect(),
      commandsUnderWay: engine.inFlight,
      asyncEventRequests: this.events.outstanding,
      errors: this.errors.count,
      queues: inspectQueues(engine),
      namespaces: this.namespaces.filter(({ isThere }) => isThere).map((ns) => ns.inspect()),
      counters: Object.fromEntries(counters),
      cmb: inspectWindow(this.memory.cmb),
      pmr: inspectWindow(this.memory.pmr),
      faults: engine.faults?.inspect() ?? null,
    };
  }

  private makeLogPage(lid: number): Uint8Array | null {
    switch (lid) {
      case LogPage.supportedLogPages:
        return logs.supportedLogsPage();
      case LogPage.errorInformation:
        return this.errors.page();
      case LogPage.smart:
        return logs.smartPage(this.io.counters, {
          temperature: this.temperature,
          temperatureOver: this.features.temperatureOver,
          temperatureUnder: this.features.temperatureUnder,
          powerOnHours: Math.floor((this.port as DevicePort).nowNs() / NS_PER_HOUR),
          errorEntries: this.errors.count,
        });
      case LogPage.firmwareSlot:
        return logs.firmwareSlotPage(this.config.firmware);
      case LogPage.changedNamespaces:
        return logs.changedNamespacesPage([...this.changedNamespaces].sort((a, b) => a - b));
      case LogPage.commandEffects:
        return logs.commandEffectsPage();
      default:
        return null;
    }
  }

  private featureChanged(fid: number, value: number): void {
    if (fid === Feature.volatileWriteCache) {
      this.io.writeThrough = this.config.volatileWriteCache && value === 0;
    } else if (fid === Feature.arbitration) {
      this.engine.setBurst(ARBITRATION_AB.get(value));
    } else if (fid === Feature.temperatureThreshold) this.setTemperature(this.temperature);
  }
}

function inspectWindow(window: MemoryWindow): Tree | null {
  if (window.memory === null) return null;
  return {
    sizeBytes: window.sizeBytes,
    residentBytes: window.memory.residentBytes,
    controllerAddress: window.enabled ? window.start : null,
  };
}

function inspectQueues(engine: Engine): Tree[] {
  const rows: Tree[] = [];
  for (const sq of engine.sqs) {
    if (sq === null) continue;
    const { qid, entries, head, tail, cq } = sq;
    const completion = { qid: cq.qid, entries: cq.entries, head: cq.head, tail: cq.tail };
    rows.push({ qid, entries, head, tail, completion });
  }
  return rows;
}
