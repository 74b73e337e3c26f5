/**
 * Admin commands (NVM Express Base 2.0, section 5): queues, Identify, Features, log pages, Abort,
 * asynchronous events, Format NVM. Each returns an NVMe status, or PENDING for the one that waits.
 *
 * Left out, and refused with Invalid Opcode: namespace management, firmware download, self-test,
 * directives, virtualization, security, sanitize, Keep Alive (it has no use on PCIe: KAS is 0).
 */

import { ADDRESS_LIMIT } from "../../../core/index.ts";
import {
  ABORT_CID,
  ABORT_NOT_ABORTED,
  ABORT_SQID,
  AdminOpcode,
  CC_IOCQES,
  CC_IOSQES,
  Cns,
  CQE_SHIFT,
  CREATE_CQ_IEN,
  CREATE_CQ_IV,
  CREATE_CQ_PC,
  CREATE_QID,
  CREATE_QSIZE,
  CREATE_SQ_CQID,
  CREATE_SQ_PC,
  Csi,
  FEATURE_FID,
  FEATURE_SEL,
  FEATURE_SV,
  Feature,
  FeatureSelect,
  FORMAT_LBAFL,
  FORMAT_LBAFU,
  FORMAT_MSET,
  FORMAT_PI,
  FORMAT_PIL,
  FORMAT_SES,
  HOST_ID_BYTES,
  HOST_ID_EXHID,
  HOST_ID_EXTENDED_BYTES,
  IDENTIFY_BYTES,
  IDENTIFY_CNS,
  IDENTIFY_CNTID,
  IDENTIFY_CSI,
  LOG_LID,
  LOG_RAE,
  LogPage,
  logBytes,
  NSID_ALL,
  NvmeStatus,
  Psdt,
  QUEUES_NCQ,
  QUEUES_NSQ,
  SecureErase,
  SQE_SHIFT,
} from "../../../spec/nvme/index.ts";
import type { AsyncEvents } from "./async-events.ts";
import { type Command, CommandState, PENDING } from "./command.hot.ts";
import { type ControllerMemory, MemoryKind } from "./controller-memory.hot.ts";
import type { DataPointer } from "./data-pointer.hot.ts";
import type { Engine } from "./engine.hot.ts";
import type { FeatureTable } from "./feature-table.ts";
import * as pages from "./identify-pages.ts";
import type { IoCommands } from "./io-commands.hot.ts";
import { type Namespace, type NamespaceFormat, whyNotFormat } from "./namespace.ts";
import type { NvmeConfig } from "./options.ts";
import { CompletionQueue, SubmissionQueue } from "./queues.hot.ts";
import { Direction } from "./segment-list.hot.ts";

/** What the admin commands work on. */
export interface AdminDevice {
  readonly config: NvmeConfig;
  readonly namespaces: readonly Namespace[];
  readonly engine: Engine;
  readonly memory: ControllerMemory;
  readonly pointer: DataPointer;
  readonly io: IoCommands;
  readonly events: AsyncEvents;
  readonly features: FeatureTable;
  /** The CC register. */
  readonly cc: number;
  /** A whole log page, or null when there is none; `read` clears what reading clears. */
  logPage(lid: number, retain: boolean): Uint8Array | null;
  formatted(ns: Namespace): void;
}

export class AdminCommands {
  private readonly device: AdminDevice;

  constructor(device: AdminDevice) {
    this.device = device;
  }

  /** Does the command. `command.result` is dword 0 of the completion. */
  execute(command: Command): number {
    if (command.fuse !== 0 || command.psdt !== Psdt.prp) return NvmeStatus.invalidField;
    switch (command.opcode) {
      case AdminOpcode.deleteIoSq:
        return this.deleteSq(CREATE_QID.get(command.cdw10));
      case AdminOpcode.createIoSq:
        return this.createSq(command);
      case AdminOpcode.deleteIoCq:
        return this.deleteCq(CREATE_QID.get(command.cdw10));
      case AdminOpcode.createIoCq:
        return this.createCq(command);
      case AdminOpcode.getLogPage:
        return this.getLogPage(command);
      case AdminOpcode.identify:
        return this.identify(command);
      case AdminOpcode.abort:
        return this.abort(command);
      case AdminOpcode.setFeatures:
        return this.setFeatures(command);
      case AdminOpcode.getFeatures:
        return this.getFeatures(command);
      case AdminOpcode.asyncEventRequest:
        if (this.device.events.accept(command)) return PENDING;
        return NvmeStatus.asyncEventLimitExceeded;
      case AdminOpcode.formatNvm:
        return this.formatNvm(command);
      default:
        return NvmeStatus.invalidOpcode;
    }
  }

