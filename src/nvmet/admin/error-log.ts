/**
 * The Error Information log of a controller: the last errors, newest first. NVM Express Base
 * Specification 2.0, section 5.16.1.2.
 */

import { viewOf } from "../../core/index.ts";
import { ErrorLog as Entry, ERROR_LOG_ENTRY, LOCATION_NONE } from "../../spec/nvme/index.ts";
import type { TargetRequest } from "../request.hot.ts";

/** Errors that are kept (ELPE + 1). */
export const ERROR_LOG_ENTRIES = 64;

const ENTRY_BYTES = ERROR_LOG_ENTRY.sizeBytes;

export class ErrorInformation {
  /** Errors since the controller was made. */
  count = 0;
  private readonly ring = new Uint8Array(ERROR_LOG_ENTRIES * ENTRY_BYTES);
  private readonly view = viewOf(this.ring);

  record(qid: number, request: TargetRequest): void {
    const at = (this.count % ERROR_LOG_ENTRIES) * ENTRY_BYTES;
    this.count++;
    const { view } = this;
    this.ring.fill(0, at, at + ENTRY_BYTES);
    Entry.ERROR_COUNT.set(view, this.count, at);
    Entry.SQID.set(view, qid, at);
    Entry.CID.set(view, request.cid, at);
    Entry.STATUS.set(view, request.status << 1, at);
    Entry.LOCATION.set(view, LOCATION_NONE, at);
    Entry.NSID.set(view, request.nsid, at);
    Entry.OPC.set(view, request.opcode, at);
  }

  /** All entries, newest first; unused ones are zero. */
  page(): Uint8Array {
    const bytes = new Uint8Array(this.ring.length);
    const kept = Math.min(this.count, ERROR_LOG_ENTRIES);
    for (let i = 0; i < kept; i++) {
      const at = ((this.count - 1 - i) % ERROR_LOG_ENTRIES) * ENTRY_BYTES;
      bytes.set(this.ring.subarray(at, at + ENTRY_BYTES), i * ENTRY_BYTES);
    }
    return bytes;
  }
}
