/**
 * Counters of a request queue. Every fallback, refusal and wait of the data plane shows up in one
 * of these, so that nothing about a run is silent.
 */

import type { Tree } from "../core/index.ts";

export class QueueCounters {
  bios = 0;
  requests = 0;
  /** Fragments cut off bios. */
  splits = 0;
  /** Bios joined to a waiting request. */
  merges = 0;
  /** Requests that ended well. */
  completed = 0;
  /** Requests that failed. */
  failed = 0;
  /** Bios refused before they became a request. */
  rejected = 0;
  /** Requests refused because a DMA address was another initiator's. */
  wrongInitiator = 0;
  /** Bios refused because protection information would have been dropped. */
  integrityRefused = 0;
  /** Times that the driver had no slot, or the queue no request or fragment. */
  busy = 0;
  /** Batches committed to the driver. */
  commits = 0;

  inspect(): Tree {
    return Object.fromEntries(Object.entries(this));
  }
}
