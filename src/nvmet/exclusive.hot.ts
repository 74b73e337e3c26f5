/**
 * A namespace to oneself: how a fused pair is one operation to everybody else. While a pair wants
 * the namespace, I/O of all controllers is held before its bio is submitted; when what is in flight
 * has ended, the pair runs alone; then what was held goes on, before the next pair has its turn.
 *
 * Invariants: nobody is overtaken for good: I/O waits for one pair at most, a pair for the I/O
 * before it; a request that its closed queue gave up is skipped (closed queues use no request
 * again).
 *
 * Costs I/O that meets no pair one test of `isHolding`. Leaves out: exclusion of ranges. Pairs are
 * one block and rare (locks on a shared file system); what is held waits two commands of the disk.
 */

import { RequestState } from "./request-state.ts";

/** A queue, as the one whose request has its turn. */
export interface ExclusiveQueue {
  /** Runs a pair; `finish` follows. */
  runPair(first: Waiting): void;
  /** Goes on with what was held. */
  resume(request: Waiting): void;
}

/** What a request is here. */
export interface Waiting {
  state: RequestState;
  next: Waiting | null;
  queue: ExclusiveQueue | null;
}

/** First in, first out, through `request.next`. */
class RequestList {
  head: Waiting | null = null;
  private tail: Waiting | null = null;

  push(request: Waiting): void {
    request.next = null;
    if (this.tail === null) this.head = request;
    else this.tail.next = request;
    this.tail = request;
  }

  shift(): Waiting | null {
    const { head } = this;
    if (head === null) return null;
    this.head = head.next;
    if (this.head === null) this.tail = null;
    head.next = null;
    return head;
  }
}

export class Exclusive {
  /** I/O must wait: a pair runs, or wants to. */
  isHolding = false;
  /** Bios that the block queue has. */
  inFlight = 0;
  private running: Waiting | null = null;
  private pairs = new RequestList();
  private held = new RequestList();
  private spare = new RequestList();

  /** Both commands of a pair have their data. Runs it as soon as the namespace is free. */
  request(first: Waiting): void {
    this.pairs.push(first);
    this.isHolding = true;
    this.advance();
  }

  hold(request: Waiting): void {
    request.state = RequestState.held;
    this.held.push(request);
  }

  /** The pair is over: what was held goes on. */
  finish(): void {
    this.running = null;
    this.isHolding = false;
    // What is held again meanwhile goes on the other list.
    const { held } = this;
    this.held = this.spare;
    this.spare = held;
    for (let request = held.shift(); request !== null; request = held.shift()) {
      if (request.state === RequestState.held) request.queue?.resume(request);
    }
    if (this.pairs.head === null) return;
    this.isHolding = true;
    this.advance();
  }

  /** A bio ended, or a pair came: begins the next pair when nothing is in flight. */
  advance(): void {
    if (this.running !== null || this.inFlight > 0) return;
    let first = this.pairs.shift();
    while (first !== null && first.state !== RequestState.parked) first = this.pairs.shift();
    if (first === null) {
      this.finish();
      return;
    }
    this.running = first;
    first.queue?.runPair(first);
  }
}
