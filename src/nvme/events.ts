/**
 * Asynchronous events: requests that the controller answers when something happens (NVM Express
 * Base 2.0, section 5.2). Each answer is kept, its log page is read (which lets the controller
 * report the next one of its kind), and the request is sent again.
 */

import { NVME_EVENTS_MAX, type Tree, viewOf } from "../core/index.ts";
import type { DmaBuffer } from "../dma/index.ts";
import {
  AdminOpcode,
  EVENT_INFO,
  EVENT_LID,
  EVENT_TYPE,
  EventType,
  LogPage,
  NoticeEvent,
  NSID_ALL,
  packLogCdw10,
  packLogCdw11,
  Smart,
} from "../spec/nvme/index.ts";
import { AdminCommand, type AdminQueue } from "./admin-queue.ts";

/** Requests kept outstanding at most; more only help when events come in bursts. */
const OUTSTANDING_MAX = 4;
const LOG_BYTES = 4096;
const SMART_BYTES = 512;
const ERROR_BYTES = 64;

export interface NvmeEvent {
  readonly timeNs: number;
  readonly type: number;
  readonly info: number;
  /** Log page that says more. */
  readonly logPage: number;
  /** Status of reading it; 0: it was read. */
  readonly logStatus: number;
  /** Namespaces that changed, for that notice. */
  readonly changedNamespaces: readonly number[];
  /** SMART critical warning bits, for SMART events. */
  readonly criticalWarning: number;
}

export type NvmeEventListener = (event: NvmeEvent) => void;

export class AsyncEvents {
  readonly events: NvmeEvent[] = [];
  /** Events forgotten because more came than are kept. */
  dropped = 0;
  outstanding = 0;
  listener: NvmeEventListener | null = null;
  private readonly admin: AdminQueue;
  private readonly log: DmaBuffer;
  private readonly now: () => number;
  /** One log is read at a time, into the one buffer. */
  private isReading = false;
  private readonly unread: { type: number; info: number; logPage: number }[] = [];
  private generation = 0;

  /** `log`: a page for log pages, owned by the caller. */
  constructor(admin: AdminQueue, log: DmaBuffer, now: () => number) {
    this.admin = admin;
    this.log = log;
    this.now = now;
  }

  /** Sends the requests; at most `limit` (AERL + 1). Called again after a reset. */
  arm(limit: number): void {
    this.disarm();
    const count = Math.min(limit, OUTSTANDING_MAX);
    for (let i = 0; i < count; i++) this.request();
  }

  /** The controller is about to forget its requests: answers to those sent so far mean nothing. */
  disarm(): void {
    this.generation++;
    this.outstanding = 0;
    this.isReading = false;
    this.unread.length = 0;
  }

  private request(): void {
    const { generation } = this;
    const isSent = this.admin.send(new AdminCommand(AdminOpcode.asyncEventRequest), (result) => {
      if (generation !== this.generation) return;
      this.outstanding--;
      // A refused request is not sent again: the controller takes fewer than it said.
      if (result.status !== 0) return;
      this.unread.push({
        type: EVENT_TYPE.get(result.dw0),
        info: EVENT_INFO.get(result.dw0),
        logPage: EVENT_LID.get(result.dw0),
      });
      this.readNext();
    });
    if (isSent) this.outstanding++;
  }

  private readNext(): void {
    const next = this.unread[0];
    if (next === undefined || this.isReading) return;
    const { generation } = this;
    const sizeBytes = logBytesOf(next.logPage);
    const command = new AdminCommand(AdminOpcode.getLogPage, NSID_ALL)
      .prps(this.log.dma)
      .cdw(10, packLogCdw10(next.logPage, sizeBytes))
      .cdw(11, packLogCdw11(sizeBytes));
    this.isReading = this.admin.send(command, (result) => {
      if (generation !== this.generation) return;
      this.isReading = false;
      this.unread.shift();
      this.keep(next, result.status);
      this.request();
      this.readNext();
    });
  }

  private keep(event: { type: number; info: number; logPage: number }, logStatus: number): void {
    const view = viewOf(this.log.bytes);
    const isRead = logStatus === 0;
    const isChange =
      isRead &&
      event.type === EventType.notice &&
      event.info === NoticeEvent.namespaceAttribute &&
      event.logPage === LogPage.changedNamespaces;
    const kept: NvmeEvent = {
      timeNs: this.now(),
      ...event,
      logStatus,
      changedNamespaces: isChange ? namespacesOf(view) : [],
      criticalWarning:
        isRead && event.logPage === LogPage.smart ? Smart.CRITICAL_WARNING.get(view) : 0,
    };
    if (this.events.length === NVME_EVENTS_MAX) {
      this.events.shift();
      this.dropped++;
    }
    this.events.push(kept);
    this.listener?.(kept);
  }

  inspect(): Tree {
    return {
      outstanding: this.outstanding,
      dropped: this.dropped,
      events: this.events.map(({ timeNs, type, info, logPage }) => ({
        timeNs,
        type,
        info,
        logPage,
      })),
    };
  }
}

function logBytesOf(logPage: number): number {
  switch (logPage) {
    case LogPage.smart:
    case LogPage.firmwareSlot:
      return SMART_BYTES;
    case LogPage.errorInformation:
      return ERROR_BYTES;
    default:
      return LOG_BYTES;
  }
}

function namespacesOf(view: DataView): number[] {
  const found: number[] = [];
  for (let at = 0; at < LOG_BYTES; at += 4) {
    const nsid = view.getUint32(at, true);
    if (nsid === 0) break;
    found.push(nsid);
  }
  return found;
}
