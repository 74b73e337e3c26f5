/**
 * Fabrics commands on a queue that is connected: Property Get and Set, Disconnect. Connect itself
 * is in connect.ts, authentication in auth/. NVM Express Base Specification 2.0, section 6.
 */

import { NvmeStatus, STATUS_DNR } from "../spec/nvme/index.ts";
import {
  FABRICS_SCT,
  FabricsSc,
  FabricsSqe,
  FabricsType,
  PropertySize,
} from "../spec/nvmf/index.ts";
import type { Properties, PropertyEffect } from "./properties.ts";
import type { TargetQueue } from "./queue.hot.ts";
import type { TargetRequest } from "./request.hot.ts";

/** What these commands need of the controller. */
export interface PropertyOwner {
  readonly properties: Properties;
  propertyEffect(effect: PropertyEffect): void;
}

/** A Fabrics status code as the status of a completion. */
export const fabricsStatus = (code: FabricsSc): number => (FABRICS_SCT << 8) | code | STATUS_DNR;

/** Authentication Send or Receive. Of a Fabrics command. */
export function isAuthentication(request: TargetRequest): boolean {
  const type = request.view.getUint8(request.capsuleBase + FabricsSqe.FCTYPE);
  return type === FabricsType.AUTHENTICATION_SEND || type === FabricsType.AUTHENTICATION_RECEIVE;
}

export function fabricsCommand(
  controller: PropertyOwner,
  queue: TargetQueue,
  request: TargetRequest,
): void {
  switch (request.view.getUint8(request.capsuleBase + FabricsSqe.FCTYPE)) {
    case FabricsType.PROPERTY_GET:
      propertyGet(controller, queue, request);
      return;
    case FabricsType.PROPERTY_SET:
      propertySet(controller, queue, request);
      return;
    case FabricsType.DISCONNECT:
      disconnect(controller, queue, request);
      return;
    case FabricsType.CONNECT:
      queue.complete(request, NvmeStatus.commandSequenceError | STATUS_DNR);
      return;
    default:
      queue.complete(request, NvmeStatus.invalidOpcode | STATUS_DNR);
  }
}

function propertyGet(owner: PropertyOwner, queue: TargetQueue, request: TargetRequest): void {
  if (queue.qid !== 0) {
    queue.complete(request, NvmeStatus.invalidField | STATUS_DNR);
    return;
  }
  const { status, lo, hi } = owner.properties.get(offsetOf(request), sizeOf(request));
  request.result0 = lo;
  request.result1 = hi;
  queue.complete(request, status);
}

function propertySet(owner: PropertyOwner, queue: TargetQueue, request: TargetRequest): void {
  if (queue.qid !== 0) {
    queue.complete(request, NvmeStatus.invalidField | STATUS_DNR);
    return;
  }
  const value = request.dword(FabricsSqe.PROPERTY_VALUE);
  const { status, effect } = owner.properties.set(offsetOf(request), sizeOf(request), value);
  // Answer first: the effect may close queues.
  queue.complete(request, status);
  owner.propertyEffect(effect);
}

/** Ends an I/O queue after the response is out; the Admin Queue ends with its connection. */
function disconnect(owner: PropertyOwner, queue: TargetQueue, request: TargetRequest): void {
  if (queue.qid === 0) {
    queue.complete(request, fabricsStatus(FabricsSc.INVALID_QUEUE_TYPE));
    return;
  }
  const recfmt = request.view.getUint16(request.capsuleBase + FabricsSqe.RECFMT, true);
  if (recfmt !== 0) {
    queue.complete(request, fabricsStatus(FabricsSc.CONNECT_INCOMPATIBLE_FORMAT));
    return;
  }
  queue.takesIo = false;
  queue.isLeaving = true;
  queue.complete(request, NvmeStatus.success);
}

const offsetOf = (request: TargetRequest): number => request.dword(FabricsSqe.PROPERTY_OFST);

function sizeOf(request: TargetRequest): number {
  const attribute = request.view.getUint8(request.capsuleBase + FabricsSqe.PROPERTY_ATTRIB) & 7;
  return attribute === PropertySize.eight ? PropertySize.eight : attribute;
}
