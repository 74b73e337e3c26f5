/**
 * Get and Set Features of the target. NVM Express Base Specification 2.0, sections 5.15 and 5.27.
 * Those that are a mere value are in feature-values.ts; here are those that mean something: queues,
 * keep-alive, events, caches, reservations, write protection, and who is asked.
 *
 * Leaves out: saved values (no feature is saveable); Timestamp, Host Behavior Support.
 */

import { QueueFeature } from "../../block/index.ts";
import {
  EventType,
  FEATURE_CAP_CHANGEABLE,
  FEATURE_CAP_NAMESPACE,
  FEATURE_FID,
  FEATURE_SEL,
  FEATURE_SV,
  Feature,
  FeatureSelect,
  HOST_ID_EXHID,
  LogPage,
  NSID_ALL,
  NvmeStatus,
  OAES_ANA_CHANGE,
  OAES_DISCOVERY_CHANGE,
  OAES_NAMESPACE_ATTRIBUTE,
  QUEUES_NCQ,
  QUEUES_NSQ,
  RESERVATION_MASK_ALL,
  RESERVATION_PTPL,
  SMART_WARNING_TEMPERATURE,
  SmartEvent,
  SqeOffset,
  STATUS_DNR,
  VWC_WCE,
  WRITE_PROTECTION_STATE,
} from "../../spec/nvme/index.ts";
import { type Attachments, accessStatus } from "../attachments.ts";
import type { KeepAliveTimer } from "../keep-alive.ts";
import type { Namespace } from "../namespace.ts";
import type { TargetQueue } from "../queue.hot.ts";
import type { TargetRequest } from "../request.hot.ts";
import type { Subsystem } from "../subsystem.ts";
import { answerWithData } from "./data.ts";
import type { AsyncEvents } from "./events.ts";
import type { FeatureValues } from "./feature-values.ts";
import type { ReservationNotices } from "./reservation-notices.ts";

/** What features need of the controller. */
export interface FeatureOwner {
  readonly subsystem: Subsystem;
  readonly attached: Attachments;
  readonly events: AsyncEvents;
  readonly featureValues: FeatureValues;
  readonly reservationNotices: ReservationNotices;
  readonly hostId: Uint8Array;
  readonly ioQueues: ReadonlyMap<number, TargetQueue>;
  readonly adminQueue: TargetQueue;
  readonly keepAlive: KeepAliveTimer;
  /** I/O queues that the host may make. */
  queuesGranted: number;
}

const DNR = STATUS_DNR;
const INVALID = NvmeStatus.invalidField | DNR;
const NOT_CHANGEABLE = NvmeStatus.featureNotChangeable | DNR;

/** Events that a host can enable. */
const NVM_EVENTS = OAES_NAMESPACE_ATTRIBUTE | OAES_ANA_CHANGE;

/** Namespace Write Protection Config: there is no protection until a power cycle, or for good. */
const PROTECTION_NONE = 0;
const PROTECTION_ON = 1;

/** Features of which each namespace has its own. */
const PER_NAMESPACE = new Set<number>([
  Feature.errorRecovery,
  Feature.reservationNotificationMask,
  Feature.reservationPersistence,
  Feature.namespaceWriteProtection,
]);
const DISCOVERY_FEATURES = new Set<number>([
  Feature.asyncEventConfiguration,
  Feature.keepAliveTimer,
  Feature.hostIdentifier,
]);
const NVM_FEATURES = new Set<number>([
  ...DISCOVERY_FEATURES,
  ...PER_NAMESPACE,
  Feature.arbitration,
  Feature.powerManagement,
  Feature.temperatureThreshold,
  Feature.volatileWriteCache,
  Feature.numberOfQueues,
  Feature.writeAtomicity,
]);
/** Those that Set Features never changes. */
const FIXED = new Set<number>([Feature.hostIdentifier]);

function isSupported({ subsystem, attached }: FeatureOwner, fid: number): boolean {
  if (!(subsystem.isDiscovery ? DISCOVERY_FEATURES : NVM_FEATURES).has(fid)) return false;
  return fid !== Feature.volatileWriteCache || hasWriteCache(attached.active());
}

function hasWriteCache(namespaces: readonly Namespace[]): boolean {
  return namespaces.some(({ queue }) => (queue.features & QueueFeature.writeCache) !== 0);
}

