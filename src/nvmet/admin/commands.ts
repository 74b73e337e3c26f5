/**
 * Admin commands of the target: Identify, Get Log Page, Get and Set Features, Asynchronous Event
 * Request, Abort, Keep Alive. NVM Express Base Specification 2.0, section 5.
 */

import {
  ABORT_CID,
  ABORT_SQID,
  AdminOpcode,
  Cns,
  Csi,
  IDENTIFY_BYTES,
  IDENTIFY_CNS,
  IDENTIFY_CNTID,
  IDENTIFY_CSI,
  LOG_LID,
  LOG_LSP,
  LOG_RAE,
  LogPage,
  logBytes,
  NSID_ALL,
  NvmeStatus,
  SqeOffset,
  STATUS_DNR,
} from "../../spec/nvme/index.ts";
import type { Namespace } from "../namespace.ts";
import type { Port } from "../port.ts";
import type { TargetQueue } from "../queue.hot.ts";
import type { TargetRequest } from "../request.hot.ts";
import type { Subsystem } from "../subsystem.ts";
import { answerWithData } from "./data.ts";
import type { ErrorInformation } from "./error-log.ts";
import type { AsyncEvents } from "./events.ts";
import { type FeatureOwner, getFeatures, setFeatures } from "./features.ts";
import * as identify from "./identify.ts";
import * as logs from "./logs.ts";

/** What admin commands need of the controller. */
export interface AdminOwner extends FeatureOwner, identify.ControllerFacts {
  readonly subsystem: Subsystem;
  readonly port: Port;
  readonly hostNqn: string;
  readonly adminQueue: TargetQueue;
  readonly events: AsyncEvents;
  readonly errors: ErrorInformation;
  readonly changedNamespaces: Set<number>;
  /** Tells the host that a reservation notification waits. */
  reservationEvent(): void;
  readonly ioQueues: ReadonlyMap<number, TargetQueue>;
  readonly services: {
    discoveryLog(port: Port, hostNqn: string, reached?: string): Uint8Array;
    /** Nanoseconds since the target started. */
    readonly upNs: number;
  };
}

const DNR = STATUS_DNR;
/** A list of namespaces above these would be of none that can exist. */
const LAST_NSIDS = 0xffff_fffe;

/** An offset of a log beyond 2^32 is beyond every page here. */
const LPO_UPPER_MUST_BE = 0;

export function adminCommand(owner: AdminOwner, queue: TargetQueue, request: TargetRequest): void {
  switch (request.opcode) {
    case AdminOpcode.identify:
      identifyCommand(owner, queue, request);
      return;
    case AdminOpcode.getLogPage:
      getLogPage(owner, queue, request);
      return;
    case AdminOpcode.getFeatures:
      getFeatures(owner, queue, request);
      return;
    case AdminOpcode.setFeatures:
      setFeatures(owner, queue, request);
      return;
    case AdminOpcode.asyncEventRequest:
      owner.events.park(queue, request);
      return;
    case AdminOpcode.abort:
      abort(owner, queue, request);
      return;
    case AdminOpcode.keepAlive:
      owner.keepAlive.restart();
      queue.complete(request, NvmeStatus.success);
      return;
    default:
      queue.complete(request, NvmeStatus.invalidOpcode | DNR);
  }
}

function identifyCommand(owner: AdminOwner, queue: TargetQueue, request: TargetRequest): void {
  const cns = IDENTIFY_CNS.get(request.dword(SqeOffset.cdw10));
  const csi = IDENTIFY_CSI.get(request.dword(SqeOffset.cdw11));
  if (owner.subsystem.isDiscovery && cns !== Cns.controller) {
    queue.complete(request, NvmeStatus.invalidField | DNR);
    return;
  }
  if (identify.isAboutNamespace(cns)) {
    identifyOne(owner, queue, request, cns, csi);
    return;
  }
  const isList = cns !== Cns.controller && cns !== Cns.controllers;
  if (isList && request.nsid >= LAST_NSIDS) {
    queue.complete(request, NvmeStatus.invalidNamespaceOrFormat | DNR);
    return;
  }
  const data = identifyWhole(owner, request, cns, csi);
  if (data === null) queue.complete(request, NvmeStatus.invalidField | DNR);
  else answerWithData(queue, request, data);
}

function identifyWhole(
  owner: AdminOwner,
  request: TargetRequest,
  cns: number,
  csi: number,
): Uint8Array | null {
  switch (cns) {
    case Cns.controller:
      return identify.identifyController(owner);
    case Cns.controllers:
      return identify.controllerList(owner.subsystem, null, firstController(request));
    // What a host may not see does not exist for it: allocated is what is active.
    case Cns.activeNamespaces:
    case Cns.allocatedNamespaces:
      return identify.activeNamespaces(owner.attached, request.nsid);
    case Cns.controllerForCsi:
      // Limits of commands without data: none of them are limited.
      return csi === Csi.nvm ? new Uint8Array(IDENTIFY_BYTES) : null;
    case Cns.activeNamespacesForCsi:
    case Cns.allocatedNamespacesForCsi:
      return csi === Csi.nvm ? identify.activeNamespaces(owner.attached, request.nsid) : null;
    case Cns.ioCommandSets:
      return identify.ioCommandSets();
    default:
      return null;
  }
}

const firstController = (request: TargetRequest): number =>
  IDENTIFY_CNTID.get(request.dword(SqeOffset.cdw10));

