/**
 * Asynchronous events: requests that wait for something to happen, and happenings that wait for a
 * request. NVM Express Base Specification 2.0, section 5.2.
 *
 * Invariant: after a notice was delivered, the same kind is held back until its log page was read
 * without Retain Asynchronous Event.
 */

import type { Inspectable, Tree } from "../../core/index.ts";
import { EVENT_LID, EventType, NvmeStatus, packEvent, STATUS_DNR } from "../../spec/nvme/index.ts";
import type { TargetQueue } from "../queue.hot.ts";
import { RequestState, type TargetRequest } from "../request.hot.ts";

/** AERL: requests that may wait, 0's based. */
export const EVENT_REQUESTS_LIMIT = 3;

export class AsyncEvents implements Inspectable {
  /** Asynchronous Event Configuration (feature 0Bh). */
  configuration = 0;
  private readonly waiting: TargetRequest[] = [];
  private readonly pending: number[] = [];
  /** Log pages of notices that were delivered and not read since. */
  private readonly masked = new Set<number>();

  /** A host's request for the next event. */
  park(queue: TargetQueue, request: TargetRequest): void {
    if (this.waiting.length > EVENT_REQUESTS_LIMIT) {
      queue.complete(request, NvmeStatus.asyncEventLimitExceeded | STATUS_DNR);
      return;
    }
    request.state = RequestState.parked;
    this.waiting.push(request);
    this.deliver(queue);
  }

  /** A notice about log page `lid`, if the host enabled `mask`. */
  notice(queue: TargetQueue, info: number, lid: number, mask: number): void {
    if ((this.configuration & mask) !== 0) this.raise(queue, EventType.notice, info, lid);
  }

  /** An event that no bit of the configuration enables. */
  raise(queue: TargetQueue, type: number, info: number, lid: number): void {
    const event = packEvent(type, info, lid);
    if (!this.pending.includes(event)) this.pending.push(event);
    this.deliver(queue);
  }

  /** The host read log page `lid` and wants to hear of it again. */
  logRead(queue: TargetQueue, lid: number): void {
    this.masked.delete(lid);
    this.deliver(queue);
  }

  /** Takes a waiting request for Abort; null when it is not here. */
  take(cid: number): TargetRequest | null {
    const at = this.waiting.findIndex((request) => request.cid === cid);
    return at < 0 ? null : (this.waiting.splice(at, 1)[0] ?? null);
  }

  /** Forgets everything: the controller is reset, or its queue closed. Returns who waited. */
  clear(): TargetRequest[] {
    this.pending.length = 0;
    this.masked.clear();
    this.configuration = 0;
    return this.waiting.splice(0);
  }

  private deliver(queue: TargetQueue): void {
    while (this.waiting.length > 0) {
      const at = this.pending.findIndex((event) => !this.masked.has(EVENT_LID.get(event)));
      if (at < 0) return;
      const event = this.pending.splice(at, 1)[0] as number;
      const request = this.waiting.shift() as TargetRequest;
      this.masked.add(EVENT_LID.get(event));
      request.result0 = event;
      queue.complete(request, NvmeStatus.success);
    }
  }

  inspect(): Tree {
    return {
      configuration: this.configuration,
      requestsWaiting: this.waiting.length,
      eventsPending: [...this.pending],
      masked: [...this.masked],
    };
  }
}
