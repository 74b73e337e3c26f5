/**
 * Get and Set Features of the target: number of queues, keep-alive timer, asynchronous event
 * configuration, host identifier, volatile write cache, and those that have one value only. NVM
 * Express Base Specification 2.0, sections 5.15 and 5.27.
 *
 * Leaves out: saved values (no feature is saveable).
 */

import { QueueFeature } from "../../block/index.ts";
import {
  FEATURE_CAP_CHANGEABLE,
  FEATURE_FID,
  FEATURE_SEL,
  FEATURE_SV,
  Feature,
  FeatureSelect,
  HOST_ID_EXHID,
  NvmeStatus,
  OAES_ANA_CHANGE,
  OAES_DISCOVERY_CHANGE,
  OAES_NAMESPACE_ATTRIBUTE,
  QUEUES_NCQ,
  QUEUES_NSQ,
  SqeOffset,
  STATUS_DNR,
} from "../../spec/nvme/index.ts";
import type { Attachments } from "../attachments.ts";
import type { TargetQueue } from "../queue.hot.ts";
import type { TargetRequest } from "../request.hot.ts";
import type { Subsystem } from "../subsystem.ts";
import { answerWithData } from "./data.ts";
import type { AsyncEvents } from "./events.ts";

/** What features need of the controller. */
export interface FeatureOwner {
  readonly subsystem: Subsystem;
  readonly attached: Attachments;
  readonly events: AsyncEvents;
  readonly hostId: Uint8Array;
  keepAliveMs: number;
  setKeepAlive(milliseconds: number): void;
}

const DNR = STATUS_DNR;

/** Events that a host can enable. */
const EVENTS = OAES_NAMESPACE_ATTRIBUTE | OAES_ANA_CHANGE | OAES_DISCOVERY_CHANGE;

const CHANGEABLE = new Set<number>([
  Feature.numberOfQueues,
  Feature.asyncEventConfiguration,
  Feature.keepAliveTimer,
]);
const SUPPORTED = new Set<number>([
  ...CHANGEABLE,
  Feature.arbitration,
  Feature.powerManagement,
  Feature.temperatureThreshold,
  Feature.errorRecovery,
  Feature.volatileWriteCache,
  Feature.writeAtomicity,
  Feature.hostIdentifier,
]);

export function getFeatures(owner: FeatureOwner, queue: TargetQueue, request: TargetRequest): void {
  const cdw10 = request.dword(SqeOffset.cdw10);
  const fid = FEATURE_FID.get(cdw10);
  const select = FEATURE_SEL.get(cdw10);
  if (!SUPPORTED.has(fid)) {
    queue.complete(request, NvmeStatus.invalidField | DNR);
    return;
  }
  if (select === FeatureSelect.supported) {
    request.result0 = CHANGEABLE.has(fid) ? FEATURE_CAP_CHANGEABLE : 0;
    queue.complete(request, NvmeStatus.success);
    return;
  }
  if (fid === Feature.hostIdentifier) {
    getHostIdentifier(owner, queue, request);
    return;
  }
  const isDefault = select === FeatureSelect.default || select === FeatureSelect.saved;
  request.result0 = isDefault && fid !== Feature.numberOfQueues ? 0 : featureValue(owner, fid);
  queue.complete(request, NvmeStatus.success);
}

function featureValue(owner: FeatureOwner, fid: number): number {
  switch (fid) {
    case Feature.numberOfQueues:
      return queueCounts(owner.subsystem);
    case Feature.asyncEventConfiguration:
      return owner.events.configuration;
    case Feature.keepAliveTimer:
      return owner.keepAliveMs;
    case Feature.volatileWriteCache:
      return owner.attached
        .active()
        .some(({ queue }) => (queue.features & QueueFeature.writeCache) !== 0)
        ? 1
        : 0;
    default:
      return 0;
  }
}

/** Both numbers are 0's based. */
function queueCounts(subsystem: Subsystem): number {
  const count = subsystem.queuesMax - 1;
  return QUEUES_NCQ.set(QUEUES_NSQ.set(0, count), count);
}

/** Fabrics hosts have 16 bytes for a name; the short form does not exist here. */
function getHostIdentifier(owner: FeatureOwner, queue: TargetQueue, request: TargetRequest): void {
  const isExtended = HOST_ID_EXHID.get(request.dword(SqeOffset.cdw11)) === 1;
  if (!isExtended) queue.complete(request, NvmeStatus.invalidField | DNR);
  else answerWithData(queue, request, owner.hostId);
}

export function setFeatures(owner: FeatureOwner, queue: TargetQueue, request: TargetRequest): void {
  const cdw10 = request.dword(SqeOffset.cdw10);
  const cdw11 = request.dword(SqeOffset.cdw11);
  if (FEATURE_SV.get(cdw10) === 1) {
    queue.complete(request, NvmeStatus.featureNotSaveable | DNR);
    return;
  }
  switch (FEATURE_FID.get(cdw10)) {
    case Feature.numberOfQueues:
      setQueueCount(owner, queue, request, cdw11);
      return;
    case Feature.keepAliveTimer:
      owner.setKeepAlive(cdw11);
      queue.complete(request, NvmeStatus.success);
      return;
    case Feature.asyncEventConfiguration:
      setEvents(owner, queue, request, cdw11);
      return;
    case Feature.hostIdentifier:
      // Connect has set it, and it cannot change during an association.
      queue.complete(request, NvmeStatus.commandSequenceError | DNR);
      return;
    case Feature.volatileWriteCache:
    case Feature.arbitration:
    case Feature.powerManagement:
    case Feature.temperatureThreshold:
    case Feature.errorRecovery:
    case Feature.writeAtomicity:
      queue.complete(request, NvmeStatus.featureNotChangeable | DNR);
      return;
    default:
      queue.complete(request, NvmeStatus.invalidField | DNR);
  }
}

function setQueueCount(
  owner: FeatureOwner,
  queue: TargetQueue,
  request: TargetRequest,
  cdw11: number,
): void {
  const asked = Math.min(QUEUES_NSQ.get(cdw11), QUEUES_NCQ.get(cdw11));
  if (Math.max(QUEUES_NSQ.get(cdw11), QUEUES_NCQ.get(cdw11)) === 0xffff) {
    queue.complete(request, NvmeStatus.invalidField | DNR);
    return;
  }
  const granted = Math.min(asked, owner.subsystem.queuesMax - 1);
  request.result0 = QUEUES_NCQ.set(QUEUES_NSQ.set(0, granted), granted);
  queue.complete(request, NvmeStatus.success);
}

function setEvents(
  owner: FeatureOwner,
  queue: TargetQueue,
  request: TargetRequest,
  cdw11: number,
): void {
  // SMART warnings (bits 7:0) may be enabled; this target has none to report.
  const unknown = cdw11 & ~(EVENTS | 0xff);
  if (unknown !== 0) {
    queue.complete(request, NvmeStatus.invalidField | DNR);
    return;
  }
  owner.events.configuration = cdw11;
  queue.complete(request, NvmeStatus.success);
}