export function getFeatures(owner: FeatureOwner, queue: TargetQueue, request: TargetRequest): void {
  const cdw10 = request.dword(SqeOffset.cdw10);
  const fid = FEATURE_FID.get(cdw10);
  const select = FEATURE_SEL.get(cdw10);
  if (!isSupported(owner, fid) || select > FeatureSelect.supported) {
    queue.complete(request, INVALID);
    return;
  }
  if (select === FeatureSelect.supported) {
    const changeable = FIXED.has(fid) ? 0 : FEATURE_CAP_CHANGEABLE;
    request.result0 = changeable | (PER_NAMESPACE.has(fid) ? FEATURE_CAP_NAMESPACE : 0);
    queue.complete(request, NvmeStatus.success);
    return;
  }
  if (fid === Feature.hostIdentifier) {
    getHostIdentifier(owner, queue, request);
    return;
  }
  const status = namespaceStatus(owner, fid, request.nsid);
  if (status !== NvmeStatus.success) {
    queue.complete(request, status);
    return;
  }
  // What was saved is what was there at first: nothing is saveable.
  const value = featureValue(owner, fid, request, select !== FeatureSelect.current);
  request.result0 = Math.max(0, value);
  queue.complete(request, value < 0 ? INVALID : NvmeStatus.success);
}

/** Whether a feature of namespaces may be asked of this one. Returns an NVMe status. */
function namespaceStatus({ attached }: FeatureOwner, fid: number, nsid: number): number {
  if (!PER_NAMESPACE.has(fid)) return NvmeStatus.success;
  const namespace = attached.get(nsid);
  if (namespace === null) return NvmeStatus.invalidNamespaceOrFormat | DNR;
  return accessStatus(attached.accessState(namespace));
}

/** The value for dword 0; -1: the command asks for something that is not there. */
function featureValue(
  owner: FeatureOwner,
  fid: number,
  request: TargetRequest,
  isInitial: boolean,
): number {
  const { nsid } = request;
  const namespace = owner.attached.get(nsid);
  switch (fid) {
    case Feature.numberOfQueues:
      return queueCounts((isInitial ? owner.subsystem.queuesMax : owner.queuesGranted) - 1);
    case Feature.volatileWriteCache:
      return VWC_WCE.set(0, isInitial || !owner.attached.writesThrough ? 1 : 0);
    case Feature.asyncEventConfiguration:
      return isInitial ? 0 : owner.events.configuration >>> 0;
    case Feature.keepAliveTimer:
      return isInitial ? 0 : owner.keepAlive.ms;
    case Feature.temperatureThreshold:
      return owner.featureValues.threshold(request.dword(SqeOffset.cdw11), isInitial);
    case Feature.reservationNotificationMask:
      return isInitial ? 0 : owner.reservationNotices.maskOf(nsid);
    case Feature.reservationPersistence:
      return !isInitial && namespace?.reservations.state.ptpl === true ? 1 : 0;
    case Feature.namespaceWriteProtection:
      return namespace?.isWriteProtected === true ? PROTECTION_ON : PROTECTION_NONE;
    default:
      return isInitial ? owner.featureValues.initial(fid) : owner.featureValues.get(fid, nsid);
  }
}

/** Both numbers are 0's based. */
function queueCounts(count: number): number {
  return QUEUES_NCQ.set(QUEUES_NSQ.set(0, count), count);
}

/** Fabrics hosts have 16 bytes for a name; the short form does not exist here. */
function getHostIdentifier(owner: FeatureOwner, queue: TargetQueue, request: TargetRequest): void {
  const isExtended = HOST_ID_EXHID.get(request.dword(SqeOffset.cdw11)) === 1;
  if (!isExtended) queue.complete(request, INVALID);
  else answerWithData(queue, request, owner.hostId);
}

export function setFeatures(owner: FeatureOwner, queue: TargetQueue, request: TargetRequest): void {
  const cdw10 = request.dword(SqeOffset.cdw10);
  const fid = FEATURE_FID.get(cdw10);
  queue.complete(request, setStatus(owner, request, fid, FEATURE_SV.get(cdw10) === 1));
}