  private createCq(command: Command): number {
    const { config, engine, cc } = this.device;
    const { cdw10, cdw11 } = command;
    const qid = CREATE_QID.get(cdw10);
    const entries = CREATE_QSIZE.get(cdw10) + 1;
    if (qid === 0 || qid > config.maxQueues || engine.cqs[qid] !== null) {
      return NvmeStatus.invalidQueueIdentifier;
    }
    if (entries < 2 || entries > config.maxEntries || CC_IOCQES.get(cc) !== CQE_SHIFT) {
      return NvmeStatus.invalidQueueSize;
    }
    if (CREATE_CQ_PC.get(cdw11) === 0) return NvmeStatus.invalidField;
    const vector = CREATE_CQ_IV.get(cdw11);
    const interrupts = CREATE_CQ_IEN.get(cdw11) === 1;
    if (interrupts && vector >= config.vectors) return NvmeStatus.invalidInterruptVector;
    const status = this.checkQueueMemory(command.prp1, entries << CQE_SHIFT, false);
    if (status !== NvmeStatus.success) return status;
    engine.cqs[qid] = new CompletionQueue(qid, command.prp1, entries, interrupts, vector);
    return NvmeStatus.success;
  }

  private createSq(command: Command): number {
    const { config, engine, cc } = this.device;
    const { cdw10, cdw11 } = command;
    const qid = CREATE_QID.get(cdw10);
    const entries = CREATE_QSIZE.get(cdw10) + 1;
    const cqid = CREATE_SQ_CQID.get(cdw11);
    if (qid === 0 || qid > config.maxQueues || engine.sqs[qid] !== null) {
      return NvmeStatus.invalidQueueIdentifier;
    }
    if (cqid === 0 || cqid > config.maxQueues) return NvmeStatus.invalidQueueIdentifier;
    const cq = engine.cqs[cqid] as CompletionQueue | null;
    if (cq === null) return NvmeStatus.completionQueueInvalid;
    if (entries < 2 || entries > config.maxEntries || CC_IOSQES.get(cc) !== SQE_SHIFT) {
      return NvmeStatus.invalidQueueSize;
    }
    if (CREATE_SQ_PC.get(cdw11) === 0) return NvmeStatus.invalidField;
    const status = this.checkQueueMemory(command.prp1, entries << SQE_SHIFT, true);
    if (status !== NvmeStatus.success) return status;
    engine.sqs[qid] = new SubmissionQueue(qid, command.prp1, entries, cq);
    cq.users++;
    return NvmeStatus.success;
  }

  /** A queue starts a page, and is wholly in the CMB, if that may hold it, or wholly not. */
  private checkQueueMemory(address: number, bytes: number, submission: boolean): number {
    const { memory, pointer } = this.device;
    if ((address & (pointer.pageBytes - 1)) !== 0) return NvmeStatus.prpOffsetInvalid;
    if (address + bytes > ADDRESS_LIMIT) return NvmeStatus.invalidField;
    const kind = memory.kindOf(address, bytes);
    if (kind === MemoryKind.bus) return NvmeStatus.success;
    const { cmb } = memory;
    const allowed = submission ? cmb.submissionQueues : cmb.completionQueues;
    return kind === MemoryKind.cmb && allowed ? NvmeStatus.success : NvmeStatus.invalidUseOfCmb;
  }

  private deleteSq(qid: number): number {
    const { engine } = this.device;
    const sq = qid === 0 ? null : (engine.sqs[qid] ?? null);
    if (sq === null) return NvmeStatus.invalidQueueIdentifier;
    engine.removeSq(sq);
    for (const command of engine.commands) {
      if (command.sq !== sq || command.state !== CommandState.held) continue;
      engine.finish(command, NvmeStatus.abortedSqDeletion);
    }
    return NvmeStatus.success;
  }

  private deleteCq(qid: number): number {
    const { engine } = this.device;
    const cq = qid === 0 ? null : (engine.cqs[qid] ?? null);
    if (cq === null) return NvmeStatus.invalidQueueIdentifier;
    if (cq.users > 0) return NvmeStatus.invalidQueueDeletion;
    // What was completed is written; what has no room any more is never reported.
    engine.flushCompletions();
    for (const command of engine.commands) {
      if (command.sq?.cq === cq) engine.discard(command);
    }
    engine.cqs[qid] = null;
    return NvmeStatus.success;
  }

