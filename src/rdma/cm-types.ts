/**
 * The connection manager as its users see it: listen, connect, accept, reject, disconnect, each
 * with private data, after IBA Volume 1 chapter 12 and Annex A11 (RDMA IP CM service).
 *
 * Invariant: nothing here waits on real time. Promises settle, and handlers are called, from inside
 * `RdmaDevice.poll`; timeouts run on the machine's clock.
 */

import type { Inspectable } from "../core/index.ts";
import type { Qp, VerbsDevice } from "./verbs.ts";

/**
 * What a consumer may attach to a message, in bytes (IBA tables 106 to 113, less Annex A11's 36).
 */
export const CmPrivateBytes = {
  request: 56,
  reply: 196,
  reject: 148,
} as const;

export interface ConnectOptions {
  /** In state INIT (or RESET); comes back ready to send. */
  readonly qp: Qp;
  /** Peer's address on the wire: `10.0.0.2`. */
  readonly address: string;
  readonly port: number;
  /** At most {@link CmPrivateBytes}.request bytes. */
  readonly privateData?: Uint8Array;
  /** RDMA READs this side wants outstanding. Default: what the device can. */
  readonly initiatorDepth?: number;
  /** RDMA READs this side answers at a time. Default: what the device can. */
  readonly responderResources?: number;
  /** Transport retries of both sides, 0 to 7. Default 7. */
  readonly retryCount?: number;
  /** RNR retries that the peer is asked to make, 0 to 7 (7: for ever). Default 7. */
  readonly rnrRetryCount?: number;
  /** How long to wait for an answer before the request is sent again. Default 4.096 us * 2^18. */
  readonly timeoutNs?: number;
  /** How often it is sent again. Default 15. */
  readonly retries?: number;
}

export interface AcceptOptions {
  /** At most {@link CmPrivateBytes}.reply bytes. */
  readonly privateData?: Uint8Array;
  /** RDMA READs this side will have outstanding. Default: the peer's responder resources. */
  readonly initiatorDepth?: number;
  readonly responderResources?: number;
  /** RNR retries that the peer is asked to make. Default 7. */
  readonly rnrRetryCount?: number;
}

/** A peer asks for a connection. Answer it once, now or later. */
export interface ConnectionRequest {
  readonly remoteAddress: string;
  readonly remotePort: number;
  /** The port it asked for. */
  readonly port: number;
  readonly privateData: Uint8Array;
  /** RDMA READs the peer wants outstanding. */
  readonly initiatorDepth: number;
  /** RDMA READs the peer answers at a time. */
  readonly responderResources: number;
  /**
   * Connects `qp` (INIT or RESET). Post RECVs before: the peer may send at once. Settles when the
   * peer has confirmed, or throws `cm-timeout` and leaves the queue pair in error.
   */
  accept(qp: Qp, options?: AcceptOptions): Promise<Connection>;
  /** `privateData`: at most {@link CmPrivateBytes}.reject bytes. `reason`: default 28, consumer. */
  reject(privateData?: Uint8Array, reason?: number): void;
}

export interface Connection extends Inspectable {
  readonly qp: Qp;
  readonly remoteAddress: string;
  /** What the peer attached to its request or reply. */
  readonly privateData: Uint8Array;
  /** READs outstanding from this side as agreed. */
  readonly initiatorDepth: number;
  readonly state: "establishing" | "established" | "disconnecting" | "disconnected";
  /** Called once when the connection ends, whoever ended it. Null: poll `state`. */
  onDisconnect: ((connection: Connection) => void) | null;
  /**
   * Ends the connection: the queue pair goes to error, its work is flushed, the peer is told.
   * Settles when the peer has answered or did not in time. Idempotent.
   */
  disconnect(): Promise<void>;
}

export interface Listener extends Inspectable {
  readonly port: number;
  close(): void;
}

export interface ConnectionManager extends Inspectable {
  /** Throws `cm-port-busy` when the port has a listener. */
  listen(port: number, handler: (request: ConnectionRequest) => void): Listener;
  /**
   * Throws `cm-rejected` (`details.reason`, `details.privateData`) or `cm-timeout`; the queue pair
   * is then as it was, in INIT.
   */
  connect(options: ConnectOptions): Promise<Connection>;
}

/** An RDMA device with its connection manager: what `attach` gives. */
export interface RdmaDevice extends VerbsDevice {
  readonly cm: ConnectionManager;
}
