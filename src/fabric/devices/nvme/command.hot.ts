/**
 * One command under way: a copy of its 64 bytes and what became of it. Contexts are made once per
 * controller and reused; a token tells a late timer or transfer that its command is gone.
 *
 * Invariant: a context is free, or belongs to exactly one of: execution, waiting for its transfers,
 * waiting for a timer, the asynchronous event requests, a completion queue's waiting list.
 */

import { SQE_DWORDS, SqeDword } from "../../../spec/nvme/index.ts";
import type { SubmissionQueue } from "./queues.hot.ts";

export const CommandState = {
  free: 0,
  executing: 1,
  /** Its transfers are landing. */
  settling: 2,
  /** Held by a fault rule, for a time or until it is aborted, or by the medium. */
  held: 3,
  /** An Asynchronous Event Request. */
  event: 4,
  /** Its completion queue is full. */
  waiting: 5,
} as const;

/** An executor keeps the command; it is completed later. */
export const PENDING = -1;

const TWO_32 = 2 ** 32;
/** Tokens are generation * 65536 + index. */
const INDEX_MASK = 0xffff;
const GENERATIONS = 0x4000;

export class Command {
  readonly index: number;
  /** The entry's dwords, see SqeDword. */
  readonly words = new Uint32Array(SQE_DWORDS);
  state: number = CommandState.free;
  sq: SubmissionQueue | null = null;
  /** NVMe status to complete with. */
  status = 0;
  /** Dword 0 of the completion. */
  result = 0;
  /** Parts of it that stores have not answered yet. */
  pendingParts = 0;
  /** Index of the next one in a completion queue's waiting list, or -1. */
  next = -1;
  /** Identifies this use of the context. */
  token: number;

  constructor(index: number) {
    this.index = index;
    this.token = index;
  }

  /** Copies the entry at `offset` of `view`. */
  load(view: DataView, offset: number): void {
    const words = this.words;
    for (let i = 0; i < SQE_DWORDS; i++) words[i] = view.getUint32(offset + 4 * i, true);
    this.status = 0;
    this.result = 0;
    this.pendingParts = 0;
  }

  /** Makes all tokens given so far stale. */
  retire(): void {
    const generation = ((this.token >>> 16) + 1) % GENERATIONS;
    this.token = (generation << 16) | this.index;
    this.state = CommandState.free;
    this.sq = null;
    this.next = -1;
  }

  get opcode(): number {
    return (this.words[0] as number) & 0xff;
  }
  get fuse(): number {
    return ((this.words[0] as number) >>> 8) & 3;
  }
  get psdt(): number {
    return ((this.words[0] as number) >>> 14) & 3;
  }
  get cid(): number {
    return (this.words[0] as number) >>> 16;
  }
  get nsid(): number {
    return this.words[SqeDword.nsid] as number;
  }
  get mptr(): number {
    return this.u64(SqeDword.mptrLo);
  }
  get prp1(): number {
    return this.u64(SqeDword.prp1Lo);
  }
  get prp2(): number {
    return this.u64(SqeDword.prp2Lo);
  }
  get sglLength(): number {
    return this.words[SqeDword.sglLength] as number;
  }
  get sglType(): number {
    return this.words[SqeDword.sglType] as number;
  }
  /** SLBA or SDLBA. Exact below 2^53; larger ones stay larger than any namespace. */
  get slba(): number {
    return this.u64(SqeDword.cdw10);
  }
  /** Number of logical blocks, 1 to 65536. */
  get blocks(): number {
    return ((this.words[SqeDword.cdw12] as number) & 0xffff) + 1;
  }
  get cdw10(): number {
    return this.words[SqeDword.cdw10] as number;
  }
  get cdw11(): number {
    return this.words[SqeDword.cdw11] as number;
  }
  get cdw12(): number {
    return this.words[SqeDword.cdw12] as number;
  }
  get cdw13(): number {
    return this.words[SqeDword.cdw13] as number;
  }
  get cdw14(): number {
    return this.words[SqeDword.cdw14] as number;
  }
  get cdw15(): number {
    return this.words[SqeDword.cdw15] as number;
  }

  private u64(dword: number): number {
    return (this.words[dword + 1] as number) * TWO_32 + (this.words[dword] as number);
  }
}

/** Index of the context that a token belongs to. */
export const commandIndexOf = (token: number): number => token & INDEX_MASK;