  private abort(command: Command): number {
    const { engine, events } = this.device;
    const sqid = ABORT_SQID.get(command.cdw10);
    const cid = ABORT_CID.get(command.cdw10);
    command.result = ABORT_NOT_ABORTED.set(0, 1);
    const sq = engine.sqs[sqid] ?? null;
    if (sq === null) return NvmeStatus.invalidField;
    for (const target of engine.commands) {
      if (target.sq !== sq || target.cid !== cid || target === command) continue;
      const held = target.state === CommandState.held;
      if (!held && !(target.state === CommandState.event && events.withdraw(target))) continue;
      engine.finish(target, NvmeStatus.abortRequested);
      command.result = 0;
      break;
    }
    return NvmeStatus.success;
  }

  private identify(command: Command): number {
    const page = this.identifyPage(command);
    return typeof page === "number" ? page : this.reply(command, page);
  }

  /** The page, or why there is none. */
  private identifyPage(command: Command): Uint8Array | number {
    const { config, namespaces } = this.device;
    const cns = IDENTIFY_CNS.get(command.cdw10);
    const nvm = IDENTIFY_CSI.get(command.cdw11) === Csi.nvm;
    const { nsid } = command;
    switch (cns) {
      case Cns.controller:
        return pages.identifyController(config, namespaces);
      case Cns.controllerForCsi:
        return nvm ? pages.identifyControllerNvm() : NvmeStatus.invalidField;
      case Cns.activeNamespacesForCsi:
      case Cns.allocatedNamespacesForCsi:
        if (!nvm) return NvmeStatus.invalidField;
        return this.listNamespaces(nsid);
      case Cns.activeNamespaces:
      case Cns.allocatedNamespaces:
        return this.listNamespaces(nsid);
      case Cns.controllers:
        return pages.controllerList(config.controllerId, IDENTIFY_CNTID.get(command.cdw10));
      case Cns.ioCommandSets:
        return pages.ioCommandSets();
      default:
        return this.identifyNamespacePage(command, cns, nvm);
    }
  }

  private identifyNamespacePage(command: Command, cns: number, nvm: boolean): Uint8Array | number {
    const { config, namespaces } = this.device;
    const ns = namespaces[command.nsid - 1];
    const known = [
      Cns.namespace,
      Cns.allocatedNamespace,
      Cns.namespaceDescriptors,
      Cns.namespaceForCsi,
      Cns.allocatedNamespaceForCsi,
      Cns.namespaceIndependent,
      Cns.controllersOfNamespace,
    ].some((value) => value === cns);
    if (!known) return NvmeStatus.invalidField;
    if (ns === undefined) return NvmeStatus.invalidNamespaceOrFormat;
    if (!ns.isThere) {
      // Inactive: zeros for its structure, nothing else.
      const isPlain = cns === Cns.namespace || cns === Cns.allocatedNamespace;
      return isPlain ? new Uint8Array(IDENTIFY_BYTES) : NvmeStatus.invalidNamespaceOrFormat;
    }
    switch (cns) {
      case Cns.namespaceDescriptors:
        return pages.namespaceDescriptors(ns);
      case Cns.namespaceForCsi:
      case Cns.allocatedNamespaceForCsi:
        // Guards of 16 bits and no storage tags: all zeros.
        return nvm ? new Uint8Array(IDENTIFY_BYTES) : NvmeStatus.invalidField;
      case Cns.namespaceIndependent:
        return pages.identifyNamespaceIndependent(ns);
      case Cns.controllersOfNamespace:
        return pages.controllerList(config.controllerId, IDENTIFY_CNTID.get(command.cdw10));
      default:
        return pages.identifyNamespace(ns);
    }
  }

  private listNamespaces(after: number): Uint8Array | number {
    if (after >= NSID_ALL - 1) return NvmeStatus.invalidNamespaceOrFormat;
    return pages.namespaceList(this.device.namespaces, after);
  }

  private getLogPage(command: Command): number {
    const { cdw10, cdw11, nsid } = command;
    const lid = LOG_LID.get(cdw10);
    const bytes = logBytes(cdw10, cdw11);
    const offset = command.cdw13 * 2 ** 32 + command.cdw12;
    if ((offset & 3) !== 0 || bytes > this.device.io.maxTransferBytes) {
      return NvmeStatus.invalidField;
    }
    if (lid === LogPage.smart && nsid !== 0 && nsid !== NSID_ALL) return NvmeStatus.invalidField;
    const page = this.device.logPage(lid, LOG_RAE.get(cdw10) === 1);
    if (page === null) return NvmeStatus.invalidLogPage;
    if (offset > page.length) return NvmeStatus.invalidField;
    // Bytes past the end of a page are undefined; zeros give nothing away.
    const reply = new Uint8Array(bytes);
    reply.set(page.subarray(offset, Math.min(page.length, offset + bytes)));
    return this.reply(command, reply);
  }

