/**
 * Asynchronous events (NVM Express Base 2.0, section 5.2): events wait for a request, requests wait
 * for an event. An event that was reported masks its type until the log page that belongs to it has
 * been read.
 *
 * Invariant: a waiting request is a command in state `event`; resetting forgets both.
 */

import { NVME_EVENTS_MAX } from "../../../core/index.ts";
import { EventType, LogPage, packEvent } from "../../../spec/nvme/index.ts";
import { type Command, CommandState } from "./command.hot.ts";

interface WaitingEvent {
  readonly type: number;
  readonly info: number;
  readonly lid: number;
}

/** Types of events that a log page clears. */
const TYPE_OF_LOG: Readonly<Record<number, number>> = {
  [LogPage.errorInformation]: EventType.error,
  [LogPage.smart]: EventType.smart,
  [LogPage.changedNamespaces]: EventType.notice,
};

export class AsyncEvents {
  private readonly requestsMax: number;
  private readonly complete: (command: Command) => void;
  private readonly requests: Command[] = [];
  private readonly events: WaitingEvent[] = [];
  private readonly masked = new Set<number>();

  /** `complete` ends a request whose `result` has been set. */
  constructor(requestsMax: number, complete: (command: Command) => void) {
    this.requestsMax = requestsMax;
    this.complete = complete;
  }

  get outstanding(): number {
    return this.requests.length;
  }

  /** Keeps a request; false when the limit (AERL) is exceeded. It may be completed at once. */
  accept(command: Command): boolean {
    if (this.requests.length >= this.requestsMax) return false;
    command.state = CommandState.event;
    this.requests.push(command);
    this.dispatch();
    return true;
  }

  /** Takes a request back, for Abort; false when it is not here. */
  withdraw(command: Command): boolean {
    const at = this.requests.indexOf(command);
    if (at < 0) return false;
    this.requests.splice(at, 1);
    return true;
  }

  /** An event has happened. The same event again, still unreported, is one event. */
  raise(type: number, info: number, lid: number): void {
    const known = this.events.some((event) => event.type === type && event.info === info);
    if (known || this.events.length >= NVME_EVENTS_MAX) return;
    this.events.push({ type, info, lid });
    this.dispatch();
  }

  /** The host has read log page `lid` without Retain Asynchronous Event. */
  logRead(lid: number): void {
    const type = TYPE_OF_LOG[lid];
    if (type === undefined || !this.masked.delete(type)) return;
    this.dispatch();
  }

  reset(): void {
    this.requests.length = 0;
    this.events.length = 0;
    this.masked.clear();
  }

  private dispatch(): void {
    while (this.requests.length > 0) {
      const at = this.events.findIndex((event) => !this.masked.has(event.type));
      if (at < 0) return;
      const [event] = this.events.splice(at, 1) as [WaitingEvent];
      const command = this.requests.shift() as Command;
      this.masked.add(event.type);
      command.result = packEvent(event.type, event.info, event.lid);
      this.complete(command);
    }
  }
}
