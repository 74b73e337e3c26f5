/**
 * Messages of the connection manager that wait for an answer, and the connections they are of: who
 * is there, what is sent again when, and how time passes while everybody waits.
 *
 * Time: deadlines are on the machine's clock. A simulated clock stands still while nobody moves it,
 * so with an answer outstanding and nothing else to do, `idle` lets a part of the time-out pass.
 */

import type { DriverClock } from "../../backing/interface.ts";
import type { Prng } from "../../core/index.ts";
import { CmAttribute, CmBits, type CmFields, encodeCm } from "../../spec/rdma/index.ts";
import type { Qp } from "../verbs.ts";
import type { MadChannel } from "./channel.ts";
import { CmEndpoint, type EndpointOwner } from "./endpoint.ts";

/** Polls with nothing to do before time is moved, and parts a time-out passes in. */
const IDLE_POLLS = 16;
const TIME_PARTS = 8;

/** Told when a message got no answer after all retries. */
export interface TimeoutSink {
  timedOut(endpoint: CmEndpoint): void;
}

export class CmExchanges {
  readonly endpoints = new Map<number, CmEndpoint>();
  private readonly channel: MadChannel;
  private readonly clock: DriverClock;
  private readonly prng: Prng;
  private readonly owner: EndpointOwner;
  private nextId: number;
  private idlePolls = 0;
  private moving = false;

  constructor(channel: MadChannel, clock: DriverClock, prng: Prng, owner: EndpointOwner) {
    this.channel = channel;
    this.clock = clock;
    this.prng = prng;
    this.owner = owner;
    this.nextId = 1 + prng.below(2 ** 31);
  }

  begin(
    endpoint: CmEndpoint,
    attribute: CmAttribute,
    fields: CmFields,
    timeout: number,
    retries: number,
  ): void {
    const deadlineNs = this.clock.nowNs() + timeout;
    endpoint.exchange = { attribute, fields, deadlineNs, retriesLeft: retries, timeoutNs: timeout };
    this.send(endpoint, attribute, fields);
  }

  send(endpoint: CmEndpoint, attribute: CmAttribute, fields: CmFields): void {
    this.sendTo(endpoint.remoteGid, attribute, endpoint.transactionId, fields);
  }

  sendTo(gid: Uint8Array, attribute: CmAttribute, transactionId: number, fields: CmFields): void {
    this.channel.send(gid, (bytes, offset) => {
      encodeCm(attribute, transactionId, fields, bytes, offset);
    });
  }

  sendRtu(endpoint: CmEndpoint): void {
    const { localId, remoteId } = endpoint;
    this.send(endpoint, CmAttribute.rtu, { localCommId: localId, remoteCommId: remoteId });
  }

  sendDrep(endpoint: CmEndpoint): void {
    const { localId, remoteId } = endpoint;
    this.send(endpoint, CmAttribute.drep, { localCommId: localId, remoteCommId: remoteId });
  }

  sendRej(endpoint: CmEndpoint, what: number, reason: number, privateData: Uint8Array): void {
    this.send(endpoint, CmAttribute.rej, {
      localCommId: endpoint.localId,
      remoteCommId: endpoint.remoteId,
      rejected: CmBits.rejected.set(0, what),
      reason,
      privateData,
    });
  }

  makeEndpoint(
    address: string,
    gid: Uint8Array,
    state: CmEndpoint["cmState"],
    qp: Qp | null,
    transactionId = this.nextId,
  ): CmEndpoint {
    const id = this.nextId;
    this.nextId = (this.nextId % 0xffffffff) + 1;
    const endpoint = new CmEndpoint(this.owner, id, transactionId, address, gid, state, qp);
    endpoint.localPsn = this.prng.below(2 ** 24);
    this.endpoints.set(id, endpoint);
    return endpoint;
  }

  /** Sends again what is overdue; how many answers are waited for. */
  checkDeadlines(sink: TimeoutSink): number {
    let waiting = 0;
    const now = this.clock.nowNs();
    for (const endpoint of this.endpoints.values()) {
      const { exchange } = endpoint;
      if (exchange === null) continue;
      waiting++;
      if (now < exchange.deadlineNs) continue;
      if (exchange.retriesLeft === 0) {
        sink.timedOut(endpoint);
        continue;
      }
      exchange.retriesLeft--;
      exchange.deadlineNs = now + exchange.timeoutNs;
      this.send(endpoint, exchange.attribute, exchange.fields);
    }
    return waiting;
  }

  /** One poll found nothing to do while an answer is waited for. */
  idle(): void {
    this.idlePolls++;
    if (this.idlePolls % IDLE_POLLS === 0) this.moveTime();
  }

  busy(): void {
    this.idlePolls = 0;
  }

  private moveTime(): void {
    if (this.moving) return;
    const now = this.clock.nowNs();
    let step = Number.POSITIVE_INFINITY;
    for (const { exchange } of this.endpoints.values()) {
      if (exchange === null) continue;
      step = Math.min(
        step,
        Math.max(exchange.deadlineNs - now, 1),
        exchange.timeoutNs / TIME_PARTS,
      );
    }
    if (!Number.isFinite(step)) return;
    this.moving = true;
    const moved = (): void => {
      this.moving = false;
    };
    this.clock.sleep(Math.ceil(step)).then(moved, moved);
  }
}
