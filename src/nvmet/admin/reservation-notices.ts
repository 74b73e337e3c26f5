/**
 * Reservation notifications of one controller: log pages that wait to be read, one at a time, and
 * which kinds the host does not want to hear of. NVM Express Base Specification 2.0, sections
 * 5.16.1.24 (log page 80h) and 5.27.1.30 (feature 82h).
 *
 * Invariant: the count in a page tells of every page there was, also of those that were dropped
 * because too many waited.
 */

import { NVMET_RESERVATION_LOGS_MAX } from "../../core/index.ts";
import {
  allocateStruct,
  RESERVATION_NOTICE_LOG,
  ReservationNoticeLog,
} from "../../spec/nvme/index.ts";

interface WaitingPage {
  readonly count: number;
  readonly notice: number;
  readonly nsid: number;
}

/** LPC counts from 1; after the largest number comes 1 again, and 2^53 notices never happen. */
export class ReservationNotices {
  private readonly pages: WaitingPage[] = [];
  private readonly masks = new Map<number, number>();
  private count = 0;

  /** Feature 82h: bit n is set when notices of kind n are not wanted. */
  maskOf(nsid: number): number {
    return this.masks.get(nsid) ?? 0;
  }

  setMask(nsid: number, mask: number): void {
    this.masks.set(nsid, mask);
  }

  get waiting(): number {
    return this.pages.length;
  }

  /** False: the host masked this kind. */
  add(nsid: number, notice: number): boolean {
    if (((this.maskOf(nsid) >> notice) & 1) === 1) return false;
    this.count++;
    if (this.pages.length >= NVMET_RESERVATION_LOGS_MAX) this.pages.shift();
    this.pages.push({ count: this.count, notice, nsid });
    return true;
  }

  /** LID 80h: the oldest page, or an empty one. */
  page(): Uint8Array {
    const { bytes, view } = allocateStruct(RESERVATION_NOTICE_LOG.sizeBytes);
    const oldest = this.pages[0];
    if (oldest === undefined) return bytes;
    const { LPC, TYPE, AVAILABLE, NSID } = ReservationNoticeLog;
    LPC.set(view, oldest.count);
    TYPE.set(view, oldest.notice);
    AVAILABLE.set(view, Math.min(0xff, this.pages.length - 1));
    NSID.set(view, oldest.nsid);
    return bytes;
  }

  /** The oldest page was read, and is done with. */
  read(): void {
    this.pages.shift();
  }
}