function identifyOne(
  owner: AdminOwner,
  queue: TargetQueue,
  request: TargetRequest,
  cns: number,
  csi: number,
): void {
  const { nsid } = request;
  if (nsid === 0 || nsid > owner.subsystem.nsidMax) {
    queue.complete(request, NvmeStatus.invalidNamespaceOrFormat | DNR);
    return;
  }
  const namespace = owner.attached.get(nsid);
  if (namespace === null) {
    // An inactive namespace has zeros for a structure, and no descriptors.
    const isStructure = cns === Cns.namespace || cns === Cns.allocatedNamespace;
    if (isStructure) answerWithData(queue, request, new Uint8Array(IDENTIFY_BYTES));
    else queue.complete(request, NvmeStatus.invalidNamespaceOrFormat | DNR);
    return;
  }
  const data =
    cns === Cns.controllersOfNamespace
      ? identify.controllerList(owner.subsystem, namespace, firstController(request))
      : identifyNamespaceAs(namespace, cns, csi);
  if (data === null) queue.complete(request, NvmeStatus.invalidIoCommandSet | DNR);
  else answerWithData(queue, request, data);
}

function identifyNamespaceAs(namespace: Namespace, cns: number, csi: number): Uint8Array | null {
  switch (cns) {
    case Cns.namespace:
    case Cns.allocatedNamespace:
      return identify.identifyNamespace(namespace);
    case Cns.namespaceDescriptors:
      return identify.namespaceDescriptors(namespace);
    case Cns.namespaceForCsi:
    case Cns.allocatedNamespaceForCsi:
      // Storage tags and extended formats: none.
      return csi === Csi.nvm ? new Uint8Array(IDENTIFY_BYTES) : null;
    default:
      return identify.identifyNamespaceIndependent(namespace);
  }
}

function getLogPage(owner: AdminOwner, queue: TargetQueue, request: TargetRequest): void {
  const cdw10 = request.dword(SqeOffset.cdw10);
  const length = logBytes(cdw10, request.dword(SqeOffset.cdw11));
  const lid = LOG_LID.get(cdw10);
  const offset = request.dword(SqeOffset.cdw12);
  if (length > owner.subsystem.transferMax) {
    queue.complete(request, NvmeStatus.invalidField | DNR);
    return;
  }
  if (lid === LogPage.smart && isNoNamespace(owner, request.nsid)) {
    queue.complete(request, NvmeStatus.invalidNamespaceOrFormat | DNR);
    return;
  }
  const page = logPage(owner, request, lid, LOG_LSP.get(cdw10));
  if (page === null) {
    queue.complete(request, NvmeStatus.invalidLogPage | DNR);
    return;
  }
  const isInRange = request.dword(SqeOffset.cdw13) === LPO_UPPER_MUST_BE;
  const cut = isInRange ? logs.cutLog(page, offset, length) : null;
  if (cut === null) {
    queue.complete(request, NvmeStatus.invalidField | DNR);
    return;
  }
  answerWithData(queue, request, cut);
  if (LOG_RAE.get(cdw10) === 1 || request.status !== NvmeStatus.success) return;
  if (lid === LogPage.changedNamespaces) owner.changedNamespaces.clear();
  const isReservation = lid === LogPage.reservationNotification;
  if (isReservation) owner.reservationNotices.read();
  owner.events.logRead(queue, lid);
  if (isReservation && owner.reservationNotices.waiting > 0) owner.reservationEvent();
}

const isNoNamespace = ({ attached, subsystem }: AdminOwner, nsid: number): boolean =>
  !subsystem.isDiscovery && nsid !== 0 && nsid !== NSID_ALL && attached.get(nsid) === null;

function logPage(
  owner: AdminOwner,
  request: TargetRequest,
  lid: number,
  lsp: number,
): Uint8Array | null {
  const { subsystem, attached } = owner;
  if (lid === LogPage.supportedLogPages) return logs.supportedLogs(subsystem.isDiscovery);
  if (lid === LogPage.errorInformation) return owner.errors.page();
  if (subsystem.isDiscovery) {
    if (lid !== LogPage.discovery) return null;
    const { port, hostNqn, adminQueue } = owner;
    return owner.services.discoveryLog(port, hostNqn, adminQueue.origin.localAddress);
  }
  switch (lid) {
    case LogPage.smart: {
      const isAll = request.nsid === NSID_ALL || request.nsid === 0;
      const one = attached.get(request.nsid);
      const of = isAll ? attached.active() : one === null ? [] : [one];
      return logs.smartLog(of, {
        errors: owner.errors.count,
        isTemperatureWarning: owner.featureValues.isTemperatureWarning,
        upNs: owner.services.upNs,
      });
    }
    case LogPage.firmwareSlot:
      return logs.firmwareLog(subsystem.firmware);
    case LogPage.changedNamespaces:
      return logs.changedNamespaces(owner.changedNamespaces);
    case LogPage.commandEffects:
      return logs.commandEffects(attached.active(), owner.canCopy);
    case LogPage.ana:
      return logs.anaLog(attached.active(), owner.port, (lsp & 1) === 1);
    case LogPage.reservationNotification:
      return owner.reservationNotices.page();
    default:
      return null;
  }
}

/**
 * Aborts a command that only waits: for buffer memory, or for an event. What a device or the
 * network has is not aborted (bit 0 of the result says so).
 */
function abort(owner: AdminOwner, queue: TargetQueue, request: TargetRequest): void {
  const cdw10 = request.dword(SqeOffset.cdw10);
  const sqid = ABORT_SQID.get(cdw10);
  const cid = ABORT_CID.get(cdw10);
  const of = sqid === 0 ? queue : owner.ioQueues.get(sqid);
  let victim = of?.takeWaiting(cid) ?? null;
  if (victim === null && sqid === 0) victim = owner.events.take(cid);
  if (victim !== null && of !== undefined) of.complete(victim, NvmeStatus.abortRequested);
  request.result0 = victim === null ? 1 : 0;
  queue.complete(request, NvmeStatus.success);
}
