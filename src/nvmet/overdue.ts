/**
 * Looks after hosts that do not take or send the data of their commands, for transports that
 * cannot know by themselves (TCP): asks each channel a few times a second.
 *
 * Time runs only while the target is there to look: after it was stopped for a while, or slept with
 * its machine, nobody is late because of that.
 */

import { NS_PER_MS, NVMET_STALL_TIMEOUT_MS, NVMET_TRANSFER_TIMEOUT_MS } from "../core/index.ts";
import type { PeerPatience } from "./channel.ts";
import type { Controller } from "./controller.ts";

/** Between two looks, and what a longer time between them counts for at most. */
const LOOK_NS = 100 * NS_PER_MS;
const GAP_NS_MAX = 2 * LOOK_NS;

export class OverdueHosts {
  /**
   * Milliseconds that a host may take without moving a byte of what it owes; not less than its own
   * Keep Alive Timeout, since it asked to be missed for so long.
   */
  stallTimeoutMs = NVMET_STALL_TIMEOUT_MS;
  /** Milliseconds that all data of one command may take. Bounds the other. */
  transferTimeoutMs = NVMET_TRANSFER_TIMEOUT_MS;
  private lookedNs = 0;
  private watchedNs = 0;

  /** Ends the connections of hosts that are overdue. */
  look(nowNs: number, controllers: Iterable<Controller>): void {
    const passed = nowNs - this.lookedNs;
    if (passed < LOOK_NS) return;
    this.lookedNs = nowNs;
    this.watchedNs += Math.min(passed, GAP_NS_MAX);
    for (const controller of controllers) {
      const patience = this.patienceWith(controller);
      for (const queue of controller.queues) {
        if (!queue.isClosed) queue.channel.checkPeer?.(this.watchedNs, patience);
      }
    }
  }

  private patienceWith({ keepAlive }: Controller): PeerPatience {
    const { stallTimeoutMs, transferTimeoutMs } = this;
    const stallMs = Math.min(Math.max(stallTimeoutMs, keepAlive.ms), transferTimeoutMs);
    return { stallNs: stallMs * NS_PER_MS, transferNs: transferTimeoutMs * NS_PER_MS };
  }
}
