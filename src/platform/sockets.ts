/**
 * TCP: byte streams with back-pressure in both directions, listening, connecting. The real one is
 * the host's (`realNetwork`); memory-network.ts has one for tests.
 *
 * Back-pressure: a writer stops when `write` says false and goes on at `onDrain`, so the stream
 * holds at most what it was given meanwhile; a reader that has enough pauses, and then the peer
 * fills the kernel's buffers and stops.
 *
 * Errors of a stream that is up (reset, timeout) end it: `onEnd` is told why, once.
 * With TLS (tls.ts) a stream is the same, and knows the identity of the key that opened it.
 * Leaves out: UDP, Unix sockets.
 */
import {
  connect,
  createServer,
  type NetConnectOpts,
  type OnReadOpts,
  type Server,
  type Socket,
} from "node:net";
import { PeerlaneError } from "../core/index.ts";
import { secureClient, type TlsClient, TlsGate, type TlsServer } from "./tls.ts";

/** Told what happens on a stream. Called from the event loop, or from inside `poll` in tests. */
export interface StreamEvents {
  /**
   * Bytes arrived. Those of a stream from {@link Network.connect} are lent until the call returns:
   * who needs them longer copies them. All others are the receiver's to keep; nobody writes into
   * them any more.
   */
  onData(bytes: Uint8Array): void;
  /** What was written is out: after `write` said false. */
  onDrain(): void;
  /** The stream is over, in both directions. */
  onEnd(reason: string): void;
}

/** What `onEnd` says when the peer closed its side, and nothing went wrong. */
export const CLOSED_BY_PEER = "closed by the peer";

export interface ByteStream {
  /** The other end, for people: `10.0.0.2:51324`. */
  readonly peer: string;
  /** Address of this end, without a port: which of its own the peer reached. */
  readonly localAddress: string;
  /** Its port; 0 where it has none. */
  readonly localPort: number;
  /** TLS: the PSK identity that the client opened it with; null: no TLS. */
  readonly tlsIdentity: string | null;
  /** Bytes that were written and are not in the kernel yet. */
  readonly pendingBytes: number;
  /** Says who is told; once, before anything else. */
  start(events: StreamEvents): void;
  /**
   * Sends bytes, which must not change until `written` is called, or the stream has ended. False:
   * wait for `onDrain` before the next.
   */
  write(bytes: Uint8Array, written?: () => void): boolean;
  /** No `onData` until {@link resume}. What is under way already may still come. */
  pause(): void;
  resume(): void;
  /** Sends what was written, then closes; torn down when the peer takes too long about it. */
  end(): void;
  /** Closes now; what was written may be lost. */
  destroy(): void;
}

/** `address` may be a name; port 0 lets the system choose when listening. */
export interface StreamAddress {
  readonly address: string;
  readonly port: number;
}

export interface StreamListener {
  /** Where it listens: the port that was chosen, for port 0. */
  readonly at: StreamAddress;
  /** Takes no new connections; those that are there stay. */
  close(): Promise<void>;
}

export interface Network {
  /** Throws `listen-failed` (port taken, no such address, no permission). */
  listen(
    at: StreamAddress,
    onStream: (stream: ByteStream) => void,
    tls?: TlsServer,
  ): Promise<StreamListener>;
  /**
   * The stream reads into one buffer, again and again: its `onData` lends. (Accepted sockets
   * cannot: Node's public interface gives them no buffer, and allocates one for each read.) Throws
   * `connect-failed`, `tls-failed`.
   */
  connect(to: StreamAddress, tls?: TlsClient): Promise<ByteStream>;
}

/** How long a peer may take to close its side after ours, in milliseconds. */
const END_GRACE_MS = 2000;
/** Connections that wait to be accepted. */
const BACKLOG = 128;

/**
 * Bytes that a connecting socket reads at once. Larger saves calls; smaller stays in a core's cache
 * until the receiver has copied it.
 */
const READ_BYTES = 64 * 1024;

/** The buffer that a socket reads into; hands what arrives to whom the stream tells. */
class Lender {
  readonly onread: OnReadOpts;
  #events: StreamEvents | null = null;
  /** What arrived before anybody listened: the socket is then not read until somebody does. */
  #early: Uint8Array | null = null;

