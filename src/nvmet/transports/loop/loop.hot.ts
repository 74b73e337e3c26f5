/**
 * The hot half of the loop transport: two rings, one of capsules and one of responses, and the keys
 * under which the target finds the host's memory.
 *
 * Invariant: capsules on their way never outnumber the queue's depth, since the host has that many
 * tags; so neither ring can overflow.
 */

import { assert } from "../../../core/index.ts";
import type { IoMemory } from "../../../memory/index.ts";
import type { Channel, DirectMemory } from "../../channel.ts";
import type { HostChannel, ResponseSink } from "../../host/transport.ts";
import type { TargetQueue } from "../../queue.hot.ts";
import { RequestState, type TargetRequest } from "../../request.hot.ts";

const CAPSULE_BYTES = 64;
const RESPONSE_BYTES = 16;

/** Registered memories by key. */
export class LoopKeys implements DirectMemory {
  private readonly memories: (IoMemory | null)[] = [null];
  count = 0;

  add(memory: IoMemory): number {
    this.count++;
    return this.memories.push(memory) - 1;
  }

  remove(key: number): void {
    if (this.find(key) !== null) this.count--;
    this.memories[key] = null;
  }

  find(key: number): IoMemory | null {
    return key < this.memories.length ? this.memories[key] : null;
  }
}

/** What both ends share. */
export class LoopLink {
  readonly depth: number;
  readonly capsules: Uint8Array;
  /** Tags of capsules that were sent. */
  readonly sent: Uint16Array;
  sentHead = 0;
  sentTail = 0;
  readonly responses: Uint8Array;
  readonly responseView: DataView;
  responseHead = 0;
  responseTail = 0;
  ended: string | null = null;

  constructor(depth: number) {
    this.depth = depth;
    this.capsules = new Uint8Array(depth * CAPSULE_BYTES);
    this.sent = new Uint16Array(depth);
    this.responses = new Uint8Array(depth * RESPONSE_BYTES);
    this.responseView = new DataView(this.responses.buffer);
  }
}

export class LoopTargetChannel implements Channel {
  private readonly link: LoopLink;
  private readonly free: TargetRequest[];
  private freeCount: number;
  queue: TargetQueue | null = null;
  /** Told when the host has closed its end. */
  onLost: ((queue: TargetQueue, reason: string) => void) | null = null;
  /** Answered requests whose buffers come back at the next poll. */
  private readonly answered: TargetRequest[];
  private answeredCount = 0;

  constructor(link: LoopLink, requests: readonly TargetRequest[]) {
    this.link = link;
    this.free = requests.slice();
    this.freeCount = requests.length;
    this.answered = requests.slice();
  }

  fetch(_request: TargetRequest): void {
    assert(false, "the loop transport has no data to fetch");
  }

  respond(request: TargetRequest): void {
    const { link } = this;
    const to = (link.responseTail % link.depth) * RESPONSE_BYTES;
    for (let i = 0; i < RESPONSE_BYTES; i += 4) {
      const word = request.response.getUint32(request.responseBase + i, true);
      link.responseView.setUint32(to + i, word, true);
    }
    link.responseTail++;
    assert(link.responseTail - link.responseHead <= link.depth, "responses fit their ring");
    this.answered[this.answeredCount++] = request;
  }

  poll(): number {
    const queue = this.queue as TargetQueue;
    let done = this.giveBack(queue);
    if (this.link.ended !== null) {
      if (!queue.isClosed) this.onLost?.(queue, this.link.ended);
      return done;
    }
    const { link } = this;
    while (link.sentHead !== link.sentTail && this.freeCount > 0 && !queue.isClosed) {
      const tag = link.sent[link.sentHead % link.depth];
      link.sentHead++;
      const request = this.free[--this.freeCount];
      const from = tag * CAPSULE_BYTES;
      for (let i = 0; i < CAPSULE_BYTES; i++) request.capsule[i] = link.capsules[from + i];
      queue.receive(request, CAPSULE_BYTES);
      done++;
    }
    return done;
  }

  private giveBack(queue: TargetQueue): number {
    const count = this.answeredCount;
    for (let i = 0; i < count; i++) {
      const request = this.answered[i];
      queue.responded(request);
      assert(request.state === RequestState.idle, "an answered request is idle");
      this.free[this.freeCount++] = request;
    }
    // Answers that were given meanwhile stay.
    for (let i = count; i < this.answeredCount; i++) this.answered[i - count] = this.answered[i];
    this.answeredCount -= count;
    return count;
  }

  kick(): void {
    // The host's end sees the ring itself.
  }

  close(reason: string): void {
    this.link.ended ??= reason;
  }

  release(): void {
    // The garbage collector takes the rings.
  }
}

export class LoopHostChannel implements HostChannel {
  readonly capsules: Uint8Array;
  readonly capsuleStride = CAPSULE_BYTES;
  readonly inCapsuleBytes = 0;
  private readonly link: LoopLink;

  constructor(link: LoopLink) {
    this.link = link;
    this.capsules = link.capsules;
  }

  get ended(): string | null {
    return this.link.ended;
  }

  send(tag: number, _bytes: number): boolean {
    const { link } = this;
    if (link.sentTail - link.sentHead === link.depth) return false;
    link.sent[link.sentTail % link.depth] = tag;
    link.sentTail++;
    return true;
  }

  kick(): void {
    // The target polls the ring.
  }

  poll(sink: ResponseSink): number {
    const { link } = this;
    let done = 0;
    while (link.responseHead !== link.responseTail) {
      const at = (link.responseHead % link.depth) * RESPONSE_BYTES;
      sink.response(link.responseView, at);
      link.responseHead++;
      done++;
    }
    return done;
  }

  close(): Promise<void> {
    this.link.ended ??= "closed by the host";
    return Promise.resolve();
  }
}
