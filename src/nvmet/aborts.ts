/**
 * Commands that are aborted because something else waits for their end: Preempt and Abort of a
 * reservation (NVM Express Base 2.0, section 8.19.7), which is answered when none of them is left.
 */

import { NvmeStatus } from "../spec/nvme/index.ts";
import type { Victim } from "./queue.hot.ts";
import { RequestState } from "./request.hot.ts";
import type { SubsystemMember } from "./subsystem.ts";

interface Wait {
  readonly victims: readonly Victim[];
  readonly done: () => void;
}

export class PendingAborts {
  private waits: readonly Wait[] = [];

  get isEmpty(): boolean {
    return this.waits.length === 0;
  }

  /** Aborts the members' commands to a namespace; calls `done` when none of them is left. */
  start(members: readonly SubsystemMember[], nsid: number, done: () => void): void {
    const victims: Victim[] = [];
    for (const member of members) member.abortIo(nsid, NvmeStatus.abortedPreempt, victims);
    if (victims.length === 0) done();
    else this.waits = [...this.waits, { victims, done }];
  }

  /** Looks which of them are over. */
  check(): void {
    const over = this.waits.filter(({ victims }) => victims.every(isOver));
    if (over.length === 0) return;
    this.waits = this.waits.filter((wait) => !over.includes(wait));
    for (const { done } of over) done();
  }
}

/**
 * Answered, or its request is another command by now, or it will not be executed any more: an
 * aborted command whose data has not come, or not gone, is only answered when it has, and its host
 * may take its time.
 */
function isOver({ request, serial }: Victim): boolean {
  const { state, abortStatus, partner } = request;
  if (request.serial !== serial) return true;
  if (state === RequestState.responding || state === RequestState.idle) return true;
  if (abortStatus === NvmeStatus.success) return false;
  const isHalf = state === RequestState.parked && partner?.state === RequestState.fetching;
  return state === RequestState.fetching || state === RequestState.reading || isHalf;
}