  constructor() {
    const buffer = new Uint8Array(READ_BYTES);
    this.onread = { buffer, callback: (length) => this.#take(buffer.subarray(0, length)) };
  }

  #take(bytes: Uint8Array): boolean {
    if (this.#events === null) this.#early = bytes.slice();
    else this.#events.onData(bytes);
    return this.#events !== null;
  }

  start(events: StreamEvents): void {
    this.#events = events;
    if (this.#early !== null) events.onData(this.#early);
    this.#early = null;
  }
}

/** A socket as a stream; `name` is what it is called where the peer has no address. */
export class RealStream implements ByteStream {
  readonly peer: string;
  readonly localAddress: string;
  readonly localPort: number;
  readonly tlsIdentity: string | null;
  readonly #socket: Socket;
  /** Not null: the socket reads into this one's buffer, and says nothing of data itself. */
  readonly #lender: Lender | null;
  #reason: string | null = null;

  constructor(
    socket: Socket,
    tlsIdentity: string | null,
    name?: string,
    lender: Lender | null = null,
  ) {
    this.#socket = socket;
    this.#lender = lender;
    this.tlsIdentity = tlsIdentity;
    this.peer = name ?? formatAddress(socket.remoteAddress ?? "?", socket.remotePort ?? 0);
    // A socket for both families shows an IPv4 address as ::ffff:10.0.0.1.
    this.localAddress = (socket.localAddress ?? "").replace(/^::ffff:(?=\d+\.)/i, "");
    this.localPort = socket.localPort ?? 0;
    // Requests are whole when they are written: waiting for more to send only costs time.
    socket.setNoDelay(true);
    // A connection may be reset before anybody listens: that is no crash.
    socket.on("error", (error) => {
      this.#reason ??= error.message;
    });
  }

  get pendingBytes(): number {
    return this.#socket.writableLength;
  }

  start(events: StreamEvents): void {
    const socket = this.#socket;
    if (this.#lender === null) socket.on("data", (bytes) => events.onData(bytes as Uint8Array));
    else this.#lender.start(events);
    socket.on("drain", () => events.onDrain());
    socket.on("end", () => {
      this.#reason ??= CLOSED_BY_PEER;
    });
    socket.on("close", () => events.onEnd(this.#reason ?? "closed"));
    // A gate (tls.ts) may have looked at the first bytes and paused; a lender stops at the first.
    if (socket.isPaused() || this.#lender !== null) socket.resume();
    if (socket.destroyed) events.onEnd(this.#reason ?? "closed");
  }

  write(bytes: Uint8Array, written?: () => void): boolean {
    if (this.#socket.writable) return this.#socket.write(bytes, written);
    return false;
  }

  pause(): void {
    this.#socket.pause();
  }

  resume(): void {
    this.#socket.resume();
  }

  end(): void {
    const socket = this.#socket;
    if (socket.destroyed) return;
    socket.end();
    // Nobody reads any more: bytes that still come must not keep the close away.
    socket.resume();
    const timer = setTimeout(() => socket.destroy(), END_GRACE_MS);
    socket.once("close", () => clearTimeout(timer));
  }

  destroy(): void {
    this.#socket.destroy();
  }
}

/** A server takes no new connections. Its callback would wait for those that are there. */
export function closeServer(server: Server): Promise<void> {
  server.close();
  return Promise.resolve();
}

/** Lets a server listen at a TCP address. Throws `listen-failed`. */
export function listenOn(
  server: Server,
  { address, port }: StreamAddress,
): Promise<StreamListener> {
  return new Promise((resolve, reject) => {
    // Stays: later it hears of connections that could not be accepted (no descriptors left). The
    // peer sees those closed; the listener goes on.
    server.on("error", (error) => {
      const what = `cannot listen on ${formatAddress(address, port)}`;
      reject(socketFailure("listen-failed", what, error));
    });
    server.listen({ host: address, port, backlog: BACKLOG }, () => {
      const bound = server.address();
      const chosen = bound !== null && typeof bound === "object" ? bound.port : port;
      resolve({ at: { address, port: chosen }, close: () => closeServer(server) });
    });
  });
}

/** A socket that is connected; rejects with the system's error. */
export function dial(to: NetConnectOpts): Promise<Socket> {
  return new Promise((resolve, reject) => {
    const socket = connect(to);
    socket.once("error", reject);
    socket.once("connect", () => {
      socket.off("error", reject);
      resolve(socket);
    });
  });
}

/** `[::1]:4420` or `127.0.0.1:4420`. */
export function formatAddress(address: string, port: number): string {
  return address.includes(":") ? `[${address}]:${port}` : `${address}:${port}`;
}

/**
 * Reads what {@link formatAddress} writes, and an address alone, which then has `defaultPort`. Null
 * when it is neither, or the port is not 1 to 65535.
 */
export function tryParseAddress(text: string, defaultPort: number): StreamAddress | null {
  const match = /^(?:\[([0-9a-fA-F:.]+)\]|([^:[\]]+))(?::(\d{1,5}))?$/.exec(text);
  const port = match?.[3] === undefined ? defaultPort : Number(match[3]);
  const address = match?.[1] ?? match?.[2];
  return address !== undefined && port >= 1 && port <= 0xffff ? { address, port } : null;
}

/** A system's refusal as an error with a remedy. */
export function socketFailure(code: string, what: string, error: Error): PeerlaneError {
  const errno = (error as NodeJS.ErrnoException).code ?? "unknown";
  return new PeerlaneError(code, `${what}: ${error.message}`, {
    remedy: REMEDIES[errno] ?? "check the address, the port and the firewall",
    details: { errno },
    cause: error,
  });
}

const REMEDIES: Readonly<Record<string, string>> = {
  EADDRINUSE: "another program has this port: stop it or choose another port",
  EADDRNOTAVAIL: "this machine has no such address: listen on one of its own, or on 0.0.0.0",
  EACCES: "ports below 1024 need a privilege: choose a higher one",
  ECONNREFUSED: "nothing listens there: start the target, or check address and port",
};

export const realNetwork: Network = {
  listen(at, onStream, tls) {
    const accept = (socket: Socket, identity: string | null): void => {
      onStream(new RealStream(socket, identity));
    };
    const gate = tls === undefined ? null : new TlsGate(tls, accept);
    const server = createServer((socket) => {
      if (gate === null) accept(socket, null);
      else gate.take(socket);
    });
    return listenOn(server, at);
  },

  connect({ address, port }, tls) {
    const name = formatAddress(address, port);
    const lender = new Lender();
    const to = { host: address, port, onread: lender.onread };
    const refused = (error: Error): PeerlaneError =>
      socketFailure("connect-failed", `cannot reach ${name}`, error);
    if (tls !== undefined) {
      return secureClient(to, tls, name, refused).then(
        (socket) => new RealStream(socket, tls.identity, undefined, lender),
      );
    }
    return dial(to).then(
      (socket) => new RealStream(socket, null, undefined, lender),
      (error) => Promise.reject(refused(error)),
    );
  },
};
