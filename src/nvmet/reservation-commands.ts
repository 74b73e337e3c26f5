/**
 * Reservation Register, Acquire, Release and Report: from a capsule to a command of
 * reservation-state.ts, and from its outcome to the controllers that it concerns. NVM Express Base
 * Specification 2.0, sections 7.2 to 7.5. Control plane, though the commands come on I/O queues.
 *
 * Hosts on Fabrics have 128-bit identifiers, so Report has the extended structure alone (EDS).
 */

import { hexDigits, viewOf } from "../core/index.ts";
import {
  ACQUIRE_RACQA,
  NvmeStatus,
  NvmOpcode,
  REGISTER_CPTPL,
  REGISTER_RREGA,
  RELEASE_RRELA,
  REPORT_EDS,
  RESERVATION_IEKEY,
  RESERVATION_KEYS,
  RESERVATION_RTYPE,
  SqeOffset,
  STATUS_DNR,
} from "../spec/nvme/index.ts";
import { answerWithData, receivedData } from "./admin/data.ts";
import type { Attachments } from "./attachments.ts";
import type { Namespace } from "./namespace.ts";
import { checkLength } from "./parse.hot.ts";
import type { TargetQueue } from "./queue.hot.ts";
import type { TargetRequest } from "./request.hot.ts";
import type { ReservationCommand } from "./reservation-state.ts";
import type { Subsystem, SubsystemMember } from "./subsystem.ts";

/** What these commands need of the controller. */
export interface ReservationOwner {
  readonly attached: Attachments;
  readonly subsystem: Subsystem;
  /** The host's identifier in hexadecimal. */
  readonly hostKey: string;
  readonly services: {
    /** Aborts commands to a namespace and calls `done` when none of them is left. */
    abortCommands(
      members: readonly SubsystemMember[],
      namespace: Namespace,
      done: () => void,
    ): void;
  };
}

const DNR = STATUS_DNR;
const KEYS_BYTES = RESERVATION_KEYS.sizeBytes;
/** Release has one key; hosts that send the room of two are understood as well. */
const RELEASE_BYTES = 8;
const NO_HOST = "0".repeat(32);

export function reservationCommand(
  owner: ReservationOwner,
  queue: TargetQueue,
  request: TargetRequest,
): void {
  if (owner.hostKey === NO_HOST) {
    queue.complete(request, NvmeStatus.hostIdNotInitialized | DNR);
    return;
  }
  const namespace = owner.attached.get(request.nsid);
  if (namespace === null) {
    queue.complete(request, NvmeStatus.invalidNamespaceOrFormat | DNR);
    return;
  }
  if (request.opcode === NvmOpcode.reservationReport) {
    report(namespace, queue, request);
    return;
  }
  const isRelease = request.opcode === NvmOpcode.reservationRelease;
  const bytes = isRelease && request.sglBytes === RELEASE_BYTES ? RELEASE_BYTES : KEYS_BYTES;
  const status = checkLength(request, bytes);
  if (status === NvmeStatus.success) queue.fetchForHandler(request);
  else queue.complete(request, status);
}

function report(namespace: Namespace, queue: TargetQueue, request: TargetRequest): void {
  if (REPORT_EDS.get(request.dword(SqeOffset.cdw11)) === 0) {
    queue.complete(request, NvmeStatus.hostIdInconsistentFormat | DNR);
    return;
  }
  // NUMD is 0's based.
  const length = (request.dword(SqeOffset.cdw10) + 1) * 4;
  if (length > queue.transferMax) {
    queue.complete(request, NvmeStatus.invalidField | DNR);
    return;
  }
  const data = new Uint8Array(length);
  data.set(namespace.reservations.report().subarray(0, length));
  answerWithData(queue, request, data);
}

/** The keys are here. */
export function reservationData(
  owner: ReservationOwner,
  queue: TargetQueue,
  request: TargetRequest,
): void {
  const data = receivedData(queue, request);
  const namespace = owner.attached.get(request.nsid);
  if (data === null || namespace === null) {
    const status = data === null ? NvmeStatus.dataTransferError : invalidNamespace;
    queue.complete(request, status);
    return;
  }
  const command = commandOf(request, data);
  const { status, notices, aborted } = namespace.reservations.execute(owner.hostKey, command);
  if (status !== NvmeStatus.success) {
    queue.complete(request, status);
    return;
  }
  owner.subsystem.reservationsChanged(namespace, notices);
  const finish = (): void => queue.complete(request, NvmeStatus.success);
  if (aborted.length === 0) {
    finish();
    return;
  }
  const hosts = new Set(aborted);
  const members = owner.subsystem.membersOf(hosts);
  owner.services.abortCommands(members, namespace, finish);
}

const invalidNamespace = NvmeStatus.invalidNamespaceOrFormat | DNR;

function commandOf(request: TargetRequest, data: Uint8Array): ReservationCommand {
  const cdw10 = request.dword(SqeOffset.cdw10);
  const ignoreKey = RESERVATION_IEKEY.get(cdw10) === 1;
  const currentKey = keyAt(data, RESERVATION_KEYS.fields.CRKEY.offset);
  const type = RESERVATION_RTYPE.get(cdw10);
  switch (request.opcode) {
    case NvmOpcode.reservationRegister:
      return {
        kind: "register",
        action: REGISTER_RREGA.get(cdw10),
        ignoreKey,
        persist: REGISTER_CPTPL.get(cdw10),
        currentKey,
        newKey: keyAt(data, RESERVATION_KEYS.fields.NRKEY.offset),
      };
    case NvmOpcode.reservationAcquire:
      return {
        kind: "acquire",
        action: ACQUIRE_RACQA.get(cdw10),
        ignoreKey,
        type,
        currentKey,
        preemptKey: keyAt(data, RESERVATION_KEYS.fields.NRKEY.offset),
      };
    default:
      return { kind: "release", action: RELEASE_RRELA.get(cdw10), ignoreKey, type, currentKey };
  }
}

/** A key as text: 64 bits do not fit a number. */
function keyAt(data: Uint8Array, at: number): string {
  const view = viewOf(data);
  return [view.getUint32(at + 4, true), view.getUint32(at, true)]
    .map((word) => hexDigits(word, 8))
    .join("");
}
