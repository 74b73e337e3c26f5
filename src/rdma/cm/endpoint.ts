/**
 * One connection as its manager sees it: ids, addresses, queue pair, state, the message that is
 * sent again until it is answered. The state machine is in manager.ts.
 */

import { assert, type Tree } from "../../core/index.ts";
import { CM_ATTRIBUTE_NAMES, type CmAttribute, type CmFields } from "../../spec/rdma/index.ts";
import type { Connection } from "../cm-types.ts";
import type { Qp } from "../verbs.ts";

/** IBA 12.9.6 "Connection state", those that are used. */
export type CmState =
  | "req-sent"
  | "rep-received"
  | "req-received"
  | "rep-sent"
  | "established"
  | "dreq-sent"
  | "disconnected";

/** A message under way. */
export interface Exchange {
  readonly attribute: CmAttribute;
  readonly fields: CmFields;
  deadlineNs: number;
  retriesLeft: number;
  readonly timeoutNs: number;
}

/** What the manager does for an endpoint. */
export interface EndpointOwner {
  disconnect(endpoint: CmEndpoint): Promise<void>;
}

/** The halves of a promise that somebody waits on. */
export interface Waiter<T> {
  resolve(value: T): void;
  reject(error: unknown): void;
}

const PUBLIC_STATES: Readonly<Record<CmState, Connection["state"]>> = {
  "req-sent": "establishing",
  "rep-received": "establishing",
  "req-received": "establishing",
  "rep-sent": "establishing",
  established: "established",
  "dreq-sent": "disconnecting",
  disconnected: "disconnected",
};

export class CmEndpoint implements Connection {
  readonly localId: number;
  readonly transactionId: number;
  readonly remoteAddress: string;
  readonly remoteGid: Uint8Array;
  remoteId = 0;
  remoteQpn = 0;
  cmState: CmState;
  /** Null until a queue pair is given: on the passive side with accept. */
  queuePair: Qp | null;
  privateData: Uint8Array = new Uint8Array(0);
  initiatorDepth = 0;
  localPsn = 0;
  exchange: Exchange | null = null;
  /** Waits for the connection to be established. */
  opening: Waiter<Connection> | null = null;
  /** Waits for it to have ended. */
  closing: Waiter<void> | null = null;
  closed: Promise<void> | null = null;
  onDisconnect: ((connection: Connection) => void) | null = null;
  private readonly owner: EndpointOwner;

  constructor(
    owner: EndpointOwner,
    localId: number,
    transactionId: number,
    remoteAddress: string,
    remoteGid: Uint8Array,
    state: CmState,
    queuePair: Qp | null,
  ) {
    this.owner = owner;
    this.localId = localId;
    this.transactionId = transactionId;
    this.remoteAddress = remoteAddress;
    this.remoteGid = remoteGid;
    this.cmState = state;
    this.queuePair = queuePair;
  }

  get qp(): Qp {
    assert(this.queuePair !== null, "a connection has a queue pair once accepted");
    return this.queuePair;
  }

  get state(): Connection["state"] {
    return PUBLIC_STATES[this.cmState];
  }

  disconnect(): Promise<void> {
    return this.owner.disconnect(this);
  }

  inspect(): Tree {
    const { exchange } = this;
    return {
      localId: this.localId,
      remoteId: this.remoteId,
      remoteAddress: this.remoteAddress,
      state: this.cmState,
      qp: this.queuePair?.number ?? null,
      remoteQpn: this.remoteQpn,
      waitsForAnswerTo: exchange === null ? null : (CM_ATTRIBUTE_NAMES[exchange.attribute] ?? null),
      retriesLeft: exchange?.retriesLeft ?? null,
    };
  }
}
