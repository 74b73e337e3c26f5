/**
 * The Keep Alive Timer of one controller: how long its host may be silent (NVM Express Base 2.0,
 * section 3.9). It is traffic based: any command on any queue is a sign of life, so that a host
 * which only does I/O needs no Keep Alive command.
 */

import { NS_PER_MS } from "../core/index.ts";
import { KEEP_ALIVE_UNIT_MS } from "../spec/nvmf/index.ts";
import type { TargetQueue } from "./queue.hot.ts";

export class KeepAliveTimer {
  private readonly nowNs: () => number;
  private readonly defaultMs: number;
  private timeoutMs = 0;
  private deadlineNs = 0;

  /** `defaultMs`: what a host gets that asks for no timer; 0: none. */
  constructor(nowNs: () => number, defaultMs: number) {
    this.nowNs = nowNs;
    this.defaultMs = defaultMs;
  }

  /** Milliseconds; 0: no timer. */
  get ms(): number {
    return this.timeoutMs;
  }

  /** Sets what the host asked for, rounded up to the granularity that Identify announces. */
  set(milliseconds: number): void {
    const asked = milliseconds === 0 ? this.defaultMs : milliseconds;
    this.timeoutMs = Math.ceil(asked / KEEP_ALIVE_UNIT_MS) * KEEP_ALIVE_UNIT_MS;
    this.restart();
  }

  /** The host is alive. */
  restart(): void {
    this.deadlineNs = this.nowNs() + this.timeoutMs * NS_PER_MS;
  }

  /** True when no queue saw a command for too long; restarts when one did. */
  hasExpired(nowNs: number, queues: readonly TargetQueue[]): boolean {
    if (this.timeoutMs === 0 || nowNs < this.deadlineNs) return false;
    let sawTraffic = false;
    for (const queue of queues) {
      sawTraffic ||= queue.sawTraffic;
      queue.sawTraffic = false;
    }
    if (sawTraffic) this.restart();
    return !sawTraffic;
  }
}
