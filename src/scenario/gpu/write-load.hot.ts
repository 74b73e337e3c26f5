/**
 * A remote host's writes: RDMA WRITEs of one buffer to one region, so many at a time, and after the
 * last of them a write of the flag that says so. On one queue pair writes take effect in order (IBA
 * 9.5), so who sees the flag sees all that was written before it.
 *
 * Invariant: every work request that was posted is reaped before `isDone`.
 */

import { type Cq, type Qp, SendWr, VerbsStatus, Wc } from "../../rdma/index.ts";
import { WcStatus, WrFlag, WrOpcode } from "../../spec/rdma/index.ts";

/** A range under its key. */
export interface RemoteRange {
  readonly address: number;
  readonly rkey: number;
}

export class WriteLoad {
  done = 0;
  bytes = 0;
  errors = 0;
  /** `WcStatus` of the first failure. */
  firstStatus = 0;
  private posted = 0;
  private reaped = 0;
  private readonly qp: Qp;
  private readonly cq: Cq;
  private readonly source: number;
  private readonly lkey: number;
  private readonly target: RemoteRange;
  private readonly flag: RemoteRange | null;
  private readonly flagSource: number;
  private readonly sizeBytes: number;
  private readonly requestBytes: number;
  private readonly depth: number;
  private readonly writes: number;
  private readonly wr = new SendWr(1);
  private readonly wc = new Wc();

  /** `flagSource`: where the local buffer has the flag's four bytes. */
  constructor(
    qp: Qp,
    cq: Cq,
    source: number,
    lkey: number,
    target: RemoteRange,
    sizeBytes: number,
    requestBytes: number,
    depth: number,
    flag: RemoteRange | null,
    flagSource: number,
  ) {
    this.qp = qp;
    this.cq = cq;
    this.source = source;
    this.lkey = lkey;
    this.target = target;
    this.flag = flag;
    this.flagSource = flagSource;
    this.sizeBytes = sizeBytes;
    this.requestBytes = requestBytes;
    this.depth = depth;
    this.writes = Math.ceil(sizeBytes / requestBytes);
    this.wr.opcode = WrOpcode.rdmaWrite;
    this.wr.flags = WrFlag.signaled;
  }

  get isDone(): boolean {
    const all = this.writes + (this.flag === null ? 0 : 1);
    // A connection in error takes nothing more.
    return this.reaped === all || (this.errors > 0 && this.reaped === this.posted);
  }

  poll(): number {
    let moved = 0;
    while (this.errors === 0 && this.posted - this.reaped < this.depth && this.post()) moved++;
    this.qp.kick();
    while (this.cq.poll(this.wc)) {
      moved++;
      this.reap();
    }
    return moved;
  }

  private post(): boolean {
    const { wr, flag } = this;
    if (this.posted < this.writes) {
      const at = this.posted * this.requestBytes;
      const length = Math.min(this.requestBytes, this.sizeBytes - at);
      wr.setSge(this.source + at, length, this.lkey);
      wr.remoteAddress = this.target.address + at;
      wr.rkey = this.target.rkey;
    } else if (this.posted === this.writes && flag !== null) {
      wr.setSge(this.flagSource, 4, this.lkey);
      wr.remoteAddress = flag.address;
      wr.rkey = flag.rkey;
    } else return false;
    wr.wrId = this.posted;
    if (this.qp.postSend(wr) !== VerbsStatus.ok) return false;
    this.posted++;
    return true;
  }

  private reap(): void {
    this.reaped++;
    if (this.wc.status !== WcStatus.success) {
      this.errors++;
      if (this.firstStatus === 0) this.firstStatus = this.wc.status;
      return;
    }
    if (this.wc.wrId >= this.writes) return;
    this.done++;
    const at = this.wc.wrId * this.requestBytes;
    this.bytes += Math.min(this.requestBytes, this.sizeBytes - at);
  }
}