/** Does what Set Features asks. Returns its status. */
function setStatus(
  owner: FeatureOwner,
  request: TargetRequest,
  fid: number,
  isSaved: boolean,
): number {
  if (!isSupported(owner, fid)) return INVALID;
  if (isSaved) return NvmeStatus.featureNotSaveable | DNR;
  const { nsid } = request;
  const cdw11 = request.dword(SqeOffset.cdw11);
  if (PER_NAMESPACE.has(fid)) return setPerNamespace(owner, fid, nsid, cdw11);
  if (nsid !== 0 && nsid !== NSID_ALL) return NvmeStatus.featureNotNamespaceSpecific | DNR;
  switch (fid) {
    case Feature.numberOfQueues:
      return setQueueCount(owner, request, cdw11);
    case Feature.keepAliveTimer:
      owner.keepAlive.set(cdw11);
      return NvmeStatus.success;
    case Feature.asyncEventConfiguration:
      return setEvents(owner, cdw11);
    case Feature.hostIdentifier:
      // Connect has set it, and it cannot change during an association.
      return NvmeStatus.commandSequenceError | DNR;
    case Feature.volatileWriteCache:
      // The caches are the disks' own, and other hosts use them: this one's writes carry FUA.
      owner.attached.writesThrough = VWC_WCE.get(cdw11) === 0;
      return NvmeStatus.success;
    case Feature.temperatureThreshold:
      return setThreshold(owner, cdw11);
    default:
      return owner.featureValues.set(fid, 0, cdw11);
  }
}

function setThreshold(owner: FeatureOwner, cdw11: number): number {
  const status = owner.featureValues.setThreshold(cdw11);
  const isWanted = (owner.events.configuration & SMART_WARNING_TEMPERATURE) !== 0;
  if (isWanted && owner.featureValues.isTemperatureWarning) {
    owner.events.raise(owner.adminQueue, EventType.smart, SmartEvent.temperature, LogPage.smart);
  }
  return status;
}

function setQueueCount(owner: FeatureOwner, request: TargetRequest, cdw11: number): number {
  if (owner.ioQueues.size > 0) return NvmeStatus.commandSequenceError | DNR;
  const [submission, completion] = [QUEUES_NSQ.get(cdw11), QUEUES_NCQ.get(cdw11)];
  if (Math.max(submission, completion) === 0xffff) return INVALID;
  const granted = Math.min(submission, completion, owner.subsystem.queuesMax - 1);
  request.result0 = queueCounts(granted);
  owner.queuesGranted = granted + 1;
  return NvmeStatus.success;
}

function setEvents({ events, subsystem }: FeatureOwner, cdw11: number): number {
  // SMART warnings (bits 7:0) may be enabled; of these there is the one of the temperature.
  const known = subsystem.isDiscovery ? OAES_DISCOVERY_CHANGE : NVM_EVENTS | 0xff;
  if ((cdw11 & ~known) !== 0) return INVALID;
  events.configuration = cdw11;
  return NvmeStatus.success;
}

/** For one namespace, or for all that the controller has. */
function setPerNamespace(owner: FeatureOwner, fid: number, nsid: number, cdw11: number): number {
  const isAll = nsid === NSID_ALL;
  const one = owner.attached.get(nsid);
  if (!isAll && one === null) return NvmeStatus.invalidNamespaceOrFormat | DNR;
  for (const namespace of isAll ? owner.attached.active() : [one as Namespace]) {
    const status = accessStatus(owner.attached.accessState(namespace));
    if (status !== NvmeStatus.success) return status;
    const result = setOne(owner, fid, namespace, cdw11);
    if (result !== NvmeStatus.success) return result;
  }
  return NvmeStatus.success;
}

function setOne(owner: FeatureOwner, fid: number, namespace: Namespace, cdw11: number): number {
  switch (fid) {
    case Feature.reservationNotificationMask:
      if ((cdw11 & ~RESERVATION_MASK_ALL) !== 0) return INVALID;
      owner.reservationNotices.setMask(namespace.nsid, cdw11);
      return NvmeStatus.success;
    case Feature.reservationPersistence:
      return namespace.reservations.setPersistence(RESERVATION_PTPL.get(cdw11) === 1);
    case Feature.namespaceWriteProtection:
      return protect(owner, namespace, WRITE_PROTECTION_STATE.get(cdw11));
    default:
      return owner.featureValues.set(fid, namespace.nsid, cdw11);
  }
}

function protect({ subsystem }: FeatureOwner, namespace: Namespace, state: number): number {
  if (state > PROTECTION_ON) return INVALID;
  // What the administrator protects, no host opens.
  if (namespace.readOnly && state === PROTECTION_NONE) return NOT_CHANGEABLE;
  if (!namespace.readOnly) subsystem.setWriteProtected(namespace, state === PROTECTION_ON);
  return NvmeStatus.success;
}
