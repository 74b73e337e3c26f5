/**
 * TLS 1.3 with pre-shared keys, over the sockets of sockets.ts: what NVMe/TCP calls a secure
 * channel. No certificates: who has the key is the peer.
 *
 * One cipher suite, TLS_AES_128_GCM_SHA256: Node's callbacks for PSKs imply SHA-256, and its
 * handshake fails when another hash is chosen.
 *
 * A port may take TLS alone, or both: then the first byte of a connection tells (a TLS record
 * begins with 16h, an ICReq with 00h).
 *
 * Leaves out: TLS 1.2, certificates, session tickets of our own making: OpenSSL sends them when
 * they are not turned off in its configuration (bin/openssl.cnf), and in-kernel TLS of Linux hosts
 * takes no such record.
 */
import type { OnReadOpts, Socket } from "node:net";
import {
  createServer,
  type TLSSocket,
  type Server as TlsListener,
  connect as tlsConnect,
} from "node:tls";
import { PeerlaneError, TLS_HANDSHAKES_MAX } from "../core/index.ts";

/** What a listener asks of a connection. */
export interface TlsServer {
  /** False: connections without TLS are taken, too. */
  readonly required: boolean;
  /** The key for an identity that the peer offers; null: none, and the handshake fails. */
  keyFor(identity: string): Uint8Array | null;
  /** Milliseconds from the connection to the end of the handshake. Default 10 s. */
  readonly handshakeTimeoutMs?: number;
  /** A connection that came to nothing. */
  refused(peer: string, reason: string): void;
}

/** What a connection is opened with. */
export interface TlsClient {
  readonly identity: string;
  readonly key: Uint8Array;
}

/** Milliseconds from the connection to the end of the handshake. */
const HANDSHAKE_TIMEOUT_MS = 10_000;
const TLS_HANDSHAKE_RECORD = 0x16;

const SUITE = {
  ciphers: "TLS_AES_128_GCM_SHA256",
  minVersion: "TLSv1.3",
  maxVersion: "TLSv1.3",
} as const;

/** Takes accepted sockets through the handshake. */
export class TlsGate {
  readonly #options: TlsServer;
  readonly #server: TlsListener;
  readonly #identities = new WeakMap<Socket, string>();
  readonly #accept: (socket: Socket, identity: string | null) => void;
  /** Peers that are not through yet. */
  readonly #waiting = new Set<string>();

  constructor(options: TlsServer, accept: (socket: Socket, identity: string | null) => void) {
    this.#options = options;
    this.#accept = accept;
    this.#server = createServer({
      ...SUITE,
      handshakeTimeout: options.handshakeTimeoutMs ?? HANDSHAKE_TIMEOUT_MS,
      pskCallback: (socket, identity) => {
        const key = options.keyFor(identity);
        if (key !== null) this.#identities.set(socket, identity);
        return key;
      },
    });
    this.#server.on("secureConnection", (socket) => this.#secured(socket));
    this.#server.on("tlsClientError", (error, socket) => {
      this.#options.refused(peerOf(socket), `TLS handshake: ${error.message}`);
      socket.destroy();
    });
  }

  /** A new connection. */
  take(socket: Socket): void {
    if (this.#waiting.size >= TLS_HANDSHAKES_MAX) {
      this.#options.refused(peerOf(socket), `${TLS_HANDSHAKES_MAX} handshakes are under way`);
      socket.destroy();
      return;
    }
    const peer = peerOf(socket);
    this.#waiting.add(peer);
    const ms = this.#options.handshakeTimeoutMs ?? HANDSHAKE_TIMEOUT_MS;
    const timer = setTimeout(() => {
      this.#options.refused(peer, `it said nothing for ${ms} ms`);
      socket.destroy();
    }, ms);
    // It may be reset before anybody else listens: that is no crash.
    socket.on("error", () => undefined);
    socket.once("close", () => {
      clearTimeout(timer);
      this.#waiting.delete(peer);
    });
    socket.once("data", (first: Uint8Array) => {
      clearTimeout(timer);
      // Nothing is read until the next reader is there.
      socket.pause();
      socket.unshift(first);
      this.#route(socket, first[0] === TLS_HANDSHAKE_RECORD);
    });
  }

  #route(socket: Socket, isTls: boolean): void {
    if (isTls) {
      this.#server.emit("connection", socket);
      return;
    }
    this.#waiting.delete(peerOf(socket));
    if (this.#options.required) {
      this.#options.refused(peerOf(socket), "no TLS, which this port requires");
      socket.destroy();
    } else this.#accept(socket, null);
  }

  #secured(socket: TLSSocket): void {
    this.#waiting.delete(peerOf(socket));
    const identity = this.#identities.get(socket);
    // A session that was resumed did not show its key.
    if (identity === undefined) socket.destroy();
    else this.#accept(socket, identity);
  }
}

const peerOf = (socket: Socket): string => `${socket.remoteAddress}:${socket.remotePort}`;

/** Connects, and secures it. Throws `tls-failed`, or what `refused` makes of the other failures. */
export function secureClient(
  to: { readonly host: string; readonly port: number; readonly onread: OnReadOpts },
  { identity, key }: TlsClient,
  name: string,
  refused: (error: Error) => PeerlaneError,
): Promise<Socket> {
  return new Promise((resolve, reject) => {
    const secured = tlsConnect({
      ...SUITE,
      ...to,
      pskCallback: () => ({ identity, psk: key }),
      // There is no certificate that could name it: the key is the proof.
      checkServerIdentity: () => undefined,
    });
    let timer: NodeJS.Timeout | undefined;
    const settle = (): void => {
      clearTimeout(timer);
      secured.off("error", onError);
      secured.off("close", onClose);
    };
    const fail = (error: PeerlaneError): void => {
      settle();
      // Whatever it still says: it has failed already.
      secured.on("error", () => undefined);
      secured.destroy();
      reject(error);
    };
    const insecure = (why: string): PeerlaneError =>
      new PeerlaneError("tls-failed", `no TLS with ${name}: ${why}`, {
        place: name,
        remedy: "compare host NQN, subsystem NQN and TLS PSK on both sides; is TLS on there?",
        details: { identity },
      });
    const onError = (error: Error): void =>
      fail(timer === undefined ? refused(error) : insecure(error.message));
    const onClose = (): void => fail(insecure("the target closed the connection"));
    secured.once("connect", () => {
      timer = setTimeout(() => fail(insecure("timed out")), HANDSHAKE_TIMEOUT_MS);
      secured.setNoDelay(true);
    });
    secured.once("error", onError);
    secured.once("close", onClose);
    secured.once("secureConnect", () => {
      settle();
      resolve(secured);
    });
  });
}
