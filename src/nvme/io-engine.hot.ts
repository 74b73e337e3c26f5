/**
 * The I/O half of a controller: its I/O queues behind one door, and whether it takes requests now.
 * Namespaces are drivers of the block room on top of it.
 *
 * Invariant: while the controller is not live, no request reaches a queue: it stays in its block
 * queue (busy) or fails (offline).
 */

import type { DriverClock } from "../backing/interface.ts";
import { BLOCK_BUSY, type BlockDriver, BlockStatus, type Request } from "../block/index.ts";
import type { IoQueue, NamespaceFormat } from "./io-queue.hot.ts";

/** The rest of the controller: admin completions, timeouts, recovery. */
export interface EngineControl {
  /** Called at intervals from `poll`. Returns how many things it did. */
  pollControl(nowNs: number): number;
}

/** Polls with completions between two looks at the clock and the admin queue. */
const CONTROL_INTERVAL = 32;

export class IoEngine {
  queues: readonly IoQueue[] = [];
  /**
   * `ok`: takes requests. `BLOCK_BUSY`: a reset is under way. Another status: fails them with it.
   */
  gate: number = BLOCK_BUSY;
  /** The queues exist at the controller: doorbells may be rung and completions come. */
  isRunning = false;
  private readonly clock: DriverClock;
  private readonly control: EngineControl;
  private current = 0;
  private pollsUntilControl = 0;
  private nowNs = 0;
  private isPolling = false;

  constructor(clock: DriverClock, control: EngineControl) {
    this.clock = clock;
    this.control = control;
  }

  submit(request: Request, format: NamespaceFormat): number {
    if (this.gate !== BlockStatus.ok) return this.gate;
    const { queues } = this;
    const status = queues[this.current].submit(request, format);
    if (status !== BLOCK_BUSY || queues.length === 1) return status;
    for (let i = 1; i < queues.length; i++) {
      this.current = this.current + 1 === queues.length ? 0 : this.current + 1;
      const other = queues[this.current].submit(request, format);
      if (other !== BLOCK_BUSY) return other;
    }
    return BLOCK_BUSY;
  }

  /**
   * Rings the doorbell of every queue that has something new; the next batch takes the next
   * queue.
   */
  commit(): void {
    if (!this.isRunning) return;
    const { queues } = this;
    for (let i = 0; i < queues.length; i++) queues[i].pair.commit();
    if (queues.length > 1) this.current = this.current + 1 === queues.length ? 0 : this.current + 1;
  }

  poll(): number {
    // A bio that ends in here may poll its queue; its completions are taken by the outer loop.
    if (this.isPolling) return 0;
    this.isPolling = true;
    let done = 0;
    if (this.isRunning) {
      const { queues } = this;
      for (let i = 0; i < queues.length; i++) done += queues[i].poll(this.nowNs);
    }
    if (done === 0 || --this.pollsUntilControl <= 0) {
      this.pollsUntilControl = CONTROL_INTERVAL;
      this.nowNs = this.clock.nowNs();
      done += this.control.pollControl(this.nowNs);
    }
    this.isPolling = false;
    return done;
  }
}

/** One namespace as the block room's driver. */
export class NamespaceDriver implements BlockDriver {
  private readonly engine: IoEngine;
  private readonly format: NamespaceFormat;

  constructor(engine: IoEngine, format: NamespaceFormat) {
    this.engine = engine;
    this.format = format;
  }

  queueRequest(request: Request): number {
    return this.engine.submit(request, this.format);
  }

  commit(): void {
    this.engine.commit();
  }

  poll(): number {
    return this.engine.poll();
  }
}
