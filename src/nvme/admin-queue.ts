/**
 * The admin queue: commands as steps that end with the completion, and commands whose completion is
 * a callback (Abort, Asynchronous Event Request). Control plane; its data goes through coherent
 * buffers that the caller allocates.
 */

import type { DriverClock } from "../backing/interface.ts";
import { assert, PeerlaneError, type Tree } from "../core/index.ts";
import {
  adminOpcodeName,
  CDW0_CID,
  CDW0_OPC,
  formatStatus,
  NvmeStatus,
  SQE_DWORDS,
  SqeDword,
} from "../spec/nvme/index.ts";
import { type CommandSink, NO_CID, QueuePair, type QueueRings } from "./queue-pair.hot.ts";
import { type Steps, waitUntil } from "./steps.ts";

/** What became of an admin command. */
export interface AdminResult {
  /** 15 bits as in spec/nvme/status.ts; 0 is success. */
  readonly status: number;
  readonly dw0: number;
}

export type AdminCallback = (result: AdminResult) => void;

/** An admin command to fill in: 16 dwords. CDW0's identifier is set when it is sent. */
export class AdminCommand {
  readonly dwords = new Uint32Array(SQE_DWORDS);

  constructor(opcode: number, nsid = 0) {
    this.dwords[SqeDword.cdw0] = opcode;
    this.dwords[SqeDword.nsid] = nsid;
  }

  get opcode(): number {
    return CDW0_OPC.get(this.dwords[0]);
  }

  /** Dwords 10 to 15. */
  cdw(n: 10 | 11 | 12 | 13 | 14 | 15, value: number): this {
    this.dwords[n] = value;
    return this;
  }

  /** PRP1 and PRP2. */
  prps(prp1: number, prp2 = 0): this {
    this.dwords[SqeDword.prp1Lo] = prp1;
    this.dwords[SqeDword.prp1Hi] = prp1 / 2 ** 32;
    this.dwords[SqeDword.prp2Lo] = prp2;
    this.dwords[SqeDword.prp2Hi] = prp2 / 2 ** 32;
    return this;
  }
}

export class AdminQueue implements CommandSink {
  readonly pair: QueuePair;
  private readonly clock: DriverClock;
  private readonly timeoutNs: number;
  private readonly place: string;
  private readonly callbacks: (AdminCallback | null)[];

  constructor(rings: QueueRings, clock: DriverClock, timeoutNs: number, place: string) {
    this.pair = new QueuePair(rings, this);
    this.clock = clock;
    this.timeoutNs = timeoutNs;
    this.place = place;
    this.callbacks = new Array(this.pair.cidCount).fill(null);
  }

  /** Sends a command; `done` is called from `poll`. False when the queue is full. */
  send(command: AdminCommand, done: AdminCallback): boolean {
    const cid = this.pair.takeCid();
    if (cid === NO_CID) return false;
    const at = this.pair.entryAt();
    this.pair.sq.set(command.dwords, at);
    this.pair.sq[at] = CDW0_CID.set(command.dwords[0], cid);
    this.callbacks[cid] = done;
    this.pair.push(cid);
    this.pair.commit();
    return true;
  }

  /** Sends a command and waits for it. Throws `nvme-admin-timeout`; any status is an answer. */
  *execute(command: AdminCommand): Steps<AdminResult> {
    let result: AdminResult | null = null;
    const isSent = yield* waitUntil(this.clock, this.timeoutNs, () =>
      this.send(command, (answer) => {
        result = answer;
      }),
    );
    if (isSent) {
      yield* waitUntil(this.clock, this.timeoutNs, () => {
        this.pair.poll();
        return result !== null;
      });
    }
    if (result !== null) return result;
    throw new PeerlaneError(
      "nvme-admin-timeout",
      `no completion of ${adminOpcodeName(command.opcode)} within ${this.timeoutNs / 1e9} s`,
      {
        place: this.place,
        remedy: "reset the controller; if that does not help, the device hangs",
      },
    );
  }

  /** As {@link execute}, and throws `nvme-admin-failed` unless the command succeeds. */
  *must(command: AdminCommand): Steps<AdminResult> {
    const result = yield* this.execute(command);
    if (result.status === 0) return result;
    throw new PeerlaneError(
      "nvme-admin-failed",
      `${adminOpcodeName(command.opcode)} failed: ${formatStatus(result.status)}`,
      {
        place: this.place,
        remedy: "the controller refused; compare the command with its Identify data",
        details: { status: result.status, dwords: Array.from(command.dwords) },
      },
    );
  }

  commandDone(cid: number, status: number, dw0: number): void {
    const done = this.callbacks[cid];
    assert(done !== null, "an admin command in flight has somebody waiting");
    this.callbacks[cid] = null;
    done({ status, dw0 });
  }

  /**
   * The controller was disabled or is gone: commands in flight will never complete. Whoever waits
   * is told so, with Command Aborted By Host.
   */
  restart(): void {
    const waiting = this.callbacks.filter((done) => done !== null);
    this.callbacks.fill(null);
    this.pair.restart();
    for (const done of waiting) done({ status: NvmeStatus.abortedByHost, dw0: 0 });
  }

  inspect(): Tree {
    return this.pair.inspect();
  }
}