  private getFeatures(command: Command): number {
    const { features } = this.device;
    const fid = FEATURE_FID.get(command.cdw10);
    const select = FEATURE_SEL.get(command.cdw10);
    if (fid === Feature.hostIdentifier && select !== FeatureSelect.supported) {
      return this.getHostId(command);
    }
    const { status, value } = features.get(fid, select, command.nsid, command.cdw11);
    command.result = value;
    return status;
  }

  private getHostId(command: Command): number {
    const { features } = this.device;
    const extended = HOST_ID_EXHID.get(command.cdw11) === 1;
    const bytes = extended ? HOST_ID_EXTENDED_BYTES : HOST_ID_BYTES;
    if (bytes !== features.hostIdBytes && features.hostId.some((byte) => byte !== 0)) {
      return NvmeStatus.hostIdInconsistentFormat;
    }
    return this.reply(command, features.hostId.subarray(0, bytes));
  }

  private setFeatures(command: Command): number {
    const { features } = this.device;
    const { cdw10, cdw11 } = command;
    const fid = FEATURE_FID.get(cdw10);
    const save = FEATURE_SV.get(cdw10) === 1;
    if (fid === Feature.numberOfQueues) return this.setQueueCount(command, save);
    if (fid === Feature.hostIdentifier) return this.setHostId(command, save);
    return features.set(fid, command.nsid, cdw11, save);
  }

  private setQueueCount(command: Command, save: boolean): number {
    const { engine, config } = this.device;
    if (save) return NvmeStatus.featureNotSaveable;
    const { cdw11 } = command;
    if (QUEUES_NSQ.get(cdw11) === 0xffff || QUEUES_NCQ.get(cdw11) === 0xffff) {
      return NvmeStatus.invalidField;
    }
    const exists = engine.cqs.some((cq, qid) => qid > 0 && cq !== null);
    if (exists) return NvmeStatus.commandSequenceError;
    const queues = config.maxQueues - 1;
    command.result = (queues | (queues << 16)) >>> 0;
    return NvmeStatus.success;
  }

  private setHostId(command: Command, save: boolean): number {
    const { features } = this.device;
    if (save) return NvmeStatus.featureNotSaveable;
    const extended = HOST_ID_EXHID.get(command.cdw11) === 1;
    const bytes = extended ? HOST_ID_EXTENDED_BYTES : HOST_ID_BYTES;
    const data = new Uint8Array(bytes);
    const status = this.take(command, data);
    if (status !== NvmeStatus.success) return status;
    features.hostId.fill(0);
    features.hostId.set(data);
    features.hostIdBytes = bytes;
    return NvmeStatus.success;
  }

  private formatNvm(command: Command): number {
    const { cdw10, nsid } = command;
    const format: NamespaceFormat = {
      formatIndex: FORMAT_LBAFL.get(cdw10) | (FORMAT_LBAFU.get(cdw10) << 4),
      extended: FORMAT_MSET.get(cdw10) === 1,
      piType: FORMAT_PI.get(cdw10),
      piFirst: FORMAT_PIL.get(cdw10) === 1,
    };
    if (FORMAT_SES.get(cdw10) > SecureErase.cryptographic) return NvmeStatus.invalidField;
    if (whyNotFormat(format) !== null) return NvmeStatus.invalidFormat;
    const { namespaces } = this.device;
    const ns = namespaces[nsid - 1];
    if (nsid !== NSID_ALL && ns?.isThere !== true) return NvmeStatus.invalidNamespaceOrFormat;
    const all = namespaces.filter(({ isThere }) => isThere);
    const targets = nsid === NSID_ALL ? all : [ns as Namespace];
    if (targets.some((target) => target.readOnly)) return NvmeStatus.namespaceWriteProtected;
    for (const target of targets) {
      const status = this.erase(target);
      if (status !== NvmeStatus.success) return status;
      target.setFormat(format);
      this.device.formatted(target);
    }
    return NvmeStatus.success;
  }

  /** Everything, in the old format: its metadata may lie where the new one's does not. */
  private erase(ns: Namespace): number {
    return this.device.io.zero(ns, 0, ns.blocks);
  }

  /** Controller to host. */
  private reply(command: Command, bytes: Uint8Array): number {
    const { pointer } = this.device;
    const status = pointer.mapData(command, Direction.push, bytes.length);
    if (status !== NvmeStatus.success) return status;
    return pointer.data.push(bytes, 0, bytes.length);
  }

  /** Host to controller. */
  private take(command: Command, into: Uint8Array): number {
    const { pointer } = this.device;
    const status = pointer.mapData(command, Direction.pull, into.length);
    if (status !== NvmeStatus.success) return status;
    return pointer.data.pull(into, 0, into.length);
  }
}
