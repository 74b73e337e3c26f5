/**
 * Authentication Send and Receive on one queue of the target, and the time that an exchange may
 * take. What the messages mean is in responder.ts. NVM Express Base Specification 2.0, sections
 * 6.1, 6.2 and 8.13.
 *
 * Invariant: a queue that must authenticate takes no other command before it has, and is dropped
 * when an exchange fails or stalls; the message that says so goes out first.
 */

import { NS_PER_MS, NVMET_AUTH_BYTES_MAX } from "../../core/index.ts";
import { NvmeStatus, STATUS_DNR } from "../../spec/nvme/index.ts";
import { AUTH_SECP, AUTH_SPSP, FabricsSqe, FabricsType } from "../../spec/nvmf/index.ts";
import { answerWithData, receivedData } from "../admin/data.ts";
import { checkLength } from "../parse.hot.ts";
import type { TargetQueue } from "../queue.hot.ts";
import type { TargetRequest } from "../request.hot.ts";
import type { HostSecurity } from "./host-security.ts";
import { type AuthListener, type AuthParties, AuthResponder } from "./responder.ts";

/** At most, and without a Keep Alive Timeout (section 8.13.5.7): a stranger chooses that one. */
const STEP_TIMEOUT_MS = 120_000;

/** What it needs of the controller that the queue belongs to. */
export interface AuthOwner {
  readonly keepAliveMs: number;
  nowNs(): number;
  queueAuthenticated(queue: TargetQueue): void;
  queueRefused(queue: TargetQueue, reason: string): void;
}

export class QueueAuthentication implements AuthListener {
  readonly responder: AuthResponder;
  private readonly owner: AuthOwner;
  private readonly queue: TargetQueue;
  private readonly security: HostSecurity;
  private deadlineNs: number;

  constructor(owner: AuthOwner, queue: TargetQueue, parties: AuthParties, security: HostSecurity) {
    this.owner = owner;
    this.queue = queue;
    this.security = security;
    this.responder = new AuthResponder(parties, security, this);
    this.deadlineNs = this.nextDeadline();
  }

  private nextDeadline(): number {
    const { keepAliveMs } = this.owner;
    const ms = keepAliveMs > 0 ? Math.min(keepAliveMs, STEP_TIMEOUT_MS) : STEP_TIMEOUT_MS;
    return this.owner.nowNs() + ms * NS_PER_MS;
  }

  /** Authentication Send: fetches its message. Authentication Receive: answers. */
  command(request: TargetRequest): void {
    const { queue } = this;
    const { view, capsuleBase } = request;
    const isProtocol =
      view.getUint8(capsuleBase + FabricsSqe.AUTH_SECP) === AUTH_SECP &&
      view.getUint8(capsuleBase + FabricsSqe.AUTH_SPSP0) === AUTH_SPSP &&
      view.getUint8(capsuleBase + FabricsSqe.AUTH_SPSP1) === AUTH_SPSP;
    const length = request.dword(FabricsSqe.AUTH_LENGTH);
    if (!isProtocol || length === 0 || length > NVMET_AUTH_BYTES_MAX) {
      queue.complete(request, NvmeStatus.invalidField | STATUS_DNR);
      return;
    }
    const status = checkLength(request, length);
    if (status !== NvmeStatus.success) {
      queue.complete(request, status);
      return;
    }
    const type = view.getUint8(capsuleBase + FabricsSqe.FCTYPE);
    if (type === FabricsType.AUTHENTICATION_SEND) queue.fetchForHandler(request);
    else this.receive(request, length);
  }

  /** The message of an Authentication Send is here. */
  commandData(request: TargetRequest): void {
    const bytes = receivedData(this.queue, request);
    if (bytes === null) {
      this.queue.complete(request, NvmeStatus.dataTransferError);
      return;
    }
    this.deadlineNs = this.nextDeadline();
    this.responder.receive(bytes);
    this.queue.complete(request, NvmeStatus.success);
  }

  private receive(request: TargetRequest, length: number): void {
    const message = this.responder.take(length);
    if (message === null) {
      this.queue.complete(request, NvmeStatus.invalidField | STATUS_DNR);
      return;
    }
    this.deadlineNs = this.nextDeadline();
    const whole = new Uint8Array(length);
    whole.set(message);
    answerWithData(this.queue, request, whole);
  }

  authenticated(): void {
    this.security.counters.authenticated++;
    this.owner.queueAuthenticated(this.queue);
  }

  authenticationFailed(reason: string): void {
    this.security.counters.failed++;
    this.owner.queueRefused(this.queue, reason);
  }

  /** True when an exchange, or the first one that must come, is overdue. */
  isLate(nowNs: number): boolean {
    const waits = this.queue.needsAuth || this.responder.isUnderWay;
    if (!waits || nowNs < this.deadlineNs) return false;
    this.security.counters.timedOut++;
    return true;
  }
}
