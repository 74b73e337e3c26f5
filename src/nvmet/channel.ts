/**
 * The seam between the target and its transports: a connection that moves data for requests and
 * carries responses. The queue above it knows no transport, the channel below it knows no command.
 */

import type { BackingMachine, HostRegion } from "../backing/interface.ts";
import type { DmaDevice } from "../dma/index.ts";
import type { IoMemory } from "../memory/index.ts";
import type { TargetRequest } from "./request.hot.ts";

/**
 * A transport's connection, as its queue uses it. When the memory of a request has no address for
 * the transport's device, `addressLost` of the queue is called in place of what else would follow.
 */
export interface Channel {
  /** Moves the request's data from the host; `TargetQueue.dataArrived` follows. */
  fetch(request: TargetRequest): void;
  /**
   * Sends data, if there is any to send, and the response; `TargetQueue.responded` follows. A
   * request that is `reading` has its data in a store, and `TargetQueue.storeRead` comes before.
   */
  respond(request: TargetRequest): void;
  /**
   * Ends the connection; answers that are not out yet are lost. What was begun still comes back, by
   * `dataArrived` and `responded`, from inside `poll`. Idempotent.
   */
  close(reason: string): void;
  /** The queue has drained after `close`: nothing uses the channel's buffers any more. */
  release(): void;
  /** Receives and completes what is ready. Returns how many things it did. */
  poll(): number;
  /** The transport's own handshake has not come yet. Absent: it has none here. */
  readonly awaitsHandshake?: boolean;
  /**
   * Ends the connection when its host has not done its part for too long; called a few times a
   * second, with a time that runs only while somebody looks. Absent: the transport knows by itself.
   */
  checkPeer?(nowNs: number, patience: PeerPatience): void;
  /** Makes visible what was queued since the last kick. */
  kick(): void;
}

/** How long a host may take, in nanoseconds. */
export interface PeerPatience {
  /** Without moving a byte of what it owes. */
  readonly stallNs: number;
  /** For all data of one command, in or out. */
  readonly transferNs: number;
}

/** Memory that the initiator shares with the target (loop): finds it by its key. */
export interface DirectMemory {
  find(key: number): IoMemory | null;
}

/** Where a queue came from, as its transport tells. */
export interface QueueOrigin {
  /** The port that it connected to. */
  readonly portId: number;
  /** The device that moves its data; null when no device does (loop, TCP). */
  readonly nic: DmaDevice | null;
  /**
   * TCP: the CPU moves the data, between its sockets and buffers in this machine's memory. Absent
   * where a device does, or nobody (loop).
   */
  readonly cpu?: BackingMachine;
  /** The receive ring, when capsules may carry data: mapped for disks that take it from there. */
  readonly capsules: HostRegion | null;
  /** Data bytes that a capsule of an I/O queue may carry. */
  readonly inCapsuleBytes: number;
  /** Entries that this connection has room for; Connect must not ask for more. */
  readonly depthMax: number;
  /** Entries of the largest I/O queue on this transport (CAP.MQES). */
  readonly ioDepthMax: number;
  /** Queue identifier that the transport was told when the connection was made; -1: it was not. */
  readonly qid: number;
  /** For people: `10.0.0.2`. */
  readonly peer: string;
  /** TCP: the address that the host reached, for ports that listen on all of theirs. */
  readonly localAddress?: string;
  /** TLS: the names that the connection's key is for; Connect must give the same. */
  readonly secure?: { readonly hostNqn: string; readonly subsystemNqn: string };
}

/** What moves a queue's data between the network and memory; null: nothing does (loop). */
export const moverOf = ({ nic, cpu }: QueueOrigin): DmaDevice | BackingMachine | null =>
  nic ?? cpu ?? null;
